"""The catalogue of customer features: each declared once, with its definition and its expression.

The columns of ``gold.customer_features``, its contract and the data dictionary follow from here. To add
a feature, add an entry. A feature is computed from one of two frames:

* ``DAYS``: an aggregate over a customer's days before ``as_of``, with the columns of ``gold.customer_days``;
* ``CUSTOMER``: an expression over the row that this gives, with the helpers below, the
  registration_date and the scores.

Helpers have names that begin with an underscore: they are kept with a snapshot, so that the next one can
carry over what has not changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F

MONEY = "decimal(28,2)"
SESSION_GAP_SECONDS = 30 * 60
MICROS = 1_000_000
DAYS, CUSTOMER = "days", "customer"
CHURN, SEGMENTS, RECOMMENDATION, LIFETIME_VALUE = "churn", "segmentation", "recommendation", "lifetime value"


@dataclass(frozen=True)
class Feature:
    """One column: what it means, in what unit, what null says, what it is for, and how it is computed.

    Attributes:
        source: the frame that the expression is over.
        expression: of an aggregate, a function of the condition under which a day counts (always true
            without ``window_days``); of an expression over the customer's row, a function of as_of.
        window_days: only events in [as_of - window_days, as_of) count. None: all before as_of.
    """

    name: str
    type: str
    source: str
    expression: Callable[[Column], Column]
    definition: str = ""
    unit: str = ""
    null: str = ""
    uses: tuple[str, ...] = ()
    window_days: int | None = None


def whole_days(start: Column, end: Column) -> Column:
    """floor((end - start) / 24 h), as int."""
    return F.floor((F.unix_micros(end) - F.unix_micros(start)) / (86_400 * MICROS)).cast("int")


def _sum(column: str, type_: str = "bigint") -> Callable[[Column], Column]:
    """Of the days that count; 0 where there is none."""
    return lambda counts: F.coalesce(F.sum(F.when(counts, F.col(column))), F.lit(0)).cast(type_)


def _spend(counts: Column) -> Column:
    return _sum("spend", MONEY)(counts)


def _orders(counts: Column) -> Column:
    # One order may be on several days.
    return F.size(F.array_distinct(F.flatten(F.collect_list(F.when(counts, F.col("_order_ids"))))))


def _day_of_purchase() -> Column:
    return F.when(F.col("purchases") > 0, F.col("day"))


SESSIONS = "STRUCT<last: BIGINT, sessions: INT, micros: BIGINT>"


def joined_sessions(parts: Column) -> Column:
    """Number of sessions and the time within them (``SESSIONS``), by one walk through parts of time in their order.

    Args:
        parts: an array of (first, last, sessions, micros). The last session of one part and the first of the next are one where
            the gap between them is not too long.
    """

    def walk(state: Column, part: Column) -> Column:
        gap = part["first"] - state["last"]
        goes_on = gap <= SESSION_GAP_SECONDS * MICROS
        return F.struct(
            part["last"].alias("last"),
            (state["sessions"] + part["sessions"] - F.when(goes_on, 1).otherwise(0)).alias("sessions"),
            (state["micros"] + part["micros"] + F.when(goes_on, gap).otherwise(0)).alias("micros"),
        )

    nothing = F.struct(
        F.lit(None).cast("bigint").alias("last"), F.lit(0).alias("sessions"), F.lit(0).cast("bigint").alias("micros")
    )
    return F.aggregate(parts, nothing, walk)


def _sessions() -> Column:
    """Those of all days, of which one may go on over midnight; null without an interaction."""
    first, last = F.unix_micros("first_interaction"), F.unix_micros("last_interaction")
    of_day = F.struct(
        first.alias("first"), last.alias("last"), F.col("sessions"), F.col("session_micros").alias("micros")
    )
    days = F.sort_array(F.collect_list(F.when(F.col("interactions") > 0, of_day)))
    return F.when(F.max("interactions") > 0, joined_sessions(days))


def _ratio(part: str, whole: str) -> Column:
    """part / whole as double, null when the whole is 0."""
    return F.when(F.col(whole) > 0, F.col(part).cast("double") / F.col(whole).cast("double"))


FEATURES: tuple[Feature, ...] = (
    # Helpers
    Feature("_transactions", "bigint", DAYS, lambda counts: F.sum(F.col("purchases") + F.col("cancellations"))),
    Feature("_purchases", "bigint", DAYS, lambda counts: F.sum("purchases")),
    Feature("_last_purchase", "timestamp", DAYS, lambda counts: F.max("last_purchase")),
    Feature("_last_day", "date", DAYS, lambda counts: F.max(_day_of_purchase())),
    Feature("_first_day", "date", DAYS, lambda counts: F.min(_day_of_purchase())),
    Feature("_days", "int", DAYS, lambda counts: F.count(_day_of_purchase())),
    Feature("_first_day_spend", MONEY, DAYS, lambda counts: F.min_by("spend", _day_of_purchase())),
    Feature("_last_interaction", "timestamp", DAYS, lambda counts: F.max("last_interaction")),
    Feature("_sessions", SESSIONS, DAYS, lambda counts: _sessions()),
    # Recency
    Feature(
        "days_since_last_purchase", "int", CUSTOMER, lambda as_of: whole_days(F.col("_last_purchase"), as_of),
        "Whole days from the last purchase to as_of.", "days", "no purchase", (CHURN, SEGMENTS),
    ),
    Feature(
        "days_since_last_interaction", "int", CUSTOMER, lambda as_of: whole_days(F.col("_last_interaction"), as_of),
        "Whole days from the last interaction to as_of.", "days", "no interaction", (CHURN,),
    ),
    # Activity
    Feature(
        "total_interactions", "bigint", DAYS, _sum("interactions"),
        "Number of interactions.", "interactions", "", (CHURN, SEGMENTS),
    ),
    Feature(
        "activity_rate", "double", CUSTOMER,
        lambda as_of: F.when(
            F.col("registration_date") < as_of,
            F.col("total_interactions") / F.greatest(F.lit(1), whole_days(F.col("registration_date"), as_of)),
        ),
        "total_interactions per whole day since registration, at least one day.", "1/day",
        "registration_date unknown, or not before as_of", (CHURN,),
    ),
    # Spend
    Feature("total_spend", MONEY, DAYS, _spend, "Sum of purchase amounts.", "money", "", (SEGMENTS, LIFETIME_VALUE)),
    Feature(
        "purchase_frequency", "int", DAYS, _orders,
        "Number of distinct orders among purchases.", "orders", "", (CHURN, SEGMENTS),
    ),
    Feature(
        "average_order_value", "double", CUSTOMER, lambda as_of: _ratio("total_spend", "purchase_frequency"),
        "total_spend / purchase_frequency.", "money", "no order", (SEGMENTS, LIFETIME_VALUE),
    ),
    # Sessions
    Feature(
        "session_count", "int", CUSTOMER, lambda as_of: F.coalesce(F.col("_sessions.sessions"), F.lit(0)),
        "Sessions: interactions without a gap of more than 30 minutes between them (the session rule of Google Analytics 4).",
        "sessions", "", (CHURN,),
    ),
    Feature(
        "session_duration", "double", CUSTOMER,
        lambda as_of: F.col("_sessions.micros") / MICROS / F.col("_sessions.sessions"),
        "Mean time from a session's first to its last interaction; a session of one event counts 0.", "seconds",
        "no interaction", (CHURN,),
    ),
    Feature(
        "interaction_to_purchase_ratio", "double", CUSTOMER, lambda as_of: _ratio("total_interactions", "_purchases"),
        "total_interactions / number of purchases.", "interactions per purchase", "no purchase", (CHURN, RECOMMENDATION),
    ),
    Feature(
        "favourite_category", "string", CUSTOMER, lambda as_of: F.col("favourite_category"),
        "The category of rank 1 in category_preferences.", "", "no purchase of a known category", (RECOMMENDATION,),
    ),
    Feature(
        "cancellation_rate", "double", CUSTOMER,
        lambda as_of: F.when(F.col("_transactions") > 0, (F.col("_transactions") - F.col("_purchases")).cast("double") / F.col("_transactions")),
        "Cancelled transactions / all transactions.", "share", "no transaction", (CHURN,),
    ),
    # Windows
    Feature("spend_30d", MONEY, DAYS, _spend, "Spend in the last 30 days.", "money", "", (CHURN, LIFETIME_VALUE), 30),
    Feature("spend_90d", MONEY, DAYS, _spend, "Spend in the last 90 days.", "money", "", (CHURN, LIFETIME_VALUE), 90),
    Feature("orders_30d", "int", DAYS, _orders, "Orders in the last 30 days.", "orders", "", (CHURN,), 30),
    Feature("orders_90d", "int", DAYS, _orders, "Orders in the last 90 days.", "orders", "", (CHURN,), 90),
    Feature("interactions_7d", "bigint", DAYS, _sum("interactions"), "Interactions in the last 7 days.", "interactions", "", (CHURN,), 7),
    Feature("interactions_30d", "bigint", DAYS, _sum("interactions"), "Interactions in the last 30 days.", "interactions", "", (CHURN,), 30),
    # Lifetime value, by the convention of the lifetimes and PyMC-Marketing libraries
    Feature(
        "rfm_frequency", "int", CUSTOMER, lambda as_of: F.when(F.col("_days") > 0, F.col("_days") - 1),
        "Distinct UTC days with a purchase, less one.", "days", "no purchase", (LIFETIME_VALUE,),
    ),
    Feature(
        "rfm_recency", "int", CUSTOMER, lambda as_of: F.date_diff("_last_day", "_first_day"),
        "Days from the first to the last day with a purchase.", "days", "no purchase", (LIFETIME_VALUE,),
    ),
    Feature(
        "rfm_t", "int", CUSTOMER,
        lambda as_of: F.date_diff(F.to_date(as_of - F.expr("INTERVAL 1 MICROSECOND")), F.col("_first_day")),
        "Days from the first day with a purchase to the last day before as_of.", "days", "no purchase", (LIFETIME_VALUE,),
    ),
    Feature(
        "rfm_monetary", "double", CUSTOMER,
        lambda as_of: F.when(F.col("_days") > 1, (F.col("total_spend") - F.col("_first_day_spend")).cast("double") / (F.col("_days") - 1))
        .when(F.col("_days") == 1, F.lit(0.0)),
        "Mean daily spend over the days with a purchase but the first; 0 for one such day.", "money per day", "no purchase",
        (LIFETIME_VALUE,),
    ),
    # Scores and segment
    Feature("r_score", "int", CUSTOMER, lambda as_of: F.col("r_score"), "Quintile of days_since_last_purchase among buyers, 5 is best; ties share a score.", "1 to 5", "no purchase", (SEGMENTS,)),
    Feature("f_score", "int", CUSTOMER, lambda as_of: F.col("f_score"), "Quintile of purchase_frequency among buyers, 5 is best; ties share a score.", "1 to 5", "no purchase", (SEGMENTS,)),
    Feature("m_score", "int", CUSTOMER, lambda as_of: F.col("m_score"), "Quintile of total_spend among buyers, 5 is best; ties share a score.", "1 to 5", "no purchase", (SEGMENTS,)),
    Feature("segment", "string", CUSTOMER, lambda as_of: segment(), "Named group of customers by r_score and f_score.", "", "no purchase", (SEGMENTS,)),
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
    """The features that are columns of gold.customer_features' contract, in the order of the table."""
    return [f for f in FEATURES if not f.name.startswith("_")]


def helpers() -> list[Feature]:
    """What is kept beside them."""
    return [f for f in FEATURES if f.name.startswith("_")]


def lifelong() -> list[Feature]:
    """The aggregates that only new or changed events change: those without a window."""
    return [f for f in FEATURES if f.source == DAYS and f.window_days is None]


def windowed() -> list[Feature]:
    """The aggregates that change with as_of, because events leave their window."""
    return [f for f in FEATURES if f.source == DAYS and f.window_days is not None]


def windows() -> list[int]:
    """The days before as_of that windowed features look back."""
    return sorted({f.window_days for f in FEATURES if f.window_days is not None})
