"""The batch in a real Airflow with a Spark of its own: one server for all stages, which dies on the way, and none afterwards."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import oracle
import psutil
import pytest
from airflow_server import Airflow
from pyspark.sql.connect.proto import base_pb2, base_pb2_grpc
from support import airflow_environment, processes_with

pytestmark = pytest.mark.long

STAGES = ["ingest", "validate", "merge", "featurize", "optimize"]
AS_OF = "2026-03-05"
FILES = {
    "customers/c.csv": [
        "CustomerID,Name,Email,RegistrationDate,CustomerType,Country,LastActiveDate,UpdatedAt,op",
        "C1,Ada,ada@shop.example,2026-01-01T00:00:00Z,regular,DE,2026-03-01T00:00:00Z,2026-03-01T00:00:00Z,",
        "C2,Bo,bo@shop.example,2026-02-01T00:00:00Z,premium,DE,2026-03-01T00:00:00Z,2026-03-01T00:00:00Z,",
    ],
    "products/p.csv": [
        "ProductID,Category,Price,StockAvailability,UpdatedAt,op",
        "P1,Toys,9.50,3,2026-03-01T00:00:00Z,",
        "P2,Books,5.00,3,2026-03-01T00:00:00Z,",
    ],
    "transactions/t.csv": [
        "TransactionID,OrderID,CustomerID,ProductID,Date,Amount,PaymentMethod,TransactionStatus,UpdatedAt,op",
        "T1,O1,C1,P1,2026-03-01T10:00:00Z,9.50,paypal,Completed,2026-03-01T10:00:00Z,",
        "T2,O2,C1,P2,2026-03-02T10:00:00Z,5.00,paypal,Completed,2026-03-02T10:00:00Z,",
        "T3,O3,C2,P2,2026-03-03T10:00:00Z,5.00,paypal,Completed,2026-03-03T10:00:00Z,",
    ],
    "interactions/i.json": [
        '{"InteractionID": "I1", "CustomerID": "C1", "InteractionType": "view", "Timestamp": "2026-03-01T09:00:00Z", '
        '"Page": "/product/P1", "Source": "web"}'
    ],
}


class Shop:
    """An Airflow of the backend ``session``, and a few rows that are delivered to it."""

    def __init__(self, folder: Path) -> None:
        self.sessions = folder / "sessions/medallion_batch"
        for name, lines in FILES.items():
            file = folder / "landing/shop" / name
            file.parent.mkdir(parents=True)
            file.write_text("\n".join(lines) + "\n")
        self.settings = airflow_environment(folder, LAKEHOUSE_BACKEND="session")

    def server(self, run: str) -> dict[str, Any] | None:
        """Where a run's server is; None while it is not there."""
        try:
            return json.loads((self.sessions / run / "server.json").read_text())
        except FileNotFoundError:
            return None

    def asked(self, run: str) -> dict[str, Any] | None:
        """A run's server, once a stage talks to it."""
        server = self.server(run)
        if server is None:
            return None
        doors = psutil.Process(server["pid"]).net_connections("tcp")
        return server if any(d.laddr.port == server["port"] and d.status == "ESTABLISHED" for d in doors) else None


def tasks(airflow: Airflow, run: str) -> dict[str, dict[str, Any]]:
    found = airflow.call("GET", f"/dags/medallion_batch/dagRuns/{run}/taskInstances")["task_instances"]
    return {task["task_id"]: task for task in found}


def wait(moment: Callable[[], Any], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := moment()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)
    return found


def refused(port: int) -> str:
    """What the server answers to one who has no token."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as error:
        base_pb2_grpc.SparkConnectServiceStub(channel).Config(base_pb2.ConfigRequest(session_id="x"), timeout=20)
    return error.value.code().name


def test_one_spark_for_a_run_which_is_started_anew_when_it_dies_and_ends_with_the_run(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    with Airflow(tmp_path / "airflow", shop.settings) as airflow:
        airflow.wait_for("medallion_batch")
        run = airflow.trigger("medallion_batch", {"as_of": AS_OF, "sources": ["shop"]})
        first = wait(lambda: shop.server(run))
        assert refused(first["port"]) == "UNAUTHENTICATED"
        tokens = [(shop.sessions / run / "token").read_text()]
        wait(lambda: tasks(airflow, run)["validate"]["state"] == "running" and shop.asked(run))
        os.kill(first["pid"], signal.SIGKILL)
        outcome, reports = airflow.follow("medallion_batch", run)
        tries = {name: task["try_number"] for name, task in tasks(airflow, run).items()}
        assert (outcome, processes_with(str(shop.sessions))) == ("success", [])

        # A run that somebody ends has nobody who would attach any more.
        another = airflow.trigger("medallion_batch", {"as_of": AS_OF, "sources": ["shop"]})
        wait(lambda: shop.server(another))
        tokens.append((shop.sessions / another / "token").read_text())
        airflow.call("PATCH", f"/dags/medallion_batch/dagRuns/{another}", {"state": "failed"})
        wait(lambda: tasks(airflow, another)["stop_spark"]["state"] == "success")
        assert processes_with(str(shop.sessions)) == []
    assert tries == dict.fromkeys(["start_spark", *STAGES, "stop_spark"], 1) | {"validate": 2}
    assert {reports[stage]["status"] for stage in STAGES} == {"done"}
    applications = [reports[stage]["application_id"] for stage in STAGES if reports[stage]["application_id"]]
    assert len(set(applications)) == 2, applications
    assert reports["merge"]["tables"]["silver.transactions"]["inserted"] == 3
    assert oracle.differences(oracle.connect(tmp_path / "warehouse"), AS_OF) == {}
    assert list(shop.sessions.rglob("*.json")) == []
    written = [f.read_bytes() for f in tmp_path.rglob("*") if f.is_file() and f.suffix not in (".parquet", ".crc")]
    assert len(tokens) == 2
    for token in tokens:
        assert len(token) > 40
        assert not any(token.encode() in content for content in written)
