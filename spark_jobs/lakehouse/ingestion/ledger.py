"""The ledger of files, ``ops.files``: which file was loaded when, by which run, with how many rows.

A file is its path, size and modification time: a re-upload with other content is another file. An
entry is added when a batch plans the file and another when it is loaded, set aside (it cannot be
read as it is) or returned (it was not read after all; the next discovery finds it as new). A file that
is loaded may be archived or deleted later; one that only repeats the content of a loaded one is noted
as repeated. The last entry of a file tells its state.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.ingestion.landing import LandedFile
from lakehouse.ingestion.readers import is_corrupt
from lakehouse.progress import Batch
from lakehouse.tables import Warehouse

TABLE = "ops.files"
DDL = (
    "input STRING, path STRING, size BIGINT, modified TIMESTAMP, state STRING, reason STRING, "
    "rows BIGINT, corrupt_rows BIGINT, batch_id BIGINT, run_id STRING, at TIMESTAMP, sha256 STRING"
)
PLANNED, LOADED, SET_ASIDE, RETURNED = "planned", "loaded", "set aside", "returned"
ARCHIVED, DELETED, REPEATED = "archived", "deleted", "repeated"
STATES = (PLANNED, LOADED, SET_ASIDE, RETURNED, REPEATED, ARCHIVED, DELETED)
"""In this order within a batch."""
SETTLED = {LOADED, ARCHIVED, DELETED, REPEATED}
"""States of a file whose rows are in bronze."""
FILE = ("path", "size", "modified")
AUTO_LOADER = "auto-loader"
"""How the remark of a batch begins that Auto Loader found."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
        self._warehouse, self._run_id, self._now = warehouse, run_id, now

    def states(self, source: str) -> dict[LandedFile, str]:
        """The state of each file of an input: the quick way to tell which are new among very many."""
        if not self._warehouse.exists(TABLE):
            return {}
        code = F.array_position(F.array(*map(F.lit, STATES)), F.col("state")) - 1
        age = (F.col("batch_id") * len(STATES) + code).alias("age")
        entries = self._of_input(source).select(*FILE, age).toArrow()
        # Arrow groups the files' entries in a fraction of the time that a shuffle takes.
        newest = entries.group_by(list(FILE)).aggregate([("age", "max")])
        path, size, modified, ages = (column.to_pylist() for column in newest.columns)
        files = map(LandedFile, path, size, map(_instant, modified))
        return dict(zip(files, [STATES[age % len(STATES)] for age in ages], strict=True))

    def entries(self, source: str) -> dict[LandedFile, Entry]:
        """The last entry of each file of an input."""
        if not self._warehouse.exists(TABLE):
            return {}
        last = F.struct("batch_id", F.array_position(F.array(*map(F.lit, STATES)), F.col("state")))
        at = F.unix_millis("at").alias("at")
        entry = F.struct("state", "reason", "rows", "corrupt_rows", "batch_id", at, "sha256")
        newest = self._of_input(source).groupBy(*FILE).agg(F.max_by(entry, last).alias("entry"))
        found = newest.select("path", "size", "modified", "entry.*").toArrow()
        path, size, modified, *facts, at_, sha256 = (column.to_pylist() for column in found.columns)
        files = list(map(LandedFile, path, size, map(_instant, modified), sha256))
        return dict(zip(files, map(Entry._make, zip(files, *facts, map(_instant, at_), strict=True)), strict=True))

    def _of_input(self, source: str) -> DataFrame:
        rows = self._warehouse.read(TABLE, {"sha256": "string"}).where(F.col("input") == source)
        return rows.withColumn("modified", F.unix_millis("modified"))

    def of_batch(self, batch: Batch, *, planned: bool) -> list[LandedFile]:
        """The files that a batch planned, or those of which it has noted anything else."""
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
        return [LandedFile(r["path"], r["size"], _instant(r["modified"]), r["sha256"]) for r in rows]

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
            self._warehouse.append_always(self._warehouse.frame(rows, DDL), TABLE)


def files_in_bronze(warehouse: Warehouse, table: str, batch: Batch) -> list[Entry]:
    """The files of which a batch has rows in bronze, with how many and how many of them are corrupt."""
    if not warehouse.exists(table):
        return []
    rows = warehouse.read(table).where(F.col("_batch_id") == batch.batch_id)
    modified = F.unix_millis("_source.modified").alias("modified")
    counted = rows.groupBy("_source.file", "_source.size", modified).agg(
        F.count("*").alias("rows"), F.count_if(is_corrupt(rows)).alias("corrupt")
    )
    return [
        Entry(LandedFile(r["file"], r["size"], _instant(r["modified"])), LOADED, None, r["rows"], r["corrupt"])
        for r in counted.collect()
    ]


def _instant(milliseconds: int) -> datetime:
    return EPOCH + timedelta(milliseconds=milliseconds)
