#!/usr/bin/env python3
"""Run the medallion_batch DAG through a real Airflow on a small dirty shop, and show what came of it.

Called by `make demo`. Starts Airflow (api-server, scheduler, dag-processor, triggerer) on the
loopback address, triggers the DAG through the REST API, follows it, stops Airflow again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from airflow_server import CONSOLE, ROOT, Airflow, claim, environment_of
from deltalake import DeltaTable, QueryBuilder
from rich.markup import escape
from rich.table import Table

STAGES = ("ingest", "validate", "merge", "featurize", "optimize")
ENTITIES = ("customers", "products", "transactions", "interactions")
START, DAYS = date(2026, 3, 1), 30


def show_rows(reports: dict[str, Any]) -> None:
    """What this run did, layer by layer."""
    table = Table(title="Rows of this run", title_justify="left")
    for column in ("table", "in", "accepted", "quarantined", "inserted", "updated", "repeated keys", "version"):
        table.add_column(column, justify="left" if column == "table" else "right")
    for stage in STAGES:
        for name, facts in reports.get(stage, {}).get("tables", {}).items():
            cells = [
                facts.get(k)
                for k in ("rows_in", "rows_accepted", "rows_quarantined", "inserted", "updated", "repeated_keys")
            ]
            cells[0] = facts.get("rows_written", cells[0])
            if any(c is not None for c in cells):
                version = facts.get("version_written")
                table.add_row(name, *["" if c is None else f"{c:,}" for c in (*cells, version)])
    CONSOLE.print(table if table.row_count else "This run found nothing new, and changed nothing.")


OPEN = """
    SELECT r.rule, count(*), min(r.message) FROM (SELECT unnest(reasons) AS r FROM kept WHERE status = 'open')
    GROUP BY 1 ORDER BY 2 DESC, 1"""
REMARKED = "SELECT rule, count(*) FROM (SELECT unnest(_warnings) AS rule FROM kept) GROUP BY 1 ORDER BY 2 DESC, 1"


def by_entity(title: str, columns: tuple[str, ...], folder: Path, query: str) -> Table:
    """The answers to a query of the tables of a layer; in the query, a table is ``kept``."""
    table = Table(title=title, title_justify="left")
    for column in ("entity", *columns):
        table.add_column(column, justify="right" if column == "rows" else "left", overflow="fold")
    for entity in ENTITIES:
        if (folder / entity).exists():
            kept = DeltaTable(str(folder / entity)).to_pyarrow_dataset()  # noqa: F841
            for row in duckdb.execute(query).fetchall():
                table.add_row(entity, *[f"{v:,}" if isinstance(v, int) else escape(v[:160]) for v in row])
    return table


def show_quality(warehouse: Path, reports: dict[str, Any]) -> None:
    """What is in quarantine and undecided, what was accepted with a default or another remark, and the run's warnings."""
    title = "Quarantine: rows that nobody has decided upon, by reason"
    waiting = by_entity(title, ("reason", "rows", "for example"), warehouse / "quarantine", OPEN)
    CONSOLE.print(waiting if waiting.row_count else "Nothing in quarantine waits for a decision.")
    title = "Accepted rows with a remark; default: the contract's default has taken the place of a missing value"
    remarked = by_entity(title, ("remark", "rows"), warehouse / "staged", REMARKED)
    if remarked.row_count:
        CONSOLE.print(remarked)
    warnings = [f"{stage}: {line}" for stage in STAGES for line in reports.get(stage, {}).get("warnings", [])]
    if warnings:
        CONSOLE.print("Warnings of this run")
    for line in warnings:
        CONSOLE.print(f"  {line}", markup=False)


def show_failure(run: Path, home: Path, outcome: str) -> None:
    """Why the run has not come to its end, by the reports of its stages."""
    told = [json.loads(report.read_text(encoding="utf-8")) for report in sorted(run.glob("*.json"))]
    errors = [report["error"] for report in told if report.get("error")]
    for error in errors or ["No stage has left a report: the task's log says why."]:
        CONSOLE.print(error, style="red", markup=False)
    CONSOLE.print(f"[red]The run ended as: {outcome}.[/red] Logs: {home / 'logs'}, reports: {run}")


