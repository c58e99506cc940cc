"""Where things are, from the environment of the DAG processor and the workers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

ROOT = Path(os.environ.get("LAKEHOUSE_ROOT") or Path(__file__).resolve().parents[2])
Backend = Literal["local", "session", "connect", "cluster", "databricks"]


@dataclass(frozen=True)
class Settings:
    """Locations and names that every DAG needs.

    Each is an environment variable ``LAKEHOUSE_<NAME>`` with a default below the project's ``var``.
    """

    warehouse: str
    landing: str
    reports: str
    exchange: str
    contracts: str
    sources: str
    jobs: str
    leases: str
    sessions: str
    backend: Backend
    spark_conn_id: str
    event_log: str
    history_server: str
    openlineage_jar: str
    databricks_conn_id: str
    databricks_compute: str | dict[str, Any]
    databricks_wheel: str
    pool: str
    schedule: str | None
    maintenance_schedule: str | None
    watchdog_schedule: str | None
    stream_restart: str
    notifier: str
    notifier_arguments: dict[str, Any]

    @property
    def places(self) -> dict[str, str]:
        """Where a run works."""
        return {name: getattr(self, name) for name in ("warehouse", "reports", "contracts", "sources", "exchange")}


def settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the environment.

    Raises:
        ValueError: a variable has a value that it cannot have; the message names it.
    """

    def value(name: str, default: str) -> str:
        return environment.get(f"LAKEHOUSE_{name}") or default

    def schedule(name: str, default: str) -> str | None:
        expression = value(name, default)
        return None if expression.lower() == "none" else expression

    backend = value("BACKEND", "local")
    if backend not in get_args(Backend):
        raise ValueError(f"LAKEHOUSE_BACKEND is '{backend}'; it must be one of {', '.join(get_args(Backend))}.")
    return Settings(
        warehouse=value("WAREHOUSE", str(ROOT / "var/warehouse")),
        landing=value("LANDING", str(ROOT / "var/landing")),
        reports=value("REPORTS", str(ROOT / "var/reports")),
        exchange=value("EXCHANGE", str(ROOT / "var/exchange")).rstrip("/"),
        contracts=value("CONTRACTS", str(ROOT / "contracts")),
        sources=value("SOURCES", str(ROOT / "sources")),
        jobs=value("JOBS", str(ROOT / "spark_jobs")),
        leases=value("LEASES", str(ROOT / "var/leases")),
        sessions=value("SESSIONS", str(ROOT / "var/sessions")).rstrip("/"),
        backend=cast(Backend, backend),
        spark_conn_id=value("SPARK_CONN_ID", "lakehouse_spark"),
        event_log=value("EVENT_LOG", ""),
        history_server=value("HISTORY_SERVER", ""),
        openlineage_jar=value("OPENLINEAGE_JAR", ""),
        databricks_conn_id=value("DATABRICKS_CONN_ID", "databricks_default"),
        databricks_compute=_compute(value("DATABRICKS_COMPUTE", "serverless")),
        databricks_wheel=value("DATABRICKS_WHEEL", ""),
        pool=value("POOL", "lakehouse"),
        schedule=environment.get("LAKEHOUSE_SCHEDULE") or None,
        maintenance_schedule=schedule("MAINTENANCE_SCHEDULE", "0 3 * * *"),
        watchdog_schedule=schedule("WATCHDOG_SCHEDULE", "*/5 * * * *"),
        stream_restart=value("STREAM_RESTART", ""),
        notifier=value("NOTIFIER", "lakehouse_airflow.alerts.LogNotifier"),
        notifier_arguments=_object("LAKEHOUSE_NOTIFIER_ARGUMENTS", value("NOTIFIER_ARGUMENTS", "{}")),
    )


def _compute(text: str) -> str | dict[str, Any]:
    """``serverless``, or a JSON object with what the Jobs API calls existing_cluster_id or new_cluster."""
    if text == "serverless":
        return text
    compute = _object("LAKEHOUSE_DATABRICKS_COMPUTE", text)
    if len(compute.keys() & {"existing_cluster_id", "new_cluster"}) != 1:
        raise ValueError("LAKEHOUSE_DATABRICKS_COMPUTE must have either existing_cluster_id or new_cluster.")
    return compute


def _object(name: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a JSON object.")
    return value
