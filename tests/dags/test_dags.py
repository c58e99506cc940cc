"""Integrity of the DAGs: they load, obey the house's policy, tell who is to be told, and run the stages in order."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
from dag_names import COMPUTE, DAGS, STAGES
from lakehouse.errors import ConfigurationError
from lakehouse.odcs import load_contracts
from lakehouse_airflow.alerts import LogNotifier
from lakehouse_airflow.connect import ConnectStageOperator
from lakehouse_airflow.databricks import DatabricksStageOperator
from lakehouse_airflow.outcome import TABLES
from lakehouse_airflow.session import SessionStageOperator
from lakehouse_airflow.spark import SparkStageOperator
from support import ROOT


def test_the_dags_are_there_and_none_fails_to_import(bag: DagBag) -> None:
    assert set(bag.dags) == DAGS
    assert bag.import_errors == {}


def test_parsing_is_light_and_quick() -> None:
    """In a fresh interpreter: no heavy library comes in, and a file costs a fifth of what Airflow does, at most."""
    program = """
import importlib.util, sys, time
import airflow.sdk, airflow.providers.apache.spark.operators.spark_submit
from airflow.dag_processing.dagbag import DagBag
loaded = begin = time.process_time()
for file in sys.argv[1:]:
    spec = importlib.util.spec_from_file_location("dag", file)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    heavy = {m.partition(".")[0] for m in sys.modules} & {"pyspark", "delta", "pandas", "pyarrow", "deltalake", "duckdb", "lakehouse"}
    print("DAG", file, (time.process_time() - begin) / loaded, *heavy)
    begin = time.process_time()
