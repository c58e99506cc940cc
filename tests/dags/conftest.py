"""The DAGs as each backend has them."""

from __future__ import annotations

import json

import airflow_environment  # noqa: F401
import pytest
from airflow.dag_processing.dagbag import DagBag
from dag_names import COMPUTE
from support import ROOT


@pytest.fixture(scope="module", params=["local", "session", "connect", "cluster", "databricks"])
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
