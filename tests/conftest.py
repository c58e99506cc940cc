"""Fixtures that every layer shares. Only the spark and e2e layers start a JVM."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

os.environ["TZ"] = "UTC"
time.tzset()


@pytest.fixture(scope="session")
def spark() -> Iterator[object]:
    """One session for all tests of the spark layer."""
    from lakehouse.session import build_session

    os.environ["PYSPARK_SUBMIT_ARGS"] = (
        "--master local[2] --conf spark.databricks.delta.snapshotPartitions=2 "
        "--conf spark.sql.shuffle.partitions=2 pyspark-shell"
    )
    with pytest.MonkeyPatch.context() as environment:
        # Small frames of many shapes: Java would compile plans, and their rows take no time.
        environment.setenv("LAKEHOUSE_WORK", "little")
        session = build_session("tests")
    yield session
    session.stop()
