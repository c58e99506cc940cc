"""The demo: the DAG in a real Airflow (scheduler, DAG processor, API server), triggered through its REST API; then what is in quarantine."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import oracle
import pytest
from airflow_server import Airflow
from support import ROOT, clean_environment, processes_with, sourced_environment

HOVER = "quality?entity=interactions&rule=enum%3Ainteraction_type"


@dataclass
class Demo:
    """What the demo has printed and left behind."""

    state: Path
    home: Path
    printed: str

    def quarantined(self, entity: str, rule: str) -> list[tuple[str, str, str]]:
        """(id, status, raw) of rows whose first reason is a rule."""
        kept = oracle.rows(self.state / f"warehouse/quarantine/{entity}")  # noqa: F841
        query = "SELECT id, status, raw FROM kept WHERE reasons[1].rule = ? ORDER BY id"
        return duckdb.execute(query, [rule]).fetchall()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    state, home = folder / "state", folder / "airflow"
    done = subprocess.run(
        ["bash", "-c", f". bin/env && exec python bin/demo.py --rows 2000 --state '{state}'"],
        cwd=ROOT,
        env=clean_environment(AIRFLOW_HOME=str(home)),
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return Demo(state, home, done.stdout)


@pytest.fixture(scope="module")
def airflow(demo: Demo) -> Iterator[Airflow]:
    """On the demo's warehouse, with a contract by which ``hover`` is a view."""
    contracts = demo.state / "contracts"
    shutil.copytree(ROOT / "contracts", contracts)
    mended = contracts / "interactions.odcs.yaml"
    text, aliases = mended.read_text(), "{add_to_cart: add-to-cart,"
    assert text.count(aliases) == 1
    mended.write_text(text.replace(aliases, f"{aliases} hover: view,"))
    environment = sourced_environment(
        AIRFLOW_HOME=str(demo.home),
        LAKEHOUSE_CONTRACTS=str(contracts),
        LAKEHOUSE_WAREHOUSE=str(demo.state / "warehouse"),
        LAKEHOUSE_LANDING=str(demo.state / "landing"),
        LAKEHOUSE_REPORTS=str(demo.state / "reports"),
    )
    with Airflow(demo.home, environment) as running:
        running.wait_for("quarantine_replay")
        yield running
    assert processes_with(str(demo.home)) == []


def test_the_demo_runs_through_airflow_and_leaves_nothing_running(demo: Demo) -> None:
    for stage in ("ingest", "validate", "merge", "featurize", "optimize"):
        assert f"{stage}: success" in demo.printed
        (report,) = (demo.state / "reports").glob(f"medallion_batch/*/{stage}.json")
        assert json.loads(report.read_text())["status"] == "done"
    # The tables come from the XComs, so the reports came back to Airflow.
    assert "silver.transactions" in demo.printed
    assert "cast:amount" in demo.printed
    assert oracle.differences(oracle.connect(demo.state / "warehouse"), "2026-03-31") == {}
    assert processes_with(str(demo.home)) == []


def test_a_tasks_page_leads_to_its_run_report(airflow: Airflow, browser) -> None:  # type: ignore[no-untyped-def]
    (run,) = airflow.call("GET", "/dags/medallion_batch/dagRuns")["dag_runs"]
    page = browser.new_page()
    page.goto(f"{airflow.url}/dags/medallion_batch/runs/{run['dag_run_id']}/tasks/validate")
    page.get_by_role("link", name="Run report").click(timeout=60_000)
    inside = page.frame_locator("iframe")
    inside.get_by_role("heading", name="Rules that rows break").wait_for(timeout=60_000)
    assert inside.get_by_role("row", name="staged.transactions").count() == 1
    page.close()


def test_the_button_on_the_page_replays_what_a_mended_contract_takes(demo: Demo, airflow: Airflow, browser) -> None:  # type: ignore[no-untyped-def]
    waiting = demo.quarantined("interactions", "enum:interaction_type")
    assert {status for _, status, _ in waiting} == {"open"}
    page = browser.new_page()
    # Nobody logs in here: whoever reaches the address is an admin.
    page.goto(f"{airflow.url}/lakehouse/{HOVER}")
    page.get_by_role("button", name="Replay").click(timeout=60_000)
    run = page.get_by_role("status").get_by_role("link")
    run.wait_for(timeout=60_000)
    assert airflow.follow("quarantine_replay", run.inner_text())[0] == "success"
    assert [status for _, status, _ in demo.quarantined("interactions", "enum:interaction_type")] == ["replayed"] * len(
        waiting
    )
    silver = oracle.rows(demo.state / "warehouse/silver/interactions")  # noqa: F841
    keys = sorted({json.loads(raw)["InteractionID"] for _, _, raw in waiting})
    found = duckdb.execute(
        "SELECT interaction_id, interaction_type FROM silver WHERE interaction_id IN ? ORDER BY 1", [keys]
    )
    assert found.fetchall() == [(key, "view") for key in keys]
    page.reload()
    page.get_by_role("heading", name="Quality").wait_for(timeout=60_000)
    assert page.get_by_role("link", name="enum:interaction_type").count() == 0
    page.close()


@pytest.mark.long
def test_a_dry_run_changes_nothing_and_a_patch_brings_a_row_to_silver(
    demo: Demo, airflow: Airflow, tmp_path: Path
) -> None:
    id_, status, raw = demo.quarantined("transactions", "cast:amount")[0]
    assert status == "open"
    patch = tmp_path / "patch.csv"
    patch.write_text(f"id,column,value\n{id_},Amount,7.50\n")
    conf = {"entity": "transactions", "patch": str(patch), "by": "ada", "reason": "asked the shop"}
    outcome, reports = airflow.run("quarantine_replay", conf | {"action": "dry-run"})
    assert outcome == "success"
    assert reports["replay"]["tables"]["quarantine.transactions"]["rows_that_would_pass"] == 1
    assert reports["merge"] == {}, "merge has run after a dry run"
    assert demo.quarantined("transactions", "cast:amount")[0][1] == "open"
    outcome, reports = airflow.run("quarantine_replay", conf | {"action": "replay"})
    assert outcome == "success"
    assert demo.quarantined("transactions", "cast:amount")[0][1] == "replayed"
    assert reports["merge"]["tables"]["silver.transactions"]["rows_in"] == 1
    silver = oracle.rows(demo.state / "warehouse/silver/transactions")  # noqa: F841
    key = json.loads(raw)["TransactionID"]
    amounts = duckdb.execute("SELECT amount::VARCHAR FROM silver WHERE transaction_id = ?", [key]).fetchall()
    assert amounts == [("7.50",)]
