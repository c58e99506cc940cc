"""gold.category_preferences, gold.product_affinity and gold.product_features as of an instant."""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lakehouse.features.catalogue import MICROS, MONEY
from lakehouse.features.silver import Activity

CONVERSION_DAYS = 30


def category_preferences(activity: Activity) -> DataFrame:
    """(customer_id, category): orders, purchases, spend, share of all the customer's purchases, rank.

    Products of unknown category are left out, but count in the share's whole.
    """
    purchases = activity.purchases.where(F.col("customer_id").isNotNull()).join(
        activity.products.select("product_id", "category"), "product_id", "left"
    )
    counted = purchases.groupBy("customer_id", "category").agg(
        F.size(F.collect_set("order_id")).alias("orders"),
        F.count("*").alias("purchases"),
        F.sum("amount").cast(MONEY).alias("spend"),
    )
    whole = Window.partitionBy("customer_id")
    shared = counted.withColumn("share", F.col("purchases") / F.sum("purchases").over(whole))
    best_first = whole.orderBy(F.desc("purchases"), F.desc("spend"), F.asc("category"))
    return shared.where(F.col("category").isNotNull()).select(
        "customer_id",
        _as_of(activity),
        "category",
        "orders",
        "purchases",
        "spend",
        "share",
        F.row_number().over(best_first).alias("rank"),
    )


def product_affinity(activity: Activity) -> DataFrame:
    """(customer_id, product_id) with an interaction or a purchase: how often one led to the other."""
    seen = activity.interactions.select("customer_id", "product_id", F.unix_micros("timestamp").alias("seen"))
    bought = activity.purchases.select("customer_id", "product_id", F.unix_micros("date").alias("bought"))
    nothing = F.lit(None).cast("bigint")
    events = seen.withColumn("bought", nothing).unionByName(bought.withColumn("seen", nothing))
    pairs = (
        events.where(F.col("customer_id").isNotNull() & F.col("product_id").isNotNull())
        .groupBy("customer_id", "product_id")
        .agg(
            F.collect_list("seen").alias("seen"),
            F.collect_list("bought").alias("bought"),
            F.max(F.greatest("seen", "bought")).alias("last"),
        )
    )
    horizon = CONVERSION_DAYS * 86_400 * MICROS
    led_to_purchase = F.filter("seen", lambda s: F.exists("bought", lambda b: (b >= s) & (b <= s + horizon)))
    counted = pairs.select(
        "customer_id",
        "product_id",
        F.size("seen").cast("bigint").alias("interactions"),
        F.size(led_to_purchase).cast("bigint").alias("converted"),
        F.size("bought").cast("bigint").alias("purchases"),
        F.timestamp_micros("last").alias("last_event"),
    )
    return counted.select(
        "customer_id",
        _as_of(activity),
        "product_id",
        "interactions",
        "converted",
        _percentage().alias("affinity"),
        "purchases",
        "last_event",
    )


def product_features(activity: Activity, affinity: DataFrame) -> DataFrame:
    """product_id, known or seen in an event: how many looked, how many bought, for how much.

    Args:
        affinity: gold.product_affinity as of the same instant.
    """
    viewed = activity.interactions.groupBy("product_id").agg(
        F.count_distinct("customer_id").alias("viewers"), F.count("*").alias("interactions")
    )
    sold = activity.purchases.groupBy("product_id").agg(
        F.count_distinct("customer_id").alias("buyers"),
        F.count("*").alias("purchases"),
        F.sum("amount").cast(MONEY).alias("revenue"),
    )
    converted = affinity.groupBy("product_id").agg(F.sum("converted").alias("converted"))
    touched = activity.transactions.select("product_id").union(activity.interactions.select("product_id"))
    everything = activity.products.select("product_id").union(touched.where(F.col("product_id").isNotNull())).distinct()
    joined = (
        everything.join(viewed, "product_id", "left")
        .join(converted, "product_id", "left")
        .join(sold, "product_id", "left")
        .join(activity.products, "product_id", "left")
        .na.fill(0, ["viewers", "interactions", "converted", "buyers", "purchases"])
    )
    return joined.select(
        "product_id",
        _as_of(activity),
        "viewers",
        "interactions",
        "converted",
        _percentage().alias("affinity"),
        "buyers",
        "purchases",
        F.coalesce("revenue", F.lit(0).cast(MONEY)).alias("revenue"),
        "category",
        "price",
    )


def _percentage():  # type: ignore[no-untyped-def]
    return F.when(F.col("interactions") > 0, F.col("converted") * 100.0 / F.col("interactions"))


def _as_of(activity: Activity):  # type: ignore[no-untyped-def]
    return F.lit(activity.as_of).cast("timestamp").alias("as_of")
