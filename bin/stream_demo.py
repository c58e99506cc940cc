"""The stream, live: a real Kafka broker, a producer that replays a made-up shop, the stream, and a view of it; Ctrl-C ends it all."""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from kafka_broker import KafkaBroker
from loopback import free_port
from rich.console import Console
from rich.live import Live
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
KEYS = {"transactions": "TransactionID", "interactions": "InteractionID"}
CONSOLE = Console()


def submit(stage: str, *arguments: str) -> None:
    """Run a stage to its end; exits with what it says when it fails."""
    CONSOLE.print(f"{stage} ...")
    done = subprocess.run(
        ["spark-submit", f"spark_jobs/{stage}.py", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def events(landing: Path) -> Iterator[tuple[str, str, bytes]]:
    """(topic, key, message) of the shop's files, in the order of their days."""
    files = [f for entity in KEYS for f in (landing / "shop" / entity).rglob("part-*")]
    for file in sorted(files, key=lambda f: f.parent.name):
        entity = file.parent.parent.name
        topic, key = f"shop.{entity}", KEYS[entity]
        with file.open(newline="", encoding="utf-8") as text:
            if entity == "interactions":
                yield from ((topic, str(n), line.strip().encode()) for n, line in enumerate(text))
            else:
                for row in csv.DictReader(text):
                    yield topic, row[key] or "", json.dumps({k: v for k, v in row.items() if v}).encode()


def endless(landing: Path) -> Iterator[tuple[str, str, bytes]]:
    """The events again and again; later rounds are new events of the same customers."""
    shop = list(events(landing))
    for round_ in itertools.count():
        for topic, key, message in shop:
            again = message.replace(b'ID": "T', b'ID": "T%d-' % round_).replace(b'ID":"I', b'ID":"I%d-' % round_)
            yield topic, f"{round_}-{key}", again if round_ else message


def produce(
    servers: str,
    landing: Path,
    rate: float,
    stop: threading.Event,
    sent: list[int],
    first: int = 0,
    most: int | None = None,
) -> None:
    """Send events from the ``first`` on, so many a second, until there were enough of them, or until ``stop``."""
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 20, "log_level": 0})
    begin = time.monotonic()
    for topic, key, message in itertools.islice(endless(landing), first, None if most is None else first + most):
        if stop.is_set():
            break
        while True:
            try:
                producer.produce(topic, message, key)
                break
            except BufferError:
                producer.poll(0.1)
        sent[0] += 1
        if sent[0] % 100 == 0:
            producer.poll(0)
            ahead = sent[0] / rate - (time.monotonic() - begin)
            if ahead > 0.05:
                stop.wait(ahead)
    producer.flush(30)


def make_topics(servers: str) -> None:
    topics = [NewTopic(f"shop.{entity}", 3, 1) for entity in KEYS]
    # Held until all is done: what it has begun ends with it.
    admin = AdminClient({"bootstrap.servers": servers})
    for done in admin.create_topics(topics).values():
        done.result(30)


def gauges(port: int) -> dict[str, float]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = [x for x in answer.read().decode().splitlines() if not x.startswith("#")]
    except OSError:
        return {}
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def view(now: dict[str, float], before: dict[str, float], seconds: float, sent: int) -> Table:
    # It must fit into 80 columns.
    table = Table(title=f"{sent:,} messages sent", title_justify="left", box=None, padding=(0, 1, 0, 0))
    for column in ("input", "state", "messages", "per s", "waiting", "rejected", "commit ago", "silver ago"):
        left = column in ("input", "state")
        table.add_column(column, justify="left" if left else "right", no_wrap=left)

    def ago(seconds_since_1970: float) -> str:
        return f"{time.time() - seconds_since_1970:,.0f} s" if seconds_since_1970 else "-"

    for name in sorted(n.partition('"')[2].rstrip('"}') for n in now if n.startswith("lakehouse_stream_up")):
        v = {g: now[f'lakehouse_stream_{g}{{input="{name}"}}'] for g in GAUGES}
        rate = (v["messages"] - before.get(f'lakehouse_stream_messages{{input="{name}"}}', 0)) / seconds
        table.add_row(
            *(
                name.removeprefix("shop_event_"),
                "running" if v["up"] else "[red]not running[/red]",
                f"{v['messages']:,.0f}",
                f"{rate:,.0f}",
            ),
            *(
                f"{v['lag']:,.0f}",
                f"{v['rejected']:,.0f}",
                ago(v["last_commit_seconds"]),
                ago(v["merged_until_seconds"]),
            ),
        )
    return table


