"""Fixtures of the tests that share one Spark session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka_broker import KafkaBroker
from lakehouse import sizes
from lakehouse.tables import Warehouse
from pyspark.sql import DataFrame, SparkSession
from topics_of_a_test import Events


@pytest.fixture
def unpinned_reads(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The tables of which frames have been made that follow the newest version; empty it to start anew."""
    read, tables = Warehouse.read, set[str]()

    def noting(self: Warehouse, table: str, *arguments: Any, **how: Any) -> DataFrame:
        if how.get("version") is None:
            tables.add(table)
        return read(self, table, *arguments, **how)

    monkeypatch.setattr(Warehouse, "read", noting)
    return tables


@pytest.fixture
def every_table_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has upserts do with each table as with a large one."""
    monkeypatch.setattr(sizes, "MERGED_WHOLE_BYTES", 0)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    with KafkaBroker(tmp_path_factory.mktemp("kafka")) as running:
        yield running


@pytest.fixture
def events(spark: SparkSession, tmp_path: Path, broker: KafkaBroker) -> Events:
    return Events(spark, tmp_path, broker)
