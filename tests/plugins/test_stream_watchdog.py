"""What the watchdog makes of a heartbeat."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from lakehouse_airflow.stream import Limits, heartbeats, troubles

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def beat(minutes_ago: float = 0, **changes: Any) -> dict[str, Any]:
    at = NOW - timedelta(minutes=minutes_ago)
    fine = {"at": at, "run_id": "r", "input": "orders", "state": "running", "error": None, "lag": 0}
    return fine | {"last_commit": at, "merged_until": at} | changes


@pytest.mark.parametrize(
    ("beats", "expected"),
    [
        ([beat()], []),
        ([beat(5)], []),
        ([beat(5.1)], ["no heartbeat since 11:54:54: the stream is stalled, or does not run"]),
        ([], ["no heartbeat for an hour or more: the stream is stalled, or does not run"]),
        ([beat(lag=10), beat(input="clicks", lag=11)], ["clicks is 11 messages behind"]),
        ([beat(state="down", error="no topic")], ["orders is down: no topic"]),
        # It was down, and is no more; an input that an earlier run had is nobody's concern.
        ([beat(3, state="down"), beat()], []),
        ([beat(3, input="clicks", state="down"), beat()], []),
        ([beat(n, run_id=str(n)) for n in range(3)], []),
        (
            [beat(n, run_id=str(n)) for n in range(4)],
            ["the stream has been started 4 times in an hour; its log says why it ends"],
        ),
        ([beat(merged_until=NOW - timedelta(minutes=30))], []),
        (
            [beat(merged_until=NOW - timedelta(minutes=31))],
            ["orders has reached bronze, but not silver for 31 minutes"],
        ),
        # Nothing has come since: nothing is late.
        ([beat(last_commit=NOW - timedelta(hours=3), merged_until=None)], []),
        ([beat(last_commit=None, merged_until=None)], []),
    ],
)
def test_what_is_wrong_is_told_in_a_line(beats: list[dict[str, Any]], expected: list[str]) -> None:
    assert troubles(beats, NOW, Limits(lag=10, starts=3)) == expected


def test_the_last_hour_of_the_table_is_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no stream has run on it"):
        heartbeats(str(tmp_path), NOW)
    rows = [beat(n) | {"messages": 1} for n in (61, 59, 0)]
    write_deltalake(str(tmp_path / "ops/stream"), pa.Table.from_pylist(rows))
    found = heartbeats(str(tmp_path), NOW)
    assert sorted(b["at"] for b in found) == [NOW - timedelta(minutes=59), NOW]
    assert set(found[0]) == set(beat())
