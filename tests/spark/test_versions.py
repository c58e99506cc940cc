"""Versions of a key folded into history and current state, against a plain Python model."""

from __future__ import annotations

import dataclasses
import random
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lakehouse import versions
from lakehouse.odcs import load_contracts
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from support import ROOT

CONTRACTS = load_contracts(ROOT / "contracts")
CUSTOMERS = CONTRACTS["customers"]
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
STAGED = f"{CUSTOMERS.ddl()}, _deleted BOOLEAN, _sequence STRUCT<at: TIMESTAMP, deleted: BOOLEAN, received: TIMESTAMP, file: STRING, block: BIGINT, row: BIGINT>"


@dataclasses.dataclass(frozen=True, order=True)
class Version:
    """A version of a customer; the fields compare in the order of the sequence."""

    at: int
    deleted: bool
    received: int
    file: str
    row: int
    key: str = dataclasses.field(compare=False)
    name: str | None = dataclasses.field(compare=False)
    registered: int | None = dataclasses.field(compare=False)
    active: int | None = dataclasses.field(compare=False)


def day(n: int | None) -> datetime | None:
    return None if n is None else EPOCH + timedelta(days=n)


def frame(spark: SparkSession, rows: list[Version]) -> DataFrame:
    data = [
        (
            v.key,
            v.name,
            None,
            day(v.registered),
            "regular",
            None,
            day(v.active),
            v.deleted,
            (day(v.at), v.deleted, day(v.received), v.file, 0, v.row),
        )
        for v in rows
    ]
    return spark.createDataFrame(data, STAGED)


def model_history(rows: set[Version]) -> list[tuple[Any, ...]]:
    """(key, name, least registered, greatest active, from, to, deleted), computed the obvious way."""
    result = []
    for key, group in groupby(sorted(rows, key=lambda v: (v.key, v)), key=lambda v: v.key):
        runs: list[list[Version]] = []
        for v in group:
            if runs and (runs[-1][-1].deleted, None if v.deleted else runs[-1][-1].name) == (
                v.deleted,
                None if v.deleted else v.name,
            ):
                runs[-1].append(v)
            else:
                runs.append([v])
        for n, run in enumerate(runs):
            registered = [v.registered for v in run if v.registered is not None]
            active = [v.active for v in run if v.active is not None]
            result.append(
                (
                    key,
                    None if run[0].deleted else run[0].name,
                    day(min(registered, default=None)),
                    day(max(active, default=None)),
                    day(run[0].at),
                    day(runs[n + 1][0].at) if n + 1 < len(runs) else None,
                    run[0].deleted,
                )
            )
    return sorted(result, key=repr)


def model_current(rows: set[Version]) -> list[tuple[Any, ...]]:
    """(key, name, least registered, greatest active) of the keys that are not deleted."""
    result = []
    for key, group in groupby(sorted(rows, key=lambda v: (v.key, v)), key=lambda v: v.key):
        all_of = list(group)
        if all_of[-1].deleted:
            continue
        alive = [v for v in all_of if not v.deleted]
        registered = [v.registered for v in alive if v.registered is not None]
        active = [v.active for v in alive if v.active is not None]
        result.append((key, all_of[-1].name, day(min(registered, default=None)), day(max(active, default=None))))
    return sorted(result, key=repr)


