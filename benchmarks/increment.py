"""What a day of 1% costs: bytes read and written by each stage, and the customers that are computed anew.

Run it with: `. bin/env && python benchmarks/increment.py [--rows 10000000]`

A shop of 100 days is loaded but for its last day; then that day is delivered and goes through the stages, as daily runs
do. Bytes are those of Spark's own task metrics, from its event log: of tables and of their logs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "spark_jobs"))

from lakehouse.cli import instant  # noqa: E402

START, DAYS = "2026-01-01", 100
CONSOLE = Console(width=120)
STAGES = ("ingest", "validate", "merge", "featurize")


class Runs:
    """Stages by spark-submit on one warehouse, with their event logs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.landing, self.warehouse = folder, folder / "landing", folder / "warehouse"
        self.events = folder / "events"
        self.events.mkdir()

    def run(self, stage: str, *arguments: str) -> tuple[dict[str, Any], dict[str, int]]:
        """Run a stage that must end well; returns its report and its bytes."""
        for old in self.events.iterdir():
            old.unlink()
        report = self.folder / f"{stage}.json"
        settings = {"spark.eventLog.enabled": "true", "spark.eventLog.dir": f"file:{self.events}"}
        settings |= {"spark.eventLog.rolling.enabled": "false", "spark.eventLog.compress": "false"}
        command = ["spark-submit", *[t for k, v in settings.items() for t in ("--conf", f"{k}={v}")]]
        command += [str(ROOT / f"spark_jobs/{stage}.py"), "--report", str(report), *arguments]
        done = subprocess.run(command, env=os.environ | {"TZ": "UTC"}, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{stage} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        return json.loads(report.read_text()), self._bytes()

    def _bytes(self) -> dict[str, int]:
        read = written = 0
        (log,) = self.events.iterdir()
        with log.open(encoding="utf-8") as lines:
            for line in lines:
                if '"Event":"SparkListenerTaskEnd"' in line:
                    metrics = json.loads(line).get("Task Metrics") or {}
                    read += metrics.get("Input Metrics", {}).get("Bytes Read", 0)
                    written += metrics.get("Output Metrics", {}).get("Bytes Written", 0)
        return {"read": read, "written": written}

    def batch(self, as_of: str) -> dict[str, tuple[dict[str, Any], dict[str, int]]]:
        own = {"ingest": ["--landing", str(self.landing), "--only", "shop"], "validate": ["--only", "shop"]}
        own |= {"merge": [], "featurize": ["--as-of", as_of]}
        done = {}
        for stage in STAGES:
            done[stage] = self.run(stage, "--warehouse", str(self.warehouse), *own[stage])
            CONSOLE.print(f"  {stage}: {done[stage][0]['steps']['total']:,.0f} s")
        return done

    def size(self, layer: str) -> int:
        return sum(f.stat().st_size for f in (self.warehouse / layer).rglob("*.parquet"))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", type=int, default=10_000_000)
    rows = p.parse_args().rows
    last = instant(START) + timedelta(days=DAYS - 1)
    with tempfile.TemporaryDirectory() as name:
        runs, held = Runs(Path(name)), Path(name) / "held"
        runs.run("generate", "--landing", str(runs.landing), "--rows", str(rows), "--days", str(DAYS), "--start", START)
        days = list((runs.landing / "shop").glob(f"*/{last:%Y-%m-%d}"))
        for day in days:
            target = held / day.relative_to(runs.landing)
            target.parent.mkdir(parents=True, exist_ok=True)
            day.rename(target)
        delivered = sum(f.stat().st_size for f in held.rglob("*") if f.is_file())
        CONSOLE.print(f"{rows:,} rows of {DAYS} days but for the last")
        first = runs.batch(f"{last:%Y-%m-%d}")
        before = {layer: runs.size(layer) for layer in ("bronze", "staged", "silver", "gold")}
        for day in held.glob("shop/*/*"):
            day.rename(runs.landing / day.relative_to(held))
        CONSOLE.print(f"the last day: {delivered:,} bytes of files")
        second = runs.batch(f"{last + timedelta(days=1):%Y-%m-%d}")
    table = Table(title=f"A day of 1% after {rows:,} rows", title_justify="left")
    for column in ("stage", "seconds", "first load", "bytes read", "bytes written", "written per byte delivered"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage in STAGES:
        report, size = second[stage]
        seconds = (f"{report['steps']['total']:,.0f}", f"{first[stage][0]['steps']['total']:,.0f}")
        share = f"{size['written'] / delivered:.1f}"
        table.add_row(stage, *seconds, f"{size['read']:,}", f"{size['written']:,}", share)
    CONSOLE.print(table)
    CONSOLE.print("tables before the day: " + ", ".join(f"{layer} {size:,} bytes" for layer, size in before.items()))
    gold = second["featurize"][0]["tables"]["gold.customer_features"]
    CONSOLE.print(f"customers computed anew: {gold['customers_recomputed']:,} of {gold['rows_written']:,}")


if __name__ == "__main__":
    main()
