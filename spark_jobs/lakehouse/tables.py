"""Every write of a Delta table; ``reading.py`` has the reads."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from pyspark.sql import DataFrame, DataFrameWriter

from lakehouse import lease, properties, storage
from lakehouse.errors import InternalError
from lakehouse.reading import Tables
from lakehouse.report import RunReport
from lakehouse.runtime.delta_log import Commit, DeltaLog
from lakehouse.runtime.journal import Journal, LogStore, Store, Transaction
from lakehouse.runtime.spark_log import SparkStore
from lakehouse.sql import assignments, quote, same_key

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

T = TypeVar("T")
FIRST_ROWS = Transaction("first rows", 1)
"""By it an empty table gets its rows without a MERGE: of two writers at once, one is late and merges."""
PATIENCE = 4 * 3600.0
"""Seconds for which a table's lease is waited for: its holder may cluster a large table, and one that is gone is found out sooner."""
MERGED = ("inserted", "updated", "deleted")


def _nullable_ddl(rows: DataFrame) -> str:
    """The frame's columns. A column that happens to be a constant today may be null tomorrow."""
    return ", ".join(f"{quote(f.name)} {f.dataType.simpleString()}" for f in rows.schema.fields)


def _repeated(rows: DataFrame, keys: Sequence[str], most: int = 5) -> str:
    """The keys of which there are several rows, for a message."""
    found = rows.groupBy(*keys).count().where("count > 1").orderBy(*keys).limit(most + 1).collect()
    named = [", ".join(f"{k} {r[k]!r}" for k in keys) + f" ({r['count']} rows)" for r in found[:most]]
    return "; ".join([*named, "and more"] if len(found) > most else named)


def _properties(table: str, columns: Collection[str]) -> str:
    """The properties of a new table, as SQL."""
    return ", ".join(f"'{k}' = '{v}'" for k, v in properties.of_new_table(table, columns).items())


