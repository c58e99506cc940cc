"""Plans of runs that are at work at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lakehouse.errors import TryAgain
from lakehouse.runtime.progress import Progress, Work
from pipeline import Pipeline
from pyspark.sql import SparkSession

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def pipeline(spark: SparkSession, tmp_path: Path) -> Pipeline:
    return Pipeline(spark, tmp_path)


def progress(pipeline: Pipeline) -> Progress:
    """What a run of its own knows now."""
    return Progress(pipeline.context("ingest").warehouse, "ingest", "run", NOW)


def test_runs_with_other_units_plan_beside_each_other(pipeline: Pipeline) -> None:
    first, second = progress(pipeline), progress(pipeline)
    assert [b.batch_id for b in first.plan([Work("files"), Work("more")])] == [1, 2]
    # The second one knew of no batch when it began.
    assert [b.batch_id for b in second.plan([Work("orders")])] == [3]
    assert [b.batch_id for b in first.plan([Work("files")])] == [4]
    assert [(b.batch_id, b.unit) for b in progress(pipeline).batches()] == [
        (1, "files"),
        (2, "more"),
        (3, "orders"),
        (4, "files"),
    ]


def test_of_two_runs_with_one_unit_the_second_is_told_to_try_again(pipeline: Pipeline) -> None:
    first, second = progress(pipeline), progress(pipeline)
    first.plan([Work("files")])
    with pytest.raises(TryAgain, match="another run of ingest is at work"):
        second.plan([Work("other"), Work("files")])
    assert [(b.batch_id, b.unit) for b in progress(pipeline).batches()] == [(1, "files")]


def test_plans_at_the_same_moment_have_numbers_of_their_own(pipeline: Pipeline) -> None:
    progress(pipeline).plan([Work("before")])
    runs = [(progress(pipeline), f"unit{n}") for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        plans = list(pool.map(lambda run: [run[0].plan([Work(run[1])])[0].batch_id for _ in range(2)], runs))
    assert sorted(n for plan in plans for n in plan) == list(range(2, 10))
