"""The ledger of files, ``ops.files``: which file was loaded when, by which run, with how many rows.

A file is its path, size and modification time: a re-upload with other content is another file. An
entry is added when a batch plans the file and another when it is loaded, set aside (it cannot be
read as it is) or returned (it was not read after all; the next discovery finds it as new). A file that
is loaded may be archived or deleted later; one that only repeats the content of a loaded one is noted
as repeated. The last entry of a file tells its state.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa
from pyspark.sql import functions as F

from lakehouse.ingestion.landing import LandedFile
from lakehouse.ingestion.readers import is_corrupt
from lakehouse.instants import EPOCH, of_micros
from lakehouse.runtime.progress import Batch
from lakehouse.tables import Warehouse

TABLE = "ops.files"
PLANNED, LOADED, SET_ASIDE, RETURNED = "planned", "loaded", "set aside", "returned"
ARCHIVED, DELETED, REPEATED = "archived", "deleted", "repeated"
STATES = (PLANNED, LOADED, SET_ASIDE, RETURNED, REPEATED, ARCHIVED, DELETED)
"""In this order within a batch."""
ORDER = {state: number for number, state in enumerate(STATES)}
SETTLED = {LOADED, ARCHIVED, DELETED, REPEATED}
"""States of a file whose rows are in bronze."""


@dataclass(frozen=True)
class Record:
    """A row of the table."""

    input: str
    path: str
    size: int
    modified: datetime
    state: str
    reason: str | None
    rows: int | None
    corrupt_rows: int | None
    batch_id: int
    run_id: str
    at: datetime
    sha256: str | None


class Entry(NamedTuple):
    """What is known of a file. ``batch_id`` and ``at`` (when it was noted) are those of an entry that was read."""

    file: LandedFile
    state: str
    reason: str | None = None
    rows: int | None = None
    corrupt_rows: int | None = None
    batch_id: int = 0
    at: datetime = EPOCH


class Ledger:
    """The entries of one warehouse."""

    def __init__(self, warehouse: Warehouse, run_id: str, now: datetime) -> None:
        self._journal, self._run_id, self._now = warehouse.journal(TABLE, Record), run_id, now

    def states(self, source: str) -> dict[LandedFile, str]:
        """The state of each file of an input: the quick way to tell which are new among very many."""
        entries = self._journal.rows(["path", "size", "modified", "state", "batch_id"], {"input": [source]})
        # Numbers instead of instants: of these Arrow makes objects of pandas.
        columns = [c.cast("int64") if pa.types.is_timestamp(c.type) else c for c in entries.columns]
        newest: dict[tuple[str, int, int], int] = {}
        for path, size, micros, state, batch in zip(*[c.to_pylist() for c in columns], strict=True):
            file, age = (path, size, micros // 1000), batch * len(STATES) + ORDER[state]
            if age > newest.get(file, -1):
                newest[file] = age
        return {
            LandedFile(path, size, _instant(at)): STATES[age % len(STATES)] for (path, size, at), age in newest.items()
        }

    def entries(self, source: str) -> dict[LandedFile, Entry]:
        """The last entry of each file of an input."""
        last: dict[LandedFile, tuple[tuple[int, int], Entry]] = {}
        for r in self._journal.read(input=[source]):
            file, age = _file(r), (r.batch_id, ORDER[r.state])
            if file not in last or age > last[file][0]:
                last[file] = age, Entry(file, r.state, r.reason, r.rows, r.corrupt_rows, r.batch_id, r.at)
        return {file: entry for file, (_, entry) in last.items()}

    def of_batch(self, batch: Batch, *, planned: bool) -> list[LandedFile]:
        """The files that a batch planned, or those of which it has noted anything else."""
        records = self._journal.read(batch_id=[batch.batch_id])
        return [_file(r) for r in sorted(records, key=lambda r: r.path) if (r.state == PLANNED) == planned]

    def record(self, entries: Iterable[tuple[Batch, Entry]]) -> None:
        """Add entries, in one commit."""
        self._journal.append([
            Record(
                batch.unit, e.file.path, e.file.size, e.file.modified, e.state, e.reason,
                e.rows, e.corrupt_rows, batch.batch_id, self._run_id, self._now, e.file.sha256,
            )
            for batch, e in entries
        ])  # fmt: skip


def files_in_bronze(warehouse: Warehouse, table: str, batch: Batch) -> list[Entry]:
    """The files of which a batch has rows in bronze, with how many and how many of them are corrupt."""
    if not warehouse.exists(table):
        return []
    rows = warehouse.batches(table, [batch.batch_id])
    modified = F.unix_millis("_source.modified").alias("modified")
    counted = rows.groupBy("_source.file", "_source.size", modified).agg(
        F.count("*").alias("rows"), F.count_if(is_corrupt(rows)).alias("corrupt")
    )
    return [
        Entry(LandedFile(r["file"], r["size"], _instant(r["modified"])), LOADED, None, r["rows"], r["corrupt"])
        for r in counted.collect()
    ]


def _file(record: Record) -> LandedFile:
    whole = record.modified.replace(microsecond=record.modified.microsecond // 1000 * 1000)
    return LandedFile(record.path, record.size, whole, record.sha256)


def _instant(milliseconds: int) -> datetime:
    return of_micros(1000 * milliseconds)
