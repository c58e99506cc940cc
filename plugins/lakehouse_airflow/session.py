"""A Spark for a DAG run: a task starts it, the stages attach to it, and a task ends it whatever has happened."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.exceptions import AirflowException
from airflow.sdk import BaseOperator

from lakehouse_airflow.connect import PythonStageOperator
from lakehouse_airflow.processes import end_processes
from lakehouse_airflow.run_server import RunServer, Server

if TYPE_CHECKING:
    from airflow.sdk import Context

LOOK_EVERY = 1.0
"""Seconds after which a stage's operator looks again whether the server is there."""


class StartSparkOperator(BaseOperator):
    """Start the run's Spark Connect server, on this host; its place is the task's XCom, without the token.

    :param server_folder: a folder of this run's server alone. (templated)
    :param server_log: the file of the server's output. (templated)
    :param conf: settings of Spark, besides those of ``conf/spark-defaults.conf``.
    """

    template_fields: Sequence[str] = ("server_folder", "server_log")
    ui_color = "#e9f6ec"

    def __init__(self, *, server_folder: str, server_log: str, conf: dict[str, str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.server_folder, self.server_log, self.conf = server_folder, server_log, conf

    def execute(self, context: Context) -> dict[str, Any]:
        server = RunServer(self.server_folder, self.server_log, self.conf).start()
        self.log.info("The run's Spark listens on %s; its log is %s", server.address, self.server_log)
        return {"host": server.host, "address": server.address, "pid": server.pid}

    def on_kill(self) -> None:
        end_processes(self.server_folder)


class StopSparkOperator(BaseOperator):
    """End the run's Spark Connect server and everything of it, if there still is one.

    :param server_folder: as the server was started with. (templated)
    """

    template_fields: Sequence[str] = ("server_folder",)
    ui_color = "#e9f6ec"

    def __init__(self, *, server_folder: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.server_folder = server_folder

    def execute(self, context: Context) -> None:
        RunServer(self.server_folder, "", {}).end()


class SessionStageOperator(PythonStageOperator):
    """Run a stage script on the run's Spark, which is started anew where it is gone, and for each retry.

    A server that dies ends the attempt at once, where the script would go on asking for ten minutes; the next try
    then starts another, and the stage goes on where it stopped.

    :param server_folder, server_log, conf: as of ``StartSparkOperator``.
    """

    template_fields: Sequence[str] = (*PythonStageOperator.template_fields, "server_folder", "server_log")
    ui_color = "#d9efe0"

    def __init__(self, *, server_folder: str, server_log: str, conf: dict[str, str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.server_folder, self.server_log, self.conf = server_folder, server_log, conf

    def execute(self, context: Context) -> dict[str, Any]:
        running = RunServer(self.server_folder, self.server_log, self.conf)
        server = running.attach(anew=context["ti"].try_number > 1)
        environment = {
            "SPARK_REMOTE": server.address,
            "SPARK_CONNECT_AUTHENTICATE_TOKEN": running.token(),
            # gRPC would ask a proxy for this host, too.
            "no_grpc_proxy": "localhost",
        }
        try:
            with self._watched(running, server):
                return self.run_script(context, environment)
        except AirflowException as error:
            if not _is_gone(server):
                raise
            raise AirflowException(
                f"The run's Spark has ended while {self.task_id} was at work; the next try starts another and goes on where "
                f"this one stopped. Its log: {self.server_log}"
            ) from error

    @contextmanager
    def _watched(self, running: RunServer, server: Server) -> Iterator[None]:
        """Within, the server is noted as used, and the script is ended when the server is gone."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(LOOK_EVERY):
                running.use()
                if not server.alive():
                    end_processes(self.report_path)
                    return

        thread = threading.Thread(target=watch, name="watch the server", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _is_gone(server: Server, seconds: float = 2.0) -> bool:
    """Whether a server has ended, or is about to: its stage may have heard of it before the kernel has it ended."""
    deadline = time.monotonic() + seconds
    while server.alive():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