"""
    files = sorted(map(str, (ROOT / "dags").glob("*.py")))
    done = subprocess.run(
        [sys.executable, "-c", program, *files],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'dags'}:{ROOT / 'plugins'}"},
    )
    assert done.returncode == 0, done.stderr
    told = [line.split() for line in done.stdout.splitlines() if line.startswith("DAG ")]
    assert [file for _, file, *_ in told] == files
    for _, file, share, *heavy in told:
        assert heavy == [], f"{file} imports {heavy}"
        assert float(share) < 0.2, f"{file} takes {share} of the time that Airflow takes"


def test_policy(bag: DagBag) -> None:
    for dag in bag.dags.values():
        assert dag.doc_md, f"{dag.dag_id} has no runbook"
        assert dag.doc_md.startswith(f"# {dag.dag_id}")
        assert dag.tags
        assert dag.catchup is False
        assert dag.max_active_runs == 1
        for task in dag.tasks:
            assert task.owner == "data-platform"
            assert timedelta(0) < (task.execution_timeout or timedelta(0)) <= timedelta(hours=12)
            # The watchdog changes no table, and comes again in five minutes.
            looks_only = dag.dag_id == "stream_watchdog"
            assert (task.retries >= 1) is not looks_only
            # Nor does the end of a run's Spark, which is not to wait for the stages of other DAGs.
            assert (task.pool == "lakehouse") is not (looks_only or task.is_teardown)
            (told,) = task.on_failure_callback
            assert isinstance(told, LogNotifier)


def test_a_run_that_is_later_than_the_features_may_be_old_is_told(batch) -> None:  # type: ignore[no-untyped-def]
    (alert,) = batch.deadline
    assert alert.interval == timedelta(days=1)
    assert alert.callback.path == "lakehouse_airflow.alerts.LogNotifier"


def test_another_notifier_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_NOTIFIER", "airflow.providers.smtp.notifications.smtp.SmtpNotifier")
    monkeypatch.setenv("LAKEHOUSE_NOTIFIER_ARGUMENTS", '{"to": "data@shop.example", "subject": "{{ dag_run.dag_id }}"}')
    dag = DagBag(str(ROOT / "dags/medallion_batch.py")).dags["medallion_batch"]
    (told,) = dag.get_task("merge").on_failure_callback
    assert (type(told).__name__, told.to, told.subject) == ("SmtpNotifier", "data@shop.example", "{{ dag_run.dag_id }}")
    (alert,) = dag.deadline
    assert alert.callback.path == "airflow.providers.smtp.notifications.smtp.SmtpNotifier"
    assert alert.callback.kwargs == {"to": "data@shop.example", "subject": "{{ dag_run.dag_id }}"}


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ("slaProperties: [{property: retention, value: 9, unit: d}, {property: freshness, value: 6, unit: h}]", timedelta(hours=6)),
        *[
            (f"slaProperties: [{{property: freshness, value: 2, unit: {unit}}}]", 2 * span)
            for span, units in {
                timedelta(minutes=1): ("m", "min", "minute", "minutes"),
                timedelta(hours=1): ("h", "hr", "hour", "hours"),
                timedelta(days=1): ("d", "day", "days", "Days"),
                timedelta(weeks=1): ("w", "week", "weeks"),
                timedelta(days=365): ("y", "yr", "year", "years"),
            }.items()
            for unit in units
        ],
        ("slaProperties: [{property: freshness, value: '1.5', unit: h}]", timedelta(minutes=90)),
        ("slaProperties: [{property: freshness, value: 30, unit: moons}]", None),
        ("slaProperties: [{property: freshness, value: soon, unit: d}]", None),
        ("slaProperties: {", None),
        ("[]", None),
        ("slaProperties: []", None),
        ("id: x", None),
    ],
)  # fmt: skip
def test_the_freshness_of_a_contract(tmp_path: Path, levels: str, expected: timedelta | None) -> None:
    from lakehouse_dags.alerts import freshness

    (tmp_path / "c.yaml").write_text(levels)
    assert freshness(tmp_path / "c.yaml") == expected
    assert freshness(tmp_path / "none.yaml") is None


@pytest.mark.parametrize("unit", ["d", "day", "days", "h", "hour", "hours", "m", "minutes", "moons"])
def test_a_unit_of_freshness_that_the_stages_accept_breaks_no_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    folder = tmp_path / "contracts"
    shutil.copytree(ROOT / "contracts", folder)
    contract = folder / "customer_features.odcs.yaml"
    model = yaml.safe_load(contract.read_text())
    model["slaProperties"] = [{"property": "freshness", "value": 3, "unit": unit}]
    contract.write_text(yaml.safe_dump(model))
    monkeypatch.setenv("LAKEHOUSE_CONTRACTS", str(folder))
    bag = DagBag(str(ROOT / "dags/medallion_batch.py"))
    assert bag.import_errors == {}
    alerts = bag.dags["medallion_batch"].deadline or []
    if unit == "moons":
        assert alerts == []
        with pytest.raises(
            ConfigurationError,
            match=r"customer_features[.]odcs[.]yaml: slaProperties: freshness has the unit 'moons'; use one of m, min",
        ):
            load_contracts(folder)
    else:
        assert timedelta(hours=load_contracts(folder)["customer_features"].freshness_hours or 0) == alerts[0].interval


def test_the_batch_runs_the_stages_in_order(batch, backend: str) -> None:  # type: ignore[no-untyped-def]
    around = ["start_spark"] if backend == "session" else []
    assert [t.task_id for t in batch.topological_sort() if not t.is_teardown] == [*around, *STAGES]
    for before, after in pairwise([*around, *STAGES]):
        assert batch.get_task(after).upstream_task_ids == {before}
    kinds = {"databricks": DatabricksStageOperator, "connect": ConnectStageOperator, "session": SessionStageOperator}
    for stage in STAGES:
        task = batch.get_task(stage)
        assert isinstance(task, kinds.get(backend, SparkStageOperator))
        # Who waits for a table is told of rows, not of files.
        assert task.outlets == ([] if task.task_id == "optimize" else [TABLES])
        if isinstance(task, SparkStageOperator):
            assert task.on_cluster is (backend == "cluster")
        elif isinstance(task, DatabricksStageOperator):
            assert (task.compute, task.deferrable) == (COMPUTE, True)


def test_serialisation_round_trip(bag: DagBag) -> None:
    for dag in bag.dags.values():
        data = DagSerialization.to_dict(dag)
        again = DagSerialization.from_dict(data)
        assert set(again.task_dict) == set(dag.task_dict)
        assert dict(again.params) == dict(dag.params)
        assert {t: again.task_dict[t].downstream_task_ids for t in again.task_dict} == {
            t: dag.task_dict[t].downstream_task_ids for t in dag.task_dict
        }


def look(dag, **params: Any) -> list[str]:  # type: ignore[no-untyped-def]
    task = dag.get_task("look")
    defaults = {k: dag.params[k] for k in dag.params}
    return task.python_callable(*task.op_args, params=defaults | params)


def test_the_watchdog_fails_with_what_is_wrong_and_restarts_when_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    from airflow.sdk.exceptions import AirflowFailException
    from deltalake import write_deltalake

    monkeypatch.setenv("LAKEHOUSE_WAREHOUSE", str(tmp_path))
    monkeypatch.setenv("LAKEHOUSE_STREAM_RESTART", f"touch {tmp_path}/restarted")
    dag = DagBag(str(ROOT / "dags/stream_watchdog.py")).dags["stream_watchdog"]
    assert dag.schedule == "*/5 * * * *"
    with pytest.raises(AirflowFailException, match="no stream has run on it"):
        look(dag)
    now = datetime.now(UTC)
    beat = {"at": now, "run_id": "r", "input": "orders", "state": "running", "error": "", "lag": 5}
    beat |= {"last_commit": now, "merged_until": now}
    write_deltalake(str(tmp_path / "ops/stream"), pa.Table.from_pylist([beat]))
    assert look(dag) == []
    with pytest.raises(AirflowFailException, match="orders is 5 messages behind"):
        look(dag, lag=4, restart=True)
    assert not (tmp_path / "restarted").exists()
    with pytest.raises(AirflowFailException, match="no heartbeat since") as told:
        look(dag, silence=1e-9)
    assert not (tmp_path / "restarted").exists()
    with pytest.raises(AirflowFailException, match=r"no heartbeat since .* ended with 0"):
        look(dag, silence=1e-9, restart=True)
    assert (tmp_path / "restarted").exists()
    assert "restart" not in str(told.value)
