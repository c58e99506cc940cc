"""The ingest stage: discover, plan, load, record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from lakehouse.cli import Context, named
from lakehouse.errors import DataRefused, TryAgain, UsageError
from lakehouse.ingestion import discovery, kafka
from lakehouse.ingestion.landing import LandedFile, Landing
from lakehouse.ingestion.ledger import AUTO_LOADER, PLANNED, Entry, Ledger
from lakehouse.ingestion.loading import UNDECLARED, load
from lakehouse.parallel import side_by_side
from lakehouse.progress import CORRUPT_ROWS, VOID, Batch, Progress
from lakehouse.session import BYTES_OF_LANDED_ROW, prepare
from lakehouse.sources import Input, select_inputs


def run(context: Context) -> None:
    """Load every file that has not been loaded, in one batch per input, and what is in the topics that are asked for.

    Whatever happens to one input, all others are loaded first.

    Raises:
        UsageError, ConfigurationError, ServiceUnavailable: as ``Landing`` and ``kafka.Loader`` say.
        DataRefused: a file of an input with schema_mode fail has undeclared columns. It is set
            aside; every other file is loaded by then.
    """
    selected = select_inputs(context.inputs, context.only)
    failures = _Failures(context)
    for source in selected:
        if source.is_stream:
            with failures.of(source.name):
                kafka.run(context, [source])
    inputs = {i.name: i for i in selected if not i.is_stream}
    if inputs:
        _files(context, inputs, failures)
    failures.raise_first()
    undeclared = [w for w in context.report.warnings if UNDECLARED in w]
    if undeclared:
        raise DataRefused("; ".join(undeclared))


class _Failures:
    """Inputs that have failed: the run goes on without them, and ends with the first one's error."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.errors: dict[str, Exception] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Take what is raised within for the input's failure. A signal, or a run beside this one, ends it all the same."""
        try:
            yield
        except Exception as error:
            if isinstance(named(error), TryAgain):
                raise
            self._context.report.say(f"{name} has failed; the other inputs go on")
            self.errors.setdefault(name, error)

    def raise_first(self) -> None:
        """Raise the first input's error; those of the others are warnings by then."""
        for name, error in list(self.errors.items())[1:]:
            known = named(error)
            self._context.report.warn(f"{name} has failed, too: {known or f'a bug: {type(error).__name__}'}")
        for error in self.errors.values():
            raise error


def _files(context: Context, inputs: dict[str, Input], failures: _Failures) -> None:
    report, warehouse = context.report, context.warehouse
    landing = Landing(context.args.landing)
    ledger = Ledger(warehouse, context.run_id, context.now)
    progress = Progress(warehouse, "ingest", context.run_id, context.now)
    loads: list[tuple[Batch, list[LandedFile]]] = []
    for batch in progress.outstanding():
        # Auto Loader's are its own to finish.
        if batch.unit in inputs and not (batch.detail or "").startswith(AUTO_LOADER):
            files = ledger.of_batch(batch, planned=True)
            if files:
                report.say(f"{batch.unit}: finishing batch {batch.batch_id} of an interrupted run")
                loads.append((batch, files))
            else:
                progress.finish(batch, VOID)
    try:
        # Before anything new is looked for, so that a unit's batches are written in their order.
        _carry_out(context, landing, ledger, progress, inputs, loads, failures)
        found: dict[str, list[LandedFile] | None] = {}
        for name, source in inputs.items():
            if name not in failures.errors:
                with failures.of(name):
                    found[name] = landing.find(source, report.warn)
        if found and all(files is None for files in found.values()):
            folders = ", ".join(sorted({i.path for i in inputs.values()}))
            raise UsageError(
                "has none of the sources' folders", where=landing.location, todo=f"Expected are: {folders}."
            )
        new: dict[str, list[LandedFile]] = {}
        with report.step("discover"):
            for name, lying in found.items():
                with failures.of(name):
                    new[name] = discovery.new_files(context, landing, ledger, inputs[name], lying)
        fresh = [(batch, new[batch.unit]) for batch in progress.plan((name, ()) for name in new if new[name])]
        ledger.record((batch, Entry(file, PLANNED)) for batch, files in fresh for file in files)
        _carry_out(context, landing, ledger, progress, inputs, fresh, failures)
    finally:
        progress.commit()


def _carry_out(
    context: Context,
    landing: Landing,
    ledger: Ledger,
    progress: Progress,
    inputs: dict[str, Input],
    loads: list[tuple[Batch, list[LandedFile]]],
    failures: _Failures,
) -> None:
    """Load batches, then record all that came through: the ledger first, the completion after it."""
    if not loads:
        return
    outcomes: dict[Batch, list[Entry]] = {}

    def carry_out(batch: Batch, files: list[LandedFile]) -> None:
        with failures.of(batch.unit):
            outcomes[batch] = load(context, landing, inputs[batch.unit], batch, files)

    prepare(context.warehouse.spark, sum(f.size for _, files in loads for f in files) / BYTES_OF_LANDED_ROW)
    try:
        side_by_side([partial(carry_out, batch, files) for batch, files in loads])
    finally:
        entries = []
        # A copy: when a signal ends the run, pieces may still be at work.
        for batch, outcome in list(outcomes.items()):
            known = set(ledger.of_batch(batch, planned=False)) if batch.redo else set()
            entries += [(batch, e) for e in outcome if e.file not in known]
            rows, corrupt = sum(e.rows or 0 for e in outcome), sum(e.corrupt_rows or 0 for e in outcome)
            progress.finish(batch, rows={f"bronze.{batch.unit}": rows, CORRUPT_ROWS: corrupt})
        ledger.record(entries)
