"""Append-only tables of small records, such as those of ``ops``: a dataclass is a row, and no Spark is needed.

Where only a catalog knows where a table lies, Spark reads and writes the same tables (``runtime/catalog_store.py``).
"""

from __future__ import annotations

import dataclasses
import threading
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake import Transaction as AppTransaction
from deltalake.exceptions import CommitFailedError, DeltaError

from lakehouse import lease, sizes
from lakehouse.errors import LakehouseError
from lakehouse.instants import of_micros
from lakehouse.runtime.delta_log import DeltaLog, arrow, one_of, selected

T = TypeVar("T")
Where = Mapping[str, Collection[str | int]]
"""Of some columns, the values that rows must have."""
PROPERTIES = {
    "delta.checkpointPolicy": "classic",
    # Each run adds a few versions, and a stream one every few seconds.
    "delta.checkpointInterval": "20",
    # Nobody reads an old version of them.
    "delta.logRetentionDuration": "interval 7 days",
}
ATTEMPTS = 10
"""How often an append is made, each time after somebody has deleted records meanwhile."""
TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), datetime: pa.timestamp("us", "UTC")}


@dataclass(frozen=True)
class Transaction:
    """What makes a write happen once: a later write with the same application and version is skipped.

    Derived from a recorded plan, never from the clock, so that a retry writes the same or nothing.
    """

    application: str
    version: int


class Store(Protocol):
    """Where the table of a journal is kept."""

    def read(self, table: str, columns: Sequence[str], where: Where) -> pa.Table:
        """The columns that are there, of the rows that are asked for; without any column while there is no table."""

    def append(self, table: str, rows: pa.Table, once: Transaction | None) -> bool:
        """Add rows, in one commit; false if the transaction has been committed before, or by another writer just now."""

    def delete(self, table: str, condition: str) -> None:
        """Delete rows by a condition in SQL."""

    def compact(self, table: str) -> tuple[int, int]:
        """Make few files of many; returns the numbers of files added and removed."""


class Journal(Generic[T]):
    """One table of records."""

    def __init__(self, store: Store, table: str, record: type[T], changing: Callable[[], None] = lambda: None) -> None:
        """
        Args:
            record: a frozen dataclass; its fields are the table's columns.
            changing: called before each change; may raise.
        """
        self._store, self.table, self._record, self._changing = store, table, record, changing
        self.schema = schema_of(record)

    def rows(self, columns: Sequence[str] = (), where: Where = MappingProxyType({})) -> pa.Table:
        """Records as a table of Arrow, where a list of objects would be too many.

        Args:
            columns: in this order; default: all.
            where: the values that a column must have.
        """
        names = list(columns) or self.schema.names
        found = self._store.read(self.table, names, where)
        if not found.num_columns:
            return pa.Table.from_batches([], pa.schema([self.schema.field(name) for name in names]))
        return pa.table({
            name: found[name].cast(self.schema.field(name).type) if name in found.column_names
            else pa.nulls(found.num_rows, self.schema.field(name).type)
            for name in names
        })  # fmt: skip

    def read(self, **where: Collection[str | int]) -> list[T]:
        """All records, or those of which some columns have the values that are named; in no order."""
        kinds = {f.name: f.type for f in self.schema}
        rows = self.rows(where=where)
        # As numbers: of instants Arrow makes objects of Python by way of pandas.
        plain = pa.schema([pa.field(n, pa.int64() if pa.types.is_timestamp(k) else k) for n, k in kinds.items()])
        return [
            self._record(**{name: _value(value, kinds[name]) for name, value in row.items()})
            for row in rows.cast(plain).to_pylist()
        ]

    def append(self, records: Sequence[T], once: Transaction | None = None) -> bool:
        """Add records, in one commit; creates the table for the first ones.

        Returns:
            False if the transaction has been committed before, or by another run at the same moment.
        """
        if not records:
            return True
        self._changing()
        rows = [{name: _plain(getattr(r, name)) for name in self.schema.names} for r in records]
        return self._store.append(self.table, pa.Table.from_pylist(rows, schema=self.schema), once)

    def delete(self, condition: str) -> None:
        """Delete records by a condition in SQL; there is no commit if there are none."""
        self._changing()
        self._store.delete(self.table, condition)

    def compact(self) -> tuple[int, int]:
        """Make few files of many; returns the numbers of files added and removed."""
        self._changing()
        return self._store.compact(self.table)


