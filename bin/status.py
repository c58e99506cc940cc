"""How the lakehouse fares: its tables and how fresh they are, the last run of each stage, what is in quarantine, the snapshots of gold, the stream."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "plugins"))

from lakehouse_airflow import lake  # noqa: E402
from lakehouse_airflow.health import Freshness, freshness  # noqa: E402
from lakehouse_airflow.stream import heard  # noqa: E402
from lakehouse_airflow.suite import ConfigurationError, Contracts  # noqa: E402
from lakehouse_airflow.wording import ago, size  # noqa: E402

MAX_REASONS, MAX_SNAPSHOTS = 10, 5
WRONG = {"failed", "stale", "late", "expired", "down", "pausing", "silent"}
LONG = {"run": 26}
"""Columns that take no more than so many characters a line, whatever is in them."""


def table(title: str, columns: Iterable[str], right: Iterable[str] = ()) -> Table:
    made = Table(title=title, title_justify="left")
    for column in columns:
        made.add_column(
            column, justify="right" if column in right else "left", overflow="fold", max_width=LONG.get(column)
        )
    return made


def state(word: str) -> str:
    return f"[red]{escape(word)}[/red]" if word in WRONG else escape(word)


def tables(found: lake.State, now: datetime) -> Table:
    columns = ("table", "rows", "files", "size", "version", "changed")
    made = table("Tables", columns, columns[1:])
    for layer in lake.LAYERS[:-1]:
        for t in (t for t in found.tables.values() if t.layer == layer):
            if t.error:
                made.add_row(t.name, f"[red]{escape(t.error)}[/red]")
            else:
                changed = ago(t.changed_at, now)
                made.add_row(t.name, f"{t.rows:,}", f"{t.files:,}", size(t.size), str(t.version), changed)
        made.add_section()
    return made


def fresh(promises: Sequence[Freshness], now: datetime) -> Table:
    made = table("Fresh by contract", ("table", "state", "newest rows", "may be hours old"), ("may be hours old",))
    for f in promises:
        limit = f"{f.limit.total_seconds() / 3600:,.0f}"
        made.add_row(f.table, state("late" if f.late(now) else "fresh"), ago(f.newest, now), limit)
    return made


def runs(found: lake.State, now: datetime) -> Table:
    made = table(
        "Last run of each stage that changed something", ("stage", "begun", "seconds", "status", "run", "what it says")
    )
    for r in found.runs:
        report = json.loads(r["report"])
        says = report.get("error") or "; ".join([*_quarantined(report), *(report.get("warnings") or [])])[:300]
        seconds = f"{r['seconds']:,.0f}"
        made.add_row(
            r["stage"], ago(r["started_at"], now), seconds, state(r["status"]), escape(r["run_id"]), escape(says)
        )
    return made


def _quarantined(report: dict[str, Any]) -> list[str]:
    rows = sum(figures.get("rows_quarantined", 0) for figures in report.get("tables", {}).values())
    return [f"{rows:,} rows quarantined"] if rows else []


def quarantine(found: lake.State) -> Table:
    made = table("Quarantine: rows that nobody has decided upon, by reason", ("entity", "reason", "rows"), ("rows",))
    for r in found.reasons[:MAX_REASONS]:
        made.add_row(r["entity"], escape(r["rule"]), f"{r['rows']:,}")
    if more := found.reasons[MAX_REASONS:]:
        made.add_row("", f"{len(more)} more reasons", f"{sum(r['rows'] for r in more):,}")
    return made


def refused(found: lake.State) -> Table:
    made = table("Batches that wait for a person", ("input", "batch", "why"))
    for r in found.refused:
        made.add_row(r["unit"], str(r["batch_id"]), f"[red]{escape(r['detail'] or '')}[/red]")
    return made


def snapshots(found: lake.State, now: datetime) -> Table:
    made = table("Snapshots of gold, the latest first", ("as of", "state", "customers", "made", "why"), ("customers",))
    for s in found.snapshots[:MAX_SNAPSHOTS]:
        as_of = f"{s['as_of']:%Y-%m-%d %H:%M}"
        made.add_row(as_of, state(s["state"]), f"{s['customers']:,}", ago(s["made_at"], now), escape(s["reason"] or ""))
    if len(found.snapshots) > MAX_SNAPSHOTS:
        made.add_row(f"{len(found.snapshots) - MAX_SNAPSHOTS} more")
    return made


def stream(found: lake.State, now: datetime) -> Table:
    right = ("messages", "waiting", "rejected", "restarts")
    made = table(
        "The stream",
        ("input", "state", "messages", "waiting", "rejected", "restarts", "in silver up to", "told"),
        right,
    )
    for b in heard(found.stream, now):
        figures = (f"{b[c]:,}" for c in ("messages", "lag", "rejected", "restarts"))
        why = f"{state(b['state'])} {escape(b['error'] or '')}".strip()
        made.add_row(b["input"], why, *figures, ago(b["merged_until"], now), ago(b["at"], now))
    return made


def as_json(found: lake.State, identity: str | None, promises: Sequence[Freshness], now: datetime) -> str:
    whole: dict[str, Any] = dataclasses.asdict(found) | {"warehouse_id": identity}
    whole["tables"] = list(whole["tables"].values())
    whole["runs"] = [r | {"report": json.loads(r["report"])} for r in whole["runs"]]
    whole["freshness"] = [
        {"table": f.table, "newest": f.newest, "limit_seconds": int(f.limit.total_seconds()), "late": f.late(now)}
        for f in promises
    ]
    return json.dumps(whole, indent=1, default=lambda v: v.isoformat())


def main() -> int:
    p = argparse.ArgumentParser(prog="status", description=__doc__)
    p.add_argument("--warehouse", default=os.environ.get("LAKEHOUSE_WAREHOUSE"), help="where the tables are")
    where = os.environ.get("LAKEHOUSE_CONTRACTS") or str(ROOT / "contracts")
    p.add_argument("--contracts", default=where, help="folder of *.odcs.yaml files (default: the project's)")
    p.add_argument("--json", action="store_true", help="for machines: all of it, as JSON")
    options = p.parse_args()
    if not options.warehouse:
        p.exit(64, "status: --warehouse is missing, and LAKEHOUSE_WAREHOUSE is not set.\n")
    try:
        tended = lake.Lake(options.warehouse)
        found, identity = tended.state(), tended.identity()
    except lake.NoTables as error:
        print(f"status: {error} Name another one with --warehouse.", file=sys.stderr)
        return 64
    try:
        promises = freshness(found, Contracts(Path(options.contracts)).read())
    except ConfigurationError as error:
        print(f"status: {error}", file=sys.stderr)
        return error.exit_code
    console, now = Console(), datetime.now(UTC)
    if options.json:
        print(as_json(found, identity, promises, now))
        return 0
    named = f"{escape(options.warehouse)} (id {identity})" if identity else escape(options.warehouse)
    console.print(f"{named}, at {now:%Y-%m-%d %H:%M:%S} UTC")
    for shown in (
        *(tables(found, now), fresh(promises, now), runs(found, now), refused(found), quarantine(found)),
        *(snapshots(found, now), stream(found, now)),
    ):
        if shown.row_count:
            console.print(shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
