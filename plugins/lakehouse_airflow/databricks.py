"""A stage script as a one-time run of Databricks Jobs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.exceptions import AirflowException
from airflow.providers.databricks.exceptions import DatabricksApiError
from airflow.providers.databricks.hooks.databricks import RunState
from airflow.providers.databricks.operators.databricks import DatabricksSubmitRunOperator
from airflow.providers.databricks.utils.databricks import validate_trigger_event
from airflow.sdk.exceptions import AirflowFailException

from lakehouse_airflow import lineage, outcome

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

SERVERLESS = "serverless"


class DatabricksStageOperator(DatabricksSubmitRunOperator):
    """Run a stage script on Databricks with the same argv as anywhere else, and bring its run report back.

    Beyond the provider's operator, which it always uses deferred, so that no worker waits:

    * an attempt whose worker died is found again, by its idempotency token, and waited for;
    * the run report, from a volume, becomes the task's XCom, and each table that was written an asset event;
    * the report's exit code decides whether another try can succeed.

    :param application: the script, in the workspace, in a volume or in object storage. (templated)
    :param application_args: its argv. (templated)
    :param report_path: where the script writes its run report, below ``/Volumes``. (templated)
    :param compute: ``serverless``, or the ``existing_cluster_id`` or ``new_cluster`` of the Jobs API.
    :param wheel: the package that the scripts import.
    """

    template_fields: Sequence[str] = (
        *DatabricksSubmitRunOperator.template_fields,
        "application",
        "application_args",
        "report_path",
    )
    ui_color = "#fde9e0"

    def __init__(
        self,
        *,
        application: str,
        application_args: list[str],
        report_path: str,
        compute: str | dict[str, Any],
        wheel: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(deferrable=True, **kwargs)
        self.application = application
        self.application_args = application_args
        self.report_path = report_path
        self.compute = compute
        self.wheel = wheel
        self._report: dict[str, Any] | None = None

    def execute(self, context: Context) -> dict[str, Any] | None:
        task: dict[str, Any] = {
            "task_key": self.task_id,
            "spark_python_task": {"python_file": self.application, "parameters": self.application_args},
        }
        self.json = {"tasks": [task]}
        if isinstance(self.compute, str):
            task["environment_key"] = SERVERLESS
            spec = {"environment_version": "4", "dependencies": [self.wheel]}
            self.json["environments"] = [{"environment_key": SERVERLESS, "spec": spec}]
        else:
            task |= self.compute
            task["libraries"] = [{"whl": self.wheel}]
        self._find_or_submit(context)
        # Defers, unless the run has ended by now.
        super().execute(context)
        return self._report

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:  # type: ignore[override]
        validate_trigger_event(event)
        state, report = RunState.from_json(event["run_state"]), self._read_report(event["run_id"])
        self.log.info("The run is at %s", event["run_page_url"])
        if state.is_successful:
            if report is None:
                raise AirflowFailException(f"{self.application} ended well but left no report at {self.report_path}.")
            self._report = outcome.succeeded(context, self.outlets, report)
            return self._report
        if report is not None and report["exit_code"] is not None:
            raise outcome.failure(self.application, report["exit_code"], report)
        text = f"Databricks ended the run as {state.result_state or state.life_cycle_state}: " + "; ".join(
            filter(None, [state.state_message, *(e["error"] for e in event["errors"])])
        )
        # The platform's own failures pass; a script that fails without a report, or a person's decision, does not.
        raise AirflowException(text) if state.life_cycle_state == "INTERNAL_ERROR" else AirflowFailException(text)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage:
        return lineage.of_report(self._report, catalog=f"databricks://{self._hook.host}")

    def _find_or_submit(self, context: Context) -> None:
        """Set the token of an earlier attempt that is still at work, or of this one.

        To submit a known token tells its run and starts nothing.
        """
        instance = context["ti"]
        named = (instance.dag_id, instance.run_id, instance.task_id, instance.map_index)
        for attempt in range(1, instance.try_number + 1):
            self.idempotency_token = hashlib.sha256("|".join(map(str, (*named, attempt))).encode()).hexdigest()
            self.run_id = self._hook.submit_run(self._prepare_submit_json(context))
            if not self._hook.get_run_state(self.run_id).is_terminal:
                break

    def _read_report(self, run_id: int) -> dict[str, Any] | None:
        """The report that this run has written; None if there is none, or only that of an earlier one."""
        try:
            report = self._hook._do_api_call(("GET", f"2.0/fs/files{quote(self.report_path)}"))
        except DatabricksApiError as error:
            if error.http_status_code == 404:
                return None
            raise
        begun = self._hook.get_run(run_id)["start_time"] / 1000
        return report if datetime.fromisoformat(report["started_at"]).timestamp() >= begun else None
