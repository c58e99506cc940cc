"""What of silver has changed since a snapshot: whose features it touches, and from which instant on.

Every function takes Delta's change data (a table's columns and ``_change_type``) or frames of silver.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse.instants import of_micros

INSTANT = "_instant"


def pairs(
    transactions: DataFrame,
    interactions: DataFrame,
    changed_transactions: DataFrame,
    changed_interactions: DataFrame,
    since: datetime,
    until: datetime,
) -> DataFrame:
    """(customer_id, product_id, distinct) with events before ``until`` that are not those before ``since`` as they were then.

    Events of guests are left out; those without a product are there with none.

    Args:
        transactions: silver.transactions_history.
        interactions: silver.interactions.
        changed_transactions, changed_interactions: change data of the two since the snapshot was made.
        since: the snapshot's instant.
        until: the instant of the snapshot to be made, not before ``since``.
    """

    def between(column: str) -> Column:
        return (F.col(column) >= F.lit(since)) & (F.col(column) < F.lit(until))

    parts = [
        changed_transactions,
        changed_interactions,
        # An order counts from its date on, and in another state from a validity's start or end on.
        transactions.where(between("date") | between("valid_from") | between("valid_to")),
        interactions.where(between("timestamp")),
    ]
    touched = [part.select("customer_id", "product_id").where(F.col("customer_id").isNotNull()) for part in parts]
    return touched[0].union(touched[1]).union(touched[2]).union(touched[3]).distinct()


def buyers_of_moved_products(products: DataFrame, known: DataFrame, affinity: DataFrame) -> DataFrame:
    """(customer_id) of who has bought a product that is in another category than a snapshot has it in.

    Args:
        products: product_id and category as they are now.
        known: the snapshot's product_features.
        affinity: the snapshot's product_affinity.
    """
    before = known.select("product_id", F.col("category").alias("_before"))
    moved = (
        products.select("product_id", "category")
        .join(before, "product_id", "full")
        .where(~F.col("category").eqNullSafe(F.col("_before")))
        .select("product_id")
    )
    return affinity.where(F.col("purchases") > 0).join(moved, "product_id", "left_semi").select("customer_id")


def earliest(
    transactions: DataFrame, interactions: DataFrame, products: DataFrame, customers: DataFrame
) -> datetime | None:
    """The first instant at which changes of silver make a difference; None if they make none.

    The first version of a product or customer counts from its own instant on, although it also stands
    for the time before it: that something is heard of for the first time makes no older snapshot wrong.

    Args:
        transactions, products, customers: change data of the histories.
        interactions: change data of silver.interactions.
    """
    version = ["valid_from", "_first", "_deleted"]
    in_force = F.when(F.col("_first"), F.col("date")).otherwise(F.greatest("date", "valid_from"))
    values = ["order_id", "customer_id", "product_id", "date", "amount", "transaction_status"]
    seen = customers.select("customer_id", "_deleted", "_change_type", F.explode("_seen").alias("seen")).select(
        "customer_id",
        "_deleted",
        "_change_type",
        F.col("seen.sequence.at").alias("at"),
        F.col("seen.extremes.registration_date").alias("registration_date"),
    )
    instants = [
        _net(transactions, ["transaction_id", *values, *version]).select(in_force.alias(INSTANT)),
        _net(interactions, ["interaction_id", "customer_id", "product_id", "timestamp"]).select(
            F.col("timestamp").alias(INSTANT)
        ),
        _net(products, ["product_id", "category", "price", "valid_from", "_deleted"]).select(
            F.col("valid_from").alias(INSTANT)
        ),
        _net(seen, ["customer_id", "_deleted", "at", "registration_date"]).select(F.col("at").alias(INSTANT)),
    ]
    both = instants[0].union(instants[1]).union(instants[2]).union(instants[3])
    found = both.agg(F.unix_micros(F.min(INSTANT))).first()
    if found is None or found[0] is None:
        return None
    return of_micros(found[0])


def _net(changes: DataFrame, columns: Sequence[str]) -> DataFrame:
    """What is there after all changes and was not there before them, or the other way round.

    An interval that only ends earlier, because a new version follows it, is no difference: the new one is.
    """
    added = F.col("_change_type").isin("insert", "update_postimage")
    balance = F.sum(F.when(added, 1).otherwise(-1))
    return changes.groupBy(*columns).agg(balance.alias("_balance")).where("_balance <> 0").drop("_balance")
