"""One way to declare a stage task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import BaseOperator
from lakehouse_airflow.outcome import TABLES
from lakehouse_airflow.spark import SparkStageOperator

from lakehouse_dags.alerts import on_failure
from lakehouse_dags.settings import Settings

ONE_RUN_AT_A_TIME: dict[str, Any] = {
    "start_date": datetime(2024, 1, 1, tzinfo=UTC),
    "catchup": False,
    "max_active_runs": 1,
}
"""What every DAG of the suite has: a run waits for the one before it, and none is made for the past."""

DEFAULT_ARGS: dict[str, Any] = {
    "owner": "data-platform",
    "retries": 2,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=10),
    "execution_timeout": timedelta(hours=6),
}


def default_args(settings: Settings) -> dict[str, Any]:
    """What all tasks have in common."""
    return DEFAULT_ARGS | {"on_failure_callback": on_failure(settings)}


CHANGES_NO_ROWS = ("optimize",)
LEASES = {"replay": "validate", "optimize": "merge"}
"""Stages that change what another stage changes take turns with it, and with the stream."""
LINEAGE_LISTENER = "io.openlineage.spark.agent.OpenLineageSparkListener"


def spark_conf(settings: Settings) -> dict[str, str]:
    """Where Spark tells what it does: to the event log, to the lineage server."""
    conf: dict[str, str] = {}
    if settings.event_log:
        conf |= {"spark.eventLog.enabled": "true", "spark.eventLog.dir": settings.event_log}
    if settings.openlineage_jar:
        conf |= {"spark.jars": settings.openlineage_jar, "spark.extraListeners": LINEAGE_LISTENER}
    return conf


def server_of(settings: Settings) -> dict[str, Any]:
    """Of a run's own Spark: where its state and its log are, templated, and its settings."""
    return {
        "server_folder": f"{settings.sessions}/{{{{ dag.dag_id }}}}/{{{{ run_id }}}}",
        "server_log": "{{ params.places.reports }}/{{ dag.dag_id }}/{{ run_id }}/spark.log",
        "conf": spark_conf(settings),
    }


@contextmanager
def spark_of_run(settings: Settings) -> Iterator[None]:
    """Around the stages of a DAG: with the backend ``session``, one Spark is started before them and ended after them.

    On the other backends, no task is added.
    """
    if settings.backend != "session":
        yield
        return
    from lakehouse_airflow.session import StartSparkOperator, StopSparkOperator

    server = server_of(settings)
    start = StartSparkOperator(task_id="start_spark", pool=settings.pool, **server)
    # In no pool of the stages: while it waits for those of other DAGs, a Spark would do nothing.
    stop = StopSparkOperator(task_id="stop_spark", server_folder=server["server_folder"]).as_teardown(setups=start)
    with stop:
        yield


def stage_task(stage: str, settings: Settings, *arguments: str, after: str = "") -> BaseOperator:
    """A task that runs ``spark_jobs/<stage>.py`` on the backend that the settings name.

    Args:
        arguments: the stage's own arguments, templated; the common ones are added here.
        after: an earlier stage of the same run, which must have worked on the same warehouse.
    """
    report = f"{{{{ params.places.reports }}}}/{{{{ dag.dag_id }}}}/{{{{ run_id }}}}/{stage}.json"
    argv = [
        *("--warehouse", "{{ params.places.warehouse }}"),
        *("--contracts", "{{ params.places.contracts }}"),
        *("--sources", "{{ params.places.sources }}"),
        *("--run-id", "{{ run_id }}"),
        *("--report", report),
    ]
    if after:
        argv += ["--warehouse-id", f"{{{{ (ti.xcom_pull(task_ids='{after}') or {{}}).get('warehouse_id') or '' }}}}"]
    common: dict[str, Any] = {
        "task_id": stage,
        "application": f"{settings.jobs}/{stage}.py",
        "report_path": report,
        "pool": settings.pool,
        "outlets": [] if stage in CHANGES_NO_ROWS else [TABLES],
    }
    if settings.backend == "databricks":
        # Here, because it takes a second that every parse of a DAG file would pay.
        from lakehouse_airflow.databricks import DatabricksStageOperator

        return DatabricksStageOperator(
            **common,
            application_args=[*argv, *arguments],
            databricks_conn_id=settings.databricks_conn_id,
            compute=settings.databricks_compute,
            wheel=settings.databricks_wheel,
            polling_period_seconds=10,
        )
    argv += ["--lease", f"{settings.leases}/{LEASES.get(stage, stage)}"]
    if settings.backend == "connect":
        from lakehouse_airflow.connect import ConnectStageOperator

        return ConnectStageOperator(**common, application_args=[*argv, *arguments], conn_id=settings.spark_conn_id)
    if settings.backend == "session":
        from lakehouse_airflow.session import SessionStageOperator

        return SessionStageOperator(**common, application_args=[*argv, *arguments], **server_of(settings))
    return SparkStageOperator(
        **common,
        application_args=[*argv, *arguments],
        conn_id=settings.spark_conn_id,
        on_cluster=settings.backend == "cluster",
        name=f"lakehouse-{stage}",
        conf=spark_conf(settings),
        history_server=settings.history_server,
        openlineage_inject_parent_job_info=bool(settings.openlineage_jar),
        # The way to the lineage server is not passed on: it may hold a key, and would be seen in the argv.
        env_vars={"TZ": "UTC"},
    )
