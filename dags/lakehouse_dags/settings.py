"""Where things are, from the environment of the DAG processor and the workers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(os.environ.get("LAKEHOUSE_ROOT") or Path(__file__).resolve().parents[2])


@dataclass(frozen=True)
class Settings:
    """Locations and names that every DAG needs.

    Each is an environment variable ``LAKEHOUSE_<NAME>`` with a default below the project's ``var``.
    """

    warehouse: str
    landing: str
    reports: str
    contracts: str
    sources: str
    jobs: str
    spark_conn_id: str
    pool: str
    schedule: str | None
    maintenance_schedule: str | None


def settings() -> Settings:
    def value(name: str, default: str) -> str:
        return os.environ.get(f"LAKEHOUSE_{name}") or default

    maintenance = value("MAINTENANCE_SCHEDULE", "0 3 * * *")
    return Settings(
        warehouse=value("WAREHOUSE", str(ROOT / "var/warehouse")),
        landing=value("LANDING", str(ROOT / "var/landing")),
        reports=value("REPORTS", str(ROOT / "var/reports")),
        contracts=value("CONTRACTS", str(ROOT / "contracts")),
        sources=value("SOURCES", str(ROOT / "sources")),
        jobs=value("JOBS", str(ROOT / "spark_jobs")),
        spark_conn_id=value("SPARK_CONN_ID", "lakehouse_spark"),
        pool=value("POOL", "lakehouse"),
        schedule=os.environ.get("LAKEHOUSE_SCHEDULE") or None,
        maintenance_schedule=None if maintenance.lower() == "none" else maintenance,
    )
