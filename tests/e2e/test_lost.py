"""What a batch runs on is lost in the middle of it, one part after the other; then the result is right, and nothing is left."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import oracle
import psutil
import pytest
from airflow_server import Airflow
from shell import Shell
from spark_cluster import SparkCluster, kill
from support import airflow_environment

pytestmark = pytest.mark.long

STAGES = ["ingest", "validate", "merge", "featurize", "optimize"]
AS_OF = "2026-03-05"


def of_stage(reports: Path, stage: str) -> list[psutil.Process]:
    """The processes of a stage, the outermost first: spark-submit, which becomes the JVM, and Python."""
    found = []
    for process in psutil.process_iter():
        try:
            mark = process.environ().get("LAKEHOUSE_TASK", "")
            if mark.startswith(str(reports)) and mark.endswith(f"/{stage}.json"):
                found.append(process)
        except psutil.Error:
            continue
    return sorted(found, key=lambda p: p.create_time())


class Misfortune(threading.Thread):
    """Kills -9 one thing a stage, some seconds after its application has come to the cluster."""

    def __init__(self, cluster: SparkCluster, reports: Path) -> None:
        super().__init__(daemon=True)
        self.cluster, self.reports = cluster, reports
        self.done: list[str] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._at("ingest", self.airflow_worker)
            self._at("validate", self.driver)
            self._at("merge", self.spark_worker)
            self._at("featurize", self.master)
        except BaseException as error:
            self.error = error

    def _at(self, stage: str, strike: Any, seconds: float = 900) -> None:
        deadline = time.monotonic() + seconds
        while not any(a["name"].endswith(stage) for a in self.cluster.state()["activeapps"]):
            assert time.monotonic() < deadline, f"{stage} has not come"
            time.sleep(0.5)
        time.sleep(8)
        strike(of_stage(self.reports, stage))
        self.done.append(stage)

    def airflow_worker(self, processes: list[psutil.Process]) -> None:
        """The task and who watches over it; Spark goes on without them."""
        task = processes[0].parent()
        for process in (task.parent(), task):
            process.kill()
        assert processes[0].is_running()

    def driver(self, processes: list[psutil.Process]) -> None:
        for process in processes:
            process.kill()

    def spark_worker(self, processes: list[psutil.Process]) -> None:
        kill(self.cluster.workers[0])

    def master(self, processes: list[psutil.Process]) -> None:
        kill(self.cluster.master)
        time.sleep(20)
        self.cluster.master = self.cluster.start_master()


def test_worker_driver_spark_worker_and_master_are_killed_in_turn(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.ok("generate", "--landing", str(shell.landing), "--rows", "1000", "--days", "4", "--start", "2026-03-01")
    home, reports = tmp_path / "airflow", tmp_path / "reports"
    with SparkCluster(tmp_path / "cluster") as cluster:
        settings = airflow_environment(
            tmp_path, LAKEHOUSE_BACKEND="cluster", AIRFLOW_CONN_LAKEHOUSE_SPARK=cluster.connection
        )
        settings |= {"AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20"}
        settings |= {"AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5"}
        with Airflow(home, settings) as airflow:
            airflow.wait_for("medallion_batch")
            misfortune = Misfortune(cluster, reports)
            misfortune.start()
            outcome, result = airflow.run("medallion_batch", {"as_of": AS_OF, "sources": ["shop"]})
            (run,) = airflow.call("GET", "/dags/medallion_batch/dagRuns")["dag_runs"]
            tasks = airflow.call("GET", f"/dags/medallion_batch/dagRuns/{run['dag_run_id']}/taskInstances")
        assert (misfortune.error, misfortune.done) == (None, ["ingest", "validate", "merge", "featurize"])
        assert outcome == "success"
        assert {r["status"] for r in result.values()} == {"done"}
        tries = {t["task_id"]: t["try_number"] for t in tasks["task_instances"]}
        assert tries["ingest"] > 1
        assert tries["validate"] > 1
        assert cluster.state()["activeapps"] == []
    assert [p for stage in STAGES for p in of_stage(reports, stage)] == []
    # A lease that nobody holds has the time of its release taken from it.
    leases = {f.name: f.stat().st_mtime for f in (tmp_path / "leases").iterdir() if "." not in f.name}
    assert leases == dict.fromkeys(["ingest", "validate", "merge", "featurize"], 0)
    assert oracle.differences(oracle.connect(shell.warehouse), AS_OF) == {}


def test_marking_a_task_failed_ends_every_process_within_ten_seconds(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.ok("generate", "--landing", str(shell.landing), "--rows", "1000", "--days", "4", "--start", "2026-03-01")
    home, reports = tmp_path / "airflow", tmp_path / "reports"
    settings = airflow_environment(tmp_path)
    told: dict[str, Any] = {}

    def mark_failed(airflow: Airflow) -> None:
        while not (there := of_stage(reports, "ingest")):
            time.sleep(0.5)
        time.sleep(8)
        (run,) = airflow.call("GET", "/dags/medallion_batch/dagRuns")["dag_runs"]
        path = f"/dags/medallion_batch/dagRuns/{run['dag_run_id']}/taskInstances/ingest"
        airflow.call("PATCH", path, {"new_state": "failed"})
        begin = time.monotonic()
        while of_stage(reports, "ingest") and time.monotonic() - begin < 60:
            time.sleep(0.2)
        told.update(seconds=time.monotonic() - begin, processes=len(there))

    with Airflow(home, settings) as airflow:
        airflow.wait_for("medallion_batch")
        marking = threading.Thread(target=mark_failed, args=(airflow,), daemon=True)
        marking.start()
        outcome, _ = airflow.run("medallion_batch", {"as_of": AS_OF, "sources": ["shop"]})
        marking.join(timeout=90)
    assert outcome == "failed"
    assert told["processes"] >= 2
    assert told["seconds"] < 10
    assert (tmp_path / "leases/ingest").stat().st_mtime == 0 or not of_stage(reports, "ingest")
