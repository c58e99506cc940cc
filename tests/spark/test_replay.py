"""The quarantine is a loop: by rule, id and time, with a patch, discarded, held and released, interrupted."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from lakehouse.errors import DataRefused, InternalError, UsageError
from lakehouse.runtime.journal import Journal
from lakehouse.tables import Warehouse
from lakehouse.validation import publishing
from pipeline import Pipeline, edit_columns, strict_contracts
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from support import ROOT


class Killed(BaseException):
    """Stands for a run that is killed here."""


@pytest.fixture(scope="module")
def validated(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with one file of products, of which two are bad, validated; tests work on copies of it."""
    folder = tmp_path_factory.mktemp("products")
    shutil.copytree(ROOT / "contracts", folder / "contracts")
    products(Pipeline(spark, folder))
    return folder


def deliver(pipeline: Pipeline, path: str, *lines: str) -> None:
    file = pipeline.landing / "shop" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")


def products(pipeline: Pipeline) -> None:
    header = "ProductID,Category,Price,StockAvailability,UpdatedAt,op"
    deliver(pipeline, "products/a.csv", header, "P1,Toys,1,5,,", "P2,Toys,-1,5,,", "P3,Toys,2,many,,")
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

    edit_columns(pipeline.contracts / "products.odcs.yaml", loosen)
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
        ("id,column\nx,Price\n", "is no patch Its first line must be id,column,value."),
        ("root:x:0:0:secret\ndaemon\n", "is no patch Its first line must be id,column,value."),
        ("id,column,value\nx,Price,1\n", "no open row 'x'"),
        ("id,column,value\nID,Preis,1\n", "no received column 'Preis'"),
        ("id,column,value\nID,Price,1\nID,Price,2\n", "two values for Price"),
        ("id,column,value\nID,Price,1\nID,Price,12,secret\n", "not three fields in row 2 below the header"),
    ],
)
def test_a_wrong_patch_is_refused(small: Pipeline, tmp_path: Path, patch: str, message: str) -> None:
    (id_,) = [r[0] for r in small.table("quarantine.products").where("raw LIKE '%P2%'").select("id").collect()]
    file = tmp_path / "patch.csv"
    file.write_text(patch.replace("ID,", f"{id_},"))
    with pytest.raises(UsageError, match=re.escape(message)) as told:
        small.run("replay", only=["products"], patch=str(file))
    # What is in a file that is no patch is not shown: it may be any file.
    assert "secret" not in str(told.value)


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


