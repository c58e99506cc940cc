"""The Databricks stage operator and the provider's hook, against a stand-in that is as strict as the real API."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.exceptions import AirflowException, TaskDeferred
from airflow.providers.databricks.exceptions import DatabricksApiError
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.execution_time.context import OutletEventAccessors
from databricks_stand_in import Databricks, Rejected, checked
from lakehouse_airflow.databricks import DatabricksStageOperator
from lakehouse_airflow.outcome import TABLES

REPORT = "/Volumes/main/lakehouse/reports/medallion_batch/manual__2026-03-31T00:00:00+00:00/merge.json"
SCRIPT = """
import datetime, json, pathlib, sys, time
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
report = pathlib.Path(arguments["--report"])
report.parent.mkdir(parents=True, exist_ok=True)
now = datetime.datetime.now(datetime.timezone.utc).isoformat()
def leave(code, **facts):
    facts = {"stage": "merge", "run_id": "r", "started_at": now, "exit_code": code, "warnings": [], "tables": {}} | facts
    report.write_text(json.dumps(facts))
    if code:
        sys.exit(code)
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Databricks]:
    with Databricks(tmp_path, "the token", dict(os.environ)) as workspace:
        monkeypatch.setenv("AIRFLOW_CONN_DATABRICKS_DEFAULT", workspace.connection)
        (tmp_path / "Workspace/lakehouse").mkdir(parents=True)
        yield workspace


def operator(workspace: Databricks, script: str, **options: Any) -> DatabricksStageOperator:
    (workspace.root / "Workspace/lakehouse/merge.py").write_text(SCRIPT + script)
    return DatabricksStageOperator(
        **{
            "task_id": "merge",
            "application": "/Workspace/lakehouse/merge.py",
            "application_args": ["--warehouse", "catalog:main", "--report", REPORT],
            "report_path": REPORT,
            "compute": "serverless",
            "wheel": "/Volumes/main/lakehouse/lakehouse.whl",
            "polling_period_seconds": 0.2,
            "databricks_retry_delay": 0,
            "outlets": [TABLES],
        }
        | options
    )


def context(attempt: int = 1) -> dict[str, Any]:
    pushed: dict[str, Any] = {}
    instance = SimpleNamespace(
        dag_id="medallion_batch", run_id="manual__2026-03-31T00:00:00+00:00", task_id="merge", map_index=-1,
        try_number=attempt,
        xcom_push=lambda key, value: pushed.update({key: value}),
    )  # fmt: skip
    return {"ti": instance, "outlet_events": OutletEventAccessors(), "pushed": pushed}


def run(task: DatabricksStageOperator, here: dict[str, Any]) -> Any:
    """Execute as the worker does, then wait as the triggerer does, then finish as a worker does."""
    try:
        return task.execute(here)
    except TaskDeferred as deferred:
        trigger, method = deferred.trigger, deferred.method_name

    async def first() -> Any:
        async for event in trigger.run():
            return event.payload

    return getattr(task, method)(here, asyncio.run(asyncio.wait_for(first(), 30)))


def test_the_report_comes_back_with_asset_events_and_the_request_is_one_that_databricks_takes(
    workspace: Databricks,
) -> None:
    here = context()
    tables = {"silver.customers": {"version_written": 4, "inserted": 2}}
    report = run(operator(workspace, f"time.sleep(1.5)\nleave(0, tables={tables!r})"), here)
    assert report["tables"] == tables
    assert [e.dest_asset_key.name for e in here["outlet_events"][TABLES].asset_alias_events] == ["silver.customers"]
    assert here["pushed"]["run_page_url"] == f"{workspace.url}/#job/run/1"
    request = workspace.runs[1].request
    assert request["tasks"] == [
        {
            "task_key": "merge",
            "spark_python_task": {
                "python_file": "/Workspace/lakehouse/merge.py",
                "parameters": ["--warehouse", "catalog:main", "--report", REPORT],
            },
            "environment_key": "serverless",
        }
    ]
    assert request["environments"] == [
        {
            "environment_key": "serverless",
            "spec": {"environment_version": "4", "dependencies": ["/Volumes/main/lakehouse/lakehouse.whl"]},
        }
    ]
    assert len(request["idempotency_token"]) == 64


@pytest.mark.parametrize(
    "compute",
    [
        {"existing_cluster_id": "0123-456789-abc"},
        {"new_cluster": {"spark_version": "17.3.x-scala2.13", "node_type_id": "m6i.xlarge", "num_workers": 2}},
    ],
)
def test_a_cluster_gets_the_wheel_as_a_library(workspace: Databricks, compute: dict[str, Any]) -> None:
    run(operator(workspace, "leave(0)", compute=compute), context())
    task = workspace.runs[1].request["tasks"][0]
    # The provider makes strings of numbers, which Databricks reads as numbers.
    assert {k: task[k] for k in compute} == json.loads(json.dumps(compute).replace("2}", '"2"}'))
    assert task["libraries"] == [{"whl": "/Volumes/main/lakehouse/lakehouse.whl"}]
    assert "environments" not in workspace.runs[1].request


def test_a_run_that_ends_before_the_task_can_wait_gives_its_report_too(workspace: Databricks) -> None:
    task = operator(workspace, "leave(0)")
    submit = task._hook.get_run_state

    def when_it_has_ended(run_id: int) -> Any:
        state = submit(run_id)
        while workspace.runs[run_id].state()["life_cycle_state"] == "RUNNING":
            time.sleep(0.05)
        return state

    task._hook.get_run_state = when_it_has_ended
    assert task.execute(context())["exit_code"] == 0


