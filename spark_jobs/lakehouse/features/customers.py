"""gold.customer_features: one row per customer of the population as of an instant."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse.features import catalogue
from lakehouse.features.catalogue import INTERACTIONS, TRANSACTIONS, Feature
from lakehouse.features.silver import Activity

SCORES = ("r_score", "f_score", "m_score", "segment")


def lifelong(activity: Activity) -> DataFrame:
    """customer_id and the aggregates without a window, of everyone who is seen in an event."""
    return _aggregates(activity, catalogue.lifelong(TRANSACTIONS), catalogue.lifelong(INTERACTIONS))


def windowed(activity: Activity) -> DataFrame:
    """customer_id and the aggregates with a window, of everyone who is seen in the longest one."""
    recent = activity.since(catalogue.longest_window())
    return _aggregates(recent, catalogue.windowed(TRANSACTIONS), catalogue.windowed(INTERACTIONS))


def carried_over(features: DataFrame) -> DataFrame:
    """``lifelong`` as it stands in a snapshot of gold.customer_features."""
    names = [f.name for source in (TRANSACTIONS, INTERACTIONS) for f in catalogue.lifelong(source)]
    seen = (F.col("_transactions") > 0) | (F.col("total_interactions") > 0)
    return features.where(seen).select("customer_id", *names)


def unscored(activity: Activity, lifelong: DataFrame, preferences: DataFrame) -> DataFrame:
    """Everything but the scores, and what follows from them, with customer_id.

    The population is everyone registered, or seen in an event, before the instant. A customer known
    from events alone (an orphan) has no registration_date.

    Args:
        lifelong: what the function of this name gives.
        preferences: gold.category_preferences as of the same instant.
    """
    as_of = F.lit(activity.as_of).cast("timestamp")
    favourite = preferences.where(F.col("rank") == 1).select(
        "customer_id", F.col("category").alias("favourite_category")
    )
    registered = F.col("registration_date").isNull() | (F.col("registration_date") < as_of)
    joined = (
        activity.customers.join(lifelong.withColumn("_seen", F.lit(True)), "customer_id", "full")
        .where(F.coalesce("_seen", F.lit(False)) | registered)
        .drop("_seen")
        .join(windowed(activity), "customer_id", "left")
        .join(favourite, "customer_id", "left")
    )
    features = joined.select(*[_zero_when_absent(name) for name in joined.columns])
    for f in catalogue.FEATURES:
        if f.source == catalogue.CUSTOMER and f.name not in SCORES:
            features = features.withColumn(f.name, f.expression(as_of).cast(f.type))
    return features


def customer_features(features: DataFrame, as_of: datetime) -> DataFrame:
    """The columns of the catalogue, helpers included, with customer_id and as_of.

    Args:
        features: what ``unscored`` gives. It is read once for itself and once for each score, so that it is worth keeping.
    """
    scored = features
    for name, value, worse_is_more in (
        ("r_score", F.col("days_since_last_purchase"), True),
        ("f_score", F.col("purchase_frequency"), False),
        ("m_score", F.col("total_spend"), False),
    ):
        ranked = _scores(features, name, value, worse_is_more=worse_is_more)
        keyed = scored.withColumn("_value", F.when(F.col("_purchases") > 0, value))
        scored = keyed.join(ranked, "_value", "left").drop("_value")
    scored = scored.withColumn("segment", catalogue.segment())
    columns = [*catalogue.published(), *catalogue.helpers()]
    return scored.select(
        "customer_id",
        F.lit(as_of).cast("timestamp").alias("as_of"),
        *[F.col(f.name).cast(f.type).alias(f.name) for f in columns],
    )


def _aggregates(
    activity: Activity, of_transactions: Sequence[Feature], of_interactions: Sequence[Feature]
) -> DataFrame:
    buyer = Window.partitionBy("customer_id")
    transactions = activity.transactions.where(F.col("customer_id").isNotNull()).withColumn(
        "first_day", F.min(F.when(F.col("completed"), F.col("day"))).over(buyer)
    )
    interactions = activity.interactions.where(F.col("customer_id").isNotNull())
    joined = _aggregate(transactions, of_transactions, "date", activity).join(
        _aggregate(interactions, of_interactions, "timestamp", activity), "customer_id", "full"
    )
    return joined.select(*[_zero_when_absent(name) for name in joined.columns])


def _aggregate(events: DataFrame, features: Sequence[Feature], time: str, activity: Activity) -> DataFrame:
    def counts(f: Feature) -> Column:
        return F.lit(True) if f.window_days is None else F.col(time) >= activity.days_before(f.window_days)

    return events.groupBy("customer_id").agg(*[f.expression(counts(f)).cast(f.type).alias(f.name) for f in features])


def _zero_when_absent(name: str) -> Column:
    """Counts and sums of a customer without events are 0; everything else is null."""
    types = {f.name: f.type for f in catalogue.FEATURES if f.source != catalogue.CUSTOMER}
    if types.get(name) in ("int", "bigint", catalogue.MONEY):
        return F.coalesce(F.col(name), F.lit(0).cast(types[name])).alias(name)
    return F.col(name)


def _scores(features: DataFrame, name: str, value: Column, *, worse_is_more: bool) -> DataFrame:
    """(_value, score): 1 + floor(5 * buyers strictly worse / buyers), for each value that a buyer has.

    Ranks are taken over the distinct values with their numbers of buyers.
    """
    worst_first = Window.orderBy(F.desc("_value") if worse_is_more else F.asc("_value"))
    values = features.where(F.col("_purchases") > 0).groupBy(value.alias("_value")).agg(F.count("*").alias("_buyers"))
    worse = F.coalesce(F.sum("_buyers").over(worst_first.rowsBetween(Window.unboundedPreceding, -1)), F.lit(0))
    everyone = F.sum("_buyers").over(Window.partitionBy(F.lit(1)))
    return values.select("_value", (F.floor(5 * worse / everyone) + 1).cast("int").alias(name))
