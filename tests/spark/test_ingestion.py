"""Ingest beyond reading: inferred columns, repeated content, files that are cleared away, Auto Loader's way."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from lakehouse.errors import DataRefused, TryAgain
from lakehouse.ingestion import auto_loader, readers
from lakehouse.ingestion.landing import Landing
from lakehouse.runtime.journal import Transaction
from lakehouse.runtime.progress import VOID, End, Progress
from lakehouse.sources import Input
from lakehouse.tables import Warehouse
from pipeline import Pipeline
from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from support import ROOT, an_input

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
    return sorted((tuple(r) for r in rows), key=str)


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


def test_a_file_without_a_usable_column_name_is_set_aside_once(spark: SparkSession, tmp_path: Path) -> None:
    pipeline = market(spark, tmp_path)
    deliver(pipeline, "a.csv", "_x,_y\n1,2\n")
    report = pipeline.run("ingest")
    assert any("a.csv is set aside: it has no column with a usable name" in w for w in report.warnings)
    assert not pipeline.run("ingest").wrote
    deliver(pipeline, "b.csv", "id\n1\n")
    pipeline.run("ingest")
    assert bronze(pipeline, "id") == [("1", None)]


def test_a_repetition_is_noted_once_though_a_newer_batch_has_returned_the_file(
    spark: SparkSession, tmp_path: Path
) -> None:
    pipeline = market(spark, tmp_path, identity="content")
    deliver(pipeline, "a.csv", "id\n1\n")
    pipeline.run("ingest")
    deliver(pipeline, "a.csv", "id\n1\n", at=60)
    with pytest.MonkeyPatch.context() as m:
        # For a moment the file can neither be hashed nor read.
        m.setattr(Landing, "with_hash", lambda _, files: files)
        m.setattr(Landing, "is_unchanged", lambda *_: False)
        pipeline.run("ingest")
    assert pipeline.run("ingest").tables["bronze.market_orders"]["files_repeated"] == 1
    assert states(pipeline) == [("a.csv", "loaded"), ("a.csv", "returned"), ("a.csv", "repeated")]
    before = pipeline.versions()
    pipeline.run("ingest")
    assert pipeline.versions() == before


@pytest.mark.parametrize(("first", "then"), [("delete", "archive"), ("archive", "delete")])
def test_clearing_away_in_another_way_notes_nothing_twice(
    spark: SparkSession, tmp_path: Path, first: str, then: str
) -> None:
    pipeline = market(spark, tmp_path, loaded_files=first, loaded_files_after_days=1)
    deliver(pipeline, "a.csv", "id\n1\n")
    pipeline.run("ingest", now=NOW)
    with pytest.MonkeyPatch.context() as m:
        m.setattr(Landing, first, lambda *_: (_ for _ in ()).throw(PermissionError("read only")))
        report = pipeline.run("ingest", now=NOW + timedelta(days=2))
    noted = {"delete": "deleted", "archive": "archived"}[first]
    assert [w for w in report.warnings if "read only" in w] == [f"market/orders/a.csv cannot be {noted}: read only"]
    yaml = tmp_path / "sources/market/source.yaml"
    yaml.write_text(yaml.read_text().replace(f"loaded_files: {first}", f"loaded_files: {then}"))
    before = pipeline.versions()
    pipeline.run("ingest", now=NOW + timedelta(days=3))
    assert pipeline.versions() == before
    left = [f.relative_to(pipeline.landing).as_posix() for f in pipeline.landing.rglob("*.csv")]
    assert left == (["_archive/market/orders/20260225T061320.000000Z_a.csv"] if then == "archive" else [])


def test_what_auto_loader_has_rescued_and_what_is_undeclared_stand_side_by_side(spark: SparkSession) -> None:
    theirs = '{"a":{"b":1.50},"_file_path":"/landing/{x}.json"}'
    raw = spark.createDataFrame(
        [("1", theirs, "x}"), ("2", None, "y"), ("3", theirs, None), ("4", None, None)],
        "id STRING, _rescued STRING, more STRING",
    ).select("*", F.lit(None).alias(readers.FILE), F.lit(None).alias(readers.ROW))
    values = {name: F.col(name) for name in ("id", "more")}
    received = readers.received(raw, an_input(format="json", columns=("id",)), values, F.col("_rescued"))
    assert [tuple(r) for r in received.select("id", "_rescued").collect()] == [
        ("1", '{"a":{"b":1.50},"_file_path":"/landing/{x}.json","more":"x}"}'),
        ("2", '{"more":"y"}'),
        ("3", theirs),
        ("4", None),
    ]


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
        auto_loader.run(other.context("ingest"), other.options("ingest", state=str(tmp_path / "state")), plain_files)

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
    # Without its state, Auto Loader finds every file anew; nothing new may be taken for known.
    shutil.rmtree(tmp_path / "state")
    deliver(ours, "d.csv", "id,note\n5,z\n")
    load()
    assert sorted(r[0] for r in other.table("bronze.market_orders").select("id").collect()) == sorted(
        [*"1234", *"1234", "5"]
    )


def failing_on_bronze(error: Exception) -> Callable[..., int | None]:
    append = Warehouse.append

    def fails(self: Warehouse, rows: DataFrame, table: str, once: Transaction) -> int | None:
        if table.startswith("bronze."):
            raise error
        return append(self, rows, table, once)

    return fails


def load_by_stand_in(pipeline: Pipeline, folder: Path, stream: auto_loader.Stream = plain_files) -> None:
    auto_loader.run(pipeline.context("ingest"), pipeline.options("ingest", state=str(folder / "state")), stream)


def ends(pipeline: Pipeline) -> list[tuple[int, str]]:
    """How each batch has ended, oldest first."""
    rows = pipeline.table("ops.progress").where("state <> 'planned'").orderBy("batch_id").collect()
    return [(r["batch_id"], r["state"]) for r in rows]


def interrupted(pipeline: Pipeline, folder: Path) -> None:
    with pytest.MonkeyPatch.context() as m:
        m.setattr(Warehouse, "append", failing_on_bronze(RuntimeError("killed")))
        with pytest.raises(StreamingQueryException, match="killed"):
            load_by_stand_in(pipeline, folder)


def test_auto_loaders_interrupted_batch_is_left_to_it(spark: SparkSession, tmp_path: Path) -> None:
    pipeline = market(spark, tmp_path, columns="[id]")
    deliver(pipeline, "a.csv", "id\n1\n")
    interrupted(pipeline, tmp_path)
    shutil.move(pipeline.landing / "market/orders/a.csv", tmp_path / "a.csv")
    pipeline.run("ingest")
    shutil.move(tmp_path / "a.csv", pipeline.landing / "market/orders/a.csv")
    load_by_stand_in(pipeline, tmp_path)
    assert bronze(pipeline, "id") == [("1", None)]
    assert ends(pipeline) == [(1, "done")]


def test_auto_loaders_batch_that_was_given_up_is_planned_anew(spark: SparkSession, tmp_path: Path) -> None:
    pipeline = market(spark, tmp_path, columns="[id]")
    deliver(pipeline, "a.csv", "id\n1\n")
    interrupted(pipeline, tmp_path)
    progress = Progress(pipeline.context("ingest").warehouse, "ingest", "by hand", NOW)
    for batch in progress.outstanding():
        progress.finish(batch, End(VOID))
    progress.commit()
    load_by_stand_in(pipeline, tmp_path)
    assert bronze(pipeline, "id") == [("1", None)]
    assert ends(pipeline) == [(1, "void"), (2, "done")]
    before = pipeline.versions()
    load_by_stand_in(pipeline, tmp_path)
    assert pipeline.versions() == before


def meeting_new_columns(times: int, starts: list[int]) -> auto_loader.Stream:
    """Ends like Auto Loader at a file with the new column ``new``, so many times; then it knows the column."""

    def stream(spark: SparkSession, source: Input, landing: str, state: str) -> DataFrame:
        starts.append(len(starts) + 1)
        if len(starts) > times:
            return plain_files(spark, replace(source, columns=(*source.columns, "new")), landing, state)
        error = F.raise_error(F.lit("[UNKNOWN_FIELD_EXCEPTION.NEW_FIELDS_IN_FILE] Encountered unknown fields: new"))
        return plain_files(spark, source, landing, state).where(error.isNull())

    return stream


def test_auto_loader_goes_on_with_new_columns(spark: SparkSession, tmp_path: Path) -> None:
    pipeline = market(spark, tmp_path, columns="[id]", schema_mode="evolve")
    deliver(pipeline, "a.csv", "id,new\n1,k\n")
    starts: list[int] = []
    load_by_stand_in(pipeline, tmp_path, meeting_new_columns(2, starts))
    assert bronze(pipeline, "id", "new") == [("1", "k", None)]
    assert ends(pipeline) == [(1, "done")]
    assert starts == [1, 2, 3]


@pytest.mark.parametrize(
    ("mode", "error", "message", "expected"),
    [
        ("fail", DataRefused, "market_orders has undeclared columns: UNKNOWN_FIELD.* fields: new", [1]),
        ("evolve", TryAgain, "market_orders has had new columns 3 times", [1, 2, 3]),
    ],
    ids=["forbidden", "for ever"],
)
def test_auto_loader_does_not_start_again_where_new_columns_are_forbidden_nor_for_ever(
    spark: SparkSession, tmp_path: Path, mode: str, error: type[Exception], message: str, expected: list[int]
) -> None:
    pipeline = market(spark, tmp_path, columns="[id]", schema_mode=mode)
    deliver(pipeline, "a.csv", "id,new\n1,k\n")
    starts: list[int] = []
    with pytest.MonkeyPatch.context() as m:
        m.setattr(auto_loader, "MAX_STARTS", 3)
        with pytest.raises(error, match=message):
            load_by_stand_in(pipeline, tmp_path, meeting_new_columns(9, starts))
    assert starts == expected


def test_auto_loader_finds_columns_after_files_without_a_usable_name(spark: SparkSession, tmp_path: Path) -> None:
    pipeline = market(spark, tmp_path)

    def with_columns(*names: str) -> auto_loader.Stream:
        return lambda spark, source, *folders: plain_files(spark, replace(source, columns=names), *folders)

    deliver(pipeline, "a.csv", "_x\n1\n")
    load_by_stand_in(pipeline, tmp_path, with_columns("_x"))
    deliver(pipeline, "b.csv", "_x,id\n2,3\n")
    load_by_stand_in(pipeline, tmp_path, with_columns("_x", "id"))
    assert bronze(pipeline, "id") == [("3", '{"_x":"2"}'), (None, '{"_x":"1"}')]


def test_a_named_error_within_a_micro_batch_keeps_its_name(spark: SparkSession, tmp_path: Path) -> None:
    pipeline = market(spark, tmp_path, columns="[id]")
    deliver(pipeline, "a.csv", "id\n1\n")
    with pytest.MonkeyPatch.context() as m:
        m.setattr(Warehouse, "append", failing_on_bronze(TryAgain("another writer won")))
        with pytest.raises(TryAgain, match="another writer won"):
            load_by_stand_in(pipeline, tmp_path)
