"""Gold as of an instant: from all events, or from an earlier snapshot and the events of those that have changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse import versions
from lakehouse.context import Context
from lakehouse.contracts import SEQUENCE_DDL
from lakehouse.features import changes, customer_days, customers, products, silver
from lakehouse.features.publishing import Gold, typed, types_of
from lakehouse.features.snapshots import Snapshot
from lakehouse.parallel import side_by_side

ENTITIES = ("customers", "products", "transactions", "interactions")


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


def stored_days(context: Context, then: silver.Activity) -> DataFrame:
    """Customers' days as of an instant, from gold.customer_days as far as it says how they were then."""
    contract = context.contracts["customer_days"]
    stored = context.warehouse.read(f"gold.{contract.name}", types_of(contract), version="newest")
    unsettled = [r["day"] for r in customer_days.unsettled_days(stored, then.as_of).collect()]
    return customer_days.as_of(stored, then, customer_days.ranges(unsettled))


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
    context: Context,
    gold: Gold,
    base: Snapshot,
    frames: Mapping[str, DataFrame],
    at: Mapping[str, int],
    as_of: datetime,
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
        then.products, gold.as_of("product_features", base.as_of), gold.as_of("product_affinity", base.as_of)
    )
    pairs = pairs.persist()
    touched = pairs.select("customer_id").distinct().persist()
    return Changed(base, pairs, touched, touched.union(movers).distinct().persist())


def publish(
    context: Context,
    gold: Gold,
    frames: Mapping[str, DataFrame],
    as_of: datetime,
    changed: Changed | None,
    *,
    small: bool,
) -> dict[str, int]:
    """Set the snapshot of an instant into every gold table, each in one commit; returns the rows written.

    Args:
        small: a snapshot fits into memory, from which it is taken sooner than it is read again.
    """
    report = context.report
    then = activity(frames, as_of)
    theirs, pairs, movers = None, None, None
    from_events = small and changed is None
    days = customer_days.of_activity(then).persist() if from_events else stored_days(context, then)
    if changed is None:
        lifelong = customers.lifelong(days)
        affinity = products.product_affinity(then)
        preferences = products.category_preferences(then)
    else:
        base = changed.base.as_of
        # Three tables come of the same few events, for which all files of events are read.
        theirs = then.of(changed.movers).persist()
        lifelong = customers.lifelong(days.join(changed.customers, "customer_id", "left_semi")).unionByName(
            _others(customers.carried_over(gold.as_of("customer_features", base)), changed.customers)
        )
        affinity = products.product_affinity(theirs.of(changed.pairs))
        preferences = products.category_preferences(theirs)
        if base == as_of or (base == gold.previous(as_of) and not gold.has(as_of)):
            # What the tables say of the base is what they say of this instant, too.
            pairs, movers = changed.pairs, changed.movers
        else:
            affinity = _with_the_others(affinity, gold.as_of("product_affinity", base), changed.pairs)
            preferences = _with_the_others(preferences, gold.as_of("category_preferences", base), changed.movers)
    rows: dict[str, int] = {}
    kept: list[DataFrame] = []

    def write(name: str, frame: DataFrame, only: DataFrame | None = None) -> DataFrame:
        """Write a table's snapshot; returns the whole of it as it was written."""
        frame = typed(context.contracts[name], frame)
        if small:
            kept.append(frame.persist())
        with report.step(f"publish {name}"):
            rows[f"gold.{name}"] = gold.put(name, frame, as_of, only)
        report.say(f"{name}: {rows[f'gold.{name}']:,} rows written as of {as_of.isoformat()}")
        return frame if small and only is None else gold.as_of(name, as_of)

    # What follows from a table is made from what was written: to keep a large snapshot takes longer than to read it.
    def publish_products() -> None:
        written = write("product_affinity", affinity, pairs)
        write("product_features", products.product_features(then, written))

    def publish_customers() -> None:
        written = write("category_preferences", preferences, movers)
        # Read once for each score.
        unscored = customers.unscored(then, lifelong, customers.windowed(days, then), written).persist()
        try:
            write("customer_features", customers.customer_features(unscored, as_of))
        finally:
            unscored.unpersist()

    try:
        side_by_side([publish_products, publish_customers])
    finally:
        for frame in (*kept, days):
            frame.unpersist()
        if theirs is not None:
            theirs.unpersist()
    return rows


def _with_the_others(anew: DataFrame, base: DataFrame, whom: DataFrame) -> DataFrame:
    """Rows computed anew, and those of all others as an earlier snapshot has them."""
    return anew.unionByName(_others(base, whom).select(*anew.columns))


def _others(rows: DataFrame, whom: DataFrame) -> DataFrame:
    return rows.join(whom, whom.columns, "left_anti")
