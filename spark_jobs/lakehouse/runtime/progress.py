"""How far each stage has come: a write-ahead plan and an end per batch, in ``ops.progress``.

A stage first records what a batch covers (its inputs are batches of the stage before), then does
the batch's writes, each of which happens at most once because its Delta transaction is derived
from the batch, then records how the batch has ended. A run that is killed in between leaves a plan
without an end; the next run recovers it, as ``runtime/stages.py`` says. That is what a Structured
Streaming checkpoint does too; see docs/decisions for why the plan is kept in a table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from lakehouse.errors import TryAgain
from lakehouse.runtime.journal import Transaction
from lakehouse.runtime.payloads import Payload, decode, encode

if TYPE_CHECKING:
    from lakehouse.tables import Warehouse

TABLE = "ops.progress"
CORRUPT_ROWS = "corrupt"
"""Beside the rows that an ingested batch has in bronze: how many of them cannot be read."""
MAX_TRIES = 10
"""How often a plan is made anew when others of the same stage, for other units, were quicker."""
PLANNED, DONE, REFUSED, DISCARDED, VOID = "planned", "done", "refused", "discarded", "void"


@dataclass(frozen=True)
class Record:
    """A row of the table: a batch is planned, or has ended.

    Attributes:
        unit: what the batch is of: an input, an entity, or an instant.
        inputs: of a plan, the batches of the stage before that it covers.
        rows: of an end, how many rows each table has got.
        detail: a payload, as JSON.
    """

    stage: str
    unit: str
    batch_id: int
    state: str
    inputs: tuple[int, ...] | None
    rows: Mapping[str, int] | None
    detail: str | None
    run_id: str
    at: datetime


@dataclass(frozen=True)
class Work:
    """What a batch is to cover: batches of the stage before, for one unit."""

    unit: str
    inputs: tuple[int, ...] = ()
    payload: Payload | None = None


@dataclass(frozen=True)
class End:
    """How a batch has ended, and how many rows each table has got."""

    state: str = DONE
    rows: Mapping[str, int] = field(default_factory=dict, hash=False)
    payload: Payload | None = None


@dataclass(frozen=True)
class Batch:
    """Work that has been planned.

    Attributes:
        end: None while nobody has recorded one.
        redo: an earlier run has planned it.
    """

    stage: str
    unit: str
    batch_id: int
    inputs: tuple[int, ...] = ()
    payload: Payload | None = field(default=None, compare=False)
    end: End | None = field(default=None, compare=False)
    redo: bool = field(default=False, compare=False)

    @property
    def state(self) -> str:
        return PLANNED if self.end is None else self.end.state

    @property
    def rows(self) -> Mapping[str, int]:
        """How many rows it has in each table."""
        return {} if self.end is None else self.end.rows

    def transaction(self, purpose: str) -> Transaction:
        return Transaction(f"lakehouse/{self.stage}/{self.unit}/{purpose}", self.batch_id)


def batches_of(records: Iterable[Record]) -> list[Batch]:
    """What the records of each batch amount to, by stage and number."""
    found: dict[tuple[str, int], list[Record]] = defaultdict(list)
    for r in records:
        found[r.stage, r.batch_id].append(r)
    batches = []
    for (stage, batch_id), known in sorted(found.items()):
        plan = next((r for r in known if r.state == PLANNED), known[0])
        # Of two runs that have both finished it, one after the other, either says the same.
        last = max((r for r in known if r.state != PLANNED), key=lambda r: r.at, default=None)
        end = None if last is None else End(last.state, last.rows or {}, decode(last.detail))
        payload = decode(plan.detail)
        batches.append(Batch(stage, plan.unit, batch_id, tuple(plan.inputs or ()), payload, end, redo=True))
    return batches


def open_refusals(batches: Iterable[Batch]) -> list[Batch]:
    """Of the batches of validate, the refused ones whose inputs no later batch has gone through with."""
    latest: dict[tuple[str, int], Batch] = {}
    for b in sorted(batches, key=lambda b: b.batch_id):
        if b.state not in (PLANNED, VOID):
            latest |= {(b.unit, i): b for i in b.inputs}
    return sorted({b for b in latest.values() if b.state == REFUSED}, key=lambda b: b.batch_id)


def to_validate(batches: Sequence[Batch], inputs: Iterable[str]) -> list[Work]:
    """For each input, its loaded batches with rows that no plan of validate covers."""
    return _uncovered(
        batches, "validate", {i: [b for b in _done(batches, "ingest", f"bronze.{i}") if b.unit == i] for i in inputs}
    )


def to_merge(batches: Sequence[Batch], entities: Iterable[str]) -> list[Work]:
    """For each entity, the validated batches with rows for it that no plan of merge covers."""
    return _uncovered(batches, "merge", {e: _done(batches, "validate", f"staged.{e}") for e in entities})


def _done(batches: Iterable[Batch], stage: str, table: str) -> list[Batch]:
    return [b for b in batches if b.stage == stage and b.state == DONE and b.rows.get(table)]


def _uncovered(batches: Iterable[Batch], stage: str, offered: Mapping[str, Sequence[Batch]]) -> list[Work]:
    # What was given up covers nothing.
    covered = {(b.unit, i) for b in batches if b.stage == stage and b.state != VOID for i in b.inputs}
    ids = {
        unit: tuple(b.batch_id for b in found if (unit, b.batch_id) not in covered) for unit, found in offered.items()
    }
    return [Work(unit, inputs) for unit, inputs in ids.items() if inputs]


class Progress:
    """The progress of one stage and of the stage it feeds on, as known at the start of a run and changed by it."""

    def __init__(self, warehouse: Warehouse, stage: str, run_id: str, now: datetime, upstream: str = "") -> None:
        self._journal = warehouse.journal(TABLE, Record)
        self._where, self._stage, self._run_id, self._now = warehouse.location, stage, run_id, now
        self._upstream = upstream
        self._ended: list[Record] = []
        self._settled: set[int] = set()
        self._read()

    def _read(self) -> None:
        self.known = batches_of(self._journal.read(stage=[self._stage, self._upstream]))
        self._last_id = max((b.batch_id for b in self.batches()), default=0)

    def batches(self) -> list[Batch]:
        """Every batch this stage has planned, oldest first."""
        return [b for b in self.known if b.stage == self._stage]

    def outstanding(self) -> list[Batch]:
        """Batches that an earlier run planned and that nobody has finished, oldest first."""
        return [b for b in self.batches() if b.end is None and b.batch_id not in self._settled]

    def finished(self, stage: str) -> list[Batch]:
        """Batches of a stage that ended and were not given up, oldest first."""
        return [b for b in self.known if b.stage == stage and b.state not in (PLANNED, VOID)]

    def plan(self, work: Iterable[Work]) -> list[Batch]:
        """Record new batches, in one commit, before any of their writes.

        Raises:
            TryAgain: another run planned for the same unit at the same time.
        """
        wanted = list(work)
        for _ in range(MAX_TRIES if wanted else 0):
            batches = [
                Batch(self._stage, w.unit, n, tuple(sorted(w.inputs)), w.payload)
                for n, w in enumerate(wanted, start=self._last_id + 1)
            ]
            records = [self._record(b, PLANNED, b.inputs, {}, b.payload) for b in batches]
            # Two runs that plan at the same time start from the same id: Delta lets one of them through.
            once = Transaction(f"lakehouse/progress/{self._stage}", batches[0].batch_id)
            if self._journal.append(records, once):
                self._last_id = batches[-1].batch_id
                return batches
            known = self._last_id
            self._read()
            # Of other units, such as files beside topics, another run may plan as it likes.
            if {b.unit for b in self.batches() if b.batch_id > known} & {w.unit for w in wanted}:
                break
        if wanted:
            raise TryAgain(f"another run of {self._stage} is at work", where=self._where, todo="Run it again later.")
        return []

    def finish(self, batch: Batch, end: End) -> None:
        """Note how a batch ended; ``commit`` makes it durable."""
        self._settled.add(batch.batch_id)
        self._ended.append(self._record(batch, end.state, (), end.rows, end.payload or batch.payload))

    def commit(self, before: Callable[[], None] = lambda: None) -> None:
        """Record, in one commit, the batches that have ended; none of them is carried out again.

        Called when a stage ends, well or not. What a run that is killed before this had finished is
        recovered by the next.

        Args:
            before: makes durable what must be there before those ends are.
        """
        # Taken first: when a signal ends the run, batches may still be at work.
        ended, self._ended = self._ended, []
        before()
        if ended:
            self._journal.append(ended)

    def carry_out(self, work: Work, write: Callable[[Batch], End], again: Batch | None = None) -> End:
        """Plan a batch, write it, and record its end.

        Args:
            again: the batch by which an earlier run has planned the same work.
        """
        batch = again or self.plan([work])[0]
        end = write(batch)
        self.finish(batch, end)
        self.commit()
        return end

    def _record(
        self, b: Batch, state: str, inputs: tuple[int, ...], rows: Mapping[str, int], payload: Payload | None
    ) -> Record:
        return Record(b.stage, b.unit, b.batch_id, state, inputs, rows, encode(payload), self._run_id, self._now)
