"""A stand-in for a Databricks workspace on the loopback address: as much of its API as a stage task calls.

It rejects what the real one rejects, by the data classes of Databricks' own SDK and the words of its documentation,
and carries a run out as serverless does: a Python process that reaches Spark through Spark Connect alone. What the
script and its arguments call ``/Workspace`` and ``/Volumes`` are folders below ``root``.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from databricks.sdk.service import jobs

ERROR_STATUS = {
    "INVALID_PARAMETER_VALUE": 400,
    "MALFORMED_REQUEST": 400,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "PERMISSION_DENIED": 403,
    "INVALID_STATE": 400,
    "TEMPORARILY_UNAVAILABLE": 503,
}
SUBMIT_FIELDS = set(inspect.signature(jobs.JobsAPI.submit).parameters) - {"self"}
MOUNTS = ("/Workspace/", "/Volumes/")


class Rejected(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class Run:
    """One submitted run with one task."""

    def __init__(
        self, number: int, request: dict[str, Any], start_time: int, process: subprocess.Popen[str] | None
    ) -> None:
        """``start_time``, in milliseconds, lies before all that the process writes."""
        self.number, self.request, self.process = number, request, process
        self.start_time = start_time
        self.canceled = False
        self.broken = process is None
        self.log = ""
        if process is not None:
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()

    def _read(self) -> None:
        assert self.process is not None
        self.log, _ = self.process.communicate()

    def state(self) -> dict[str, str]:
        page = {"state_message": ""}
        if self.broken:
            message = "The cluster could not be started: out of capacity."
            return page | {"life_cycle_state": "INTERNAL_ERROR", "result_state": "FAILED", "state_message": message}
        assert self.process is not None
        if self.process.poll() is None or self._reader.is_alive():
            return page | {"life_cycle_state": "TERMINATING" if self.canceled else "RUNNING"}
        result = "CANCELED" if self.canceled else "SUCCESS" if self.process.returncode == 0 else "FAILED"
        return page | {"life_cycle_state": "TERMINATED", "result_state": result}

    def as_dict(self, url: str) -> dict[str, Any]:
        task = self.request["tasks"][0]
        state = self.state()
        return {
            "job_id": 10_000 + self.number,
            "run_id": self.number,
            "run_name": self.request.get("run_name", "Untitled"),
            "run_page_url": f"{url}/#job/run/{self.number}",
            "start_time": self.start_time,
            "state": state,
            "tasks": [
                {"task_key": task["task_key"], "run_id": 1_000_000 + self.number, "attempt_number": 0, "state": state}
            ],
        }

    def output(self) -> dict[str, Any]:
        code = None if self.process is None else self.process.returncode
        return {"logs": self.log} | ({"error": f"SystemExit: {code}"} if code else {})


class Databricks:
    """The workspace, for as long as the ``with`` block lasts."""

    def __init__(self, root: Path, token: str, environment: dict[str, str]) -> None:
        self.root, self.token, self.environment = root, token, environment
        self.runs: dict[int, Run] = {}
        self.tokens: dict[str, int] = {}
        self.calls: list[tuple[str, str]] = []
        self.break_next_run = False
        self.unavailable = 0
        """How many of the next calls are answered by 503."""
        self._lock = threading.Lock()

    def __enter__(self) -> Databricks:
        workspace = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                workspace._answer(self, "GET")

            def do_POST(self) -> None:
                workspace._answer(self, "POST")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for run in self.runs.values():
            if run.process is not None and run.process.poll() is None:
                run.process.kill()

    @property
    def connection(self) -> str:
        """The Airflow connection, as JSON."""
        return json.dumps(
            {
                "conn_type": "databricks",
                "host": "127.0.0.1",
                "port": self.port,
                "schema": "http",
                "password": self.token,
            }
        )

    def local(self, path: str) -> str:
        """Where a path of the workspace is on this machine."""
        return str(self.root / path.lstrip("/")) if path.startswith(MOUNTS) else path

    def _answer(self, http: BaseHTTPRequestHandler, method: str) -> None:
        address = urlsplit(http.path)
        length = int(http.headers.get("Content-Length") or 0)
        raw = http.rfile.read(length)
        with self._lock:
            self.calls.append((method, address.path))
            try:
                body = self._route(http, method, address.path, raw, dict(parse_qsl(address.query)))
                status = 200
            except Rejected as rejected:
                status = ERROR_STATUS[rejected.code]
                body = json.dumps({"error_code": rejected.code, "message": rejected.message}).encode()
        http.send_response(status)
        http.send_header("Content-Type", "application/json")
        http.send_header("Content-Length", str(len(body)))
        http.end_headers()
        http.wfile.write(body)

    def _route(self, http: BaseHTTPRequestHandler, method: str, path: str, raw: bytes, query: dict[str, str]) -> bytes:
        if self.unavailable:
            self.unavailable -= 1
            raise Rejected("TEMPORARILY_UNAVAILABLE", "The service is temporarily unavailable.")
        if http.headers.get("Authorization") != f"Bearer {self.token}":
            raise Rejected("PERMISSION_DENIED", "Invalid access token.")
        if method == "GET" and path.startswith("/api/2.0/fs/files/"):
            file = self.root / unquote(path.removeprefix("/api/2.0/fs/files/"))
            if not path.startswith("/api/2.0/fs/files/Volumes/") or not file.is_file():
                raise Rejected("RESOURCE_DOES_NOT_EXIST", f"The file {file.name} does not exist.")
            return file.read_bytes()
        try:
            request = json.loads(raw) if raw else query
        except ValueError:
            raise Rejected("MALFORMED_REQUEST", "The body is not JSON.") from None
        match method, path:
            case "POST", "/api/2.2/jobs/runs/submit":
                answer = {"run_id": self._submit(request)}
            case "GET", "/api/2.2/jobs/runs/get":
                answer = self._run(request).as_dict(self.url)
            case "GET", "/api/2.2/jobs/runs/get-output":
                answer = self._run(request, of_a_task=True).output()
            case "POST", "/api/2.2/jobs/runs/cancel":
                self._cancel(self._run(request))
                answer = {}
            case _:
                raise Rejected("RESOURCE_DOES_NOT_EXIST", f"No API found for '{method} {path}'.")
        return json.dumps(answer).encode()

    def _run(self, request: dict[str, Any], *, of_a_task: bool = False) -> Run:
        number = int(request.get("run_id", -1))
        run = self.runs.get(number - 1_000_000 if of_a_task else number)
        if run is None:
            raise Rejected("INVALID_PARAMETER_VALUE", f"Run {number} does not exist.")
        return run

    def _submit(self, request: dict[str, Any]) -> int:
        task = checked(request)
        token = request.get("idempotency_token")
        if token in self.tokens:
            return self.tokens[token]
        number, now = len(self.runs) + 1, int(time.time() * 1000)
        process = None if self.break_next_run else self._start(task["spark_python_task"])
        self.break_next_run = False
        self.runs[number] = Run(number, request, now, process)
        if token:
            self.tokens[token] = number
        return number

    def _start(self, script: dict[str, Any]) -> subprocess.Popen[str]:
        file = self.local(script["python_file"])
        return subprocess.Popen(
            [sys.executable, file, *map(self.local, script.get("parameters", []))],
            env=self.environment,
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def _cancel(self, run: Run) -> None:
        if run.process is not None and run.process.poll() is None:
            run.canceled = True
            run.process.terminate()


def checked(request: dict[str, Any]) -> dict[str, Any]:
    """The one task of a runs/submit request; raises Rejected as the API does."""

    def refuse(message: str) -> None:
        raise Rejected("INVALID_PARAMETER_VALUE", message)

    if unknown := set(request) - SUBMIT_FIELDS:
        refuse(f"Unknown fields: {sorted(unknown)}")
    if len(request.get("idempotency_token") or "") > 64:
        refuse("The idempotency token must have at most 64 characters.")
    tasks = request.get("tasks") or []
    if len(tasks) != 1:
        refuse("This stand-in takes one task a run.")
    task = tasks[0]
    if jobs.SubmitTask.from_dict(task).as_dict() != task:
        refuse(f"Fields that a task does not have: {json.dumps(task)}")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", task.get("task_key", "")):
        refuse("The task key must have 1 to 100 characters: letters, digits, _ and -.")
    python = task.get("spark_python_task")
    if not python:
        refuse("The task has no spark_python_task.")
    if not re.match(r"/|(dbfs|s3|abfss|gs):/", python["python_file"]):
        refuse(f"Python file {python['python_file']!r}: must be absolute or a cloud URI.")
    if not all(isinstance(p, str) for p in python.get("parameters", [])):
        refuse("Parameters must be strings.")
    if len(json.dumps(python.get("parameters", []))) > 10_000:
        refuse("The parameters cannot exceed 10,000 bytes.")
    clusters = [k for k in ("existing_cluster_id", "new_cluster") if k in task]
    environments = {e["environment_key"]: e for e in request.get("environments", [])}
    if len(clusters) > 1:
        refuse("Only one of existing_cluster_id and new_cluster may be given.")
    if not clusters:
        if "libraries" in task:
            refuse("Libraries field is not supported for serverless task, please specify libraries in environment.")
        if task.get("environment_key") not in environments:
            refuse("A task on serverless compute needs the key of one of the request's environments.")
    elif "environment_key" in task:
        refuse("environment_key is for serverless compute.")
    for environment in environments.values():
        if jobs.JobEnvironment.from_dict(environment).as_dict() != environment:
            refuse(f"Fields that an environment does not have: {json.dumps(environment)}")
        spec = environment.get("spec", {})
        if ("environment_version" in spec) == ("base_environment" in spec):
            refuse("Either environment_version or base_environment must be provided.")
        if not all(spec.get("dependencies", ["-"])):
            refuse("A dependency must not be empty.")
    return task


def process_environment(remote: str) -> dict[str, str]:
    """What a script sees on serverless: Spark behind Spark Connect, and nothing of Airflow."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "LAKEHOUSE_", "SPARK", "PYSPARK"))}
    return kept | {"SPARK_REMOTE": remote, "DATABRICKS_RUNTIME_VERSION": "client.4.0", "TZ": "UTC"}
