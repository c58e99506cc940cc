"""Silver as it was at an instant, in the shape that features are computed from.

Every function takes frames and an instant ``as_of`` and keeps only what happened before it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


@dataclass(frozen=True)
class Activity:
    """What customers did before an instant, with what was known of products and customers then.

    transactions: transaction_id, order_id, customer_id, product_id, category, date, day, amount,
        completed (whether it stands), first_day (of the customer's purchases)
    interactions: customer_id, product_id, timestamp
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

    def days_before(self, days: int) -> Column:
        """The instant that lies so many days before ``as_of``."""
        return F.lit(self.as_of) - F.expr(f"INTERVAL {int(days)} DAYS")

    def of(self, some: DataFrame) -> Activity:
        """The events of some customers (customer_id), or of some of their products (customer_id, product_id), alone."""
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

    def since(self, days: int) -> Activity:
        """The events of the last so many days alone."""
        return replace(
            self,
            transactions=self.transactions.where(F.col("date") >= self.days_before(days)),
            interactions=self.interactions.where(F.col("timestamp") >= self.days_before(days)),
        )


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
    transactions = (
        valid_at(transactions_history, as_of)
        .where(F.col("date") < F.lit(as_of))
        .select(
            "transaction_id",
            F.coalesce("order_id", "transaction_id").alias("order_id"),
            "customer_id",
            "product_id",
            "date",
            F.to_date("date").alias("day"),
            "amount",
            (F.col("transaction_status") == "Completed").alias("completed"),
        )
    )
    return Activity(
        as_of=as_of,
        transactions=transactions,
        interactions=interactions.where(F.col("timestamp") < F.lit(as_of)).select(
            "customer_id", "product_id", "timestamp"
        ),
        products=valid_at(products_history, as_of).select("product_id", "category", "price"),
        customers=_customers(customers_history, as_of),
    )
