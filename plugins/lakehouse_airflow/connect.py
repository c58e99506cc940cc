"""A stage script beside Airflow's worker, whose Spark is a Spark Connect server that is there already."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.hooks.spark_connect import SparkConnectHook
from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

from lakehouse_airflow import lineage, outcome
from lakehouse_airflow.processes import MARK, clear_away, end_processes

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context


class PythonStageOperator(BaseOperator):
    """Run a stage script by Python alone: its start costs no JVM, because its Spark is elsewhere.

    Exit codes, XCom, asset events and the end of processes are as with ``SparkStageOperator``.

    :param application: the script. (templated)
    :param application_args: its arguments. (templated)
    :param report_path: where the script writes its run report. (templated)
    """

    template_fields: Sequence[str] = ("application", "application_args", "report_path")

    def __init__(self, *, application: str, application_args: list[str], report_path: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.application = application
        self.application_args = application_args
        self.report_path = report_path

    def run_script(self, context: Context, environment: dict[str, str]) -> dict[str, Any]:
        """Run the script, with the place of its Spark in the environment; returns its run report."""
        report = Path(self.report_path)
        clear_away(self.report_path)
        done = SubprocessHook().run_command(
            [sys.executable, "-u", self.application, *self.application_args],
            env={**os.environ, "TZ": "UTC", MARK: self.report_path, **environment},
            cwd=str(Path.cwd()),
        )
        if done.exit_code:
            raise outcome.failure(self.application, done.exit_code, outcome.read(report))
        return outcome.succeeded(context, self.outlets, outcome.written(self.application, report))

    def on_kill(self) -> None:
        end_processes(self.report_path)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage:
        return lineage.of_report(outcome.read(Path(self.report_path)))


class ConnectStageOperator(PythonStageOperator):
    """Run a stage script on a Spark Connect server that stays, and is warm.

    :param conn_id: a connection of type ``spark_connect``; its token reaches the script by the environment.
    """

    ui_color = "#e8f1fb"

    def __init__(self, *, conn_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        return self.run_script(context, {"SPARK_REMOTE": self._server()})

    def _server(self) -> str:
        """The server's address, ``sc://host:port/;...``."""
        example = (
            f"""AIRFLOW_CONN_{self.conn_id.upper()}='{{"conn_type": "spark_connect", "host": "127.0.0.1", """
            '"port": 15002}\''
        )
        hook = SparkConnectHook(self.conn_id)
        try:
            connection = hook.get_connection(self.conn_id)
        except AirflowNotFoundException:
            raise AirflowFailException(
                f"The connection '{self.conn_id}' is not defined. Add it in Admin > Connections, or set {example}."
            ) from None
        if connection.conn_type != "spark_connect" or not connection.host:
            raise AirflowFailException(
                f"The connection '{self.conn_id}' is of type '{connection.conn_type}' with host "
                f"'{connection.host or ''}'; it must be of type 'spark_connect' and name a server, such as {example}."
            )
        return hook.get_connection_url()