def utc(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def history_of(folded: DataFrame) -> list[tuple[Any, ...]]:
    rows = folded.select(
        "customer_id", "name", "registration_date", "last_active_date", "valid_from", "valid_to", "_deleted"
    ).collect()
    return sorted((tuple(utc(x) for x in r) for r in rows), key=repr)


def current_of(folded: DataFrame) -> list[tuple[Any, ...]]:
    rows = versions.current(folded, CUSTOMERS).where(~F.col("_deleted"))
    rows = rows.select("customer_id", "name", "registration_date", "last_active_date").collect()
    return sorted((tuple(utc(x) for x in r) for r in rows), key=repr)


some_versions = st.lists(
    st.builds(
        Version,
        at=st.integers(0, 4),
        received=st.integers(0, 2),
        file=st.sampled_from(["a", "b"]),
        row=st.integers(0, 50),
        key=st.sampled_from(["1", "2", "03", "3"]),
        name=st.sampled_from(["x", "y", None]),
        registered=st.one_of(st.none(), st.integers(-5, 0)),
        active=st.one_of(st.none(), st.integers(0, 5)),
        deleted=st.booleans() | st.just(False),
    ),
    min_size=1,
    max_size=60,
    # A position holds one version of one key.
    unique_by=lambda v: (v.at, v.received, v.file, v.row),
)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=some_versions, seed=st.integers())
def test_any_split_of_any_versions_in_any_order_gives_what_the_model_gives(
    spark: SparkSession, rows: list[Version], seed: int
) -> None:
    shuffled = random.Random(seed)
    deliveries = rows + shuffled.sample(rows, len(rows) // 3)
    shuffled.shuffle(deliveries)
    cut = shuffled.randint(0, len(deliveries))
    history = versions.fold(versions.as_versions(frame(spark, deliveries[:cut]), CUSTOMERS), CUSTOMERS)
    again = versions.unfold(history, CUSTOMERS).unionByName(
        versions.as_versions(frame(spark, deliveries[cut:]), CUSTOMERS)
    )
    folded = versions.fold(again, CUSTOMERS)
    assert history_of(folded) == model_history(set(rows))
    assert current_of(folded) == model_current(set(rows))


def version(at: int, name: str | None, row: int = 0, deleted: bool = False, received: int = 0) -> Version:
    return Version(at, deleted, received, "f", row, "1", name, None, None)


def test_a_late_version_splits_the_interval_it_falls_into(spark: SparkSession) -> None:
    first = versions.fold(
        versions.as_versions(frame(spark, [version(1, "x"), version(5, "x"), version(7, "x")]), CUSTOMERS), CUSTOMERS
    )
    assert [(r[4], r[5]) for r in history_of(first)] == [(day(1), None)]
    late = versions.as_versions(frame(spark, [version(3, "y")]), CUSTOMERS)
    split = versions.fold(versions.unfold(first, CUSTOMERS).unionByName(late), CUSTOMERS)
    assert {(r[1], r[4], r[5]) for r in history_of(split)} == {
        ("x", day(1), day(3)),
        ("y", day(3), day(5)),
        ("x", day(5), None),
    }


def test_first_marks_the_first_interval_only(spark: SparkSession) -> None:
    folded = versions.fold(versions.as_versions(frame(spark, [version(1, "x"), version(2, "y")]), CUSTOMERS), CUSTOMERS)
    assert {(r["name"], r["_first"]) for r in folded.collect()} == {("x", True), ("y", False)}


def test_ties_of_time_are_decided_by_arrival_then_file_then_row(spark: SparkSession) -> None:
    rows = [version(1, "early arrival", row=9), version(1, "late arrival", received=1), version(1, "row", row=10)]
    folded = versions.fold(versions.as_versions(frame(spark, rows), CUSTOMERS), CUSTOMERS)
    assert [r[1] for r in current_of(folded)] == ["late arrival"]


def test_a_deletion_wins_ties_of_time_and_a_later_version_brings_the_key_back(spark: SparkSession) -> None:
    rows = [version(1, "x"), version(2, None, deleted=True), version(2, "arrived after", received=2, row=1)]
    folded = versions.fold(versions.as_versions(frame(spark, rows), CUSTOMERS), CUSTOMERS)
    assert current_of(folded) == []
    again = versions.as_versions(frame(spark, [version(3, "back")]), CUSTOMERS)
    back = versions.fold(versions.unfold(folded, CUSTOMERS).unionByName(again), CUSTOMERS)
    assert [r[1] for r in current_of(back)] == ["back"]


def test_insert_only_keeps_the_lowest_sequence(spark: SparkSession) -> None:
    contract = CONTRACTS["interactions"]
    ddl = f"{contract.ddl()}, _sequence STRUCT<at: TIMESTAMP, deleted: BOOLEAN, received: TIMESTAMP, file: STRING, block: BIGINT, row: BIGINT>"
    rows = [
        ("i", None, "click", day(1), None, "website", None, None, (day(2), False, day(2), "f", 0, 1)),
        ("i", "c", "view", day(1), None, "website", None, "p", (day(2), False, day(2), "f", 0, 0)),
    ]
    for order in (rows, rows[::-1]):
        (kept,) = versions.earliest(spark.createDataFrame(order, ddl), contract).collect()
        assert (kept["interaction_type"], kept["customer_id"], kept["product_id"]) == ("view", "c", "p")
