"""What a day of 1% costs: bytes read and written by each stage, and the customers that are computed anew.

Run it with: `. bin/env && python benchmarks/increment.py [--rows 10000000]`

A shop of 100 days is loaded but for its last day; then that day is delivered and goes through the stages, as daily runs
do. Bytes are those of Spark's own task metrics, from its event log: of tables and of their logs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import date, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table
from runs import Spark, Stages

START, DAYS = date(2026, 1, 1), 100
CONSOLE = Console(width=120)


def size(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", type=int, default=10_000_000)
    rows = p.parse_args().rows
    last = START + timedelta(days=DAYS - 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stages, held = Stages(Spark(folder / "spark"), folder), folder / "held"
        shop = ["--rows", str(rows), "--days", str(DAYS), "--start", f"{START}"]
        stages.run("generate", "--landing", str(stages.landing), *shop)
        for day in list((stages.landing / "shop").glob(f"*/{last}")):
            target = held / day.relative_to(stages.landing)
            target.parent.mkdir(parents=True, exist_ok=True)
            day.rename(target)
        delivered = size(held)
        CONSOLE.print(f"{rows:,} rows of {DAYS} days but for the last")
        first = stages.batch(f"{last}")
        layers = ("bronze", "staged", "silver", "gold")
        before = ", ".join(f"{layer} {size(stages.warehouse / layer):,} bytes" for layer in layers)
        for day in held.glob("shop/*/*"):
            day.rename(stages.landing / day.relative_to(held))
        CONSOLE.print(f"the last day: {delivered:,} bytes of files")
        second = stages.batch(f"{last + timedelta(days=1)}")
    table = Table(title=f"A day of 1% after {rows:,} rows", title_justify="left")
    for column in ("stage", "seconds", "first load", "bytes read", "bytes written", "written per byte delivered"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for load, run in zip(first, second, strict=True):
        share = f"{run.written / delivered:.1f}"
        table.add_row(
            run.name, f"{run.seconds:,.0f}", f"{load.seconds:,.0f}", f"{run.read:,}", f"{run.written:,}", share
        )
    CONSOLE.print(table)
    CONSOLE.print(f"tables before the day: {before}")
    gold = second[-1].report["tables"]["gold.customer_features"]
    CONSOLE.print(f"customers computed anew: {gold['customers_recomputed']:,} of {gold['rows_written']:,}")


if __name__ == "__main__":
    sys.exit(main())
