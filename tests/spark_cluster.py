"""A real standalone cluster on the loopback address: a master and two workers of one core each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from loopback import free_port
from support import BRIEF, clean_environment


class SparkCluster:
    """The cluster, for as long as the ``with`` block lasts."""

    def __init__(self, folder: Path, workers: int = 2) -> None:
        self.folder = folder
        self._wanted = workers
        self._started: list[subprocess.Popen[bytes]] = []
        self.port, self._web_port = free_port(), free_port()
        self.url = f"spark://127.0.0.1:{self.port}"

    def __enter__(self) -> SparkCluster:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.master = self.start_master()
            self._wait_for(lambda: self.state()["status"] == "ALIVE")
            self.workers = [self.start_worker() for _ in range(self._wanted)]
            self._wait_for(lambda: self.state()["aliveworkers"] == self._wanted)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            kill(process)

    @property
    def connection(self) -> str:
        """The Airflow connection, as JSON."""
        return json.dumps({"conn_type": "spark", "host": "spark://127.0.0.1", "port": self.port})

    def start_master(self) -> subprocess.Popen[bytes]:
        ports = ["--port", str(self.port), "--webui-port", str(self._web_port)]
        return self._start("master.Master", *ports)

    def start_worker(self) -> subprocess.Popen[bytes]:
        size = ["--cores", "1", "--memory", "2g", "--webui-port", "0", "--work-dir", str(self.folder / "work")]
        return self._start("worker.Worker", *size, self.url)

    def state(self) -> dict[str, Any]:
        """What the master tells: workers, running and completed applications."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._web_port}/json/", timeout=10) as answer:
            return json.load(answer)

    def _start(self, class_name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{class_name}-{len(self._started)}.log").open("wb") as log:
            process = subprocess.Popen(
                ["spark-class", f"org.apache.spark.deploy.{class_name}", "--host", "127.0.0.1", *arguments],
                env=clean_environment(
                    SPARK_LOCAL_IP="127.0.0.1", SPARK_DAEMON_MEMORY="512m", SPARK_DAEMON_JAVA_OPTS=BRIEF
                ),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def _wait_for(self, moment: Any, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while True:
            with suppress(OSError):
                if moment():
                    return
            if time.monotonic() > deadline:
                logs = "\n".join(f.read_text(errors="replace")[-1500:] for f in self.folder.glob("*.log"))
                raise TimeoutError(f"the cluster did not get ready:\n{logs}")
            time.sleep(0.2)


def kill(process: subprocess.Popen[bytes]) -> None:
    """kill -9 a daemon, and the executors that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
