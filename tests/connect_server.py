"""A real Spark Connect server on the loopback address, with tables in a catalog of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from loopback import free_port, listens
from support import BRIEF, ROOT, clean_environment


class ConnectServer:
    """The server, for as long as the ``with`` block lasts; its tables are below ``folder/tables``.

    Args:
        memory: of its JVM.
        options: of its JVM; by default, those for one that lives as long as a test.
    """

    def __init__(self, folder: Path, memory: str = "3g", options: str = BRIEF) -> None:
        self.folder, self._memory, self._options = folder, memory, options
        self.port = free_port()
        self.url = f"sc://127.0.0.1:{self.port}"

    def __enter__(self) -> ConnectServer:
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "spark.sql.catalogImplementation": "hive",
            "spark.sql.warehouse.dir": str(self.folder / "tables"),
            "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:{self.folder}/metastore;create=true",
            "spark.driver.memory": self._memory,
        }
        self._log = self.folder / "server.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(str(ROOT / "bin/connect"), "--master", "local[2]"),
                    *[text for name, value in settings.items() for text in ("--conf", f"{name}={value}")],
                ],
                env=clean_environment(
                    SPARK_LOCAL_IP="127.0.0.1",
                    LAKEHOUSE_CONNECT_PORT=str(self.port),
                    SPARK_SUBMIT_OPTS=self._options,
                ),
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self._process.poll() is None:
            if listens(self.port):
                return self
            time.sleep(0.2)
        self.__exit__()
        raise TimeoutError(f"the server did not get ready:\n{self._log.read_text(errors='replace')[-3000:]}")

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
