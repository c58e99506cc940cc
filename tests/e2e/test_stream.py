"""The stream as an operator meets it: a real broker, real spark-submit, kill -9, SIGTERM; then the same tables as by batch."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import messages
import oracle
import pytest
import stream_demo
from deltalake import DeltaTable
from kafka_broker import KafkaBroker
from lakehouse.instants import instant
from lakehouse.report import RunReport
from lakehouse.synthetic.shop import Scale
from lakehouse.synthetic.stage import generate
from loopback import free_port
from messages import Topic
from pipeline import GOLD, SILVER, Pipeline, rows_of
from pyspark.sql import SparkSession
from shell import Shell
from support import ROOT, processes_with, sourced_environment

AS_OF = "2026-03-05"
ENTITIES = ("transactions", "interactions")


class Stream:
    """A stream on a warehouse, started and ended as often as a test likes."""

    def __init__(self, shell: Shell, broker: KafkaBroker) -> None:
        self.shell, self._broker, self.metrics = shell, broker, free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.log = shell.folder / "stream.log"

    def start(self) -> None:
        options = ["--only", "shop_events", "--kafka", str(self._broker.client_properties), "--beat", "5"]
        options += ["--leases", str(self.shell.folder / "leases"), "--metrics", f"127.0.0.1:{self.metrics}"]
        # Far more often than anybody would want it: beside all that a stream does.
        options += ["--tidy", "5"]
        with self.log.open("ab") as log:
            self._process = self.shell.start("stream", *options, stdout=log)

    def kill(self) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def terminate(self) -> tuple[int, float]:
        """SIGTERM to what was started, which is the JVM; returns the exit code and the seconds it took."""
        assert self._process is not None
        begin = time.monotonic()
        os.kill(self._process.pid, signal.SIGTERM)
        return self._process.wait(120), time.monotonic() - begin

    def assert_runs(self) -> None:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()[-3000:]

    def gauges(self) -> dict[str, float]:
        return stream_demo.gauges(self.metrics)


@contextmanager
def running(shell: Shell, broker: KafkaBroker) -> Iterator[Stream]:
    stream = Stream(shell, broker)
    stream.start()
    try:
        yield stream
    finally:
        stream.kill()


def wait_for(what: Callable[[], bool], stream: Stream, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        stream.assert_runs()
        assert time.monotonic() < deadline, stream.log.read_text()[-5000:]
        time.sleep(0.5)


def rows(shell: Shell, table: str) -> int:
    path = shell.warehouse / table.replace(".", "/")
    # The folder of the log is there a moment before the first version.
    return oracle.count(path) if any(path.glob("_delta_log/*.json")) else 0


@pytest.fixture(scope="module")
def by_batch(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """The shop's files, by the batch's stages."""
    pipeline = Pipeline(spark, tmp_path_factory.mktemp("batch"))
    begin = instant("2026-03-01")
    generate(spark, str(pipeline.landing), Scale(1_500, 4, begin.date()), 1, 2.0, RunReport("generate", "g", begin))
    pipeline.batch("shop", AS_OF)
    return pipeline


def parents_first(spark: SparkSession, shell: Shell, by_batch: Pipeline) -> None:
    """Customers and products come as files, by the batch."""
    pipeline = Pipeline(spark, shell.folder)
    (pipeline.landing / "shop").symlink_to(by_batch.landing / "shop")
    for stage in ("ingest", "validate"):
        pipeline.run(stage, only=["shop_customers", "shop_products"])
    pipeline.run("merge")


def assert_same(spark: SparkSession, shell: Shell, by_batch: Pipeline) -> None:
    """Silver and gold are those of the batch; no message is in bronze twice, none is missing."""
    ours = Pipeline(spark, shell.folder)
    ours.run("featurize", as_of=AS_OF)
    tables = [
        *(f"silver.{e}" for e in SILVER),
        *(f"silver.{e}_history" for e in SILVER[:3]),
        *(f"gold.{g}" for g in GOLD),
    ]
    assert rows_of(ours, tables) == rows_of(by_batch, tables)
    for entity in ENTITIES:
        places = ours.table(f"bronze.shop_event_{entity}").select("_source.partition", "_source.offset")
        assert places.count() == places.distinct().count() == len(list(messages.of_files(by_batch.landing, entity)))
        assert ours.table(f"quarantine.{entity}").count() == by_batch.table(f"quarantine.{entity}").count()


def all_there(shell: Shell, by_batch: Pipeline) -> bool:
    return all(
        rows(shell, f"bronze.shop_event_{e}") == len(list(messages.of_files(by_batch.landing, e)))
        and rows(shell, f"silver.{e}") == by_batch.table(f"silver.{e}").count()
        for e in ENTITIES
    )


def test_a_stream_that_is_killed_and_goes_on_is_the_batch(
    spark: SparkSession, tmp_path: Path, by_batch: Pipeline
) -> None:
    shell = Shell(tmp_path)
    parents_first(spark, shell, by_batch)
    with KafkaBroker(tmp_path / "kafka") as broker:
        topics = {e: Topic(broker, messages.TOPICS[e]).create(3) for e in ENTITIES}
        sent = {e: list(messages.of_files(by_batch.landing, e)) for e in ENTITIES}
        with running(shell, broker) as stream:
            for e in ENTITIES:
                topics[e].send(sent[e][: len(sent[e]) // 2])
            # In the middle of the first batches.
            wait_for(lambda: rows(shell, "bronze.shop_event_interactions") > 0, stream)
            stream.kill()
            stream.start()
            for e in ENTITIES:
                topics[e].send(sent[e][len(sent[e]) // 2 :])
            wait_for(lambda: all_there(shell, by_batch), stream)
            gauges = stream.gauges()
            code, seconds = stream.terminate()
        # Nothing is at work: it need not wait for anything.
        assert (code, seconds < 15) == (0, True), (seconds, stream.log.read_text()[-3000:])
    for e in ENTITIES:
        assert gauges[f'lakehouse_stream_up{{input="shop_event_{e}"}}'] == 1
        assert gauges[f'lakehouse_stream_restarts{{input="shop_event_{e}"}}'] == 0
    beats = DeltaTable(str(shell.warehouse / "ops/stream")).to_pyarrow_table().to_pylist()
    assert {(b["input"], b["state"]) for b in beats} == {(f"shop_event_{e}", "running") for e in ENTITIES}
    assert_same(spark, shell, by_batch)


@pytest.mark.long
def test_twenty_kills_of_stream_and_broker_while_messages_come(
    spark: SparkSession, tmp_path: Path, by_batch: Pipeline
) -> None:
    shell, chance = Shell(tmp_path), random.Random(3)
    parents_first(spark, shell, by_batch)
    with KafkaBroker(tmp_path / "kafka") as broker:
        topics = {e: Topic(broker, messages.TOPICS[e]).create(3) for e in ENTITIES}
        sent = {e: list(messages.of_files(by_batch.landing, e)) for e in ENTITIES}
        with running(shell, broker) as stream:
            for n in range(20):
                for e in ENTITIES:
                    size = len(sent[e]) // 20 + 1
                    topics[e].send(sent[e][n * size : (n + 1) * size])
                time.sleep(chance.uniform(10, 30))
                if n % 4 == 3:
                    broker.kill()
                    time.sleep(chance.uniform(1, 10))
                    broker.start()
                else:
                    stream.kill()
                    stream.start()
            wait_for(lambda: all_there(shell, by_batch), stream)
            assert stream.terminate()[0] == 0
    assert_same(spark, shell, by_batch)


@pytest.mark.long
def test_a_broker_that_is_away_for_two_minutes_is_waited_for(
    spark: SparkSession, tmp_path: Path, by_batch: Pipeline
) -> None:
    shell = Shell(tmp_path)
    parents_first(spark, shell, by_batch)
    with KafkaBroker(tmp_path / "kafka") as broker:
        topics = {e: Topic(broker, messages.TOPICS[e]).create() for e in ENTITIES}
        with running(shell, broker) as stream:
            topics["interactions"].send(list(messages.of_files(by_batch.landing, "interactions")))
            wait_for(lambda: rows(shell, "silver.interactions") > 0, stream)
            broker.kill()
            time.sleep(120)
            stream.assert_runs()
            broker.start()
            topics["transactions"].send(list(messages.of_files(by_batch.landing, "transactions")))
            wait_for(lambda: all_there(shell, by_batch), stream)
            assert stream.terminate()[0] == 0
    assert_same(spark, shell, by_batch)


@pytest.mark.long
def test_supervisord_brings_it_back_and_stops_it_in_good_order(
    spark: SparkSession, tmp_path: Path, by_batch: Pipeline
) -> None:
    shell, port = Shell(tmp_path), free_port()
    parents_first(spark, shell, by_batch)
    with KafkaBroker(tmp_path / "kafka") as broker:
        topic = Topic(broker, messages.TOPICS["interactions"]).create()
        settings = sourced_environment(
            LAKEHOUSE_WAREHOUSE=str(shell.warehouse),
            LAKEHOUSE_KAFKA=str(broker.client_properties),
            LAKEHOUSE_METRICS=f"127.0.0.1:{port}",
            LAKEHOUSE_BEAT="5",
        )
        configuration = str(ROOT / "conf/supervisord.conf")
        daemon = subprocess.Popen(["supervisord", "-c", configuration], env=settings, start_new_session=True)

        def control(*arguments: str) -> str:
            command = ["supervisorctl", "-c", configuration, *arguments]
            return subprocess.run(command, env=settings, capture_output=True, text=True, timeout=120).stdout

        def loaded(number: int) -> None:
            deadline = time.monotonic() + 180
            while rows(shell, "bronze.shop_event_interactions") < number:
                assert time.monotonic() < deadline, control("tail", "-5000", "stream")
                time.sleep(0.5)

        try:
            topic.send([("a", "{}")])
            loaded(1)
            before = int(control("pid", "stream"))
            os.killpg(before, signal.SIGKILL)
            topic.send([("b", "{}")])
            loaded(2)
            assert int(control("pid", "stream")) != before
            assert "stream: stopped" in control("stop", "stream")
            assert "done, 0 warnings" in control("tail", "-3000", "stream")
        finally:
            control("shutdown")
            daemon.wait(90)
    assert processes_with(str(shell.warehouse)) == []
