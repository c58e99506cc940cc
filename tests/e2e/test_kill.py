"""kill -9 at chosen and at random moments, then run again: the same result as never killed."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from deltalake import DeltaTable
from lakehouse.instants import instant
from lakehouse.report import RunReport
from lakehouse.synthetic.shop import Scale
from lakehouse.synthetic.stage import generate
from oracle import content
from pipeline import Pipeline
from pyspark.sql import SparkSession
from shell import Shell

AS_OF = "2026-03-05"
STAGES = ("ingest", "validate", "replay", "merge", "featurize", "optimize")
# A stage is killed as soon as a table has a new version. That of ops.progress is the plan: killed
# before its first write. Those of the data: after a write, before the end is recorded. An empty name
# stands for a moment drawn at random.
MOMENTS = [
    ("ingest", "bronze.shop_transactions"),
    ("validate", "quarantine.transactions"),
    ("merge", "silver.customers_history"),
    ("featurize", "gold.category_preferences"),
    *((stage, "") for stage in STAGES),
    ("ingest", "ops.progress"),
    ("validate", "staged.customers"),
    ("validate", "ops.progress"),
    ("replay", "quarantine.transactions"),
    ("replay", "staged.transactions"),
    ("merge", "silver.interactions"),
    ("merge", ""),
    ("featurize", "ops.progress"),
    ("optimize", "gold.customer_features"),
    ("optimize", "silver.interactions"),
]
SCATTERED = ("silver.interactions", "gold.customer_features")


def arguments(stage: str, patch: Path) -> list[str]:
    of_stage = {
        "ingest": ["--only", "shop"],
        "validate": ["--only", "shop"],
        "replay": ["--only", "transactions", "--patch", str(patch)],
        "featurize": ["--as-of", AS_OF],
    }
    return of_stage.get(stage, [])


@pytest.fixture(scope="module")
def never_killed(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    pipeline = Pipeline(spark, tmp_path_factory.mktemp("whole"))
    scale = Scale(2_000, 4, instant("2026-03-01").date())
    generate(spark, str(pipeline.landing), scale, 1, 3.0, RunReport("generate", "g", instant("2026-03-01")))
    for stage in ("ingest", "validate"):
        pipeline.run(stage, only=["shop"])
    bad = pipeline.table("quarantine.transactions").where("array_contains(reasons.rule, 'cast:amount')").select("id")
    lines = [f"{r['id']},Amount,1.25" for r in bad.collect()]
    assert lines
    (pipeline.landing / "patch.csv").write_text("\n".join(["id,column,value", *lines]) + "\n")
    pipeline.run("replay", only=["transactions"], patch=str(pipeline.landing / "patch.csv"))
    pipeline.run("merge")
    pipeline.run("featurize", as_of=AS_OF)
    return pipeline


@pytest.mark.long
def test_killed_again_and_again_and_run_again_equals_never_killed(never_killed: Pipeline, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shutil.copytree(never_killed.landing, shell.landing)
    chance, killed, patch = random.Random(5), 0, shell.landing / "patch.csv"
    for stage in STAGES:
        if stage == "optimize":
            scatter(never_killed.spark, shell)
        for table in [t for s, t in MOMENTS if s == stage]:
            killed += shell.kill_when(stage, moment(shell, table, chance), *arguments(stage, patch))
        shell.ok(stage, *arguments(stage, patch))
    assert killed >= len(MOMENTS) - 1, "the stages were over before they could be killed"
    files = {t: len(DeltaTable(str(shell.warehouse / t.replace(".", "/"))).file_uris()) for t in SCATTERED}
    assert files == dict.fromkeys(SCATTERED, 1)
    mine, theirs = content(never_killed.warehouse_path), content(shell.warehouse)
    assert set(mine) == set(theirs)
    for table in mine:
        assert mine[table]
        assert theirs[table] == mine[table], table


def scatter(spark: SparkSession, shell: Shell) -> None:
    """Many small files, so that optimize has something to do."""
    for table in SCATTERED:
        path = str(shell.warehouse / table.replace(".", "/"))
        frame = spark.read.format("delta").load(path)
        frame.repartition(30).write.format("delta").mode("overwrite").save(path)


def moment(shell: Shell, table: str, chance: random.Random) -> Callable[[], bool]:
    if table:
        log, before = shell.warehouse / table.replace(".", "/") / "_delta_log", shell.versions().get(table, -1)
        # Version 0 only creates the table.
        return lambda: (log / f"{max(before + 1, 1):020d}.json").exists()
    due = time.monotonic() + chance.uniform(8, 22)
    return lambda: time.monotonic() > due
