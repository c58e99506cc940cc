"""The stream for a long time, with the DAGs beside it on the same tables: does anything grow, does anything fail, is all there?

Run it with: `make kafka && . bin/env && python benchmarks/soak.py [--minutes 60] [--rate 5000]`

A producer sends so many messages a second to a real broker; the stream takes them to silver. Meanwhile a real Airflow runs
`medallion_batch` on one more day of the shop's files, then `table_maintenance` with OPTIMIZE and VACUUM, again and again.
Every minute the process is looked at; the heap is that after a full collection. At the end: each message is in bronze
once, and is in staged or in quarantine; silver has each key that was accepted.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import psutil
from deltalake import DeltaTable
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bin"), str(ROOT / "tests")]

import oracle  # noqa: E402
from airflow_server import Airflow  # noqa: E402
from kafka_broker import KafkaBroker  # noqa: E402
from loopback import free_port  # noqa: E402
from stream_demo import end, gauges, make_topics, prepare, produce, start  # noqa: E402

CONSOLE = Console(width=160)
ENTITIES = ("transactions", "interactions")
WATCHED = (*(f"bronze/shop_event_{e}" for e in ENTITIES), *(f"silver/{e}" for e in ENTITIES), "ops/progress")
MEGABYTE = 1024 * 1024


def sample(stream: subprocess.Popen[bytes], warehouse: Path, port: int) -> dict[str, Any]:
    """What the stream's processes hold, what lies on the disk, and how far silver is behind."""
    jvm = psutil.Process(stream.pid)
    python = [p for p in jvm.children(recursive=True) if "python" in p.name()]
    scratch = [f for folder in Path(tempfile.gettempdir()).glob("lakehouse-shop_event_*") for f in folder.rglob("*")]
    now = gauges(port)
    until = [now.get(f'lakehouse_stream_merged_until_seconds{{input="shop_event_{e}"}}', 0) for e in ENTITIES]
    return {
        "heap, MB": heap(stream.pid) / MEGABYTE,
        "Python, MB": sum(p.memory_info().rss for p in python) / MEGABYTE,
        "handles": jvm.num_fds() + sum(p.num_fds() for p in python),
        "threads": jvm.num_threads(),
        "scratch files": len(scratch),
        "messages": sum(v for n, v in now.items() if n.startswith("lakehouse_stream_messages")),
        "waiting": sum(v for n, v in now.items() if n.startswith("lakehouse_stream_lag")),
        "silver's age, s": time.time() - min(until) if min(until) else float("nan"),
        "restarts": sum(v for n, v in now.items() if n.startswith("lakehouse_stream_restarts")),
    } | {f"{t} files": files(warehouse / t) for t in WATCHED}


def heap(pid: int) -> float:
    """Bytes that are alive in a JVM, after a full collection."""
    # jcmd ends well before the JVM answers when that is about to end.
    subprocess.run(["jcmd", str(pid), "GC.run"], capture_output=True, check=True, timeout=60)
    told = subprocess.run(["jcmd", str(pid), "GC.heap_info"], capture_output=True, text=True, check=True, timeout=60)
    return sum(int(k) * 1024 for k in re.findall(r"(?:PSYoungGen|ParOldGen)\s+total \d+K, used (\d+)K", told.stdout))


def files(table: Path) -> int:
    return len(DeltaTable(str(table)).file_uris()) if (table / "_delta_log").exists() else 0


