"""A real Airflow (api-server, scheduler, dag-processor, triggerer) for a while, and its REST API."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from loopback import free_port
from rich.console import Console

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "dags"))

from lakehouse_dags.settings import settings  # noqa: E402

CONSOLE = Console(width=None if sys.stdout.isatty() else 120)


def environment_of(state: Path) -> dict[str, str]:
    """This process's environment, with everything that the DAGs work on below one folder."""
    places = {name: state / name for name in ("warehouse", "landing", "reports", "exchange")}
    return os.environ | {f"LAKEHOUSE_{name.upper()}": str(place) for name, place in places.items()}


def claim(home: Path) -> int:
    """Take Airflow's state for this process; exits with one line when another Airflow has it.

    Returns:
        A handle. The state is held until every process that has inherited it has ended, in whatever way.
    """
    home.mkdir(parents=True, exist_ok=True)
    handle = os.open(home / "lakehouse.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        process = os.read(handle, 20).decode().strip()
        sys.exit(
            f"An Airflow is running on {home} already, as process {process}: two on one state would carry out each other's "
            f"runs. End it (Ctrl-C, or `kill -INT {process}`), or set AIRFLOW_HOME to another folder."
        )
    note(handle, os.getpid())
    return handle


def note(handle: int, process: int) -> None:
    """Tell those who find the state taken which process has it."""
    os.ftruncate(handle, 0)
    os.pwrite(handle, str(process).encode(), 0)


def prepare(environment: dict[str, str]) -> None:
    """Make the database and the pool, or bring them up to date; exits when that fails."""
    pool = ["pools", "set", "lakehouse", "1", "One stage at a time on one warehouse", "--include-deferred"]
    for command in (["db", "migrate"], pool):
        done = subprocess.run(["airflow", *command], env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"airflow {' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


class Airflow:
    """A real Airflow of our own, for as long as the ``with`` block lasts; the only one on its AIRFLOW_HOME.

    ``environment`` is all that its processes get, ``state`` an existing folder for its log.
    """

    def __init__(self, state: Path, environment: dict[str, str]) -> None:
        self._log_path = state / "standalone.log"
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._env = environment | {
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._claim: int | None = None
        self._token = ""

    def __enter__(self) -> Airflow:
        self._claim = claim(Path(self._env["AIRFLOW_HOME"]))
        prepare(self._env)
        with self._log_path.open("wb") as log:
            # It inherits the claim: should this process be killed, the state is still taken.
            self._process = subprocess.Popen(
                ["airflow", "standalone"],
                env=self._env,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(self._claim,),
            )
        note(self._claim, self._process.pid)
        return self

    @property
    def places(self) -> dict[str, str]:
        """Where its DAGs' runs work."""
        return settings(self._env).places

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        for kill in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(self._process.pid, kill)
                self._process.wait(timeout=10)
                break
        # Tasks and the readers of DAG files have process groups of their own, but are in this session.
        deadline = time.monotonic() + 10
        while (left := _of_session(self._process.pid)) and time.monotonic() < deadline:
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=1)
        if self._claim is not None:
            os.close(self._claim)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        if not self._token:
            with urllib.request.urlopen(f"{self.url}/auth/token", timeout=10) as answer:
                self._token = json.load(answer)["access_token"]
        request = urllib.request.Request(
            f"{self.url}/api/v2{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"{}")

    def wait_for(self, dag_id: str, seconds: float = 300) -> None:
        """Until the DAG can be triggered, and is the one of these settings: an earlier Airflow may have left its own."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                break
            try:
                if self.call("GET", f"/dags/{dag_id}/details")["params"]["places"]["value"] == self.places:
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError, KeyError):
                pass
            time.sleep(1)
        tail = self._log_path.read_text(errors="replace").splitlines()[-30:]
        sys.exit("Airflow did not get ready. The end of its log:\n" + "\n".join(tail))

    def run(self, dag_id: str, conf: dict[str, Any], seconds: float = 3600) -> tuple[str, dict[str, Any]]:
        """Trigger a DAG and follow it to its end; returns its state and the XComs of its tasks."""
        return self.follow(dag_id, self.trigger(dag_id, conf), seconds)

    def trigger(self, dag_id: str, conf: dict[str, Any]) -> str:
        """Trigger a DAG, for the places of this Airflow; returns the run's id."""
        self.call("PATCH", f"/dags/{dag_id}", {"is_paused": False})
        body = {"conf": {"places": self.places} | conf, "logical_date": None}
        run = str(self.call("POST", f"/dags/{dag_id}/dagRuns", body)["dag_run_id"])
        CONSOLE.print(f"triggered [bold]{dag_id}[/bold], run {run}")
        return run

    def follow(self, dag_id: str, run: str, seconds: float = 3600) -> tuple[str, dict[str, Any]]:
        """Follow a run to its end; returns its state and the XComs of its tasks."""
        base, shown, deadline = f"/dags/{dag_id}/dagRuns/{run}", dict[str, str](), time.monotonic() + seconds
        while time.monotonic() < deadline:
            for task in self.call("GET", f"{base}/taskInstances")["task_instances"]:
                state, name = task["state"] or "", task["task_id"]
                if state not in ("", "scheduled", "queued") and shown.get(name) != state:
                    took = f" in {task['duration']:.0f} s" if task["duration"] and state != "running" else ""
                    CONSOLE.print(f"  {name}: {state}{took}")
                    shown[name] = state
            state = self.call("GET", base)["state"]
            if state in ("success", "failed"):
                return state, {s: self._xcom(base, s) for s in shown}
            time.sleep(1)
        return "timed out", {}

    def _xcom(self, base: str, task: str) -> dict[str, Any]:
        try:
            value = self.call("GET", f"{base}/taskInstances/{task}/xcomEntries/return_value")["value"]
        except urllib.error.HTTPError:
            return {}
        return json.loads(value) if isinstance(value, str) else value


def _of_session(leader: int) -> list[psutil.Process]:
    """Processes that run in a session, by the process id of its leader."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
