"""What is mended in quarantine and replayed ends where clean data would have ended, silver and gold."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lakehouse.instants import instant
from lakehouse.report import RunReport
from lakehouse.synthetic.shop import Scale
from lakehouse.synthetic.stage import generate
from pipeline import GOLD, SILVER, Pipeline, edit_columns, rows_of, strict_contracts
from pyspark.sql import SparkSession
from support import ROOT, real_data

AS_OF = "2026-03-07"
KEYS = {
    "customers": "CustomerID",
    "products": "ProductID",
    "transactions": "TransactionID",
    "interactions": "InteractionID",
}


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


def test_googles_invalid_rows_mended_equal_clean_data(spark: SparkSession, tmp_path: Path) -> None:
    """The contract learns another kind of interaction; a product's stock comes as a patch."""
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

    edit_columns(dirty.contracts / "interactions.odcs.yaml", learn)
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
    for pipeline in results:
        pipeline.run("featurize", as_of="2030-01-01")
    gold = [f"gold.{g}" for g in GOLD]
    assert rows_of(dirty, gold) == rows_of(clean, gold)
    assert dirty.table("gold.customer_features").count() > 0
    assert rows_of(dirty, ["silver.products"]) == rows_of(clean, ["silver.products"])
    # An event's id is made from its content, and the two contents differ by the mended word.
    columns = ["customer_id", "interaction_type", "timestamp", "source", "product_id"]
    events = [sorted(map(str, p.table("silver.interactions").select(*columns).collect())) for p in (dirty, clean)]
    assert events[0] == events[1]
