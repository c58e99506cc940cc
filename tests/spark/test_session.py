"""What a stage has Spark do for little data and for much: another way, the same rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from lakehouse import session, sizes
from pipeline import BATCH, Pipeline, rows_of
from pyspark.sql import SparkSession

HEADER = "CustomerID,Name,Email,RegistrationDate,CustomerType,Country,LastActiveDate,UpdatedAt,op\n"
FEW = [
    f"c{n},Someone,c{n}@example.org,2026-01-0{n},Regular,Norway,2026-01-04,2026-01-04T10:00:00Z,\n" for n in (1, 2, 3)
]
MODE = "spark.sql.codegen.factoryMode"
OF_LOGS = "spark.databricks.delta.snapshotPartitions"
ADAPTIVE, PARTITIONS = "spark.sql.adaptive.enabled", "spark.sql.shuffle.partitions"
SILVER = ("silver.customers", "silver.customers_history")


def delivered(
    pipeline: Pipeline, day: str = "2026-01-05", stages: Sequence[str] = (*BATCH, "featurize", "optimize")
) -> dict[str, tuple[str, str]]:
    """Three customers through stages; returns how expressions were evaluated by the end of each, and whether queries were adaptive."""
    folder = pipeline.landing / "shop/customers" / day
    folder.mkdir(parents=True)
    (folder / "part-0.csv").write_text(HEADER + "".join(FEW))
    conf, modes = pipeline.spark.conf, {}
    for stage in stages:
        # Whatever was there before, a stage decides for itself.
        conf.set(MODE, "CODEGEN_ONLY")
        pipeline.run(stage, **({"as_of": "2026-02-01"} if stage == "featurize" else {}))
        modes[stage] = conf.get(MODE), conf.get(ADAPTIVE)
    return modes


def test_a_session_begins_prepared_for_little(spark: SparkSession) -> None:
    session.prepare(spark)
    assert spark.conf.get(MODE) == "FALLBACK"
    assert session.build_session("again").conf.get(MODE) == "NO_CODEGEN"


def test_each_stage_makes_code_for_much_data_and_none_for_little(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    little, much = Pipeline(spark, tmp_path / "little"), Pipeline(spark, tmp_path / "much")
    try:
        assert set(delivered(little).values()) == {("NO_CODEGEN", "false")}
        # Even nothing is much: there are no events for featurize.
        monkeypatch.setattr(sizes, "LITTLE_ROWS", -1)
        assert set(delivered(much).values()) == {("FALLBACK", "true")}
    finally:
        session.prepare(spark, rows=0)
    assert rows_of(much, SILVER) == rows_of(little, SILVER)
    assert [r.split('"')[3] for r in rows_of(little, SILVER)["silver.customers"]] == ["c1", "c2", "c3"]


def test_few_rows_that_are_joined_to_a_large_table_are_joined_adaptively(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Pipeline(spark, tmp_path)
    try:
        delivered(pipeline, "2026-01-05", BATCH)
        # As if each byte of silver held a thousand rows.
        monkeypatch.setattr(sizes, "BYTES_OF_STORED_ROW", 0.001)
        assert delivered(pipeline, "2026-01-06", BATCH) == {
            "ingest": ("NO_CODEGEN", "false"),
            "validate": ("NO_CODEGEN", "true"),
            "merge": ("NO_CODEGEN", "true"),
        }
    finally:
        session.prepare(spark, rows=0)


def test_what_its_user_chose_comes_back_to_a_session(spark: SparkSession) -> None:
    other = spark.newSession()
    other.conf.set(PARTITIONS, "7")
    # As where nothing of conf/spark-defaults.conf is given.
    other.conf.unset(OF_LOGS)
    found = []
    for rows in (0, math.inf, 0, sizes.LITTLE_ROWS + 1):
        session.prepare(other, rows)
        found.append((other.conf.get(ADAPTIVE), other.conf.get(PARTITIONS), other.conf.get(OF_LOGS, None)))
    assert found == [("false", "2", "1"), ("true", "7", None)] * 2
