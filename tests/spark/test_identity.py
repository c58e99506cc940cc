"""What tells one warehouse from another."""

from __future__ import annotations

import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path

from deltalake import DeltaTable
from lakehouse.report import RunReport
from lakehouse.runtime.progress import End, Progress, Work
from lakehouse.tables import Warehouse
from lakehouse_airflow.lake import Lake
from pyspark.sql import SparkSession

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def warehouse_at(spark: SparkSession, location: str) -> Warehouse:
    return Warehouse(lambda: spark, location, RunReport("ingest", "r", NOW))


def plan(warehouse: Warehouse) -> None:
    progress = Progress(warehouse, "ingest", "r", NOW)
    progress.finish(*progress.plan([Work("shop_products")]), End())
    progress.commit()


def test_a_warehouse_has_an_identity_from_its_first_write_on_and_keeps_it(spark: SparkSession, tmp_path: Path) -> None:
    one, other = (warehouse_at(spark, str(tmp_path / name)) for name in ("one", "other"))
    assert one.identity() is None
    assert Lake(str(tmp_path / "one")).identity() is None
    plan(one)
    plan(other)
    identity = one.identity()
    assert identity == str(uuid.UUID(identity))
    assert other.identity() not in (None, identity)
    # Without Spark, too.
    assert DeltaTable(str(tmp_path / "one/ops/progress")).metadata().id == identity
    assert Lake(str(tmp_path / "one")).identity() == identity
    plan(one)
    one.create("ops.progress", "stage STRING, more STRING")
    one.optimize("ops.progress")
    one.delete("ops.progress", "state = 'planned'")
    assert one.identity() == identity
    shutil.move(tmp_path / "one", tmp_path / "moved")
    assert warehouse_at(spark, str(tmp_path / "moved")).identity() == identity


def test_a_warehouse_in_a_catalog_has_one(spark: SparkSession, tmp_path: Path) -> None:
    spark.sql(f"CREATE DATABASE ops LOCATION '{tmp_path}'")
    try:
        warehouse = warehouse_at(spark, "catalog:spark_catalog")
        assert warehouse.identity() is None
        plan(warehouse)
        assert warehouse.identity() == DeltaTable(str(tmp_path / "progress")).metadata().id
    finally:
        spark.sql("DROP DATABASE ops CASCADE")
