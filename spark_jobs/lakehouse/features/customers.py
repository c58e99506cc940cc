"""gold.customer_features: one row per customer of the population as of an instant."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse.features import catalogue
from lakehouse.features.silver import Activity


def population(activity: Activity) -> DataFrame:
    """customer_id, registration_date of everyone registered, or seen in an event, before the instant.

    A customer known from events alone (an orphan) has no registration_date.
    """
    registered = activity.customers.where(
        F.col("registration_date").isNull() | (F.col("registration_date") < F.lit(activity.as_of))
    ).select("customer_id")
    seen = activity.transactions.select("customer_id").union(activity.interactions.select("customer_id"))
    everyone = registered.union(seen.where(F.col("customer_id").isNotNull())).distinct()
    return everyone.join(activity.customers, "customer_id", "left")


def customer_features(activity: Activity, preferences: DataFrame) -> DataFrame:
    """The columns of the catalogue, with customer_id and as_of.

    Args:
        preferences: gold.category_preferences as of the same instant.
    """
    as_of = activity.as_of
    buyer = Window.partitionBy("customer_id")
    transactions = activity.transactions.where(F.col("customer_id").isNotNull()).withColumn(
        "first_day", F.min(F.when(F.col("completed"), F.col("day"))).over(buyer)
    )
    interactions = activity.interactions.where(F.col("customer_id").isNotNull())
    favourite = preferences.where(F.col("rank") == 1).select(
        "customer_id", F.col("category").alias("favourite_category")
    )
    joined = (
        population(activity)
        .join(_aggregate(transactions, "transactions", activity), "customer_id", "left")
        .join(_aggregate(interactions, "interactions", activity), "customer_id", "left")
        .join(favourite, "customer_id", "left")
    )
    counted = joined.select(*[_zero_when_absent(joined, c) for c in joined.columns])
    scores = {"r_score", "f_score", "m_score", "segment"}
    features = counted
    for f in catalogue.by_source("customer"):
        if f.name not in scores:
            features = features.withColumn(f.name, f.expression(as_of).cast(f.type))
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
    return scored.select(
        "customer_id",
        F.lit(as_of).cast("timestamp").alias("as_of"),
        *[F.col(f.name).cast(f.type).alias(f.name) for f in catalogue.published()],
    )


def _aggregate(events: DataFrame, source: str, activity: Activity) -> DataFrame:
    features = catalogue.by_source(source)
    return events.groupBy("customer_id").agg(
        *[f.expression(activity.as_of).cast(f.type).alias(f.name) for f in features]
    )


def _zero_when_absent(joined: DataFrame, name: str) -> Column:
    """Counts and sums of a customer without events are 0; everything else is null."""
    types = {f.name: f.type for f in catalogue.FEATURES}
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
