"""What is usual: figures of every batch in ``ops.quality``, and what in a batch differs from them.

A figure is unusual when its modified z-score, 0.6745 * (x - median) / MAD, is beyond 3.5 (Iglewicz and
Hoaglin, How to Detect and Handle Outliers, 1993); where the MAD is 0, the mean absolute deviation
takes its place. A figure must also differ by enough to matter to a person.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import fmean, median
from typing import TYPE_CHECKING

from lakehouse.contracts import Contract
from lakehouse.instants import of_micros
from lakehouse.runtime.progress import DONE, Batch, Progress
from lakehouse.tables import Warehouse

if TYPE_CHECKING:
    from lakehouse.validation.publishing import Published

TABLE = "ops.quality"
BATCHES, MIN_BATCHES, BOUND = 30, 8, 3.5
"""How many earlier batches are looked at, how many there must be, and the score beyond which is unusual."""
SHARE_THAT_MATTERS, FACTOR_THAT_MATTERS = 0.01, 1.5
ROWS, REJECTED = "rows", "rejected"


@dataclass(frozen=True)
class Figure:
    """A row of the table: of how many of a batch's rows a measure holds, and how many rows there were."""

    entity: str
    input: str
    batch_id: int
    measure: str
    value: int
    rows: int
    run_id: str
    at: datetime


def modified_z(value: float, past: list[float]) -> float:
    """How far a value lies from earlier ones, in robust standard deviations; infinite if those never differ."""
    middle = median(past)
    distances = [abs(p - middle) for p in past]
    spread = median(distances) / 0.6745 or fmean(distances) * 1.253314
    if spread == 0:
        return 0.0 if value == middle else math.copysign(math.inf, value - middle)
    return (value - middle) / spread


def unusual(measure: str, value: float, past: list[float]) -> str | None:
    """What is unusual about a figure (a number of rows, or a share of them), if anything."""
    if len(past) < MIN_BATCHES or abs(z := modified_z(value, past)) <= BOUND:
        return None
    middle = median(past)
    if measure == ROWS:
        matters = value > middle * FACTOR_THAT_MATTERS or value * FACTOR_THAT_MATTERS < middle
        figures = [f"{n:,.0f}" for n in (value, min(past), max(past), middle)]
    else:
        matters = abs(value - middle) > SHARE_THAT_MATTERS
        figures = [f"{n:.1%}" for n in (value, min(past), max(past), middle)]
    if not matters:
        return None
    now, least, most, usual = figures
    score = f"robust z {z:+.1f}" if math.isfinite(z) else "never another value"
    return f"{_words(measure, now)}; the last {len(past)} batches had {least} to {most}, median {usual} ({score})"


def _words(measure: str, figure: str) -> str:
    if measure == ROWS:
        return f"{figure} rows"
    kind, _, name = measure.partition(":")
    return {"missing": f"{name} is missing in {figure}", "rule": f"{figure} of the rows break {name}"}.get(
        kind, f"{figure} of the rows are rejected"
    )


class History:
    """The figures of one warehouse's batches."""

    def __init__(self, warehouse: Warehouse, progress: Progress, run_id: str, now: datetime) -> None:
        self._journal, self._run_id, self._now = warehouse.journal(TABLE, Figure), run_id, now
        self._done = {f.batch_id for f in progress.finished("validate") if f.state == DONE}
        self._new: list[Figure] = []
        self._earlier: dict[tuple[str, str], dict[int, dict[str, float]]] | None = None
        self._reading = threading.Lock()

    def add(self, batch: Batch, published: Published) -> list[str]:
        """Note the figures of a batch; returns what is unusual about them."""
        entity, rows = published.contract.name, published.rows
        figures = {ROWS: rows, REJECTED: published.quarantined, **published.measures}
        self._new += [
            Figure(entity, batch.unit, batch.batch_id, name, value, rows, self._run_id, self._now)
            for name, value in figures.items()
        ]
        if not rows:
            return []
        past = self._past(entity, batch.unit)
        found = [
            unusual(name, value if name == ROWS else value / rows, past.get(name, []))
            for name, value in figures.items()
        ]
        return [f"{entity} of {batch.unit}, batch {batch.batch_id}: {text}" for text in found if text]

    def commit(self) -> None:
        """Write what was noted, in one commit."""
        if self._new:
            new, self._new = self._new, []
            self._journal.append(new)

    def stale(self, contracts: Iterable[Contract], only: list[str]) -> list[str]:
        """Which entities have got no row, good or bad, for longer than their contract's freshness allows.

        Args:
            only: as given to the run; an entity is not missed where a person asked for others.
        """
        due = {c.name: timedelta(hours=c.freshness_hours) for c in contracts if c.freshness_hours and not only}
        if not due:
            return []
        figures = self._journal.rows(["entity", "at", "value"], {"measure": [ROWS]})
        newest: dict[str, int] = {}
        # Numbers, not objects: a stream leaves very many.
        micros = figures["at"].cast("int64").to_pylist()
        for name, at, rows in zip(figures["entity"].to_pylist(), micros, figures["value"].to_pylist(), strict=True):
            if rows > 0 and at > newest.get(name, 0):
                newest[name] = at
        ages = {name: self._now - of_micros(at) for name, at in newest.items()}
        return [
            f"{name}: no new rows for {_span(ages[name])}; its contract allows {_span(limit)} (freshness)"
            for name, limit in due.items()
            if name in ages and ages[name] > limit
        ]

    def _past(self, entity: str, unit: str) -> dict[str, list[float]]:
        """The figures of the last batches, by measure: rows as they are, all else as shares."""
        with self._reading:
            if self._earlier is None:
                self._earlier = self._read() if self._done else {}
        batches = self._earlier.get((entity, unit), {})
        past: dict[str, list[float]] = {}
        for batch_id in sorted(batches.keys() & self._done)[-BATCHES:]:
            for measure, figure in batches[batch_id].items():
                past.setdefault(measure, []).append(figure)
        return past

    def _read(self) -> dict[tuple[str, str], dict[int, dict[str, float]]]:
        """By entity and input, of each batch with rows, what came of each measure."""
        found: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
        # Of the batches that are still known as done: those that are settled for long have been forgotten.
        for f in self._journal.read(batch_id=self._done):
            if f.rows > 0:
                batch = found.setdefault((f.entity, f.input), {}).setdefault(f.batch_id, {})
                batch[f.measure] = f.value if f.measure == ROWS else f.value / f.rows
        return found


def _span(time: timedelta) -> str:
    hours = time.total_seconds() / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"
