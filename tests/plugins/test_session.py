"""A Spark for a run, with a real process in the place of the server: it listens, and stays until it is ended."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from airflow.exceptions import AirflowException
from airflow.sdk.exceptions import AirflowFailException
from lakehouse_airflow import keeper, run_server
from lakehouse_airflow.processes import MARK, end_processes
from lakehouse_airflow.run_server import RunServer
from lakehouse_airflow.session import SessionStageOperator, StartSparkOperator, StopSparkOperator
from support import processes_with

LISTEN = """
import os, socket, sys, time
print("the server begins with", len(os.environ["SPARK_CONNECT_AUTHENTICATE_TOKEN"]), "characters", flush=True)
port = next(a.rpartition("=")[2] for a in sys.argv if a.startswith("spark.connect.grpc.binding.port="))
door = socket.create_server(("127.0.0.1", int(port)))
time.sleep(300)
"""


class Run:
    """A DAG run's tasks on one server."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.server_folder, self.log = folder, folder / "sessions/dag/run", folder / "reports/spark.log"
        self.server = {"server_folder": str(self.server_folder), "server_log": str(self.log), "conf": {"spark.x": "y"}}
        self.report = folder / "report.json"

    def start(self) -> dict[str, Any]:
        return StartSparkOperator(task_id="start_spark", **self.server).execute({})  # type: ignore[typeddict-item]

    def stop(self) -> None:
        StopSparkOperator(task_id="stop_spark", server_folder=str(self.server_folder)).execute({})  # type: ignore[typeddict-item]

    def stage(self, script: str, attempt: int = 1) -> dict[str, Any]:
        application = self.folder / "merge.py"
        application.write_text(f"import json, os, pathlib, sys, time\nREPORT = pathlib.Path(sys.argv[2])\n{script}\n")
        operator = SessionStageOperator(
            task_id="merge",
            application=str(application),
            application_args=["--report", str(self.report)],
            report_path=str(self.report),
            **self.server,  # type: ignore[arg-type]
        )
        return operator.execute({"ti": SimpleNamespace(try_number=attempt)})  # type: ignore[typeddict-item]

    def noted(self) -> dict[str, Any]:
        return json.loads((self.server_folder / keeper.SERVER).read_text())


