"""What a stage has Spark do for little data and for much: another way, the same rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from lakehouse import session, sizes
from pipeline import Pipeline, rows_of
from pyspark.sql import SparkSession

HEADER = "CustomerID,Name,Email,RegistrationDate,CustomerType,Country,LastActiveDate,UpdatedAt,op\n"
FEW = [
    f"c{n},Someone,c{n}@example.org,2026-01-0{n},Regular,Norway,2026-01-04,2026-01-04T10:00:00Z,\n" for n in (1, 2, 3)
]
MODE = "spark.sql.codegen.factoryMode"
SILVER = ("silver.customers", "silver.customers_history")


def delivered(pipeline: Pipeline) -> dict[str, str]:
    """Three customers through all stages; returns how expressions were evaluated by the end of each."""
    day = pipeline.landing / "shop/customers/2026-01-05"
    day.mkdir(parents=True)
    (day / "part-0.csv").write_text(HEADER + "".join(FEW))
    modes = {}
    for stage in ("ingest", "validate", "merge", "featurize", "optimize"):
        # Whatever was there before, a stage decides for itself.
        pipeline.spark.conf.set(MODE, "CODEGEN_ONLY")
        pipeline.run(stage, **({"as_of": "2026-02-01"} if stage == "featurize" else {}))
        modes[stage] = pipeline.spark.conf.get(MODE)
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
        assert set(delivered(little).values()) == {"NO_CODEGEN"}
        # Even nothing is much: there are no events for featurize.
        monkeypatch.setattr(sizes, "LITTLE_ROWS", -1)
        assert set(delivered(much).values()) == {"FALLBACK"}
    finally:
        session.prepare(spark, rows=0)
    assert rows_of(much, SILVER) == rows_of(little, SILVER)
    assert [r.split('"')[3] for r in rows_of(little, SILVER)["silver.customers"]] == ["c1", "c2", "c3"]
