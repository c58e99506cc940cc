"""The bundle: Databricks' own classes know every field of its jobs, and the scripts take what they are given."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml
from databricks.sdk.service import jobs
from support import ROOT

FILE = ROOT / "conf/databricks/databricks.yml"
BUNDLE: dict[str, Any] = yaml.safe_load(FILE.read_text())
JOBS: dict[str, dict[str, Any]] = BUNDLE["resources"]["jobs"]
TASKS = [pytest.param(task, id=f"{name}-{task['task_key']}") for name, job in JOBS.items() for task in job["tasks"]]


def parser(script: Path) -> argparse.ArgumentParser:
    spec = importlib.util.spec_from_file_location(f"bundle_{script.stem}", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.build_parser()


@pytest.mark.parametrize("name", JOBS)
def test_databricks_knows_every_field_of_the_job(name: str) -> None:
    assert jobs.JobSettings.from_dict(JOBS[name]).as_dict() == JOBS[name]


@pytest.mark.parametrize("task", TASKS)
def test_the_real_script_takes_its_arguments(task: dict[str, Any]) -> None:
    python = task["spark_python_task"]
    args = parser((FILE.parent / python["python_file"]).resolve()).parse_args(python["parameters"])
    assert args.warehouse == "catalog:${var.catalog}"
    assert args.report.endswith("/{{job.run_id}}/{{task.name}}.json")


def test_the_batch_is_the_one_of_airflow() -> None:
    batch = JOBS["medallion_batch"]["tasks"]
    assert [t["task_key"] for t in batch] == ["ingest", "validate", "merge", "featurize", "optimize"]
    after = {t["task_key"]: [d["task_key"] for d in t.get("depends_on", [])] for t in batch}
    assert after == {"ingest": [], "validate": ["ingest"], "merge": ["validate"], "featurize": ["merge"], "optimize": ["featurize"]}  # fmt: skip
    assert {t["environment_key"] for t in batch} == {
        e["environment_key"] for e in JOBS["medallion_batch"]["environments"]
    }


def test_what_is_deployed_is_there() -> None:
    for path in [*BUNDLE["sync"]["paths"], BUNDLE["artifacts"]["lakehouse"]["path"]]:
        assert (FILE.parent / path).is_dir()
