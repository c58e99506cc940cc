"""The state of a warehouse, from tables written without Spark; and how status shows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from lakehouse_airflow.lake import Lake
from small_warehouse import SCHEMAS, add, at, fill
from support import ROOT


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    fill(tmp_path)
    return tmp_path


@pytest.mark.parametrize("address", [str, Path.as_uri], ids=["folder", "address"])
def test_the_state_is_what_the_tables_say(warehouse: Path, address: Callable[[Path], str]) -> None:
    state = Lake(address(warehouse)).state()
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
    assert state.waiting == {"validate": 1, "merge": 1}
    assert state.arrivals == [{"entity": "interactions", "at": at(7)}]
    assert [(b["input"], b["state"], b["lag"]) for b in state.stream] == [("clicks", "down", 1234)]


def test_of_each_rule_the_share_that_passes_by_batch(warehouse: Path) -> None:
    # Not what is missing, nor a batch without rows.
    assert Lake(str(warehouse)).passing() == [
        {"entity": "clicks", "measure": "rejected", "shares": [0.8, 0.5, 1.0]},
        {"entity": "clicks", "measure": "rule:late", "shares": [0.9, 0.5, 1.0]},
    ]


def test_what_validation_has_warned_of_the_newest_first(warehouse: Path) -> None:
    two = json.dumps({"warnings": ["clicks of clicks, batch 7: 9 rows", "old"]})
    for run, hour, report in (("r3", 4, "{}"), ("r4", 5, two)):
        add(warehouse, "ops.runs", (run, "validate", at(hour), 1.0, "done", 0, report))
    told = Lake(str(warehouse)).warned()
    assert [(w["run_id"], w["started_at"], w["says"]) for w in told] == [
        ("r4", at(5), "clicks of clicks, batch 7: 9 rows"),
        ("r4", at(5), "old"),
        ("r2", at(3), "not told"),
    ]
    assert len(Lake(str(warehouse)).warned(most=1)) == 1


def test_rows_of_a_reason_come_in_pieces(warehouse: Path) -> None:
    lake = Lake(str(warehouse))
    late = lake.quarantined("clicks", "late", 0, 10)
    assert [r["id"] for r in late] == ["q2", "q1"]
    assert late[1]["raw"] == '{"id": "one"}'
    assert [x["rule"] for x in late[0]["reasons"]] == ["late", "[red]rude[/red]"]
    assert [r["id"] for r in lake.quarantined("clicks", "late", 1, 1)] == ["q1"]
    # Decided upon, or a text that would end the query's own.
    assert [r["id"] for r in lake.quarantined("clicks", "[red]rude[/red]", 0, 10)] == ["q2"]
    assert lake.quarantined("clicks", "' OR 1 = 1 --", 0, 10) == []


def test_what_runs_have_done_since_an_instant(warehouse: Path) -> None:
    def report(**figures: int) -> str:
        return json.dumps({"tables": {"bronze.clicks": figures}})

    for hour, figures in ((5, {"rows_in": 1}), (6, {"rows_in": 20, "version_written": 7}), (7, {"rows_in": 300})):
        add(warehouse, "ops.runs", ("r", "ingest", at(hour), 1.0, "done", 0, report(**figures)))
    assert Lake(str(warehouse)).since(at(6)) == {"bronze.clicks": {"rows_in": 320}}


def test_the_versions_of_a_table_the_newest_first(warehouse: Path) -> None:
    lake = Lake(str(warehouse))
    assert [(v["version"], v["operation"]) for v in lake.history("bronze.clicks")] == [(1, "WRITE"), (0, "WRITE")]
    assert lake.columns("bronze.clicks") == [("id", "string")]


def test_a_version_is_asked_once(warehouse: Path) -> None:
    lake, query = Lake(str(warehouse)), "SELECT id FROM t ORDER BY id"
    before = lake.select(query, "bronze.clicks")
    assert before == [{"id": "a"}, {"id": "b"}, {"id": "c"}]
    assert lake.select(query, "bronze.clicks") is before
    assert lake.select("SELECT max(id) AS id FROM t", "bronze.clicks") == [{"id": "c"}]
    add(warehouse, "bronze.clicks", ("d",))
    assert lake.select(query, "bronze.clicks") == [*before, {"id": "d"}]


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
    assert ["done", "r2", "1,004 rows quarantined; a <script> of a warning"] in [r[3:] for r in rows]
    assert ["clicks", "5", "all of it is bad"] in rows
    assert ["2026-03-01 00:00", "stale", "10"] in [r[:3] for r in rows]
    # Its last word, that it is down, is months old.
    assert ["clicks", "silent no [broker]", "9", "1,234"] in [r[:4] for r in rows]
    assert ["bronze.clicks", "3", "2"] in [r[:3] for r in rows]
    assert [r[:2] + r[3:] for r in rows if len(r) == 4 and r[1] == "late"] == [
        ["gold.customer_features", "late", "24"],
        ["silver.interactions", "late", "24"],
    ]
    assert "\x1b[" not in shown.stdout, "colours, although it is no terminal"


def test_a_long_name_of_a_run_leaves_room_for_what_it_says(warehouse: Path) -> None:
    name, says = (
        "scheduled__2026-03-01T00:00:00.000000+00:00_x9YzAbCd",
        "forty rows were late, and that is told here",
    )
    add(warehouse, "ops.runs", (name, "merge", at(9), 1.0, "done", 0, json.dumps({"warnings": [says]})))
    shown = status("--warehouse", str(warehouse), COLUMNS="120").stdout
    (line,) = [li for li in shown.splitlines() if says in li]
    assert name[:26] in line


def test_a_wrong_contract_is_told_with_its_place(warehouse: Path, tmp_path: Path) -> None:
    contracts = tmp_path / "contracts"
    contracts.mkdir()
    (contracts / "clicks.odcs.yaml").write_text("kind: [")
    told = status("--warehouse", str(warehouse), "--contracts", str(contracts))
    assert (told.returncode, told.stdout) == (78, "")
    assert "clicks.odcs.yaml" in told.stderr


def test_machines_get_json(warehouse: Path) -> None:
    told = json.loads(status("--json", LAKEHOUSE_WAREHOUSE=str(warehouse)).stdout)
    assert {t["name"]: t["rows"] for t in told["tables"]}["bronze.clicks"] == 3
    assert told["runs"][1]["report"]["error"] == "validate: the reason"
    assert told["snapshots"][0]["as_of"] == "2026-03-01T01:00:00+00:00"
    assert {"table": "silver.interactions", "newest": at(7).isoformat(), "limit_seconds": 86_400, "late": True} in told[
        "freshness"
    ]


def test_without_a_warehouse_it_says_what_is_missing(tmp_path: Path) -> None:
    nothing = status("--warehouse", str(tmp_path))
    assert (nothing.returncode, nothing.stdout) == (64, "")
    assert (
        nothing.stderr
        == f"status: {tmp_path} has no tables: no batch has run on it. Name another one with --warehouse.\n"
    )
    assert "LAKEHOUSE_WAREHOUSE is not set" in status().stderr
