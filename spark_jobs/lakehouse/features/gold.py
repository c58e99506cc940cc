"""Gold as of an instant: from all events, or from an earlier snapshot and the events of those that have changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse import versions
from lakehouse.context import Context
from lakehouse.contracts import SEQUENCE_DDL, Contract
from lakehouse.features import catalogue, changes, customers, products, silver
from lakehouse.features.snapshots import Snapshot
from lakehouse.parallel import side_by_side

TABLES = ("category_preferences", "customer_features", "product_affinity", "product_features")
ENTITIES = ("customers", "products", "transactions", "interactions")
KEPT = {
    "customer_features": {f.name: f.type for f in catalogue.helpers()},
    "product_affinity": {"_spend": catalogue.MONEY},
}
"""What a table keeps beside its contract's columns for the next snapshot, by table."""
MAX_CHANGED = 0.5
"""The share of customers with changes beyond which carrying over the others is not worth it."""


@dataclass(frozen=True)
class Changed:
    """A snapshot to carry over from, and whom not to carry over.

    pairs: (customer_id, product_id) with changed events; customers: (customer_id) of these; movers: and those of which a
        product's category has changed.
    """

    base: Snapshot
    pairs: DataFrame
    customers: DataFrame
    movers: DataFrame

    def unpersist(self) -> None:
        self.pairs.unpersist()
        self.customers.unpersist()
        self.movers.unpersist()


def silver_table(entity: str) -> str:
    """The table of silver that features of an entity are computed from."""
    return "silver.interactions" if entity == "interactions" else f"silver.{entity}_history"


def silver_versions(context: Context) -> dict[str, int]:
    """The newest version of each table of silver that is there."""
    tables = [silver_table(entity) for entity in ENTITIES]
    return {t: context.warehouse.newest_version(t) for t in tables if context.warehouse.exists(t)}


def read_silver(context: Context, at: Mapping[str, int], known_by: datetime | None = None) -> dict[str, DataFrame]:
    """The tables of silver by entity, in the given versions; a table that is not named is empty.

    Args:
        known_by: only what was delivered before this instant is known; None: everything.
    """
    frames = {}
    for entity in ENTITIES:
        contract, table = context.contracts[entity], silver_table(entity)
        ddl = f"{contract.ddl()}, {versions.SEQUENCE} {SEQUENCE_DDL}"
        if entity != "interactions":
            ddl = versions.history_ddl(contract)
        if table in at:
            frame = context.warehouse.read_or_empty(table, ddl, version=at[table])
        else:
            frame = context.warehouse.frame([], ddl)
        if known_by is not None and entity == "interactions":
            frame = frame.where(F.col(f"{versions.SEQUENCE}.received") < F.lit(known_by))
        elif known_by is not None:
            frame = versions.as_known_by(frame, contract, known_by)
        frames[entity] = frame
    return frames


def activity(frames: Mapping[str, DataFrame], as_of: datetime) -> silver.Activity:
    return silver.activity(
        frames["transactions"], frames["interactions"], frames["products"], frames["customers"], as_of
    )


def change_data(context: Context, after: Mapping[str, int], until: Mapping[str, int]) -> dict[str, DataFrame] | None:
    """Change data of silver by entity between two sets of versions; None if Delta has not kept all of it."""
    found = {}
    for entity in ENTITIES:
        table = silver_table(entity)
        if table not in until:
            found[entity] = read_silver(context, {})[entity].withColumn("_change_type", F.lit(""))
            continue
        changed = context.warehouse.changes(table, after.get(table, -1), until[table])
        if changed is None:
            return None
        found[entity] = changed
    return found


def changed_since(
    context: Context, base: Snapshot, frames: Mapping[str, DataFrame], at: Mapping[str, int], as_of: datetime
) -> Changed | None:
    """Whom a snapshot as of an instant must compute anew, if others can be carried over from ``base``."""
    data = change_data(context, base.silver, at)
    if data is None:
        return None
    pairs = changes.pairs(
        frames["transactions"], frames["interactions"], data["transactions"], data["interactions"], base.as_of, as_of
    )
    then = activity(frames, as_of)
    movers = changes.buyers_of_moved_products(
        then.products, snapshot_of(context, "product_features", base), snapshot_of(context, "product_affinity", base)
    )
    pairs = pairs.persist()
    touched = pairs.select("customer_id").distinct().persist()
    return Changed(base, pairs, touched, touched.union(movers).distinct().persist())


