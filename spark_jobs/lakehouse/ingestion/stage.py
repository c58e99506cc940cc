"""The ingest stage: discover, plan, load, record."""

from __future__ import annotations

from functools import partial
from urllib.parse import unquote

from lakehouse.cli import Context
from lakehouse.errors import DataRefused, InternalError, LakehouseError, UsageError
from lakehouse.ingestion import columns, discovery, kafka, readers
from lakehouse.ingestion.landing import LandedFile, Landing, Unreachable, Unreadable
from lakehouse.ingestion.ledger import (
    AUTO_LOADER,
    LOADED,
    PLANNED,
    RETURNED,
    SET_ASIDE,
    Entry,
    Ledger,
    files_in_bronze,
)
from lakehouse.parallel import side_by_side
from lakehouse.progress import CORRUPT_ROWS, VOID, Batch, Progress
from lakehouse.session import BYTES_OF_LANDED_ROW, prepare
from lakehouse.sources import Input, select_inputs

UNDECLARED = "has undeclared columns"


def run(context: Context) -> None:
    """Load every file that has not been loaded, in one batch per input, and what is in the topics that are asked for.

    Raises:
        UsageError, ConfigurationError, ServiceUnavailable: as ``Landing`` and ``kafka.Loader`` say.
        DataRefused: a file of an input with schema_mode fail has undeclared columns. It is set
            aside; every other file is loaded by then.
    """
    selected = select_inputs(context.inputs, context.only)
    kafka.run(context, [i for i in selected if i.is_stream])
    inputs = {i.name: i for i in selected if not i.is_stream}
    if inputs:
        _files(context, inputs)


def _files(context: Context, inputs: dict[str, Input]) -> None:
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
        _carry_out(context, landing, ledger, progress, inputs, loads)
        found = {source.name: landing.find(source) for source in inputs.values()}
        if all(files is None for files in found.values()):
            folders = ", ".join(sorted({i.path for i in inputs.values()}))
            raise UsageError(
                "has none of the sources' folders", where=landing.location, todo=f"Expected are: {folders}."
            )
        with report.step("discover"):
            new = {
                name: discovery.new_files(context, landing, ledger, inputs[name], files)
                for name, files in found.items()
            }
        fresh = [(batch, new[batch.unit]) for batch in progress.plan((name, ()) for name in new if new[name])]
        ledger.record((batch, Entry(file, PLANNED)) for batch, files in fresh for file in files)
        _carry_out(context, landing, ledger, progress, inputs, fresh)
    finally:
        progress.commit()
    undeclared = [w for w in report.warnings if UNDECLARED in w]
    if undeclared:
        raise DataRefused("; ".join(undeclared))


def _carry_out(
    context: Context,
    landing: Landing,
    ledger: Ledger,
    progress: Progress,
    inputs: dict[str, Input],
    loads: list[tuple[Batch, list[LandedFile]]],
) -> None:
    """Load batches, then record all that came through: the ledger first, the completion after it."""
    outcomes: dict[Batch, list[Entry]] = {}

    def load(batch: Batch, files: list[LandedFile]) -> None:
        outcomes[batch] = _load(context, landing, inputs[batch.unit], batch, files)

    prepare(context.warehouse.spark, sum(f.size for _, files in loads for f in files) / BYTES_OF_LANDED_ROW)
    try:
        side_by_side([partial(load, batch, files) for batch, files in loads])
    finally:
        entries = []
        # A copy: when a signal ends the run, pieces may still be at work.
        for batch, outcome in list(outcomes.items()):
            known = set(ledger.of_batch(batch, planned=False)) if batch.redo else set()
            entries += [(batch, e) for e in outcome if e.file not in known]
            rows, corrupt = sum(e.rows or 0 for e in outcome), sum(e.corrupt_rows or 0 for e in outcome)
            progress.finish(batch, rows={f"bronze.{batch.unit}": rows, CORRUPT_ROWS: corrupt})
        ledger.record(entries)


