"""The stage operator, with a real process in the place of spark-submit."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psutil
import pytest
from airflow.exceptions import AirflowException
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.execution_time.context import OutletEventAccessors
from lakehouse_airflow.outcome import TABLES
from lakehouse_airflow.processes import end_processes
from lakehouse_airflow.spark import SparkStageOperator


@pytest.fixture
def submit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Puts a shell script on the path as spark-submit and returns an operator that runs it."""

    def make(
        script: str, connection: str | None = '{"conn_type": "spark", "host": "local[2]"}', **options: Any
    ) -> SparkStageOperator:
        binary = tmp_path / "bin" / "spark-submit"
        binary.parent.mkdir(exist_ok=True)
        binary.write_text(f"#!/bin/bash\n{script}\n")
        binary.chmod(0o755)
        monkeypatch.setenv("PATH", f"{binary.parent}:{os.environ['PATH']}")
        monkeypatch.setenv("REPORT", str(tmp_path / "report.json"))
        if connection is None:
            monkeypatch.delenv("AIRFLOW_CONN_LAKEHOUSE_SPARK", raising=False)
        else:
            monkeypatch.setenv("AIRFLOW_CONN_LAKEHOUSE_SPARK", connection)
        return SparkStageOperator(
            **{
                "task_id": "merge",
                "application": "spark_jobs/merge.py",
                "application_args": ["--report", str(tmp_path / "report.json")],
                "conn_id": "lakehouse_spark",
                "report_path": str(tmp_path / "report.json"),
                **options,
            }
        )

    return make


def leave(report: dict) -> str:  # type: ignore[type-arg]
    return f"cat > $REPORT <<'E'\n{json.dumps(report)}\nE"


