"""Who is told when a task has failed for good, or a run misses its deadline: by default, the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.notifier import BaseNotifier

if TYPE_CHECKING:
    from airflow.sdk import Context


class LogNotifier(BaseNotifier):
    """Writes one line to the log, which whatever collects logs can alert on.

    The name of another notifier in ``LAKEHOUSE_NOTIFIER`` takes its place.
    """

    def notify(self, context: Context) -> None:
        self.log.error("LAKEHOUSE ALERT %s", described(context))

    async def async_notify(self, context: Context) -> None:
        self.log.error("LAKEHOUSE ALERT %s", described(context))


def described(context: Any) -> str:
    """One line: which task of which run, and why; or which run has missed its deadline."""
    run = context.get("dag_run")
    # A deadline's context has the run as a dictionary.
    dag_id, run_id = (run["dag_id"], run["dag_run_id"]) if isinstance(run, dict) else (run.dag_id, run.run_id)
    if "ti" not in context:
        return f"{dag_id}: run {run_id} has missed its deadline"
    reason = " ".join(str(context.get("exception") or "no reason was given").split())
    return f"{dag_id}.{context['ti'].task_id}: run {run_id} has failed: {reason}"
