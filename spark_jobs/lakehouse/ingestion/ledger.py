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
from datetime import UTC, datetime, timedelta

from pyspark.sql import functions as F

from lakehouse.ingestion.landing import LandedFile
from lakehouse.progress import Batch
from lakehouse.tables import Warehouse

TABLE = "ops.files"
DDL = (
    "input STRING, path STRING, size BIGINT, modified TIMESTAMP, state STRING, reason STRING, "
    "rows BIGINT, corrupt_rows BIGINT, batch_id BIGINT, run_id STRING, at TIMESTAMP, sha256 STRING"
)
PLANNED, LOADED, SET_ASIDE, RETURNED = "planned", "loaded", "set aside", "returned"
ARCHIVED, DELETED, REPEATED = "archived", "deleted", "repeated"
SETTLED = {LOADED, ARCHIVED, DELETED, REPEATED}
"""States of a file whose rows are in bronze."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Entry:
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
        self._warehouse, self._run_id, self._now = warehouse, run_id, now

    def known(self, source: str) -> dict[LandedFile, Entry]:
        """The last entry of each file of an input."""
        if not self._warehouse.exists(TABLE):
            return {}
        last = F.struct("batch_id", F.col("state") != PLANNED, F.col("state").isin(ARCHIVED, DELETED))
        at = F.unix_micros("at").alias("at")
        entry = F.struct("state", "reason", "rows", "corrupt_rows", "batch_id", at, "sha256")
        newest = (
            self._warehouse.read(TABLE, {"sha256": "string"})
            .where(F.col("input") == source)
            .groupBy("path", "size", F.unix_millis("modified").alias("modified"))
            .agg(F.max_by(entry, last).alias("entry"))
            .select("path", "size", "modified", "entry.*")
        )
        # Column by column: a hundred thousand rows take seconds as Row objects.
        lists = [column.to_pylist() for column in newest.toArrow().columns]
        known = {}
        for path, size, modified, state, reason, rows, corrupt, batch_id, at, sha256 in zip(*lists, strict=True):
            file = LandedFile(path, size, EPOCH + timedelta(milliseconds=modified), sha256)
            known[file] = Entry(file, state, reason, rows, corrupt, batch_id, EPOCH + timedelta(microseconds=at))
        return known

    def of_batch(self, batch: Batch, *, planned: bool) -> list[LandedFile]:
        """The files that a batch planned, or those it has ended with (loaded or set aside)."""
        if not self._warehouse.exists(TABLE):
            return []
        state = F.col("state") == PLANNED
        rows = (
            self._warehouse.read(TABLE, {"sha256": "string"})
            .where((F.col("batch_id") == batch.batch_id) & (state if planned else ~state))
            .select("path", "size", F.unix_millis("modified").alias("modified"), "sha256")
            .orderBy("path")
            .collect()
        )
        return [
            LandedFile(r["path"], r["size"], EPOCH + timedelta(milliseconds=r["modified"]), r["sha256"]) for r in rows
        ]

    def record(self, entries: Iterable[tuple[Batch, Entry]]) -> None:
        """Add entries, in one commit."""
        rows = [
            (
                *(batch.unit, e.file.path, e.file.size, e.file.modified, e.state, e.reason),
                *(e.rows, e.corrupt_rows, batch.batch_id, self._run_id, self._now, e.file.sha256),
            )
            for batch, e in entries
        ]
        if rows:
            frame = self._warehouse.spark.createDataFrame(rows, DDL).coalesce(1)
            self._warehouse.append_always(frame, TABLE)
