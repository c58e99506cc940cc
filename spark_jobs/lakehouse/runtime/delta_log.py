"""What the logs of a warehouse's tables tell, without Spark: versions, commits, sizes, rows of a batch."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.fs
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import TableNotFoundError
from deltalake.fs import DeltaStorageHandler

from lakehouse import sizes, storage

MAX_COMMITS = 100
"""How many commits of a table are read to find those of a batch."""
OWN_TRANSACTIONS = "lakehouse/"
"""How the transactions of batches begin; see ``Batch.transaction``."""
OWN_SCHEMES = ("", "file", "s3", "s3a", "gs", "az", "abfs", "abfss")
"""The kinds of addresses that deltalake can open by itself."""
ODD_NAMES = re.compile(r"%[0-9A-Fa-f]{2}|[\[\]\\^|\x00-\x1f]")
"""What deltalake does not find in the name of a folder: of ``%20``, for one, it makes a blank."""
PATTERN = re.compile(r"[\\\[\]{}*?]")


def without_patterns(path: str) -> str:
    """A path as it is to be given to Spark, which would take some characters of a name for a pattern."""
    return PATTERN.sub(lambda match: "\\" + match[0], path)


@dataclass(frozen=True)
class Commit:
    """One version of a table. ``metrics`` are numbers of rows, files and bytes, under Delta's names."""

    version: int
    operation: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, int] = field(default_factory=dict)
    mark: str | None = None

    @staticmethod
    def of(entry: Mapping[str, Any]) -> Commit:
        """From an entry of ``DeltaTable.history``."""
        metrics = {k: int(v) for k, v in (entry.get("operationMetrics") or {}).items() if _is_number(v)}
        parameters = entry.get("operationParameters") or {}
        return Commit(entry["version"], entry["operation"], parameters, metrics, entry.get("userMetadata"))


class BatchFile(NamedTuple):
    """A file that a batch has written: its path below the table's folder, decoded, and its number of rows."""

    path: str
    rows: int


