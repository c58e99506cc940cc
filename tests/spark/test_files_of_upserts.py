"""Rows into a table by key: what is read, shuffled and written anew for them, and what stays as it is."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from lakehouse.maintenance.needs import need
from lakehouse.maintenance.stage import inspect
from lakehouse.merging import upserts
from lakehouse.merging.upserts import Upsert, upsert
from lakehouse.runtime.journal import Transaction
from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from things import TABLE, warehouse

pytestmark = pytest.mark.usefixtures("every_table_is_large")


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
