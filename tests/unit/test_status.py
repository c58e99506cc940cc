"""The state of a warehouse, from tables written without Spark; and how status shows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from lakehouse_airflow.lake import Lake
from support import ROOT

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
INSTANT = pa.timestamp("us", tz="UTC")
SCHEMAS = {
    "bronze.clicks": pa.schema([("id", pa.string())]),
    "quarantine.clicks": pa.schema([("status", pa.string()), ("reasons", pa.list_(pa.struct([("rule", pa.string())])))]),
    "ops.runs": pa.schema(
        [("run_id", pa.string()), ("stage", pa.string()), ("started_at", INSTANT), ("seconds", pa.float64()),
         ("status", pa.string()), ("exit_code", pa.int32()), ("report", pa.string())]
    ),
    "ops.snapshots": pa.schema(
        [("as_of", INSTANT), ("state", pa.string()), ("reason", pa.string()), ("customers", pa.int64()),
         ("made_at", INSTANT), ("batch_id", pa.int64())]
    ),
    "ops.progress": pa.schema(
        [("stage", pa.string()), ("unit", pa.string()), ("batch_id", pa.int64()), ("state", pa.string()),
         ("inputs", pa.list_(pa.int64())), ("detail", pa.string())]
    ),
    "ops.stream": pa.schema(
        [("at", INSTANT), ("run_id", pa.string()), ("input", pa.string()), ("state", pa.string()), ("error", pa.string()),
         ("restarts", pa.int32()), ("messages", pa.int64()), ("per_second", pa.float64()), ("lag", pa.int64()),
         ("batch_seconds", pa.float64()), ("last_commit", INSTANT), ("merged_until", INSTANT), ("rejected", pa.int64())]
    ),
}  # fmt: skip


def add(warehouse: Path, table: str, *rows: tuple[Any, ...]) -> None:
    schema = SCHEMAS[table]
    records = [dict(zip(schema.names, row, strict=True)) for row in rows]
    write_deltalake(
        str(warehouse / table.replace(".", "/")), pa.Table.from_pylist(records, schema=schema), mode="append"
    )


def at(hour: int) -> datetime:
    return NOON.replace(hour=hour)


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    add(tmp_path, "bronze.clicks", ("a",), ("b",))
    add(tmp_path, "bronze.clicks", ("c",))
    late, rude = {"rule": "late"}, {"rule": "[red]rude[/red]"}
    add(tmp_path, "quarantine.clicks", ("open", [late]), ("open", [late, rude]), ("replayed", [rude]), ("open", []))
    report = json.dumps({"error": None, "warnings": ["a <script> of a warning"]})
    failed = json.dumps({"error": "validate: the reason", "warnings": ["not told"]})
    add(
        tmp_path, "ops.runs", ("r1", "ingest", at(1), 3.0, "failed", 70, failed), ("r2", "ingest", at(2), 4.0, "done", 0, report),
        ("r2", "validate", at(3), 5.5, "failed", 65, failed),
    )  # fmt: skip
    add(
        tmp_path, "ops.snapshots", (at(0), "published", None, 10, at(4), 1), (at(1), "published", None, 11, at(5), 2),
        (at(0), "stale", "late data", 10, at(4), 2), (at(1), "stale", "late data", 11, at(5), 3),
        (at(1), "published", None, 12, at(6), 4),
    )  # fmt: skip
    add(
        tmp_path, "ops.progress",
        # Refused, and tried again: 4 has taken the place of 3.
        ("validate", "clicks", 3, "planned", [7], None), ("validate", "clicks", 3, "refused", [], "half of it is bad"),
        ("validate", "clicks", 4, "planned", [7], None), ("validate", "clicks", 4, "done", [], None),
        ("validate", "clicks", 5, "planned", [8], None), ("validate", "clicks", 5, "refused", [], "all of it is bad"),
        # Its plan was given up, so that 5 still stands.
        ("validate", "clicks", 6, "planned", [8], None), ("validate", "clicks", 6, "void", [], None),
        ("ingest", "clicks", 8, "refused", [], "another stage's"),
    )  # fmt: skip
    beat = ("r", "clicks", "running", None, 0, 5, 1.5, 0, 0.1, at(2), at(2), 1)
    add(tmp_path, "ops.stream", (at(3), *beat), (at(4), "r", "clicks", "down", "no [broker]", 2, 9, 0.0, 1234, 0.1, at(3), None, 1))  # fmt: skip
    return tmp_path


def test_the_state_is_what_the_tables_say(warehouse: Path) -> None:
    state = Lake(str(warehouse)).state()
    clicks = state.tables["bronze.clicks"]
    files = list((warehouse / "bronze/clicks").glob("*.parquet"))
    assert (clicks.version, clicks.rows, clicks.files, clicks.layer) == (1, 3, 2, "bronze")
    assert clicks.size == sum(f.stat().st_size for f in files)
    assert set(state.tables) == set(SCHEMAS)
    assert [(r["stage"], r["run_id"], r["status"]) for r in state.runs] == [
        ("ingest", "r2", "done"),
        ("validate", "r2", "failed"),
    ]
    assert [(s["as_of"], s["state"], s["customers"]) for s in state.snapshots] == [
        (at(1), "published", 12),
        (at(0), "stale", 10),
    ]
    assert state.reasons == [
        {"entity": "clicks", "rule": "late", "rows": 2},
        {"entity": "clicks", "rule": "[red]rude[/red]", "rows": 1},
    ]
    assert state.refused == [{"unit": "clicks", "batch_id": 5, "detail": "all of it is bad"}]
    assert [(b["input"], b["state"], b["lag"]) for b in state.stream] == [("clicks", "down", 1234)]


def test_a_second_look_sees_what_has_come_since(warehouse: Path) -> None:
    lake = Lake(str(warehouse))
    assert lake.state().rows("bronze.clicks") == 3
    add(warehouse, "bronze.clicks", ("d",))
    assert lake.state().rows("bronze.clicks") == 4
    assert lake.state().rows("bronze.none") == 0


def test_a_broken_table_is_told_and_hides_no_other(warehouse: Path) -> None:
    for log in (warehouse / "quarantine/clicks/_delta_log").glob("*.json"):
        log.write_text("{")
    state = Lake(str(warehouse)).state()
    assert state.tables["quarantine.clicks"].error
    assert state.rows("bronze.clicks") == 3
    assert state.reasons == []


def status(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "COLUMNS": "160", "TZ": "UTC", **environment}
    command = [sys.executable, str(ROOT / "bin/status.py"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_tables_say_all_of_it_as_it_is(warehouse: Path) -> None:
    shown = status("--warehouse", str(warehouse))
    assert shown.returncode == 0, shown.stderr
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in shown.stdout.splitlines() if "│" in line]
    assert ["late", "2"] in [r[1:] for r in rows]
    assert ["[red]rude[/red]", "1"] in [r[1:] for r in rows]
    assert ["validate", "6", "failed", "r2", "validate: the reason"] in [[r[0], *r[2:]] for r in rows if len(r) == 6]
    assert ["done", "r2", "a <script> of a warning"] in [r[3:] for r in rows]
    assert ["clicks", "5", "all of it is bad"] in rows
    assert ["2026-03-01 00:00", "stale", "10"] in [r[:3] for r in rows]
    assert ["clicks", "down no [broker]", "9", "1,234"] in [r[:4] for r in rows]
    assert ["bronze.clicks", "3", "2"] in [r[:3] for r in rows]
    assert "\x1b[" not in shown.stdout, "colours, although it is no terminal"


def test_machines_get_json(warehouse: Path) -> None:
    told = json.loads(status("--json", LAKEHOUSE_WAREHOUSE=str(warehouse)).stdout)
    assert {t["name"]: t["rows"] for t in told["tables"]}["bronze.clicks"] == 3
    assert told["runs"][1]["report"]["error"] == "validate: the reason"
    assert told["snapshots"][0]["as_of"] == "2026-03-01T01:00:00+00:00"


def test_without_a_warehouse_it_says_what_is_missing(tmp_path: Path) -> None:
    nothing = status("--warehouse", str(tmp_path))
    assert (nothing.returncode, nothing.stdout) == (64, "")
    assert (
        nothing.stderr
        == f"status: {tmp_path} has no tables: no batch has run on it. Name another one with --warehouse.\n"
    )
    assert "LAKEHOUSE_WAREHOUSE is not set" in status().stderr
