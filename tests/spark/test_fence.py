"""Who has lost the lease changes no table, by whatever way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lakehouse.errors import TryAgain
from lakehouse.report import RunReport
from lakehouse.runtime.journal import Transaction
from lakehouse.tables import Warehouse
from pyspark.sql import DataFrame, SparkSession

WAYS: dict[str, Callable[[Warehouse, DataFrame], object]] = {
    "create": lambda w, rows: w.create("silver.new", "a INT"),
    "add columns": lambda w, rows: w.create("silver.things", "a INT, b INT, c INT, _batch_id BIGINT"),
    "append": lambda w, rows: w.append(rows, "silver.things", Transaction("t", 2)),
    "append always": lambda w, rows: w.append_always(rows, "silver.things"),
    "replace": lambda w, rows: w.replace(rows, "silver.things", "a = 1"),
    "overwrite": lambda w, rows: w.overwrite(rows, "silver.things"),
    "merge": lambda w, rows: w.merge(rows, "silver.things", ["a"], "WHEN MATCHED THEN UPDATE SET t.b = s.b"),
    "update": lambda w, rows: w.update(rows, "silver.things", ["a"]),
    "optimize": lambda w, rows: w.optimize("silver.things", ["a"]),
    "vacuum": lambda w, rows: w.vacuum("silver.things", 168),
    "delete batch": lambda w, rows: w.delete_batch("silver.things", 1),
    "delete": lambda w, rows: w.delete("silver.things", "a = 1"),
}


@pytest.fixture(scope="module")
def folder(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("warehouse")
    warehouse = Warehouse(lambda: spark, str(folder), RunReport("t", "r", datetime.now(UTC)))
    warehouse.append(rows(warehouse), "silver.things", Transaction("t", 1))
    return folder


def rows(warehouse: Warehouse) -> DataFrame:
    return warehouse.frame([(1, 2, 1), (2, 3, 1)], "a INT, b INT, _batch_id BIGINT")


@pytest.mark.parametrize("way", WAYS)
def test_a_change_without_the_lease_is_refused(spark: SparkSession, folder: Path, way: str) -> None:
    def lost() -> None:
        raise TryAgain("another run has taken over")

    warehouse = Warehouse(lambda: spark, str(folder), RunReport("t", "r", datetime.now(UTC)), lost)
    before = sorted(folder.rglob("*"))
    with pytest.raises(TryAgain, match="another run has taken over"):
        WAYS[way](warehouse, rows(warehouse))
    assert sorted(folder.rglob("*")) == before
