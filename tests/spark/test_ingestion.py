"""Ingest beyond reading: inferred columns, repeated content, files that are cleared away, Auto Loader's way."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from lakehouse.ingestion import auto_loader, readers
from lakehouse.ingestion.landing import Landing
from lakehouse.progress import Progress
from lakehouse.sources import Input
from pipeline import Pipeline
from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from support import ROOT

YAML = """
inputs:
  market_orders:
    path: market/orders
    format: csv
    entities: [transactions]
"""
SQL = "SELECT _row, id AS transaction_id FROM market_orders"
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def market(spark: SparkSession, folder: Path, **settings: object) -> Pipeline:
    sources = folder / "sources"
    (sources / "market").mkdir(parents=True)
    lines = [f"    {name}: {value}\n" for name, value in ({"columns": "infer"} | settings).items()]
    (sources / "market/source.yaml").write_text(YAML + "".join(lines))
    (sources / "market/transactions.sql").write_text(SQL)
    return Pipeline(spark, folder, contracts=ROOT / "contracts", sources=sources)


def deliver(pipeline: Pipeline, name: str, text: str, at: int = 0) -> Path:
    """Put a file into the landing folder, modified ``at`` seconds after some instant."""
    file = pipeline.landing / "market/orders" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    os.utime(file, (1_772_000_000 + at, 1_772_000_000 + at))
    return file


def bronze(pipeline: Pipeline, *columns: str) -> list[tuple[str | None, ...]]:
    rows = pipeline.table("bronze.market_orders").select(*columns, "_rescued").collect()
    return sorted(tuple(r) for r in rows)


def states(pipeline: Pipeline) -> list[tuple[str, str]]:
    """(file name, state) of every entry of the ledger, in order."""
    rows = pipeline.table("ops.files").where("state <> 'planned'").orderBy("at", "path").collect()
    return [(Path(r["path"]).name, r["state"]) for r in rows]


def test_columns_are_those_of_the_first_files_and_later_ones_are_rescued(spark: SparkSession, tmp_path: Path) -> None:
    pipeline = market(spark, tmp_path)
    deliver(pipeline, "a.csv", "id,Unit Price\n1,5\n")
    deliver(pipeline, "b.csv", "id,note,ID,_x\n2,n,i,x\n")
    pipeline.run("ingest")
    names = ["id", "`Unit Price`", "note"]
    assert bronze(pipeline, *names) == [("1", "5", None, None), ("2", None, "n", '{"ID":"i","_x":"x"}')]
    deliver(pipeline, "c.csv", "id,new\n3,k\n")
    pipeline.run("ingest")
    assert bronze(pipeline, *names)[2] == ("3", None, None, '{"new":"k"}')


def test_inferred_columns_may_evolve(spark: SparkSession, tmp_path: Path) -> None:
    pipeline = market(spark, tmp_path, schema_mode="evolve")
    deliver(pipeline, "a.csv", "id\n1\n")
    pipeline.run("ingest")
    deliver(pipeline, "b.csv", "id,new\n2,k\n")
    pipeline.run("ingest")
    deliver(pipeline, "c.csv", "new,id\nl,3\n")
    pipeline.run("ingest")
    assert bronze(pipeline, "id", "new") == [("1", None, None), ("2", "k", None), ("3", "l", None)]


def test_content_that_was_loaded_is_not_loaded_again_where_the_source_says_so(
    spark: SparkSession, tmp_path: Path
) -> None:
    pipeline = market(spark, tmp_path, identity="content")
    deliver(pipeline, "a.csv", "id\n1\n")
    deliver(pipeline, "b.csv", "id\n1\n")
    pipeline.run("ingest")
    assert bronze(pipeline, "id") == [("1", None), ("1", None)]  # another name is another delivery
    deliver(pipeline, "a.csv", "id\n1\n", at=60)
    report = pipeline.run("ingest")
    assert report.tables["bronze.market_orders"]["files_repeated"] == 1
    assert states(pipeline) == [("a.csv", "loaded"), ("b.csv", "loaded"), ("a.csv", "repeated")]
    assert not pipeline.run("ingest").wrote
    deliver(pipeline, "a.csv", "id\n2\n", at=120)
    pipeline.run("ingest")
    deliver(pipeline, "a.csv", "id\n1\n", at=180)  # back to what it was: another version of it
    pipeline.run("ingest")
    assert [row[0] for row in bronze(pipeline, "id")] == ["1", "1", "1", "2"]
    hashes = pipeline.table("ops.files").where("state <> 'planned'").select("sha256").distinct().collect()
    assert len(hashes) == 2


@pytest.mark.parametrize("fate", ["archive", "delete"])
def test_loaded_files_are_cleared_away_in_time_and_only_they(spark: SparkSession, tmp_path: Path, fate: str) -> None:
    pipeline = market(spark, tmp_path, loaded_files=fate, loaded_files_after_days=30)
    deliver(pipeline, "a.csv", "id\n1\n")
    deliver(pipeline, "bad.csv", "id,id\n1,2\n")
    pipeline.run("ingest", now=NOW)
    deliver(pipeline, "b.csv", "id\n2\n")
    pipeline.run("ingest", now=NOW + timedelta(days=29))
    folder = pipeline.landing / "market/orders"
    assert sorted(f.name for f in folder.iterdir()) == ["a.csv", "b.csv", "bad.csv"]
    with pytest.MonkeyPatch.context() as m:
        # Killed between the note in the ledger and the move.
        m.setattr(Landing, fate, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pipeline.run("ingest", now=NOW + timedelta(days=30))
    assert (folder / "a.csv").exists()
    pipeline.run("ingest", now=NOW + timedelta(days=31))
    assert sorted(f.name for f in folder.iterdir()) == ["b.csv", "bad.csv"]
    noted = {"archive": "archived", "delete": "deleted"}[fate]
    assert states(pipeline)[-1] == ("a.csv", noted)
    assert len([s for s in states(pipeline) if s[1] == noted]) == 1
    archived = [f.name for f in (pipeline.landing / "_archive").rglob("*.csv")]
    assert archived == (["20260225T061320.000000Z_a.csv"] if fate == "archive" else [])
    assert bronze(pipeline, "id") == [("1", None), ("2", None)]
    assert not pipeline.run("ingest", now=NOW + timedelta(days=32)).wrote


def plain_files(spark: SparkSession, source: Input, landing: str, state: str) -> DataFrame:
    """What ``cloudFiles`` would give, from Spark's own file source; Auto Loader itself runs on Databricks alone."""
    ddl = ", ".join(f"`{c}` STRING" for c in (*source.columns, readers.PARSER_CORRUPT))
    reader = spark.readStream.schema(ddl).options(**readers.CSV_OPTIONS).option("maxFilesPerTrigger", 1)
    return reader.csv(f"{landing}/{source.path}")


