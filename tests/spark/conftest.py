"""Fixtures of the tests that share one Spark session."""

from __future__ import annotations

from typing import Any

import pytest
from lakehouse.merging import upserts
from lakehouse.tables import Warehouse
from pyspark.sql import DataFrame


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
    monkeypatch.setattr(upserts, "SMALL_BYTES", 0)
