"""The ingest stage: discover, plan, load, record."""

from __future__ import annotations

from collections.abc import Sequence

from lakehouse import sizes
from lakehouse.context import Context
from lakehouse.errors import DataRefused, UsageError
from lakehouse.ingestion import discovery, kafka
from lakehouse.ingestion.landing import LandedFile, Landing
from lakehouse.ingestion.ledger import PLANNED, Entry, Ledger
from lakehouse.ingestion.loading import UNDECLARED, load
from lakehouse.options import Ingest
from lakehouse.runtime.progress import CORRUPT_ROWS, VOID, Batch, End, Work
from lakehouse.runtime.stages import Failures, Stage
from lakehouse.sources import Input, select_inputs


def run(context: Context, options: Ingest) -> None:
    """Load every file that has not been loaded, in one batch per input, and what is in the topics that are asked for.

    Whatever happens to one input, all others are loaded first.

    Raises:
        UsageError, ConfigurationError, ServiceUnavailable: as ``Landing`` and ``kafka.Loader`` say.
        DataRefused: a file of an input with schema_mode fail has undeclared columns. It is set
            aside; every other file is loaded by then.
    """
    selected = select_inputs(context.inputs, context.only)
    failures = Failures(context.report)
    for source in selected:
        if source.is_stream:
            with failures.of(source.name):
                kafka.run(context, options, [source])
    inputs = {i.name: i for i in selected if not i.is_stream}
    if inputs:
        Files(context, options, inputs, failures).carry_out()
    failures.raise_first()
    undeclared = [w for w in context.report.warnings if UNDECLARED in w]
    if undeclared:
        raise DataRefused("; ".join(undeclared))


class Files(Stage):
    """A batch is the files of an input that are new; the ledger tells which those are."""

    name = "ingest"

    def __init__(self, context: Context, options: Ingest, inputs: dict[str, Input], failures: Failures) -> None:
        super().__init__(context)
        self.failures = failures
        self._options, self._inputs = options, inputs
        self._landing = Landing(options.landing or "")
        self._ledger = Ledger(context.warehouse, context.run_id, context.now)
        self._found: dict[str, discovery.Found] = {}
        self._files: dict[Batch, list[LandedFile]] = {}
        self._entries: list[tuple[Batch, Entry]] = []

    def takes(self, batch: Batch) -> bool:
        # Kafka's and Auto Loader's are their own to recover.
        return batch.unit in self._inputs and batch.payload is None

    def pending(self, undone: Sequence[Batch]) -> list[Work]:
        report, found = self.context.report, dict[str, list[LandedFile] | None]()
        for name, source in self._inputs.items():
            if name not in self.failures:
                with self.failures.of(name):
                    found[name] = self._landing.find(source, report.warn)
        if found and all(files is None for files in found.values()):
            folders = ", ".join(sorted({i.path for i in self._inputs.values()}))
            where = self._landing.location
            raise UsageError("has none of the sources' folders", where=where, todo=f"Expected are: {folders}.")
        retry = self._options.retry
        with report.step("discover"):
            for name, lying in found.items():
                with self.failures.of(name):
                    source = self._inputs[name]
                    self._found[name] = discovery.look(
                        self.context, self._landing, self._ledger, source, lying, retry=retry
                    )
        return [Work(name) for name, files in self._found.items() if files.new]

    def planned(self, batches: Sequence[Batch]) -> None:
        # Not sooner: whoever only looks leaves all of it to the run that goes on.
        for name, files in self._found.items():
            with self.failures.of(name):
                discovery.tidy(self.context, self._landing, self._ledger, self._inputs[name], files)
        self._files |= {batch: self._found[batch.unit].new for batch in batches}
        self._ledger.record((batch, Entry(file, PLANNED)) for batch in batches for file in self._files[batch])

    def rows(self, work: Sequence[Work | Batch]) -> float:
        files = (f for w in work for f in (self._files_of(w) if isinstance(w, Batch) else self._found[w.unit].new))
        return sum(f.size for f in files) / sizes.BYTES_OF_LANDED_ROW

    def _files_of(self, batch: Batch) -> list[LandedFile]:
        if batch not in self._files:
            self._files[batch] = self._ledger.of_batch(batch, planned=True)
        return self._files[batch]

    def run(self, batch: Batch) -> End:
        files = self._files_of(batch)
        if not files:
            # Killed between the plan and the record of its files.
            return End(VOID)
        ends = load(self.context, self._landing, self._inputs[batch.unit], batch, files)
        known = set(self._ledger.of_batch(batch, planned=False)) if batch.redo else set()
        self._entries += [(batch, e) for e in ends if e.file not in known]
        rows, corrupt = sum(e.rows or 0 for e in ends), sum(e.corrupt_rows or 0 for e in ends)
        return End(rows={f"bronze.{batch.unit}": rows, CORRUPT_ROWS: corrupt})

    def flush(self) -> None:
        entries, self._entries = self._entries, []
        self._ledger.record(entries)
