"""Timelines after any snapshots set and taken out, in any order, against a plain dictionary of values by instant."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from lakehouse.features import timelines
from lakehouse.features.timelines import FROM, GONE, TO
from lakehouse.instants import instant
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

KEYS, VALUES = ["customer", "product"], ["looks", "last"]
DDL = f"customer STRING, product INT, {FROM} TIMESTAMP, {TO} TIMESTAMP, looks BIGINT, last STRING"
START = instant("2026-03-01")
EVERY_KEY = [(customer, product) for customer in ("a", "b", "") for product in range(12)]

Key = tuple[str, int]
Value = tuple[int | None, str | None]
Row = tuple[str, int, datetime, datetime | None, int | None, str | None]
Snapshots = dict[datetime, dict[Key, Value]]


def expected(snapshots: Snapshots) -> set[Row]:
    """The rows that the module promises: one for each run of kept instants with the same values."""
    kept, rows = sorted(snapshots), set()
    for key in EVERY_KEY:
        begun: tuple[datetime, Value] | None = None
        for at in kept:
            value = snapshots[at].get(key)
            if begun is not None and begun[1] != value:
                rows.add((*key, begun[0], at, *begun[1]))
                begun = None
            if begun is None and value is not None:
                begun = (at, value)
        if begun is not None:
            rows.add((*key, begun[0], None, *begun[1]))
    return rows


def collected(frame: DataFrame) -> set[Row]:
    rows = [tuple(r) for r in frame.collect()]
    found = {tuple(v.replace(tzinfo=START.tzinfo) if isinstance(v, datetime) else v for v in r) for r in rows}
    assert len(found) == len(rows), "a row is there twice"
    return found  # type: ignore[return-value]


class Table:
    """A table of timelines as a set of rows, changed as MERGE would."""

    def __init__(self, spark: SparkSession) -> None:
        self.spark, self.rows = spark, set[Row]()

    @property
    def frame(self) -> DataFrame:
        return self.spark.createDataFrame(list(self.rows), DDL)

    def merge(self, changes: DataFrame) -> None:
        by_key = {r[:3]: r for r in self.rows}
        for *row, gone in (tuple(r.values()) for r in self._changes(changes)):
            key = tuple(row[:3])
            if gone:
                del by_key[key]
            else:
                assert by_key.get(key) != tuple(row), "nothing of it changes"
                by_key[key] = tuple(row)  # type: ignore[assignment]
        self.rows = set(by_key.values())

    def _changes(self, changes: DataFrame) -> list[dict[str, object]]:
        rows = [r.asDict() for r in changes.select(*KEYS, FROM, TO, *VALUES, GONE).collect()]
        for row in rows:
            for bound in (FROM, TO):
                row[bound] = row[bound].replace(tzinfo=START.tzinfo) if row[bound] else None
        return rows

    def put(self, at: datetime, snapshot: dict[Key, Value], following: datetime | None) -> None:
        now = self.spark.createDataFrame(
            [(*k, *v) for k, v in snapshot.items()], "customer STRING, product INT, looks BIGINT, last STRING"
        )
        different = timelines.differing(self.frame, now, KEYS, VALUES, at)
        before = self.frame.join(different.select(*KEYS), KEYS, "left_semi")
        after = timelines.with_snapshot(before, different, KEYS, VALUES, at, following)
        self.merge(timelines.changes(before, after, KEYS, VALUES))

    def remove(self, instants: list[datetime], kept: list[datetime]) -> None:
        touched = timelines.bounded_by(self.frame, instants).select(*KEYS).distinct()
        before = self.frame.join(touched, KEYS, "left_semi")
        after = timelines.without(before, KEYS, VALUES, kept)
        self.merge(timelines.changes(before, after, KEYS, VALUES))


def some_values(dice: random.Random) -> dict[Key, Value]:
    """Few different ones, nulls among them, so that neighbours are often the same."""
    values = [(1, "x"), (1, None), (None, None), (2, "x")]
    return {k: dice.choice(values) for k in EVERY_KEY if dice.random() < 0.8}


def test_any_order_of_snapshots_gives_the_timelines_of_what_is_kept(spark: SparkSession) -> None:
    dice, table, snapshots = random.Random(1), Table(spark), Snapshots()
    for step in range(9):
        if step in (4, 7):
            gone = dice.sample(sorted(snapshots), 2)
            for at in gone:
                del snapshots[at]
            table.remove(gone, sorted(snapshots))
        else:
            # Some anew, some between others, some behind them.
            at = START + timedelta(days=dice.randrange(6))
            others = dict(snapshots)
            snapshots[at] = some_values(dice)
            table.put(at, snapshots[at], min((t for t in others if t > at), default=None))
        assert table.rows == expected(snapshots), f"after step {step}"
    for at, values in snapshots.items():
        held = timelines.as_of(table.frame, at)
        assert {(r["customer"], r["product"]): (r["looks"], r["last"]) for r in held.collect()} == values


def test_timelines_of_whole_snapshots_are_those_of_one_after_the_other(spark: SparkSession) -> None:
    dice = random.Random(3)
    snapshots = {START + timedelta(days=n): some_values(dice) for n in range(5)}
    rows = [(*k, at, *v) for at, values in snapshots.items() for k, v in values.items()]
    frame = spark.createDataFrame(rows, "customer STRING, product INT, as_of TIMESTAMP, looks BIGINT, last STRING")
    kept = sorted(snapshots)[1:]
    assert collected(timelines.of_snapshots(frame, KEYS, VALUES, kept)) == expected({t: snapshots[t] for t in kept})
    assert frame.where(F.col("as_of") == F.lit(START)).count() == len(snapshots[START])