@pytest.mark.parametrize("moment", [pytest.param("quarantine", marks=pytest.mark.long), "finish"])
def test_a_replay_that_is_interrupted_ends_as_if_it_had_not_been(
    small: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    pipeline = small
    file = tmp_path / "patch.csv"
    ids = {json.loads(r["raw"])["ProductID"]: r["id"] for r in pipeline.table("quarantine.products").collect()}
    file.write_text(f"id,column,value\n{ids['P2']},Price,1\n{ids['P3']},StockAvailability,7\n")

    update, append = Warehouse.update, Journal.append

    def updated(self: Warehouse, rows: Any, table: str, *rest: Any) -> Any:
        result = update(self, rows, table, *rest)
        if table.startswith(moment):
            raise Killed
        return result

    def appended(self: Journal[Any], records: Any, once: Any = None) -> Any:
        # A plan is made by a transaction, an end is not.
        if self.table == "ops.progress" and once is None:
            raise Killed
        return append(self, records, once)

    with monkeypatch.context() as m:
        m.setattr(Warehouse, "update", updated)
        m.setattr(Journal, "append", appended)
        with pytest.raises(Killed):
            pipeline.run("replay", only=["products"], patch=str(file))
    pipeline.run("replay", only=["products"], patch=str(file))
    assert statuses(pipeline) == [("P2", "replayed"), ("P3", "replayed")]
    assert staged_keys(pipeline) == ["P1", "P2", "P3"]
    assert {r[0] for r in pipeline.table("quarantine.products").select(F.size("history")).collect()} == {1}
    pipeline.run("merge")
    assert pipeline.table("silver.products").count() == 3


def test_a_refused_batch_leaves_nothing_behind_and_can_be_given_up(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: Any) -> Any:
        raise Killed

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
    with pytest.raises(UsageError, match="both --release and --discard"):
        pipeline.run("validate", release="1", discard="1", by="ada", reason="a test upload")
    # Discarding what a killed run was about to release: the last word counts.
    with monkeypatch.context() as m:
        m.setattr(publishing.Publication, "publish", killed)
        with pytest.raises(Killed):
            pipeline.run("validate", release="1")
    pipeline.run("validate", discard="1", by="ada", reason="a test upload")
    assert pipeline.table("staged.products").count() == 0
    (end,) = pipeline.table("ops.progress").where("state = 'discarded'").select("detail").collect()
    assert json.loads(end["detail"]) == {"discard": {"by": "ada", "reason": "a test upload"}}
    assert not pipeline.run("validate").wrote
    with pytest.raises(UsageError, match="no refused batch"):
        pipeline.run("validate", release="1")


def test_later_batches_go_on_and_the_refused_one_waits_until_it_is_released(
    spark: SparkSession, tmp_path: Path
) -> None:
    def ingest(name: str, *rows: str) -> None:
        deliver(pipeline, f"products/{name}", "ProductID,Category,Price,StockAvailability", *rows)
        pipeline.run("ingest", only=["shop_products"])

    def validate(**arguments: str) -> tuple[int, int, int]:
        facts = pipeline.run("validate", **arguments).tables["staged.products"]
        return facts["rows_in"], facts["rows_accepted"], facts["rows_quarantined"]

    pipeline = Pipeline(spark, tmp_path)
    ingest("bad.csv", *(f"b{n},Toys,x,3" for n in range(60)), *(f"g{n},Toys,1.00,3" for n in range(50)))
    with pytest.raises(DataRefused, match="60 of 110 products rows are rejected"):
        validate()
    ingest("good.csv", "p1,Toys,5.00,3", "p2,Toys,x,3")
    assert validate() == (2, 1, 1)
    with pytest.raises(UsageError, match="--release 7: no refused batch"):
        validate(release="7")
    assert validate(release="1") == (110, 50, 60)
    with pytest.raises(UsageError, match="--release 1: no refused batch"):
        validate(release="1")
    assert pipeline.table("staged.products").count() == 51


def test_held_orphans_are_released_when_their_parent_arrives(spark: SparkSession, tmp_path: Path) -> None:
    contracts = strict_contracts(tmp_path)
    pipeline = Pipeline(spark, tmp_path, contracts=contracts)

    header = "TransactionID,OrderID,CustomerID,ProductID,Date,Amount,PaymentMethod,TransactionStatus,UpdatedAt,op"
    for folder in ("customers", "interactions"):
        (pipeline.landing / "shop" / folder).mkdir(parents=True)
    deliver(pipeline, "products/a.csv", "ProductID,Category,Price", "P1,Toys,1")
    deliver(
        pipeline, "transactions/a.csv", header,
        "T1,,C1,P1,2026-03-01,1,card,Completed,,", "T2,,,P1,2026-03-01,1,card,Completed,,",
        "T3,,C1,P9,2026-03-01,1,card,Completed,,", "T4,,C1,P1,2026-03-01,x,card,Completed,,",
    )  # fmt: skip
    pipeline.batch("shop")

    def silver() -> list[str]:
        return sorted(r[0] for r in pipeline.table("silver.transactions").select("transaction_id").collect())

    assert silver() == ["T2"]
    deliver(pipeline, "customers/a.csv", "CustomerID,RegistrationDate,CustomerType", "C1,2026-01-01,regular")
    pipeline.batch("shop")
    assert silver() == ["T1", "T2"]
    deliver(pipeline, "products/b.csv", "ProductID,Category,Price", "P9,Toys,1")
    pipeline.batch("shop")
    assert silver() == ["T1", "T2", "T3"]
    entry = pipeline.table("quarantine.transactions").where("raw LIKE '%T1%'").select("status", "history").collect()
    assert [(r["status"], [h["action"] for h in r["history"]]) for r in entry] == [("replayed", ["released"])]
    before = pipeline.versions()
    pipeline.batch("shop")
    assert pipeline.versions() == before


def test_a_run_that_loses_a_row_fails(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    staged_rows = publishing.staged_rows

    def lossy(*args: Any, **kwargs: Any) -> Any:
        return staged_rows(*args, **kwargs).where("product_id <> 'P1'")

    with monkeypatch.context() as m:
        m.setattr(publishing, "staged_rows", lossy)
        with pytest.raises(InternalError, match="3 rows in, but 0 accepted and 2 quarantined"):
            products(Pipeline(spark, tmp_path))
