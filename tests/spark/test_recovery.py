"""A stage that is killed after any of its commits, and run again, leaves what it would have left in one go.

``docs/architecture.md`` tells what becomes of each of these; a test of its own sees to it that it names all of them.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from lakehouse import sizes
from lakehouse.runtime.journal import LogStore
from lakehouse.runtime.progress import Progress, to_merge, to_validate
from lakehouse.tables import Warehouse
from oracle import content
from pipeline import Pipeline
from pyspark.sql import SparkSession
from support import ROOT

AS_OF = "2026-03-05"
KILLED_AFTER = [
    ("ingest", "ops.progress"),
    ("ingest", "ops.files"),
    ("ingest", "bronze.shop_transactions"),
    ("validate", "ops.progress"),
    ("validate", "staged.transactions"),
    ("validate", "quarantine.transactions"),
    ("validate", "ops.quality"),
    ("replay", "ops.progress"),
    ("replay", "quarantine.transactions"),
    ("replay", "staged.transactions"),
    ("merge", "ops.progress"),
    ("merge", "silver.transactions_history"),
    ("merge", "silver.transactions"),
    ("featurize", "ops.progress"),
    ("featurize", "gold.customer_days"),
    ("featurize", "gold.product_affinity"),
    ("featurize", "gold.customer_features"),
    ("featurize", "ops.snapshots"),
]
"""A stage, and the table after whose first commit of rows it is killed; of ops.progress, that is the plan."""
RECOVERED_LIKE_ANOTHER = {
    ("validate", "ops.progress"),
    ("validate", "staged.transactions"),
    ("replay", "ops.progress"),
    ("replay", "staged.transactions"),
    ("merge", "ops.progress"),
    ("featurize", "ops.progress"),
    ("featurize", "gold.customer_features"),
    ("featurize", "ops.snapshots"),
}
FILES = {
    "customers/a.csv": "CustomerID,Name,RegistrationDate,CustomerType,LastActiveDate,UpdatedAt,op\n"
    "C1,Ada,2026-01-02,regular,2026-03-01,2026-03-01T00:00:00Z,\nC2,Bob,2026-01-03,premium,2026-03-02,2026-03-01T00:00:00Z,\n",
    "products/a.csv": "ProductID,Category,Price,StockAvailability,UpdatedAt,op\n"
    "P1,Toys,9.50,5,2026-03-01T00:00:00Z,\nP2,Books,5.00,1,2026-03-01T00:00:00Z,\n",
    "transactions/a.csv": "TransactionID,OrderID,CustomerID,ProductID,Date,Amount,PaymentMethod,TransactionStatus,UpdatedAt,op\n"
    "T1,O1,C1,P1,2026-03-02T10:00:00Z,9.50,card,Completed,2026-03-02T10:00:00Z,\n"
    "T2,O2,C2,P2,2026-03-03T10:00:00Z,many,card,Completed,2026-03-03T10:00:00Z,\n"
    "T3,O3,C2,P1,2026-03-04T10:00:00Z,19.00,card,Completed,2026-03-04T10:00:00Z,\n",
}
UPSTREAM = {"ingest": "", "validate": "ingest", "merge": "validate", "featurize": "merge"}
PARENTS = ("shop_customers", "shop_products")
STAGES = ("ingest", "validate", "replay", "merge", "featurize")
OPTIONS: dict[str, dict[str, Any]] = {
    "ingest": {"only": ["shop_transactions"]},
    "validate": {"only": ["shop_transactions"]},
    "merge": {"only": ["transactions"]},
    "featurize": {"as_of": AS_OF},
}


class Killed(BaseException):
    """Stands for kill -9: nothing is written after it."""


def run(pipeline: Pipeline, stage: str) -> None:
    replay = {"only": ["transactions"], "patch": str(pipeline.landing / "patch.csv")}
    pipeline.run(stage, **OPTIONS.get(stage, replay))


@pytest.fixture(scope="module")
def states(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A project folder as it is before each stage, and ``after`` it; customers and products are in silver from the start."""
    folder = tmp_path_factory.mktemp("states")
    pipeline = Pipeline(spark, folder / "work")
    for path, text in FILES.items():
        file = pipeline.landing / "shop" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    found = {}
    for stage in ("ingest", "validate"):
        pipeline.run(stage, only=PARENTS)
    pipeline.run("merge")
    for stage in STAGES:
        if stage == "replay":
            (bad,) = pipeline.table("quarantine.transactions").select("id").collect()
            (pipeline.landing / "patch.csv").write_text(f"id,column,value\n{bad['id']},Amount,5.00\n")
        found[stage] = shutil.copytree(folder / "work", folder / stage)
        run(pipeline, stage)
        found[f"after {stage}"] = shutil.copytree(folder / "work", folder / f"after {stage}")
    return found


