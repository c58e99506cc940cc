"""The quarantine is a loop: what is mended goes back, and ends where clean data would have ended."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from lakehouse.cli import instant
from lakehouse.errors import DataRefused, InternalError, UsageError
from lakehouse.report import RunReport
from lakehouse.synthetic.shop import Scale
from lakehouse.synthetic.stage import generate
from lakehouse.tables import Warehouse
from lakehouse.validation import publishing
from pipeline import GOLD, SILVER, Pipeline, rows_of
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from support import ROOT, real_data

AS_OF = "2026-03-07"
KEYS = {
    "customers": "CustomerID",
    "products": "ProductID",
    "transactions": "TransactionID",
    "interactions": "InteractionID",
}


def strict_contracts(folder: Path) -> Path:
    """The shipped contracts, but orphans are held and a missing amount is rejected: every spoilt value is kept out."""
    shutil.copytree(ROOT / "contracts", folder / "contracts")

    def tighten(properties: list[dict[str, Any]]) -> None:
        for p in properties:
            custom = [c for c in p.get("customProperties", []) if c["property"] != "defaultWhenNull"]
            if p.get("relationships"):
                custom.append({"property": "onOrphan", "value": "hold"})
            p["customProperties"] = custom

    for entity in ("transactions", "interactions"):
        change(folder / f"contracts/{entity}.odcs.yaml", tighten)
    return folder / "contracts"


def change(file: Path, edit: Callable[[list[dict[str, Any]]], None]) -> None:
    model = yaml.safe_load(file.read_text())
    edit(model["schema"][0]["properties"])
    file.write_text(yaml.safe_dump(model))


def shop(spark: SparkSession, folder: Path, level: float) -> Pipeline:
    pipeline = Pipeline(spark, folder, contracts=strict_contracts(folder))
    report = RunReport("generate", "g", instant("2026-03-01"))
    scale = Scale(2_500, 6, instant("2026-03-01").date())
    generate(spark, str(pipeline.landing), scale, seed=11, level=level, report=report)
    pipeline.batch("shop", AS_OF)
    return pipeline


@pytest.fixture(scope="module")
def clean(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return shop(spark, tmp_path_factory.mktemp("clean"), 0.0)


@pytest.fixture(scope="module")
def dirty(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return shop(spark, tmp_path_factory.mktemp("dirty"), 3.0)


def received(landing: Path, entity: str) -> Iterator[dict[str, str]]:
    for file in sorted((landing / "shop" / entity).rglob("part-*")):
        if entity == "interactions":
            yield from (json.loads(line) for line in file.read_text().splitlines())
        else:
            with file.open(newline="") as stream:
                yield from csv.DictReader(stream)


def write_patch(pipeline: Pipeline, clean: Pipeline, entity: str, file: Path) -> int:
    """The values that differ between each quarantined row and the same row of the clean files; returns how many rows do."""
    key = KEYS[entity]
    sound = {(row[key], row.get("UpdatedAt")): row for row in received(clean.landing, entity)}
    kept = pipeline.table(f"quarantine.{entity}").where("status = 'open'").select("id", "raw").collect()
    mended = set()
    with file.open("w", newline="") as stream:
        patch = csv.writer(stream)
        patch.writerow(["id", "column", "value"])
        for r in kept:
            try:
                raw = json.loads(r["raw"])
                name = raw[key]
            except json.JSONDecodeError:
                # A line cut short: what is left of it tells which it is, and every column must be named.
                raw, name = {}, re.search(f'"{key}":"([^"]+)"', r["raw"])[1]  # type: ignore[index]
            for column, value in sound[name, raw.get("UpdatedAt")].items():
                text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
                if (raw.get(column) or "") != text:
                    patch.writerow([r["id"], column, text])
                    mended.add(r["id"])
    return len(mended)


def test_a_dry_run_shows_what_would_pass_and_changes_nothing(dirty: Pipeline) -> None:
    before = dirty.versions()
    report = dirty.run("replay", action="dry-run")
    assert not report.wrote
    assert dirty.versions() == before
    for entity in SILVER:
        figures = report.tables[f"quarantine.{entity}"]
        assert figures["rows_selected"] == dirty.table(f"quarantine.{entity}").count() > 0
        assert figures["rows_that_would_pass"] == 0


def test_corrected_rows_end_where_clean_data_would_have_ended(
    dirty: Pipeline, clean: Pipeline, tmp_path: Path, spark: SparkSession
) -> None:
    tables = [*(f"silver.{e}" for e in SILVER), *(f"gold.{g}" for g in GOLD)]
    expected = rows_of(clean, tables, as_of=AS_OF)
    assert rows_of(dirty, tables, as_of=AS_OF) != expected
    for entity in SILVER:
        patch = tmp_path / f"{entity}.csv"
        rows = write_patch(dirty, clean, entity, patch)
        arguments = {"only": [entity], "patch": str(patch), "by": "ada", "reason": "values from the supplier"}
        dry = dirty.run("replay", action="dry-run", **arguments).tables[f"quarantine.{entity}"]
        assert dry["rows_that_would_pass"] == dry["rows_selected"] == rows
        done = dirty.run("replay", **arguments).tables
        assert done[f"quarantine.{entity}"]["rows_replayed"] == rows
        assert dirty.table(f"quarantine.{entity}").where("status = 'open'").count() == 0
    dirty.run("merge")
    dirty.run("featurize", as_of=AS_OF)
    found = rows_of(dirty, tables, as_of=AS_OF)
    for table in tables:
        assert found[table] == expected[table], table


def test_a_replayed_row_carries_its_history(dirty: Pipeline) -> None:
    kept = dirty.table("quarantine.transactions").where("array_contains(reasons.rule, 'cast:date')")
    rows = kept.select("status", "history").collect()
    assert rows
    for r in rows:
        assert r["status"] == "replayed"
        entry = r["history"][0]
        assert (entry["action"], entry["by"], entry["note"]) == ("replay", "ada", "values from the supplier")
        assert list(entry["corrections"]) == ["Date"]
    marked = dirty.table("staged.transactions").where("array_contains(_warnings, 'replayed')").count()
    assert marked == dirty.table("quarantine.transactions").count()


def test_every_raw_row_is_in_exactly_one_place(dirty: Pipeline) -> None:
    for entity in SILVER:
        bronze = dirty.table(f"bronze.shop_{entity}").select("_source.file", "_source.block", "_source.row")
        staged = dirty.table(f"staged.{entity}").select("_sequence.file", "_sequence.block", "_sequence.row")
        waiting = dirty.table(f"quarantine.{entity}").where("status <> 'replayed'").select("_source.*")
        placed = staged.union(waiting.select("file", "block", "row"))
        assert sorted(placed.collect()) == sorted(bronze.collect())


def test_replaying_again_changes_nothing(dirty: Pipeline) -> None:
    before = dirty.versions()
    assert not dirty.run("replay").wrote
    assert not dirty.run("merge").wrote
    assert dirty.versions() == before


@pytest.fixture(scope="module")
def validated(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with one file of products, of which two are bad, validated; tests work on copies of it."""
    folder = tmp_path_factory.mktemp("products")
    shutil.copytree(ROOT / "contracts", folder / "contracts")
    products(Pipeline(spark, folder))
    return folder