def test_auto_loaders_micro_batches_are_loaded_once_whatever_is_killed(spark: SparkSession, tmp_path: Path) -> None:
    ours = market(spark, tmp_path / "ours", columns="[id, note]")
    other = market(spark, tmp_path / "other", columns="[id, note]")
    shutil.rmtree(other.landing)
    other.landing.symlink_to(ours.landing)

    def load() -> None:
        auto_loader.run(other.context("ingest", state=str(tmp_path / "state")), plain_files)

    deliver(ours, "a.csv", "id,note\n1,x\n2\n")
    deliver(ours, "b.csv", "id,note\n3,\n")
    with pytest.MonkeyPatch.context() as m:
        # Killed between the rows and the end of the first batch.
        m.setattr(Progress, "finish", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(StreamingQueryException, match="killed"):
            load()
    load()
    deliver(ours, "c.csv", "id,note\n4,y\n")
    load()
    ours.run("ingest")

    def rows(pipeline: Pipeline) -> list[str]:
        # A row's number counts from the beginning of what is read together.
        place = F.col("_source").dropFields("row")
        frame = pipeline.table("bronze.market_orders").withColumn("_source", place).drop("_ingested_at", "_batch_id")
        return sorted(r[0] for r in frame.selectExpr(f"to_json(struct({', '.join(frame.columns)}))").collect())

    assert rows(other) == rows(ours)
    assert len(rows(other)) == 4
    counted = [
        sorted((Path(r["path"]).name, r["size"], r["modified"], r["rows"], r["corrupt_rows"]) for r in ledger.collect())
        for ledger in (p.table("ops.files").where("state = 'loaded'") for p in (ours, other))
    ]
    assert counted[0] == counted[1]
    before = other.versions()
    load()
    assert other.versions() == before
    other.run("validate")
    assert other.table("quarantine.transactions").count() == 4
