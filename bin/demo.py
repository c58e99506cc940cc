#!/usr/bin/env python3
"""Run the medallion_batch DAG through a real Airflow on a small dirty shop, and show what came of it.

Called by `make demo`. Starts Airflow (api-server, scheduler, dag-processor, triggerer) on the
loopback address, triggers the DAG through the REST API, follows it, stops Airflow again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
from deltalake import DeltaTable
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("ingest", "validate", "merge", "featurize", "optimize")
ENTITIES = ("customers", "products", "transactions", "interactions")
START, DAYS = date(2026, 3, 1), 30
CONSOLE = Console(width=None if sys.stdout.isatty() else 120)


class Airflow:
    """A real Airflow of our own, for as long as the ``with`` block lasts."""

    def __init__(self, state: Path, environment: dict[str, str]) -> None:
        self._log_path = state / "standalone.log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._env = (
            os.environ
            | environment
            | {
                "AIRFLOW__API__PORT": str(port),
                "AIRFLOW__API__BASE_URL": self.url,
                "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            }
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._token = ""

    def __enter__(self) -> Airflow:
        for command in (["db", "migrate"], ["pools", "set", "lakehouse", "1", "One stage at a time on one warehouse"]):
            done = subprocess.run(["airflow", *command], env=self._env, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"demo: airflow {' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                ["airflow", "standalone"], env=self._env, stdout=log, stderr=log, start_new_session=True
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        for kill in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, kill)
                self._process.wait(timeout=10)
                # The session's leader is gone; whatever it left behind goes too.
                os.killpg(self._process.pid, signal.SIGKILL)
                return
            except subprocess.TimeoutExpired:
                continue
            except ProcessLookupError:
                return

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        if not self._token:
            with urllib.request.urlopen(f"{self.url}/auth/token", timeout=10) as answer:
                self._token = json.load(answer)["access_token"]
        request = urllib.request.Request(
            f"{self.url}/api/v2{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"{}")

    def wait_for(self, dag_id: str, seconds: float = 180) -> None:
        """Until the DAG can be triggered."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                break
            try:
                self.call("GET", f"/dags/{dag_id}")
                return
            except (urllib.error.URLError, ConnectionError, TimeoutError, KeyError):
                time.sleep(1)
        tail = self._log_path.read_text(errors="replace").splitlines()[-30:]
        sys.exit("demo: Airflow did not get ready. The end of its log:\n" + "\n".join(tail))

    def run(self, dag_id: str, conf: dict[str, Any], seconds: float = 3600) -> tuple[str, dict[str, Any]]:
        """Trigger a DAG and follow it to its end; returns its state and the XComs of its tasks."""
        self.call("PATCH", f"/dags/{dag_id}", {"is_paused": False})
        run = self.call("POST", f"/dags/{dag_id}/dagRuns", {"conf": conf, "logical_date": None})["dag_run_id"]
        CONSOLE.print(f"triggered [bold]{dag_id}[/bold], run {run}")
        base, shown, deadline = f"/dags/{dag_id}/dagRuns/{run}", dict[str, str](), time.monotonic() + seconds
        while time.monotonic() < deadline:
            for task in self.call("GET", f"{base}/taskInstances")["task_instances"]:
                state, name = task["state"] or "", task["task_id"]
                if state not in ("", "scheduled", "queued") and shown.get(name) != state:
                    took = f" in {task['duration']:.0f} s" if task["duration"] and state != "running" else ""
                    CONSOLE.print(f"  {name}: {state}{took}")
                    shown[name] = state
            state = self.call("GET", base)["state"]
            if state in ("success", "failed"):
                return state, {s: self._xcom(base, s) for s in STAGES}
            time.sleep(1)
        return "timed out", {}

    def _xcom(self, base: str, task: str) -> dict[str, Any]:
        try:
            value = self.call("GET", f"{base}/taskInstances/{task}/xcomEntries/return_value")["value"]
        except urllib.error.HTTPError:
            return {}
        return json.loads(value) if isinstance(value, str) else value


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


def show_reasons(warehouse: Path) -> None:
    """Everything that is in quarantine, by reason, with an example."""
    table = Table(title="Quarantine, by reason", title_justify="left")
    for column in ("entity", "reason", "rows", "for example"):
        table.add_column(column, justify="right" if column == "rows" else "left", overflow="fold")
    for entity in ENTITIES:
        path = warehouse / "quarantine" / entity
        if path.exists():
            kept = DeltaTable(str(path)).to_pyarrow_table(columns=["reasons"])  # noqa: F841
            for rule, rows, message in duckdb.sql(
                "SELECT r.rule, count(*), min(r.message) FROM (SELECT unnest(reasons) AS r FROM kept) GROUP BY 1 ORDER BY 2 DESC"
            ).fetchall():
                table.add_row(entity, rule, f"{rows:,}", message[:160])
    CONSOLE.print(table if table.row_count else "The quarantine is empty.")


def show_gold(warehouse: Path) -> None:
    """The top of each gold table's newest snapshot."""
    tops = {
        "customer_features": (
            "customer_id, days_since_last_purchase, total_spend, purchase_frequency, total_interactions, session_count, favourite_category, segment",
            "total_spend DESC, customer_id",
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
        gold = DeltaTable(str(path)).to_pyarrow_dataset()  # noqa: F841
        newest = duckdb.sql("FROM gold WHERE as_of = (SELECT max(as_of) FROM gold)")
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
    state = Path(args.state).resolve() if args.state else ROOT / "var/demo" / args.source
    landing = landing_for(args.source, args.data or None, args.rows, state)
    warehouse = state / "warehouse"
    as_of = args.as_of or ((START + timedelta(days=DAYS)).isoformat() if args.source == "shop" else "")
    home = Path(os.environ["AIRFLOW_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    environment = {
        "LAKEHOUSE_WAREHOUSE": str(warehouse),
        "LAKEHOUSE_LANDING": str(landing),
        "LAKEHOUSE_REPORTS": str(state / "reports"),
    }
    with Airflow(home, environment) as airflow:
        CONSOLE.print(f"starting Airflow at {airflow.url} (state in {home})")
        airflow.wait_for("medallion_batch")
        outcome, reports = airflow.run("medallion_batch", {"as_of": as_of, "sources": [args.source]})
    show_rows(reports)
    if outcome != "success":
        for report in reports.values():
            if report.get("error"):
                CONSOLE.print(f"[red]{report['error']}[/red]")
        CONSOLE.print(f"[red]The run ended as: {outcome}.[/red] Logs: {home / 'logs'}, reports: {state / 'reports'}")
        return 1
    show_reasons(warehouse)
    show_gold(warehouse)
    CONSOLE.print(f"\nDone in {time.monotonic() - begin:.0f} s. Where to look next:")
    CONSOLE.print(f"  warehouse  {warehouse}\n  reports    {state / 'reports'}\n  landing    {landing}")
    CONSOLE.print(
        f"  [bold]make ui SOURCE={args.source}[/bold]  Airflow in the browser, with this warehouse and its DAGs ready to trigger"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
