"""The merge stage: plan over new staged batches, fold them into history and current state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse import sizes, versions
from lakehouse.context import Context
from lakehouse.contracts import SEQUENCE_DDL, Contract, select_entities
from lakehouse.merging.upserts import Upsert, upsert
from lakehouse.runtime.journal import Transaction
from lakehouse.runtime.progress import Batch, End, Work, to_merge
from lakehouse.runtime.stages import Stage
from lakehouse.session import rewriting_changed_files
from lakehouse.sql import quote
from lakehouse.tables import Warehouse


def run(context: Context) -> None:
    """Merge every staged batch that has not been merged."""
    stage = Merge(context)
    stage.carry_out()
    stage.failures.raise_first()


class Merge(Stage):
    """A batch is an entity's rows of some validated batches."""

    name, upstream = "merge", "validate"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._wanted = select_entities(context.entities, context.only)

    def takes(self, batch: Batch) -> bool:
        return batch.unit in self._wanted

    def pending(self, undone: Sequence[Batch]) -> list[Work]:
        return to_merge(self.progress.known, self._wanted)

    def rows(self, work: Sequence[Work | Batch]) -> float:
        staged = {b.batch_id: b.rows for b in self.progress.finished(self.upstream)}
        return sum(staged[i].get(f"staged.{w.unit}", 0) for w in work for i in w.inputs if i in staged)

    def beside(self, batches: Sequence[Batch]) -> list[str]:
        return [table for b in batches for table in (f"silver.{b.unit}", f"silver.{b.unit}_history")]

    @contextmanager
    def prepared(self, batches: Sequence[Batch]) -> Iterator[None]:
        warehouse = self.context.warehouse
        small = max(map(warehouse.size, self.beside(batches))) <= sizes.MERGED_WHOLE_BYTES
        with rewriting_changed_files(warehouse.spark, small):
            yield

    def run(self, batch: Batch) -> End:
        return _merge_batch(self.context, self._wanted[batch.unit], batch)


def _merge_batch(context: Context, contract: Contract, batch: Batch) -> End:
    report, warehouse = context.report, context.warehouse
    warehouse.note_read(f"staged.{contract.name}")
    types = {c.name: c.type for c in contract.columns}
    staged = warehouse.batches(f"staged.{contract.name}", batch.inputs, types)
    silver = f"silver.{contract.name}"
    with report.step(f"merge {contract.name}"):
        key = contract.keys[0]
        figures = (F.count("*").alias("rows"), F.count_distinct(*contract.keys).alias("keys"), F.min(key), F.max(key))
        counted = staged.agg(*figures).first()
        assert counted is not None
        new = NewVersions(
            rows=staged,
            key_range=(counted[2], counted[3]),
            is_small=counted[0] <= sizes.LITTLE_ROWS,
            transaction=batch.transaction(silver),
        )
        changes = merge(warehouse, contract, new)
    rows, keys = counted["rows"], counted["keys"]
    unchanged = keys - sum(changes.values())
    report.count(silver, rows_in=rows, keys_in=keys, repeated_keys=rows - keys, unchanged=unchanged, **changes)
    if rows > keys:
        report.warn(
            f"{contract.name}: {rows - keys:,} of {rows:,} rows repeat a key of the same batch; the sequence decides"
        )
    report.say(
        f"{contract.name}: {rows:,} rows, {keys:,} keys: {changes['inserted']:,} inserted, {changes['updated']:,} "
        f"updated, {changes['deleted']:,} deleted"
    )
    return End(rows={silver: rows})


@dataclass(frozen=True)
class NewVersions:
    """New versions of an entity's keys.

    Attributes:
        rows: the contract's columns, ``_deleted`` and ``_sequence``; any number of versions a key, in any order.
        key_range: the least and the greatest value of the first key in ``rows``.
        is_small: ``rows``, and all versions of their keys, fit into the memory of each process.
        transaction: of the batch that they are, the same whenever it is merged, for the history as for the current state;
            see ``upserts.py: upsert``.
    """

    rows: DataFrame
    key_range: tuple[object, object]
    is_small: bool = False
    transaction: Transaction | None = None


def merge(warehouse: Warehouse, contract: Contract, new: NewVersions) -> dict[str, int]:
    """Merge versions of keys into the tables of silver.

    Returns:
        Numbers of keys in ``silver.<entity>``: inserted, updated, deleted.
    """
    warehouse.create(
        f"silver.{contract.name}", f"{contract.ddl()}, {versions.SEQUENCE} {SEQUENCE_DDL}", contract.partition_by
    )
    if contract.merge_mode == "first":
        return _merge_first(warehouse, contract, new)
    return _merge_history(warehouse, contract, new)


def _merge_first(warehouse: Warehouse, contract: Contract, new: NewVersions) -> dict[str, int]:
    how = Upsert(
        keys=contract.keys,
        columns=[*contract.column_names, versions.SEQUENCE],
        update_when=f"s.{versions.SEQUENCE} < t.{versions.SEQUENCE}",
        key_range=new.key_range,
        is_small=new.is_small,
    )
    first = versions.earliest(new.rows, contract)
    return upsert(warehouse, first, f"silver.{contract.name}", how, transaction=new.transaction)


def _merge_history(warehouse: Warehouse, contract: Contract, new: NewVersions) -> dict[str, int]:
    """Rebuild the history of each key in the batch, each key's in one commit, then its current state."""
    keys, table = contract.keys, f"silver.{contract.name}_history"
    warehouse.create(table, versions.history_ddl(contract))
    of_history = Upsert(
        keys=[*keys, versions.SEQUENCE],
        columns=versions.history_columns(contract),
        update_when=_differs(set(versions.history_columns(contract)) - {*keys, versions.SEQUENCE}),
        delete_when="s._gone",
        key_range=new.key_range,
        is_small=new.is_small,
        whole=keys,
    )
    before = of_history.belonging(new.rows, warehouse.read(table, version="newest"))
    if new.is_small:
        before = before.persist()
    after = versions.build_scd2(
        versions.as_versions(new.rows, contract).unionByName(versions.explode_versions(before, contract)), contract
    ).persist()
    of_current = Upsert(
        keys=keys,
        columns=[*contract.column_names, versions.SEQUENCE],
        update_when=_differs({*contract.column_names, versions.SEQUENCE} - {*keys}),
        delete_when=f"s.{versions.DELETED}",
        key_range=new.key_range,
        is_small=new.is_small,
    )
    try:
        gone = before.join(after, [*keys, versions.SEQUENCE], "left_anti").withColumn("_gone", F.lit(True))
        intervals = after.withColumn("_gone", F.lit(False)).unionByName(gone)
        upsert(warehouse, intervals, table, of_history, transaction=new.transaction, before=before)
        state = versions.current(after, contract)
        return upsert(warehouse, state, f"silver.{contract.name}", of_current, transaction=new.transaction)
    finally:
        after.unpersist()
        before.unpersist()


def _differs(columns: set[str]) -> str:
    return " OR ".join(f"NOT (s.{quote(c)} <=> t.{quote(c)})" for c in sorted(columns))
