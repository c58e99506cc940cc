"""The suite against what else one could run, on the same files: first load, seven days, late data, a day on a warm Spark, a kill, nothing new, optimize.

Run it with: `make bench` (1,000,000 rows, minutes) or `make bench SCALE=10m` (also 100m), `DAYS=` for a longer history

The shop's data are skewed and come in bursts, with duplicates, invalid and late rows. The others: Spark's plain read and
write, the same tables by plain Spark without any bookkeeping (the floor), a home-made notebook that makes everything anew, the
suite's own definitions over all files at once, DuckDB. All but the first make gold, and it must be the same. What comes out lies in `var/bench/<scale>/`: results.json, results.svg.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib
import pyarrow as pa
from deltalake import DeltaTable
from rich.console import Console
from rich.table import Table
from runs import ROOT, STAGES, Floor, Remote, Run, Spark, Stages, timed

sys.path[:0] = [str(ROOT / folder) for folder in ("tests", "bin", "spark_jobs")]

import oracle  # noqa: E402
from connect_server import ConnectServer  # noqa: E402

matplotlib.use("svg")
from matplotlib import pyplot as plt  # noqa: E402

SCALES = {"1m": 1_000_000, "10m": 10_000_000, "100m": 100_000_000}
START = date(2025, 1, 1)
CONTENDERS = "benchmarks/contenders"
CONSOLE = Console(width=130)
GOLDEN = ("ours", "floor", "recompute", "notebook")
"""Whose gold is compared with DuckDB's."""
KILLED = "a day, each stage run again after a kill in its middle"
COLUMNS = (
    "days_since_last_purchase, total_spend, purchase_frequency, total_interactions, session_count, favourite_category"
)