def test_the_report_is_the_result_and_the_command_is_what_the_connection_says(submit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    report = {"stage": "merge", "warnings": ["w"], "tables": {"silver.customers": {"inserted": 3}}}
    operator = submit(f'printf "%s\\n" "$@" > {tmp_path}/argv\n{leave(report)}')
    assert operator.execute({}) == report
    argv = (tmp_path / "argv").read_text().split("\n")
    assert argv[argv.index("--master") + 1] == "local[2]"
    assert argv[-4:-1] == ["spark_jobs/merge.py", "--report", str(tmp_path / "report.json")]


@pytest.mark.parametrize(
    ("connection", "on_cluster", "words"),
    [
        (None, False, "'lakehouse_spark' is not defined"),
        ('{"conn_type": "http", "host": "x"}', False, "is of type 'http'"),
        ('{"conn_type": "spark"}', False, "with host ''"),
        ('{"conn_type": "spark", "host": "spark://m:7077"}', False, "name a master in process, such as .*local"),
        ('{"conn_type": "spark", "host": "local[2]"}', True, "name the master of a cluster, such as .*spark://"),
    ],
)
def test_a_missing_or_wrong_connection_is_a_final_error_that_says_so(submit, connection, on_cluster, words) -> None:  # type: ignore[no-untyped-def]
    operator = submit("exit 0", connection, on_cluster=on_cluster)
    with pytest.raises(AirflowFailException, match=words) as error:
        operator.execute({})
    assert "AIRFLOW_CONN_LAKEHOUSE_SPARK=" in str(error.value)


def test_on_a_cluster_its_master_is_what_spark_submit_is_told(submit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    report = {"stage": "merge", "warnings": []}
    connection = '{"conn_type": "spark", "host": "spark://m", "port": 7077}'
    operator = submit(f'printf "%s\\n" "$@" > {tmp_path}/argv\n{leave(report)}', connection, on_cluster=True)
    assert operator.execute({}) == report
    argv = (tmp_path / "argv").read_text().split("\n")
    assert argv[argv.index("--master") + 1] == "spark://m:7077"


@pytest.mark.parametrize(
    ("server", "application", "link"),
    [
        ("http://history:18080/", "app-20260331-0001", "http://history:18080/history/app-20260331-0001/jobs/"),
        ("", "app-20260331-0001", ""),
        ("http://history:18080", None, ""),
    ],
)
@pytest.mark.parametrize("code", [0, 65])
def test_the_link_leads_to_the_run_in_the_history_server(submit, server, application, link, code) -> None:  # type: ignore[no-untyped-def]
    report = {"stage": "merge", "warnings": [], "application_id": application}
    operator = submit(f"{leave(report)}\nexit {code}", history_server=server)
    with pytest.raises(AirflowFailException) if code else nullcontext():
        operator.execute({})
    (made,) = operator.operator_extra_links
    assert made.get_link(operator, ti_key=None) == link


def test_each_table_that_was_written_is_an_asset_event_with_version_and_rows(submit) -> None:  # type: ignore[no-untyped-def]
    tables = {
        "staged.customers": {"version_read": 3},
        "silver.customers": {"version_written": 7, "inserted": 3, "updated": 1},
        "silver.customers_history": {"version_written": 2, "inserted": 4},
        "ops.progress": {"version_written": 9},
    }
    report = {"stage": "merge", "run_id": "r", "warnings": [], "tables": tables}
    events = OutletEventAccessors()
    submit(leave(report), outlets=[TABLES]).execute({"outlet_events": events})
    told = {e.dest_asset_key.name: e.extra for e in events[TABLES].asset_alias_events}
    assert told == {
        "silver.customers": {"run_id": "r", "stage": "merge", "version_written": 7, "inserted": 3, "updated": 1},
        "silver.customers_history": {"run_id": "r", "stage": "merge", "version_written": 2, "inserted": 4},
    }
    assert {e.dest_asset_key.uri for e in events[TABLES].asset_alias_events} == {Asset(t).uri for t in told}


@pytest.mark.parametrize("code", [69, 75])
def test_what_can_succeed_is_tried_again(submit, code: int) -> None:  # type: ignore[no-untyped-def]
    operator = submit(f"{leave({'error': 'merge: a concurrent writer won', 'warnings': []})}\nexit {code}")
    with pytest.raises(AirflowException, match="merge: a concurrent writer won") as error:
        operator.execute({})
    assert not isinstance(error.value, AirflowFailException)


@pytest.mark.parametrize("code", [1, 64, 65, 70, 78])
def test_what_cannot_succeed_is_final(submit, code: int) -> None:  # type: ignore[no-untyped-def]
    operator = submit(f"{leave({'error': 'merge: the reason', 'warnings': []})}\nexit {code}")
    with pytest.raises(AirflowFailException, match=f"exit code {code} .*merge: the reason"):
        operator.execute({})


@pytest.mark.parametrize("death", ["kill -9 $$", "exit 137"])
def test_a_killed_process_is_tried_again(submit, death: str) -> None:  # type: ignore[no-untyped-def]
    operator = submit(death)
    with pytest.raises(AirflowException, match="ended by signal 9") as error:
        operator.execute({})
    assert not isinstance(error.value, AirflowFailException)


def test_the_report_of_an_earlier_attempt_is_not_taken_for_this_ones(submit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    operator = submit("exit 0")
    (tmp_path / "report.json").write_text('{"warnings": []}')
    with pytest.raises(AirflowFailException, match="left no report"):
        operator.execute({})


class AtWork:
    """The operator at work in a thread, and a process that its spark-submit has started."""

    def __init__(self, operator: SparkStageOperator, child: Path) -> None:
        self.error: BaseException | None = None

        def run() -> None:
            try:
                operator.execute({})
            except BaseException as error:
                self.error = error

        self._thread = threading.Thread(target=run)
        self._thread.start()
        deadline = time.monotonic() + 20
        while not (child.exists() and child.read_text().endswith("\n")) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.child = psutil.Process(int(child.read_text()))

    def ends_by_a_signal(self) -> bool:
        self._thread.join(timeout=10)
        return not self._thread.is_alive() and "ended by signal" in str(self.error)


STUBBORN = "trap '' TERM\nsetsid sleep 300 &\necho $! > {child}\nwhile true; do sleep 0.1; done"
"""Ignores SIGTERM, and has a child in a session of its own."""


def test_killing_the_task_ends_every_process_within_ten_seconds(submit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    operator = submit(STUBBORN.format(child=tmp_path / "child"))
    attempt = AtWork(operator, tmp_path / "child")
    begin = time.monotonic()
    operator.on_kill()
    assert attempt.ends_by_a_signal()
    assert time.monotonic() - begin < 10
    assert not attempt.child.is_running() or attempt.child.status() == psutil.STATUS_ZOMBIE


def test_what_an_attempt_has_left_running_ends_before_the_next_one_begins(submit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    lost = AtWork(submit(STUBBORN.format(child=tmp_path / "child")), tmp_path / "child")
    report = {"stage": "merge", "warnings": []}
    still_there = f"grep -qs '^State:.[^Z]' /proc/{lost.child.pid}/status"
    again = submit(f"{still_there} && exit 70\n{leave(report)}")
    assert again.execute({}) == report
    assert lost.ends_by_a_signal()


def test_the_processes_of_another_task_go_on(submit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    operator = submit(STUBBORN.format(child=tmp_path / "child"))
    attempt = AtWork(operator, tmp_path / "child")
    assert end_processes(f"{operator.report_path}/another") == 0
    assert attempt.child.is_running()
    operator.on_kill()
    assert attempt.ends_by_a_signal()
