"""The same DAG in a real Airflow on the other backends: a standalone cluster, and Databricks by a strict stand-in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import oracle
import pytest
from airflow_server import Airflow
from connect_server import ConnectServer
from databricks_stand_in import Databricks, process_environment
from shell import Shell
from spark_cluster import SparkCluster
from support import ROOT, airflow_environment

pytestmark = pytest.mark.long

STAGES = ["ingest", "validate", "merge", "featurize", "optimize"]
AS_OF = "2026-03-05"


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("landing")
    shell = Shell(folder)
    shell.ok("generate", "--landing", str(folder), "--rows", "1000", "--days", "4", "--start", "2026-03-01")
    return folder


def assert_right(outcome: str, reports: dict[str, Any], warehouse: Path) -> None:
    assert outcome == "success"
    assert list(reports) == STAGES
    assert {report["status"] for report in reports.values()} == {"done"}
    assert reports["merge"]["tables"]["silver.transactions"]["inserted"] > 0
    assert oracle.differences(oracle.connect(warehouse), AS_OF) == {}


def test_on_a_standalone_cluster_with_two_workers(landing: Path, tmp_path: Path) -> None:
    with SparkCluster(tmp_path / "cluster") as cluster:
        settings = airflow_environment(
            tmp_path,
            LAKEHOUSE_BACKEND="cluster",
            AIRFLOW_CONN_LAKEHOUSE_SPARK=cluster.connection,
            LAKEHOUSE_LANDING=str(landing),
        )
        with Airflow(tmp_path / "airflow", settings) as airflow:
            airflow.wait_for("medallion_batch")
            outcome, reports = airflow.run("medallion_batch", {"as_of": AS_OF, "sources": ["shop"]})
            events = airflow.call("GET", "/assets/events?limit=100")["asset_events"]
        told = {e["name"]: e["extra"] for e in events}
        applications = cluster.state()
        assert {p.name for p in (tmp_path / "leases").iterdir()} >= set(STAGES) - {"optimize"}
    assert_right(outcome, reports, tmp_path / "warehouse")
    assert applications["activeapps"] == []
    assert sorted(a["name"] for a in applications["completedapps"]) == sorted(f"lakehouse {s}" for s in STAGES)
    assert {a["state"] for a in applications["completedapps"]} == {"FINISHED"}
    assert {a["id"] for a in applications["completedapps"]} == {r["application_id"] for r in reports.values()}
    # Whoever waits for a table is told which version, and what has become of how many rows.
    version = reports["featurize"]["tables"]["gold.customer_features"]["version_written"]
    assert told["gold.customer_features"]["version_written"] == version
    assert told["silver.transactions"]["inserted"] == reports["merge"]["tables"]["silver.transactions"]["inserted"]


def test_on_a_spark_connect_server_that_stays(landing: Path, tmp_path: Path) -> None:
    with ConnectServer(tmp_path / "spark") as spark:
        connection = {"conn_type": "spark_connect", "host": "127.0.0.1", "port": spark.port}
        settings = airflow_environment(
            tmp_path,
            LAKEHOUSE_BACKEND="connect",
            AIRFLOW_CONN_LAKEHOUSE_SPARK=json.dumps(connection),
            LAKEHOUSE_LANDING=str(landing),
        )
        with Airflow(tmp_path / "airflow", settings) as airflow:
            airflow.wait_for("medallion_batch")
            outcome, reports = airflow.run("medallion_batch", {"as_of": AS_OF, "sources": ["shop"]})
    assert_right(outcome, reports, tmp_path / "warehouse")
    assert len({r["warehouse_id"] for r in reports.values()}) == 1
    # One Spark for all of them.
    assert len({r["application_id"] for r in reports.values()}) == 1


def test_on_databricks_through_spark_connect_with_the_tables_of_a_catalog(landing: Path, tmp_path: Path) -> None:
    home, root = tmp_path / "airflow", tmp_path / "root"
    volume = root / "Volumes/main/lakehouse"
    volume.mkdir(parents=True)
    (root / "Workspace").mkdir()
    (root / "Workspace/lakehouse").symlink_to(ROOT)
    (volume / "landing").symlink_to(landing)
    with (
        ConnectServer(tmp_path / "spark") as spark,
        Databricks(root, "a secret token", process_environment(spark.url)) as workspace,
    ):
        settings = airflow_environment(
            tmp_path,
            LAKEHOUSE_BACKEND="databricks",
            AIRFLOW_CONN_DATABRICKS_DEFAULT=workspace.connection,
            LAKEHOUSE_WAREHOUSE="catalog:spark_catalog",
            LAKEHOUSE_LANDING="/Volumes/main/lakehouse/landing",
            LAKEHOUSE_REPORTS="/Volumes/main/lakehouse/reports",
            LAKEHOUSE_JOBS="/Workspace/lakehouse/spark_jobs",
            LAKEHOUSE_CONTRACTS="/Workspace/lakehouse/contracts",
            LAKEHOUSE_SOURCES="/Workspace/lakehouse/sources",
            LAKEHOUSE_DATABRICKS_WHEEL="/Volumes/main/lakehouse/lakehouse.whl",
        )
        with Airflow(home, settings) as airflow:
            airflow.wait_for("medallion_batch")
            outcome, reports = airflow.run("medallion_batch", {"as_of": AS_OF, "sources": ["shop"]})
        logs = "\n".join(run.log for run in workspace.runs.values())
        if outcome != "success":
            print(logs[-6000:])
        requests = [run.request for run in workspace.runs.values()]
    assert [r["tasks"][0]["task_key"] for r in requests] == STAGES
    (identity,) = {r["warehouse_id"] for r in reports.values()}
    assert identity
    # The tables of a catalog lie in folders <schema>.db.
    for layer in ("silver", "gold", "quarantine", "ops", "bronze", "staged"):
        (tmp_path / "warehouse").mkdir(exist_ok=True)
        (tmp_path / "warehouse" / layer).symlink_to(tmp_path / "spark/tables" / f"{layer}.db")
    assert_right(outcome, reports, tmp_path / "warehouse")
    written = "\n".join(
        f.read_text(errors="replace") for f in [*home.rglob("*.log"), *volume.rglob("*.json")] if f.is_file()
    )
    assert "a secret token" not in written + json.dumps(requests) + json.dumps(reports)
