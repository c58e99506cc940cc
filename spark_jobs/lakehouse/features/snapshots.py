"""Which snapshots gold has, in ``ops.snapshots``: from which versions of silver each was made, and whether it still holds.

An entry is added when a snapshot is published, when late data makes it stale, and when it expires. The
last entry of an instant tells its state.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lakehouse.contracts import Contract
from lakehouse.runtime.progress import Batch
from lakehouse.tables import Warehouse

TABLE = "ops.snapshots"
PUBLISHED, STALE, EXPIRED = "published", "stale", "expired"


@dataclass(frozen=True)
class Snapshot:
    """Gold as of an instant.

    Attributes:
        inputs: names what it depends on: merged batches and definitions.
        definitions: names the definitions alone, the columns of its tables among them.
        silver: the version of each table of silver that it was made from.
        customers: rows of gold.customer_features, of which ``recomputed`` were computed from events.
        run_id, at: of the run that has noted this.
    """

    as_of: datetime
    state: str
    reason: str | None
    inputs: str
    definitions: str
    silver: Mapping[str, int] = field(hash=False)
    customers: int
    recomputed: int
    made_at: datetime
    batch_id: int
    run_id: str
    at: datetime


@dataclass(frozen=True)
class Retention:
    """How long snapshots are kept, in days since each was made; None: for ever, or none is left out.

    Attributes:
        weekly_after: of those made longer ago, the last of each week stays, and that of each month where there is ``monthly_after``.
        monthly_after: of those made longer ago, the last of each month.
    """

    days: int | None = None
    weekly_after: int | None = None
    monthly_after: int | None = None

    @classmethod
    def of(cls, contracts: Iterable[Contract]) -> Retention:
        """The shortest of some tables, for a snapshot is in all of them or in none."""
        all_of = list(contracts)

        def shortest(days: Iterable[int | None]) -> int | None:
            return min((d for d in days if d is not None), default=None)

        return cls(
            shortest(c.retention_days for c in all_of),
            shortest(c.weekly_after_days for c in all_of),
            shortest(c.monthly_after_days for c in all_of),
        )

    def expired(self, held: Sequence[Snapshot], now: datetime) -> dict[datetime, str]:
        """Which of the snapshots that are held are to go, by instant, each with the reason; never the latest.

        A midnight belongs to the day, and so to the week and the month, that it ends.

        Args:
            held: in the order of their instants.
        """
        last_of_week = {_week(s.as_of): s.as_of for s in held}
        last_of_month = {_month(s.as_of): s.as_of for s in held}
        # So that a month is left with its end, and not with the end of its last week.
        spared = set(last_of_month.values()) if self.monthly_after is not None else set()
        gone = {}
        for s in held[:-1]:
            age = now - s.made_at
            if _is_over(age, self.days):
                gone[s.as_of] = f"made more than {self.days} days ago"
            elif _is_over(age, self.monthly_after) and last_of_month[_month(s.as_of)] != s.as_of:
                gone[s.as_of] = f"made more than {self.monthly_after} days ago, and not the last of its month"
            elif _is_over(age, self.weekly_after) and last_of_week[_week(s.as_of)] != s.as_of and s.as_of not in spared:
                gone[s.as_of] = f"made more than {self.weekly_after} days ago, and not the last of its week"
        return gone


def _is_over(age: timedelta, days: int | None) -> bool:
    return days is not None and age > timedelta(days=days)


def _week(as_of: datetime) -> tuple[int, int]:
    return (as_of - timedelta(microseconds=1)).isocalendar()[:2]


def _month(as_of: datetime) -> tuple[int, int]:
    day = as_of - timedelta(microseconds=1)
    return day.year, day.month


class Snapshots:
    """The snapshots of one warehouse, as known at the start of a run and changed by it."""

    def __init__(self, warehouse: Warehouse, run_id: str, now: datetime) -> None:
        self._journal, self._run_id, self._now = warehouse.journal(TABLE, Snapshot), run_id, now
        self._new: list[Snapshot] = []
        states = [PUBLISHED, STALE, EXPIRED]
        self._entries = sorted(self._journal.read(), key=lambda s: (s.batch_id, states.index(s.state)))

    @property
    def current(self) -> dict[datetime, Snapshot]:
        """The last entry of each instant, by instant."""
        last = {s.as_of: s for s in [*self._entries, *self._new]}
        return {as_of: last[as_of] for as_of in sorted(last)}

    @property
    def kept(self) -> list[datetime]:
        """The instants that have not expired."""
        return [s.as_of for s in self.current.values() if s.state != EXPIRED]

    @property
    def expired(self) -> list[datetime]:
        """The instants that have."""
        return [s.as_of for s in self.current.values() if s.state == EXPIRED]

    @property
    def newest(self) -> Snapshot | None:
        """The snapshot that was made last: up to its versions of silver, all late data have been told."""
        return max((s for s in self._entries if s.state == PUBLISHED), key=lambda s: s.batch_id, default=None)

    def base(self, as_of: datetime, definitions: Set[str], torn: set[datetime]) -> Snapshot | None:
        """The latest snapshot from which one as of an instant can be carried over.

        Args:
            definitions: the names of those by which it may have been made.
            torn: instants of which a killed run may have replaced some tables and not the others.
        """
        fit = [
            s
            for s in self.current.values()
            if s.as_of <= as_of and s.state != EXPIRED and s.definitions in definitions and s.as_of not in torn
        ]
        return fit[-1] if fit else None

    def published(
        self, batch: Batch, as_of: datetime, inputs: str, definitions: str, silver: Mapping[str, int],
        customers: int, recomputed: int,
    ) -> None:  # fmt: skip
        """Note a snapshot that has been made; ``commit`` makes the note durable."""
        self._new.append(
            Snapshot(as_of, PUBLISHED, None, inputs, definitions, silver, customers, recomputed, self._now, batch.batch_id, self._run_id, self._now)
        )  # fmt: skip

    def end(self, snapshot: Snapshot, state: str, reason: str, batch: Batch) -> None:
        """Note that a snapshot is stale, or expired."""
        self._new.append(
            dataclasses.replace(
                snapshot, state=state, reason=reason, batch_id=batch.batch_id, run_id=self._run_id, at=self._now
            )
        )

    def commit(self) -> None:
        """Write what was noted, in one commit."""
        if self._new:
            self._journal.append(self._new)
            self._entries += self._new
            self._new = []
