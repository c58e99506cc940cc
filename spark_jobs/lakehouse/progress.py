"""How far each stage has come: a write-ahead plan and a completion per batch, in ``ops.progress``.

A stage first records what a batch covers (its inputs are batches of the stage before), then does
the batch's writes, each of which happens at most once because its Delta transaction is derived
from the batch, then records that the batch is done. A run that is killed in between leaves a plan
without completion; the next run finds it and carries out the same plan. That is what a Structured
Streaming checkpoint does too; see docs/decisions for why the plan is kept in a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from lakehouse.errors import TryAgain
from lakehouse.runtime.journal import Transaction
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
class Batch:
    """One planned unit of work. ``redo`` says that an earlier run planned it and did not finish."""

    stage: str
    unit: str
    batch_id: int
    inputs: tuple[int, ...] = ()
    redo: bool = False
    detail: str | None = None

    def transaction(self, purpose: str) -> Transaction:
        return Transaction(f"lakehouse/{self.stage}/{self.unit}/{purpose}", self.batch_id)


@dataclass(frozen=True)
class Finished:
    """A finished batch: rows per table it wrote, and a stage's own remark."""

    batch_id: int
    unit: str
    state: str
    rows: Mapping[str, int]
    detail: str | None


class Progress:
    """The progress of one stage and of the stage it feeds on, as known at the start of a run."""

    def __init__(self, warehouse: Warehouse, stage: str, run_id: str, now: datetime, upstream: str = "") -> None:
        self._journal = warehouse.journal(TABLE, Record)
        self._where, self._stage, self._run_id, self._now = warehouse.location, stage, run_id, now
        self._upstream = upstream
        self._ended: list[Record] = []
        self._settled: set[int] = set()
        self._read()

    def _read(self) -> None:
        records = self._journal.read(stage=[self._stage, self._upstream])
        self._records = sorted(records, key=lambda r: (r.stage, r.batch_id))
        self._last_id = max((r.batch_id for r in self._records if r.stage == self._stage), default=0)

    def batches(self) -> list[Batch]:
        """Every batch this stage has planned, oldest first."""
        return [
            Batch(self._stage, r.unit, r.batch_id, r.inputs or (), redo=True, detail=r.detail)
            for r in self._records
            if r.stage == self._stage and r.state == PLANNED
        ]

    def outstanding(self) -> list[Batch]:
        """Batches that an earlier run planned and that nobody has finished, oldest first."""
        ended = {r.batch_id for r in self._records if r.stage == self._stage and r.state != PLANNED}
        return [b for b in self.batches() if b.batch_id not in ended | self._settled]

    def open_refusals(self) -> set[int]:
        """Refused batches whose inputs no later batch has gone through with."""
        states = {f.batch_id: f.state for f in self.finished(self._stage)}
        latest: dict[tuple[str, int], int] = {}
        for b in self.batches():
            if b.batch_id in states:
                latest |= {(b.unit, i): b.batch_id for i in b.inputs}
        return {i for i in latest.values() if states[i] == REFUSED}

    def finished(self, stage: str) -> list[Finished]:
        """Batches of a stage that ended, oldest first."""
        return [
            Finished(r.batch_id, r.unit, r.state, r.rows or {}, r.detail)
            for r in self._records
            if r.stage == stage and r.state not in (PLANNED, VOID)
        ]

    def consumed(self, unit: str) -> set[int]:
        """Upstream batches that some plan of this stage's unit covers already, unless that was given up."""
        void = {r.batch_id for r in self._records if r.stage == self._stage and r.state == VOID}
        return {i for b in self.batches() if b.unit == unit and b.batch_id not in void for i in b.inputs}

    def plan(self, work: Iterable[tuple[str, Iterable[int]]], detail: str | None = None) -> list[Batch]:
        """Record new batches, in one commit, before any of their writes.

        Args:
            work: (unit, upstream batch ids) pairs.
            detail: a remark that a later run finds with the batch.

        Raises:
            TryAgain: another run planned for the same unit at the same time.
        """
        wanted = [(unit, tuple(sorted(inputs))) for unit, inputs in work]
        for _ in range(MAX_TRIES if wanted else 0):
            batches = [
                Batch(self._stage, unit, n, inputs, detail=detail)
                for n, (unit, inputs) in enumerate(wanted, start=self._last_id + 1)
            ]
            records = [self._record(b, PLANNED, b.inputs, {}, detail) for b in batches]
            # Two runs that plan at the same time start from the same id: Delta lets one of them through.
            once = Transaction(f"lakehouse/progress/{self._stage}", batches[0].batch_id)
            if self._journal.append(records, once):
                self._last_id = batches[-1].batch_id
                return batches
            known = self._last_id
            self._read()
            # Of other units, such as files beside topics, another run may plan as it likes.
            if {b.unit for b in self.batches() if b.batch_id > known} & {unit for unit, _ in wanted}:
                break
        if wanted:
            raise TryAgain(f"another run of {self._stage} is at work", where=self._where, todo="Run it again later.")
        return []

    def finish(
        self, batch: Batch, state: str = DONE, rows: Mapping[str, int] | None = None, detail: str | None = None
    ) -> None:
        """Note how a batch ended; ``commit`` makes it durable."""
        self._settled.add(batch.batch_id)
        self._ended.append(self._record(batch, state, (), rows or {}, detail))

    def commit(self) -> None:
        """Record, in one commit, the batches that have ended; none of them is carried out again.

        Called when a stage ends, well or not. What a run that is killed before this had finished is
        carried out again, to the same effect.
        """
        if self._ended:
            ended, self._ended = self._ended, []
            self._journal.append(ended)

    def _record(
        self, b: Batch, state: str, inputs: tuple[int, ...], rows: Mapping[str, int], detail: str | None
    ) -> Record:
        return Record(b.stage, b.unit, b.batch_id, state, inputs, rows, detail, self._run_id, self._now)
