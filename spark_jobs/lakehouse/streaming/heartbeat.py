"""What the stream tells of itself: a row for each input every few seconds in ``ops.stream``, and gauges for Prometheus."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any

import pyarrow as pa
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from lakehouse.errors import ConfigurationError
from lakehouse.tables import Warehouse

TABLE = "ops.stream"
KEPT_DAYS = 7


@dataclass(frozen=True)
class Beat:
    """A row of the table: a ``Pulse`` at an instant."""

    at: datetime
    run_id: str
    input: str
    state: str
    error: str | None
    restarts: Annotated[int, pa.int32()]
    messages: int
    per_second: float
    lag: int
    batch_seconds: float
    last_commit: datetime | None
    merged_until: datetime | None
    rejected: int


@dataclass
class Pulse:
    """How an input fares.

    Attributes:
        messages, rejected: loaded, and quarantined, since the stream was started.
        lag: messages that are in Kafka and not yet in bronze.
        batch_seconds: how long the last micro-batch took.
        last_commit: when bronze was written last.
        merged_until: silver has what was loaded by then.
    """

    input: str
    state: str = "running"
    error: str = ""
    restarts: int = 0
    messages: int = 0
    lag: int = 0
    batch_seconds: float = 0.0
    last_commit: datetime | None = None
    merged_until: datetime | None = None
    rejected: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, messages: int = 0, rejected: int = 0) -> None:
        with self._lock:
            self.messages += messages
            self.rejected += rejected


class Heartbeat:
    """Writes pulses."""

    def __init__(self, warehouse: Warehouse, run_id: str, started: datetime) -> None:
        self._journal, self._run_id = warehouse.journal(TABLE, Beat), run_id
        self._last: dict[str, int] = {}
        self._at = self._cleared = started

    def beat(self, pulses: Iterable[Pulse], now: datetime) -> None:
        """Append a row for each pulse, in one commit; once a day, delete those that are older than a week."""
        seconds = max((now - self._at).total_seconds(), 0.001)
        rows = []
        for p in pulses:
            rate = (p.messages - self._last.get(p.input, 0)) / seconds
            self._last[p.input] = p.messages
            rows.append(
                Beat(
                    now, self._run_id, p.input, p.state, p.error or None, p.restarts, p.messages,
                    rate, p.lag, p.batch_seconds, p.last_commit, p.merged_until, p.rejected,
                )
            )  # fmt: skip
        self._at = now
        self._journal.append(rows)
        if now - self._cleared > timedelta(days=1):
            self._cleared = now
            oldest = now - timedelta(days=KEPT_DAYS)
            self._journal.delete(f"at < TIMESTAMP '{oldest:%Y-%m-%d %H:%M:%S}+00:00'")


GAUGES = {
    "up": "1 while the input is loaded, 0 while it is paused after a failure or down",
    "messages": "Messages loaded since the stream was started",
    "rejected": "Rows quarantined since the stream was started",
    "lag": "Messages in Kafka that are not in bronze yet",
    "batch_seconds": "Seconds that the last micro-batch took",
    "restarts": "How often the input has been begun anew after a failure",
    "last_commit_seconds": "When bronze was written last, in seconds since 1970",
    "merged_until_seconds": "Silver has what was loaded by then, in seconds since 1970",
}


class Metrics:
    """An endpoint for Prometheus."""

    def __init__(self, address: str) -> None:
        """Listen on HOST:PORT; raises ConfigurationError if that cannot be."""
        registry = CollectorRegistry()
        self._gauges = {
            n: Gauge(f"lakehouse_stream_{n}", text, ["input"], registry=registry) for n, text in GAUGES.items()
        }
        host, _, port = address.rpartition(":")
        try:
            self._server, _ = start_http_server(int(port), host or "127.0.0.1", registry=registry)
        except (ValueError, OverflowError, OSError) as error:
            raise ConfigurationError(
                f"--metrics {address} cannot be listened on: {error}", todo="Write HOST:PORT with a free port."
            ) from error

    def set(self, pulses: Iterable[Pulse]) -> None:
        for p in pulses:
            values: dict[str, Any] = {
                **{"up": p.state == "running", "messages": p.messages, "rejected": p.rejected, "lag": p.lag},
                **{"batch_seconds": p.batch_seconds, "restarts": p.restarts},
                "last_commit_seconds": p.last_commit.timestamp() if p.last_commit else 0,
                "merged_until_seconds": p.merged_until.timestamp() if p.merged_until else 0,
            }
            for name, value in values.items():
                self._gauges[name].labels(p.input).set(value)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
