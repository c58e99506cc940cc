"""Databricks Auto Loader instead of our own discovery: the same ``source.yaml``, read by ``cloudFiles``.

Which files are new is then in Auto Loader's checkpoint and not in the ledger; the ledger still tells what
was loaded when. Each micro-batch becomes one batch of the progress, whatever is killed in between.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import Future

from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.context import Context
from lakehouse.errors import ConfigurationError, DataRefused, LakehouseError, TryAgain, UsageError
from lakehouse.ingestion import columns, readers
from lakehouse.ingestion.landing import ARCHIVE
from lakehouse.ingestion.ledger import Ledger, files_in_bronze
from lakehouse.options import Ingest
from lakehouse.runtime.payloads import AutoLoaderFiles
from lakehouse.runtime.progress import CORRUPT_ROWS, Batch, End, Progress, Work
from lakehouse.sources import Input, select_inputs
from lakehouse.sql import quote

EVOLUTION = {"rescue": "rescue", "evolve": "addNewColumns", "fail": "failOnNewColumns"}
CLEANING = {"keep": "OFF", "archive": "MOVE", "delete": "DELETE"}
MIN_DAYS = 8
"""Auto Loader clears away no file within the first seven days."""

NEW_COLUMNS = re.compile(r"UnknownFieldException|UNKNOWN_FIELD_EXCEPTION")
"""How Auto Loader ends a query that has met new columns. It remembers them, and goes on when it is started again."""
MAX_STARTS = 20

JSON_OPTIONS = {
    "mode": "PERMISSIVE",
    "columnNameOfCorruptRecord": readers.PARSER_CORRUPT,
    "allowNonNumericNumbers": "false",
    "allowSingleQuotes": "false",
}

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
    if source.loaded_files != "keep" and source.loaded_files_after_days < MIN_DAYS:
        raise ConfigurationError(
            f"loaded_files_after_days: {source.loaded_files_after_days}", where=where,
            todo=f"Auto Loader clears files away after {MIN_DAYS} days at the earliest.",
        )  # fmt: skip
    if source.header == "none" or source.skip_lines:
        raise ConfigurationError(
            "header: none, or skip_lines", where=where, todo="Auto Loader needs a header in the first line."
        )
    parser = {"csv": readers.CSV_OPTIONS, "json": JSON_OPTIONS}.get(source.format, {})
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


def run(context: Context, asked: Ingest, stream: Stream = cloud_files) -> None:
    """Load what Auto Loader finds, one input after the other, and end when nothing is left.

    Raises:
        UsageError: there is no folder for Auto Loader's state.
        ConfigurationError: as ``options``.
        DataRefused: files of an input with schema_mode fail have columns that Auto Loader does not know.
    """
    state, landing = asked.state, (asked.landing or "").rstrip("/")
    if not state:
        raise UsageError("--auto-loader without --state", todo="Name a folder for checkpoints and schemas.")
    progress = Progress(context.warehouse, "ingest", context.run_id, context.now)
    ledger = Ledger(context.warehouse, context.run_id, context.now)
    selected = select_inputs(context.inputs, context.only)
    if topics := [i.name for i in selected if i.is_stream]:
        raise UsageError(f"--auto-loader finds files, not the messages of {', '.join(topics)}", todo="Leave it out.")
    for source in selected:
        own = f"{state.rstrip('/')}/{source.name}"
        loader = _Loader(context, progress, ledger, source, landing)
        for _ in range(MAX_STARTS):
            frame = stream(context.warehouse.spark, source, landing, own)
            if loader.carry_out(frame, f"{own}/checkpoint"):
                break
        else:
            raise TryAgain(
                f"{source.name} has had new columns {MAX_STARTS} times", todo="Run it again: it goes on from there."
            )


class _Loader:
    """Takes the micro-batches of one input, each as one batch of the progress."""

    def __init__(self, context: Context, progress: Progress, ledger: Ledger, source: Input, landing: str) -> None:
        self._context, self._progress, self._ledger, self._source = context, progress, ledger, source
        # As the landing folder stands in the addresses of its files, whatever their scheme.
        self._root = re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*:/+", "/", landing)
        # One that was given up is in neither, and so is planned anew.
        self._ended = {b.payload for b in progress.finished("ingest") if self._is_ours(b)}
        self._open = {b.payload: b for b in progress.outstanding() if self._is_ours(b)}

    def _is_ours(self, batch: Batch) -> bool:
        return batch.unit == self._source.name and isinstance(batch.payload, AutoLoaderFiles)

    def carry_out(self, frame: DataFrame, checkpoint: str) -> bool:
        """Run the query until nothing is left; returns whether it came to its end, or must be started again."""
        started: Future[str] = Future()
        failed: list[LakehouseError] = []

        def take(rows: DataFrame, number: int) -> None:
            try:
                # The query's id lives in the checkpoint: with another one, numbers begin again.
                self._take(rows, AutoLoaderFiles(started.result(), number))
            except LakehouseError as error:
                failed.append(error)
                raise

        query = (
            frame.select("*", F.col("_metadata").alias(readers.FILE))
            .writeStream.foreachBatch(take)
            .option("checkpointLocation", checkpoint)
            .trigger(availableNow=True)
            .start()
        )
        started.set_result(query.id)
        try:
            query.awaitTermination()
        except StreamingQueryException as error:
            if failed:
                raise failed[0] from error
            text = " ".join(str(error).split())
            new = NEW_COLUMNS.search(text)
            if new is None:
                raise
            if self._source.schema_mode == "fail":
                # From where the columns are named: before that, Spark tells of its query.
                raise DataRefused(
                    f"{self._source.name} has undeclared columns: {text[new.start() :][:300]}",
                    todo="Declare them in source.yaml, or remove the files, and run it again.",
                ) from error
            self._context.report.say(f"{self._source.name}: new columns; Auto Loader goes on with them")
            return False
        return True

    def _take(self, frame: DataFrame, files: AutoLoaderFiles) -> None:
        if files in self._ended:
            return
        work = Work(self._source.name, payload=files)
        self._progress.carry_out(work, lambda batch: self._write(frame, files, batch), again=self._open.get(files))
        self._ended.add(files)

    def _write(self, frame: DataFrame, files: AutoLoaderFiles, batch: Batch) -> End:
        # Should the query be started again, the micro-batch comes again too.
        self._open[files] = batch
        context, source = self._context, self._source
        table = f"bronze.{source.name}"
        names = [c for c in frame.columns if c not in (readers.FILE, readers.RESCUED, readers.PARSER_CORRUPT)]
        wide = columns.widened(columns.inferred(context, source, [tuple(names)]), names)
        placed = frame.withColumn(readers.ROW, F.monotonically_increasing_id())
        rescued, unparsed = (
            F.col(quote(c)) if c in frame.columns else None for c in (readers.RESCUED, readers.PARSER_CORRUPT)
        )
        values = {name: F.col(quote(name)) for name in names}
        received = readers.received(placed, wide, values, rescued, unparsed)
        rows = readers.stamp(received, wide, self._root, context.now, batch.batch_id)
        context.warehouse.append(rows, table, batch.transaction("bronze"))
        loaded = files_in_bronze(context.warehouse, table, batch)
        noted = self._ledger.of_batch(batch, planned=False) if batch.redo else []
        self._ledger.record((batch, entry) for entry in loaded if entry.file not in noted)
        rows_in, corrupt = sum(e.rows or 0 for e in loaded), sum(e.corrupt_rows or 0 for e in loaded)
        context.report.count(table, files_loaded=len(loaded), rows_in=rows_in, rows_corrupt=corrupt)
        context.report.say(f"{len(loaded)} files, {rows_in:,} rows to {table}")
        return End(rows={table: rows_in, CORRUPT_ROWS: corrupt})
