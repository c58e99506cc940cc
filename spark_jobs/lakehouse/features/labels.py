"""What became of customers after a cut-off: the labels of training sets."""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.features.catalogue import MONEY
from lakehouse.features.silver import Activity

LABELS = {"churned": "boolean", "future_spend": MONEY, "next_category": "string"}
"""The labels and their types. Churned: no purchase within the horizon. Next category: that of the first
purchase within it of a product of known category; null without one."""


def labels(later: Activity, cut_off: datetime) -> DataFrame:
    """(customer_id, future_spend, next_category) of those with a purchase from the cut-off on.

    Args:
        later: what happened before the end of the horizon.
    """
    purchases = later.purchases.where((F.col("date") >= F.lit(cut_off)) & F.col("customer_id").isNotNull())
    known = purchases.join(later.products.select("product_id", "category"), "product_id", "left")
    # Of purchases at the same instant the one with the lower id, so that the label does not depend on luck.
    first = F.min_by("category", F.when(F.col("category").isNotNull(), F.struct("date", "transaction_id")))
    return known.groupBy("customer_id").agg(
        F.sum("amount").cast(MONEY).alias("future_spend"), first.alias("next_category")
    )


def labelled(features: DataFrame, labels: DataFrame) -> DataFrame:
    """Features with ``LABELS``, one row a customer of the features' population."""
    joined = features.join(labels.withColumn("_bought", F.lit(True)), "customer_id", "left")
    return joined.select(
        *features.columns,
        F.col("_bought").isNull().alias("churned"),
        F.coalesce("future_spend", F.lit(0)).cast(MONEY).alias("future_spend"),
        "next_category",
    )
