"""The state of a warehouse, from tables written without Spark; and how status shows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lakehouse_airflow.lake import Lake
from small_warehouse import SCHEMAS, add, at, fill
from support import ROOT


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    fill(tmp_path)
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
