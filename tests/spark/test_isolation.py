"""Whatever one file or one input does, all other files and inputs are loaded in the same run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lakehouse.errors import ServiceUnavailable, UsageError
from lakehouse.ingestion import kafka, loading
from lakehouse.ingestion import stage as ingestion
from pipeline import Pipeline
from pyspark.errors import PySparkRuntimeError
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from support import ROOT


def shop(spark: SparkSession, folder: Path, **formats: str) -> Pipeline:
    """A warehouse with an input ``own_<name>`` of each name's format."""
    for name, format_ in formats.items():
        source = folder / "sources" / name
        source.mkdir(parents=True)
        place = "topics: [own]" if format_ == "kafka" else f"path: {name}"
        (source / "source.yaml").write_text(
            f"inputs:\n  own_{name}:\n    {place}\n    format: {format_}\n    columns: [id, v]\n    entities: [customers]\n"
        )
        (source / "customers.sql").write_text(f"SELECT _row, id AS customer_id FROM own_{name}")
    return Pipeline(spark, folder, contracts=ROOT / "contracts", sources=folder / "sources")


def table(*ids: str) -> pa.Table:
    return pa.table({"id": list(ids) * 2000, "v": [str(n) for n in range(2000 * len(ids))]})


def deliver(pipeline: Pipeline, path: str, content: bytes | pa.Table) -> None:
    file = pipeline.landing / path
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        pq.write_table(content, file, compression="none", use_dictionary=False)


def ids(pipeline: Pipeline, name: str) -> list[str]:
    rows = pipeline.table(f"bronze.own_{name}").select("id").distinct().collect()
    return sorted(r[0] for r in rows)


def states(pipeline: Pipeline) -> dict[str, str]:
    rows = pipeline.table("ops.files").where("state <> 'planned'").select("path", "state").collect()
    return {r["path"]: r["state"] for r in rows}


def test_a_damaged_page_behind_a_sound_footer(spark: SparkSession, tmp_path: Path) -> None:
    pipeline = shop(spark, tmp_path, pq="parquet", csv="csv")
    deliver(pipeline, "pq/good.parquet", table("G"))
    deliver(pipeline, "pq/bad.parquet", table("B"))
    bad = pipeline.landing / "pq/bad.parquet"
    content = bytearray(bad.read_bytes())
    content[4:60] = b"\xff" * 56  # the head of the first page
    bad.write_bytes(content)
    deliver(pipeline, "csv/a.csv", b"id,v\nC,1\n")
    report = pipeline.run("ingest")
    assert states(pipeline) == {"pq/good.parquet": "loaded", "pq/bad.parquet": "set aside", "csv/a.csv": "loaded"}
    assert (ids(pipeline, "pq"), ids(pipeline, "csv")) == (["G"], ["C"])
    (warning,) = [w for w in report.warnings if "bad.parquet" in w]
    assert "cannot be read: damaged, cut short, or gone while it was read: " in warning
    assert not pipeline.run("ingest").wrote