@pytest.mark.parametrize(("code", "again"), [(69, True), (75, True), (65, False), (70, False), (78, False)])
def test_the_reports_exit_code_decides_about_another_try(workspace: Databricks, code: int, again: bool) -> None:
    with pytest.raises(AirflowException, match=rf"exit code {code} .*merge: the reason") as error:
        run(operator(workspace, f"leave({code}, error='merge: the reason')"), context())
    assert isinstance(error.value, AirflowFailException) is not again


def test_a_script_that_fails_without_a_report_is_final_and_tells_what_databricks_tells(workspace: Databricks) -> None:
    with pytest.raises(AirflowFailException, match="ended the run as FAILED: SystemExit: 3"):
        run(operator(workspace, "sys.exit(3)"), context())


def test_the_report_of_an_earlier_run_is_not_taken_for_this_ones(workspace: Databricks) -> None:
    run(operator(workspace, "leave(0)"), context(1))
    with pytest.raises(AirflowFailException, match="left no report"):
        run(operator(workspace, "pass"), context(2))
    with pytest.raises(AirflowFailException, match="ended the run as FAILED"):
        run(operator(workspace, "sys.exit(65)"), context(3))


def test_a_failure_of_the_platform_is_tried_again_by_a_run_of_its_own(workspace: Databricks) -> None:
    workspace.break_next_run = True
    with pytest.raises(AirflowException, match="out of capacity") as error:
        run(operator(workspace, "leave(0)"), context())
    assert not isinstance(error.value, AirflowFailException)
    assert len(workspace.runs) == 1, "it was tried again at once, without the pause of Airflow's retries"
    assert run(operator(workspace, "leave(0)"), context(2))["exit_code"] == 0
    assert len(workspace.runs) == 2


def test_an_attempt_whose_worker_died_is_found_again_and_not_run_twice(workspace: Databricks) -> None:
    script = f"time.sleep(3)\nopen({str(workspace.root / 'runs')!r}, 'a').write('once ')\nleave(0)"
    with pytest.raises(TaskDeferred):
        operator(workspace, script).execute(context(1))
    with pytest.raises(TaskDeferred):
        operator(workspace, script).execute(context(2))
    assert run(operator(workspace, script), context(3))["exit_code"] == 0
    assert (workspace.root / "runs").read_text() == "once "
    assert len(workspace.runs) == 1


def test_clearing_a_task_that_has_ended_runs_it_again(workspace: Databricks) -> None:
    for attempt in (1, 2, 3):
        run(operator(workspace, "leave(0)"), context(attempt))
    assert len(workspace.runs) == 3


@pytest.mark.parametrize("deferred", [False, True])
def test_killing_the_task_cancels_the_run(workspace: Databricks, deferred: bool) -> None:
    task = operator(workspace, "time.sleep(60)")
    with pytest.raises(TaskDeferred) as caught:
        task.execute(context())
    if deferred:
        asyncio.run(caught.value.trigger.on_kill())
    else:
        task.on_kill()
    process = workspace.runs[1].process
    assert process is not None
    process.wait(timeout=10)
    assert workspace.runs[1].canceled


def test_a_service_that_is_away_for_a_moment_is_asked_again(workspace: Databricks) -> None:
    workspace.unavailable = 2
    assert run(operator(workspace, "leave(0)"), context())["exit_code"] == 0


def test_a_wrong_token_is_told(workspace: Databricks, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = json.loads(workspace.connection) | {"password": "guess"}
    monkeypatch.setenv("AIRFLOW_CONN_DATABRICKS_DEFAULT", json.dumps(wrong))
    with pytest.raises(DatabricksApiError, match="Invalid access token"):
        run(operator(workspace, "leave(0)"), context())
    assert workspace.runs == {}


RIGHT = {
    "run_name": "merge",
    "tasks": [{"task_key": "merge", "spark_python_task": {"python_file": "/a.py"}, "environment_key": "e"}],
    "environments": [{"environment_key": "e", "spec": {"environment_version": "4"}}],
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"color": "red"}, "Unknown fields"),
        ({"idempotency_token": "x" * 65}, "at most 64 characters"),
        ({"tasks": [RIGHT["tasks"][0] | {"taskkey": "x"}]}, "Fields that a task does not have"),
        ({"tasks": [RIGHT["tasks"][0] | {"task_key": "a b"}]}, "task key must"),
        ({"tasks": [RIGHT["tasks"][0] | {"environment_key": "other"}]}, "needs the key of one"),
        ({"tasks": [RIGHT["tasks"][0] | {"existing_cluster_id": "c"}]}, "environment_key is for serverless"),
        ({"tasks": [RIGHT["tasks"][0] | {"libraries": [{"whl": "/a.whl"}]}]}, "Libraries field is not supported"),
        ({"environments": [{"environment_key": "e", "spec": {}}]}, "environment_version or base_environment"),
        ({"environments": [{"environment_key": "e", "spec": {"environment_version": "4", "dependencies": [""]}}]}, "must not be empty"),
        ({"tasks": [{"task_key": "m", "spark_python_task": {"python_file": "a.py"}, "environment_key": "e"}]}, "must be absolute"),
        ({"tasks": [{"task_key": "m", "spark_python_task": {"python_file": "/a.py", "parameters": ["x" * 10_001]}, "environment_key": "e"}]}, "10,000 bytes"),
    ],
)  # fmt: skip
def test_the_stand_in_is_strict(change: dict[str, Any], words: str) -> None:
    assert checked(RIGHT)["task_key"] == "merge"
    with pytest.raises(Rejected, match=words):
        checked(RIGHT | change)
