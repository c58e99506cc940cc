"""The tables of gold, as snapshots are set into them, taken out of them, and read.

``customer_features`` has the rows of each snapshot, for a customer's recency is another every day. A row of the other tables
holds from one snapshot until another, and is written when its values change: they are timelines.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse import sizes
from lakehouse.context import Context
from lakehouse.contracts import Contract
from lakehouse.features import catalogue, customer_days, timelines
from lakehouse.features.timelines import FROM, GONE, TO
from lakehouse.sql import assignments, insertion, literal, quote
from lakehouse.tables import FIRST_ROWS, Warehouse

SNAPSHOTS = ("customer_features",)
TIMELINES = ("category_preferences", "product_affinity", "product_features")
TABLES = (*TIMELINES, *SNAPSHOTS)
"""Those of which a snapshot consists; ``customer_days`` is of no instant."""
KEPT = {
    "customer_days": {"_order_ids": "array<string>", customer_days.SETTLED: "timestamp"},
    "customer_features": {f.name: f.type for f in catalogue.helpers()},
    "product_affinity": {"_spend": catalogue.MONEY},
}
"""What a table keeps beside its contract's columns, for snapshots to be made from, by table."""


class Gold:
    """The tables of gold of one warehouse, at a moment when the snapshots of some instants are in them.

    Args:
        kept: these instants, those included of which a killed run may have written some tables.
    """

    def __init__(self, context: Context, kept: Collection[datetime]) -> None:
        self._context, self._kept = context, sorted(kept)
        self._warehouse = context.warehouse

    def previous(self, at: datetime) -> datetime | None:
        """The kept instant before another."""
        return max((t for t in self._kept if t < at), default=None)

    def has(self, at: datetime) -> bool:
        return at in self._kept

    def as_of(self, name: str, at: datetime) -> DataFrame:
        """A table's rows of the snapshot of an instant, with the columns of its values and keys."""
        rows = self._rows(name)
        if name in SNAPSHOTS:
            return rows.where(F.col("as_of") == F.lit(at))
        return timelines.as_of(rows, at).drop(FROM, TO)

    def put(self, name: str, snapshot: DataFrame, at: datetime, only: DataFrame | None = None) -> int:
        """Set what a table says of an instant, in one commit; returns how many rows were written.

        Args:
            snapshot: the rows as of the instant, in the types of the table (see ``typed``).
            only: some key columns of those whose rows may be others than the table has; None: anyone's. It is not for tables of
                whole snapshots.
        """
        contract = self._context.contracts[name]
        ddl = ", ".join(f"{quote(n)} {t}" for n, t in types_of(contract).items())
        self._warehouse.create(f"gold.{name}", ddl, contract.partition_by)
        if name in SNAPSHOTS:
            rows = self._warehouse.replace(snapshot, f"gold.{name}", f"as_of = {literal(at)}")
        else:
            rows = self._put_into_timelines(contract, snapshot, at, only)
        self._context.report.count(f"gold.{name}", rows_written=rows)
        return rows

    def remove(self, instants: Collection[datetime]) -> None:
        """Take the snapshots of some of the kept instants out of every table."""
        kept = [t for t in self._kept if t not in instants]
        for name in TIMELINES:
            contract = self._context.contracts[name]
            keys, values = columns_of(contract)
            rows = self._rows(name)
            touched = timelines.bounded_by(rows, sorted(instants)).select(*keys).distinct()
            before = rows.join(touched, keys, "left_semi")
            with held(before):
                after = timelines.without(before, keys, values, kept)
                self._merge(contract, timelines.changes(before, after, keys, values))
        listed = ", ".join(map(literal, sorted(instants)))
        for name in SNAPSHOTS:
            self._warehouse.delete(f"gold.{name}", f"as_of IN ({listed})")

    def _put_into_timelines(self, contract: Contract, snapshot: DataFrame, at: datetime, only: DataFrame | None) -> int:
        table = f"gold.{contract.name}"
        keys, values = columns_of(contract)
        following = min((t for t in self._kept if t > at), default=None)
        size = self._warehouse.size(table)
        if not size:
            end = F.lit(following).cast("timestamp")
            first = snapshot.select(*keys, F.lit(at).cast("timestamp").alias(FROM), end.alias(TO), *values)
            written = self._warehouse.append(first, table, FIRST_ROWS)
            if written is not None:
                return written
        rows = self._rows(contract.name)
        if only is None and size < sizes.REWRITTEN_BYTES:
            everyone = snapshot.withColumn("_there", F.lit(True))
            made = timelines.with_snapshot(rows, everyone, keys, values, at, following)
            return self._warehouse.replace(made.select(*types_of(contract)), table, "true")
        if only is not None:
            rows = rows.join(only, only.columns, "left_semi")
        different = timelines.differing(rows, snapshot, keys, values, at)
        with held(different):
            before = rows.join(different.select(*keys), keys, "left_semi")
            after = timelines.with_snapshot(before, different, keys, values, at, following)
            return self._merge(contract, timelines.changes(before, after, keys, values))

    def _merge(self, contract: Contract, changes: DataFrame) -> int:
        keys, _ = columns_of(contract)
        columns = list(types_of(contract))
        return merge_changes(self._warehouse, f"gold.{contract.name}", [*keys, FROM], columns, changes)

    def _rows(self, name: str) -> DataFrame:
        return self._warehouse.read(f"gold.{name}", KEPT.get(name, {}), version="newest")


def types_of(contract: Contract) -> dict[str, str]:
    """The columns of a table, in their order, with their types."""
    return {c.name: c.type for c in contract.columns} | KEPT.get(contract.name, {})


def typed(contract: Contract, frame: DataFrame) -> DataFrame:
    """The columns of a snapshot that a table has, in its types."""
    types = {name: type_ for name, type_ in types_of(contract).items() if name not in (FROM, TO)}
    return frame.select(*[F.col(name).cast(type_).alias(name) for name, type_ in types.items()])


def columns_of(contract: Contract) -> tuple[list[str], list[str]]:
    """The keys and the values of a table of timelines."""
    keys = [k for k in contract.keys if k != FROM]
    own = [c for c in contract.column_names if c not in (*keys, FROM, TO)]
    return keys, [*own, *KEPT.get(contract.name, {})]


def merge_changes(
    warehouse: Warehouse,
    table: str,
    keys: Sequence[str],
    columns: Sequence[str],
    changes: DataFrame,
    key_range: tuple[object, object] | None = None,
) -> int:
    """MERGE rows into a table of gold, and take out those that are ``GONE``; returns how many rows were written.

    Args:
        key_range: the least and the greatest value of the first key.
    """
    clauses = (
        f"WHEN MATCHED AND s.{GONE} THEN DELETE "
        f"WHEN MATCHED THEN UPDATE SET {assignments(columns)} WHEN NOT MATCHED THEN {insertion(columns)}"
    )
    with held(changes):
        done = warehouse.merge(changes, table, keys, clauses, key_range)
    return done["inserted"] + done["updated"]


@contextmanager
def held(frame: DataFrame) -> Iterator[None]:
    """Within, a frame is kept once it has been computed."""
    frame.persist()
    try:
        yield
    finally:
        frame.unpersist()