def products(pipeline: Pipeline) -> None:
    file = pipeline.landing / "shop/products/a.csv"
    file.parent.mkdir(parents=True)
    header = "ProductID,Category,Price,StockAvailability,UpdatedAt,op"
    file.write_text("\n".join([header, "P1,Toys,1,5,,", "P2,Toys,-1,5,,", "P3,Toys,2,many,,"]) + "\n")
    for stage in ("ingest", "validate"):
        pipeline.run(stage, only=["shop_products"])


@pytest.fixture
def small(spark: SparkSession, validated: Path, tmp_path: Path) -> Pipeline:
    folder = tmp_path / "project"
    shutil.copytree(validated, folder)
    return Pipeline(spark, folder, contracts=folder / "contracts")


def statuses(pipeline: Pipeline, entity: str = "products") -> list[tuple[str, str]]:
    kept = pipeline.table(f"quarantine.{entity}").select(F.get_json_object("raw", "$.ProductID").alias("key"), "status")
    return sorted((r["key"], r["status"]) for r in kept.collect())


def staged_keys(pipeline: Pipeline) -> list[str]:
    return sorted(r[0] for r in pipeline.table("staged.products").select("product_id").collect())


def test_after_a_rule_changed_only_the_rows_of_that_rule_go_back(small: Pipeline) -> None:
    pipeline = small

    def loosen(properties: list[dict[str, Any]]) -> None:
        next(p for p in properties if p["name"] == "price").pop("logicalTypeOptions")

    change(pipeline.contracts / "products.odcs.yaml", loosen)
    report = pipeline.run("replay", only=["products"], rule="range:price")
    assert report.tables["quarantine.products"]["rows_replayed"] == 1
    assert statuses(pipeline) == [("P2", "replayed"), ("P3", "open")]
    assert staged_keys(pipeline) == ["P1", "P2"]