def test_culprits_that_no_error_names_are_found_by_halves(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, read = shop(spark, tmp_path, csv="csv"), loading._rows
    for n in range(9):
        deliver(pipeline, f"csv/{n}.csv", f"id,v\n{n},1\n".encode())
    reads: list[int] = []

    def failing(*arguments, **more):  # type: ignore[no-untyped-def]
        """Spark fails at two of the files, without a word on which."""
        files = arguments[4]
        reads.append(len(files))
        rows = read(*arguments, **more)
        odd = any(f.path in ("csv/3.csv", "csv/7.csv") for f in files)
        return rows.where(F.raise_error(F.lit("something is odd")).isNull()) if odd else rows

    monkeypatch.setattr(loading, "_rows", failing)
    report = pipeline.run("ingest")
    assert ids(pipeline, "csv") == [str(n) for n in range(9) if n not in (3, 7)]
    aside = [w for w in report.warnings if "set aside" in w]
    assert [w[:9] for w in aside] == ["csv/3.csv", "csv/7.csv"]
    assert all("something is odd" in w for w in aside)
    assert len(reads) < 18


def test_our_own_fault_is_no_file_s(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, load = shop(spark, tmp_path, a="csv", b="csv"), ingestion.load
    deliver(pipeline, "a/1.csv", b"id,v\nA1,1\n")
    deliver(pipeline, "b/1.csv", b"id,v\nB1,1\n")

    def failing(context, landing, source, batch, files):  # type: ignore[no-untyped-def]
        if source.name == "own_a":
            raise KeyError("sep")
        return load(context, landing, source, batch, files)

    with monkeypatch.context() as m:
        m.setattr(ingestion, "load", failing)
        with pytest.raises(KeyError):
            pipeline.run("ingest")
        assert ids(pipeline, "b") == ["B1"]
        # The batch that failed is still to be finished; the other input's next files do not wait for that.
        deliver(pipeline, "b/2.csv", b"id,v\nB2,1\n")
        with pytest.raises(KeyError):
            pipeline.run("ingest")
        assert ids(pipeline, "b") == ["B1", "B2"]
        assert states(pipeline) == {"b/1.csv": "loaded", "b/2.csv": "loaded"}
    pipeline.run("ingest")
    assert (ids(pipeline, "a"), ids(pipeline, "b")) == (["A1"], ["B1", "B2"])


def test_a_topic_that_does_not_answer_does_not_hold_up_files(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = shop(spark, tmp_path, topic="kafka", csv="csv", gone="csv")
    deliver(pipeline, "csv/a.csv", b"id,v\nA,1\n")

    def silent(*_: object) -> None:
        raise ServiceUnavailable("Kafka does not answer")

    monkeypatch.setattr(kafka, "run", silent)
    context = pipeline.context("ingest", only=["own_topic", "own_csv", "own_gone"])
    with pytest.raises(ServiceUnavailable):
        ingestion.run(context, pipeline.options("ingest"))
    assert ids(pipeline, "csv") == ["A"]
    # A folder that is not there, and was asked for by name, is the second error.
    assert [w for w in context.report.warnings if "own_gone" in w and "no such folder" in w]
    with pytest.raises(UsageError):
        pipeline.run("ingest", only=["own_gone", "own_csv"])


def test_a_file_of_which_spark_makes_no_row_is_set_aside(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, read = shop(spark, tmp_path, csv="csv"), loading._rows
    deliver(pipeline, "csv/a.csv", b"id,v\nA,1\n")
    deliver(pipeline, "csv/header.csv", b"id,v\n\n")
    deliver(pipeline, "csv/b.csv", b"id,v\nB,1\n")
    with monkeypatch.context() as m:
        m.setattr(loading, "_rows", lambda *a, **k: read(*a, **k).where("id <> 'B'"))
        report = pipeline.run("ingest")
    assert states(pipeline) == {"csv/a.csv": "loaded", "csv/header.csv": "loaded", "csv/b.csv": "set aside"}
    assert [w for w in report.warnings if "csv/b.csv is set aside: has content, but no row" in w]


def test_stop_of_spark_is_no_file_s_fault(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = shop(spark, tmp_path, csv="csv")
    deliver(pipeline, "csv/a.csv", b"id,v\nA,1\n")

    def gone(*_: object, **__: object) -> None:
        raise PySparkRuntimeError("Cannot call methods on a stopped SparkContext")

    with monkeypatch.context() as m:
        m.setattr(loading, "_rows", gone)
        with pytest.raises(PySparkRuntimeError):
            pipeline.run("ingest")
    pipeline.run("ingest")
    assert ids(pipeline, "csv") == ["A"]


@pytest.mark.parametrize("name", ["[prod] {eu,us}", "back\\slash", "10:30", "100% a%20b", "star*?"])
def test_landing_folders_of_any_name(spark: SparkSession, tmp_path: Path, name: str) -> None:
    pipeline = shop(spark, tmp_path, csv="csv", json="json", pq="parquet")
    pipeline.landing = tmp_path / name
    deliver(pipeline, "csv/a.csv", b"id,v\nA,1\n")
    deliver(pipeline, "json/a.json", b'{"id":"J"}\n')
    deliver(pipeline, "pq/a.parquet", table("P"))
    pipeline.run("ingest")
    assert [ids(pipeline, n) for n in ("csv", "json", "pq")] == [["A"], ["J"], ["P"]]
    files = pipeline.table("bronze.own_csv").select("_source.file").collect()
    assert [r[0] for r in files] == ["csv/a.csv"]
    shutil.rmtree(pipeline.landing)


def test_files_without_a_header_and_with_lines_to_skip(spark: SparkSession, tmp_path: Path) -> None:
    pipeline = shop(spark, tmp_path, bare="csv", report="csv", pipes="csv", blanks="csv")
    for name, setting in (
        ("bare", "header: none"),
        ("report", "skip_lines: 2"),
        ("pipes", "options: {sep: '||', comment: '#', quote: ''}"),
        ("blanks", "options: {ignoreLeadingWhiteSpace: 'true', ignoreTrailingWhiteSpace: 'true'}"),
    ):
        file = tmp_path / f"sources/{name}/source.yaml"
        file.write_text(file.read_text() + f"    {setting}\n")
    deliver(pipeline, "bare/a.csv", b"A,1\nB,2\n")
    deliver(pipeline, "bare/b.csv", b'\xef\xbb\xbf"C",3\n\nD,\xff\n')
    deliver(pipeline, "report/a.csv", b'Sales "March", 2026\n\nid,v\nE,5\n')
    deliver(pipeline, "report/b.csv", b"Sales\n,,,\nid,v\nF,6\nG,7\n")
    deliver(pipeline, "pipes/a.csv", b'# of\nid||v\nH||"8\n#\nI||9\n')
    deliver(pipeline, "blanks/a.csv", b'  \n \t\n , \n id , "v"\n J , "x, y" \n')
    pipeline.run("ingest")
    found = {}
    for name in ("bare", "report", "pipes", "blanks"):
        rows = pipeline.table(f"bronze.own_{name}").select("id", "v", "_corrupt").collect()
        found[name] = sorted((tuple(r) for r in rows), key=str)
    assert found == {
        "bare": [("A", "1", None), ("B", "2", None), ("C", "3", None), (None, None, "base64:RCz/")],
        "report": [("E", "5", None), ("F", "6", None), ("G", "7", None)],
        "pipes": [("H", '"8', None), ("I", "9", None)],
        "blanks": [("J", "x, y", None)],
    }