class LogStore:
    """Tables that deltalake can open."""

    def __init__(self, log: DeltaLog) -> None:
        self._log = log
        self._writing = threading.Lock()

    def read(self, table: str, columns: Sequence[str], where: Where) -> pa.Table:
        found = self._log.newest(table)
        if found is None:
            return pa.table({})
        there = [f.name for f in found.schema().fields]
        conditions = [one_of(f'"{c}"', values) if c in there else "false" for c, values in where.items()]
        chosen = ", ".join(f'"{c}"' for c in columns if c in there)
        query = f"SELECT {chosen} FROM t"  # noqa: S608
        if conditions:
            query += f" WHERE {' AND '.join(conditions)}"
        return selected(found, query)

    def append(self, table: str, rows: pa.Table, once: Transaction | None) -> bool:
        ours = [AppTransaction(once.application, once.version)] if once else None
        with self._writing:
            for attempt in range(ATTEMPTS):
                found = self._log.newest(table) or self._create(table, rows.schema)
                if once and (found.transaction_version(once.application) or -1) >= once.version:
                    return False
                others = set(rows.column_names) ^ {f.name for f in found.schema().fields}
                try:
                    write_deltalake(
                        found, rows, mode="append", schema_mode="merge" if others else None,
                        commit_properties=CommitProperties(app_transactions=ours),
                    )  # fmt: skip
                    break
                except CommitFailedError as error:
                    self._log.forget(table)
                    if once and "Concurrent transaction" in str(error):
                        return False
                    # A delete meanwhile: deltalake takes an append for one that reads.
                    if "deleted data" not in str(error) or attempt + 1 == ATTEMPTS:
                        raise
            self._keep_few_files(table, found)
            return True

    def _keep_few_files(self, table: str, found: DeltaTable) -> None:
        """So that what it takes to read the table does not grow with every record."""
        held = arrow(found.get_add_actions(flatten=True))["size_bytes"].to_pylist()
        if sum(size < sizes.JOURNAL_FILE_BYTES for size in held) <= sizes.JOURNAL_FILES:
            return
        # The record is made; tidying can be left to the next one.
        with suppress(LakehouseError, OSError, DeltaError):
            self._compact(table, 8 * sizes.JOURNAL_FILE_BYTES, patience=0)

    def _create(self, table: str, schema: pa.Schema) -> DeltaTable:
        try:
            return DeltaTable.create(
                self._log.address(table), schema, configuration=PROPERTIES,
                commit_properties=CommitProperties(max_commit_retries=0), storage_options=self._log.options,
            )  # fmt: skip
        except DeltaError:
            # Another run has made it at the same moment.
            found = self._log.newest(table)
            if found is None:
                raise
            return found

    def delete(self, table: str, condition: str) -> None:
        with self._writing, self._alone(table) as found:
            if found is not None:
                found.delete(condition)

    def compact(self, table: str) -> tuple[int, int]:
        with self._writing:
            return self._compact(table)

    def _compact(
        self, table: str, target_size: int | None = None, patience: float = 2 * lease.STALE
    ) -> tuple[int, int]:
        with self._alone(table, patience) as found:
            if found is None:
                return 0, 0
            done = found.optimize.compact(target_size=target_size)
            return done["numFilesAdded"], done["numFilesRemoved"]

    @contextmanager
    def _alone(self, table: str, patience: float = 2 * lease.STALE) -> Iterator[DeltaTable | None]:
        """The newest version, of which no other run takes files away meanwhile.

        Of two who do, deltalake commits both, and then rows are there twice.
        """
        path = f"{self._log.location}/{lease.OF_TABLES}/{table}"
        with lease.hold(path, "journal", lambda text: None, patience=patience, poll=0.05):
            yield self._log.newest(table)


def schema_of(record: type) -> pa.Schema:
    """The columns of a dataclass; ``Annotated[int, pa.int32()]`` asks for a type of its own."""
    hints = typing.get_type_hints(record, include_extras=True)
    return pa.schema([pa.field(f.name, _type(hints[f.name])) for f in dataclasses.fields(record)])


def _type(hint: Any) -> pa.DataType:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return arguments[1]
    if origin in (types.UnionType, typing.Union):
        (hint,) = (a for a in arguments if a is not types.NoneType)
        return _type(hint)
    if origin is tuple:
        return pa.list_(_type(arguments[0]))
    if origin is Mapping:
        return pa.map_(*map(_type, arguments))
    return TYPES[hint]


def _value(value: Any, kind: pa.DataType) -> Any:
    """A value as Arrow gives it, as a record has it."""
    if value is None:
        return None
    if pa.types.is_map(kind):
        return dict(value)
    if pa.types.is_timestamp(kind):
        return of_micros(value)
    return tuple(value) if pa.types.is_list(kind) else value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return list(value.items())
    return list(value) if isinstance(value, tuple) else value
