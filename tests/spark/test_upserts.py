"""Rows into a table by key: their result, their commits, and what is read and shuffled for it."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lakehouse.errors import InternalError
from lakehouse.maintenance.needs import need
from lakehouse.maintenance.stage import inspect
from lakehouse.merging import upserts
from lakehouse.merging.upserts import Upsert, upsert
from lakehouse.report import RunReport
from lakehouse.runtime.journal import Transaction
from lakehouse.sql import literal
from lakehouse.tables import Warehouse
from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

TABLE = "silver.things"


def warehouse(spark: SparkSession, folder: Path) -> Warehouse:
    return Warehouse(lambda: spark, str(folder), RunReport("merge", "test", datetime(2026, 1, 1, tzinfo=UTC)))


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treats each table as a large one."""
    monkeypatch.setattr(upserts, "SMALL_BYTES", 0)


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
@pytest.mark.parametrize(("is_small", "small"), [(True, 0), (True, upserts.SMALL_BYTES), (False, 0)])
def test_with_any_keys_a_range_and_a_list_change_no_result(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_small: bool, small: int,
    batches: list[dict[str, int]],
) -> None:  # fmt: skip
    """A part a batch, so that each known key has rows to update and one to insert."""
    monkeypatch.setattr(upserts, "SMALL_BYTES", small)
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


def test_a_table_with_rows_marked_as_gone_is_not_read_by_its_files(spark: SparkSession, tmp_path: Path) -> None:
    silver = warehouse(spark, tmp_path)
    silver.append_always(silver.frame([(n, 0) for n in range(9)], "id INT, value INT").coalesce(1), TABLE)
    assert silver.log.snapshot_files(TABLE, silver.newest_version(TABLE)) is not None
    how = Upsert(["id"], ["id", "value"], "s.value <> t.value", is_small=True)
    upsert(silver, silver.frame([(3, 1)], "id INT, value INT"), TABLE, how, transaction=Transaction("merge", 1))
    assert DeltaTable(str(tmp_path / "silver" / "things")).deletion_vectors().read_all().num_rows == 1
    version = silver.newest_version(TABLE)
    assert silver.log.snapshot_files(TABLE, version) is None
    assert silver.log.rows(TABLE) == 9
    rows = sorted(map(tuple, silver.read(TABLE, version=version).collect()))
    assert rows == [(n, int(n == 3)) for n in range(9)]


def test_a_value_as_sql_text_is_that_value(spark: SparkSession) -> None:
    values = [None, True, -7, "it's \\ 'n\n", b"\x00'", Decimal("-1.50"), 0.1, float("inf"), date(2026, 2, 28)]
    row = spark.sql("SELECT " + ", ".join(literal(v) for v in values)).first()
    assert row is not None
    assert list(row) == values
    seconds = spark.sql(f"SELECT unix_micros({literal(datetime(2026, 3, 1, 1, 2, 3, 4, tzinfo=UTC))})").first()
    assert seconds == (1772326923000004,)


@pytest.mark.parametrize(
    ("type_", "keys"),
    [("STRING", ["a1", "a2", "b1", "b2", "c1", "c2"]), ("BIGINT", [1, 2, 11, 12, 21, 22]),
     ("TIMESTAMP", [datetime(2026, 1, d) for d in (1, 2, 11, 12, 21, 22)])],
    ids=["string", "bigint", "timestamp"],
)  # fmt: skip
def test_files_without_a_key_of_the_range_are_not_read(
    spark: SparkSession, tmp_path: Path, type_: str, keys: list[object]
) -> None:
    silver = warehouse(spark, tmp_path)
    for pair in (keys[:2], keys[2:4], keys[4:]):
        silver.append_always(silver.frame([(k, 0) for k in pair], f"id {type_}, value INT"), TABLE)
    folder = str(tmp_path / "silver" / "things")
    files = pa.table(DeltaTable(folder).get_add_actions(flatten=True)).to_pylist()
    least = {file["path"]: file["min.id"] for file in files}
    middle = sorted(least, key=lambda path: least[path])[1]
    for path in least:
        if path != middle:
            (Path(folder) / path).unlink()
    rows = silver.frame([(keys[2], 1), (keys[3], 1)], f"id {type_}, value INT")

    def run(key_range: tuple[object, object] | None) -> dict[str, int]:
        return upsert(silver, rows, TABLE, Upsert(["id"], ["id", "value"], "s.value <> t.value", key_range=key_range))

    with pytest.raises(Py4JJavaError, match="does not exist"):
        run(None)
    assert run((keys[2], keys[3])) == {"inserted": 0, "updated": 2, "deleted": 0}


