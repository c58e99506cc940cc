"""How fast the stream is: messages a second from Kafka to silver, beside Spark's own stream to a plain table; and how long one takes.

Run it with: `make kafka && . bin/env && python benchmarks/stream.py [--messages 4000000] [--rate 2000] [--seconds 180]`

Throughput: the topics are filled first, then each stream empties them, in micro-batches of the same size. Rows are counted
from the commits of its tables; the first quarter of them does not count, so that no start-up is in it, and a JVM that
still compiles is not. Delay: messages come at a steady rate; it is the time from Kafka's timestamp of a message to the
commit by which silver has it.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bin"))

from kafka_broker import KafkaBroker  # noqa: E402
from loopback import free_port  # noqa: E402
from stream_demo import end, gauges, make_topics, prepare, produce, start  # noqa: E402

CONSOLE = Console(width=140)
ENTITIES = ("transactions", "interactions")


class Application:
    """One spark-submit, for as long as the ``with`` block lasts."""

    def __init__(self, log: Path, *command: str) -> None:
        self._log, self._command = log, command

    def __enter__(self) -> Application:
        self._process = start(self._log, *self._command)
        return self

    def __exit__(self, *_: object) -> None:
        end(self._process)

    def wait(self, done: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            if self._process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"it did not come to its end:\n{self._log.read_text()[-3000:]}")
            time.sleep(0.5)


def commits(table: Path) -> list[tuple[float, int]]:
    """(seconds since 1970, rows) of each commit that has added rows."""
    try:
        history = DeltaTable(str(table)).history()
    except TableNotFoundError:
        return []
    found = []
    for h in history:
        metrics = h.get("operationMetrics", {})
        rows = int(metrics.get("numTargetRowsInserted") or metrics.get("numOutputRows") or 0)
        if rows and h["operation"] in ("WRITE", "STREAMING UPDATE", "MERGE"):
            found.append((h["timestamp"] / 1000, rows))
    return sorted(found)


WARMING = 0.25
"""The share of the rows that are not timed."""


def rate(tables: list[Path]) -> tuple[float, int]:
    """Rows a second after the commit with which the first quarter of the rows is there; and all rows."""
    all_ = sorted(c for t in tables for c in commits(t))
    rows, so_far = sum(n for _, n in all_), list(itertools.accumulate(n for _, n in all_))
    first = next(n for n, sum_ in enumerate(so_far) if sum_ >= WARMING * rows)
    if so_far[first] == rows:
        sys.exit("one commit has nearly all rows: take more --messages, or fewer for a batch by --most")
    return (rows - so_far[first]) / (all_[-1][0] - all_[first][0]), rows


def delays(warehouse: Path, after: int, since: float) -> list[float]:
    """Seconds from message to silver, of each interaction sent since an instant that a later version of silver has got."""
    silver = DeltaTable(str(warehouse / "silver/interactions"))
    changes = silver.load_cdf(starting_version=after + 1).read_all()
    bronze = DeltaTable(str(warehouse / "bronze/shop_event_interactions")).to_pyarrow_table()
    duckdb.register("changes", changes)
    duckdb.register("bronze", bronze)
    found = duckdb.sql(
        """SELECT epoch(c._commit_timestamp) - epoch(b.sent) FROM changes c JOIN
           (SELECT InteractionID AS interaction_id, min(_source.timestamp) AS sent FROM bronze GROUP BY 1) b
           USING (interaction_id) WHERE c._change_type = 'insert' AND epoch(b.sent) >= $since""",
        params={"since": since},
    )
    return [r[0] for r in found.fetchall()]


class Bench:
    """A broker with the shop's messages, and the streams that read them."""

    def __init__(self, folder: Path, broker: KafkaBroker, options: argparse.Namespace) -> None:
        self._folder, self._broker, self._options = folder, broker, options
        self.warehouse, self._port = folder / "warehouse", free_port()
        self._sources = folder / "sources"
        shutil.copytree(ROOT / "sources", self._sources)
        for file in self._sources.glob("*/source.yaml"):
            most = f'maxOffsetsPerTrigger: "{options.most}"'
            file.write_text(re.sub(r'maxOffsetsPerTrigger: "\d+"', most, file.read_text()))

    def send(self, rate: float, first: int, most: int) -> None:
        produce(self._broker.servers, self._folder / "landing", rate, threading.Event(), [0], first, most)

    def plain(self, how: str) -> tuple[float, int]:
        """Spark's own stream empties the topics; its rate and its rows."""
        folder = self._folder / how
        tables = [(folder / "merged" if how == "merge" else folder) / e for e in ENTITIES]
        arguments = (self._broker.servers, str(folder), str(self._options.most), how)
        script = "benchmarks/contenders/plain_stream.py"
        with Application(self._folder / "plain.log", "--master", self._options.master, script, *arguments) as app:
            app.wait(lambda: sum(n for e in ENTITIES for _, n in commits(folder / e)) >= self._options.messages, 1800)
            # The last batch of the second table comes a little later.
            app.wait(lambda: sum(n for t in tables for _, n in commits(t)) >= 0.9 * self._options.messages, 1800)
            time.sleep(30 if how == "merge" else 0)
        return rate(tables)

    @contextmanager
    def stream(self) -> Iterator[Application]:
        arguments = ["--warehouse", str(self.warehouse), "--kafka", str(self._broker.client_properties)]
        arguments += ["--sources", str(self._sources)]
        arguments += ["--metrics", f"127.0.0.1:{self._port}"]
        with Application(
            self._folder / "stream.log", "--master", self._options.master, "spark_jobs/stream.py", *arguments
        ) as app:
            app.wait(lambda: bool(gauges(self._port)), 120)
            yield app

    def settled(self, messages: int) -> bool:
        """Whether the running stream has loaded so many messages, and silver has all of them."""
        now = gauges(self._port)

        def of(gauge: str) -> list[float]:
            return [now.get(f'lakehouse_stream_{gauge}{{input="shop_event_{e}"}}', 0) for e in ENTITIES]

        return sum(of("messages")) >= messages and min(of("merged_until_seconds")) > max(of("last_commit_seconds"))


