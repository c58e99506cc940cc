"""Versions merged into silver in any batches, killed and done again, against a plain Python model."""

from __future__ import annotations

import random
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import version_model as model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lakehouse import sizes
from lakehouse.merging.stage import NewVersions, merge
from lakehouse.report import RunReport
from lakehouse.runtime.journal import Transaction
from lakehouse.tables import Warehouse
from pyspark.sql import DataFrame, SparkSession
from version_model import CUSTOMERS, Version, frame


def warehouse(spark: SparkSession, folder: Path) -> Warehouse:
    return Warehouse(lambda: spark, str(folder), RunReport("merge", "test", datetime(2026, 1, 1, tzinfo=UTC)))


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=model.some_versions, seed=st.integers())
def test_merged_in_any_batches_any_versions_give_what_the_model_gives(
    spark: SparkSession, tmp_path: Path, unpinned_reads: set[str], rows: list[Version], seed: int
) -> None:
    shuffled = random.Random(seed)
    deliveries = rows + shuffled.sample(rows, len(rows) // 3)
    shuffled.shuffle(deliveries)
    cuts = sorted(shuffled.choices(range(1, len(deliveries) + 1), k=2))
    shutil.rmtree(tmp_path / "silver", ignore_errors=True)
    silver = warehouse(spark, tmp_path)
    seen: set[Version] = set()
    for number, batch in enumerate((deliveries[: cuts[0]], deliveries[cuts[0] : cuts[1]], deliveries[cuts[1] :])):
        if not batch:
            continue
        keys = [v.key for v in batch]
        before = {row[0] for row in model.current(seen)}
        seen |= set(batch)
        after = {row[0] for row in model.current(seen)}
        how = {
            "is_small": shuffled.random() < 0.7,
            "transaction": shuffled.choice([None, Transaction("merge", number)]),
        }
        unpinned_reads.clear()
        done = merge(silver, CUSTOMERS, NewVersions(frame(spark, batch), (min(keys), max(keys)), **how))
        assert not (how["is_small"] and unpinned_reads), "what is persisted of them is computed again after each write"
        assert (done["inserted"], done["deleted"]) == (len(after - before), len(before - after))
    assert model.rows_of_history(silver.read("silver.customers_history")) == model.history(set(rows))
    assert model.rows_of_current(silver.read("silver.customers")) == model.current(set(rows))


@pytest.mark.parametrize("nth", [1, 2], ids=["history", "current state"])
@pytest.mark.parametrize(
    ("commit", "small"), [("append", 0), ("merge", sizes.MERGED_WHOLE_BYTES)], ids=["large", "small"]
)
def test_a_merge_killed_before_either_last_commit_and_done_again_is_never_killed(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int, commit: str, small: int
) -> None:
    """Of a large table, the last commit appends what is new; of a small one, it is the only one."""
    monkeypatch.setattr(sizes, "MERGED_WHOLE_BYTES", small)

    def version(key: str, at: int, name: str) -> Version:
        return Version(at, False, at, "file", ord(key), key, name, 1, at)

    first = [version("a", 1, "Ann"), version("b", 1, "Bob")]
    second = [version("a", 3, "Anna"), version("c", 2, "Cleo"), version("c", 3, "Clio")]
    silver, seen = warehouse(spark, tmp_path), {*first, *second}
    merge(
        silver,
        CUSTOMERS,
        NewVersions(frame(spark, first), ("a", "b"), is_small=True, transaction=Transaction("merge", 1)),
    )
    again = NewVersions(frame(spark, second), ("a", "c"), is_small=True, transaction=Transaction("merge", 2))
    write, calls = getattr(silver, commit), []

    def killed(rows: DataFrame, table: str, *rest: Any) -> Any:
        calls.append(table)
        if len(calls) == nth:
            raise KeyboardInterrupt
        return write(rows, table, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(silver, commit, killed)
        with pytest.raises(KeyboardInterrupt):
            merge(silver, CUSTOMERS, again)
    assert calls == ["silver.customers_history", "silver.customers"][:nth]
    whole = model.rows_of_history(silver.read("silver.customers_history")) == model.history(seen)
    assert whole == (nth == 2)
    merge(silver, CUSTOMERS, again)
    assert model.rows_of_history(silver.read("silver.customers_history")) == model.history(seen)
    assert model.rows_of_current(silver.read("silver.customers")) == model.current(seen)
