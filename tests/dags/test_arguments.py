"""What the DAGs call: real scripts, with arguments that these accept, of parameters that may be what they are."""

from __future__ import annotations

import dataclasses
import importlib.util
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.definitions.param import process_params
from airflow.sdk.exceptions import ParamValidationError
from dag_names import DAGS, STAGES
from lakehouse import options
from lakehouse_airflow.databricks import DatabricksStageOperator
from support import ROOT


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


OPTIONS: dict[str, type] = {
    "ingest": options.Ingest,
    "validate": options.Validate,
    "merge": options.Merge,
    "featurize": options.Featurize,
    "optimize": options.Optimize,
    "replay": options.Replay,
    "training_set": options.TrainingSet,
}


def taken(stage: str, argv: list[str]) -> Any:
    """Arguments as the real script takes them: it makes the stage's options of them."""
    args = script(stage).build_parser().parse_args(argv)
    kind = OPTIONS[stage]
    options.parsed(kind, {f.name: getattr(args, f.name) for f in dataclasses.fields(kind)})
    return args


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
    args = taken(stage, task.application_args)
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
    args = taken("replay", task.application_args)
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
    taken(stage, task.application_args)


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


def test_a_run_of_stages_has_a_spark_of_its_own_that_ends_whatever_happens(bag: DagBag, backend: str) -> None:
    for dag in bag.dags.values():
        stages = [t for t in dag.tasks if hasattr(t, "report_path")]
        around = {t.task_id for t in dag.tasks if t.is_setup or t.is_teardown}
        assert around == ({"start_spark", "stop_spark"} if backend == "session" and stages else set())
        if not around:
            continue
        start, stop = dag.get_task("start_spark"), dag.get_task("stop_spark")
        assert (start.is_setup, stop.is_teardown, stop.trigger_rule) == (True, True, "all_done_setup_success")
        # Its failure is told, but what the stages have done stands.
        assert stop.on_failure_fail_dagrun is False
        assert start.upstream_task_ids == set()
        assert stop.downstream_task_ids == set()
        assert set(dag.task_ids) == {t.task_id for t in start.get_flat_relatives()} | {"start_spark"}
        own = rendered(dag, "start_spark", {}, END)
        for task in (own, rendered(dag, "stop_spark", {}, END), *(rendered(dag, t.task_id, {}, END) for t in stages)):
            assert task.server_folder == str(ROOT / f"var/sessions/{dag.dag_id}/manual__2026")
        assert own.server_log == str(ROOT / f"var/reports/{dag.dag_id}/manual__2026/spark.log")
