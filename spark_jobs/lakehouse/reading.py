"""Every read of a Delta table.

A table is named ``<layer>.<table>``. It lies at ``<warehouse>/<layer>/<table>``, or is
``<catalog>.<layer>.<table>`` when the warehouse is ``catalog:NAME``.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, cast

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from lakehouse.errors import ConfigurationError
from lakehouse.report import RunReport
from lakehouse.runtime.delta_log import DeltaLog, without_patterns
from lakehouse.runtime.spark_log import SparkLog
from lakehouse.sql import quote

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FIRST = "ops.progress"
"""The table that every warehouse has, and that is never made anew."""
TABLE = re.compile(r"(bronze|staged|quarantine|silver|gold|ops)\.[a-z][a-z0-9_]*")


def _with_columns(rows: DataFrame, columns: Mapping[str, str]) -> DataFrame:
    """The rows; those of the columns (types by name) that they lack are there as nulls."""
    missing = [c for c in columns if c not in rows.columns]
    return rows.select("*", *[F.lit(None).cast(columns[c]).alias(c) for c in missing]) if missing else rows


class Tables:
    """The tables below one location, to be read."""

    def __init__(self, start: Callable[[], SparkSession], location: str, report: RunReport) -> None:
        """
        Args:
            start: gives a session of Spark; not called before the first row is to be read or written.
        """
        self._start, self._starting = start, threading.Lock()
        self._session: SparkSession | None = None
        self.location = location.rstrip("/")
        self._report = report
        self.log: DeltaLog | SparkLog
        if DeltaLog.can_open(self.location):
            self.log = DeltaLog(self.location)
        else:
            self.log = SparkLog(lambda: self.spark, self.sql_name)

    @property
    def spark(self) -> SparkSession:
        """The session, which the first who asks starts."""
        with self._starting:
            if self._session is None:
                self._session = self._start()
            return self._session

    def sql_name(self, table: str) -> str:
        if not TABLE.fullmatch(table):
            raise ConfigurationError(f"'{table}' is no table name", todo="Use <layer>.<name>.")
        layer, name = table.split(".")
        if self.location.startswith("catalog:"):
            return ".".join(quote(part) for part in (self.location.removeprefix("catalog:"), layer, name))
        return "delta." + quote(f"{self.location}/{layer}/{name}")

    def _columns(self, ddl: str) -> StructType:
        """Columns in SQL's words."""
        # Spark's own parser reads them, so it must have been started.
        _ = self.spark
        return cast(StructType, StructType.fromDDL(ddl))

    def exists(self, table: str) -> bool:
        return self.log.exists(table)

    def read(
        self,
        table: str,
        columns: Mapping[str, str] = MappingProxyType({}),
        *,
        version: int | Literal["newest"] | None = None,
    ) -> DataFrame:
        """A table; those of ``columns`` (types by name) that it does not have are there as nulls.

        Args:
            version: each use of the frame sees this version, or the one that is the newest now. What is persisted of it is
                kept when the table is written, but in a catalog; of a frame without a version, Spark computes it again.
        """
        name = self.sql_name(table)
        if version == "newest":
            version = self.newest_version(table)
        files = None if version is None else self.log.snapshot_files(table, version)
        if version is None:
            frame = self.spark.table(name)
        elif files is not None:
            frame = self._files(table, files)
        else:
            frame = self.spark.sql(f"SELECT * FROM {name} VERSION AS OF {int(version)}")  # noqa: S608
        return _with_columns(frame, columns)

    def batches(self, table: str, ids: Sequence[int], columns: Mapping[str, str] = MappingProxyType({})) -> DataFrame:
        """The rows of some batches; each use of the frame sees the same, whatever is added meanwhile. See ``read``.

        The log names the files that they are in, and these are read: to ask Delta for them takes three queries of its own.
        """
        files = self.log.batch_files(table, ids)
        if files is None:
            rows = self.read(table, columns)
        else:
            rows = _with_columns(self._files(table, [f.path for f in files]), columns)
        return rows.where(F.col("_batch_id").isin(list(ids)))

    def _files(self, table: str, paths: Sequence[str]) -> DataFrame:
        """The rows of some files of a table, whose paths are below its folder."""
        schema = StructType.fromJson(self.log.schema(table))
        if not paths:
            return self.spark.createDataFrame([], schema)
        folder = f"{self.location}/{table.replace('.', '/')}"
        return self.spark.read.schema(schema).parquet(*[without_patterns(f"{folder}/{path}") for path in paths])

    def read_or_empty(self, table: str, ddl: str, *, version: int | Literal["newest"] | None = None) -> DataFrame:
        """The table with at least the given columns, or no rows of them while it does not exist; see ``read``."""
        if not self.exists(table):
            return self.frame([], ddl)
        fields = self._columns(ddl).fields
        return self.read(table, {f.name: f.dataType.simpleString() for f in fields}, version=version)

    def changes(self, table: str, after: int, until: int) -> DataFrame | None:
        """The rows that versions after one and up to another have inserted, deleted and updated.

        Returns:
            Delta's change data: the columns and ``_change_type``. None if Delta has not kept it.
        """
        if after >= until:
            empty = self.read(table, version=until).limit(0)
            return empty.withColumn("_change_type", F.lit(""))
        reader = self.spark.read.option("readChangeFeed", "true")
        reader = reader.option("startingVersion", after + 1).option("endingVersion", until)
        try:
            if self.location.startswith("catalog:"):
                return reader.table(self.sql_name(table))
            layer, name = table.split(".")
            return reader.format("delta").load(f"{self.location}/{layer}/{name}")
        except Exception as error:
            if not re.search(
                "DELTA_(MISSING_CHANGE_DATA|CHANGE_DATA_FEED|CHANGE_TABLE_FEED|VERSION_NOT_FOUND|CANNOT_TIME)",
                str(error),
            ):
                raise
            return None

    def size(self, table: str) -> int:
        """Bytes of a table's newest version; 0 while it does not exist."""
        return self.log.size(table)

    def identity(self) -> str | None:
        """What tells this warehouse from any other: the id that Delta has given to its first table; None before there is one.

        It stays when the warehouse is moved, and a copy has it too.
        """
        return self.log.identity(FIRST)

    def frame(self, records: Sequence[tuple], ddl: str) -> DataFrame:
        """A few records as a frame of one partition: by way of Arrow, because Spark starts a Python worker for tuples."""
        schema = self._columns(ddl)
        named = [dict(zip(schema.names, record, strict=True)) for record in records]
        table = pa.Table.from_pylist(named, schema=to_arrow_schema(schema, timezone="UTC"))
        return self.spark.createDataFrame(table, schema=schema).coalesce(1)

    def note_read(self, table: str) -> None:
        """Record in the report which version of a table this run reads."""
        if self.exists(table):
            self._report.note(table, version_read=self.newest_version(table))

    def newest_version(self, table: str) -> int:
        return self.log.version(table)

    def rows_of_batch(self, table: str, batch_id: int) -> int:
        """How many rows a batch has in a table."""
        told = self.log.rows_of_batch(table, batch_id)
        return self.read(table).where(F.col("_batch_id") == batch_id).count() if told is None else told
