"""Silver as it was at an instant, in the shape that features are computed from.

Every function takes frames and an instant ``as_of`` and keeps only what happened before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


@dataclass(frozen=True)
class Activity:
    """What customers did before an instant, with what was known of products and customers then.

    transactions: transaction_id, order_id, customer_id, product_id, date, day, amount, completed (whether it stands)
    interactions: customer_id, product_id, timestamp, day
    products: product_id, category, price
    customers: customer_id, registration_date
    """

    as_of: datetime
    transactions: DataFrame
    interactions: DataFrame
    products: DataFrame
    customers: DataFrame

    @property
    def purchases(self) -> DataFrame:
        return self.transactions.where("completed")

    def of(self, some: DataFrame) -> Activity:
        """The events of some customers alone (customer_id), or of some of their products (product_id) or days (day)."""
        return replace(
            self,
            transactions=self.transactions.join(some, some.columns, "left_semi"),
            interactions=self.interactions.join(some, some.columns, "left_semi"),
        )

    def persist(self) -> Activity:
        """The same, whose events are kept once they have been read."""
        return replace(self, transactions=self.transactions.persist(), interactions=self.interactions.persist())

    def unpersist(self) -> None:
        self.transactions.unpersist()
        self.interactions.unpersist()

    def on_days(self, ranges: Sequence[tuple[date, date]]) -> Activity:
        """The events of some days alone; see ``among``."""
        return replace(
            self,
            transactions=self.transactions.where(among("date", ranges)),
            interactions=self.interactions.where(among("timestamp", ranges)),
        )


def midnight(day: date) -> datetime:
    """The instant with which a UTC day begins."""
    return datetime.combine(day, time(), UTC)


def among(instant: str, ranges: Sequence[tuple[date, date]]) -> Column:
    """Whether an instant is of one of some days: of at least one range, both ends included."""
    # By literals, which leave out files.
    parts = [
        (F.col(instant) >= F.lit(midnight(first))) & (F.col(instant) < F.lit(midnight(last + timedelta(days=1))))
        for first, last in ranges
    ]
    return reduce(Column.__or__, parts)


def order() -> list[Column]:
    """What features need of a version of a transaction."""
    return [
        F.col("transaction_id"),
        F.coalesce("order_id", "transaction_id").alias("order_id"),
        F.col("customer_id"),
        F.col("product_id"),
        F.col("date"),
        F.to_date("date").alias("day"),
        F.col("amount"),
        F.coalesce(F.col("transaction_status") == "Completed", F.lit(False)).alias("completed"),
    ]


def interaction() -> list[Column]:
    """What features need of an interaction."""
    return [F.col("customer_id"), F.col("product_id"), F.col("timestamp"), F.to_date("timestamp").alias("day")]


def valid_at(history: DataFrame, as_of: datetime) -> DataFrame:
    """The interval of each key that an instant falls into.

    Nothing is known of the time before a key's first version, so its first interval reaches back
    for ever. Keys deleted before the instant are left out.
    """
    begun = F.col("_first") | (F.col("valid_from") < F.lit(as_of))
    not_over = F.col("valid_to").isNull() | (F.col("valid_to") >= F.lit(as_of))
    return history.where(begun & not_over & ~F.col("_deleted"))


def _customers(history: DataFrame, as_of: datetime) -> DataFrame:
    """Who was not deleted at the instant, with the earliest registration heard of before it."""
    alive = valid_at(history, as_of).select("customer_id")
    # An interval stands for several versions; those of the instant and later had not been heard of.
    heard = F.filter("_seen", lambda v, n: (v["sequence"]["at"] < F.lit(as_of)) | (F.col("_first") & (n == 0)))
    registered = (
        history.where(~F.col("_deleted"))
        .groupBy("customer_id")
        .agg(
            F.min(F.array_min(F.transform(heard, lambda v: v["extremes"]["registration_date"]))).alias(
                "registration_date"
            )
        )
    )
    return alive.join(registered, "customer_id")


def activity(
    transactions_history: DataFrame,
    interactions: DataFrame,
    products_history: DataFrame,
    customers_history: DataFrame,
    as_of: datetime,
) -> Activity:
    """Everything before ``as_of``, each transaction in the status it had then."""
    transactions = valid_at(transactions_history, as_of).where(F.col("date") < F.lit(as_of)).select(*order())
    return Activity(
        as_of=as_of,
        transactions=transactions,
        interactions=interactions.where(F.col("timestamp") < F.lit(as_of)).select(*interaction()),
        products=valid_at(products_history, as_of).select("product_id", "category", "price"),
        customers=_customers(customers_history, as_of),
    )