def test_discarding_needs_a_name_and_a_reason_and_is_final(small: Pipeline) -> None:
    pipeline = small
    with pytest.raises(UsageError, match="--by and --reason"):
        pipeline.run("replay", action="discard")
    kept = pipeline.table("quarantine.products").where("raw LIKE '%P2%'")
    (id_,) = [r[0] for r in kept.select("id").collect()]
    report = pipeline.run("replay", action="discard", ids=id_, by="ada", reason="a test order")
    assert report.tables["quarantine.products"]["rows_discarded"] == 1
    assert statuses(pipeline) == [("P2", "discarded"), ("P3", "open")]
    assert [r["selected"] for r in kept.select(F.size("history").alias("selected")).collect()] == [1]
    assert pipeline.run("replay").tables["quarantine.products"]["rows_selected"] == 1


def test_selection_by_time(small: Pipeline) -> None:
    past = small.run("replay", action="dry-run", until="2020-01-01")
    future = small.run("replay", action="dry-run", since="2020-01-01")
    assert "rows_selected" not in past.tables.get("quarantine.products", {}) or (
        past.tables["quarantine.products"]["rows_selected"] == 0
    )
    assert future.tables["quarantine.products"]["rows_selected"] == 2


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ("id,column\nx,Price\n", "columns id, column"),
        ("id,column,value\nx,Price,1\n", "no open row 'x'"),
        ("id,column,value\nID,Preis,1\n", "no received column 'Preis'"),
        ("id,column,value\nID,Price,1\nID,Price,2\n", "two values for Price"),
        ("id,column,value\nID,Price,12,50\n", "not three fields"),
    ],
)
def test_a_wrong_patch_is_refused(small: Pipeline, tmp_path: Path, patch: str, message: str) -> None:
    (id_,) = [r[0] for r in small.table("quarantine.products").where("raw LIKE '%P2%'").select("id").collect()]
    file = tmp_path / "patch.csv"
    file.write_text(patch.replace("ID,", f"{id_},"))
    with pytest.raises(UsageError, match=re.escape(message)):
        small.run("replay", only=["products"], patch=str(file))


def test_what_an_interrupted_validate_has_written_is_not_decided_upon(small: Pipeline) -> None:
    """Its batch is going to be undone: a decision would be forgotten, or its rows be in two places."""
    progress = small.table("ops.progress")
    progress.where("NOT (stage = 'validate' AND state = 'done')").write.format("delta").mode("overwrite").save(
        str(small.path("ops.progress"))
    )
    report = small.run("replay", action="discard", by="ada", reason="too early")
    assert report.tables["quarantine.products"]["rows_discarded"] == 0
    small.run("validate", only=["shop_products"])
    assert statuses(small) == [("P2", "open"), ("P3", "open")]
    assert staged_keys(small) == ["P1"]


