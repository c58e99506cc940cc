"""The stream: each source's messages and files to bronze as they come, and on to silver by validate and merge."""

from __future__ import annotations

import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

from pyspark.java_gateway import ensure_callback_server_started
from pyspark.sql import SparkSession

from lakehouse import lease, options
from lakehouse.context import Context
from lakehouse.engine import engine
from lakehouse.errors import DataRefused
from lakehouse.ingestion import stage as ingestion
from lakehouse.ingestion.kafka import Loader
from lakehouse.merging import stage as merging
from lakehouse.report import RunReport
from lakehouse.runtime import progress, retention
from lakehouse.sources import Input
from lakehouse.streaming import heartbeat
from lakehouse.streaming.backpressure import Backpressure
from lakehouse.streaming.heartbeat import Heartbeat, Metrics, Pulse
from lakehouse.streaming.supervisor import DOWN, RUNNING, Policy, Worker
from lakehouse.tables import Warehouse
from lakehouse.validation import history
from lakehouse.validation import stage as validation

DRAIN_SECONDS = 20.0
"""How long a stop waits for batches that are at work; what is cut off then is done again by the next start."""
WRITTEN_EACH_ROUND = {progress.TABLE: progress.Record, history.TABLE: history.Figure, heartbeat.TABLE: heartbeat.Beat}
IDLE_SECONDS = 60.0
"""How long validate waits for new rows before it looks whether held ones can go on."""


