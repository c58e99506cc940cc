"""Versions of a key folded into history and current state, against a plain Python model."""

from __future__ import annotations

import random
from typing import Any

import version_model as model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lakehouse import versions
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from version_model import CONTRACTS, CUSTOMERS, Version, day, frame


def current_of(folded: DataFrame) -> list[tuple[Any, ...]]:
    return model.rows_of_current(versions.current(folded, CUSTOMERS).where(~F.col("_deleted")))


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=model.some_versions, seed=st.integers())
def test_any_split_of_any_versions_in_any_order_gives_what_the_model_gives(
    spark: SparkSession, rows: list[Version], seed: int
) -> None:
    shuffled = random.Random(seed)
    deliveries = rows + shuffled.sample(rows, len(rows) // 3)
    shuffled.shuffle(deliveries)
    cut = shuffled.randint(0, len(deliveries))
    history = versions.build_scd2(versions.as_versions(frame(spark, deliveries[:cut]), CUSTOMERS), CUSTOMERS)
    again = versions.explode_versions(history, CUSTOMERS).unionByName(
        versions.as_versions(frame(spark, deliveries[cut:]), CUSTOMERS)
    )
    folded = versions.build_scd2(again, CUSTOMERS)
    assert model.rows_of_history(folded) == model.history(set(rows))
    assert current_of(folded) == model.current(set(rows))


def version(at: int, name: str | None, row: int = 0, deleted: bool = False, received: int = 0) -> Version:
    return Version(at, deleted, received, "f", row, "1", name, None, None)


def test_a_late_version_splits_the_interval_it_falls_into(spark: SparkSession) -> None:
    first = versions.build_scd2(
        versions.as_versions(frame(spark, [version(1, "x"), version(5, "x"), version(7, "x")]), CUSTOMERS), CUSTOMERS
    )
    assert [(r[4], r[5]) for r in model.rows_of_history(first)] == [(day(1), None)]
    late = versions.as_versions(frame(spark, [version(3, "y")]), CUSTOMERS)
    split = versions.build_scd2(versions.explode_versions(first, CUSTOMERS).unionByName(late), CUSTOMERS)
    assert {(r[1], r[4], r[5]) for r in model.rows_of_history(split)} == {
        ("x", day(1), day(3)),
        ("y", day(3), day(5)),
        ("x", day(5), None),
    }


def test_first_marks_the_first_interval_only(spark: SparkSession) -> None:
    folded = versions.build_scd2(
        versions.as_versions(frame(spark, [version(1, "x"), version(2, "y")]), CUSTOMERS), CUSTOMERS
    )
    assert {(r["name"], r["_first"]) for r in folded.collect()} == {("x", True), ("y", False)}


def test_ties_of_time_are_decided_by_arrival_then_file_then_row(spark: SparkSession) -> None:
    rows = [version(1, "early arrival", row=9), version(1, "late arrival", received=1), version(1, "row", row=10)]
    folded = versions.build_scd2(versions.as_versions(frame(spark, rows), CUSTOMERS), CUSTOMERS)
    assert [r[1] for r in current_of(folded)] == ["late arrival"]


def test_a_deletion_wins_ties_of_time_and_a_later_version_brings_the_key_back(spark: SparkSession) -> None:
    rows = [version(1, "x"), version(2, None, deleted=True), version(2, "arrived after", received=2, row=1)]
    folded = versions.build_scd2(versions.as_versions(frame(spark, rows), CUSTOMERS), CUSTOMERS)
    assert current_of(folded) == []
    again = versions.as_versions(frame(spark, [version(3, "back")]), CUSTOMERS)
    back = versions.build_scd2(versions.explode_versions(folded, CUSTOMERS).unionByName(again), CUSTOMERS)
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
