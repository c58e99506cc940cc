"""The generated shop, from landing files to gold: every law, every dirty row, every gold column."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import duckdb
import oracle
import pytest
from lakehouse.instants import instant
from lakehouse.maintenance.needs import need
from lakehouse.maintenance.stage import inspect
from lakehouse.maintenance.stage import tables as maintained
from lakehouse.report import RunReport
from lakehouse.synthetic.shop import Scale, numbered
from lakehouse.synthetic.stage import generate
from lakehouse_airflow.health import Health
from lakehouse_airflow.lake import Lake
from lakehouse_airflow.suite import Contracts
from pipeline import GOLD, SILVER, Pipeline, rows_of
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

DAYS, AS_OF = 12, "2026-03-13"
KEYS = {
    "customers": "CustomerID",
    "products": "ProductID",
    "transactions": "TransactionID",
    "interactions": "InteractionID",
}
IDS = {
    "customers": "customer_id",
    "products": "product_id",
    "transactions": "transaction_id",
    "interactions": "interaction_id",
}


@pytest.fixture(scope="module")
def landing(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("landing")
    report = RunReport("generate", "g", instant("2026-03-01"))
    generate(spark, str(folder), Scale(8_000, DAYS, instant("2026-03-01").date()), seed=7, level=2.0, report=report)
    return folder


@pytest.fixture(scope="module")
def shop(spark: SparkSession, landing: Path, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Everything in one load."""
    pipeline = Pipeline(spark, tmp_path_factory.mktemp("shop"))
    shutil.copytree(landing / "shop", pipeline.landing / "shop")
    pipeline.reports = pipeline.batch("shop", AS_OF)
    return pipeline


@pytest.fixture(scope="module")
def labels(landing: Path) -> list[dict]:  # type: ignore[type-arg]
    return [
        json.loads(line)
        for file in sorted((landing / "shop/_dirt").iterdir())
        for line in file.read_text().splitlines()
    ]


def test_the_same_seed_gives_the_same_files_and_another_seed_others(
    spark: SparkSession, landing: Path, tmp_path: Path
) -> None:
    def content(folder: Path) -> dict[str, bytes]:
        return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}

    scale = Scale(8_000, DAYS, instant("2026-03-01").date())
    for name, seed in (("again", 7), ("other", 8)):
        generate(spark, str(tmp_path / name), scale, seed, 2.0, RunReport("generate", "g", instant("2026-03-01")))
    assert content(tmp_path / "again") == content(landing)
    assert content(tmp_path / "other") != content(landing)


def test_ids_stay_apart_beyond_ten_million(spark: SparkSession) -> None:
    numbers = [0, 42, 9_999_999, 10_000_000, 10_000_001, 100_000_010]
    ids = spark.createDataFrame([(n,) for n in numbers], "n BIGINT").select(numbered("S", F.col("n"))).collect()
    assert [r[0] for r in ids] == ["S0000000", "S0000042", "S9999999", "S10000000", "S10000001", "S100000010"]


def test_the_shop_has_every_kind_of_dirt(labels: list[dict]) -> None:  # type: ignore[type-arg]
    kinds = {(label["entity"], label["kind"]) for label in labels}
    assert kinds >= {
        *((e, "duplicate") for e in SILVER),
        *((e, "late") for e in SILVER),
        *((e, "invalid") for e in SILVER),
        ("transactions", "missing"),
        ("transactions", "orphan"),
        ("transactions", "out_of_order"),
        ("interactions", "orphan"),
        ("interactions", "corrupt"),
    }


def test_every_row_that_must_be_rejected_is_in_quarantine_with_the_right_reason_and_no_other_row_is(
    shop: Pipeline, labels: list[dict]
) -> None:  # type: ignore[type-arg]
    for entity in SILVER:
        expected = Counter(
            (label["key"] if label["kind"] != "corrupt" else "", tuple(label["rules"]))
            for label in labels
            if label["entity"] == entity
            and label["kind"] in ("invalid", "missing", "corrupt")
            and not {*label["rules"]} & {"default:amount"}
        )
        kept = shop.table(f"quarantine.{entity}").select("raw", F.col("reasons.rule").alias("rules")).collect()
        found = Counter((_key(entity, r["raw"]), tuple(r["rules"])) for r in kept)
        assert found == expected


