"""The last day of the stream, from heartbeats written without Spark."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from lakehouse_airflow.day_of_stream import SLOTS, day
from lakehouse_airflow.lake import Lake
from small_warehouse import NOON, add, fill

NOW = NOON + timedelta(minutes=7)


def beat(
    at: datetime, run: str, messages: int, rejected: int = 0, restarts: int = 0, rate: float = 0.0, lag: int = 0, seconds: float = 0.0,
    of: str = "clicks",
) -> tuple[Any, ...]:  # fmt: skip
    return (at, run, of, "running", None, restarts, messages, rate, lag, seconds, at, at, rejected)


def test_a_quarter_of_an_hour_has_what_is_new_in_it(tmp_path: Path) -> None:
    def past(minutes: int) -> datetime:
        return NOON - timedelta(minutes=minutes)

    add(
        tmp_path, "ops.stream",
        beat(past(20), "r1", 100, rejected=1, rate=10.0, lag=5, seconds=1.0),
        beat(past(10), "r1", 160, rejected=3, restarts=1, rate=20.0, lag=50, seconds=2.0),
        # The stream was started again, and counts from nothing.
        beat(past(-1), "r2", 7, rejected=2, restarts=0, rate=1.0, lag=0, seconds=9.0),
        beat(past(-2), "r2", 10, rejected=2, restarts=2, rate=3.0, lag=4, seconds=1.0),
        beat(past(-15), "r2", 99, rate=99.0),
        # Just within the day, and just before it.
        beat(past(24 * 60 - 15), "r0", 5, rate=0.5, of="views"), beat(past(24 * 60 - 16), "r0", 9, rate=1.5, of="views"),
        beat(past(24 * 60 - 15) - timedelta(seconds=1), "r", 5, of="long ago"),
    )  # fmt: skip
    found = day(Lake(str(tmp_path)), NOW)
    assert list(found) == ["clicks", "views"]
    clicks = {f.name: (f.slots[-3:], f.last, f.day) for f in found["clicks"]}
    assert clicks == {
        "messages a second": ([10.0, 20.0, 2.0], 2.0, 20.0),
        "waiting in Kafka, at most": ([5, 50, 4], 4, 50),
        "seconds of a batch, at most": ([1.0, 2.0, 9.0], 9.0, 9.0),
        "messages": ([0, 60, 10], 10, 70),
        "rows quarantined": ([0, 2, 2], 2, 4),
        "begun anew": ([0, 1, 3], 3, 4),
    }
    assert all(f.slots[:-3] == [None] * (SLOTS - 3) for f in found["clicks"])
    views = {f.name: f.slots for f in found["views"]}
    assert views["messages"] == [4] + [None] * (SLOTS - 1)
    assert views["messages a second"] == [1.0] + [None] * (SLOTS - 1)


def test_a_stream_that_has_told_nothing_for_a_day_has_no_figures(tmp_path: Path) -> None:
    fill(tmp_path)
    assert day(Lake(str(tmp_path)), NOW + timedelta(days=2)) == {}
    assert day(Lake(str(tmp_path / "none")), NOW) == {}
