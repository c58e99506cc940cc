"""gold.customer_days: what a customer did on a UTC day, which the features of customers are sums of.

A row of the table says what is known today. As of an instant it holds if nothing about it has happened at that instant or
later (``_settled``); the few days of which that is not so are made from their events.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse.features import silver
from lakehouse.features.catalogue import MONEY, joined_sessions
from lakehouse.features.silver import Activity

KEYS = ["day", "customer_id"]
VALUES = (
    "interactions", "first_interaction", "last_interaction", "sessions", "session_micros",
    "purchases", "first_purchase", "last_purchase", "orders", "_order_ids", "spend", "cancellations",
)  # fmt: skip
SETTLED = "_settled"


def of_activity(activity: Activity) -> DataFrame:
    """(day, customer_id) with an event before the activity's instant, as known then."""
    return _summed(_events(activity.transactions, activity.interactions), KEYS)


def parts(days: DataFrame, activity: Activity, starts: Collection[datetime]) -> DataFrame:
    """Days with the instant from which on they count (``start``); those into which windows start within are two rows.

    Args:
        days: as of the activity's instant.
        starts: of windows that end with it.
    """
    within = sorted(s for s in starts if s != silver.midnight(s.date()))
    whole = days.withColumn("start", F.col("day").cast("timestamp"))
    if not within:
        return whole
    cut = {s.date() for s in within}
    some = activity.on_days([(day, day) for day in sorted(cut)])
    start = F.greatest(F.col("day").cast("timestamp"), *[F.when(F.col("at") >= s, F.lit(s)) for s in within])
    events = _events(some.transactions, some.interactions).withColumn("start", start)
    return whole.where(~F.col("day").isin(cut)).unionByName(_summed(events, [*KEYS, "start"]))


def of_silver(frames: Mapping[str, DataFrame]) -> DataFrame:
    """The table's rows: everything that is known today, with the last instant at which something about them happened.

    A day of which everything has been moved to another, or deleted, keeps a row with zeros: it tells when.
    """
    history = frames["transactions"]
    stands = F.col("valid_to").isNull() & ~F.col("_deleted")
    begun = F.when(~F.col("_first"), F.col("valid_from"))
    transactions = history.select(
        *silver.order(), F.greatest("date", begun, "valid_to").alias(SETTLED), stands.alias("_stands")
    )
    gone = transactions.where(~F.col("_stands")).select("customer_id", "day", SETTLED)
    interactions = frames["interactions"].select(*silver.interaction(), F.col("timestamp").alias(SETTLED))
    events = _events(transactions.where("_stands"), interactions, SETTLED).unionByName(
        gone.where(F.col("customer_id").isNotNull() & F.col("day").isNotNull()), allowMissingColumns=True
    )
    return _summed(events, KEYS, **{SETTLED: F.max(SETTLED)})


def as_of(stored: DataFrame, activity: Activity, unsettled: Sequence[tuple[date, date]]) -> DataFrame:
    """What ``of_activity`` gives, mostly from the table.

    Args:
        stored: the table.
        unsettled: ranges of days, both ends included, among which are all days that ``unsettled_days`` names.
    """
    instant = F.lit(activity.as_of)
    something = (F.col("interactions") > 0) | (F.col("purchases") + F.col("cancellations") > 0)
    held = stored.where((F.col(SETTLED) < instant) & something).select(*KEYS, *VALUES)
    if not unsettled:
        return held
    some = stored.where(F.col(SETTLED) >= instant).select(*KEYS)
    return held.union(of_activity(activity.on_days(unsettled).of(some)))


def unsettled_days(stored: DataFrame, at: datetime) -> DataFrame:
    """(day) with a row that is not to be used as of an instant, though it may have had events before it."""
    return (
        stored.where((F.col(SETTLED) >= F.lit(at)) & (F.col("day").cast("timestamp") < F.lit(at)))
        .select("day")
        .distinct()
    )


def ranges(days: Collection[date], most: int = 50) -> list[tuple[date, date]]:
    """Ranges, both ends included, that have the days, in their order: with no other day between them if that are not too many."""
    ordered = sorted(set(days))
    gaps = [n for n in range(1, len(ordered)) if ordered[n] - ordered[n - 1] > timedelta(days=1)]
    widest = sorted(gaps, key=lambda n: ordered[n] - ordered[n - 1], reverse=True)[: most - 1]
    starts = [0, *sorted(widest)] if ordered else []
    return [
        (ordered[start], ordered[end - 1])
        for start, end in zip(starts, [*starts[1:], len(ordered)], strict=bool(ordered))
    ]


def _events(transactions: DataFrame, interactions: DataFrame, *more: str) -> DataFrame:
    """Orders and interactions of customers in one frame; an interaction has no ``order_id``."""
    orders = transactions.select(
        "customer_id", "day", F.col("date").alias("at"), "order_id", "amount", "completed", *more
    )
    looks = interactions.select("customer_id", "day", F.col("timestamp").alias("at"), *more)
    both = orders.unionByName(looks, allowMissingColumns=True)
    return both.where(F.col("customer_id").isNotNull() & F.col("day").isNotNull())


def _summed(events: DataFrame, keys: Sequence[str], **more: Column) -> DataFrame:
    """``keys``, ``VALUES`` and what ``more`` names."""
    looked, bought = F.when(F.col("order_id").isNull(), F.col("at")), F.when(F.col("completed"), F.col("at"))
    summed = events.groupBy(*keys).agg(
        F.count(looked).alias("interactions"),
        F.min(looked).alias("first_interaction"),
        F.max(looked).alias("last_interaction"),
        _sessions(F.unix_micros(looked)).alias("_sessions"),
        F.count_if("completed").alias("purchases"),
        F.count_if(~F.col("completed")).alias("cancellations"),
        F.coalesce(F.sum(F.when(F.col("completed"), F.col("amount"))), F.lit(0)).cast(MONEY).alias("spend"),
        F.min(bought).alias("first_purchase"),
        F.max(bought).alias("last_purchase"),
        F.sort_array(F.collect_set(F.when(F.col("completed"), F.col("order_id")))).alias("_order_ids"),
        *[column.alias(name) for name, column in more.items()],
    )
    of_sessions = {
        "sessions": F.col("_sessions.sessions"),
        "session_micros": F.col("_sessions.micros"),
        "orders": F.size("_order_ids"),
    }
    return summed.withColumns(of_sessions).select(*keys, *VALUES, *more)


def _sessions(micros: Column) -> Column:
    """Those of a day's interactions."""
    alone, no_time = F.lit(1).alias("sessions"), F.lit(0).cast("bigint").alias("micros")
    times = F.sort_array(F.collect_list(micros))
    return joined_sessions(F.transform(times, lambda at: F.struct(at.alias("first"), at.alias("last"), alone, no_time)))