def _load(context: Context, landing: Landing, source: Input, batch: Batch, files: list[LandedFile]) -> list[Entry]:
    """Write one batch's bronze rows; returns what became of each file."""
    report, warehouse, table = context.report, context.warehouse, f"bronze.{source.name}"
    ends: dict[LandedFile, Entry] = {}
    with report.step(f"load {source.name}"):
        written = batch.redo and warehouse.rows_of_batch(table, batch.batch_id) > 0
        interrupted = written
        while not written:
            try:
                _write(context, landing, source, batch, [f for f in files if f not in ends], ends)
                written = True
            except LakehouseError:
                raise
            except Exception as error:
                # One bad file must not hold up the others: find it by its name in Spark's error.
                culprit = _culprit(str(error), [f for f in files if f not in ends])
                if culprit is None:
                    raise
                ends[culprit] = Entry(
                    culprit, SET_ASIDE, "cannot be read: damaged, cut short, or gone while it was read"
                )
    with report.step(f"count {source.name}"):
        counts = {e.file.path: (e.rows, e.corrupt_rows) for e in files_in_bronze(warehouse, table, batch)}
    strange = set(counts) - {f.path for f in files}
    if strange:
        raise InternalError(
            f"rows of {', '.join(sorted(strange)[:3])}, which the batch did not plan",
            where=f"batch {batch.batch_id} of {source.name}",
            todo="Nothing of this batch is validated. Report this with the landing folder's address.",
        )
    for file in files:
        if file.path in counts:
            ends[file] = Entry(file, LOADED, None, *counts[file.path])
        elif file not in ends and interrupted:
            # Whether it was empty or could not be read, the interrupted run did not live to say.
            ends[file] = Entry(file, RETURNED, "not loaded by the interrupted run")
        elif file not in ends:
            ends[file] = Entry(file, LOADED, None, 0, 0)
    _tell(context, table, list(ends.values()))
    return list(ends.values())


def _tell(context: Context, table: str, ends: list[Entry]) -> None:
    report = context.report
    for end in ends:
        if end.state != LOADED:
            report.warn(f"{end.file.path} is {end.state}: {end.reason}")
    loaded = [end for end in ends if end.state == LOADED]
    rows = sum(end.rows or 0 for end in loaded)
    report.count(
        table,
        files_loaded=len(loaded),
        files_set_aside=sum(end.state == SET_ASIDE for end in ends),
        bytes_read=sum(end.file.size for end in loaded),
        rows_in=rows,
        rows_corrupt=sum(end.corrupt_rows or 0 for end in loaded),
    )
    report.say(f"{len(loaded)} files, {rows:,} rows to {table}")


def _write(
    context: Context,
    landing: Landing,
    source: Input,
    batch: Batch,
    files: list[LandedFile],
    ends: dict[LandedFile, Entry],
) -> None:
    """Append the files' rows to bronze; files that end otherwise are added to ``ends``."""
    spark = context.warehouse.spark
    groups: dict[tuple[str, ...], list[LandedFile]] = {}
    for file in files:
        if not landing.is_unchanged(file):
            ends[file] = Entry(file, RETURNED, "changed since it was discovered")
    full = [f for f in files if f.size > 0 and f not in ends]
    if source.format == "csv":
        for file, header in landing.headers(source, full).items():
            if isinstance(header, Unreadable):
                state = RETURNED if isinstance(header, Unreachable) else SET_ASIDE
                ends[file] = Entry(file, state, str(header))
            else:
                groups.setdefault(header, []).append(file)
    elif full:
        uris = [landing.uri(f.path) for f in full]
        if source.format == "json":
            names = {*readers.json_keys(spark, uris), *source.columns}
        else:
            names = {*readers.parquet_columns(spark, source, uris)}
        groups[tuple(sorted(names))] = full
    source = columns.inferred(context, source, groups)
    if not source.columns:
        ends |= {
            f: Entry(f, SET_ASIDE, "it has no column with a usable name") for group in groups.values() for f in group
        }
        return
    parts = []
    for header, group in groups.items():
        others = columns.undeclared(source, header)
        if others and source.schema_mode == "fail":
            reason = f"{UNDECLARED} {', '.join(map(repr, others))}: declare them in source.yaml, then ingest.py --retry"
            ends |= {f: Entry(f, SET_ASIDE, reason) for f in group}
            continue
        wide = columns.widened(source, header)
        rows = readers.read(spark, wide, header, [landing.uri(f.path) for f in group])
        parts.append(readers.stamp(rows, wide, landing.address, context.now, batch.batch_id))
    if parts:
        context.warehouse.append(readers.union(parts), f"bronze.{source.name}", batch.transaction("bronze"))


def _culprit(message: str, files: list[LandedFile]) -> LandedFile | None:
    """The file that an error names; of several, the one with the longest name that fits."""
    texts = (message, unquote(message))
    named = [f for f in files if any(f"/{f.path}" in text for text in texts)]
    return max(named, key=lambda f: len(f.path), default=None)
