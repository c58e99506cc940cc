"""The values of gold.category_preferences, gold.product_affinity and gold.product_features as of an instant."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
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
        "category",
        "orders",
        "purchases",
        "spend",
        "share",
        F.row_number().over(best_first).alias("rank"),
    )


def product_affinity(activity: Activity) -> DataFrame:
    """(customer_id, product_id) with an interaction or a purchase: how often one led to the other.

    Beside the contract's columns there is ``_spend``, the sum of the pair's purchase amounts.
    """
    seen = activity.interactions.select("customer_id", "product_id", F.unix_micros("timestamp").alias("seen"))
    bought = activity.purchases.select("customer_id", "product_id", F.unix_micros("date").alias("bought"), "amount")
    pairs = (
        seen.unionByName(bought, allowMissingColumns=True)
        .where(F.col("customer_id").isNotNull() & F.col("product_id").isNotNull())
        .groupBy("customer_id", "product_id")
        .agg(
            F.count("seen").alias("interactions"),
            F.count("bought").alias("purchases"),
            _converted().alias("converted"),
            F.max(F.greatest("seen", "bought")).alias("last"),
            F.coalesce(F.sum("amount"), F.lit(0)).cast(MONEY).alias("_spend"),
        )
    )
    counted = pairs.withColumn("last_event", F.timestamp_micros("last"))
    return counted.select(
        "customer_id",
        "product_id",
        "interactions",
        "converted",
        _percentage().alias("affinity"),
        "purchases",
        "last_event",
        "_spend",
    )


def _converted() -> Column:
    """How many of a pair's interactions (``seen``) its next purchase (``bought``) follows within the horizon.

    One walk from the last event to the first, that keeps the purchase it has met last: of two lists, each look would be
    compared with each purchase. Both are in microseconds. An event is one number, twice its instant and one more for a
    purchase, so that of events at one instant the purchase is met first.
    """
    event = F.coalesce(F.col("bought") * 2 + 1, F.col("seen") * 2)
    latest_first = F.sort_array(F.collect_list(event), asc=False)
    horizon = F.lit(CONVERSION_DAYS * 86_400 * MICROS * 2 + 1)

    def walk(state: Column, event: Column) -> Column:
        is_purchase = event.bitwiseAND(F.lit(1)) == 1
        follows = F.coalesce(state["bought"] - event <= horizon, F.lit(False))
        return F.struct(
            F.when(is_purchase, event).otherwise(state["bought"]).alias("bought"),
            F.when(~is_purchase & follows, state["converted"] + 1).otherwise(state["converted"]).alias("converted"),
        )

    nothing = F.struct(F.lit(None).cast("bigint").alias("bought"), F.lit(0).cast("bigint").alias("converted"))
    return F.aggregate(latest_first, nothing, walk, lambda state: state["converted"])


def product_features(activity: Activity, affinity: DataFrame) -> DataFrame:
    """product_id, known or seen in an event: how many looked, how many bought, for how much.

    Args:
        affinity: gold.product_affinity as of the same instant, with ``_spend``: what customers did.
            Only what nobody is known to have done is counted from the events.
    """
    one, nobody = F.lit(1).cast("bigint"), F.col("customer_id").isNull()
    of_customers = affinity.select(
        "product_id",
        (F.col("interactions") > 0).cast("bigint").alias("viewers"),
        "interactions",
        "converted",
        (F.col("purchases") > 0).cast("bigint").alias("buyers"),
        "purchases",
        F.col("_spend").alias("revenue"),
    )
    looks_of_guests = activity.interactions.where(nobody).select("product_id", one.alias("interactions"))
    # Cancelled ones too: they are no purchases, but the product has been seen.
    sales_of_guests = activity.transactions.select(
        "product_id",
        F.when(nobody & F.col("completed"), one).alias("purchases"),
        F.when(nobody & F.col("completed"), F.col("amount")).cast(MONEY).alias("revenue"),
    )
    everything = (
        of_customers.unionByName(looks_of_guests, allowMissingColumns=True)
        .unionByName(sales_of_guests, allowMissingColumns=True)
        .unionByName(activity.products.select("product_id"), allowMissingColumns=True)
    )
    counts = ("viewers", "interactions", "converted", "buyers", "purchases")
    counted = (
        everything.where(F.col("product_id").isNotNull())
        .groupBy("product_id")
        .agg(
            *[F.coalesce(F.sum(c), F.lit(0)).cast("bigint").alias(c) for c in counts],
            F.coalesce(F.sum("revenue"), F.lit(0)).cast(MONEY).alias("revenue"),
        )
    )
    return counted.join(activity.products, "product_id", "left").select(
        "product_id",
        "viewers",
        "interactions",
        "converted",
        _percentage().alias("affinity"),
        "buyers",
        "purchases",
        "revenue",
        "category",
        "price",
    )


def _percentage():  # type: ignore[no-untyped-def]
    return F.when(F.col("interactions") > 0, F.col("converted") * 100.0 / F.col("interactions"))
