"""Seven days by one backfill of a real Airflow, and the same seven days one by one as their files arrive: the same tables."""

from __future__ import annotations

import itertools
import shutil
import time
from datetime import timedelta
from pathlib import Path

import pytest
from airflow_server import Airflow
from lakehouse.instants import instant
from pipeline import GOLD, SILVER, Pipeline, rows_of
from pyspark.sql import SparkSession
from shell import Shell
from support import airflow_environment

pytestmark = pytest.mark.long

DAYS = [f"{instant('2026-03-01') + timedelta(days=n):%Y-%m-%d}" for n in range(8)]
"""Seven days, and the end of the seventh."""


def by_backfill(folder: Path, landing: Path) -> None:
    settings = airflow_environment(folder, LAKEHOUSE_SCHEDULE="@daily", LAKEHOUSE_LANDING=str(landing))
    with Airflow(folder / "airflow", settings) as airflow:
        airflow.wait_for("medallion_batch")
        # A run of today, which a schedule without catch-up begins with, is not what is asked for here.
        # The run of a date has its midnight as the instant of its features: what happened before it.
        ask = {"dag_id": "medallion_batch", "from_date": f"{DAYS[1]}T00:00:00Z", "to_date": f"{DAYS[7]}T00:00:00Z"}
        ask |= {"dag_run_conf": {"sources": ["shop"]}, "max_active_runs": 1, "reprocess_behavior": "none"}
        asked = airflow.call("POST", "/backfills", ask)
        airflow.call("PATCH", "/dags/medallion_batch", {"is_paused": False})
        deadline = time.monotonic() + 3600
        while airflow.call("GET", f"/backfills/{asked['id']}")["completed_at"] is None:
            assert time.monotonic() < deadline, "the backfill has not come to its end"
            time.sleep(2)
        runs = airflow.call("GET", "/dags/medallion_batch/dagRuns?run_type=backfill&order_by=logical_date")["dag_runs"]
    assert [(r["logical_date"][:10], r["state"]) for r in runs] == [(day, "success") for day in DAYS[1:]]


def by_day(spark: SparkSession, folder: Path, landing: Path) -> Pipeline:
    """Each day's files and its gold, then the snapshots that late files have made stale."""
    pipeline = Pipeline(spark, folder)
    for day, end in itertools.pairwise(DAYS):
        for source in landing.glob(f"shop/*/{day}"):
            shutil.copytree(source, pipeline.landing / source.relative_to(landing))
        pipeline.batch("shop", as_of=end)
    pipeline.run("featurize", start=DAYS[1], end=DAYS[7])
    return pipeline


def test_seven_days_of_backfill_are_seven_daily_runs(spark: SparkSession, tmp_path: Path) -> None:
    source = tmp_path / "source"
    size = ["--rows", "1000", "--days", "7", "--start", DAYS[0]]
    Shell(tmp_path).ok("generate", "--landing", str(source), *size)
    by_backfill(tmp_path / "backfill", source)
    daily = by_day(spark, tmp_path / "daily", source)
    backfilled = Pipeline(spark, tmp_path / "backfill")
    silver = [*(f"silver.{e}" for e in SILVER), *(f"silver.{e}_history" for e in SILVER[:3])]
    assert rows_of(backfilled, silver) == rows_of(daily, silver)
    for end in DAYS[1:]:
        gold = [f"gold.{g}" for g in GOLD]
        found = rows_of(backfilled, gold, as_of=end)
        assert min(map(len, found.values())) > 0
        assert found == rows_of(daily, gold, as_of=end)