class DeltaLog:
    """The logs of the tables below one location. Threads may share it."""

    def __init__(self, location: str) -> None:
        self.location = location.rstrip("/")
        self.options = storage.options(self.location)
        self._tables: dict[str, DeltaTable] = {}
        self._commits: dict[tuple[str, int], list[dict[str, Any]]] = {}
        self._lock = threading.RLock()

    @staticmethod
    def can_open(location: str) -> bool:
        """Whether tables there are found by their address, and not only by a catalog or by Spark."""
        scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", location)
        odd = ODD_NAMES.search(unquote(location) if scheme else location)
        return not odd and (scheme[1].lower() if scheme else "") in OWN_SCHEMES

    def address(self, table: str) -> str:
        """Where a table named ``<layer>.<table>`` lies."""
        folder = self._folder(table)
        return f"{self.location}/{table.replace('.', '/')}" if folder is None else folder.as_uri()

    def filesystem(self, table: str) -> pyarrow.fs.FileSystem | None:
        """How Arrow reads a table's files where these are on a disk; None elsewhere."""
        folder = self._folder(table)
        return None if folder is None else pyarrow.fs.SubTreeFileSystem(str(folder), pyarrow.fs.LocalFileSystem())

    def _filesystem(self, table: str) -> pyarrow.fs.FileSystem:
        on_disk = self.filesystem(table)
        return on_disk or pyarrow.fs.PyFileSystem(DeltaStorageHandler(self.address(table), self.options))

    def _folder(self, table: str) -> Path | None:
        below = table.replace(".", "/")
        if self.location.startswith("file:"):
            return Path(unquote(urlsplit(self.location).path)) / below
        return None if "://" in self.location else Path(self.location).absolute() / below

    def exists(self, table: str) -> bool:
        return self.newest(table) is not None

    def newest(self, table: str) -> DeltaTable | None:
        """A table at its newest version; None while it does not exist."""
        with self._lock:
            known = self._tables.get(table)
            try:
                if known is None:
                    known = self._tables[table] = DeltaTable(self.address(table), storage_options=self.options)
                else:
                    known.update_incremental()
            except TableNotFoundError:
                self._tables.pop(table, None)
                return None
            return known

    def forget(self, table: str) -> None:
        """Open the table anew when it is asked for next."""
        with self._lock:
            self._tables.pop(table, None)

    def version(self, table: str) -> int:
        """The number of a table's newest version; -1 while it does not exist."""
        found = self.newest(table)
        return -1 if found is None else found.version()

    def identity(self, table: str) -> str | None:
        """The id that Delta has given to a table; None while it does not exist."""
        found = self.newest(table)
        return None if found is None else str(found.metadata().id)

    def columns(self, table: str) -> list[str]:
        """The names of a table's columns; none while it does not exist."""
        found = self.newest(table)
        return [] if found is None else [f.name for f in found.schema().fields]

    def properties(self, table: str) -> Mapping[str, str]:
        """What a table has been set to; nothing while it does not exist."""
        found = self.newest(table)
        return {} if found is None else dict(found.metadata().configuration)

    def commits(self, table: str, most: int) -> list[Commit]:
        """The newest commits of a table, the newest first."""
        found = self.newest(table)
        return [] if found is None else [Commit.of(entry) for entry in found.history(most)]

    def version_to_compare(self, table: str) -> int | None:
        """The version after which ``commits_after`` looks."""
        return self.version(table)

    def commits_after(self, table: str, version: int | None) -> list[Commit] | None:
        """The commits after a version, the newest first; None if that is not cheaply known."""
        newest = self.version(table)
        return self.commits(table, newest - version) if version is not None and newest > version else []

    def files(self, table: str) -> pa.Table:
        """A row for each file of the newest version: path, size_bytes, num_records, min.<column>, max.<column>, ..."""
        found = self.newest(table)
        return pa.table({}) if found is None else arrow(found.get_add_actions(flatten=True))

    def paths(self, table: str) -> list[str]:
        """The paths of the files below the table's folder, decoded."""
        return [unquote(path) for path in self.files(table)["path"].to_pylist()] if self.exists(table) else []

    def partition_columns(self, table: str) -> list[str]:
        found = self.newest(table)
        return [] if found is None else list(found.metadata().partition_columns)

    def rows(self, table: str) -> int:
        """How many rows there are, but for those that are marked as gone."""
        found = self.newest(table)
        if found is None:
            return 0
        return selected(found, "SELECT count(*) AS n FROM t")["n"][0].as_py()

    def size(self, table: str) -> int:
        """Bytes of the newest version; 0 while there is none."""
        files = self.files(table)
        return sum(files["size_bytes"].to_pylist()) if files.num_rows else 0

    def batch_files(self, table: str, batches: Iterable[int]) -> list[BatchFile] | None:
        """The files that the commits of some batches have added: those whose transaction has the batch's number.

        Returns:
            None where that is not to be seen: a batch is not among the newest commits, a file of it is gone, as after a
            compaction, or has rows that are marked as gone, or files do not have the table's own columns.
        """
        found, wanted, files = self.newest(table), set(batches), list[BatchFile]()
        if found is None or not wanted:
            return []
        current = self._whole_files(table, found)
        if current is None:
            return None
        for version in range(found.version(), max(-1, found.version() - MAX_COMMITS), -1):
            actions = self._actions(table, version) if wanted else None
            if actions is None:
                break
            of = {a["txn"]["version"] for a in actions if "txn" in a and a["txn"]["appId"].startswith(OWN_TRANSACTIONS)}
            if of & wanted:
                wanted -= of
                files += [BatchFile(unquote(add["path"]), _rows(add)) for a in actions if (add := a.get("add"))]
        return None if wanted or not {f.path for f in files} <= set(current) else files

    def snapshot_files(self, table: str, version: int) -> list[str] | None:
        """The paths of a small table's files, if they are all that there is to its newest version, and this is the given one."""
        found = self.newest(table)
        if found is None or found.version() != version or self.size(table) > sizes.READ_WHOLE_BYTES:
            return None
        files = self._whole_files(table, found)
        return (
            None
            if files is None or len(files) > sizes.READ_WHOLE_FILES or len(files) < self.files(table).num_rows
            else files
        )

    def _whole_files(self, table: str, found: DeltaTable) -> list[str] | None:
        """The paths of the files of which no row is marked as gone; None where files do not have the table's own columns."""
        if "delta.columnMapping.mode" in found.metadata().configuration or found.metadata().partition_columns:
            return None
        marked = set[str]()
        if "deletionVectors" in (found.protocol().reader_features or ()):
            # Their addresses are of another form than paths; a file's name is its own.
            addresses = arrow(found.deletion_vectors())["filepath"].to_pylist()
            marked = {unquote(address).rpartition("/")[2] for address in addresses}
        return [path for path in self.paths(table) if path.rpartition("/")[2] not in marked]

    def rows_of_batch(self, table: str, batch: int) -> int | None:
        """How many rows a batch has in a table; None where ``batch_files`` does not see it."""
        files = self.batch_files(table, [batch])
        return None if files is None else sum(f.rows for f in files)

    def _actions(self, table: str, version: int) -> list[dict[str, Any]] | None:
        """What a commit has done; None if its file is gone, as it is some time after a checkpoint."""
        with self._lock:
            known = self._commits.get((table, version))
        if known is None:
            try:
                with self._filesystem(table).open_input_stream(f"_delta_log/{version:020}.json") as stream:
                    known = [json.loads(line) for line in stream.read().splitlines()]
            except OSError:
                return None
            with self._lock:
                self._commits[table, version] = known
        return known

    def schema(self, table: str) -> dict[str, Any]:
        """A table's columns, in the form of Spark's ``StructType.fromJson``."""
        found = self.newest(table)
        return {"type": "struct", "fields": []} if found is None else json.loads(found.schema().to_json())

    def may_have_rows(self, table: str, expression: str, values: Iterable[str]) -> bool:
        """Whether an expression, in the SQL of DataFusion, has one of some values in any row."""
        found = self.newest(table)
        if found is None:
            return False
        query = f"SELECT 1 FROM t WHERE {one_of(expression, values)} LIMIT 1"  # noqa: S608
        return selected(found, query).num_rows > 0


def arrow(rows: Any) -> pa.Table:
    """What deltalake gives. Neither by pa.table nor by Arrow's datasets, which import pandas: that takes a third of a second."""
    return pa.RecordBatchReader.from_stream(rows).read_all()


def selected(table: DeltaTable, query: str) -> pa.Table:
    """The answer of DataFusion to a query of a table, which is called t."""
    return arrow(QueryBuilder().register("t", table).execute(query))


def one_of(expression: str, values: Iterable[str | int]) -> str:
    """Whether an expression has one of some values, in the SQL of DataFusion."""
    listed = ", ".join(str(v) if isinstance(v, int) else "'" + v.replace("'", "''") + "'" for v in values)
    return f"{expression} IN ({listed})" if listed else "false"


def _rows(add: Mapping[str, Any]) -> int:
    return int(json.loads(add["stats"])["numRecords"])


def _is_number(value: object) -> bool:
    return isinstance(value, int | str) and bool(re.fullmatch(r"-?\d+", str(value)))
