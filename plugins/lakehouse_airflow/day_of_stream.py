"""How the stream has fared over the last day: its heartbeats, summed up by quarters of an hour."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from lakehouse_airflow.lake import Lake

TABLE = "ops.stream"
SLOT, SLOTS = timedelta(minutes=15), 96
ISO = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Figure:
    """One figure of an input.

    Attributes:
        slots: its value in each quarter of an hour, the oldest first; None where the stream has told nothing.
        summed: whether the day's value is the sum of them, and not the most of them.
    """

    name: str
    slots: list[float | None]
    summed: bool

    @property
    def told(self) -> list[float]:
        return [s for s in self.slots if s is not None]

    @property
    def last(self) -> float:
        return self.told[-1]

    @property
    def day(self) -> float:
        return sum(self.told) if self.summed else max(self.told)


NAMES = {
    "per_second": ("messages a second", False),
    "lag": ("waiting in Kafka, at most", False),
    "batch_seconds": ("seconds of a batch, at most", False),
    "messages": ("messages", True),
    "rejected": ("rows quarantined", True),
    "begun_anew": ("begun anew", True),
}


def day(lake: Lake, now: datetime) -> dict[str, list[Figure]]:
    """The figures of each input that has told something within 24 hours before an instant, the slot of the instant included."""
    if TABLE not in lake.names():
        return {}
    first = _slot(now) - (SLOTS - 1) * SLOT
    # Both at the edge of a slot, so that it is the same question for a quarter of an hour.
    rows = lake.select(SUMMED.format(first=f"{first:{ISO}}", end=f"{first + SLOTS * SLOT:{ISO}}"), TABLE)
    found: dict[str, dict[str, list[float | None]]] = {}
    for row in rows:
        figures = found.setdefault(row["input"], {name: [None] * SLOTS for name in NAMES})
        place = (row["slot"] - first) // SLOT
        for name, slots in figures.items():
            slots[place] = row[name]
    return {
        i: [Figure(NAMES[n][0], slots, NAMES[n][1]) for n, slots in figures.items()] for i, figures in found.items()
    }


def _slot(instant: datetime) -> datetime:
    return instant.replace(minute=instant.minute - instant.minute % 15, second=0, microsecond=0)


# Messages and rejected rows are counted from the start of a run: what is new is the difference to the heartbeat before.
SUMMED = """
    WITH beats AS (
      SELECT *, lag(run_id) OVER of_input AS run_before, lag(messages) OVER of_input AS messages_before,
        lag(rejected) OVER of_input AS rejected_before, lag(restarts) OVER of_input AS restarts_before
      FROM t WHERE "at" >= TIMESTAMP '{first}' AND "at" < TIMESTAMP '{end}'
      WINDOW of_input AS (PARTITION BY input ORDER BY "at")),
    steps AS (
      SELECT *, CASE WHEN run_before IS NULL THEN 0 WHEN run_before <> run_id THEN messages ELSE messages - messages_before END AS more,
        CASE WHEN run_before IS NULL THEN 0 WHEN run_before <> run_id THEN rejected ELSE rejected - rejected_before END AS more_rejected,
        CASE WHEN run_before IS NULL THEN 0 WHEN run_before <> run_id THEN restarts + 1 ELSE restarts - restarts_before END AS more_restarts
      FROM beats)
    SELECT input, date_bin(INTERVAL '15 minutes', "at", TIMESTAMP '1970-01-01T00:00:00Z') AS slot,
      avg(per_second) AS per_second, max("lag") AS lag, max(batch_seconds) AS batch_seconds,
      sum(more) AS messages, sum(more_rejected) AS rejected, sum(more_restarts) AS begun_anew
    FROM steps GROUP BY 1, 2 ORDER BY 1, 2"""
