"""A stage script by spark-submit: on Spark in process, or on a standalone cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.exceptions import AirflowException
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import BaseOperatorLink
from airflow.sdk.bases.hook import BaseHook
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

from lakehouse_airflow import lineage, outcome
from lakehouse_airflow.processes import MARK, clear_away, end_processes

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context


class HistoryLink(BaseOperatorLink):
    """A task's run in Spark's history server."""

    name = "Spark history"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        if not operator.history_server or not operator.application_id:
            return ""
        return f"{operator.history_server.rstrip('/')}/history/{operator.application_id}/jobs/"


class SparkStageOperator(SparkSubmitOperator):
    """spark-submit a stage script, bring its run report back, and retry only what can succeed.

    Beyond the provider's operator:

    * a connection that is missing, of another type, or to another kind of master than was asked for, fails
      the task and says so, where the provider would go to YARN;
    * the stage's exit code decides: 69 and 75, and a process that was killed, are tried again;
      every other failure is final, with the stage's own line as the reason;
    * the run report becomes the task's XCom, and each table that was written an asset event;
    * every process ends with the task, not the JVM alone; and what an attempt has left running on this
      host, because its worker died, is ended before the next one begins.

    :param report_path: where the script writes its run report; passed to it as ``--report``. (templated)
    :param history_server: address of Spark's history server, for the link to the run in it.
    :param on_cluster: whether the connection must name a cluster's master; else one in process, ``local[...]``.
    """

    template_fields: Sequence[str] = (*SparkSubmitOperator.template_fields, "report_path")
    ui_color = "#e8f1fb"
    operator_extra_links = (HistoryLink(),)

    def __init__(
        self,
        *,
        report_path: str,
        on_cluster: bool = False,
        history_server: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.history_server = history_server
        self.application_id: str | None = None
        self.on_cluster = on_cluster
        self.report_path = report_path

    def execute(self, context: Context) -> dict[str, Any]:  # type: ignore[override]  # the provider's own returns nothing
        self._check_connection()
        report = Path(self.report_path)
        clear_away(self.report_path)
        self.env_vars = {**(self.env_vars or {}), MARK: self.report_path}
        try:
            super().execute(context)
        except AirflowException as error:
            process = getattr(self._hook, "_submit_sp", None)
            if process is None:
                raise AirflowFailException(f"spark-submit could not be started: {error}") from None
            found = outcome.read(report)
            self.application_id = (found or {}).get("application_id")
            raise outcome.failure(self.application, process.returncode, found) from None
        result = outcome.written(self.application, report)
        self.application_id = result.get("application_id")
        return outcome.succeeded(context, self.outlets, result)

    def on_kill(self) -> None:
        end_processes(self.report_path)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage:
        return lineage.of_report(outcome.read(Path(self.report_path)))

    def _check_connection(self) -> None:
        variable = f"AIRFLOW_CONN_{self._conn_id.upper()}"
        master = "spark://master:7077" if self.on_cluster else "local[*]"
        example = f"""{variable}='{{"conn_type": "spark", "host": "{master}"}}'"""
        try:
            connection = BaseHook.get_connection(self._conn_id)
        except AirflowNotFoundException:
            raise AirflowFailException(
                f"The connection '{self._conn_id}' is not defined. Add it in Admin > Connections, or set {example}."
            ) from None
        right = connection.host and connection.host.startswith("local") != self.on_cluster
        if connection.conn_type != "spark" or not right:
            raise AirflowFailException(
                f"The connection '{self._conn_id}' is of type '{connection.conn_type}' with host "
                f"'{connection.host or ''}'; it must be of type 'spark' and name "
                f"{'the master of a cluster' if self.on_cluster else 'a master in process'}, such as {example}."
            )