@pytest.mark.parametrize("moment", ["quarantine", "finish"])
def test_a_replay_that_is_interrupted_ends_as_if_it_had_not_been(
    small: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    pipeline = small
    file = tmp_path / "patch.csv"
    ids = {json.loads(r["raw"])["ProductID"]: r["id"] for r in pipeline.table("quarantine.products").collect()}
    file.write_text(f"id,column,value\n{ids['P2']},Price,1\n{ids['P3']},StockAvailability,7\n")

    class Killed(BaseException):
        pass

    update, append_always = Warehouse.update, Warehouse.append_always

    def stop_after(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(self: Warehouse, rows: Any, table: str, *rest: Any) -> Any:
            if name == "finish" and table == "ops.progress":
                raise Killed
            result = function(self, rows, table, *rest)
            if table.startswith(name):
                raise Killed
            return result

        return wrapped

    with monkeypatch.context() as m:
        m.setattr(Warehouse, "update", stop_after(moment, update) if moment == "quarantine" else update)
        m.setattr(Warehouse, "append_always", stop_after("finish", append_always))
        with pytest.raises(Killed):
            pipeline.run("replay", only=["products"], patch=str(file))
    pipeline.run("replay", only=["products"], patch=str(file))
    assert statuses(pipeline) == [("P2", "replayed"), ("P3", "replayed")]
    assert staged_keys(pipeline) == ["P1", "P2", "P3"]
    assert {r[0] for r in pipeline.table("quarantine.products").select(F.size("history")).collect()} == {1}
    pipeline.run("merge")
    assert pipeline.table("silver.products").count() == 3


def test_a_refused_batch_leaves_nothing_behind_and_can_be_given_up(spark: SparkSession, tmp_path: Path) -> None:
    pipeline = Pipeline(spark, tmp_path)
    file = pipeline.landing / "shop/products/a.csv"
    file.parent.mkdir(parents=True)
    file.write_text("ProductID,Category,Price\n" + "".join(f"P{n},Toys,x\n" for n in range(60)) + "Q,Toys,1\n" * 59)
    pipeline.run("ingest", only=["shop_products"])
    with pytest.raises(DataRefused, match="60 of 119 products rows are rejected, more than 50%"):
        pipeline.run("validate", only=["shop_products"])
    assert pipeline.table("staged.products").count() == 0
    assert not pipeline.path("quarantine.products").exists()
    with pytest.raises(UsageError, match="--discard without --by and --reason"):
        pipeline.run("validate", discard="1")
    pipeline.run("validate", discard="1", by="ada", reason="a test upload")
    (end,) = pipeline.table("ops.progress").where("state = 'discarded'").select("detail").collect()
    assert end["detail"] == "discarded by ada: a test upload"
    assert not pipeline.run("validate").wrote
    with pytest.raises(UsageError, match="no refused batch"):
        pipeline.run("validate", release="1")


def test_held_orphans_are_released_when_their_parent_arrives(spark: SparkSession, tmp_path: Path) -> None:
    contracts = strict_contracts(tmp_path)
    pipeline = Pipeline(spark, tmp_path, contracts=contracts)

    def deliver(path: str, *lines: str) -> None:
        file = pipeline.landing / "shop" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines) + "\n")

    header = "TransactionID,OrderID,CustomerID,ProductID,Date,Amount,PaymentMethod,TransactionStatus,UpdatedAt,op"
    for folder in ("customers", "interactions"):
        (pipeline.landing / "shop" / folder).mkdir(parents=True)
    deliver("products/a.csv", "ProductID,Category,Price", "P1,Toys,1")
    deliver(
        "transactions/a.csv", header,
        "T1,,C1,P1,2026-03-01,1,card,Completed,,", "T2,,,P1,2026-03-01,1,card,Completed,,",
        "T3,,C1,P9,2026-03-01,1,card,Completed,,", "T4,,C1,P1,2026-03-01,x,card,Completed,,",
    )  # fmt: skip
    pipeline.batch("shop")

    def silver() -> list[str]:
        return sorted(r[0] for r in pipeline.table("silver.transactions").select("transaction_id").collect())

    assert silver() == ["T2"]
    deliver("customers/a.csv", "CustomerID,RegistrationDate,CustomerType", "C1,2026-01-01,regular")
    pipeline.batch("shop")
    assert silver() == ["T1", "T2"]
    deliver("products/b.csv", "ProductID,Category,Price", "P9,Toys,1")
    pipeline.batch("shop")
    assert silver() == ["T1", "T2", "T3"]
    entry = pipeline.table("quarantine.transactions").where("raw LIKE '%T1%'").select("status", "history").collect()
    assert [(r["status"], [h["action"] for h in r["history"]]) for r in entry] == [("replayed", ["released"])]
    before = pipeline.versions()
    pipeline.batch("shop")
    assert pipeline.versions() == before


