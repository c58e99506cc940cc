"""What one more day costs after a history: seconds, memory, bytes read and written by each stage.

Run it with: `. bin/env && python benchmarks/increment.py [--rows 10000000] [--days 100] [--workers 2 | --warm]`

A shop is loaded but for its last day; then that day is delivered and goes through the stages, as daily runs do. Ten times
the rows in ten times the days is ten times the history with the same day after it. Then the stages run once more, with
nothing new. Bytes are those of Spark's own task metrics, from its event log: of tables and of their logs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table
from runs import ROOT, Remote, Run, Spark, Stages

sys.path[:0] = [str(ROOT / folder) for folder in ("tests", "bin", "spark_jobs")]
from connect_server import ConnectServer  # noqa: E402
from spark_cluster import SparkCluster  # noqa: E402

START = date(2023, 1, 1)
CONSOLE = Console(width=120)


def size(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def table_of(title: str, delivered: int, loads: list[Run], days: list[Run], again: list[Run]) -> Table:
    """A row a stage: the day, the first load before it, and nothing new after it; of a server, seconds alone."""
    table = Table(title=title, title_justify="left")
    columns = ("seconds", "first load", "nothing new", "most memory, MB", "bytes read", "bytes written")
    table.add_column("stage")
    for column in (*columns, "per byte delivered"):
        table.add_column(column, justify="right")
    for load, day, idle in zip(loads, days, again, strict=True):
        seconds = [f"{run.seconds:,.0f}" for run in (day, load, idle)]
        figures = [f"{max(day.memory, load.memory) / 1e6:,.0f}", f"{day.read:,}", f"{day.written:,}"]
        figures.append(f"{day.written / delivered:.1f}")
        table.add_row(day.name, *seconds, *(figures if day.memory else []))
    sums = [f"{sum(run.seconds for run in runs):,.0f}" for runs in (days, loads, again)]
    table.add_row("all", *sums)
    return table


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", type=int, default=10_000_000)
    p.add_argument("--days", type=int, default=100)
    where = p.add_mutually_exclusive_group()
    where.add_argument(
        "--workers", type=int, default=0, help="of a standalone cluster, a core each (default: local[2])"
    )
    where.add_argument("--warm", action="store_true", help="on a Spark Connect server that stays")
    p.add_argument(
        "--keep", metavar="FOLDER", help="leave files and tables in this new folder, as they were before the day too"
    )
    options = p.parse_args()
    rows, days = options.rows, options.days
    last = START + timedelta(days=days - 1)
    with ExitStack() as open_:
        folder = Path(options.keep or open_.enter_context(tempfile.TemporaryDirectory())).resolve()
        folder.mkdir(parents=True, exist_ok=not options.keep)
        master = "local[2]"
        if options.workers:
            os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
            master = open_.enter_context(SparkCluster(folder / "cluster", options.workers)).url
        if options.warm:
            server = open_.enter_context(ConnectServer(folder / "server", memory="4g", options=""))
            spark: Spark | Remote = Remote(folder, server.url)
        else:
            spark = Spark(folder / "spark", master)
        stages, held = Stages(spark, folder), folder / "held"
        shop = ["--rows", str(rows), "--days", str(days), "--start", f"{START}"]
        stages.run("generate", "--landing", str(stages.landing), *shop)
        for day in list((stages.landing / "shop").glob(f"*/{last}")):
            target = held / day.relative_to(stages.landing)
            target.parent.mkdir(parents=True, exist_ok=True)
            day.rename(target)
        delivered = size(held)
        CONSOLE.print(f"{rows:,} rows of {days} days but for the last")
        first = stages.batch(f"{last}")
        layers = ("bronze", "staged", "silver", "gold")
        before = ", ".join(f"{layer} {size(stages.warehouse / layer):,} bytes" for layer in layers)
        if options.keep:
            shutil.copytree(stages.warehouse, folder / "before")
        for day in held.glob("shop/*/*"):
            day.rename(stages.landing / day.relative_to(held))
        CONSOLE.print(f"the last day: {delivered:,} bytes of files")
        second, again = (stages.batch(f"{last + timedelta(days=1)}") for _ in range(2))
    title = f"A day of {rows // days:,} rows after {rows - rows // days:,}"
    CONSOLE.print(table_of(title, delivered, first, second, again))
    CONSOLE.print(f"tables before the day: {before}")
    gold = second[-1].report["tables"]["gold.customer_features"]
    CONSOLE.print(f"customers computed anew: {gold['customers_recomputed']:,} of {gold['rows_written']:,}")


if __name__ == "__main__":
    sys.exit(main())
