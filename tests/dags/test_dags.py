"""Integrity of the DAGs: they load, obey the house's policy, render, and call real scripts with arguments these accept."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.definitions.param import process_params
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization
from lakehouse.errors import ConfigurationError
from lakehouse.odcs import load_contracts
from lakehouse_airflow.alerts import LogNotifier
from lakehouse_airflow.connect import ConnectStageOperator
from lakehouse_airflow.databricks import DatabricksStageOperator
from lakehouse_airflow.outcome import TABLES
from lakehouse_airflow.spark import SparkStageOperator
from support import ROOT

DAGS = {
    *("medallion_batch", "quarantine_replay", "rebuild_features", "stream_watchdog"),
    *("table_maintenance", "training_set"),
}
STAGES = ["ingest", "validate", "merge", "featurize", "optimize"]


COMPUTE = {"existing_cluster_id": "0123-456789-abc"}


@pytest.fixture(scope="module", params=["local", "cluster", "connect", "databricks"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def bag(backend: str) -> DagBag:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LAKEHOUSE_BACKEND", backend)
        environment.setenv("LAKEHOUSE_DATABRICKS_COMPUTE", json.dumps(COMPUTE))
        return DagBag(str(ROOT / "dags"))


@pytest.fixture(scope="module")
def batch(bag: DagBag):  # type: ignore[no-untyped-def]
    return bag.dags["medallion_batch"]


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
            assert (task.retries >= 1, task.pool == "lakehouse") == (not looks_only, not looks_only)
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
    assert [t.task_id for t in batch.topological_sort()] == STAGES
    for before, after in pairwise(STAGES):
        assert batch.get_task(after).upstream_task_ids == {before}
    kind = {"databricks": DatabricksStageOperator, "connect": ConnectStageOperator}.get(backend, SparkStageOperator)
    for task in batch.tasks:
        assert isinstance(task, kind)
        # Who waits for a table is told of rows, not of files.
        assert task.outlets == ([] if task.task_id == "optimize" else [TABLES])
        if isinstance(task, SparkStageOperator):
            assert task.on_cluster is (backend == "cluster")
        elif isinstance(task, DatabricksStageOperator):
            assert (task.compute, task.deferrable) == (COMPUTE, True)


class Earlier:
    """A task whose earlier tasks have left reports, of which that of ``merge`` knows no warehouse."""

    def xcom_pull(self, task_ids: str) -> dict[str, Any] | None:
        return {"ingest": {"warehouse_id": "w-1"}, "merge": {"warehouse_id": None}}.get(task_ids)


def rendered(batch, task_id: str, params: dict, interval_end: datetime | None) -> Any:  # type: ignore[no-untyped-def, type-arg]
    task = batch.get_task(task_id).prepare_for_execution()
    assert not set(params) - set(batch.params)
    run = SimpleNamespace(
        data_interval_end=interval_end, run_after=datetime(2026, 3, 31, 4, 5, tzinfo=UTC), run_id="manual__2026"
    )
    defaults = {k: batch.params[k] for k in batch.params}
    context = {"dag": batch, "run_id": "manual__2026", "dag_run": run, "params": defaults | params, "ti": Earlier()}
    task.render_template_fields(context)
    return task


def common(task: Any, stage: str, dag: str = "medallion_batch") -> list[str]:
    """The arguments of every stage; a run of Databricks needs no lease, because its token keeps it alone."""
    shared = {"replay": "validate", "optimize": "merge"}
    lease = (
        []
        if isinstance(task, DatabricksStageOperator)
        else ["--lease", str(ROOT / f"var/leases/{shared.get(stage, stage)}")]
    )
    # That of merge has told of no warehouse, and replay and the DAGs of one stage follow none.
    told = "w-1" if (dag, stage) == ("medallion_batch", "validate") else ""
    follows = (dag, stage) == ("quarantine_replay", "merge") or (dag == "medallion_batch" and stage != "ingest")
    return [*COMMON, "--report", report(stage, dag), *(["--warehouse-id", told] if follows else []), *lease]


COMMON = [
    *("--warehouse", str(ROOT / "var/warehouse")),
    *("--contracts", str(ROOT / "contracts")),
    *("--sources", str(ROOT / "sources")),
    *("--run-id", "manual__2026"),
]


def report(stage: str, dag: str = "medallion_batch") -> str:
    return str(ROOT / f"var/reports/{dag}/manual__2026/{stage}.json")


END = datetime(2026, 3, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("stage", "params", "end", "own"),
    [
        ("ingest", {}, END, ["--landing", str(ROOT / "var/landing"), "--only", ""]),
        (
            "ingest",
            {"sources": ["shop", "otto"], "landing": "s3://raw/in"},
            END,
            ["--landing", "s3://raw/in", "--only", "shop,otto"],
        ),
        ("ingest", {"sources": None}, END, ["--landing", str(ROOT / "var/landing"), "--only", ""]),
        ("validate", {"sources": ["shop"]}, END, ["--only", "shop"]),
        ("merge", {"sources": ["shop"]}, END, []),
        ("featurize", {}, END, ["--as-of", "2026-03-31T00:00:00+00:00"]),
        ("featurize", {"as_of": ""}, END, ["--as-of", "2026-03-31T00:00:00+00:00"]),
        ("featurize", {}, None, ["--as-of", "2026-03-31T04:05:00+00:00"]),
        ("featurize", {"as_of": "2011-12-10"}, END, ["--as-of", "2011-12-10"]),
        ("optimize", {}, END, []),
    ],
)
def test_the_exact_argv_of_each_task_and_that_the_real_script_takes_it(batch, stage, params, end, own) -> None:  # type: ignore[no-untyped-def]
    task = rendered(batch, stage, params, end)
    assert task.application == str(ROOT / f"spark_jobs/{stage}.py")
    assert task.application_args == [*common(task, stage), *own]
    assert task.report_path == report(stage)
    args = script(stage).build_parser().parse_args(task.application_args)
    assert (args.warehouse, args.run_id, args.report) == (str(ROOT / "var/warehouse"), "manual__2026", report(stage))


EXCHANGE = ROOT / "var/exchange"
REPLAY_DEFAULTS = {
    "only": "",
    "action": "dry-run",
    "rule": "",
    "ids": "",
    "since": "",
    "until": "",
    "patch": "",
    "by": "",
    "reason": "",
}


@pytest.mark.parametrize(
    ("params", "own"),
    [
        ({}, {}),
        (
            {"entity": "products", "action": "replay", "rule": "cast:price", "patch": "in/patch.csv"},
            {"only": "products", "action": "replay", "rule": "cast:price", "patch": f"{EXCHANGE}/in/patch.csv"},
        ),
        (
            {"action": "discard", "ids": ["a", "b"], "since": "2026-03-01", "by": "ada; rm -rf /", "reason": '"test"'},
            {"action": "discard", "ids": "a,b", "since": "2026-03-01", "by": "ada; rm -rf /", "reason": '"test"'},
        ),
    ],
)
def test_the_exact_argv_of_a_replay(bag: DagBag, params: dict, own: dict) -> None:  # type: ignore[type-arg]
    dag = bag.dags["quarantine_replay"]
    assert dag.get_task("rows_came_back").upstream_task_ids == {"replay"}
    assert dag.get_task("merge").upstream_task_ids == {"rows_came_back"}
    action = (REPLAY_DEFAULTS | params)["action"]
    assert dag.get_task("rows_came_back").python_callable(params={"action": action}) is (action == "replay")
    task = rendered(dag, "replay", params, None)
    listed = [text for name, value in (REPLAY_DEFAULTS | own).items() for text in (f"--{name}", value)]
    assert task.application_args == [*common(task, "replay", "quarantine_replay"), *listed]
    args = script("replay").build_parser().parse_args(task.application_args)
    assert {name: getattr(args, name) for name in REPLAY_DEFAULTS} == REPLAY_DEFAULTS | own
    merge = rendered(dag, "merge", params, None)
    assert merge.application_args[-2:] == ["--only", params.get("entity", "")]


@pytest.mark.parametrize(
    ("dag", "stage", "params", "own"),
    [
        ("rebuild_features", "featurize", {}, ["--start", "2000-01-01", "--end", "2100-01-01", "--every", "", "--recompute", "auto"]),
        (
            "rebuild_features",
            "featurize",
            {"start": "2026-03-01", "end": "2026-03-08", "every": 7, "from_events": True},
            ["--start", "2026-03-01", "--end", "2026-03-08", "--every", "7", "--recompute", "all"],
        ),
        ("table_maintenance", "optimize", {}, ["--only", "", "--no-dry-run", "--vacuum", "--retain-hours", "168", "--budget", "120"]),
        (
            "table_maintenance",
            "optimize",
            {"tables": ["silver.customers", "orders"], "dry_run": True, "vacuum": False, "retain_hours": 400, "budget": 7.5},
            ["--only", "silver.customers,orders", "--dry-run", "--no-vacuum", "--retain-hours", "400", "--budget", "7.5"],
        ),
        (
            "training_set",
            "training_set",
            {},
            ["--name", "churn", "--cut-offs", "", "--horizon", "30", "--known-by", "cut-off", "--from-manifest", "", "--manifest", ""],
        ),
        (
            "training_set",
            "training_set",
            {"name": "clv", "cut_offs": ["2026-01-01", "2026-02-01"], "horizon": 90, "known_by": "now", "manifest": "m.json"},
            ["--name", "clv", "--cut-offs", "2026-01-01,2026-02-01", "--horizon", "90", "--known-by", "now", "--from-manifest", "", "--manifest", f"{EXCHANGE}/m.json"],
        ),
    ],
)  # fmt: skip
def test_the_exact_argv_of_what_is_run_by_hand(bag: DagBag, dag: str, stage: str, params: dict, own: list) -> None:  # type: ignore[type-arg]
    task = rendered(bag.dags[dag], stage, params, None)
    assert task.application == str(ROOT / f"spark_jobs/{stage}.py")
    assert task.application_args == [*common(task, stage, dag), *own]
    script(stage).build_parser().parse_args(task.application_args)


@pytest.mark.parametrize(
    ("dag", "name", "right", "wrong"),
    [
        ("medallion_batch", "as_of", [None, "", "2026-03-01"], [7]),
        ("medallion_batch", "sources", [None, [], ["shop"]], ["shop", [1]]),
        (
            "medallion_batch", "landing", [f"{ROOT}/var/landing", f"{ROOT}/var/landing/", f"{ROOT}/var/landing/old/2025"],
            [None, "", "/etc", f"{ROOT}/var/landing/../..", f"{ROOT}/var/landing/.x", f"{ROOT}/var/landing2", f"{ROOT}/varxlanding"],
        ),
        (
            "quarantine_replay", "patch", [None, "", "p.csv", "mended/2026-03.v2.csv"],
            ["/etc/passwd", "/p.csv", "../p.csv", "a/../../p.csv", "p", "m.json", ".csv", "a//p.csv", "~/p.csv", "s3://b/p.csv", "a\\p.csv"],
        ),
        ("training_set", "manifest", [None, "", "m.json"], ["/etc/cron.d/x.json", "../m.json", "p.csv", ".m.json", "m.json/x"]),
        ("training_set", "from_manifest", [None, "", "old/m.json"], ["/etc/passwd", "../m.json"]),
        *((dag, "places", [], [{}, None, {"warehouse": "/other"}, "places"]) for dag in sorted(DAGS)),
    ],
)  # fmt: skip
def test_what_a_parameter_may_be(bag: DagBag, dag: str, name: str, right: list[object], wrong: list[object]) -> None:
    param = bag.dags[dag].params.get_param(name)
    for value in (param.value, *right):
        assert param.resolve(value) == value
    for value in wrong:
        with pytest.raises(ParamValidationError):
            param.resolve(value)


def test_a_run_that_was_made_for_other_places_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the settings of the worker that picks it up, whichever Airflow has made it."""
    monkeypatch.setenv("LAKEHOUSE_WAREHOUSE", "/data/one")
    made = {"places": DagBag(str(ROOT / "dags/medallion_batch.py")).dags["medallion_batch"].params["places"]}
    monkeypatch.setenv("LAKEHOUSE_WAREHOUSE", "/data/another")
    dag = DagBag(str(ROOT / "dags/medallion_batch.py")).dags["medallion_batch"]
    with pytest.raises(ParamValidationError, match=r"Invalid input for param places: \{'warehouse': '/data/another'"):
        process_params(dag, dag.get_task("merge"), made, suppress_exception=False)
    own = process_params(dag, dag.get_task("merge"), {"places": dag.params["places"]}, suppress_exception=False)
    assert own["places"]["warehouse"] == "/data/another"


def script(stage: str):  # type: ignore[no-untyped-def]
    spec = importlib.util.spec_from_file_location(f"script_{stage}", ROOT / f"spark_jobs/{stage}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_template_renders_to_plain_text(batch) -> None:  # type: ignore[no-untyped-def]
    for stage in STAGES:
        task = rendered(batch, stage, {}, END)
        for text in (task.application, task.report_path, *task.application_args):
            assert "{" not in text


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