def _key(entity: str, raw: str) -> str:
    try:
        return json.loads(raw)[KEYS[entity]]
    except json.JSONDecodeError:
        return ""


def test_every_row_that_must_be_marked_is_and_no_other_row_is(shop: Pipeline, labels: list[dict]) -> None:  # type: ignore[type-arg]
    marks = {"default:amount", "completed_amount_not_zero", "orphan:customer_id", "orphan:product_id"}
    for entity in SILVER:
        expected = Counter(
            (label["key"], tuple(sorted(label["rules"])))
            for label in labels
            if label["entity"] == entity and {*label["rules"]} & marks
        )
        staged = shop.table(f"staged.{entity}").withColumn(
            "marks", F.array_sort(F.array_except("_warnings", F.array(F.lit("customer_known"))))
        )
        marked = staged.where(F.size("marks") > 0).select(IDS[entity], "marks").collect()
        assert Counter((r[0], tuple(r["marks"])) for r in marked) == expected


def test_guests_and_only_guests_are_marked_as_such(shop: Pipeline) -> None:
    guests = shop.table("staged.interactions").where(F.array_contains("_warnings", "customer_known"))
    assert guests.count() > 0
    assert guests.where("customer_id IS NOT NULL").count() == 0
    assert shop.table("staged.interactions").where("customer_id IS NULL").count() == guests.count()


def test_duplicates_late_and_out_of_order_rows_are_told_by_the_merge(shop: Pipeline, labels: list[dict]) -> None:  # type: ignore[type-arg]
    for entity in SILVER:
        rows = shop.table(f"staged.{entity}")
        repeated = shop.reports["merge"].tables[f"silver.{entity}"]["repeated_keys"]
        assert repeated == rows.count() - rows.select(IDS[entity]).distinct().count()
    interactions = shop.reports["merge"].tables["silver.interactions"]["repeated_keys"]
    assert interactions == sum(
        1 for label in labels if (label["entity"], label["kind"]) == ("interactions", "duplicate")
    )


def test_conservation_from_files_to_silver(shop: Pipeline, landing: Path) -> None:
    lines = {
        entity: sum(
            len(f.read_text().splitlines()) - (0 if entity == "interactions" else 1)
            for f in (landing / "shop" / entity).rglob("part-*")
        )
        for entity in SILVER
    }
    for entity in SILVER:
        assert shop.table(f"bronze.shop_{entity}").count() == lines[entity]
        staged, kept = shop.table(f"staged.{entity}").count(), shop.table(f"quarantine.{entity}").count()
        assert staged + kept == lines[entity]
        assert (
            shop.table(f"silver.{entity}").count()
            == shop.table(f"staged.{entity}").select(IDS[entity]).distinct().count()
        )


def test_silver_is_what_duckdb_makes_of_the_files(shop: Pipeline, landing: Path, labels: list[dict]) -> None:  # type: ignore[type-arg]
    """The latest valid version of each key, straight from the files, with the labelled rows left out."""
    db = duckdb.connect()
    db.sql("SET TimeZone = 'UTC'")
    db.sql(f"CREATE TABLE raw AS SELECT * FROM read_csv('{landing}/shop/transactions/*/*.csv', all_varchar = true)")
    want = db.sql("""
        SELECT TransactionID, OrderID, CustomerID, ProductID, CAST(Date AS TIMESTAMPTZ)::VARCHAR, coalesce(TRY_CAST(Amount AS DECIMAL(18,2)), 0)::VARCHAR,
               PaymentMethod, TransactionStatus
        FROM raw
        WHERE TRY_CAST(Date AS TIMESTAMPTZ) IS NOT NULL AND ProductID IS NOT NULL AND TransactionStatus IN ('Completed', 'Cancelled')
          AND (Amount IS NULL OR (TRY_CAST(Amount AS DECIMAL(18,2)) IS NOT NULL AND Amount NOT LIKE '%,%'))
          AND NOT (TransactionStatus = 'Completed' AND coalesce(TRY_CAST(Amount AS DECIMAL(18,2)), 0) < 0)
        QUALIFY row_number() OVER (PARTITION BY TransactionID ORDER BY UpdatedAt DESC) = 1""").fetchall()
    silver = (
        oracle.connect(shop.warehouse_path)
        .sql("""
        SELECT transaction_id, order_id, customer_id, product_id, date::VARCHAR, amount::VARCHAR, payment_method, transaction_status
        FROM silver_transactions""")
        .fetchall()
    )
    assert len(silver) > 500
    assert sorted(silver, key=str) == sorted(want, key=str)