def run(context: Context, chosen: options.Stream, inputs: list[Input]) -> None:
    """Run until SIGTERM or SIGINT, then let what is at work end.

    Raises:
        LakehouseError: why the last input that was still there went down.
    """
    stop = threading.Event()
    before = {s: signal.signal(s, lambda *_: stop.set()) for s in (signal.SIGTERM, signal.SIGINT)}
    if engine().owns_jvm:
        have_jvm_stop(context.warehouse.spark, stop)
    stream = Stream(context, chosen, inputs, stop)
    try:
        stream.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Handler:
    """A handler of signals, for the JVM to call."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def handle(self, signal: object) -> None:
        self._stop.set()

    class Java:
        implements = ("sun.misc.SignalHandler",)


def have_jvm_stop(spark: SparkSession, stop: threading.Event) -> None:
    """Have SIGTERM to the JVM stop the stream, too.

    A supervisor may signal all processes of a group, and where spark-submit is Spark's own, the JVM is the first of them. It would
    end Spark under what is still at work.
    """
    gateway = spark.sparkContext._gateway
    assert gateway is not None
    ensure_callback_server_started(gateway)
    signals = gateway.jvm.sun.misc
    signals.Signal.handle(signals.Signal("TERM"), _Handler(stop))


class Stream:
    """One application: a loader for each input, one thread a source for validate and merge, and a heartbeat."""

    def __init__(self, context: Context, chosen: options.Stream, inputs: list[Input], stop: threading.Event) -> None:
        self._context, self._chosen, self._inputs, self._stop = context, chosen, inputs, stop
        self._files = options.Ingest(landing=chosen.landing)
        self._leases = chosen.leases
        self._merging = threading.Lock()
        self._validating = threading.Lock()
        self._pulses = {i.name: Pulse(i.name) for i in inputs}
        self._loaders: dict[str, Loader] = {}
        self._loading: dict[str, Worker] = {}
        self._refining: dict[str, Worker] = {}
        self._pressure = {i.source: Backpressure(stop) for i in inputs}
        self._wakes = {i.source: threading.Event() for i in inputs}
        self._say = context.report.say

    def run(self) -> None:
        sources: dict[str, list[Input]] = {}
        for i in self._inputs:
            sources.setdefault(i.source, []).append(i)
        for wake in self._wakes.values():
            # What an earlier stream has left in bronze goes first.
            wake.set()
        worker = partial(
            Worker, stop=self._stop, say=self._say, policy=Policy(failures=int(self._chosen.most_failures))
        )
        for i in self._inputs:
            work = partial(self._load if i.is_stream else self._poll, i, self._wakes[i.source])
            self._loading[i.name] = worker(i.name, work)
        for name, group in sources.items():
            self._refining[name] = worker(f"{name} to silver", partial(self._refine, group, self._wakes[name]))
        metrics = Metrics(self._chosen.metrics) if self._chosen.metrics else None
        beating = Heartbeat(self._context.warehouse, self._context.run_id, self._context.now)
        others = [worker("heartbeat", partial(self._tell, beating, metrics)), worker("housekeeping", self._tidy)]
        workers = [*self._loading.values(), *self._refining.values()]
        try:
            for w in [*workers, *others]:
                w.start()
            while not self._stop.wait(1.0) and any(w.state != DOWN for w in self._loading.values()):
                pass
        finally:
            self._drain([*workers, *others])
            if metrics:
                metrics.close()
            beating.beat(self._seen(), datetime.now(UTC))
        failures = [w.failure for w in self._loading.values() if w.state == DOWN and w.failure is not None]
        if len(failures) == len(self._loading):
            raise failures[-1]

    def _tell(self, beating: Heartbeat, metrics: Metrics | None) -> None:
        """Gauges every second, a row for each input every few."""
        due = 0.0
        while not self._stop.wait(1.0):
            seen = self._seen()
            if metrics:
                metrics.set(seen)
            if time.monotonic() >= due:
                beating.beat(seen, datetime.now(UTC))
                due = time.monotonic() + self._chosen.beat

    def _tidy(self) -> None:
        """Keep small what every round reads, and the files of what each of them adds to."""
        while not self._stop.wait(self._chosen.tidy):
            warehouse = self._round("optimize").warehouse
            retention.prune(warehouse)
            for table, record in WRITTEN_EACH_ROUND.items():
                if not self._stop.is_set():
                    warehouse.journal(table, record).compact()

    def _seen(self) -> list[Pulse]:
        """The pulses, with what the inputs' threads are at."""
        for i in self._inputs:
            pulse, loading, refining = self._pulses[i.name], self._loading[i.name], self._refining[i.source]
            troubled = loading if loading.state != RUNNING else refining
            pulse.state = troubled.state
            pulse.error = troubled.error if troubled.state != RUNNING else ""
            pulse.restarts = loading.restarts + refining.restarts
            if i.name in self._loaders:
                pulse.lag, pulse.batch_seconds = self._loaders[i.name].last_batch()
        return list(self._pulses.values())

    def _drain(self, workers: list[Worker]) -> None:
        self._stop.set()
        for wake in self._wakes.values():
            # Who waits for new rows need not wait any longer.
            wake.set()
        self._say("stopping: what is at work comes to its end")
        deadline = time.monotonic() + DRAIN_SECONDS
        stopping = [
            threading.Thread(target=loader.stop, args=(DRAIN_SECONDS,), daemon=True)
            for loader in self._loaders.values()
        ]
        for s in stopping:
            s.start()
        for thread in [*stopping, *workers]:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _load(self, source: Input, wake: threading.Event) -> None:
        """Kafka to bronze, until the query ends."""
        pulse = self._pulses[source.name]

        def loaded(rows: int) -> None:
            pulse.add(messages=rows)
            pulse.last_commit = datetime.now(UTC)
            wake.set()
            self._pressure[source.source].wait_for_silver()

        loader = Loader(self._round("ingest"), source, self._chosen.kafka, loaded)
        loader.start()
        self._loaders[source.name] = loader
        loader.wait()

    def _poll(self, source: Input, wake: threading.Event) -> None:
        """New files to bronze, again and again."""
        pulse = self._pulses[source.name]
        while not self._stop.wait(self._chosen.poll):
            begin = time.monotonic()
            with self._alone("ingest") as fence:
                context = self._round("ingest", fence, only=[source.name])
                ingestion.run(context, self._files)
            figures = context.report.tables.get(f"bronze.{source.name}", {})
            if figures.get("rows_in"):
                pulse.add(messages=figures["rows_in"])
                pulse.batch_seconds, pulse.last_commit = time.monotonic() - begin, datetime.now(UTC)
                wake.set()

    def _refine(self, group: list[Input], wake: threading.Event) -> None:
        """Bronze to silver, as often as there is something new."""
        entities = list(dict.fromkeys(entity for i in group for entity, _ in i.sql))
        pressure = self._pressure[group[0].source]

        def loading() -> bool:
            return any(self._loaders[i.name].loading() for i in group if i.name in self._loaders)

        while not self._stop.is_set():
            wake.wait(IDLE_SECONDS)
            wake.clear()
            if self._stop.is_set():
                return
            try:
                with pressure.round(loading):
                    self._to_silver(group, entities)
            except BaseException:
                # Whatever is left is still to be done.
                wake.set()
                raise

    def _to_silver(self, group: list[Input], entities: list[str]) -> None:
        """One round of validate and merge."""
        begun = datetime.now(UTC)
        with self._validating, self._alone("validate") as fence:
            context = self._round("validate", fence, only=[i.name for i in group])
            try:
                validation.run(context, options.Validate())
            except DataRefused as refusal:
                # That batch waits for a person; the others are done.
                self._say(str(refusal))
        for entity in entities:
            rejected = context.report.tables.get(f"staged.{entity}", {}).get("rows_quarantined", 0)
            feeding = next(i.name for i in group if entity in dict(i.sql))
            self._pulses[feeding].add(rejected=rejected)
        if self._stop.is_set():
            return
        with self._merging, self._alone("merge") as fence:
            merging.run(self._round("merge", fence, only=entities))
        for i in group:
            self._pulses[i.name].merged_until = begun

    @contextmanager
    def _alone(self, stage: str) -> Iterator[Callable[[], None]]:
        """Hold the lease of a stage, for which the DAGs' tasks wait too; gives what says whether it is still held."""
        if not self._leases:
            yield lambda: None
            return
        with lease.hold(f"{self._leases.rstrip('/')}/{stage}", self._context.run_id, self._say, yielding=True) as held:
            yield held.check

    def _round(self, stage: str, fence: Callable[[], None] = lambda: None, only: list[str] | None = None) -> Context:
        """What one round of a stage gets: a report and a time of its own."""
        context = self._context
        now = datetime.now(UTC)
        report = RunReport(stage, context.run_id, now)
        warehouse = Warehouse(lambda: context.warehouse.spark, context.warehouse.location, report, fence)
        return dataclasses.replace(context, warehouse=warehouse, report=report, now=now, only=only or [])