def test_few_rows_find_their_keys_without_a_shuffle_of_the_table(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is shuffled then, to find the rows that change something, is only what has their keys, and only their columns."""
    silver = warehouse(spark, tmp_path)
    ddl, threshold = "id INT, value INT, more STRING", "spark.sql.autoBroadcastJoinThreshold"
    silver.append_always(silver.frame([(n, 0, "-") for n in range(9)], ddl), TABLE)
    plans: dict[bool, str] = {}
    changing = Upsert.changing

    def noted(how: Upsert, rows: DataFrame, table: DataFrame) -> DataFrame:
        found = changing(how, rows, table)
        plans[how.is_small] = found._jdf.queryExecution().executedPlan().toString()  # type: ignore[operator]
        assert sorted(map(tuple, found.select("id", "value", upserts.KNOWN).collect())) == expected
        return found

    monkeypatch.setattr(Upsert, "changing", noted)
    # As with a table and rows of which Spark does not know that one is small.
    spark.conf.set(threshold, "-1")
    try:
        for is_small, expected in ((True, [(8, 1, True), (9, 1, False)]), (False, [(6, 1, True), (10, 1, False)])):
            rows = silver.frame([(id_, 1, "-") for id_, *_ in expected] + [(7, 0, "-")], ddl)
            upsert(silver, rows, TABLE, Upsert(["id"], ["id", "value"], "s.value <> t.value", is_small=is_small))
    finally:
        spark.conf.unset(threshold)
    assert "BroadcastHashJoin" in plans[True]
    assert "LeftSemi" in plans[True]
    assert "Broadcast" not in plans[False]
    read = [line for line in plans[True].splitlines() if "FileScan parquet" in line]
    assert read
    assert not any("more" in line.split("Batched")[0] for line in read)


@pytest.mark.parametrize("is_small", [True, False])
def test_a_file_whose_rows_stay_as_they_are_is_not_written_anew(
    spark: SparkSession, tmp_path: Path, is_small: bool
) -> None:
    silver = warehouse(spark, tmp_path)
    for pair in ((1, 2), (3, 4), (5, 6)):
        silver.append_always(silver.frame([(k, 0) for k in pair], "id INT, value INT"), TABLE)

    def files() -> dict[int, str]:
        found = pa.table(DeltaTable(str(tmp_path / "silver" / "things")).get_add_actions(flatten=True)).to_pylist()
        return {f["min.id"]: f["path"] for f in found}

    before = files()
    # As it is; another value; gone; not there, and so neither deleted nor inserted; new.
    rows = [(1, 0, False), (3, 7, False), (6, 0, True), (8, 0, True), (9, 1, False)]
    how = Upsert(["id"], ["id", "value"], "s.value <> t.value", "s.gone", is_small=is_small)
    done = upsert(silver, silver.frame(rows, "id INT, value INT, gone BOOLEAN"), TABLE, how)
    assert done == {"inserted": 1, "updated": 1, "deleted": 1}
    assert sorted(map(tuple, silver.read(TABLE).collect())) == [(1, 0), (2, 0), (3, 7), (4, 0), (5, 0), (9, 1)]
    assert marked(tmp_path) == {before[3]: 1, before[5]: 1}
    assert before[1] not in newest_commit(tmp_path).read_text(), "it has been touched"

    found = inspect(silver, TABLE)
    assert (found.commits[0].rows_marked, found.rows) == (2, 6)
    assert need(found, ()).marked == 2 / 8
    # What is marked is gone after the next compaction.
    silver.optimize(TABLE)
    assert not marked(tmp_path)
    found = inspect(silver, TABLE)
    assert (found.number, need(found, ()).marked) == (1, 0.0)
    assert sorted(map(tuple, silver.read(TABLE).collect())) == [(1, 0), (2, 0), (3, 7), (4, 0), (5, 0), (9, 1)]


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
    monkeypatch.setattr(upserts, "MAX_LISTED", 1)
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


def test_what_is_kept_of_a_pinned_version_outlives_writes(spark: SparkSession, tmp_path: Path) -> None:
    """Else the work of a stage that writes what it has read is done again, unseen."""
    silver = warehouse(spark, tmp_path)
    silver.append_always(silver.frame([(1, 0), (2, 0)], "id INT, value INT"), TABLE)
    frames = {True: silver.read(TABLE, version="newest"), False: silver.read(TABLE)}
    kept = {pinned: frame.withColumn("made", F.current_timestamp()).persist() for pinned, frame in frames.items()}
    before = {pinned: sorted(map(tuple, frame.collect())) for pinned, frame in kept.items()}
    rows = silver.frame([(3, 1), (4, 1)], "id INT, value INT")
    writes = [
        lambda: silver.append_always(rows, TABLE),
        lambda: silver.replace(rows, TABLE, "value = 1"),
        lambda: upsert(silver, rows, TABLE, Upsert(["id"], ["id", "value"], "true")),
    ]
    try:
        for write in writes:
            write()
            assert sorted(map(tuple, kept[True].select("*").collect())) == before[True]
        assert {made for _, _, made in kept[False].select("*").collect()} != {made for _, _, made in before[False]}
    finally:
        for frame in kept.values():
            frame.unpersist()


def newest_commit(folder: Path) -> Path:
    return max((folder / "silver" / "things" / "_delta_log").glob("*.json"))


def marked(folder: Path) -> dict[str, int]:
    """Rows marked as gone, by the file in which the newest commit marks them."""
    actions = map(json.loads, newest_commit(folder).read_text().splitlines())
    adds = [a["add"] for a in actions if "add" in a]
    return {a["path"]: a["deletionVector"]["cardinality"] for a in adds if a.get("deletionVector")}


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
