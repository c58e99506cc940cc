"""Which snapshots of gold are left as time goes by."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from lakehouse.features.snapshots import PUBLISHED, Retention, Snapshot

FIRST = datetime(2026, 1, 1, tzinfo=UTC)


def made(as_of: datetime, at: datetime) -> Snapshot:
    return Snapshot(as_of, PUBLISHED, None, "", "", {}, 1, 1, at, 1, "r", at)


def left(retention: Retention, days: int) -> list[str]:
    """What is left of daily snapshots, each made at its own instant, if each run takes out what has expired."""
    held: list[Snapshot] = []
    for n in range(days):
        now = FIRST + timedelta(days=n)
        held.append(made(now, now))
        gone = retention.expired(held, now)
        held = [s for s in held if s.as_of not in gone]
    return [f"{s.as_of:%m-%d}" for s in held]


def test_daily_ones_then_the_last_of_each_week_then_of_each_month() -> None:
    kept = left(Retention(weekly_after=10, monthly_after=40), 120)
    # The last is 30 April. Midnights that end a Sunday are Mondays, and those that end a month are the first of the next.
    daily = [f"04-{d}" for d in range(20, 31)]
    weekly = ["03-23", "03-30", "04-01", "04-06", "04-13"]
    assert kept == ["01-01", "02-01", "03-01", *weekly, *daily]


def test_a_midnight_belongs_to_the_month_that_it_ends() -> None:
    instants = [datetime(2026, 1, 31, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 2, 2, tzinfo=UTC)]
    held = [made(t, FIRST) for t in instants]
    assert list(Retention(monthly_after=1).expired(held, FIRST + timedelta(days=2))) == [instants[0]]


def test_it_goes_by_when_a_snapshot_was_made_so_that_one_of_long_ago_is_not_gone_at_once() -> None:
    now = FIRST + timedelta(days=400)
    held = [made(FIRST + timedelta(days=n), now) for n in range(30)]
    retention = Retention(days=300, weekly_after=10, monthly_after=40)
    assert retention.expired(held, now) == {}
    assert len(retention.expired(held, now + timedelta(days=301))) == 29


@pytest.mark.parametrize("retention", [Retention(), Retention(days=10_000)])
def test_without_thinning_all_stay_and_the_latest_always_does(retention: Retention) -> None:
    assert len(left(retention, 50)) == 50
    held = [made(FIRST, FIRST)]
    assert Retention(days=1).expired(held, FIRST + timedelta(days=9)) == {}
    assert Retention(days=1).expired([*held, made(FIRST + timedelta(days=1), FIRST)], FIRST + timedelta(days=9)) == {
        FIRST: "made more than 1 days ago"
    }
