"""One way to declare a stage task."""

from __future__ import annotations

from datetime import timedelta

from lakehouse_airflow.operators import StageOperator

from lakehouse_dags.settings import Settings

DEFAULT_ARGS = {
    "owner": "data-platform",
    "retries": 2,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=10),
    "execution_timeout": timedelta(hours=6),
}


def stage_task(stage: str, settings: Settings, *arguments: str) -> StageOperator:
    """A task that runs ``spark_jobs/<stage>.py``.

    Args:
        arguments: the stage's own arguments, templated; the common ones are added here.
    """
    report = f"{settings.reports}/{{{{ dag.dag_id }}}}/{{{{ run_id }}}}/{stage}.json"
    return StageOperator(
        task_id=stage,
        application=f"{settings.jobs}/{stage}.py",
        conn_id=settings.spark_conn_id,
        name=f"lakehouse-{stage}",
        report_path=report,
        application_args=[
            *("--warehouse", settings.warehouse),
            *("--contracts", settings.contracts),
            *("--sources", settings.sources),
            *("--run-id", "{{ run_id }}"),
            *("--report", report),
            *arguments,
        ],
        env_vars={"TZ": "UTC"},
        pool=settings.pool,
    )
