"""What a small day may cost: Spark SQL executions of each stage, which no machine changes. See benchmarks/executions.py."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from lakehouse.report import RunReport
from lakehouse.synthetic.shop import Scale
from lakehouse.synthetic.stage import generate
from pipeline import Pipeline
from pyspark.sql import SparkSession
from support import ROOT

START, DAYS, HELD = date(2026, 3, 1), 30, 3
FIRST_HELD = START + timedelta(days=DAYS - HELD)
STAGES = ("ingest", "validate", "merge", "featurize")
FIRST_LOAD = {"ingest": 30, "validate": 55, "merge": 60, "featurize": 32}
NEXT_DAY = {"ingest": 25, "validate": 40, "merge": 90, "featurize": 43}


def last_execution(spark: SparkSession) -> int:
    jvm: Any = spark._jvm
    spark.sparkContext._jsc.sc().listenerBus().waitUntilEmpty()
    executions = jvm.scala.jdk.javaapi.CollectionConverters.asJava(
        spark._jsparkSession.sharedState().statusStore().executionsList()
    )
    return max((e.executionId() for e in executions), default=-1)


def executions(pipeline: Pipeline, as_of: date) -> dict[str, int]:
    """How many each stage needs, as if its session had just been started."""
    spark, found = pipeline.spark, {}
    for stage in STAGES:
        spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()  # type: ignore[union-attr]
        before = last_execution(spark)
        arguments: dict[str, Any] = {"merge": {}, "featurize": {"as_of": f"{as_of}"}}.get(stage, {"only": ["shop"]})
        pipeline.run(stage, **arguments)
        found[stage] = last_execution(spark) - before
    return found


def nothing_new(pipeline: Pipeline, stage: str) -> tuple[int, set[str]]:
    """A stage's exit code on a machine that has no Java, and what it imports that a run with nothing to do must not wait for."""
    places = {"LAKEHOUSE_WAREHOUSE": str(pipeline.warehouse_path), "LAKEHOUSE_LANDING": str(pipeline.landing)}
    environment = {"PATH": "", "JAVA_HOME": "/nowhere", **places}
    day = f"{START + timedelta(days=DAYS)}"
    more = {"merge": [], "featurize": ["--as-of", day]}.get(stage, ["--only", "shop"])
    command = [sys.executable, "-X", "importtime", str(ROOT / f"spark_jobs/{stage}.py"), *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "lakehouse.cli" in imported
    return done.returncode, imported & {"pandas"}


@pytest.fixture
def shop(spark: SparkSession, tmp_path: Path) -> tuple[Pipeline, Path]:
    """A shop of which the last days are held back."""
    pipeline, held = Pipeline(spark, tmp_path), tmp_path / "held"
    report = RunReport("generate", "test", datetime.now(UTC))
    generate(spark, str(pipeline.landing), Scale(2_000, DAYS, START), 1, 1.0, report)
    for day in pipeline.landing.glob("shop/*/*"):
        if day.is_dir() and day.name >= f"{FIRST_HELD}" and day.parent.name[0] != "_":
            target = held / day.relative_to(pipeline.landing)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(day, target)
    return pipeline, held


def test_a_first_load_a_next_day_and_nothing_new(shop: tuple[Pipeline, Path]) -> None:
    pipeline, held = shop
    first = executions(pipeline, FIRST_HELD)
    for day in held.glob("shop/*/*"):
        shutil.move(day, pipeline.landing / day.relative_to(held))
    second, third = (executions(pipeline, START + timedelta(days=DAYS)) for _ in range(2))
    print(first, second, third)
    assert {s: n for s, n in first.items() if n > FIRST_LOAD[s]} == {}
    assert {s: n for s, n in second.items() if n > NEXT_DAY[s]} == {}
    assert third == dict.fromkeys(STAGES, 0)
    assert {stage: nothing_new(pipeline, stage) for stage in STAGES} == dict.fromkeys(STAGES, (0, set()))
