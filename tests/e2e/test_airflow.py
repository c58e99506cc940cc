"""The demo: the DAG in a real Airflow (scheduler, DAG processor, API server), triggered through its REST API; then what is in quarantine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import oracle
import pytest
from airflow_server import Airflow
from deltalake import DeltaTable
from support import ROOT, clean_environment, processes_with, sourced_environment

DAGS = (
    *("medallion_batch", "quarantine_replay", "rebuild_features", "stream_watchdog"),
    *("table_maintenance", "training_set"),
)
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


def run_demo(home: Path, state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "var/venv/bin/python"), "bin/demo.py", "--rows", "2000", "--state", str(state), *arguments]
    return subprocess.run(
        ["bash", "-c", '. bin/env && exec "$@"', "demo", *command], cwd=ROOT, env=clean_environment(AIRFLOW_HOME=str(home)),
        capture_output=True, text=True, timeout=3600,
    )  # fmt: skip


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    state, home = folder / "state", folder / "airflow"
    done = run_demo(home, state)
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
        LAKEHOUSE_EXCHANGE=str(demo.state / "exchange"),
    )
    with Airflow(demo.home, environment) as running:
        for dag in DAGS:
            running.wait_for(dag)
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
    # What was put in the place of missing values, and what else the run has warned of.
    assert re.search(r"transactions +│ default:amount +│ +[1-9]", demo.printed)
    assert "merge: " in demo.printed.split("Warnings of this run")[1]
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
def test_a_dry_run_changes_nothing_and_a_patch_brings_a_row_to_silver(demo: Demo, airflow: Airflow) -> None:
    id_, status, raw = demo.quarantined("transactions", "cast:amount")[0]
    assert status == "open"
    patch = demo.state / "exchange/patch.csv"
    patch.parent.mkdir()
    patch.write_text(f"id,column,value\n{id_},Amount,7.50\n")
    conf = {"entity": "transactions", "patch": "patch.csv", "by": "ada", "reason": "asked the shop"}
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


def places(demo: Demo) -> dict[str, str]:
    """What every run on the demo's warehouse works on."""
    below = {name: str(demo.state / name) for name in ("warehouse", "reports", "contracts", "exchange")}
    return below | {"sources": str(ROOT / "sources")}


def trigger_by_form(airflow: Airflow, browser, dag: str, typed: dict[str, str]) -> dict[str, Any]:  # type: ignore[no-untyped-def]
    """Open a DAG's form, type into some of its fields, press its button; returns the run that it has made."""
    known = {run["dag_run_id"] for run in airflow.call("GET", f"/dags/{dag}/dagRuns")["dag_runs"]}
    page = browser.new_page(viewport={"width": 1280, "height": 1400})
    page.goto(f"{airflow.url}/dags/{dag}")
    page.get_by_role("button", name="Trigger").first.click(timeout=60_000)
    form = page.get_by_role("dialog")
    for name, text in typed.items():
        form.locator(f"#element_{name}").fill(text)
        # The form follows what is typed with a delay.
        page.wait_for_timeout(300)
    form.get_by_role("button", name="Trigger", exact=True).click(timeout=30_000)
    form.wait_for(state="hidden", timeout=30_000)
    page.close()
    runs = airflow.call("GET", f"/dags/{dag}/dagRuns")["dag_runs"]
    (run,) = [r for r in runs if r["dag_run_id"] not in known and r["run_type"] == "manual"]
    return run


def forget(airflow: Airflow, run: dict[str, Any]) -> None:
    """End a run and delete it; Airflow deletes none that is at work."""
    address = f"/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}"
    for method, body in (("PATCH", {"state": "failed"}), ("DELETE", None)):
        for patience in (1, 2, 4, 8, 0):
            try:
                airflow.call(method, address, body)
                break
            except urllib.error.HTTPError as error:
                # The scheduler is at work on the same rows of SQLite, which waits for nobody.
                if error.code != 500 or not patience:
                    raise
                time.sleep(patience)


EMPTY_REPLAY = dict.fromkeys(("entity", "rule", "ids", "since", "until", "patch", "by", "reason"))