@pytest.fixture
def killed_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Has whatever writes next die after so many commits to a table."""

    def arrange(table: str, number: int) -> None:
        done: list[str] = []
        dead = False

        def dying(original: Callable[..., Any], table_of: Callable[..., str]) -> Callable[..., Any]:
            def commit(self: Any, *args: Any, **kwargs: Any) -> Any:
                nonlocal dead
                if dead:
                    raise Killed
                result = original(self, *args, **kwargs)
                done.append(table_of(*args))
                if done.count(table) == number and done[-1] == table:
                    dead = True
                    raise Killed
                return result

            return commit

        monkeypatch.setattr(LogStore, "append", dying(LogStore.append, lambda table, *_: table))
        monkeypatch.setattr(Warehouse, "_write", dying(Warehouse._write, lambda _, table: table))
        monkeypatch.setattr(Warehouse, "_change", dying(Warehouse._change, lambda table, _: table))

    return arrange


@pytest.mark.parametrize(
    ("stage", "table"),
    [
        pytest.param(*moment, marks=[pytest.mark.long] if moment in RECOVERED_LIKE_ANOTHER else [])
        for moment in KILLED_AFTER
    ],
)
def test_killed_and_run_again_equals_never_killed(
    spark: SparkSession, states: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    killed_after: Callable[[str, int], None], stage: str, table: str,
) -> None:  # fmt: skip
    pipeline = Pipeline(spark, shutil.copytree(states[stage], tmp_path / "project"))
    # The first commit to ops.progress is the plan; a table of rows is made first, and then written.
    fresh = table.startswith("ops.") or (pipeline.path(table) / "_delta_log").exists()
    killed_after(table, 1 if fresh else 2)
    with pytest.raises(Killed):
        run(pipeline, stage)
    monkeypatch.undo()
    run(pipeline, stage)
    mine, expected = content(pipeline.warehouse_path), content(states[f"after {stage}"] / "warehouse")
    assert mine.keys() == expected.keys()
    for name in expected:
        assert mine[name] == expected[name], name
    # And nothing is left to do: no plan without an end, and no input without a plan.
    context = pipeline.context(stage)
    progress = [Progress(context.warehouse, s, "r", context.now, u) for s, u in UPSTREAM.items()]
    assert [p.outstanding() for p in progress] == [[]] * len(progress)
    if stage in ("validate", "merge"):
        waiting = to_validate(progress[1].known, ["shop_transactions"]), to_merge(progress[2].known, ["transactions"])
        assert waiting[("validate", "merge").index(stage)] == []


@pytest.fixture(scope="module")
def later(spark: SparkSession, states: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A project folder as it is before and after a second snapshot, which is merged into timelines and ends the first."""
    folder = tmp_path_factory.mktemp("later")
    pipeline = Pipeline(spark, shutil.copytree(states["after featurize"], folder / "work"))
    header, *_ = FILES["transactions/a.csv"].splitlines()
    sale = "T4,O4,C1,P2,2026-03-05T10:00:00Z,5.00,card,Completed,2026-03-05T10:00:00Z,"
    (pipeline.landing / "shop/transactions/b.csv").write_text(f"{header}\n{sale}\n")
    for stage in ("ingest", "validate", "merge"):
        run(pipeline, stage)
    before = shutil.copytree(folder / "work", folder / "before")
    second_snapshot(pipeline)
    kept = pipeline.table("gold.customer_features").selectExpr("CAST(as_of AS string) AS at").distinct().collect()
    assert [row["at"] for row in kept] == ["2026-03-06 00:00:00"], "the first has not ended"
    assert pipeline.table("gold.product_affinity").where("valid_to IS NULL AND customer_id = 'C1'").count() == 2
    return before, folder / "work"


def second_snapshot(pipeline: Pipeline) -> None:
    """A snapshot two months after those that there are were made, as it is made where timelines are large."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizes, "REWRITTEN_BYTES", 0)
        pipeline.run("featurize", as_of="2026-03-06", now=datetime.now(UTC) + timedelta(days=61))


@pytest.mark.parametrize(
    ("table", "commit"),
    [
        pytest.param("gold.product_affinity", "MERGE of the new snapshot", marks=pytest.mark.long),
        ("gold.product_affinity", "MERGE that takes out the old one"),
        pytest.param("gold.customer_features", "DELETE of the old one", marks=pytest.mark.long),
    ],
)
def test_killed_while_timelines_are_merged_and_snapshots_end(
    later: tuple[Path, Path], spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    killed_after: Callable[[str, int], None], table: str, commit: str,
) -> None:  # fmt: skip
    before, after = later
    pipeline = Pipeline(spark, shutil.copytree(before, tmp_path / "project"))
    killed_after(table, 1 if "new" in commit else 2)
    with pytest.raises(Killed):
        second_snapshot(pipeline)
    monkeypatch.undo()
    second_snapshot(pipeline)
    mine, expected = content(pipeline.warehouse_path), content(after / "warehouse")
    for name in expected:
        assert mine[name] == expected[name], name
    context = pipeline.context("featurize")
    assert Progress(context.warehouse, "featurize", "r", context.now, "merge").outstanding() == []


def test_the_documentation_tells_what_becomes_of_each() -> None:
    told = re.findall(r"^\| (\w+) \| `([\w.]+)` \|", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)
    assert set(KILLED_AFTER) <= set(told)