class Batches(threading.Thread):
    """Airflow's DAGs again and again: a day of files to gold, then the maintenance."""

    def __init__(self, folder: Path, days: list[str], pause: float, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._folder, self._days, self._pause, self._stop_asked = folder, days, pause, stop
        self.runs: list[tuple[str, str, float]] = []

    def run(self) -> None:
        home, arriving = self._folder / "airflow", self._folder / "arriving"
        home.mkdir()
        places = {"WAREHOUSE": "warehouse", "LANDING": "arriving", "REPORTS": "reports", "LEASES": "leases"}
        environment = {f"LAKEHOUSE_{name}": str(self._folder / place) for name, place in places.items()}
        with Airflow(home, os.environ | environment | {"AIRFLOW_HOME": str(home)}) as airflow:
            airflow.wait_for("medallion_batch")
            for day in self._days:
                for source in (self._folder / "landing").glob(f"shop/*/{day}"):
                    shutil.copytree(source, arriving / source.relative_to(self._folder / "landing"))
                self._one(airflow, "medallion_batch", {"sources": ["shop"]})
                self._one(airflow, "table_maintenance", {"vacuum": True})
                if self._stop_asked.wait(self._pause):
                    return

    def _one(self, airflow: Airflow, dag: str, conf: dict[str, Any]) -> None:
        if not self._stop_asked.is_set():
            begin = time.monotonic()
            outcome, reports = airflow.run(dag, conf)
            self.runs.append((dag, outcome, time.monotonic() - begin))
            for stage, report in reports.items():
                if report.get("error"):
                    CONSOLE.print(f"[red]{dag}, {stage}: {report['error']}")


def number(table: Path, expression: str, condition: str = "true") -> int:
    """An aggregate over a table's newest version."""
    rows = duckdb.from_arrow(DeltaTable(str(table)).to_pyarrow_dataset())
    ((value,),) = rows.filter(condition).aggregate(expression).fetchall()
    return int(value)


def loaded(warehouse: Path) -> int:
    return sum(number(warehouse / f"bronze/shop_event_{e}", "count(*)") for e in ENTITIES)


def balance(warehouse: Path, sent: int) -> list[tuple[str, int, int]]:
    """(what, is, should be) of what must be equal at the end."""
    found = [("messages in bronze", loaded(warehouse), sent)]
    for e, key in (("transactions", "transaction_id"), ("interactions", "interaction_id")):
        bronze, staged, kept = (
            warehouse / la / t for la, t in (("bronze", f"shop_event_{e}"), ("staged", e), ("quarantine", e))
        )
        there, of_messages = number(bronze, "count(*)"), "file LIKE 'shop.%'"
        judged = number(staged, "count(*)", f"_sequence.{of_messages}") + number(
            kept, "count(*)", f"_source.{of_messages}"
        )
        places = "count(DISTINCT (_source.topic, _source.partition, _source.offset))"
        found += [
            (f"{e}: places of the messages in bronze", number(bronze, places), there),
            (f"{e}: messages in staged and in quarantine", judged, there),
            (f"{e}: keys in silver", oracle.count(warehouse / "silver" / e), number(staged, f"count(DISTINCT {key})")),
        ]  # fmt: skip
    return found


def shown(samples: list[tuple[float, dict[str, Any]]]) -> Table:
    """First, middle and last of each figure, and what it grew by in an hour over the second half."""
    half = samples[len(samples) // 2 :]
    table = Table(title=f"{len(samples)} looks in {samples[-1][0] / 60:.0f} minutes", title_justify="left")
    for column in ("", "first", "middle", "last", "least", "most", "growth an hour, second half"):
        table.add_column(column, justify="right" if column else "left")
    for name in samples[0][1]:
        values = [s[name] for _, s in samples]
        slope = statistics.linear_regression([at for at, _ in half], [s[name] for _, s in half]).slope * 3600
        cells = (values[0], half[0][1][name], values[-1], min(values), max(values))
        table.add_row(name, *[f"{v:,.0f}" for v in cells], f"{slope:+,.0f}")
    return table


def watch(
    stream: subprocess.Popen[bytes], warehouse: Path, port: int, seconds: float
) -> list[tuple[float, dict[str, Any]]]:
    begin, samples = time.monotonic(), []
    while stream.poll() is None and time.monotonic() - begin < seconds:
        time.sleep(60)
        with suppress(subprocess.CalledProcessError, psutil.NoSuchProcess):
            one = sample(stream, warehouse, port)
            samples.append((time.monotonic() - begin, one))
            CONSOLE.print(
                f"{samples[-1][0] / 60:4.0f} min  " + ", ".join(f"{name} {v:,.0f}" for name, v in one.items())
            )
    return samples


def wait_for(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(1)
    return done()


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--minutes", type=float, default=60)
    p.add_argument("--rate", type=float, default=5_000, help="messages a second")
    p.add_argument("--rows", type=int, default=50_000, help="size of the shop whose events are sent")
    p.add_argument("--pause", type=float, default=60, help="seconds between two runs of the DAGs")
    p.add_argument("--master", default="local[2]")
    options = p.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="lakehouse-soak-"))
    warehouse, port, stop, sent = folder / "warehouse", free_port(), threading.Event(), [0]
    try:
        prepare(folder, options.rows)
        days = sorted({d.name for d in folder.glob("landing/shop/interactions/*")})
        with KafkaBroker(folder / "kafka") as broker:
            make_topics(broker.servers)
            arguments = ["--warehouse", str(warehouse), "--kafka", str(broker.client_properties)]
            arguments += ["--metrics", f"127.0.0.1:{port}", "--leases", str(folder / "leases"), "--beat", "10"]
            stream = start(folder / "stream.log", "--master", options.master, "spark_jobs/stream.py", *arguments)
            producing = threading.Thread(
                target=produce, args=(broker.servers, folder / "landing", options.rate, stop, sent), daemon=True
            )
            batches = Batches(folder, days, options.pause, stop)
            try:
                producing.start()
                batches.start()
                samples = watch(stream, warehouse, port, options.minutes * 60)
                stop.set()
                producing.join(60)
                batches.join(1800)
                # What was sent last needs a round of its own.
                CONSOLE.print("the producer has ended; the stream comes to its end")
                wait_for(lambda: loaded(warehouse) >= sent[0], 900)
                time.sleep(30)
            finally:
                stop.set()
                end(stream)
        code = stream.returncode
        CONSOLE.print(shown(samples))
        failures = [line for line in (folder / "stream.log").read_text().splitlines() if "Trying again" in line]
        CONSOLE.print(f"{len(failures)} times something was tried again", *failures[:10], sep="\n  ")
        table = Table(title=f"{sent[0]:,} messages sent; the stream ended with {code}", title_justify="left")
        for column in ("", "is", "should be"):
            table.add_column(column, justify="right" if column else "left")
        checked = balance(warehouse, sent[0])
        for what, is_, should in checked:
            table.add_row(what, f"{is_:,}", f"{should:,}", style="" if is_ == should else "red")
        CONSOLE.print(table)
        for dag, outcome, seconds in batches.runs:
            CONSOLE.print(f"{dag}: {outcome} after {seconds:,.0f} s")
        good = code == 0 and all(o == "success" for _, o, _ in batches.runs) and all(a == b for _, a, b in checked)
        return 0 if good and batches.runs else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
