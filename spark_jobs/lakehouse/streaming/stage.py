"""The stream: each source's messages and files to bronze as they come, and on to silver by validate and merge."""

from __future__ import annotations

import argparse
import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from lakehouse import lease
from lakehouse.cli import Context
from lakehouse.errors import DataRefused
from lakehouse.ingestion import stage as ingestion
from lakehouse.ingestion.kafka import Loader
from lakehouse.merging import stage as merging
from lakehouse.report import RunReport
from lakehouse.sources import Input
from lakehouse.streaming.heartbeat import Heartbeat, Metrics, Pulse
from lakehouse.streaming.supervisor import DOWN, Policy, Worker
from lakehouse.tables import Warehouse
from lakehouse.validation import stage as validation

DRAIN_SECONDS = 20.0
"""How long a stop waits for batches that are at work; what is cut off then is done again by the next start."""
IDLE_SECONDS = 60.0
"""How long validate waits for new rows before it looks whether held ones can go on."""


def run(context: Context, inputs: list[Input]) -> None:
    """Run until SIGTERM or SIGINT, then let what is at work end.

    Raises:
        LakehouseError: why the last input that was still there went down.
    """
    stop = threading.Event()
    before = {s: signal.signal(s, lambda *_: stop.set()) for s in (signal.SIGTERM, signal.SIGINT)}
    stream = Stream(context, inputs, stop)
    try:
        stream.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Stream:
    """One application: a loader for each input, one thread a source for validate and merge, and a heartbeat."""

    def __init__(self, context: Context, inputs: list[Input], stop: threading.Event) -> None:
        self._context, self._inputs, self._stop = context, inputs, stop
        self._leases = Path(context.args.leases) if context.args.leases else None
        self._merging = threading.Lock()
        self._validating = threading.Lock()
        self._pulses = {i.name: Pulse(i.name) for i in inputs}
        self._loaders: dict[str, Loader] = {}
        self._say = context.report.say

    def run(self) -> None:
        context, args = self._context, self._context.args
        sources: dict[str, list[Input]] = {}
        for i in self._inputs:
            sources.setdefault(i.source, []).append(i)
        wakes = {name: threading.Event() for name in sources}
        for wake in wakes.values():
            # What an earlier stream has left in bronze goes first.
            wake.set()
        policy = Policy(failures=int(args.most_failures))
        worker = partial(Worker, stop=self._stop, say=self._say, policy=policy)
        loading = {
            i.name: worker(i.name, partial(self._load if i.is_stream else self._poll, i, wakes[i.source]))
            for i in self._inputs
        }
        refining = {
            name: worker(f"{name} to silver", partial(self._refine, group, wakes[name]))
            for name, group in sources.items()
        }
        metrics = Metrics(args.metrics) if args.metrics else None
        heartbeat = Heartbeat(context.warehouse, context.run_id, context.now)
        workers = [*loading.values(), *refining.values()]
        for w in workers:
            w.start()
        due = 0.0
        try:
            while not self._stop.wait(1.0) and any(w.state != DOWN for w in loading.values()):
                for i in self._inputs:
                    self._look(i, loading[i.name], refining[i.source])
                if metrics:
                    metrics.set(self._pulses.values())
                if time.monotonic() >= due:
                    heartbeat.beat(self._pulses.values(), datetime.now(UTC))
                    due = time.monotonic() + float(args.beat)
        finally:
            self._drain(workers)
            if metrics:
                metrics.close()
            for i in self._inputs:
                self._look(i, loading[i.name], refining[i.source])
            heartbeat.beat(self._pulses.values(), datetime.now(UTC))
        failures = [w.failure for w in loading.values() if w.state == DOWN and w.failure is not None]
        if len(failures) == len(loading):
            raise failures[-1]

    def _look(self, i: Input, loading: Worker, refining: Worker) -> None:
        """Have the input's pulse tell what its threads are at."""
        pulse, troubled = self._pulses[i.name], loading if loading.state != "running" else refining
        pulse.state = troubled.state
        pulse.error = troubled.error if troubled.state != "running" else ""
        pulse.restarts = loading.restarts + refining.restarts
        if i.name in self._loaders:
            pulse.lag = self._loaders[i.name].lag()

    def _drain(self, workers: list[Worker]) -> None:
        self._stop.set()
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
            now = datetime.now(UTC)
            pulse.batch_seconds = (now - pulse.last_commit).total_seconds() if pulse.last_commit else 0.0
            pulse.last_commit = now
            wake.set()

        loader = Loader(self._round("ingest"), source, loaded)
        loader.start()
        self._loaders[source.name] = loader
        loader.wait()

    def _poll(self, source: Input, wake: threading.Event) -> None:
        """New files to bronze, again and again."""
        pulse = self._pulses[source.name]
        while not self._stop.wait(float(self._context.args.poll)):
            begin = time.monotonic()
            with self._alone("ingest") as fence:
                context = self._round("ingest", fence, only=[source.name])
                ingestion.run(context)
            figures = context.report.tables.get(f"bronze.{source.name}", {})
            if figures.get("rows_in"):
                pulse.add(messages=figures["rows_in"])
                pulse.batch_seconds, pulse.last_commit = time.monotonic() - begin, datetime.now(UTC)
                wake.set()

    def _refine(self, group: list[Input], wake: threading.Event) -> None:
        """Bronze to silver, as often as there is something new."""
        entities = list(dict.fromkeys(entity for i in group for entity, _ in i.sql))
        while not self._stop.is_set():
            wake.wait(IDLE_SECONDS)
            wake.clear()
            if self._stop.is_set():
                return
            begun = datetime.now(UTC)
            with self._validating, self._alone("validate") as fence:
                context = self._round("validate", fence, only=[i.name for i in group])
                try:
                    validation.run(context)
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
        if self._leases is None:
            yield lambda: None
            return
        with lease.hold(str(self._leases / stage), self._context.run_id, self._say, yielding=True) as held:
            yield held.check

    def _round(self, stage: str, fence: Callable[[], None] = lambda: None, only: list[str] | None = None) -> Context:
        """What one round of a stage gets: a report and a time of its own."""
        context = self._context
        now = datetime.now(UTC)
        report = RunReport(stage, context.run_id, now)
        warehouse = Warehouse(context.warehouse.spark, context.warehouse.location, report, fence)
        args = argparse.Namespace(**vars(context.args))
        return dataclasses.replace(context, warehouse=warehouse, report=report, now=now, only=only or [], args=args)
