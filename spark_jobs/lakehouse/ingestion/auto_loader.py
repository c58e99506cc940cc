"""Databricks Auto Loader instead of our own discovery: the same ``source.yaml``, read by ``cloudFiles``.

Which files are new is then in Auto Loader's checkpoint and not in the ledger; the ledger still tells what
was loaded when. Each micro-batch becomes one batch of the progress, whatever is killed in between.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.cli import Context
from lakehouse.errors import ConfigurationError, UsageError
from lakehouse.ingestion import columns, readers
from lakehouse.ingestion.landing import ARCHIVE, LandedFile
from lakehouse.ingestion.ledger import EPOCH, LOADED, Entry, Ledger
from lakehouse.progress import CORRUPT_ROWS, Batch, Progress
from lakehouse.sources import Input, select_inputs
from lakehouse.tables import quote

EVOLUTION = {"rescue": "rescue", "evolve": "addNewColumns", "fail": "failOnNewColumns"}
CLEANING = {"keep": "OFF", "archive": "MOVE", "delete": "DELETE"}
FEWEST_DAYS = 8
"""Auto Loader clears away no file within the first seven days."""

Stream = Callable[[SparkSession, Input, str, str], DataFrame]
"""(session, input, landing folder, folder for state) to an unbounded frame of the input's files."""


def options(source: Input, landing: str, state: str) -> dict[str, str]:
    """What ``spark.readStream.format("cloudFiles")`` is told about an input.

    Args:
        landing: the landing folder.
        state: a folder of the input's own, for what Auto Loader remembers of its schema.

    Raises:
        ConfigurationError: the source asks for what Auto Loader does not do.
    """
    where = f"sources/{source.source}: inputs.{source.name}"
    if source.identity == "content":
        raise ConfigurationError(
            "identity: content", where=where, todo="Auto Loader tells files by their time; leave it out."
        )
    if source.loaded_files != "keep" and source.loaded_files_after_days < FEWEST_DAYS:
        raise ConfigurationError(
            f"loaded_files_after_days: {source.loaded_files_after_days}", where=where,
            todo=f"Auto Loader clears files away after {FEWEST_DAYS} days at the earliest.",
        )  # fmt: skip
    parser = {"csv": readers.CSV_OPTIONS, "json": readers.JSON_OPTIONS}.get(source.format, {})
    hinted = [*source.columns, readers.PARSER_CORRUPT] if parser else []
    chosen = {
        **parser,
        **dict(source.options),
        "cloudFiles.format": source.format,
        "cloudFiles.schemaLocation": f"{state}/schema",
        "cloudFiles.schemaEvolutionMode": EVOLUTION[source.schema_mode],
        "cloudFiles.inferColumnTypes": "false",
        # A file that is uploaded again is another file.
        "cloudFiles.allowOverwrites": "true",
        # Folders that look like name=value are no columns.
        "cloudFiles.partitionColumns": "",
        "cloudFiles.cleanSource": CLEANING[source.loaded_files],
        "rescuedDataColumn": readers.RESCUED,
        "readerCaseSensitive": "true",
        "pathGlobFilter": source.pattern,
        "recursiveFileLookup": "true",
    }
    if hinted:
        chosen["cloudFiles.schemaHints"] = ", ".join(f"{quote(c)} STRING" for c in hinted)
    if source.loaded_files != "keep":
        chosen["cloudFiles.cleanSource.retentionDuration"] = f"{source.loaded_files_after_days} days"
    if source.loaded_files == "archive":
        chosen["cloudFiles.cleanSource.moveDestination"] = f"{landing}/{ARCHIVE}/{source.path}"
    return chosen


def cloud_files(spark: SparkSession, source: Input, landing: str, state: str) -> DataFrame:
    """The files of an input as Auto Loader finds and reads them."""
    stream = spark.readStream.format("cloudFiles").options(**options(source, landing, state))
    return stream.load(f"{landing}/{source.path}")


def run(context: Context, stream: Stream = cloud_files) -> None:
    """Load what Auto Loader finds, one input after the other, and end when nothing is left.

    Raises:
        UsageError: there is no folder for Auto Loader's state.
        ConfigurationError: as ``options``.
    """
    state = context.args.state
    if not state:
        raise UsageError("--auto-loader without --state", todo="Name a folder for checkpoints and schemas.")
    progress = Progress(context.warehouse, "ingest", context.run_id, context.now)
    ledger = Ledger(context.warehouse, context.run_id, context.now)
    for source in select_inputs(context.inputs, context.only):
        own = f"{state.rstrip('/')}/{source.name}"
        frame = stream(context.warehouse.spark, source, context.args.landing.rstrip("/"), own)
        query = (
            frame.select("*", F.col("_metadata").alias("_file"))
            .writeStream.foreachBatch(_taker(context, progress, ledger, source))
            .option("checkpointLocation", f"{own}/checkpoint")
            .trigger(availableNow=True)
            .start()
        )
        query.awaitTermination()


def _taker(
    context: Context, progress: Progress, ledger: Ledger, source: Input
) -> Callable[[DataFrame, int], None]:  # fmt: skip
    def take(frame: DataFrame, number: int) -> None:
        batch = _batch(progress, source, number)
        if batch is None:
            return
        table = f"bronze.{source.name}"
        names = [c for c in frame.columns if c not in ("_file", readers.RESCUED, readers.PARSER_CORRUPT)]
        wide = columns.widened(columns.inferred(context, source, [tuple(names)]), names)
        rows = readers.stamp(readers.received(frame, wide, names), wide, _root(context), context.now, batch.batch_id)
        context.warehouse.append(rows, table, batch.transaction("bronze"))
        loaded = _loaded(context, table, batch)
        noted = ledger.of_batch(batch, planned=False) if batch.redo else []
        ledger.record((batch, entry) for entry in loaded if entry.file not in noted)
        rows_in, corrupt = sum(e.rows or 0 for e in loaded), sum(e.corrupt_rows or 0 for e in loaded)
        progress.finish(batch, rows={table: rows_in, CORRUPT_ROWS: corrupt})
        progress.commit()
        context.report.count(table, files_loaded=len(loaded), rows_in=rows_in, rows_corrupt=corrupt)
        context.report.say(f"{len(loaded)} files, {rows_in:,} rows to {table}")

    return take


def _loaded(context: Context, table: str, batch: Batch) -> list[Entry]:
    """The files of which a batch has rows."""
    rows = context.warehouse.read(table).where(F.col("_batch_id") == batch.batch_id)
    modified = F.unix_millis("_source.modified").alias("modified")
    counted = rows.groupBy("_source.file", "_source.size", modified).agg(
        F.count("*").alias("rows"), F.count_if(readers.is_corrupt(rows)).alias("corrupt")
    )
    return [
        Entry(
            LandedFile(r["file"], r["size"], EPOCH + timedelta(milliseconds=r["modified"])),
            LOADED, None, r["rows"], r["corrupt"],
        )
        for r in counted.collect()
    ]  # fmt: skip


def _batch(progress: Progress, source: Input, number: int) -> Batch | None:
    """The batch of a micro-batch: planned now, or by a run that was killed; None if it was finished."""
    detail = f"auto-loader {number}"
    for batch in progress.batches():
        if (batch.unit, batch.detail) == (source.name, detail):
            return batch if batch in progress.outstanding() else None
    (batch,) = progress.plan([(source.name, ())], detail=detail)
    return batch


def _root(context: Context) -> str:
    """The landing folder as it stands in the addresses of its files, whatever their scheme."""
    return re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*:/+", "/", context.args.landing).rstrip("/")