def test_every_dags_form_takes_what_its_text_says(demo: Demo, airflow: Airflow, browser) -> None:  # type: ignore[no-untyped-def]
    """Left as it is where that is fine; filled; and filled and emptied again."""
    filled: list[tuple[str, dict[str, str], dict[str, Any]]] = [
        ("medallion_batch", {}, {"as_of": None, "sources": [], "landing": str(demo.state / "landing")}),
        (
            "medallion_batch", {"as_of": "2026-03-20", "sources": "shop", "landing": f"{demo.state}/landing/old"},
            {"as_of": "2026-03-20", "sources": ["shop"], "landing": f"{demo.state}/landing/old"},
        ),
        ("medallion_batch", {"as_of": "", "sources": ""}, {"as_of": None, "sources": [], "landing": str(demo.state / "landing")}),
        ("quarantine_replay", {}, EMPTY_REPLAY | {"action": "dry-run", "ids": []}),
        (
            "quarantine_replay", {"rule": "cast:amount", "ids": "a\nb", "since": "2026-03-01", "patch": "mended/a.csv", "by": "ada"},
            EMPTY_REPLAY | {"action": "dry-run", "rule": "cast:amount", "ids": ["a", "b"], "since": "2026-03-01", "patch": "mended/a.csv", "by": "ada"},
        ),
        ("rebuild_features", {}, {"start": "2000-01-01", "end": "2100-01-01", "every": 0, "from_events": False}),
        ("stream_watchdog", {}, {"silence": 5, "lag": 1_000_000, "delay": 30, "starts": 5, "restart": False}),
        ("table_maintenance", {}, {"tables": [], "dry_run": False, "vacuum": True, "retain_hours": 168, "budget": 120}),
        (
            "training_set", {"cut_offs": "2026-03-15\n2026-03-20", "known_by": "now", "manifest": "churn.json"},
            {"name": "churn", "cut_offs": ["2026-03-15", "2026-03-20"], "horizon": 30, "known_by": "now", "from_manifest": None, "manifest": "churn.json"},
        ),
        (
            "training_set", {"from_manifest": "churn.json"},
            {"name": "churn", "cut_offs": [], "horizon": 30, "known_by": "cut-off", "from_manifest": "churn.json", "manifest": None},
        ),
    ]  # fmt: skip
    # No stage may begin; what is asked for is seen all the same.
    pool = {"name": "lakehouse", "include_deferred": True}
    airflow.call("PATCH", "/pools/lakehouse", pool | {"slots": 0})
    try:
        for dag, typed, expected in filled:
            # What is to be empty is typed and emptied again.
            for name in [n for n, text in typed.items() if not text]:
                typed = {name: "x"} | typed
            run = trigger_by_form(airflow, browser, dag, typed)
            conf = {k: v if v is not None or expected.get(k) != [] else [] for k, v in run["conf"].items()}
            assert conf == expected | {"places": places(demo)}
            forget(airflow, run)
    finally:
        for dag in ("stream_watchdog", "table_maintenance"):
            airflow.call("PATCH", f"/dags/{dag}", {"is_paused": True})
            for run in airflow.call("GET", f"/dags/{dag}/dagRuns")["dag_runs"]:
                forget(airflow, run)
        airflow.call("PATCH", "/pools/lakehouse", pool | {"slots": 1})


def test_a_batch_from_the_form_with_nothing_filled_in_runs_on_one_warehouse(
    demo: Demo, airflow: Airflow, browser
) -> None:  # type: ignore[no-untyped-def]
    run = trigger_by_form(airflow, browser, "medallion_batch", {})
    outcome, reports = airflow.follow("medallion_batch", run["dag_run_id"])
    assert outcome == "success"
    identity = str(DeltaTable(str(demo.state / "warehouse/ops/progress")).metadata().id)
    assert [r["warehouse_id"] for r in reports.values()] == [identity] * 5
    assert {r["warehouse"] for r in reports.values()} == {str(demo.state / "warehouse")}
    # What has nothing to do is asked by Python alone, and starts no JVM.
    assert {stage for stage, r in reports.items() if r["application_id"]} <= {"featurize", "optimize"}
    # Empty is the instant of the run.
    snapshots = oracle.rows(demo.state / "warehouse/ops/snapshots")  # noqa: F841
    (newest,) = duckdb.sql("SELECT max(as_of)::VARCHAR FROM snapshots").fetchall()
    assert newest[0][:10] == run["run_after"][:10]


@pytest.mark.parametrize(
    ("dag", "conf"),
    [
        ("quarantine_replay", {"entity": "products", "patch": "/etc/passwd"}),
        ("training_set", {"cut_offs": ["2026-03-01"], "manifest": "/etc/cron.d/x.json"}),
        ("training_set", {"from_manifest": "../../etc/passwd"}),
        ("medallion_batch", {"landing": "/etc"}),
        ("medallion_batch", {"places": {"warehouse": "/another"}}),
    ],
)
def test_no_parameter_leads_out_of_the_configured_folders(airflow: Airflow, dag: str, conf: dict[str, Any]) -> None:
    with pytest.raises(urllib.error.HTTPError) as told:
        airflow.call("POST", f"/dags/{dag}/dagRuns", {"conf": conf, "logical_date": None})
    assert told.value.code == 400
    assert "Invalid input for param" in told.value.read().decode()


@pytest.mark.parametrize(
    "path", ["/", "/auth/token", "/auth/token/login", "/api/v2/dags", "/ui/config", "/lakehouse/", "/execution/health"]
)
def test_the_open_airflow_does_not_answer_to_another_name(airflow: Airflow, path: str) -> None:
    """A page elsewhere can make its own name lead here, and a browser would let it read the answers."""
    for host in ("evil.example", f"evil.example:{airflow.url.rpartition(':')[2]}"):
        request = urllib.request.Request(airflow.url + path, headers={"Host": host})
        with pytest.raises(urllib.error.HTTPError) as told:
            urllib.request.urlopen(request, timeout=30)
        assert (told.value.code, told.value.read()) == (400, b"Invalid host header")


def test_a_demo_beside_a_running_airflow_is_refused_and_touches_nothing(
    demo: Demo, airflow: Airflow, tmp_path: Path
) -> None:
    done = run_demo(demo.home, tmp_path / "other")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"An Airflow is running on {demo.home} already")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "other").exists()


def test_a_demo_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    done = run_demo(tmp_path / "airflow", tmp_path / "state", "--source", "nonesuch", "--data", str(tmp_path / "data"))
    assert done.returncode == 1
    (report,) = (tmp_path / "state/reports/medallion_batch").glob("*/ingest.json")
    error = json.loads(report.read_text())["error"]
    assert error.startswith("ingest: ")
    assert error in " ".join(done.stdout.split())
    assert "The run ended as: failed." in done.stdout