def test_every_gold_column_is_what_duckdb_computes(shop: Pipeline) -> None:
    assert oracle.differences(oracle.connect(shop.warehouse_path), AS_OF) == {}


def test_gold_at_an_earlier_instant_uses_nothing_that_happened_later(shop: Pipeline) -> None:
    shop.run("featurize", as_of="2026-03-06")
    assert oracle.differences(oracle.connect(shop.warehouse_path), "2026-03-06") == {}
    # Cancelled after the instant: still a purchase then.
    later = shop.table("silver.transactions_history").where(
        "transaction_status = 'Cancelled' AND NOT _first AND valid_from >= '2026-03-06'"
    )
    assert later.where("date < '2026-03-06'").count() > 0


def test_the_pages_tell_of_each_table_what_optimize_finds(shop: Pipeline) -> None:
    lake, contracts = Lake(str(shop.warehouse_path)), Contracts(shop.contracts)
    health, warehouse = Health(lake, contracts), shop.context("optimize").warehouse
    worth = {}
    for name in lake.names():
        told = health.need(lake.table(name))
        if told is None:
            continue
        found, contract = inspect(warehouse, name), contracts.of(name)
        # Optimize counts rows only where some are marked as gone.
        assert replace(told.layout, rows=found.rows) == found, name
        judged = need(found, contract.z_order_by if contract else ())
        assert (told.reason, told.optimize) == (judged.reason, judged.optimize), name
        worth[name] = told.optimize
    assert set(worth) == {t for t in maintained(shop.context("optimize")) if t in lake.names()}
    assert set(worth.values()) == {True, False}, "nothing is told apart"


def test_a_rerun_with_nothing_new_writes_no_table_version(shop: Pipeline) -> None:
    shop.run("optimize")
    before = shop.versions()
    for stage in ("ingest", "validate", "merge", "optimize"):
        assert not shop.run(stage).wrote, stage
    assert not shop.run("featurize", as_of=AS_OF).wrote
    assert shop.versions() == before


def test_optimize_compacts_and_changes_no_row(shop: Pipeline) -> None:
    tables = [*(f"silver.{e}" for e in SILVER), *(f"gold.{g}" for g in GOLD)]
    before = rows_of(shop, tables)
    assert all(before[t] for t in tables)
    table = shop.path("silver.customers")
    shop.table("silver.customers").repartition(30).write.format("delta").mode("overwrite").save(str(table))
    report = shop.run("optimize", only=["silver.customers"])
    assert report.tables["silver.customers"]["files_removed"] >= 20
    assert report.tables["silver.customers"]["files_added"] == 1
    assert rows_of(shop, tables) == before


def test_shuffled_repeated_and_split_deliveries_give_the_same_silver_and_gold(
    spark: SparkSession, landing: Path, shop: Pipeline, tmp_path: Path
) -> None:
    """Files in random order over three runs, some delivered again under another name, features in between."""
    other = Pipeline(spark, tmp_path)
    chance = random.Random(3)
    files = sorted(f.relative_to(landing) for e in SILVER for f in (landing / "shop" / e).rglob("part-*"))
    chance.shuffle(files)
    third = len(files) // 3
    for n, group in enumerate((files[:third], files[third : 2 * third], files[2 * third :])):
        for file in group:
            target = other.landing / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(landing / file, target)
            if chance.random() < 0.2:
                shutil.copy2(landing / file, target.with_stem(f"{target.stem}-again"))
        other.batch("shop", AS_OF if n == 1 else None)
    other.run("featurize", as_of=AS_OF)
    tables = [*(f"silver.{e}" for e in SILVER), *(f"gold.{g}" for g in GOLD)]
    shop.run("featurize", as_of=AS_OF)
    mine, theirs = rows_of(shop, tables, as_of=AS_OF), rows_of(other, tables, as_of=AS_OF)
    for table in tables:
        assert mine[table]
        assert theirs[table] == mine[table], table
