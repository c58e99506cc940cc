"""What ``delta_log`` and ``journal`` do, by Spark: for the tables of a catalog, and of locations that only Spark knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from lakehouse.runtime.delta_log import BatchFile, Commit
from lakehouse.runtime.journal import Transaction, Where
from lakehouse.sql import quote


class SparkLog:
    """The logs of tables, asked of Spark. See ``DeltaLog``."""

    def __init__(self, spark: Callable[[], SparkSession], sql_name: Callable[[str], str]) -> None:
        """
        Args:
            spark: gives the session.
            sql_name: a table's name, ``<layer>.<table>``, as SQL has it.
        """
        self.spark, self.sql_name = spark, sql_name
        self._known: set[str] = set()

    def exists(self, table: str) -> bool:
        if table in self._known:
            return True
        try:
            found = self.spark().catalog.tableExists(self.sql_name(table))
        except AnalysisException as error:
            if error.getCondition() != "DELTA_MISSING_DELTA_TABLE":
                raise
            found = False
        if found:
            self._known.add(table)
        return found

    def version(self, table: str) -> int:
        return self.commits(table, 1)[0].version if self.exists(table) else -1

    def identity(self, table: str) -> str | None:
        return self._detail(table, "id") if self.exists(table) else None

    def size(self, table: str) -> int:
        return int(self._detail(table, "sizeInBytes") or 0) if self.exists(table) else 0

    def paths(self, table: str) -> list[str]:
        return self.spark().table(self.sql_name(table)).inputFiles() if self.exists(table) else []

    def partition_columns(self, table: str) -> list[str]:
        return list(self._detail(table, "partitionColumns")) if self.exists(table) else []

    def rows(self, table: str) -> int:
        return self.spark().table(self.sql_name(table)).count() if self.exists(table) else 0

    def columns(self, table: str) -> list[str]:
        return self.spark().table(self.sql_name(table)).columns if self.exists(table) else []

    def commits(self, table: str, most: int) -> list[Commit]:
        if not self.exists(table):
            return []
        history = self.spark().sql(f"DESCRIBE HISTORY {self.sql_name(table)} LIMIT {int(most)}")
        # Of the parameters only this: the condition of a MERGE may be long.
        parameters = F.map_filter("operationParameters", lambda name, _: name == "zOrderBy").alias(
            "operationParameters"
        )
        rows = history.select("version", "operation", parameters, "operationMetrics", "userMetadata").collect()
        return [Commit.of(r.asDict()) for r in sorted(rows, key=lambda r: -r["version"])]

    def version_to_compare(self, table: str) -> int | None:
        return None

    def commits_after(self, table: str, version: int | None) -> list[Commit] | None:
        return None

    def batch_files(self, table: str, batches: Iterable[int]) -> list[BatchFile] | None:
        """Not known: Delta itself finds the files."""
        return None

    def snapshot_files(self, table: str, version: int) -> list[str] | None:
        """Not known: Delta itself finds the files."""
        return None

    def rows_of_batch(self, table: str, batch: int) -> int | None:
        return None if self.exists(table) else 0

    def schema(self, table: str) -> dict[str, Any]:
        return self.spark().table(self.sql_name(table)).schema.jsonValue() if self.exists(table) else {}

    def may_have_rows(self, table: str, expression: str, values: Iterable[str]) -> bool:
        """Not looked for: whoever has Spark at work asks it for the rows themselves."""
        return self.exists(table)

    def _detail(self, table: str, name: str) -> Any:
        detail = self.spark().sql(f"DESCRIBE DETAIL {self.sql_name(table)}").select(name).first()
        return None if detail is None else detail[name]


class SparkStore:
    """The tables of journals, read and written by Spark."""

    def __init__(
        self,
        log: SparkLog,
        append: Callable[[DataFrame, str, Transaction | None], bool],
        delete: Callable[[str, str], None],
        compact: Callable[[str], tuple[int, int]],
    ) -> None:
        self._log, self._append, self._delete, self._compact = log, append, delete, compact

    def read(self, table: str, columns: Sequence[str], where: Where) -> pa.Table:
        if not self._log.exists(table):
            return pa.table({})
        rows = self._log.spark().table(self._log.sql_name(table))
        for column, values in where.items():
            rows = rows.where(F.col(column).isin(list(values)))
        return rows.select(*[quote(c) for c in columns if c in rows.columns]).toArrow()

    def append(self, table: str, rows: pa.Table, once: Transaction | None) -> bool:
        frame = self._log.spark().createDataFrame(rows, schema=from_arrow_schema(rows.schema)).coalesce(1)
        return self._append(frame, table, once)

    def delete(self, table: str, condition: str) -> None:
        if self._log.exists(table):
            self._delete(table, condition)

    def compact(self, table: str) -> tuple[int, int]:
        return self._compact(table) if self._log.exists(table) else (0, 0)
