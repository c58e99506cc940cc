"""How the stream fares, by its heartbeat in ``ops.stream``: read without Spark."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

WINDOW = timedelta(hours=1)
SILENT, QUIET = "no heartbeat", "silent"
"""How a trouble begins that only a restart can end; and the state of an input that is not heard of any more."""
COLUMNS = ["at", "run_id", "input", "state", "error", "lag", "last_commit", "merged_until"]


@dataclass(frozen=True)
class Limits:
    """Beyond which somebody is to be told.

    Attributes:
        silence: without a heartbeat, the stream is stalled or gone.
        lag: messages of an input that wait in Kafka.
        delay: between a message in bronze and silver.
        starts: of the application in an hour.
    """

    silence: timedelta = timedelta(minutes=5)
    lag: int = 1_000_000
    delay: timedelta = timedelta(minutes=30)
    starts: int = 5


def heartbeats(warehouse: str, now: datetime) -> list[dict[str, Any]]:
    """The rows of the last hour.

    Raises:
        FileNotFoundError: there has never been a stream on this warehouse.
    """
    # Here, because it takes a second that every parse of a DAG file would pay.
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    from lakehouse_airflow.suite import canonical, options

    location = canonical(warehouse)
    try:
        table = DeltaTable(f"{location}/ops/stream", storage_options=options(location))
    except TableNotFoundError:
        raise FileNotFoundError(f"{warehouse} has no ops.stream: no stream has run on it.") from None
    return table.to_pyarrow_table(columns=COLUMNS, filters=[("at", ">=", now - WINDOW)]).to_pylist()


def troubles(beats: Iterable[dict[str, Any]], now: datetime, limits: Limits) -> list[str]:
    """What is wrong, one line each; nothing when all is well."""
    beats = sorted(beats, key=lambda b: b["at"])
    newest = {b["input"]: b for b in beats}
    if not newest or now - max(b["at"] for b in newest.values()) > limits.silence:
        since = f"since {max(b['at'] for b in newest.values()):%H:%M:%S}" if newest else "for an hour or more"
        return [f"{SILENT} {since}: the stream is stalled, or does not run"]
    found = []
    starts = len({b["run_id"] for b in beats})
    if starts > limits.starts:
        found.append(f"the stream has been started {starts} times in an hour; its log says why it ends")
    latest = max(b["at"] for b in newest.values())
    for name, b in sorted(newest.items()):
        if b["at"] < latest:
            # Of an input that an earlier run had.
            continue
        if b["state"] != "running":
            found.append(f"{name} is {b['state']}: {b['error']}")
        if b["lag"] > limits.lag:
            found.append(f"{name} is {b['lag']:,} messages behind")
        if b["last_commit"] and now - b["last_commit"] < WINDOW:
            delay = b["last_commit"] - (b["merged_until"] or b["last_commit"] - WINDOW)
            if delay > limits.delay:
                found.append(f"{name} has reached bronze, but not silver for {delay.total_seconds() / 60:.0f} minutes")
    return found


def heard(beats: Iterable[dict[str, Any]], now: datetime) -> list[dict[str, Any]]:
    """Heartbeats, with the state ``silent`` where the newest one is too old to be believed."""
    silence = Limits().silence
    return [b | {"state": QUIET} if now - b["at"] > silence else b for b in beats]