class Bench:
    """One warehouse of ours and one of each other, fed with the same files."""

    def __init__(self, folder: Path, options: argparse.Namespace, results: Path, machine: str) -> None:
        self.folder, self.files = folder, folder / "files"
        self._results, self.machine = results, machine
        self.rows, self.days, self.daily = SCALES[options.scale], options.days, options.daily
        self.spark = Spark(folder / "spark", options.master)
        self.ours = Stages(self.spark, folder)
        self.landing = self.ours.landing
        self.floor = Floor(self.spark, self.landing, folder / "floor")
        self.steps: dict[str, list[Run]] = {}
        self.delivered: dict[str, int] = {}
        self.opened: list[list[tuple[str, int, int]]] = []

    def day(self, n: int) -> str:
        return f"{START + timedelta(days=n)}"

    def generate(self) -> None:
        shop = ["--rows", str(self.rows), "--days", str(self.days), "--start", f"{START}"]
        self.ours.run("generate", "--landing", str(self.files), *shop)

    def deliver(self, first: int, last: int, entities: tuple[str, ...] = ("*",)) -> int:
        """Link days of files, the last one excluded, into the landing folder; returns their bytes."""
        size = 0
        for n in range(first, last):
            for file in (f for e in entities for f in self.files.glob(f"shop/{e}/{self.day(n)}/*")):
                target = self.landing / file.relative_to(self.files)
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    os.link(file, target)
                    size += file.stat().st_size
        return size

    def note(self, step: str, runs: list[Run], delivered: int = 0) -> None:
        self.steps[step], self.delivered[step] = runs, delivered
        seconds = ", ".join(f"{r.name} {r.seconds:,.1f}" for r in runs)
        CONSOLE.print(f"{step}: {sum(r.seconds for r in runs):,.1f} s ({seconds})")
        self.save()

    def save(self, **more: object) -> None:
        """Write what is known so far."""
        results = {"machine": self.machine, "rows": self.rows, "days": self.days, "delivered": self.delivered}
        results |= {"steps": {step: [dataclasses.asdict(r) for r in runs] for step, runs in self.steps.items()}}
        self._results.write_text(json.dumps(results | {"opened": self.opened} | more, indent=1, default=str))

    def others(self, step: str, as_of: str, names: tuple[str, ...]) -> None:
        for name in names:
            target = self.folder / name
            if name == "floor":
                self.note(f"{name}: {step}", self.floor.batch(as_of))
                continue
            if name == "DuckDB":
                command = [sys.executable, f"{CONTENDERS}/duck.py", str(self.landing), str(target), as_of]
                run = timed(name, command, self.folder / "log")
            else:
                run = self.spark.submit(
                    f"{CONTENDERS}/{name}.py", str(self.landing), str(target), *([as_of] if name != "plain" else [])
                )
                run.name = name
            self.note(f"{name}: {step}", [run])

    def killed(self, as_of: str, seconds: dict[str, float]) -> list[Run]:
        """Each stage killed (-9) in its middle, then run to its end: that second run is what is returned."""
        runs = []
        for stage in STAGES:
            arguments = self.ours.of_batch(stage, as_of)
            process = subprocess.Popen(
                self.spark.command(f"spark_jobs/{stage}.py", "--warehouse", str(self.ours.warehouse), *arguments),
                cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            time.sleep(seconds[stage] * 0.6)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                CONSOLE.print(f"[red]{stage} was over, with {process.returncode}, before it could be killed")
            process.wait()
            runs.append(self.ours.run(stage, *arguments))
        return runs

    def warm(self, first: int, as_of: str) -> None:
        """Nothing new and then a day, on a Spark Connect server that stays; a first look at nothing new warms it."""
        with ConnectServer(self.folder / "server", memory="4g", options="") as server:
            stages = Stages(Remote(self.folder / "remote", server.url), self.folder)
            stages.batch(as_of)
            self.note("nothing new, warm", stages.batch(as_of))
            size = self.deliver(first, first + 1)
            self.note("a day, warm", stages.batch(self.day(first + 1)), size)

    def same_gold(self, as_of: str, contenders: tuple[str, ...]) -> dict[str, bool]:
        """Whether each one's gold as of an instant is DuckDB's; prints what differs."""
        found = {}
        for name in contenders:
            db = oracle.connect(self.ours.warehouse if name == "ours" else self.folder / name, ["gold"])
            db.sql(f"CREATE MACRO t() AS TIMESTAMPTZ '{as_of} 00:00:00+00'")
            for table in oracle.KEYS:
                db.sql(f"CREATE TABLE want_{table} AS FROM '{self.folder}/DuckDB/gold_{table}.parquet'")
            if name == "notebook":
                # It has those who have done something, and none of the windows and scores.
                done = f"SELECT customer_id, {COLUMNS} FROM want_customer_features WHERE purchase_frequency > 0 OR total_interactions > 0"  # noqa: S608
                got = f"SELECT customer_id, {COLUMNS} FROM gold_customer_features"  # noqa: S608
                wrong: Any = db.sql(f"({done} EXCEPT {got}) UNION ALL ({got} EXCEPT {done})").limit(3).fetchall()
            else:
                wrong = oracle.compared(db)
            if wrong:
                CONSOLE.print(f"[red]{name} as of {as_of} differs from DuckDB: {wrong}")
            found[name] = not wrong
        return found


QUERIES = (
    ("one customer's clicks", "silver/interactions", "customer_id", "C0000042"),
    ("one customer's orders", "silver/transactions_history", "customer_id", "C0000042"),
    ("one customer's features", "gold/customer_features", "customer_id", "C0000042"),
    ("who likes one category", "gold/category_preferences", "category", "Books"),
)


def opened(warehouse: Path) -> list[tuple[str, int, int]]:
    """(query, files, bytes) of the files that the statistics in a table's log do not rule out."""
    found = []
    for name, table, column, value in QUERIES:
        files = pa.table(DeltaTable(str(warehouse / table)).get_add_actions(flatten=True)).to_pylist()
        newest = max((f.get("partition.as_of") for f in files), key=str)
        may = [
            f["size_bytes"]
            for f in files
            if f.get("partition.as_of") == newest
            and (f[f"min.{column}"] is None or f[f"min.{column}"] <= value <= f[f"max.{column}"])
        ]
        found.append((name, len(may), sum(may)))
    return found


def measure(bench: Bench) -> dict[str, bool]:
    """All steps, in the order in which a year of operation has them; returns whether each gold was the same."""
    first = bench.days - bench.daily - 2
    late_day, held = first // 2, ("customers", "products")
    bench.generate()
    # Of one day in the middle, orders and clicks come only after all others.
    size = bench.deliver(0, late_day) + bench.deliver(late_day, late_day + 1, held) + bench.deliver(late_day + 1, first)
    CONSOLE.print(f"{bench.rows:,} rows of {bench.days} days; the first load has {size:,} bytes")
    as_of = bench.day(first)
    bench.note("first load", bench.ours.batch(as_of), size)
    bench.others("first load", as_of, ("plain", "floor", "notebook", "recompute", "DuckDB"))
    same = {f"{n}, first load": s for n, s in bench.same_gold(as_of, GOLDEN).items()}
    for n in range(first, first + bench.daily):
        if n == first + bench.daily - 1:
            # They are as far as they would be, had they run every day.
            bench.others("days before", bench.day(n), ("floor", "notebook"))
        size = bench.deliver(n, n + 1)
        as_of = bench.day(n + 1)
        bench.note(f"day {n - first + 1}", bench.ours.batch(as_of), size)
    bench.others("a day", as_of, ("floor", "notebook", "recompute", "DuckDB"))
    same |= {f"{n}, a day": s for n, s in bench.same_gold(as_of, GOLDEN).items()}
    bench.note("nothing new", bench.ours.batch(as_of))
    bench.note("a bare session", [bench.spark.submit(f"{CONTENDERS}/bare.py", f"{bench.ours.warehouse}/silver/customers", name="bare")])  # fmt: skip
    size = bench.deliver(late_day, late_day + 1)
    bench.note("a late day", bench.ours.batch(as_of), size)
    stale = ["--start", bench.day(0), "--end", as_of]
    bench.note("stale snapshots anew", [bench.ours.run("featurize", *stale)])
    bench.warm(bench.days - 2, as_of)
    size = bench.deliver(bench.days - 1, bench.days)
    typical = {r.name: r.seconds for r in bench.steps[f"day {bench.daily}"]}
    as_of = bench.day(bench.days)
    bench.note(KILLED, bench.killed(as_of, typical), size)
    bench.opened = [opened(bench.ours.warehouse)]
    bench.note("optimize", [bench.ours.run("optimize")])
    bench.opened.append(opened(bench.ours.warehouse))
    bench.others("all", as_of, ("DuckDB",))
    return same | {"ours, after late data, kills and optimize": bench.same_gold(as_of, ("ours",))["ours"]}


def goals(bench: Bench) -> Table:
    """The goals against what was measured."""

    def total(step: str) -> float:
        return sum(r.seconds for r in bench.steps[step])

    def cpu(step: str) -> float:
        return sum(r.cpu for r in bench.steps[step])

    days = [f"day {n + 1}" for n in range(bench.daily)]
    day, cpu_of_day = (statistics.median(map(of, days)) for of in (total, cpu))
    bare = total("a bare session")
    written = sum(r.written for d in days for r in bench.steps[d]) / sum(bench.delivered[d] for d in days)
    slowest = max(bench.steps["nothing new"], key=lambda r: r.seconds)
    own = [r for step, runs in bench.steps.items() if not step.startswith("floor:") for r in runs if r.name in STAGES]
    peak = max(own, key=lambda r: r.memory)
    lines = [
        ("first load / floor", total("first load") / total("floor: first load"), "at most 1.6"),
        ("first load / floor, CPU", cpu("first load") / cpu("floor: first load"), "at most 1.6"),
        ("a day / floor", day / total("floor: a day"), "at most 1.6"),
        ("a day / floor, CPU", cpu_of_day / cpu("floor: a day"), "at most 1.6"),
        ("first load / plain read and write", total("first load") / total("plain: first load"), "at most 3"),
        ("first load / DuckDB", total("first load") / total("DuckDB: first load"), "at most 3"),
        ("first load / everything anew, tuned", total("first load") / total("recompute: first load"), ""),
        ("notebook / a day", total("notebook: a day") / day, "at least 5 (10 M rows), 20 (100 M)"),
        ("notebook / a day, warm", total("notebook: a day") / total("a day, warm"), ""),
        ("a day / a day, warm", day / total("a day, warm"), ""),
        ("everything anew, tuned / a day", total("recompute: a day") / day, ""),
        ("DuckDB / a day", total("DuckDB: a day") / day, ""),
        (f"nothing new ({slowest.name}) / a bare session", slowest.seconds / bare, "at most 1.5"),
        (f"bytes written / byte delivered, {bench.daily} days", written, "at most 3"),
        ("a day, each stage run again / a day", total(KILLED) / day, ""),
        (f"most memory, GB ({peak.name})", peak.memory / 1e9, "the same at 10 M and 100 M rows"),
    ]
    table = Table(title="Ratios", title_justify="left")
    for column in ("measure", "is", "goal"):
        table.add_column(column, justify="right" if column == "is" else "left")
    for name, value, goal in lines:
        table.add_row(name, f"{value:.2f}", goal)
    return table


def seconds_table(bench: Bench) -> Table:
    table = Table(title="Seconds, bytes and memory", title_justify="left")
    for column in ("step", "seconds", "of them", "bytes delivered", "CPU, s", "read", "written", "memory, MB"):
        table.add_column(column, justify="left" if column in ("step", "of them") else "right")
    for step, runs in bench.steps.items():
        parts = ", ".join(f"{r.seconds:.0f}" for r in runs) if len(runs) > 1 else ""
        delivered = f"{bench.delivered[step]:,}" if bench.delivered[step] else ""
        cpu, read, written = (sum(getattr(r, name) for r in runs) for name in ("cpu", "read", "written"))
        memory = max(r.memory for r in runs)
        figures = [f"{cpu:,.1f}", f"{read:,}", f"{written:,}", f"{memory / 1e6:,.0f}"] if memory else []
        table.add_row(step, f"{sum(r.seconds for r in runs):,.1f}", parts, delivered, *figures)
    return table


def layout_table(bench: Bench) -> Table:
    table = Table(title="Files and bytes that a query must open", title_justify="left")
    for column in ("query", "before optimize", "after"):
        table.add_column(column, justify="left" if column == "query" else "right")
    for before, after in zip(*bench.opened, strict=True):
        table.add_row(before[0], *[f"{n:,} files, {size / 1e6:,.1f} MB" for _, n, size in (before, after)])
    return table


def chart(bench: Bench, path: Path) -> None:
    """Seconds of the first load and of a day, ours by stage, beside the others."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for axis, ours, step in zip(axes, ("first load", f"day {bench.daily}"), ("first load", "a day"), strict=True):
        left = 0.0
        for n, run in enumerate(bench.steps[ours]):
            axis.barh("this suite", run.seconds, left=left, color=f"C{n}", label=run.name)
            left += run.seconds
        for name in ("floor", "recompute", "notebook", "DuckDB", "plain"):
            if f"{name}: {step}" in bench.steps:
                axis.barh(name, sum(r.seconds for r in bench.steps[f"{name}: {step}"]), color="0.6")
        axis.invert_yaxis()
        axis.set_title(step)
        axis.set_xlabel("seconds")
    axes[0].legend()
    figure.suptitle(f"{bench.rows:,} rows, {bench.days} days; {bench.machine}", fontsize=9)
    figure.savefig(path)
    plt.close(figure)


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--scale", choices=SCALES, default="1m", help="rows of the shop")
    p.add_argument("--days", type=int, default=100, help="days that they are of")
    p.add_argument("--daily", type=int, default=7, help="of them, days that come one by one after the first load")
    p.add_argument("--master", default="local[2]")
    p.add_argument("--folder", help="where to work (default: a temporary folder)")
    p.add_argument("--keep", action="store_true", help="leave files and warehouses there, and say where")
    options = p.parse_args()
    if not 1 <= options.daily <= options.days - 4:
        p.error(
            "--daily: at least 1, and at most --days less 4: a first load has a late day, a day is warm, in one stages are killed"
        )
    target = ROOT / "var/bench" / f"{options.scale}-{options.days}-days"
    target.mkdir(parents=True, exist_ok=True)
    versions = ", ".join(f"{n} {version(n)}" for n in ("pyspark", "delta-spark", "duckdb"))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {options.master}; {versions}"
    folder = Path(tempfile.mkdtemp(prefix="lakehouse-bench-", dir=options.folder)).resolve()
    try:
        bench = Bench(folder, options, target / "results.json", machine)
        same = measure(bench)
        CONSOLE.print(seconds_table(bench), goals(bench), layout_table(bench), machine)
        for name, equal in same.items():
            CONSOLE.print(f"gold of {name}: {'the same' if equal else '[red]not the same[/red]'}")
        bench.save(same=same)
        chart(bench, target / "results.svg")
        CONSOLE.print(f"results.json and results.svg are in {target.relative_to(ROOT)}")
        return 0 if all(same.values()) else 1
    finally:
        if options.keep:
            CONSOLE.print(f"{folder}/warehouse is kept")
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