def snapshot_of(context: Context, name: str, snapshot: Snapshot) -> DataFrame:
    """A gold table's rows of a snapshot."""
    return _rows_of(context, name, snapshot.as_of)


def _rows_of(context: Context, name: str, as_of: datetime) -> DataFrame:
    frame = context.warehouse.read(f"gold.{name}", KEPT.get(name, {}), version="newest")
    return frame.where(F.col("as_of") == F.lit(as_of))


def publish(
    context: Context, frames: Mapping[str, DataFrame], as_of: datetime, changed: Changed | None, *, small: bool
) -> dict[str, int]:
    """Replace the snapshot of an instant in every gold table, each in one commit; returns the rows written.

    Args:
        small: what is written fits into memory, from which it is taken sooner than it is read again.
    """
    report = context.report
    then = activity(frames, as_of)
    if changed is None:
        theirs = None
        lifelong = customers.lifelong(then)
        affinity = products.product_affinity(then)
        preferences = products.category_preferences(then)
    else:
        whom, base = changed.customers, changed.base
        # Three tables come of the same few events, for which all files of events are read.
        theirs = then.of(changed.movers).persist()
        lifelong = customers.lifelong(theirs.of(whom)).unionByName(
            _others(customers.carried_over(snapshot_of(context, "customer_features", base)), whom)
        )
        affinity = _with_the_others(
            context, products.product_affinity(theirs.of(changed.pairs)), "product_affinity", base, changed.pairs, as_of
        )
        preferences = _with_the_others(
            context, products.category_preferences(theirs), "category_preferences", base, changed.movers, as_of
        )
    rows: dict[str, int] = {}
    kept: list[DataFrame] = []

    def write(name: str, frame: DataFrame) -> DataFrame:
        """Write a table's snapshot; returns it as it was written."""
        frame = _typed(context.contracts[name], frame)
        if small:
            kept.append(frame.persist())
        with report.step(f"publish {name}"):
            rows[f"gold.{name}"] = _replace(context, context.contracts[name], frame, as_of)
        report.say(f"{name}: {rows[f'gold.{name}']:,} rows as of {as_of.isoformat()}")
        return frame if small else _rows_of(context, name, as_of)

    # What follows from a table is made from what was written: to keep a large snapshot takes longer than to read it.
    def publish_products() -> None:
        written = write("product_affinity", affinity)
        write("product_features", products.product_features(then, written))

    def publish_customers() -> None:
        written = write("category_preferences", preferences)
        # Read once for each score.
        unscored = customers.unscored(then, lifelong, written).persist()
        try:
            write("customer_features", customers.customer_features(unscored, as_of))
        finally:
            unscored.unpersist()

    try:
        side_by_side([publish_products, publish_customers])
    finally:
        for frame in kept:
            frame.unpersist()
        if theirs is not None:
            theirs.unpersist()
    return rows


def _with_the_others(
    context: Context, anew: DataFrame, name: str, base: Snapshot, whom: DataFrame, as_of: datetime
) -> DataFrame:
    """Rows computed anew, and those of all other customers as a snapshot has them."""
    kept = _others(snapshot_of(context, name, base), whom).withColumn("as_of", F.lit(as_of).cast("timestamp"))
    return anew.unionByName(kept.select(*anew.columns))


def _others(rows: DataFrame, whom: DataFrame) -> DataFrame:
    return rows.join(whom, whom.columns, "left_anti")


def _typed(contract: Contract, frame: DataFrame) -> DataFrame:
    """The columns that a table has, in its types."""
    columns = [F.col(c.name).cast(c.type).alias(c.name) for c in contract.columns]
    return frame.select(*columns, *[F.col(n).cast(t).alias(n) for n, t in KEPT.get(contract.name, {}).items()])


def _replace(context: Context, contract: Contract, frame: DataFrame, as_of: datetime) -> int:
    table = f"gold.{contract.name}"
    ddl = ", ".join([contract.ddl(), *(f"{n} {t}" for n, t in KEPT.get(contract.name, {}).items())])
    context.warehouse.create(table, ddl, contract.partition_by)
    moment = as_of.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    rows = context.warehouse.replace(frame, table, f"as_of = TIMESTAMP '{moment}'")
    context.report.count(table, rows_written=rows)
    return rows
