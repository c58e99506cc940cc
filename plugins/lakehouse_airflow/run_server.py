"""The Spark Connect server of one DAG run, on this host: started, found again, started anew and ended.

It is known by a folder of its own, which only this user can read: in it are the server's token and, once it answers,
where it is. The folder stays when the server dies, so that who finds none knows that the run's server is elsewhere.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from airflow.exceptions import AirflowException
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.log import mask_secret

from lakehouse_airflow import keeper
from lakehouse_airflow.processes import MARK, end_processes

IDLE = 15 * 60.0
"""Seconds after which a server ends that no stage uses. Longer than a retry waits; a stage starts another if it must."""
READY = 180.0
"""Seconds within which a server must answer."""


@dataclass(frozen=True)
class Server:
    """A server that has been started: where it listens, and its process, by its id and when that began (seconds since 1970)."""

    host: str
    port: int
    pid: int
    started: float

    @property
    def address(self) -> str:
        # Spark's client sends a token without TLS to no host but this, by its name.
        return f"sc://localhost:{self.port}"

    def alive(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            return process.create_time() == self.started and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
        except psutil.Error:
            # It cannot be told now, and so it has not ended.
            return True


class RunServer:
    """The server of one run; at most one at a time.

    Args:
        folder: of this server alone, on a disk of this host.
        log: the file that the server's output is added to.
        conf: settings of its Spark, besides those of ``conf/spark-defaults.conf``.
        idle: seconds after which it ends if nobody uses it.
    """

    def __init__(self, folder: str, log: str, conf: Mapping[str, str], idle: float = IDLE) -> None:
        self.folder, self._log, self._conf, self._idle = Path(folder), Path(log), conf, idle

    def start(self) -> Server:
        """Start a server, instead of one that there may be; returns when it answers.

        Raises:
            AirflowFailException: there is no spark-submit.
            AirflowException: it does not get ready; another try may.
        """
        if shutil.which("spark-submit") is None:
            raise AirflowFailException(
                "spark-submit is not on the path of Airflow's workers; run set-up, or `. bin/env`."
            )
        self.end()
        self.folder.mkdir(parents=True, mode=0o700)
        handle = os.open(self.folder / keeper.TOKEN, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(32))
        self._log.parent.mkdir(parents=True, exist_ok=True)
        port = _free_port()
        begin = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-u",
                    keeper.__file__,
                    str(self.folder),
                    str(port),
                    str(self._idle),
                    *self._command(port),
                ],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # It outlives the task, and signals to the task's processes are not meant for it.
                start_new_session=True,
            )
        deadline = time.monotonic() + READY
        while process.poll() is None and time.monotonic() < deadline:
            found = self._noted()
            if found is not None:
                return found
            time.sleep(0.1)
        code = process.poll()
        end_processes(str(self.folder))
        with self._log.open("rb") as log:
            log.seek(begin)
            said = log.read().decode(errors="replace").strip()[-1500:]
        ended = f"did not answer within {READY:.0f} s" if code is None else "has ended before it answered"
        raise AirflowException(f"The run's Spark {ended}. Its log, {self._log}, ends with: {said or 'nothing'}")

    def attach(self, *, anew: bool) -> Server:
        """The server to use now; it is started if it has died.

        Args:
            anew: whether to start another in any case, as for a retry: what the last attempt has asked of the
                server may still be at work in it.

        Raises:
            AirflowFailException: the server is on another host.
            AirflowException: it does not get ready.
        """
        here, found = socket.gethostname(), self._noted()
        if found is not None and found.host != here:
            raise AirflowFailException(_ELSEWHERE.format(where=f"on the host {found.host}", here=here))
        if not self.folder.is_dir():
            raise AirflowFailException(
                _ELSEWHERE.format(where=f"not known on this host ({self.folder} is missing)", here=here)
            )
        if anew or found is None or not found.alive():
            found = self.start()
        self.use()
        return found

    def token(self) -> str:
        """What the server knows its clients by. It goes into the environment of a process of this user, and nowhere else."""
        token = (self.folder / keeper.TOKEN).read_text()
        mask_secret(token)
        return token

    def use(self) -> None:
        """Note that the server is used now."""
        # A watcher that ended of it would have the server taken for unused.
        with suppress(OSError):
            os.utime(self.folder / keeper.TOKEN)

    def end(self) -> None:
        """End the server, if there is one, and forget it."""
        end_processes(str(self.folder))
        shutil.rmtree(self.folder, ignore_errors=True)

    def _noted(self) -> Server | None:
        try:
            return Server(**json.loads((self.folder / keeper.SERVER).read_text()))
        except FileNotFoundError:
            return None

    def _command(self, port: int) -> list[str]:
        ours = {
            "spark.connect.grpc.binding.address": "127.0.0.1",
            "spark.connect.grpc.binding.port": str(port),
        }
        return [
            *("spark-submit", "--name", "lakehouse", "--master", "local[*]"),
            *("--class", "org.apache.spark.sql.connect.service.SparkConnectServer"),
            *(text for name, value in ({**self._conf} | ours).items() for text in ("--conf", f"{name}={value}")),
            "spark-internal",
        ]

    def _environment(self) -> dict[str, str]:
        # A server that is there already is not to be asked for: a worker may have its address in its environment.
        inherited = {name: value for name, value in os.environ.items() if name != "SPARK_REMOTE"}
        # It is for days that are small, and lives for one of them: too short for Java's optimizing compiler to pay.
        return {"LAKEHOUSE_WORK": "little"} | inherited | {"TZ": "UTC", MARK: str(self.folder)}


_ELSEWHERE = (
    "The Spark of this run is {where}, and this task runs on {here}. With LAKEHOUSE_BACKEND=session all tasks of a run must "
    "be on one host, as with the LocalExecutor: use that, or another backend; or, if the run is over, clear it as a whole."
)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
