"""The catalogue of customer features: each declared once, with its definition and its expression.

The columns of ``gold.customer_features``, its contract and the data dictionary follow from here. To add
a feature, add an entry. A feature is computed from one of three frames:

* ``TRANSACTIONS``: an aggregate over a customer's transactions before ``as_of`` (columns: date,
  day, amount, order_id, completed, first_day: the day of the first purchase);
* ``INTERACTIONS``: an aggregate over a customer's interactions before ``as_of`` (column: timestamp);
* ``CUSTOMER``: an expression over the row that the two give, with the helpers below, the
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
TRANSACTIONS, INTERACTIONS, CUSTOMER = "transactions", "interactions", "customer"
CHURN, SEGMENTS, RECOMMENDATION, LIFETIME_VALUE = "churn", "segmentation", "recommendation", "lifetime value"


@dataclass(frozen=True)
class Feature:
    """One column: what it means, in what unit, what null says, what it is for, and how it is computed.

    Attributes:
        source: the frame that the expression is over.
        expression: of an aggregate, a function of the condition under which an event counts (always true
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


def _sum(amount: Column) -> Column:
    return F.coalesce(F.sum(amount), F.lit(0)).cast(MONEY)


def _spend(counts: Column) -> Column:
    return _sum(F.when(counts & F.col("completed"), F.col("amount")))


def _orders(counts: Column) -> Column:
    return F.size(F.collect_set(F.when(counts & F.col("completed"), F.col("order_id"))))


SESSIONS = "STRUCT<last: BIGINT, sessions: INT, micros: BIGINT>"


def _sessions() -> Column:
    """Number of sessions and the time within them, by one walk through the interactions in their order."""
    times = F.sort_array(F.collect_list(F.unix_micros("timestamp")))

    def walk(state: Column, at: Column) -> Column:
        goes_on = at - state["last"] <= SESSION_GAP_SECONDS * MICROS
        return F.struct(
            at.alias("last"),
            F.when(goes_on, state["sessions"]).otherwise(state["sessions"] + 1).alias("sessions"),
            F.when(goes_on, state["micros"] + at - state["last"]).otherwise(state["micros"]).alias("micros"),
        )

    nothing = F.struct(
        F.lit(None).cast("bigint").alias("last"), F.lit(0).alias("sessions"), F.lit(0).cast("bigint").alias("micros")
    )
    return F.aggregate(times, nothing, walk)


def _ratio(part: str, whole: str) -> Column:
    """part / whole as double, null when the whole is 0."""
    return F.when(F.col(whole) > 0, F.col(part).cast("double") / F.col(whole).cast("double"))


def _if_completed(column: str) -> Column:
    return F.when(F.col("completed"), F.col(column))


FEATURES: tuple[Feature, ...] = (
    # Helpers
    Feature("_transactions", "bigint", TRANSACTIONS, lambda counts: F.count_if(counts)),
    Feature("_purchases", "bigint", TRANSACTIONS, lambda counts: F.count_if(counts & F.col("completed"))),
    Feature("_last_purchase", "timestamp", TRANSACTIONS, lambda counts: F.max(_if_completed("date"))),
    Feature("_last_day", "date", TRANSACTIONS, lambda counts: F.max(_if_completed("day"))),
    Feature("_first_day", "date", TRANSACTIONS, lambda counts: F.min("first_day")),
    Feature("_days", "int", TRANSACTIONS, lambda counts: F.size(F.collect_set(_if_completed("day")))),
    Feature("_first_day_spend", MONEY, TRANSACTIONS, lambda counts: _spend(F.col("day") == F.col("first_day"))),
    Feature("_last_interaction", "timestamp", INTERACTIONS, lambda counts: F.max("timestamp")),
    Feature("_sessions", SESSIONS, INTERACTIONS, lambda counts: _sessions()),
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
        "total_interactions", "bigint", INTERACTIONS, lambda counts: F.count_if(counts),
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
    Feature("total_spend", MONEY, TRANSACTIONS, _spend, "Sum of purchase amounts.", "money", "", (SEGMENTS, LIFETIME_VALUE)),
    Feature(
        "purchase_frequency", "int", TRANSACTIONS, _orders,
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
    Feature("spend_30d", MONEY, TRANSACTIONS, _spend, "Spend in the last 30 days.", "money", "", (CHURN, LIFETIME_VALUE), 30),
    Feature("spend_90d", MONEY, TRANSACTIONS, _spend, "Spend in the last 90 days.", "money", "", (CHURN, LIFETIME_VALUE), 90),
    Feature("orders_30d", "int", TRANSACTIONS, _orders, "Orders in the last 30 days.", "orders", "", (CHURN,), 30),
    Feature("orders_90d", "int", TRANSACTIONS, _orders, "Orders in the last 90 days.", "orders", "", (CHURN,), 90),
    Feature("interactions_7d", "bigint", INTERACTIONS, F.count_if, "Interactions in the last 7 days.", "interactions", "", (CHURN,), 7),
    Feature("interactions_30d", "bigint", INTERACTIONS, F.count_if, "Interactions in the last 30 days.", "interactions", "", (CHURN,), 30),
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


def lifelong(source: str) -> list[Feature]:
    """The aggregates of a source that only new or changed events change: those without a window."""
    return [f for f in FEATURES if f.source == source and f.window_days is None]


def windowed(source: str) -> list[Feature]:
    """The aggregates of a source that change with as_of, because events leave their window."""
    return [f for f in FEATURES if f.source == source and f.window_days is not None]


def longest_window() -> int:
    """Days before as_of that a windowed feature may look back."""
    return max(f.window_days or 0 for f in FEATURES)
