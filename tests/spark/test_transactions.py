"""Of one transaction, rows are appended once, whoever else is at it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from lakehouse.report import RunReport
from lakehouse.runtime.journal import Transaction
from lakehouse.tables import Warehouse
from pyspark.sql import SparkSession

TABLE, DDL = "silver.things", "id INT, value INT"


def test_of_two_appends_of_one_transaction_at_once_the_later_is_none(spark: SparkSession, tmp_path: Path) -> None:
    silver = Warehouse(lambda: spark, str(tmp_path), RunReport("merge", "test", datetime(2026, 1, 1, tzinfo=UTC)))
    once = Transaction("merge", 3)
    silver.append_always(silver.frame([(1, 0)], DDL), TABLE)
    begun, go_on = tmp_path / "begun", tmp_path / "go_on"

    def wait_for(file: Path) -> None:
        end = time.monotonic() + 120
        while not file.exists() and time.monotonic() < end:
            time.sleep(0.05)

    def when_told(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """In a process of Spark's: the commit has looked for its transaction by then."""
        begun.touch()
        wait_for(go_on)
        yield from batches

    slow = silver.frame([(2, 1)], DDL).mapInArrow(when_told, DDL)
    with ThreadPoolExecutor(1) as another:
        late = another.submit(silver.append, slow, TABLE, once)
        wait_for(begun)
        assert silver.append(silver.frame([(2, 2), (3, 2)], DDL), TABLE, once) == 2
        go_on.touch()
        assert late.result(120) is None
    assert sorted(map(tuple, silver.read(TABLE).collect())) == [(1, 0), (2, 2), (3, 2)]