GAUGES = ("up", "messages", "lag", "rejected", "last_commit_seconds", "merged_until_seconds")


def prepare(folder: Path, rows: int) -> None:
    """A shop's files in ``folder/landing``, and its customers and products in ``folder/warehouse``."""
    landing, warehouse = str(folder / "landing"), ("--warehouse", str(folder / "warehouse"))
    submit("generate", "--landing", landing, "--rows", str(rows), "--days", "30", "--start", "2026-03-01")
    only = ("--only", "shop_customers,shop_products")
    submit("ingest", *warehouse, "--landing", landing, *only)
    submit("validate", *warehouse, *only)
    submit("merge", *warehouse)


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--rows", type=int, default=20_000, help="size of the shop that is replayed")
    p.add_argument("--rate", type=float, default=500, help="messages a second")
    p.add_argument("--seconds", type=float, help="end by itself after so long")
    p.add_argument("--keep", metavar="FOLDER", help="a new folder, in which the warehouse is left")
    options = p.parse_args()
    if options.keep and Path(options.keep).exists():
        p.error(f"--keep {options.keep} is already there")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    state = Path(tempfile.mkdtemp(prefix="lakehouse-stream-demo-"))
    landing, warehouse = state / "landing", ("--warehouse", str(state / "warehouse"))
    stop, sent, port = threading.Event(), [0], free_port()
    try:
        prepare(state, options.rows)
        with KafkaBroker(state / "kafka") as broker:
            make_topics(broker.servers)
            arguments = [*warehouse, "--kafka", str(broker.client_properties), "--metrics", f"127.0.0.1:{port}"]
            stream = start(state / "stream.log", "spark_jobs/stream.py", *arguments)
            threading.Thread(
                target=produce, args=(broker.servers, landing, options.rate, stop, sent), daemon=True
            ).start()
            try:
                CONSOLE.print(f"the stream's log: {state}/stream.log; Ctrl-C ends everything")
                before, at, begin = dict[str, float](), time.monotonic(), time.monotonic()
                with Live(console=CONSOLE, refresh_per_second=2) as live:
                    while stream.poll() is None and time.monotonic() - begin < (options.seconds or float("inf")):
                        time.sleep(2)
                        now = gauges(port)
                        live.update(view(now, before, time.monotonic() - at, sent[0]))
                        before, at = now, time.monotonic()
                if stream.poll() is not None:
                    CONSOLE.print((state / "stream.log").read_text()[-3000:])
                    return 1
            finally:
                # While the broker is still there.
                stop.set()
                end(stream)
    except KeyboardInterrupt:
        pass
    finally:
        if options.keep and (state / "warehouse").is_dir():
            shutil.move(state / "warehouse", options.keep)
        shutil.rmtree(state, ignore_errors=True)
    CONSOLE.print(f"ended; nothing is left running, and {options.keep or 'nothing'} on disk")
    return 0


def start(log: Path, *command: str) -> subprocess.Popen[bytes]:
    """spark-submit in a process group of its own; ``end`` ends it."""
    with log.open("ab") as file:
        return subprocess.Popen(["spark-submit", *command], cwd=ROOT, stdout=file, stderr=file, start_new_session=True)


def end(stream: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and kill -9 to what is still there after half a minute."""
    with suppress(ProcessLookupError):
        stream.terminate()
        with suppress(subprocess.TimeoutExpired):
            stream.wait(40)
        os.killpg(stream.pid, signal.SIGKILL)
    stream.wait()


if __name__ == "__main__":
    sys.exit(main())
