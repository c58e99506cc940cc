"""The catalogue of customer features: each declared once, with its definition and its expression.

The columns of ``gold.customer_features``, its contract and the data dictionary follow from here. A
feature is computed from one of three frames:

* ``transactions``: an aggregate over a customer's transactions before ``as_of`` (columns: date,
  day, amount, order_id, completed, first_day: the day of the first purchase);
* ``interactions``: an aggregate over a customer's interactions before ``as_of`` (column: timestamp);
* ``customer``: an expression over the row that the two give, with the helpers below, the
  registration_date and the scores.

Helpers have names that begin with an underscore and are not published.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import Column
from pyspark.sql import functions as F

MONEY = "decimal(28,2)"
SESSION_GAP_SECONDS = 30 * 60
MICROS = 1_000_000


@dataclass(frozen=True)
class Feature:
    """One column: what it means, in what unit, what null says, and how it is computed."""

    name: str
    type: str
    source: str
    expression: Callable[[datetime], Column]
    definition: str = ""
    unit: str = ""
    null: str = ""


def whole_days(start: Column, end: Column) -> Column:
    """floor((end - start) / 24 h), as int."""
    return F.floor((F.unix_micros(end) - F.unix_micros(start)) / (86_400 * MICROS)).cast("int")


def _within(column: str, as_of: datetime, days: int) -> Column:
    """Whether an event lies in [as_of - days, as_of)."""
    return F.col(column) >= F.lit(as_of) - F.expr(f"INTERVAL {days} DAYS")


def _sum(amount: Column) -> Column:
    return F.coalesce(F.sum(amount), F.lit(0)).cast(MONEY)


def _orders(condition: Column) -> Column:
    return F.size(F.collect_set(F.when(condition, F.col("order_id"))))


def _gaps() -> Column:
    """Seconds between consecutive interactions."""
    times = F.sort_array(F.collect_list(F.unix_micros("timestamp")))
    return F.zip_with(
        F.slice(times, 2, F.greatest(F.size(times) - 1, F.lit(0))),
        F.slice(times, 1, F.greatest(F.size(times) - 1, F.lit(0))),
        lambda later, earlier: (later - earlier) / MICROS,
    )


def _ratio(part: str, whole: str) -> Column:
    """part / whole as double, null when the whole is 0."""
    return F.when(F.col(whole) > 0, F.col(part).cast("double") / F.col(whole).cast("double"))


def _bought() -> Column:
    return F.col("completed")


FEATURES: tuple[Feature, ...] = (
    # Helpers
    Feature("_transactions", "bigint", "transactions", lambda t: F.count("*")),
    Feature("_purchases", "bigint", "transactions", lambda t: F.count_if(_bought())),
    Feature("_last_purchase", "timestamp", "transactions", lambda t: F.max(F.when(_bought(), F.col("date")))),
    Feature("_last_day", "date", "transactions", lambda t: F.max(F.when(_bought(), F.col("day")))),
    Feature("_first_day", "date", "transactions", lambda t: F.min("first_day")),
    Feature("_days", "int", "transactions", lambda t: F.size(F.collect_set(F.when(_bought(), F.col("day"))))),
    Feature("_first_day_spend", MONEY, "transactions", lambda t: _sum(F.when(_bought() & (F.col("day") == F.col("first_day")), F.col("amount")))),
    Feature("_last_interaction", "timestamp", "interactions", lambda t: F.max("timestamp")),
    Feature("_gaps", "array<double>", "interactions", lambda t: _gaps()),
    # Recency
    Feature(
        "days_since_last_purchase", "int", "customer", lambda t: whole_days(F.col("_last_purchase"), F.lit(t)),
        "Whole days from the last purchase to as_of.", "days", "no purchase",
    ),
    Feature(
        "days_since_last_interaction", "int", "customer", lambda t: whole_days(F.col("_last_interaction"), F.lit(t)),
        "Whole days from the last interaction to as_of.", "days", "no interaction",
    ),
    # Activity
    Feature("total_interactions", "bigint", "interactions", lambda t: F.count("*"), "Number of interactions.", "interactions"),
    Feature(
        "activity_rate", "double", "customer",
        lambda t: F.when(
            F.col("registration_date") < F.lit(t),
            F.col("total_interactions") / F.greatest(F.lit(1), whole_days(F.col("registration_date"), F.lit(t))),
        ),
        "total_interactions per whole day since registration, at least one day.", "1/day",
        "registration_date unknown, or not before as_of",
    ),
    # Spend
    Feature("total_spend", MONEY, "transactions", lambda t: _sum(F.when(_bought(), F.col("amount"))), "Sum of purchase amounts.", "money"),
    Feature("purchase_frequency", "int", "transactions", lambda t: _orders(_bought()), "Number of distinct orders among purchases.", "orders"),
    Feature(
        "average_order_value", "double", "customer", lambda t: _ratio("total_spend", "purchase_frequency"),
        "total_spend / purchase_frequency.", "money", "no order",
    ),
    # Sessions
    Feature(
        "session_count", "int", "customer",
        lambda t: F.when(F.col("total_interactions") > 0, F.size(F.filter("_gaps", lambda g: g > SESSION_GAP_SECONDS)) + 1),
        "Sessions: interactions without a gap of more than 30 minutes between them (the session rule of Google Analytics 4).",
        "sessions", "no interaction",
    ),
    Feature(
        "session_duration", "double", "customer",
        lambda t: F.aggregate(F.filter("_gaps", lambda g: g <= SESSION_GAP_SECONDS), F.lit(0.0), lambda a, g: a + g) / F.col("session_count"),
        "Mean time from a session's first to its last interaction; a session of one event counts 0.", "seconds", "no interaction",
    ),
    Feature(
        "interaction_to_purchase_ratio", "double", "customer", lambda t: _ratio("total_interactions", "_purchases"),
        "total_interactions / number of purchases.", "interactions per purchase", "no purchase",
    ),
    Feature(
        "favourite_category", "string", "customer", lambda t: F.col("favourite_category"),
        "The category of rank 1 in category_preferences.", "", "no purchase of a known category",
    ),
    Feature(
        "cancellation_rate", "double", "customer",
        lambda t: F.when(F.col("_transactions") > 0, (F.col("_transactions") - F.col("_purchases")).cast("double") / F.col("_transactions")),
        "Cancelled transactions / all transactions.", "share", "no transaction",
    ),
    # Windows
    Feature("spend_30d", MONEY, "transactions", lambda t: _sum(F.when(_bought() & _within("date", t, 30), F.col("amount"))), "Spend in the last 30 days.", "money"),
    Feature("spend_90d", MONEY, "transactions", lambda t: _sum(F.when(_bought() & _within("date", t, 90), F.col("amount"))), "Spend in the last 90 days.", "money"),
    Feature("orders_30d", "int", "transactions", lambda t: _orders(_bought() & _within("date", t, 30)), "Orders in the last 30 days.", "orders"),
    Feature("orders_90d", "int", "transactions", lambda t: _orders(_bought() & _within("date", t, 90)), "Orders in the last 90 days.", "orders"),
    Feature("interactions_7d", "bigint", "interactions", lambda t: F.count_if(_within("timestamp", t, 7)), "Interactions in the last 7 days.", "interactions"),
    Feature("interactions_30d", "bigint", "interactions", lambda t: F.count_if(_within("timestamp", t, 30)), "Interactions in the last 30 days.", "interactions"),
    # Lifetime value, by the convention of the lifetimes and PyMC-Marketing libraries
    Feature(
        "rfm_frequency", "int", "customer", lambda t: F.when(F.col("_days") > 0, F.col("_days") - 1),
        "Distinct UTC days with a purchase, less one.", "days", "no purchase",
    ),
    Feature(
        "rfm_recency", "int", "customer", lambda t: F.date_diff("_last_day", "_first_day"),
        "Days from the first to the last day with a purchase.", "days", "no purchase",
    ),
    Feature(
        "rfm_t", "int", "customer",
        lambda t: F.date_diff(F.to_date(F.lit(t) - F.expr("INTERVAL 1 MICROSECOND")), F.col("_first_day")),
        "Days from the first day with a purchase to the last day before as_of.", "days", "no purchase",
    ),
    Feature(
        "rfm_monetary", "double", "customer",
        lambda t: F.when(F.col("_days") > 1, (F.col("total_spend") - F.col("_first_day_spend")).cast("double") / (F.col("_days") - 1))
        .when(F.col("_days") == 1, F.lit(0.0)),
        "Mean daily spend over the days with a purchase but the first; 0 for one such day.", "money per day", "no purchase",
    ),
    # Scores and segment
    Feature("r_score", "int", "customer", lambda t: F.col("r_score"), "Quintile of days_since_last_purchase among buyers, 5 is best; ties share a score.", "1 to 5", "no purchase"),
    Feature("f_score", "int", "customer", lambda t: F.col("f_score"), "Quintile of purchase_frequency among buyers, 5 is best; ties share a score.", "1 to 5", "no purchase"),
    Feature("m_score", "int", "customer", lambda t: F.col("m_score"), "Quintile of total_spend among buyers, 5 is best; ties share a score.", "1 to 5", "no purchase"),
    Feature("segment", "string", "customer", lambda t: segment(), "Named group of customers by r_score and f_score.", "", "no purchase"),
)  # fmt: skip


def segment() -> Column:
    """The customer's segment by recency and frequency score."""
    r, f = F.col("r_score"), F.col("f_score")
    return (
        F.when((r <= 2) & (f <= 2), "Hibernating")
        .when((r <= 2) & (f <= 4), "At Risk")
        .when(r <= 2, "Can't Lose Them")
        .when((r == 3) & (f <= 2), "About to Sleep")
        .when((r == 3) & (f == 3), "Need Attention")
        .when(r == 3, "Loyal Customers")
        .when((r == 4) & (f == 1), "Promising")
        .when((r == 4) & (f <= 3), "Potential Loyalists")
        .when(r == 4, "Loyal Customers")
        .when((r == 5) & (f == 1), "New Customers")
        .when((r == 5) & (f <= 3), "Potential Loyalists")
        .when(r == 5, "Champions")
    )


def published() -> list[Feature]:
    """The features that are columns of gold.customer_features, in the order of the table."""
    return [f for f in FEATURES if not f.name.startswith("_")]


def by_source(source: str) -> list[Feature]:
    return [f for f in FEATURES if f.source == source]


def fingerprint() -> str:
    """Changes whenever a definition does, so that a snapshot made by older ones is renewed."""
    from lakehouse.features import customers, products, silver

    code = "".join(inspect.getsource(inspect.getmodule(m) or m) for m in (segment, customers, products, silver))
    return hashlib.sha256(code.encode()).hexdigest()[:16]