def throughput(bench: Bench, options: argparse.Namespace) -> Table:
    """Both streams empty the same topics, one after the other."""
    table = Table(
        title=f"{options.messages:,} messages, at most {options.most:,} a topic and batch, {options.master}, "
        f"{platform.machine()}, {os.cpu_count()} cores",
        title_justify="left",
    )
    for column in ("stream", "rows", "rows a second", "share of the plain one"):
        table.add_column(column, justify="left" if column == "stream" else "right")
    bench.send(float("inf"), 0, options.messages)
    CONSOLE.print(f"{options.messages:,} messages are in Kafka")
    plain, rows = bench.plain("append")
    table.add_row("Spark: Kafka to a plain table", f"{rows:,}", f"{plain:,.0f}", "1")
    CONSOLE.print(f"plain: {plain:,.0f} rows a second")
    merged, rows = bench.plain("merge")
    table.add_row("Spark: to a plain table, and MERGE", f"{rows:,}", f"{merged:,.0f}", f"{merged / plain:.2f}")
    CONSOLE.print(f"with a MERGE: {merged:,.0f} rows a second")
    with bench.stream() as app:
        app.wait(lambda: bench.settled(options.messages), 3600)
    for layer, names in (("bronze", [f"shop_event_{e}" for e in ENTITIES]), ("silver", ENTITIES)):
        ours, rows = rate([bench.warehouse / layer / name for name in names])
        table.add_row(f"this stream: Kafka to {layer}", f"{rows:,}", f"{ours:,.0f}", f"{ours / plain:.2f}")
    return table


def delay(bench: Bench, options: argparse.Namespace) -> str:
    """Messages come at a steady rate."""
    version = DeltaTable(str(bench.warehouse / "silver/interactions")).version()
    most = int(options.rate * options.seconds)
    with bench.stream() as app:
        # A JVM's first rounds take several times as long as the later ones.
        warm = time.time() + options.warm
        # Those after the ones that have been sent.
        bench.send(options.rate, options.messages, most)
        app.wait(lambda: bench.settled(most), 1800)
    took = sorted(delays(bench.warehouse, version, warm))
    return (
        f"{options.rate:,.0f} messages a second for {options.seconds:.0f} s, {len(took):,} new interactions after {options.warm:.0f} s: "
        f"p50 {took[len(took) // 2]:.1f} s, p95 {took[int(len(took) * 0.95)]:.1f} s, longest {took[-1]:.1f} s"
    )


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--messages", type=int, default=4_000_000, help="in the topics before the streams start")
    p.add_argument("--most", type=int, default=500_000, help="messages in a micro-batch of one topic, of both streams")
    p.add_argument("--rate", type=float, default=2_000, help="messages a second, for the delay")
    p.add_argument("--seconds", type=float, default=180, help="how long, for the delay")
    p.add_argument("--warm", type=float, default=60, help="of them, seconds that do not count")
    p.add_argument("--master", default="local[2]")
    options = p.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, 50_000)
        with KafkaBroker(folder / "kafka") as broker:
            make_topics(broker.servers)
            bench = Bench(folder, broker, options)
            CONSOLE.print(throughput(bench, options))
            CONSOLE.print(delay(bench, options))


if __name__ == "__main__":
    main()
