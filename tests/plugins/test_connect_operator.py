"""The operator of stages on a Spark Connect server, with a real process in the place of the stage."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from airflow.exceptions import AirflowException
from airflow.sdk.exceptions import AirflowFailException
from lakehouse_airflow.connect import ConnectStageOperator

SERVER = {"conn_type": "spark_connect", "host": "spark.example", "port": 15002, "login": "etl", "password": "s3cret"}


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Writes a Python script and returns an operator that runs it."""

    def make(script: str, connection: dict[str, Any] | None = SERVER) -> ConnectStageOperator:
        application = tmp_path / "merge.py"
        application.write_text(f"import json, os, pathlib, sys, time\nREPORT = pathlib.Path(sys.argv[2])\n{script}\n")
        monkeypatch.delenv("AIRFLOW_CONN_LAKEHOUSE_SPARK", raising=False)
        if connection is not None:
            monkeypatch.setenv("AIRFLOW_CONN_LAKEHOUSE_SPARK", json.dumps(connection))
        return ConnectStageOperator(
            task_id="merge",
            application=str(application),
            application_args=["--report", str(tmp_path / "report.json"), "--only", "shop"],
            report_path=str(tmp_path / "report.json"),
            conn_id="lakehouse_spark",
        )

    return make


def test_the_script_finds_the_server_in_its_environment_and_its_report_is_the_result(stage, capfd) -> None:  # type: ignore[no-untyped-def]
    told = "{'warnings': [], 'tables': {}, 'argv': sys.argv[1:], 'remote': os.environ['SPARK_REMOTE'], 'tz': os.environ['TZ']}"
    operator = stage(f"print('merge: two rows')\nREPORT.write_text(json.dumps({told}))")
    result = operator.execute({})
    assert result["argv"] == operator.application_args
    assert result["remote"] == "sc://spark.example:15002/;user_id=etl;token=s3cret"
    assert result["tz"] == "UTC"
    log = "".join(capfd.readouterr())
    assert "merge: two rows" in log
    assert "s3cret" not in log


@pytest.mark.parametrize(
    ("connection", "words"),
    [
        (None, "'lakehouse_spark' is not defined"),
        ({"conn_type": "spark", "host": "local[2]"}, "is of type 'spark' with host 'local"),
        ({"conn_type": "spark_connect"}, "with host ''"),
    ],
)
def test_a_missing_or_wrong_connection_is_a_final_error_that_says_so(stage, connection, words) -> None:  # type: ignore[no-untyped-def]
    operator = stage("REPORT.write_text('{}')", connection)
    with pytest.raises(AirflowFailException, match=words) as error:
        operator.execute({})
    assert "AIRFLOW_CONN_LAKEHOUSE_SPARK=" in str(error.value)
    assert not Path(operator.report_path).exists()


@pytest.mark.parametrize(("code", "final"), [(64, True), (65, True), (69, False), (70, True), (75, False), (78, True)])
def test_the_exit_code_decides_whether_to_try_again(stage, code: int, final: bool) -> None:  # type: ignore[no-untyped-def]
    operator = stage(
        f"REPORT.write_text(json.dumps({{'error': 'merge: the reason', 'warnings': []}}))\nsys.exit({code})"
    )
    with pytest.raises(AirflowException, match=f"exit code {code} .*merge: the reason") as error:
        operator.execute({})
    assert isinstance(error.value, AirflowFailException) is final


def test_the_report_of_an_earlier_attempt_is_not_taken_for_this_ones(stage, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "report.json").write_text('{"warnings": [], "tables": {}}')
    with pytest.raises(AirflowFailException, match="left no report"):
        stage("pass").execute({})


def test_killing_the_task_ends_the_script(stage, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    operator = stage("print(os.getpid(), file=open(REPORT.parent / 'pid', 'w'), flush=True)\ntime.sleep(300)")
    errors: list[BaseException] = []

    def run() -> None:
        try:
            operator.execute({})
        except BaseException as error:
            errors.append(error)

    attempt = threading.Thread(target=run)
    attempt.start()
    pid, deadline = tmp_path / "pid", time.monotonic() + 20
    while not (pid.exists() and pid.read_text().endswith("\n")) and time.monotonic() < deadline:
        time.sleep(0.05)
    script = psutil.Process(int(pid.read_text()))
    operator.on_kill()
    attempt.join(10)
    assert not attempt.is_alive()
    assert not script.is_running()
    assert "ended by signal" in str(errors[0])
