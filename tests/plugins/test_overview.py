"""The flow on the overview, from tables written without Spark."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path

from lakehouse_airflow.health import Freshness
from lakehouse_airflow.lake import Lake
from lakehouse_airflow.pages import flow
from lakehouse_airflow.stream import heard
from small_warehouse import NOON, at, fill

DONE = {
    "bronze.clicks": Counter(files_loaded=2, rows_in=30),
    "bronze.orders": Counter(files_loaded=1, rows_in=4),
    "staged.clicks": Counter(rows_in=30, rows_accepted=25, rows_quarantined=5),
    "silver.transactions": Counter(inserted=7, updated=2, deleted=1, unchanged=99),
    "gold.customer_features": Counter(rows_written=4),
    "gold.product_affinity": Counter(rows_written=1_000),
}


def test_each_step_has_what_there_is_and_what_today_has_brought(tmp_path: Path) -> None:
    fill(tmp_path)
    promises = [
        Freshness("silver.transactions", at(11), timedelta(hours=1)),
        Freshness("silver.interactions", at(9), timedelta(hours=2)),
        Freshness("gold.customer_features", at(6), timedelta(days=1)),
    ]
    found = Lake(str(tmp_path)).state()
    told = {
        s.name: (s.figure, s.what, s.today, s.late, s.fresh) for s in flow(found, DONE, promises, heard([], NOON), NOON)
    }
    assert told == {
        "Sources": (1, "inputs", ["3 files today"], [], False),
        "Bronze": (3, "rows as received", ["34 today", "1 batch waits for validate"], [], False),
        "Staged": (
            0,
            "rows that pass",
            ["25 accepted today", "5 quarantined today", "1 batch waits for merge"],
            [],
            False,
        ),
        "Silver": (5, "keys as they are now", ["10 changed today"], ["interactions: 3 h ago"], False),
        "Gold": (12, "customers as of 2026-03-01 01:00", ["4 written today"], [], True),
    }


def test_with_a_stream_the_figures_are_said_to_be_of_batches(tmp_path: Path) -> None:
    fill(tmp_path)
    found = Lake(str(tmp_path)).state()
    (beat,) = found.stream
    for minutes, waiting in ((4, "1,234 wait in Kafka"), (6, "the stream is silent")):
        now = beat["at"] + timedelta(minutes=minutes)
        sources, bronze, *_ = flow(found, DONE, [], heard(found.stream, now), now)
        assert sources.today == ["3 files today by batches", waiting]
        assert bronze.today == ["34 today by batches", "1 batch waits for validate"]
