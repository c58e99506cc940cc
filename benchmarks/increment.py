"""What one more day costs after a history: seconds, memory, bytes read and written by each stage.

Run it with: `. bin/env && python benchmarks/increment.py [--rows 10000000] [--days 100] [--workers 2]`

A shop is loaded but for its last day; then that day is delivered and goes through the stages, as daily runs do. Ten times
the rows in ten times the days is ten times the history with the same day after it. Bytes are those of Spark's own task
metrics, from its event log: of tables and of their logs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table
from runs import ROOT, Spark, Stages

sys.path[:0] = [str(ROOT / folder) for folder in ("tests", "bin", "spark_jobs")]
from spark_cluster import SparkCluster  # noqa: E402

START = date(2023, 1, 1)
CONSOLE = Console(width=120)


def size(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", type=int, default=10_000_000)
    p.add_argument("--days", type=int, default=100)
    p.add_argument("--workers", type=int, default=0, help="of a standalone cluster, a core each (default: local[2])")
    options = p.parse_args()
    rows, days = options.rows, options.days
    last = START + timedelta(days=days - 1)
    with ExitStack() as open_:
        folder = Path(open_.enter_context(tempfile.TemporaryDirectory()))
        master = "local[2]"
        if options.workers:
            os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
            master = open_.enter_context(SparkCluster(folder / "cluster", options.workers)).url
        stages, held = Stages(Spark(folder / "spark", master), folder), folder / "held"
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
        for day in held.glob("shop/*/*"):
            day.rename(stages.landing / day.relative_to(held))
        CONSOLE.print(f"the last day: {delivered:,} bytes of files")
        second = stages.batch(f"{last + timedelta(days=1)}")
    table = Table(title=f"A day of {rows // days:,} rows after {rows - rows // days:,}", title_justify="left")
    for column in (
        "stage",
        "seconds",
        "first load",
        "most memory, MB",
        "bytes read",
        "bytes written",
        "per byte delivered",
    ):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for load, run in zip(first, second, strict=True):
        share = f"{run.written / delivered:.1f}"
        memory = max(run.memory, load.memory) / 1e6
        seconds = (f"{run.seconds:,.0f}", f"{load.seconds:,.0f}")
        table.add_row(run.name, *seconds, f"{memory:,.0f}", f"{run.read:,}", f"{run.written:,}", share)
    CONSOLE.print(table)
    CONSOLE.print(f"tables before the day: {before}")
    gold = second[-1].report["tables"]["gold.customer_features"]
    CONSOLE.print(f"customers computed anew: {gold['customers_recomputed']:,} of {gold['rows_written']:,}")


if __name__ == "__main__":
    sys.exit(main())
