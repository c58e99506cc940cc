"""The life of a batch: what is pending is planned, written and finished, and what a killed run has left is recovered.

    pending --> planned --> done
                   |------> refused ---> (a person releases or discards it: another batch of the same inputs)
                   |------> discarded
                   `------> void        (given up: its inputs are pending again)

A batch is planned before its first write and finished after its last, so that its inputs are never without a plan that
covers them, or covered twice. What differs between stages is what becomes of a plan that a killed run has left: ``Recovery``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from lakehouse import sizes
from lakehouse.errors import (
    ConfigurationError,
    InternalError,
    ServiceUnavailable,
    TryAgain,
    first_line,
    named,
)
from lakehouse.parallel import side_by_side
from lakehouse.report import RunReport
from lakehouse.runtime.progress import VOID, Batch, End, Progress, Work
from lakehouse.session import amount, prepare

if TYPE_CHECKING:
    from lakehouse.context import Context


class Recovery(Enum):
    """What becomes of a plan that a killed run has left."""

    REDO = "finishing"
    """The same batch is carried out again: each of its writes happens once, by its transaction."""
    UNDO = "undoing"
    """What the batch has written is rolled back, and its inputs are planned anew."""


class Failures:
    """The units that have failed: the run goes on without them, and ends with their error."""

    def __init__(self, report: RunReport) -> None:
        self._report = report
        self._errors: dict[str, Exception] = {}

    def __bool__(self) -> bool:
        return bool(self._errors)

    @property
    def are_of_settings(self) -> bool:
        """Whether no unit has failed of anything but a wrong setting."""
        return all(isinstance(error, ConfigurationError) for error in self._errors.values())

    def __contains__(self, unit: str) -> bool:
        return unit in self._errors

    def add(self, unit: str, error: Exception) -> None:
        """Note what a unit has failed of. What ends the run all the same, such as a signal, is raised."""
        known = named(error)
        spark_is_gone = isinstance(known, ServiceUnavailable) and known is not error
        if spark_is_gone or isinstance(known, TryAgain):
            raise error
        self._report.say(f"{unit} has failed; what does not need it goes on")
        self._errors.setdefault(unit, error)

    @contextmanager
    def of(self, unit: str) -> Iterator[None]:
        """Take what is raised within for the unit's failure."""
        try:
            yield
        except Exception as error:
            self.add(unit, error)

    def raise_first(self) -> None:
        """Raise the first error there was, a bug before all others; these are told with it, or as warnings."""
        errors = sorted(self._errors.items(), key=lambda e: not isinstance(named(e[1]), InternalError | None))
        if not errors:
            return
        if len(errors) > 1 and self.are_of_settings:
            raise ConfigurationError(" ".join(str(error) for _, error in errors)) from errors[0][1]
        for unit, error in errors[1:]:
            self._report.warn(
                f"{unit} has failed, too: {named(error) or f'a bug: {type(error).__name__}: {first_line(error)}'}"
            )
        raise errors[0][1]


class Stage(ABC):
    """A stage: what is pending, how one batch is written, and how one is rolled back."""

    name: ClassVar[str]
    upstream: ClassVar[str] = ""
    """The stage whose batches it covers."""
    recovery: ClassVar[Recovery] = Recovery.REDO
    one_by_one: ClassVar[bool] = False
    """Whether a batch begins when the one before has been recorded; else those of each unit go beside those of the others."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.progress = Progress(context.warehouse, self.name, context.run_id, context.now, self.upstream)
        self.failures = Failures(context.report)

    def takes(self, batch: Batch) -> bool:
        """Whether a batch that an earlier run has left planned is this run's to recover."""
        return True

    @abstractmethod
    def pending(self, undone: Sequence[Batch]) -> Iterable[Work]:
        """What is to be planned: what is new, and what the batches that have been rolled back covered."""

    def planned(self, batches: Sequence[Batch]) -> None:  # noqa: B027
        """Told of the batches that have just been planned, or of none, before any of them is written."""

    @abstractmethod
    def rows(self, work: Sequence[Work | Batch]) -> float:
        """About how many rows there are to do, from the journal or a listing: by it, Spark is started and prepared."""

    def beside(self, batches: Sequence[Batch]) -> Iterable[str]:
        """The tables that the rows of batches are joined to."""
        return ()

    def prepared(self, batches: Sequence[Batch]) -> AbstractContextManager[None]:
        """Within, batches are written."""
        return nullcontext()

    def levels(self, batches: Sequence[Batch]) -> Iterable[Sequence[Batch]]:
        """The batches in groups, of which one begins when the one before has ended."""
        return [batches]

    @abstractmethod
    def run(self, batch: Batch) -> End:
        """Write one batch."""

    def rollback(self, batch: Batch) -> None:  # noqa: B027
        """Take back what a batch has written."""

    def flush(self) -> None:  # noqa: B027
        """Make durable what must be there before the ends of batches are."""

    def carry_out(self) -> None:
        """Recover what an earlier run has left, then do what is pending.

        What one unit fails of is noted in ``failures``; the batches of the others are carried out.
        """
        interrupted = [b for b in self.progress.outstanding() if self.takes(b)]
        for batch in interrupted:
            self.context.report.say(f"{batch.unit}: {self.recovery.value} batch {batch.batch_id} of an interrupted run")
        undone: list[Batch] = []
        if self.recovery is Recovery.REDO:
            # Before anything new is looked for, so that a unit's batches are written in their order.
            self._write(interrupted)
        else:
            undone = interrupted
            for batch in undone:
                self.rollback(batch)
        # One that was undone may have been planned again before this run: it is still one batch.
        work = [w for w in dict.fromkeys(self.pending(undone)) if w.unit not in self.failures]
        if work:
            # No plan is left by a run that has no Spark to carry it out.
            self.context.report.work = amount(self.rows(work))
            _ = self.context.warehouse.spark
        batches = self.progress.plan(work)
        # Given up only now, so that no moment is without a plan that covers their inputs.
        for batch in undone:
            self.progress.finish(batch, End(VOID))
        self.progress.commit()
        self.planned(batches)
        self._write(batches)

    def _write(self, batches: Sequence[Batch]) -> None:
        if not batches:
            return
        try:
            warehouse = self.context.warehouse
            beside = sum(warehouse.size(table) for table in self.beside(batches)) / sizes.BYTES_OF_STORED_ROW
            prepare(warehouse.spark, self.rows(batches), beside)
            with self.prepared(batches):
                for number, level in enumerate(self.levels(batches)):
                    if number and not self.failures.are_of_settings:
                        # What comes later may need what is missing.
                        break
                    lanes: dict[str, list[Batch]] = {}
                    for batch in level:
                        lanes.setdefault("" if self.one_by_one else batch.unit, []).append(batch)
                    side_by_side([partial(self._write_in_order, lane) for lane in lanes.values()])
        finally:
            self.progress.commit(before=self.flush)

    def _write_in_order(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            try:
                end = self.run(batch)
            except Exception as error:
                # It stays planned, and so do those behind it.
                self.failures.add(batch.unit, error)
                return
            self.progress.finish(batch, end)
            if self.one_by_one:
                self.progress.commit(before=self.flush)
