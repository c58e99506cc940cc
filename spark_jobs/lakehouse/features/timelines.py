"""Rows that hold from the instant of one snapshot until that of another, and how a snapshot is set into them or taken out.

A key's timeline says what its values are at each kept instant. It has a row for each run of instants at which they are the
same: ``valid_from`` is the first of them, ``valid_to`` the first kept instant after them at which they are others, or at
which the key is not there; null: there is no later one. So the rows are a pure function of the values at the kept instants,
in whatever order the snapshots were made.

Functions take the rows of a table, the names of its ``keys`` and of its ``values``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

FROM, TO = "valid_from", "valid_to"
GONE = "_gone"
"""A column of the rows that change a table: whether the table loses the row."""


def as_of(rows: DataFrame, at: datetime) -> DataFrame:
    """The rows that hold at a kept instant."""
    return rows.where(_holds(_instant(at)))


def differing(
    rows: DataFrame, snapshot: DataFrame, keys: Sequence[str], values: Sequence[str], at: datetime
) -> DataFrame:
    """The keys of which a table does not say of an instant what a snapshot says, the snapshot's values, if it has any.

    Args:
        rows: the table's rows of the keys in question.
        snapshot: keys and values as of the instant; a key in question that is not among them is not there then.

    Returns:
        The keys, the values, and ``_there``: whether the snapshot has the key.
    """
    before = as_of(rows, at).select(*keys, F.struct(*values).alias("_before"))
    now = snapshot.select(*keys, F.struct(*values).alias("_now"))
    both = now.join(before, list(keys), "full")
    # A struct is null only where its side has no row.
    return both.where(~F.col("_now").eqNullSafe(F.col("_before"))).select(
        *keys, *[F.col("_now")[v].alias(v) for v in values], F.col("_now").isNotNull().alias("_there")
    )


def with_snapshot(
    rows: DataFrame,
    snapshot: DataFrame,
    keys: Sequence[str],
    values: Sequence[str],
    at: datetime,
    following: datetime | None,
) -> DataFrame:
    """The rows of some keys, once they say of an instant what a snapshot says.

    Args:
        rows: the table's rows of the keys of ``snapshot``; those that end before the kept instant before ``at``, or begin
            after ``following``, may be left out.
        snapshot: what ``differing`` gives, or all rows of the snapshot with ``_there``.
        following: the kept instant after ``at``; None if it is the last.
    """
    instant, end = _instant(at), _instant(following)
    earlier = rows.where(F.col(FROM) < instant).withColumn(TO, F.least(F.coalesce(TO, instant), instant))
    pieces = earlier.select(*keys, FROM, TO, *values).unionByName(
        snapshot.where("_there").select(*keys, instant.alias(FROM), end.alias(TO), *values)
    )
    if following is not None:
        later = rows.where(F.col(TO).isNull() | (F.col(TO) > end)).withColumn(FROM, F.greatest(FROM, end))
        pieces = pieces.unionByName(later.select(*keys, FROM, TO, *values))
    return _joined(pieces, keys, values)


def without(rows: DataFrame, keys: Sequence[str], values: Sequence[str], kept: Sequence[datetime]) -> DataFrame:
    """The rows of some keys, once no other instants than these are kept.

    Args:
        rows: all rows of the keys.
    """
    instants = _instants(kept)

    def first_kept(bound: Column) -> Column:
        return F.array_min(F.filter(instants, lambda t: t >= bound))

    snapped = rows.select(*keys, first_kept(F.col(FROM)).alias(FROM), first_kept(F.col(TO)).alias(TO), *values).where(
        F.col(FROM).isNotNull() & ~F.col(FROM).eqNullSafe(F.col(TO))
    )
    return _joined(snapped, keys, values)


def bounded_by(rows: DataFrame, instants: Sequence[datetime]) -> DataFrame:
    """The rows that begin or end at one of some instants."""
    return rows.where(F.col(FROM).isin(*instants) | F.col(TO).isin(*instants))


def changes(before: DataFrame, after: DataFrame, keys: Sequence[str], values: Sequence[str]) -> DataFrame:
    """The rows that a table gains, has otherwise, or loses (``_gone``) when rows of it become others; a row a key and ``valid_from``."""
    which = [*keys, FROM]
    content = F.struct(F.col(TO), *values)
    both = after.select(*which, content.alias("_after")).join(
        before.select(*which, content.alias("_before")), which, "full"
    )
    return both.where(~F.col("_after").eqNullSafe(F.col("_before"))).select(
        *which, *[F.col("_after")[c].alias(c) for c in (TO, *values)], F.col("_after").isNull().alias(GONE)
    )


def of_snapshots(rows: DataFrame, keys: Sequence[str], values: Sequence[str], kept: Sequence[datetime]) -> DataFrame:
    """Timelines from whole snapshots, a row a key and ``as_of``."""
    instants = _instants(kept)
    following = F.array_min(F.filter(instants, lambda t: t > F.col("as_of")))
    pieces = rows.where(F.array_contains(instants, F.col("as_of"))).select(
        *keys, F.col("as_of").alias(FROM), following.alias(TO), *values
    )
    return _joined(pieces, keys, values)


def _joined(pieces: DataFrame, keys: Sequence[str], values: Sequence[str]) -> DataFrame:
    """Rows that follow each other with the same values made one."""
    in_time = Window.partitionBy(*keys).orderBy(FROM)
    same = F.struct(F.col(FROM).alias("at"), *values).eqNullSafe(
        F.lag(F.struct(F.col(TO).alias("at"), *values)).over(in_time)
    )
    runs = pieces.withColumn("_begins", F.when(same, 0).otherwise(1)).withColumn("_run", F.sum("_begins").over(in_time))
    # A row without an end is the last of its run.
    end = F.when(F.count(F.when(F.col(TO).isNull(), 1)) == 0, F.max(TO))
    return (
        runs.groupBy(*keys, "_run")
        .agg(F.min(FROM).alias(FROM), end.alias(TO), *[F.first(v).alias(v) for v in values])
        .select(*keys, FROM, TO, *values)
    )


def _holds(instant: Column) -> Column:
    return (F.col(FROM) <= instant) & (F.col(TO).isNull() | (F.col(TO) > instant))


def _instant(at: datetime | None) -> Column:
    return F.lit(at).cast("timestamp")


def _instants(kept: Sequence[datetime]) -> Column:
    return F.array(*map(_instant, kept)).cast("array<timestamp>")