class Warehouse(Tables):
    """The tables below one location, as one run reads and changes them."""

    def __init__(
        self,
        start: Callable[[], SparkSession],
        location: str,
        report: RunReport,
        fence: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            start: as of ``Tables``.
            fence: asked before each change; raises when this run may write no more.
        """
        super().__init__(start, location, report)
        self._fence = fence
        self._complete: set[tuple[str, str]] = set()
        self._creating = threading.Lock()
        # Marks this run's commits in a table's history; the run's id alone would not: a retry has the same.
        self._mark, self._marks = f"{report.stage} {report.run_id} {uuid.uuid4().hex[:8]}", itertools.count(1)
        self._store: Store
        if isinstance(self.log, DeltaLog):
            self._store = LogStore(self.log)
        else:
            self._store = SparkStore(self.log, self._append_record, self.delete, self.optimize)

    def journal(self, table: str, record: type[T]) -> Journal[T]:
        """A table of small records, for which no Spark is needed."""
        return Journal(self._store, table, record, self._changing)

    def _changing(self) -> None:
        self._fence()
        self._report.wrote = True

    def _append_record(self, rows: DataFrame, table: str, once: Transaction | None) -> bool:
        if once is not None:
            return self.append(rows, table, once) is not None
        self.append_always(rows, table)
        return True

    def create(self, table: str, ddl: str, partition_by: Sequence[str] = ()) -> None:
        """Create a table, or add the columns that it lacks.

        One at a time: two writers that both find no table would both try to make it, and one fails.
        """
        with self._creating:
            if not self.exists(table):
                self._create(table, ddl, partition_by)
            elif (table, ddl) not in self._complete:
                self._add_columns(table, ddl)
            self._complete.add((table, ddl))

    def _create(self, table: str, ddl: str, partition_by: Sequence[str]) -> None:
        if self.location.startswith("catalog:"):
            self._change(table, f"CREATE SCHEMA IF NOT EXISTS {self.sql_name(table).rpartition('.')[0]}")
        partitions = f" PARTITIONED BY ({', '.join(map(quote, partition_by))})" if partition_by else ""
        listed = _properties(table, self._columns(ddl).names)
        self._change(
            table,
            f"CREATE TABLE IF NOT EXISTS {self.sql_name(table)} ({ddl}) USING delta{partitions} TBLPROPERTIES ({listed})",
        )

    def _add_columns(self, table: str, ddl: str) -> None:
        there = set(self.log.columns(table))
        missing = [f for f in self._columns(ddl).fields if f.name not in there]
        if missing:
            if properties.need_mapping(f.name for f in missing) and not properties.need_mapping(there):
                self.set_properties(table, [*there, *(f.name for f in missing)])
            columns = ", ".join(f"{quote(f.name)} {f.dataType.simpleString()}" for f in missing)
            self._change(table, f"ALTER TABLE {self.sql_name(table)} ADD COLUMNS ({columns})")
            self._note_write(table)

    def set_properties(self, table: str, columns: Collection[str]) -> None:
        """Give a table the properties that a new one with some columns is made with."""
        self._change(table, f"ALTER TABLE {self.sql_name(table)} SET TBLPROPERTIES ({_properties(table, columns)})")
        self._note_write(table)

    def append(self, rows: DataFrame, table: str, once: Transaction) -> int | None:
        """Append rows; creates the table for the first ones.

        Returns:
            How many rows were written, as the commit tells; None if the transaction has been committed before,
            or by another run at the same moment.
        """
        self.create(table, _nullable_ddl(rows))
        writer = rows.write.format("delta").mode("append")
        try:
            return self._save(writer.option("txnAppId", once.application).option("txnVersion", once.version), table)
        except Exception as error:
            if "DELTA_CONCURRENT_TRANSACTION" in str(error):
                return None
            raise

    def append_always(self, rows: DataFrame, table: str) -> None:
        """Append rows of which a second copy does no harm; creates the table for the first ones."""
        self.create(table, _nullable_ddl(rows))
        writer = rows.write.format("delta").mode("append")
        if table.startswith("ops."):
            # No report tells the versions of the records; looking one up takes as long as the write.
            self._write(writer, table)
            self._report.wrote = True
        else:
            self._save(writer, table)

    def replace(self, rows: DataFrame, table: str, where: str) -> int:
        """Replace the rows that satisfy ``where`` in one commit; returns how many rows were written.

        Nothing in place of nothing is no commit.
        """
        return self._save(rows.write.format("delta").mode("overwrite").option("replaceWhere", where), table) or 0

    def overwrite(self, rows: DataFrame, table: str) -> int:
        """Replace a table, columns included, in one commit; returns how many rows were written."""
        self.create(table, _nullable_ddl(rows))
        return self._save(rows.write.format("delta").mode("overwrite").option("overwriteSchema", "true"), table) or 0

    def merge(
        self,
        rows: DataFrame,
        table: str,
        keys: Sequence[str],
        clauses: str,
        key_range: tuple[object, object] | None = None,
        among: Sequence[object] = (),
    ) -> dict[str, int]:
        """One MERGE of rows into a table by key; no version is written when it changes nothing.

        Args:
            rows: at most one row a key.
            clauses: its WHEN clauses, over ``t`` (the table) and ``s`` (the rows).
            key_range: the least and the greatest value of the first key in ``rows``: files of the table
                with no key between them are not read.
            among: all values of the first key in ``rows``, or none: other rows of the table are not shuffled.

        Returns:
            Numbers of rows: inserted, updated, deleted.

        Raises:
            InternalError: a row of the table has the key of several rows; the keys are named.
        """
        view = f"rows_for_{table.replace('.', '_')}"
        rows.createOrReplaceTempView(view)
        on = same_key(keys, key_range, among)
        statement = f"MERGE INTO {self.sql_name(table)} t USING {quote(view)} s ON {on} {clauses}"
        version = self.log.version_to_compare(table)
        try:
            result = self._change(table, statement)
        except Exception as error:
            if "DELTA_MULTIPLE_SOURCE_ROW_MATCHING_TARGET_ROW_IN_MERGE" in str(error):
                raise InternalError(
                    f"keys that are there more than once among the rows to merge: {_repeated(rows, keys)}",
                    where=table,
                    todo="Report this with the keys and the run's report: the rows of a key are made one before they are merged.",
                ) from error
            raise
        finally:
            self.spark.catalog.dropTempView(view)
        commits = self.log.commits_after(table, version)
        if commits is not None and len(commits) <= 1:
            metrics = commits[0].metrics if commits else {}
            figures = {done: metrics.get(f"numTargetRows{done.capitalize()}", 0) for done in MERGED}
        else:
            # Somebody else has written too, or the log is not at hand: Spark tells, by one more query.
            counts = result.first()
            assert counts is not None
            figures = {done: int(counts[f"num_{done}_rows"]) for done in MERGED}
        if any(figures.values()):
            self._note_write(table)
        return figures

    def update(self, rows: DataFrame, table: str, keys: Sequence[str]) -> int:
        """Set the other columns of ``rows`` in the table's rows with the same keys, in one commit.

        Args:
            rows: at most one row a key.

        Returns:
            How many rows of the table were set; when none was, no version is written.

        Raises:
            InternalError: a row of the table has the key of several rows; the keys are named.
        """
        others = assignments([c for c in rows.columns if c not in keys])
        return self.merge(rows, table, keys, f"WHEN MATCHED THEN UPDATE SET {others}")["updated"]

    def optimize(self, table: str, z_order_by: Sequence[str] = ()) -> tuple[int, int]:
        """Compact a table, clustered by columns when some are named; returns files added and removed."""
        if table.startswith("ops.") and isinstance(self._store, LogStore):
            self._changing()
            return self._store.compact(table)
        order = f" ZORDER BY ({', '.join(map(quote, z_order_by))})" if z_order_by else ""
        done = self._change(table, f"OPTIMIZE {self.sql_name(table)}{order}").select("metrics.*").first()
        assert done is not None
        if done["numFilesAdded"] or done["numFilesRemoved"]:
            self._note_write(table)
        return done["numFilesAdded"], done["numFilesRemoved"]

    def vacuum(self, table: str, retain_hours: int) -> None:
        """Delete files that no version younger than ``retain_hours`` needs."""
        self._change(table, f"VACUUM {self.sql_name(table)} RETAIN {int(retain_hours)} HOURS").collect()

    def delete_batch(self, table: str, batch_id: int) -> None:
        """Take back the rows of a batch that nobody has read yet."""
        if self.rows_of_batch(table, batch_id):
            self._change(table, f"DELETE FROM {self.sql_name(table)} WHERE _batch_id = {int(batch_id)}")  # noqa: S608
            self._note_write(table)

    def delete(self, table: str, condition: str) -> None:
        """Delete the rows that satisfy a condition; no version is written when there are none."""
        counted = self._change(table, f"DELETE FROM {self.sql_name(table)} WHERE {condition}").first()  # noqa: S608
        if counted is None or counted["num_affected_rows"]:
            self._note_write(table)

    def _save(self, writer: DataFrameWriter, table: str) -> int | None:
        """Commit a write; returns how many rows it wrote, None if there was nothing to commit, or Delta knew the transaction."""
        mark = f"{self._mark}-{next(self._marks)}"
        self._write(writer.option("userMetadata", mark), table)
        # It is among the newest ones, unless others write very often.
        commits = (c for most in (5, 1000) for c in self.log.commits(table, most) if c.mark == mark)
        commit = next(commits, None)
        if commit is None:
            return None
        self._note_commit(table, commit)
        return commit.metrics["numOutputRows"] - commit.metrics.get("numCopiedRows", 0)

    def _change(self, table: str, statement: str) -> DataFrame:
        """Run a statement that changes a table; Spark does so at once, not when its result is read."""
        self._fence()
        with self._alone(table):
            return self.spark.sql(statement)

    def _write(self, writer: DataFrameWriter, table: str) -> None:
        self._fence()
        with self._alone(table):
            if self.location.startswith("catalog:"):
                writer.saveAsTable(self.sql_name(table))
            else:
                layer, name = table.split(".")
                writer.save(f"{self.location}/{layer}/{name}")

    @contextmanager
    def _alone(self, table: str) -> Iterator[None]:
        """No other run commits to the table meanwhile, where the store would let it overwrite this one's commit (decision 0060)."""
        if not storage.needs_one_writer(self.location):
            yield
            return
        path = f"{self.location}/{lease.OF_TABLES}/{table}"
        with lease.hold(path, self._report.run_id, self._report.say, patience=PATIENCE, poll=0.2):
            yield

    def _note_write(self, table: str) -> None:
        self._note_commit(table, self.log.commits(table, 1)[0])

    def _note_commit(self, table: str, commit: Commit) -> None:
        self._report.wrote = True
        if not table.startswith("ops."):
            metrics = commit.metrics
            self._report.note(table, version_written=commit.version)
            self._report.count(
                table,
                files_written=metrics.get("numFiles") or metrics.get("numTargetFilesAdded") or 0,
                bytes_written=metrics.get("numOutputBytes") or metrics.get("numTargetBytesAdded") or 0,
            )