def show_gold(warehouse: Path) -> None:
    """The top of each gold table's newest snapshot."""
    tops = {
        "customer_features": (
            "customer_id, days_since_last_purchase AS days_since, total_spend, purchase_frequency AS orders, "
            "total_interactions AS clicks, session_count AS sessions, favourite_category AS favourite, segment",
            "total_spend DESC, customer_id",
        ),
        "customer_days": (
            "customer_id, day, interactions, sessions, purchases, orders, spend",
            "spend DESC, customer_id, day",
        ),
        "category_preferences": (
            "customer_id, category, orders, spend, share, rank",
            "spend DESC, customer_id, category",
        ),
        "product_affinity": (
            "customer_id, product_id, interactions, converted, affinity, purchases",
            "converted DESC, customer_id, product_id",
        ),
        "product_features": (
            "product_id, category, price, viewers, interactions, affinity, buyers, revenue",
            "revenue DESC, product_id",
        ),
    }
    for name, (columns, order) in tops.items():
        path = warehouse / "gold" / name
        if not path.exists():
            continue
        # By DataFusion: deltalake's own readers know no deletion vectors, which mark the rows that have ended.
        rows = QueryBuilder().register("t", DeltaTable(str(path))).execute("SELECT * FROM t")
        gold = duckdb.from_arrow(pa.table(rows.read_all()))
        of_now = {"valid_to": "valid_to IS NULL", "as_of": "as_of = (SELECT max(as_of) FROM gold)"}
        newest = gold.filter(next((of_now[column] for column in of_now if column in gold.columns), "true"))
        result = newest.order(order).limit(5).project(columns)
        table = Table(title=f"gold.{name}, top 5", title_justify="left")
        for column in result.columns:
            table.add_column(column)
        for row in result.fetchall():
            table.add_row(*[f"{v:.3f}" if isinstance(v, float) else "" if v is None else str(v) for v in row])
        CONSOLE.print(table)


def landing_for(source: str, data: str | None, rows: int, state: Path) -> Path:
    """The landing folder of the source: generated for the shop, a link to the data otherwise."""
    landing = state / "landing"
    if data:
        folder = Path(data).resolve()
        if not folder.is_dir():
            sys.exit(f"demo: DATA={data} is no folder.")
        landing.mkdir(parents=True, exist_ok=True)
        link = landing / source
        if link.is_symlink():
            link.unlink()
        elif link.exists():
            sys.exit(f"demo: {link} holds a generated shop; run `make clean` to start over with DATA.")
        link.symlink_to(folder)
    elif source != "shop":
        sys.exit(f"demo: SOURCE={source} needs DATA=<folder with its files>.")
    elif not (landing / "shop" / "_dirt").exists():
        CONSOLE.print(f"generating a shop of about {rows:,} rows in {landing}/shop")
        command = ["spark-submit", str(ROOT / "spark_jobs/generate.py"), "--landing", str(landing), "--rows", str(rows)]
        command += ["--days", str(DAYS), "--start", START.isoformat()]
        if subprocess.run(command).returncode:
            sys.exit("demo: the shop could not be generated.")
    return landing


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--source", default="shop", help="which source to load (default: shop)")
    p.add_argument("--data", help="folder with the source's files; not needed for the shop, which is generated")
    p.add_argument("--as-of", help="instant for the features (default: the end of the generated data, else now)")
    p.add_argument("--rows", type=int, default=20_000, help="size of the generated shop (default: 20,000)")
    p.add_argument("--state", help="folder for landing, warehouse and reports (default: var/demo/<source>)")
    args = p.parse_args()
    begin = time.monotonic()
    home = Path(os.environ["AIRFLOW_HOME"])
    # Told before a shop is made.
    os.close(claim(home))
    state = Path(args.state).resolve() if args.state else ROOT / "var/demo" / args.source
    landing = landing_for(args.source, args.data or None, args.rows, state)
    warehouse = state / "warehouse"
    as_of = args.as_of or ((START + timedelta(days=DAYS)).isoformat() if args.source == "shop" else "")
    with Airflow(home, environment_of(state)) as airflow:
        CONSOLE.print(f"starting Airflow at {airflow.url} (state in {home})")
        airflow.wait_for("medallion_batch")
        run = airflow.trigger("medallion_batch", {"as_of": as_of, "sources": [args.source], "landing": str(landing)})
        outcome, reports = airflow.follow("medallion_batch", run)
    show_rows(reports)
    if outcome != "success":
        show_failure(state / "reports/medallion_batch" / run, home, outcome)
        return 1
    show_quality(warehouse, reports)
    show_gold(warehouse)
    CONSOLE.print(f"\nDone in {time.monotonic() - begin:.0f} s. Where to look next:")
    CONSOLE.print(f"  warehouse  {warehouse}\n  reports    {state / 'reports'}\n  landing    {landing}")
    CONSOLE.print(
        f"  [bold]make status WAREHOUSE={os.path.relpath(warehouse)}[/bold]  tables, runs and quarantine in the terminal, without Spark"
    )
    CONSOLE.print(
        f"  [bold]make ui SOURCE={args.source}[/bold]  Airflow in the browser, with this warehouse and its DAGs ready to trigger"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