@pytest.fixture
def submit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Puts a Python script on the path as spark-submit."""

    def put(script: str) -> None:
        binary = tmp_path / "bin/spark-submit"
        binary.parent.mkdir(exist_ok=True)
        binary.write_text(f"#!{sys.executable}\n{script}")
        binary.chmod(0o755)
        monkeypatch.setenv("PATH", f"{binary.parent}:{os.environ['PATH']}")

    return put


@pytest.fixture
def run(tmp_path: Path, submit) -> Iterator[Run]:  # type: ignore[no-untyped-def]
    submit(LISTEN)
    made = Run(tmp_path)
    yield made
    end_processes(str(made.server_folder), patience=1)


TELL = "REPORT.write_text(json.dumps({'warnings': [], 'tables': {}, 'env': dict(os.environ)}))"


def test_a_stage_gets_the_servers_address_and_its_token_which_is_told_to_nobody_else(run: Run, capfd) -> None:  # type: ignore[no-untyped-def]
    told = run.start()
    (pid, port), token = (run.noted()["pid"], run.noted()["port"]), (run.server_folder / keeper.TOKEN).read_text()
    assert told["address"] == f"sc://localhost:{port}"
    got = run.stage(TELL)["env"]
    assert (got["SPARK_REMOTE"], got["SPARK_CONNECT_AUTHENTICATE_TOKEN"]) == (told["address"], token)
    assert (got["TZ"], got["no_grpc_proxy"], got[MARK]) == ("UTC", "localhost", str(run.report))
    server = psutil.Process(pid)
    assert server.environ()["SPARK_CONNECT_AUTHENTICATE_TOKEN"] == token
    argv = server.cmdline()
    assert argv[argv.index("--master") + 1] == "local[*]"
    assert {"spark.x=y", "spark.connect.grpc.binding.address=127.0.0.1"} < set(argv)
    said = "".join(capfd.readouterr()) + run.log.read_text() + json.dumps(told)
    assert "the server begins with 43 characters" in said
    assert token not in said + str(argv) + str(server.parent().cmdline())  # type: ignore[union-attr]
    assert stat.S_IMODE(run.server_folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((run.server_folder / keeper.TOKEN).stat().st_mode) == 0o600


def test_two_stages_have_the_same_server_and_the_end_leaves_nothing(run: Run) -> None:
    run.start()
    before = run.noted()
    run.stage(TELL)
    run.stage(TELL)
    assert run.noted() == before
    run.stop()
    assert processes_with(str(run.server_folder)) == []
    assert not run.server_folder.exists()
    # Once more, and for a run that never had one.
    run.stop()


def test_a_dead_server_is_started_anew_and_so_it_is_for_a_retry(run: Run) -> None:
    run.start()
    first = run.noted()
    os.kill(first["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(first["pid"]) and time.monotonic() < deadline:
        time.sleep(0.05)
    run.stage(TELL)
    second = run.noted()
    assert second["pid"] != first["pid"]
    # What the failed attempt has asked of it may still be at work in it.
    run.stage(TELL, attempt=2)
    assert run.noted()["pid"] != second["pid"]
    assert not psutil.pid_exists(second["pid"])
    assert f"The server has ended by itself, with -{signal.SIGKILL.value}." in run.log.read_text()


def test_a_server_that_dies_ends_the_stage_at_once_and_another_try_may_succeed(run: Run) -> None:
    run.start()
    kill = f"os.kill(json.loads(pathlib.Path({str(run.server_folder / keeper.SERVER)!r}).read_text())['pid'], 9)\n"
    begin = time.monotonic()
    # Whatever the stage makes of it: it goes on asking, or ends with what looks like a bug.
    for then in ("time.sleep(300)", "sys.exit(70)"):
        with pytest.raises(AirflowException, match="The run's Spark has ended while merge was at work") as error:
            run.stage(kill + then)
        assert not isinstance(error.value, AirflowFailException)
    assert time.monotonic() - begin < 30


@pytest.mark.parametrize(("code", "final"), [(70, True), (69, False), (78, True)])
def test_a_failure_with_the_server_there_is_the_stages_own(run: Run, code: int, final: bool) -> None:
    run.start()
    with pytest.raises(AirflowException, match=f"exit code {code} .*the reason") as error:
        run.stage(f"REPORT.write_text(json.dumps({{'error': 'merge: the reason'}}))\nsys.exit({code})")
    assert isinstance(error.value, AirflowFailException) is final


def test_a_task_on_another_host_says_so(run: Run) -> None:
    with pytest.raises(AirflowFailException, match=r"is not known on this host .* must be on one host"):
        run.stage(TELL)
    run.start()
    noted = run.noted() | {"host": "elsewhere"}
    (run.server_folder / keeper.SERVER).write_text(json.dumps(noted))
    for attempt in (1, 2):
        with pytest.raises(AirflowFailException, match="is on the host elsewhere, and this task runs on"):
            run.stage(TELL, attempt)


def test_a_server_that_does_not_get_ready_leaves_nothing_and_says_what_it_said(run: Run, submit) -> None:  # type: ignore[no-untyped-def]
    run.log.parent.mkdir()
    run.log.write_text("of an earlier one\n")
    submit("import sys\nsys.exit('no room')")
    with pytest.raises(AirflowException, match=r"has ended before it answered.*no room") as error:
        run.start()
    assert "of an earlier one" not in str(error.value)
    submit("import time\ntime.sleep(300)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_server, "READY", 1.0)
        with pytest.raises(AirflowException, match="did not answer within 1 s"):
            run.start()
    assert processes_with(str(run.server_folder)) == []


def test_without_spark_submit_no_other_try_is_made(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(AirflowFailException, match="spark-submit is not on the path"):
        run.start()


@pytest.mark.parametrize("how", ["unused", "forgotten"])
def test_a_server_whose_run_is_gone_ends_by_itself(run: Run, how: str) -> None:
    own = RunServer(str(run.server_folder), str(run.log), {}, idle=2.0 if how == "unused" else 900.0)
    server = own.start()
    if how == "forgotten":
        (run.server_folder / keeper.TOKEN).unlink()
    else:
        # As long as it is used, it stays.
        for _ in range(8):
            time.sleep(0.5)
            own.use()
        assert server.alive()
    deadline = time.monotonic() + 15
    while processes_with(str(run.server_folder)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes_with(str(run.server_folder)) == []
    assert ("nobody has used it for 2 seconds" if how == "unused" else "its run is over") in run.log.read_text()
    if how == "unused":
        # A stage that comes later has another one.
        run.stage(TELL)
        assert run.noted()["pid"] != server.pid


def test_a_port_that_another_process_has_is_not_taken_for_the_servers(run: Run, submit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The other one would be told the token."""
    listening = subprocess.Popen(
        [sys.executable, "-c", LISTEN, "spark.connect.grpc.binding.port=0"],
        env=os.environ | {"SPARK_CONNECT_AUTHENTICATE_TOKEN": ""},
    )
    try:
        deadline = time.monotonic() + 10
        while not (found := psutil.Process(listening.pid).net_connections("tcp")) and time.monotonic() < deadline:
            time.sleep(0.05)
        port = found[0].laddr.port
        submit("import time\ntime.sleep(300)")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run_server, "READY", 2.0)
            patch.setattr(run_server, "_free_port", lambda: port)
            with pytest.raises(AirflowException, match="did not answer"):
                run.start()
    finally:
        listening.kill()
        listening.wait()
