"""A table of silver that tests write by themselves."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from lakehouse.report import RunReport
from lakehouse.tables import Warehouse
from pyspark.sql import SparkSession

TABLE = "silver.things"


def warehouse(spark: SparkSession, folder: Path) -> Warehouse:
    return Warehouse(lambda: spark, str(folder), RunReport("merge", "test", datetime(2026, 1, 1, tzinfo=UTC)))
