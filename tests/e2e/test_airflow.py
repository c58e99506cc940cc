"""The demo: the DAG in a real Airflow (scheduler, DAG processor, API server), triggered through its REST API."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import duckdb
import oracle
from airflow_server import Airflow
from deltalake import DeltaTable
from support import ROOT, clean_environment, processes_with, sourced_environment


def test_the_demo_and_a_replay_run_through_airflow_and_leave_nothing_running(tmp_path: Path) -> None:
    state, home = tmp_path / "state", tmp_path / "airflow"
    done = subprocess.run(
        ["bash", "-c", f". bin/env && exec python bin/demo.py --rows 2000 --state '{state}'"],
        cwd=ROOT,
        env=clean_environment(AIRFLOW_HOME=str(home)),
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for stage in ("ingest", "validate", "merge", "featurize", "optimize"):
        assert f"{stage}: success" in done.stdout
        (report,) = (state / "reports").glob(f"medallion_batch/*/{stage}.json")
        assert json.loads(report.read_text())["status"] == "done"
    # The tables come from the XComs, so the reports came back to Airflow.
    assert "silver.transactions" in done.stdout
    assert "cast:amount" in done.stdout
    assert oracle.differences(oracle.connect(state / "warehouse"), "2026-03-31") == {}
    assert processes_with(str(home)) == []
    replay_through_airflow(state, home, tmp_path)
    assert processes_with(str(home)) == []


def replay_through_airflow(state: Path, home: Path, folder: Path) -> None:
    """The quarantine of the demo's warehouse, by the DAG: a dry run changes nothing, a patch brings a row to silver."""
    quarantine = state / "warehouse/quarantine/transactions"

    def rows() -> list[tuple[str, str, str]]:
        kept = DeltaTable(str(quarantine)).to_pyarrow_table(columns=["id", "status", "raw", "reasons"])  # noqa: F841
        return duckdb.sql(
            "SELECT id, status, raw FROM kept WHERE reasons[1].rule = 'cast:amount' ORDER BY id"
        ).fetchall()

    id_, status, raw = rows()[0]
    assert status == "open"
    patch = folder / "patch.csv"
    patch.write_text(f"id,column,value\n{id_},Amount,7.50\n")
    conf = {"entity": "transactions", "patch": str(patch), "by": "ada", "reason": "asked the shop"}
    environment = sourced_environment(
        AIRFLOW_HOME=str(home),
        LAKEHOUSE_WAREHOUSE=str(state / "warehouse"),
        LAKEHOUSE_LANDING=str(state / "landing"),
        LAKEHOUSE_REPORTS=str(state / "reports"),
    )
    with Airflow(home, environment) as airflow:
        airflow.wait_for("quarantine_replay")
        outcome, reports = airflow.run("quarantine_replay", conf | {"action": "dry-run"})
        assert outcome == "success"
        assert reports["replay"]["tables"]["quarantine.transactions"]["rows_that_would_pass"] == 1
        assert reports["merge"] == {}, "merge has run after a dry run"
        assert rows()[0][1] == "open"
        outcome, reports = airflow.run("quarantine_replay", conf | {"action": "replay"})
        assert outcome == "success"
    assert rows()[0][1] == "replayed"
    assert reports["merge"]["tables"]["silver.transactions"]["rows_in"] == 1
    silver = oracle.rows(state / "warehouse/silver/transactions")  # noqa: F841
    key = json.loads(raw)["TransactionID"]
    amounts = duckdb.execute("SELECT amount::VARCHAR FROM silver WHERE transaction_id = ?", [key]).fetchall()
    assert amounts == [("7.50",)]
