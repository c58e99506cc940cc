"""Journals: what is appended is read, each transaction once, whoever else writes; tables of Spark's are written on."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake import Transaction as AppTransaction
from hypothesis import given, settings
from hypothesis import strategies as st
from lakehouse import sizes
from lakehouse.runtime.delta_log import DeltaLog
from lakehouse.runtime.journal import Journal, LogStore, Transaction

TABLE = "ops.things"


@dataclass(frozen=True)
class Thing:
    name: str
    number: int
    small: Annotated[int, pa.int32()] = 0
    share: float | None = None
    inputs: tuple[int, ...] | None = ()
    rows: Mapping[str, int | None] | None = None
    at: datetime | None = None


def journal(folder: Path, record: type = Thing, **more: Any) -> Journal[Any]:
    return Journal(LogStore(DeltaLog(str(folder))), TABLE, record, **more)


NUMBERS = st.integers(-(2**63), 2**63 - 1)
THINGS = st.builds(
    Thing,
    st.text(),
    NUMBERS,
    st.integers(-(2**31), 2**31 - 1),
    st.none() | st.floats(allow_nan=False),
    st.none() | st.lists(NUMBERS).map(tuple),
    st.none() | st.dictionaries(st.text(), NUMBERS),
    st.none() | st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),
)


@given(st.lists(st.lists(THINGS, max_size=3), max_size=3))
@settings(max_examples=25, deadline=None)
def test_what_is_appended_is_read(tmp_path_factory: pytest.TempPathFactory, batches: list[list[Thing]]) -> None:
    folder = tmp_path_factory.mktemp("journal")
    for batch in batches:
        assert journal(folder).append(batch)
    key = repr
    assert sorted(journal(folder).read(), key=key) == sorted((t for batch in batches for t in batch), key=key)


def test_nothing_is_there_before_the_first_record(tmp_path: Path) -> None:
    empty = journal(tmp_path)
    assert empty.read(name=["a"]) == []
    assert empty.rows(["at", "number"]).schema == pa.schema([("at", pa.timestamp("us", "UTC")), ("number", pa.int64())])
    assert empty.append([]) is True
    assert empty.compact() == (0, 0)
    empty.delete("number = 1")
    assert not (tmp_path / "ops").exists()


def test_records_are_chosen_by_columns(tmp_path: Path) -> None:
    some = journal(tmp_path)
    some.append([Thing("a", 1), Thing("b", 2), Thing("b", 3), Thing("it's", 4)])
    assert {t.number for t in some.read(name=["b", "it's"])} == {2, 3, 4}
    assert some.read(name=["b"], number=[1, 3]) == [Thing("b", 3)]
    assert some.read(name=[]) == []
    some.delete("name = 'b' AND number IN (2, 4)")
    assert {t.number for t in some.read()} == {1, 3, 4}


def test_instants_of_any_zone_are_the_same_instants(tmp_path: Path) -> None:
    at = datetime(2026, 3, 29, 3, 30, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    journal(tmp_path).append([Thing("a", 1, at=at)])
    (found,) = journal(tmp_path).read()
    assert found.at == at
    assert found.at.utcoffset() == timedelta(0)


def test_a_transaction_counts_once(tmp_path: Path) -> None:
    one, other = journal(tmp_path), journal(tmp_path)
    assert one.append([Thing("first", 1)], Transaction("plan", 5)) is True
    assert other.append([Thing("again", 1)], Transaction("plan", 5)) is False
    assert other.append([Thing("older", 1)], Transaction("plan", 4)) is False
    assert other.append([Thing("of others", 1)], Transaction("another plan", 5)) is True
    assert one.append([Thing("next", 1)], Transaction("plan", 6)) is True
    assert sorted(t.name for t in one.read()) == ["first", "next", "of others"]


@pytest.mark.parametrize("once", [None, Transaction("plan", 1)], ids=["any", "one transaction"])
def test_writers_at_the_same_time(tmp_path: Path, once: Transaction | None) -> None:
    # The table too is made by all of them at once.
    done: list[tuple[int, bool]] = []
    together = threading.Barrier(8)

    def write(n: int) -> None:
        mine = journal(tmp_path)
        together.wait()
        done.append((n, mine.append([Thing("x", n)], once)))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(done) == 8
    through = {n for n, wrote in done if wrote}
    assert {t.number for t in journal(tmp_path).read()} == through
    assert len(through) == (8 if once is None else 1)


def test_columns_that_are_new_or_of_others(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Old:
        name: str
        gone: str

    @dataclass(frozen=True)
    class New:
        name: str
        more: Mapping[str, int] | None = None

    journal(tmp_path, Old).append([Old("old", "x")])
    assert journal(tmp_path, New).read() == [New("old", None)]
    journal(tmp_path, New).append([New("new", {"a": 1})])
    assert sorted(journal(tmp_path, New).read(), key=repr) == [New("new", {"a": 1}), New("old", None)]
    journal(tmp_path, Old).append([Old("old again", "y")])
    assert {r["name"] for r in DeltaTable(str(tmp_path / "ops/things")).to_pyarrow_table().to_pylist()} == {
        "old", "new", "old again"
    }  # fmt: skip


def test_small_files_become_one_whenever_there_are_nine_and_the_log_has_checkpoints(tmp_path: Path) -> None:
    some, table = journal(tmp_path), str(tmp_path / "ops/things")
    most = 0
    for n in range(45):
        some.append([Thing("x", n)])
        most = max(most, len(DeltaTable(table).file_uris()))
        assert sorted(t.number for t in some.read()) == list(range(n + 1))
    assert most == 8
    assert some.compact() == (1, 5)
    assert some.compact() == (0, 0)
    assert sorted(t.number for t in some.read()) == list(range(45))
    assert len(list((tmp_path / "ops/things/_delta_log").glob("*.checkpoint.parquet"))) == 2


def test_files_of_a_megabyte_are_left_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some, table = journal(tmp_path), str(tmp_path / "ops/things")
    some.append([Thing(uuid4().hex, n) for n in range(20_000)])
    (large,) = DeltaTable(table).file_uris()
    monkeypatch.setattr(sizes, "JOURNAL_FILE_BYTES", Path(large).stat().st_size // 8)
    for n in range(20):
        some.append([Thing("x", n)])
    files = DeltaTable(table).file_uris()
    assert large in files
    assert len(files) <= 9
    assert len(some.read()) == 20_020


def test_files_that_are_large_enough_have_nobody_look_whether_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizes, "JOURNAL_FILE_BYTES", 1)
    some = journal(tmp_path)
    for n in range(12):
        some.append([Thing("x", n)])
    assert len(DeltaTable(str(tmp_path / "ops/things")).file_uris()) == 12
    assert not (tmp_path / "_leases").exists(), "a lease is taken with each record"


def test_a_record_is_made_though_tidying_fails(tmp_path: Path) -> None:
    some = journal(tmp_path)
    (tmp_path / "_leases").write_text("no folder")
    for n in range(12):
        assert some.append([Thing("x", n)])
    assert len(some.read()) == len(DeltaTable(str(tmp_path / "ops/things")).file_uris()) == 12


def test_of_two_runs_that_make_few_files_of_many_neither_fails(tmp_path: Path) -> None:
    def append(name: str) -> None:
        some = journal(tmp_path)
        for n in range(20):
            some.append([Thing(name, n)])

    journal(tmp_path).append([Thing("first", 0)])
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(append, name) for name in "abc"]:
            done.result()
    expected = {("first", 0), *((name, n) for name in "abc" for n in range(20))}
    found = [(t.name, t.number) for t in journal(tmp_path).read()]
    assert set(found) == expected
    assert len(found) == len(expected)


def test_what_is_deleted_while_others_append_is_gone_and_nothing_else(tmp_path: Path) -> None:
    journal(tmp_path).append([Thing("old", n) for n in range(20)])

    def append() -> None:
        some = journal(tmp_path)
        for n in range(30):
            some.append([Thing("new", n)])

    def delete() -> None:
        some = journal(tmp_path)
        for n in range(20):
            some.delete(f"name = 'old' AND number = {n}")

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(append), pool.submit(delete)]:
            done.result()
    assert sorted((t.name, t.number) for t in journal(tmp_path).read()) == [("new", n) for n in range(30)]


def test_a_change_is_asked_about_first(tmp_path: Path) -> None:
    class Lost(Exception): ...

    def lost() -> None:
        raise Lost

    fenced = journal(tmp_path, changing=lost)
    for change in (
        lambda: fenced.append([Thing("x", 1)]),
        lambda: fenced.delete("number = 1"),
        fenced.compact,
    ):
        with pytest.raises(Lost):
            change()
    assert fenced.read() == []


@pytest.mark.parametrize("name", ["a b", "100%", "{y}<>`\"'*;:@$&=+!", "ümlaut", "q?a=b#c"])
@pytest.mark.parametrize("uri", [False, True])
def test_folders_with_special_names(tmp_path: Path, name: str, uri: bool) -> None:
    folder = tmp_path / name
    location = folder.as_uri() if uri else str(folder)
    some: Journal[Thing] = Journal(LogStore(DeltaLog(location)), TABLE, Thing)
    some.append([Thing("x", 1)])
    assert some.read() == [Thing("x", 1)]
    assert (folder / "ops/things/_delta_log").is_dir()


@pytest.mark.parametrize(
    ("location", "opens"),
    [("/data/lake", True), ("var/lake", True), ("file:/data", True), ("s3a://b/x", True), ("abfss://c@a/x", True),
     ("catalog:main", False), ("dbfs:/lake", False), ("hdfs://name/lake", False), ("/a%20b", False), ("/a[b", False), ("/a|b", False), ("file:///a%20b", True),
     ("file:///a%2520b", False)],
)  # fmt: skip
def test_which_locations_need_no_spark(location: str, opens: bool) -> None:
    assert DeltaLog.can_open(location) is opens


def test_what_a_log_tells(tmp_path: Path) -> None:
    log = DeltaLog(str(tmp_path))
    assert (log.version(TABLE), log.exists(TABLE), log.size(TABLE), log.identity(TABLE)) == (-1, False, 0, None)
    assert (log.commits(TABLE, 3), log.rows_of_batch(TABLE, 1), log.columns(TABLE)) == ([], 0, [])
    folder = tmp_path / "ops/things"
    write_deltalake(str(folder), pa.table({"_batch_id": [1], "n": [0]}))
    assert log.version(TABLE) == 0
    write_deltalake(str(folder), pa.table({"_batch_id": [2, 2, 3], "n": [0, 1, 2]}), mode="append")
    assert (log.version(TABLE), log.columns(TABLE)) == (1, ["_batch_id", "n"])
    assert log.size(TABLE) == sum(f.stat().st_size for f in folder.glob("*.parquet"))
    assert [(c.version, c.metrics["num_added_rows"]) for c in log.commits(TABLE, 9)] == [(1, 3), (0, 1)]
    assert [[c.version for c in log.commits_after(TABLE, n) or []] for n in (-1, 0, 1)] == [[1, 0], [1], []]
    assert log.identity(TABLE) == str(DeltaTable(str(folder)).metadata().id)


def of_batch(folder: Path, number: int, rows: int, application: str = "lakehouse/ingest/x/bronze") -> None:
    once = CommitProperties(app_transactions=[AppTransaction(application, number)])
    table = pa.table({"_batch_id": [number] * rows})
    write_deltalake(str(folder), table, mode="append", commit_properties=once)


def test_the_files_of_batches_are_those_of_their_commits(tmp_path: Path) -> None:
    log, folder = DeltaLog(str(tmp_path)), tmp_path / "ops/things"
    for number in (1, 2, 3):
        of_batch(folder, number, rows=number)
    of_batch(folder, 4, rows=7, application="somebody else's")
    assert [log.rows_of_batch(TABLE, n) for n in (1, 2, 3, 4, 5)] == [1, 2, 3, None, None]
    assert [f.rows for f in log.batch_files(TABLE, [3, 1]) or []] == [3, 1]
    assert all((folder / f.path).is_file() for f in log.batch_files(TABLE, [1, 2, 3]) or [])
    assert log.batch_files(TABLE, []) == []
    # After a compaction, or a deletion of some rows, the files are others.
    DeltaTable(str(folder)).optimize.compact()
    assert log.batch_files(TABLE, [1]) is None
    of_batch(folder, 6, rows=2)
    assert log.rows_of_batch(TABLE, 6) == 2
    DeltaTable(str(folder)).delete("_batch_id = 6")
    assert log.batch_files(TABLE, [6]) is None


def test_a_batch_whose_commit_is_gone_from_the_log_is_not_seen(tmp_path: Path) -> None:
    folder = tmp_path / "ops/things"
    for number in (1, 2, 3):
        of_batch(folder, number, rows=1)
    DeltaTable(str(folder)).create_checkpoint()
    for old in (0, 1):
        (folder / f"_delta_log/{old:020}.json").unlink()
    log = DeltaLog(str(tmp_path))
    assert [log.rows_of_batch(TABLE, n) for n in (2, 3)] == [None, 1]
