"""Kafka topics to bronze, each message exactly once.

How far a topic has been loaded stands with the batches in ``ops.progress``, not in a checkpoint of Structured
Streaming: every start goes on from there, so that no checkpoint can be lost, mixed up or outgrown. What Spark
writes while a query runs goes into a folder of the driver's that ends with it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from lakehouse.context import Context
from lakehouse.errors import ConfigurationError, DataRefused, LakehouseError, ServiceUnavailable
from lakehouse.ingestion import json_objects, readers
from lakehouse.ingestion.json_objects import text_or_bytes
from lakehouse.ingestion.scratch import Scratch
from lakehouse.ingestion.topics import Topics, client_properties, pattern
from lakehouse.instants import instant
from lakehouse.options import Ingest
from lakehouse.runtime.payloads import Messages, Offsets
from lakehouse.runtime.progress import CORRUPT_ROWS, VOID, Batch, End, Progress, Work
from lakehouse.sources import Input

LOST = "lost"
"""Beside the rows of a batch: messages that Kafka had deleted before they were loaded."""


def run(context: Context, options: Ingest, inputs: list[Input]) -> None:
    """Load what is in the topics now, one input after the other, and end; where nothing is new, Spark is not started."""
    for source in inputs:
        loader = Loader(context, source, options.kafka)
        if loader.start(available_now=True) is not None:
            loader.wait()


class Loader:
    """Loads one input, each micro-batch as one batch of the progress."""

    def __init__(
        self,
        context: Context,
        source: Input,
        properties: str | None,
        loaded: Callable[[int], None] = lambda rows: None,
    ) -> None:
        """
        Args:
            properties: the properties file of Kafka's clients.
            loaded: is told the rows of each batch, when it is there for good; until it returns, no other batch begins.
        """
        self._context, self._source, self._properties, self._after = context, source, properties, loaded
        self._table = f"bronze.{source.name}"
        self._scratch: Scratch | None = None
        self._error: LakehouseError | None = None
        self._at_work, self._stopped = threading.Lock(), False
        self._reached: Offsets = {}
        self._told = False
        self.query: StreamingQuery | None = None

    def start(self, *, available_now: bool = False) -> StreamingQuery | None:
        """Start the query, from where the records of earlier batches end; None if what is available has been loaded.

        Raises:
            ServiceUnavailable: Kafka does not answer.
            ConfigurationError: Kafka's client is not let in, or a topic has fewer messages than were loaded from it.
            DataRefused: messages have been deleted before they were loaded, and the source does not go on after that.
        """
        source, warehouse = self._source, self._context.warehouse
        self._progress = Progress(self._context.warehouse, "ingest", self._context.run_id, self._context.now)
        properties = client_properties(self._properties)
        self._settle()
        loaded = self.loaded()
        begin, ends, lost = self._begin(Topics(properties, lambda: warehouse.spark), loaded)
        if not available_now or begin != ends:
            # Before a loss is told: who only looks would keep the tale of it from the run that goes on.
            _ = warehouse.spark
        if lost:
            self._tell_loss(lost, _updated(loaded, begin))
        if available_now and begin == ends:
            return None
        self._reached = _updated(loaded, begin)
        self._scratch, self._error = Scratch(source.name), None
        options = {k: v for k, v in source.options if k.lower() != "startingoffsets"}
        frame = (
            warehouse.spark.readStream.format("kafka")
            .options(**options, **{f"kafka.{name}": value for name, value in properties.items()})
            .option("subscribePattern", pattern(source))
            .option("startingOffsets", json.dumps(begin) if begin else "earliest")
            .option("failOnDataLoss", "true")
            .option("includeHeaders", "true")
            .load()
        )
        writer = frame.writeStream.queryName(source.name).foreachBatch(self._take)
        writer = writer.option("checkpointLocation", self._scratch.path.as_uri())
        trigger: dict[str, Any] = {"availableNow": True} if available_now else {"processingTime": "0 seconds"}
        self.query = writer.trigger(**trigger).start()
        return self.query

    def wait(self) -> None:
        """Until the query ends, or is stopped.

        Raises:
            ServiceUnavailable: Kafka does not answer, or has deleted messages meanwhile.
            LakehouseError: what a batch has failed of.
        """
        assert self.query is not None
        try:
            self.query.awaitTermination()
        except StreamingQueryException as error:
            if self._error is not None:
                raise self._error from error
            text = " ".join(str(error).split())
            if "KAFKA_DATA_LOSS" in text or "data was lost" in text.lower():
                raise ServiceUnavailable(
                    f"Kafka has deleted messages of {self._source.name} that were not loaded ({text[:300]})",
                    todo="The next start tells their offsets.",
                ) from error
            if "org.apache.kafka.common" in text:
                raise ServiceUnavailable(
                    f"Kafka does not answer ({text[:300]})", todo="Run it again when it is there."
                ) from error
            raise
        finally:
            if self._scratch is not None:
                self._scratch.remove()

    def stop(self, seconds: float) -> None:
        """End the query when the batch that it is loading is there, or after so many seconds."""
        # A batch that is cut off has been planned, and is settled by the next start.
        there = self._at_work.acquire(timeout=seconds)
        self._stopped = True
        try:
            if self.query is not None:
                self.query.stop()
        finally:
            if there:
                self._at_work.release()

    def loading(self) -> bool:
        """Whether a batch is on its way to bronze."""
        return self.query is not None and not self._told and bool(self.query.status["isDataAvailable"])

    def last_batch(self) -> tuple[int, float]:
        """Of the last micro-batch: the messages that Kafka had beyond it, and the seconds it took."""
        progress = self.query.lastProgress if self.query is not None else None
        if not progress or not progress["sources"]:
            return 0, 0.0
        # Of a query that has only begun, an offset is null.
        told = [progress["sources"][0].get(name) or "{}" for name in ("latestOffset", "endOffset")]
        seen, taken = (json.loads(text) or {} if isinstance(text, str) else text for text in told)
        behind = sum(
            max(0, end - taken.get(topic, {}).get(p, end)) for topic, ps in seen.items() for p, end in ps.items()
        )
        return behind, progress["batchDuration"] / 1000

    def loaded(self) -> Offsets:
        """How far each partition has been loaded: the offset after its last message.

        Of topics that are not there now, too: the last batch tells of all that there have been.
        """
        ends: Offsets = {}
        for b in self._progress.finished("ingest"):
            known = b.payload
            if b.unit == self._source.name and isinstance(known, Messages) and known.epoch == self._source.epoch:
                ends = _updated(ends, known.ends)
        return ends

    def _begin(self, topics: Topics, loaded: Offsets) -> tuple[Offsets, Offsets, dict[str, list[int]]]:
        """Where to go on in each partition there is, where it ends, and what of it Kafka has deleted, as ``Messages.lost``."""
        first, ends = topics.partitions(self._source)
        wanted = dict(self._source.options).get("startingOffsets", "earliest")
        if wanted in ("earliest", "latest"):
            fresh = first if wanted == "earliest" else ends
        else:
            fresh = topics.at(self._source, instant(wanted))
        lost: dict[str, list[int]] = {}
        begin: Offsets = {}
        for topic, partitions in ends.items():
            for p, end in partitions.items():
                new = fresh.get(topic, {}).get(p, end)
                at = loaded.get(topic, {}).get(p, new)
                if at > end:
                    raise ConfigurationError(
                        f"has {end:,} messages in partition {p}, but {at:,} have been loaded", where=f"topic {topic}",
                        todo="Look whether --kafka names the right cluster. If the topic was made anew, raise the "
                        f"input's epoch to {self._source.epoch + 1} in source.yaml: it is then read from its start.",
                    )  # fmt: skip
                if at < first[topic][p]:
                    lost[f"{topic}/{p}"] = [at, first[topic][p]]
                begin.setdefault(topic, {})[p] = max(at, first[topic][p])
        return begin, ends, lost

    def _tell_loss(self, lost: dict[str, list[int]], begin: Offsets) -> None:
        """Report what cannot be loaded any more; refuse to go on, or record that we do."""
        listed = "; ".join(f"{where} offsets {a:,} to {b - 1:,}" for where, (a, b) in sorted(lost.items()))
        number = sum(b - a for a, b in lost.values())
        message = f"{number:,} messages of {self._source.name} were deleted by Kafka before they were loaded: {listed}"
        if self._source.on_loss == "stop":
            raise DataRefused(
                message, todo="Deliver them as files if they are needed, then set on_loss: continue in source.yaml "
                "to go on after them; and raise the topic's retention.",
            )  # fmt: skip
        work = Work(self._source.name, payload=Messages(self._source.epoch, begin, lost))
        self._progress.carry_out(work, lambda _: End(rows={self._table: 0, CORRUPT_ROWS: 0, LOST: number}))
        self._context.report.count(self._table, messages_lost=number)
        self._context.report.warn(message)

    def _settle(self) -> None:
        """Finish what an interrupted run has written; give up what it has only planned."""
        name = self._source.name
        ours = [b for b in self._progress.outstanding() if b.unit == name and isinstance(b.payload, Messages)]
        for batch in ours:
            self._progress.finish(batch, self._end(*self._count(batch.batch_id)))
        if ours:
            self._progress.commit()
            # What has been settled counts for where to go on.
            self._progress = Progress(self._context.warehouse, "ingest", self._context.run_id, self._context.now)

    def _take(self, rows: DataFrame, number: int) -> None:
        with self._at_work:
            if self._stopped:
                return
            try:
                loaded = self._load(rows, number)
            except LakehouseError as error:
                self._error = error
                raise
            if loaded is not None:
                self._told = True
                self._after(loaded)
                self._told = False

    def _load(self, rows: DataFrame, number: int) -> int | None:
        """Write a micro-batch to bronze; returns its rows, None if Kafka has none that were not loaded."""
        source, report = self._source, self._context.report
        ends = _updated(self._reached, self._ends(number))
        if ends == self._reached:
            # Without a message, no table gets a version.
            return None
        self._reached = ends
        work = Work(source.name, payload=Messages(source.epoch, ends))
        end = self._progress.carry_out(work, lambda batch: self._write(rows, batch))
        count, corrupt = end.rows.get(self._table, 0), end.rows.get(CORRUPT_ROWS, 0)
        report.count(self._table, batches=1, rows_in=count, rows_corrupt=corrupt)
        report.say(f"{count:,} messages to {self._table}")
        return count

    def _write(self, rows: DataFrame, batch: Batch) -> End:
        now, seen = datetime.now(UTC), Observation()
        messages = decoded(rows, self._source, now, batch.batch_id)
        messages = messages.observe(
            seen, F.count("*").alias("rows"), F.count_if(readers.is_corrupt(messages)).alias("corrupt")
        )
        written = self._context.warehouse.append(messages, self._table, batch.transaction("bronze"))
        count, corrupt = seen.get["rows"], seen.get["corrupt"]
        if written != count:
            # A task that Spark ran twice is counted twice while it writes, but its rows are committed once.
            count, corrupt = self._count(batch.batch_id)
        return self._end(count, corrupt)

    def _end(self, rows: int, corrupt: int) -> End:
        """The end of a batch by what it has in bronze."""
        # Without a row there were Kafka's own markers alone, or nothing was written; the next batch counts them in.
        return End(rows={self._table: rows, CORRUPT_ROWS: corrupt}) if rows else End(VOID)

    def _count(self, batch_id: int) -> tuple[int, int]:
        """Rows of a batch in bronze, and those of them that cannot be read."""
        if not self._context.warehouse.exists(self._table):
            return 0, 0
        rows = self._context.warehouse.read(self._table).where(F.col("_batch_id") == batch_id)
        counted = rows.agg(F.count("*"), F.count_if(readers.is_corrupt(rows))).first()
        assert counted is not None
        return counted[0], counted[1]

    def _ends(self, number: int) -> Offsets:
        """Where a micro-batch ends, as Spark has planned it."""
        assert self._scratch is not None
        planned = (self._scratch.path / "offsets" / str(number)).read_text(encoding="utf-8")
        return json.loads(planned.splitlines()[-1])


def decoded(messages: DataFrame, source: Input, now: datetime, batch_id: int) -> DataFrame:
    """Messages as they go into bronze: declared fields as received, other fields in ``_rescued``.

    Args:
        messages: as Spark's Kafka source has them, headers included; values are JSON objects.
        now: when they are loaded; no message is taken to be younger.

    Returns:
        The input's columns as ``json_objects`` has them, ``_rescued``, ``_corrupt`` (a message that is not one
        JSON object, as text or base64), ``_source``, ``_ingested_at``, ``_batch_id``. A message without a value,
        by which Kafka deletes a key, has nulls and ``_source.tombstone``.
    """
    rows = json_objects.parsed(messages, F.col("value"), source.columns)
    return rows.select(
        *[json_objects.field(name).alias(name) for name in source.columns],
        json_objects.other_fields(source.columns).alias(readers.RESCUED),
        F.when(F.col("value").isNotNull() & ~F.col("is_object"), text_or_bytes(F.col("value"))).alias(readers.CORRUPT),
        F.struct(
            "topic",
            "partition",
            "offset",
            F.least(F.col("timestamp"), F.lit(now)).alias("timestamp"),
            text_or_bytes(F.col("key")).alias("key"),
            "headers",
            F.col("value").isNull().alias("tombstone"),
        ).alias(readers.SOURCE),
        F.lit(now).cast("timestamp").alias("_ingested_at"),
        F.lit(batch_id).cast("bigint").alias("_batch_id"),
    )


def _updated(ends: Offsets, by: Offsets) -> Offsets:
    return ends | {topic: ends.get(topic, {}) | partitions for topic, partitions in by.items()}
