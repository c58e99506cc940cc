"""gold.customer_features: one row per customer of the population as of an instant."""

from __future__ import annotations

from datetime import datetime, timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse.features import catalogue, customer_days
from lakehouse.features.catalogue import Feature
from lakehouse.features.silver import Activity

SCORES = ("r_score", "f_score", "m_score", "segment")


def lifelong(days: DataFrame) -> DataFrame:
    """customer_id and the aggregates without a window, of days as ``customer_days.of_activity`` gives them."""
    return days.groupBy("customer_id").agg(*[_column(f, F.lit(True)) for f in catalogue.lifelong()])


def windowed(days: DataFrame, activity: Activity) -> DataFrame:
    """customer_id and the aggregates with a window, of everyone who is seen in the longest one.

    Args:
        days: as of the activity's instant.
    """
    starts = {n: activity.as_of - timedelta(days=n) for n in catalogue.windows()}
    recent = days.where(F.col("day") >= F.lit(min(starts.values()).date()))
    parts = customer_days.parts(recent, activity, starts.values())
    return parts.groupBy("customer_id").agg(
        *[_column(f, F.col("start") >= F.lit(starts[f.window_days or 0])) for f in catalogue.windowed()]
    )


def carried_over(features: DataFrame) -> DataFrame:
    """``lifelong`` as it stands in a snapshot of gold.customer_features."""
    names = [f.name for f in catalogue.lifelong()]
    seen = (F.col("_transactions") > 0) | (F.col("total_interactions") > 0)
    return features.where(seen).select("customer_id", *names)


def unscored(activity: Activity, lifelong: DataFrame, windowed: DataFrame, preferences: DataFrame) -> DataFrame:
    """Everything but the scores, and what follows from them, with customer_id.

    The population is everyone registered, or seen in an event, before the instant. A customer known
    from events alone (an orphan) has no registration_date.

    Args:
        lifelong, windowed: what the functions of these names give.
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
        .join(windowed, "customer_id", "left")
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


def _column(feature: Feature, counts: Column) -> Column:
    return feature.expression(counts).cast(feature.type).alias(feature.name)


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