def test_a_run_that_loses_a_row_fails(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    staged_rows = publishing.staged_rows

    def lossy(*args: Any) -> Any:
        return staged_rows(*args).where("product_id <> 'P1'")

    with monkeypatch.context() as m:
        m.setattr(publishing, "staged_rows", lossy)
        with pytest.raises(InternalError, match="3 rows in, but 0 accepted and 2 quarantined"):
            products(Pipeline(spark, tmp_path))


def test_googles_invalid_rows_mended_equal_clean_data(spark: SparkSession, tmp_path: Path) -> None:
    """The contract learns another kind of interaction; a product's stock comes as a patch. Gold follows from silver."""
    data = real_data("google_retail")
    files = [f for f in data.glob("*.json") if f.name.startswith(("products", "user_events"))]
    results = []
    for kind in ("dirty", "clean"):
        folder = tmp_path / kind
        shutil.copytree(ROOT / "contracts", folder / "contracts")
        pipeline = Pipeline(spark, folder, contracts=folder / "contracts")
        (pipeline.landing / "google_retail").mkdir()
        for file in files:
            text = file.read_text()
            if kind == "clean":
                text = text.replace("INVALID_VALUE", "OUT_OF_STOCK").replace(
                    '"eventType":"invalid"', '"eventType":"home-page-view"'
                )
            (pipeline.landing / "google_retail" / file.name).write_text(text)
        results.append(pipeline)
    dirty, clean = results
    for pipeline in results:
        pipeline.batch("google_retail")

    def learn(properties: list[dict[str, Any]]) -> None:
        kind = next(p for p in properties if p["name"] == "interaction_type")
        aliases = next(c for c in kind["customProperties"] if c["property"] == "aliases")
        aliases["value"]["invalid"] = "view"

    change(dirty.contracts / "interactions.odcs.yaml", learn)
    assert dirty.run("replay", action="dry-run", only=["interactions"]).tables["quarantine.interactions"] == {
        "rows_selected": 1,
        "rows_still_rejected": 0,
        "rows_that_would_pass": 1,
    }
    dirty.run("replay", only=["interactions"])
    (id_,) = [r[0] for r in dirty.table("quarantine.products").select("id").collect()]
    patch = tmp_path / "patch.csv"
    patch.write_text(f"id,column,value\n{id_},availability,OUT_OF_STOCK\n")
    dirty.run("replay", only=["products"], patch=str(patch))
    dirty.run("merge")
    assert rows_of(dirty, ["silver.products"]) == rows_of(clean, ["silver.products"])
    # An event's id is made from its content, and the two contents differ by the mended word.
    columns = ["customer_id", "interaction_type", "timestamp", "source", "product_id"]
    events = [sorted(map(str, p.table("silver.interactions").select(*columns).collect())) for p in (dirty, clean)]
    assert events[0] == events[1]
