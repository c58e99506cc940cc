"""Rows into a table by key: their result, and the commits that they get."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lakehouse import sizes
from lakehouse.errors import InternalError
from lakehouse.merging.upserts import Upsert, upsert
from lakehouse.runtime.journal import Transaction
from lakehouse.sql import literal
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from things import TABLE, warehouse

pytestmark = pytest.mark.usefixtures("every_table_is_large")


weird_keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40) | (
    st.sampled_from(
        [
            "'",
            "${x}",
            "a${env:HOME}",
            "\\u0024",
            "\\",
            "''",
            "\\'",
            "%",
            "`",
            ":least",
            "?",
            " ",
            "é",
            "\U0001f600" * 33,
            "a" * 40,
        ]
    )
)


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    batches=st.lists(st.dictionaries(weird_keys, st.integers(0, 9), min_size=1, max_size=12), min_size=3, max_size=3)
)
@example(
    batches=[{"a${env:HOME}": 1, "${x}": 1, "'": 1}, {"a${env:HOME}": 2, "${x}": 2, "\\u0024": 2}, {"${x}": 3, "'": 3}]
)
@pytest.mark.parametrize(("is_small", "small"), [(True, 0), (True, sizes.MERGED_WHOLE_BYTES), (False, 0)])
def test_with_any_keys_a_range_and_a_list_change_no_result(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_small: bool, small: int,
    batches: list[dict[str, int]],
) -> None:  # fmt: skip
    """A part a batch, so that each known key has rows to update and one to insert."""
    monkeypatch.setattr(sizes, "MERGED_WHOLE_BYTES", small)
    shutil.rmtree(tmp_path / "silver", ignore_errors=True)
    silver, ddl = warehouse(spark, tmp_path), "id STRING, part INT, value INT"
    silver.create(TABLE, ddl)
    expected: dict[tuple[str, int], int] = {}
    for number, batch in enumerate(batches):
        parts = {(key, part): value for key, value in batch.items() for part in range(number + 1)}
        expected |= parts
        rows = silver.frame([(*key, value) for key, value in parts.items()], ddl)
        # Compared as Spark does: by the bytes of UTF-8.
        least, greatest = (f(batch, key=lambda k: k.encode()) for f in (min, max))
        columns, whole = ["id", "part", "value"], ["id"] if is_small else []
        how = Upsert(
            ["id", "part"], columns, "s.value <> t.value", key_range=(least, greatest), is_small=is_small, whole=whole
        )
        upsert(silver, rows, TABLE, how, transaction=Transaction("merge", number))
    # Some rows are marked as gone in their files, which are read by themselves where none is.
    for version in (None, "newest"):
        found = [((id_, part), value) for id_, part, value in map(tuple, silver.read(TABLE, version=version).collect())]
        assert sorted(found) == sorted(expected.items())


@pytest.mark.parametrize(
    ("type_", "keys"),
    [("BIGINT", [-1, 0, 1]), ("DECIMAL(9,2)", [Decimal("-1.10"), Decimal("0.00"), Decimal("2.50")]),
     ("DATE", [date(2026, 1, d) for d in (1, 2, 3)]),
     ("TIMESTAMP", [datetime(2026, 1, 1, 0, 0, 0, m, tzinfo=UTC) for m in (0, 1, 2)]), ("BOOLEAN", [False, True])],
    ids=["bigint", "decimal", "date", "timestamp", "boolean"],
)  # fmt: skip
def test_keys_of_any_type_can_be_listed(spark: SparkSession, tmp_path: Path, type_: str, keys: list[Any]) -> None:
    silver, ddl = warehouse(spark, tmp_path), f"id {type_}, part INT, value INT"
    silver.append_always(silver.frame([(k, 0, 0) for k in keys], ddl), TABLE)
    how = Upsert(["id", "part"], ["id", "part", "value"], "s.value <> t.value", is_small=True, whole=["id"])
    rows = silver.frame([(k, part, 1) for k in keys for part in (0, 1)], ddl)
    done = upsert(silver, rows, TABLE, how, transaction=Transaction("merge", 1))
    assert done == {"inserted": len(keys), "updated": len(keys), "deleted": 0}
    assert "IN (" in DeltaTable(str(tmp_path / "silver" / "things")).history(1)[0]["operationParameters"]["predicate"]


def test_a_value_as_sql_text_is_that_value(spark: SparkSession) -> None:
    values = [None, True, -7, "it's \\ 'n\n", b"\x00'", Decimal("-1.50"), 0.1, float("inf"), date(2026, 2, 28)]
    row = spark.sql("SELECT " + ", ".join(literal(v) for v in values)).first()
    assert row is not None
    assert list(row) == values
    seconds = spark.sql(f"SELECT unix_micros({literal(datetime(2026, 3, 1, 1, 2, 3, 4, tzinfo=UTC))})").first()
    assert seconds == (1772326923000004,)


def test_an_empty_table_gets_its_rows_without_a_merge_and_only_once(spark: SparkSession, tmp_path: Path) -> None:
    silver = warehouse(spark, tmp_path)
    silver.create(TABLE, "id INT, value INT")

    def merge(*rows: tuple[int, int | None, bool]) -> tuple[int, int, int, str | None]:
        """(inserted, updated, deleted, operation), the last one None where no version was written."""
        before = silver.newest_version(TABLE)
        how = Upsert(["id"], ["id", "value"], "NOT (s.value <=> t.value)", "s.gone")
        done = upsert(silver, silver.frame(rows, "id INT, value INT, gone BOOLEAN"), TABLE, how)
        newest = DeltaTable(str(tmp_path / "silver" / "things")).history(1)[0]
        return (*done.values(), newest["operation"] if newest["version"] > before else None)

    assert merge((1, 0, True), (2, 0, True)) == (0, 0, 0, None)
    three = ((1, 0, False), (2, None, False), (3, 0, True))
    assert merge(*three) == (2, 0, 0, "WRITE")
    assert sorted(map(tuple, silver.read(TABLE).collect())) == [(1, 0), (2, None)]
    assert merge(*three) == (0, 0, 0, None)
    assert merge((1, 5, False), (4, 4, False), (2, None, True)) == (1, 1, 1, "MERGE")
    silver.delete(TABLE, "true")
    # As for a writer that has found it empty at the same moment as another one.
    assert merge(*three) == (2, 0, 0, "MERGE")
    assert sorted(map(tuple, silver.read(TABLE).collect())) == [(1, 0), (2, None)]


def test_few_rows_get_the_cheapest_commits_that_do(spark: SparkSession, tmp_path: Path) -> None:
    silver = warehouse(spark, tmp_path)
    silver.append_always(silver.frame([(n, 0) for n in range(4)], "id INT, value INT"), TABLE)

    def operation(commit: dict[str, Any]) -> str:
        may_insert = commit["operationParameters"].get("notMatchedPredicates") not in (None, "[]", [])
        return commit["operation"] + " with insert" * may_insert

    def merge(once: Transaction | None, *rows: tuple[int, int, bool]) -> tuple[tuple[int, ...], list[str]]:
        """(inserted, updated, deleted) and the operations of the versions written."""
        before = silver.newest_version(TABLE)
        how = Upsert(["id"], ["id", "value"], "s.value <> t.value", "s.gone", key_range=(0, 99), is_small=True)
        done = upsert(silver, silver.frame(rows, "id INT, value INT, gone BOOLEAN"), TABLE, how, transaction=once)
        commits = DeltaTable(str(tmp_path / "silver" / "things")).history()
        return tuple(done.values()), [operation(c) for c in reversed(commits) if c["version"] > before]

    same, other = (1, 0, False), (77, 0, True)
    assert merge(None, same, other) == ((0, 0, 0), [])
    assert merge(Transaction("merge", 1), same, other) == ((0, 0, 0), [])
    assert merge(Transaction("merge", 1), same, other, (4, 0, False)) == ((1, 0, 0), ["WRITE"])
    assert merge(Transaction("merge", 2), same, other, (2, 0, True), (3, 5, False)) == ((0, 1, 1), ["MERGE"])
    mixed = other, (1, 6, False), (5, 0, False), (6, 0, False)
    assert merge(Transaction("merge", 2), *mixed) == ((2, 1, 0), ["MERGE", "WRITE"])
    assert merge(None, *mixed) == ((0, 0, 0), [])
    assert merge(None, (1, 7, False), (7, 0, False)) == ((1, 1, 0), ["MERGE with insert"])
    assert sorted(map(tuple, silver.read(TABLE).collect())) == [
        (0, 0), (1, 7), (3, 5), (4, 0), (5, 0), (6, 0), (7, 0),
    ]  # fmt: skip


def test_rows_that_hang_together_get_one_commit_and_only_theirs_are_shuffled(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silver = warehouse(spark, tmp_path)
    ddl, folder = "id STRING, part INT, value INT", tmp_path / "silver" / "things"
    silver.append_always(silver.frame([(f"it's {n}", 0, 0) for n in range(40)], ddl).coalesce(1), TABLE)

    def merge(number: int, *rows: tuple[str, int, int]) -> list[dict[str, Any]]:
        """The versions written."""
        before = silver.newest_version(TABLE)
        how = Upsert(["id", "part"], ["id", "part", "value"], "s.value <> t.value", is_small=True, whole=["id"])
        known = silver.read(TABLE, version="newest").where(F.col("id").isin([r[0] for r in rows]))
        once = Transaction("merge", number)
        upsert(silver, silver.frame(rows, ddl), TABLE, how, transaction=once, before=known)
        return [c for c in reversed(DeltaTable(str(folder)).history()) if c["version"] > before]

    both = merge(1, ("it's 3", 0, 1), ("it's 3", 1, 0), ("it's 8", 1, 0), ("it's 40", 0, 0), ("it's 40", 1, 0))
    assert [c["operation"] for c in both] == ["MERGE", "WRITE"]
    assert both[0]["operationMetrics"]["numTargetRowsInserted"] == "2"
    assert both[1]["operationMetrics"]["numOutputRows"] == "2"
    predicate = both[0]["operationParameters"]["predicate"]
    assert [f"it's {n}" in predicate for n in (3, 8, 4, 40)] == [True, True, False, False]
    monkeypatch.setattr(sizes, "LISTED_KEYS", 1)
    [many] = merge(2, ("it's 3", 2, 5), ("it's 40", 2, 5))
    assert "it's" not in many["operationParameters"]["predicate"]
    [only_new] = merge(3, ("it's 41", 0, 0))
    assert only_new["operation"] == "WRITE"
    found = sorted(r for r in map(tuple, silver.read(TABLE).collect()) if r[1:] != (0, 0))
    assert found == [("it's 3", 0, 1), ("it's 3", 1, 0), ("it's 3", 2, 5), ("it's 40", 1, 0), ("it's 40", 2, 5), ("it's 8", 1, 0)]  # fmt: skip
    assert silver.read(TABLE).count() == 40 + 7


@pytest.mark.parametrize("whole", [[], ["id"]], ids=["each row by itself", "an id in one commit"])
def test_what_another_run_has_appended_is_completed_and_not_set_back(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: list[str]
) -> None:
    silver, ddl = warehouse(spark, tmp_path), "id INT, part INT, value INT"
    silver.append(silver.frame([(1, 0, 0)], ddl), TABLE, Transaction("merge", 3))
    append = silver.append

    def late(rows: DataFrame, table: str, once: Transaction) -> int | None:
        """As for a run that has stood still, while another one appended, and then did its next batch."""
        silver.append_always(silver.frame([(2, 7, 9)], ddl), table)
        return append(rows, table, once)

    monkeypatch.setattr(silver, "append", late)
    how = Upsert(["id", "part"], ["id", "part", "value"], "s.value <> t.value", is_small=True, whole=whole)
    rows = silver.frame([(1, 0, 5), (1, 1, 5), (2, 0, 0), (2, 7, 0), (3, 0, 0)], ddl)
    done = upsert(silver, rows, TABLE, how, transaction=Transaction("merge", 3))
    # If an id's rows get one commit, what the other run has made of it is all there is to be.
    missing = [] if whole else [(2, 0, 0)]
    assert done == {"inserted": 2 + len(missing), "updated": 1, "deleted": 0}
    expected = [(1, 0, 5), (1, 1, 5), *missing, (2, 7, 9), (3, 0, 0)]
    assert sorted(map(tuple, silver.read(TABLE).collect())) == expected


def test_killed_between_its_commits_and_done_again_is_never_killed(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silver = warehouse(spark, tmp_path)
    silver.append_always(silver.frame([(1, 0), (2, 0)], "id INT, value INT"), TABLE)
    how, once = Upsert(["id"], ["id", "value"], "s.value <> t.value", is_small=True), Transaction("merge", 7)
    rows = silver.frame([(2, 1), (3, 1)], "id INT, value INT")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(silver, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            upsert(silver, rows, TABLE, how, transaction=once)
    assert sorted(map(tuple, silver.read(TABLE).collect())) == [(1, 0), (2, 1)]
    assert upsert(silver, rows, TABLE, how, transaction=once) == {"inserted": 1, "updated": 0, "deleted": 0}
    assert sorted(map(tuple, silver.read(TABLE).collect())) == [(1, 0), (2, 1), (3, 1)]


def test_keys_that_are_there_twice_are_named(spark: SparkSession, tmp_path: Path) -> None:
    silver = warehouse(spark, tmp_path)
    silver.append_always(silver.frame([(n, "x", 0) for n in range(9)], "id INT, part STRING, value INT"), TABLE)
    twice = [(n, "x", value) for n in range(7) for value in (1, 2)]
    rows = silver.frame([*twice, (8, "x", 1)], "id INT, part STRING, value INT")
    message = "silver.things: keys that are there more than once .*: id 0, part 'x' .2 rows.; .*id 4, part 'x' .2 rows.; and more"
    with pytest.raises(InternalError, match=message):
        upsert(silver, rows, TABLE, Upsert(["id", "part"], ["id", "part", "value"], "true"))
    with pytest.raises(InternalError, match=message):
        silver.update(rows, TABLE, ["id", "part"])
