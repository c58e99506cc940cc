"""How fast the stream is: messages a second from Kafka to silver, beside Spark's own stream to a plain table; and how long one takes.

Run it with: `make kafka && . bin/env && python benchmarks/stream.py [--messages 500000] [--rate 2000] [--seconds 180]`

Throughput: the topics are filled first, then each stream empties them. Rows are counted from the commits of its tables,
between the first and the last of them, so that no start-up is in it. Delay: messages come at a steady rate; it is the time
from Kafka's timestamp of a message to the commit by which silver has it.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
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
from stream_demo import end, gauges, make_topics, prepare, produce  # noqa: E402

CONSOLE = Console(width=140)
ENTITIES = ("transactions", "interactions")


class Application:
    """One spark-submit, for as long as the ``with`` block lasts."""

    def __init__(self, log: Path, *command: str) -> None:
        self._log, self._command = log, command

    def __enter__(self) -> Application:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["spark-submit", *self._command],
                cwd=ROOT, env=os.environ | {"TZ": "UTC"}, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
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


def rate(tables: list[Path]) -> tuple[float, int]:
    """Rows a second between the first and the last commit, what the first one has is left out; and all rows."""
    all_ = sorted(c for t in tables for c in commits(t))
    rows = sum(n for _, n in all_)
    return (rows - all_[0][1]) / max(all_[-1][0] - all_[0][0], 0.001), rows


def delays(warehouse: Path, after: int) -> list[float]:
    """Seconds from message to silver, of each interaction that a later version of silver has got."""
    silver = DeltaTable(str(warehouse / "silver/interactions"))
    changes = silver.load_cdf(starting_version=after + 1).read_all()
    bronze = DeltaTable(str(warehouse / "bronze/shop_event_interactions")).to_pyarrow_table()
    duckdb.register("changes", changes)
    duckdb.register("bronze", bronze)
    return [
        r[0]
        for r in duckdb.sql(
            """SELECT epoch(c._commit_timestamp) - epoch(b.sent) FROM changes c JOIN
               (SELECT InteractionID AS interaction_id, min(_source.timestamp) AS sent FROM bronze GROUP BY 1) b
               USING (interaction_id) WHERE c._change_type = 'insert'"""
        ).fetchall()
    ]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--messages", type=int, default=500_000, help="in the topics before the streams start")
    p.add_argument("--most", type=int, default=200_000, help="messages in a micro-batch of one topic, at most")
    p.add_argument("--rate", type=float, default=2_000, help="messages a second, for the delay")
    p.add_argument("--seconds", type=float, default=180, help="how long, for the delay")
    p.add_argument("--master", default="local[2]")
    options = p.parse_args()
    table = Table(
        title=f"{options.messages:,} messages, {options.master}, {platform.machine()}, {os.cpu_count()} cores",
        title_justify="left",
    )
    for column in ("stream", "rows", "rows a second", "share of the plain one"):
        table.add_column(column, justify="left" if column == "stream" else "right")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, 50_000)
        with KafkaBroker(folder / "kafka") as broker:
            make_topics(broker.servers)
            produce(broker.servers, folder / "landing", float("inf"), threading.Event(), [0], 0, options.messages)
            CONSOLE.print(f"{options.messages:,} messages are in Kafka")
            spark = ("--master", options.master)
            # By count alone: the shop's events have duplicates and bad rows, which the plain stream keeps.
            plain = [folder / "plain" / e for e in ENTITIES]
            with Application(
                folder / "plain.log",
                *spark,
                "benchmarks/plain_stream.py",
                broker.servers,
                str(folder / "plain"),
                str(options.most),
            ) as app:
                app.wait(lambda: sum(n for t in plain for _, n in commits(t)) >= options.messages, 1800)
            plain_rate, rows = rate(plain)
            table.add_row("Spark: Kafka to a plain table", f"{rows:,}", f"{plain_rate:,.0f}", "1")
            CONSOLE.print(f"plain: {plain_rate:,.0f} rows a second")
            port, warehouse = free_port(), folder / "warehouse"
            stream = [
                *spark,
                "spark_jobs/stream.py",
                "--warehouse",
                str(warehouse),
                "--kafka",
                str(broker.client_properties),
            ]
            stream += ["--metrics", f"127.0.0.1:{port}"]

            def settled(messages: int) -> bool:
                now = gauges(port)
                loaded = [now.get(f'lakehouse_stream_messages{{input="shop_event_{e}"}}', 0) for e in ENTITIES]
                merged = [
                    now.get(f'lakehouse_stream_merged_until_seconds{{input="shop_event_{e}"}}', 0) for e in ENTITIES
                ]
                last = [now.get(f'lakehouse_stream_last_commit_seconds{{input="shop_event_{e}"}}', 0) for e in ENTITIES]
                return sum(loaded) >= messages and min(merged) > max(last)

            with Application(folder / "stream.log", *stream) as app:
                app.wait(lambda: settled(options.messages), 3600)
            bronze = [warehouse / f"bronze/shop_event_{e}" for e in ENTITIES]
            for label, tables in (("to bronze", bronze), ("to silver", [warehouse / "silver" / e for e in ENTITIES])):
                ours, rows = rate(tables)
                table.add_row(f"this stream: Kafka {label}", f"{rows:,}", f"{ours:,.0f}", f"{ours / plain_rate:.2f}")
            CONSOLE.print(table)
            version = DeltaTable(str(warehouse / "silver/interactions")).version()
            began = datetime.now(UTC)
            sent, stop = [0], threading.Event()
            with Application(folder / "stream.log", *stream) as app:
                app.wait(lambda: bool(gauges(port)), 120)
                # Events that are not there yet: those of the rounds after the ones that were sent.
                produce(
                    broker.servers,
                    folder / "landing",
                    options.rate,
                    stop,
                    sent,
                    options.messages,
                    int(options.rate * options.seconds),
                )
                app.wait(lambda: settled(sent[0]), 1800)
            took = delays(warehouse, version)
    took.sort()
    CONSOLE.print(
        f"{options.rate:,.0f} messages a second from {began:%H:%M:%S} on, {len(took):,} new interactions: "
        f"p50 {took[len(took) // 2]:.1f} s, p95 {took[int(len(took) * 0.95)]:.1f} s, longest {took[-1]:.1f} s"
    )


if __name__ == "__main__":
    main()
