"""A folder of hostile files in one run: each row and file has the outcome that a sensible user expects (``hostile_files.py``)."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hostile_files import COLUMNS, CSV_CASES, FILES, IGNORED, JSON_CASES, LONG, TYPES, Outcome, cell
from pipeline import Pipeline
from pyspark.sql import SparkSession
from pyspark.sql import functions as F


def contract() -> dict[str, Any]:
    logical = {"decimal(18,2)": "number", "double": "number", "int": "integer"}
    properties: list[dict[str, Any]] = [
        {"name": n, "logicalType": logical.get(t, t), "physicalType": t} for n, t in TYPES.items()
    ]
    by_name = {p["name"]: p for p in properties}
    by_name["id"] |= {"primaryKey": True, "required": True, "logicalTypeOptions": {"maxLength": 256}}
    by_name["kind"] |= {
        "required": True,
        "quality": [
            {"type": "library", "metric": "invalidValues", "arguments": {"validValues": ["new", "used"]}, "mustBe": 0}
        ],
        "customProperties": [{"property": "aliases", "value": {"fresh": "new"}}],
    }
    by_name["amount"]["logicalTypeOptions"] = {"minimum": 0}
    by_name["at"] |= {
        "logicalTypeOptions": {"minimum": "1970-01-01T00:00:00Z"},
        "customProperties": [{"property": "maxAheadOfIngestion", "value": "P1D"}],
    }
    return {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": "things",
        "name": "things",
        "version": "1.0.0",
        "status": "active",
        "schema": [{"name": "things", "physicalName": "silver.things", "properties": properties}],
    }


@pytest.fixture(scope="module")
def pipeline(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "contracts").mkdir()
    (folder / "contracts/things.odcs.yaml").write_text(yaml.safe_dump(contract()))
    for kind in ("csv", "json"):
        source, name = folder / "sources" / kind, f"hostile_{kind}"
        source.mkdir(parents=True)
        inputs = {name: {"path": f"hostile/{kind}", "format": kind, "columns": COLUMNS, "entities": ["things"]}}
        (source / "source.yaml").write_text(yaml.safe_dump({"inputs": inputs}))
        (source / "things.sql").write_text(f"SELECT _row, {', '.join(COLUMNS)} FROM {name}")
    pipeline = Pipeline(spark, folder, contracts=folder / "contracts", sources=folder / "sources")
    for name, (content, _) in FILES.items():
        write(pipeline.landing / name, content)
    for name in IGNORED:
        write(pipeline.landing / name, cell(note="not to be read"))
    pipeline.reports = {stage: pipeline.run(stage) for stage in ("ingest", "validate", "merge")}
    return pipeline


def write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


@pytest.fixture(scope="module")
def outcomes(pipeline: Pipeline) -> dict[str, Outcome]:
    """What became of each file, with accepted rows in full."""
    found = {name: Outcome() for name in FILES}
    staged = pipeline.table("staged.things").withColumn("length", F.length("note"))
    columns = [F.col(c).cast("string").alias(c) for c in (*COLUMNS, "length")]
    for row in staged.select(F.col("_sequence.file").alias("file"), *columns).orderBy("id").collect():
        found[row["file"]].accepted.append({c: row[c] for c in (*COLUMNS, "length")})
    kept = pipeline.table("quarantine.things").select("_source.file", F.col("reasons.rule").alias("rules"))
    for row in kept.collect():
        found[row["file"]].rejected.append(row["rules"])
    states = pipeline.table("ops.files").where("state = 'set aside'").select("path", "reason").collect()
    for row in states:
        found[row["path"]] = Outcome(set_aside=row["reason"])
    return found


@pytest.mark.parametrize("name", list(FILES))
def test_outcome(outcomes: dict[str, Outcome], name: str) -> None:
    expected, found = FILES[name][1], outcomes[name]
    if expected.set_aside is not None:
        assert found.set_aside is not None, found
        assert expected.set_aside in found.set_aside
        return
    assert found.set_aside is None
    assert found.rejected == expected.rejected
    named = [{c: row[c] for c in want} for row, want in zip(found.accepted, expected.accepted, strict=True)]
    assert named == expected.accepted


def test_there_are_enough_cases() -> None:
    assert len(FILES) >= 60


def test_files_that_are_to_be_ignored_are(pipeline: Pipeline) -> None:
    known = {r["path"] for r in pipeline.table("ops.files").select("path").distinct().collect()}
    assert known == set(FILES)


def test_no_value_is_altered_in_bronze(pipeline: Pipeline) -> None:
    """Python's own csv module, on the files that it reads like RFC 4180, against bronze."""
    import csv as python_csv
    import io

    python_csv.field_size_limit(len(LONG) + 1)
    # Where a quote ends early the two libraries differ, and the standard says nothing.
    # So they do on what stands before a header, on names that are the same, and where CRLF and LF are mixed.
    alike = [
        n
        for n in CSV_CASES
        if CSV_CASES[n][1].accepted
        and n != "quote that ends early"
        and " before the header" not in n
        and "excel" not in n
        and "lf " not in n
        and "without a name" not in n
        and not CSV_CASES[n][1].rejected
        and "byte order mark before a name" not in n
    ]
    rows = pipeline.table("bronze.hostile_csv").where("_corrupt IS NULL")
    bronze: dict[str, list[tuple[str | None, ...]]] = {}
    for r in rows.select("_source.file", *COLUMNS).orderBy("_source.file", "_source.row").collect():
        bronze.setdefault(r["file"], []).append(tuple(r[c] or None for c in COLUMNS))
    compared = 0
    for name in alike:
        text = CSV_CASES[name][0].decode("utf-8-sig")
        read = python_csv.DictReader(io.StringIO(text, newline=""))
        want = [tuple(row.get(c) or None for c in COLUMNS) for row in read]
        assert bronze[f"hostile/csv/{name}.csv"] == want, name
        compared += 1
    assert compared > 25


def test_what_is_no_text_is_kept_as_it_was(pipeline: Pipeline) -> None:
    """Bytes that cannot be decoded, and what could not be parsed, to the letter."""
    wanted = ("undecodable byte in a cell.csv", "undecodable byte.jsonl", "words behind.jsonl", "too few fields.csv")
    kept = pipeline.table("quarantine.things").where(F.col("reasons.rule")[0] == "corrupt_record")
    raw = {Path(r["file"]).name: r["raw"] for r in kept.select("_source.file", "raw").collect()}
    assert [raw[name] for name in wanted] == [
        "base64:" + base64.b64encode(b"K,new,,,,,,,caf\xe9").decode(),
        "base64:" + base64.b64encode(JSON_CASES["undecodable byte"][0].strip()).decode(),
        JSON_CASES["words behind"][0].decode().strip(),
        "K,new,1",
    ]


def test_undeclared_values_are_rescued_by_their_names(pipeline: Pipeline) -> None:
    def rescued(kind: str, name: str) -> dict[str, str]:
        rows = pipeline.table(f"bronze.hostile_{kind}").where(F.col("_source.file").contains(f"/{name}."))
        (row,) = rows.select("_rescued").collect()
        return json.loads(row[0])

    names = ["_file", "_metadata", "_rescued", "_corrupt", "lakehouse corrupt record", "c0", "`x`.y"]
    assert rescued("csv", "names of the reader's own") == {name: str(n + 1) for n, name in enumerate(names)}
    assert rescued("csv", "two columns without a name") == {"_c2": "x", "_c3": "y"}
    assert rescued("csv", "3,000 columns") == {f"n{n}": str(n) for n in range(3000)}
    own = rescued("json", "names of the reader's own")
    assert own == {
        "_file": "1",
        "_metadata": "2",
        "_rescued": "3",
        "_corrupt": "4",
        "value": "5",
        "fields": "6",
        "text": "7",
    }
    assert rescued("json", "5,000 fields") == {f"n{n}": str(n) for n in range(5000)}


def test_messages_name_the_row_the_file_the_value_and_what_it_should_be(pipeline: Pipeline) -> None:
    kept = pipeline.table("quarantine.things").where("_source.file LIKE '%decimal comma%'")
    assert [r[0] for r in kept.select("reasons.message").collect()] == [
        [
            'things row 1 of hostile/csv/decimal comma.csv: amount "12,50" is not a decimal(18,2): digits with a decimal point, '
            "at most 16 before and 2 behind it, no separators between thousands and no currency"
        ]
    ]


def test_a_second_run_loads_nothing_and_sets_nothing_aside_again(pipeline: Pipeline) -> None:
    assert not pipeline.run("ingest").wrote
    assert not pipeline.run("validate").wrote


def test_a_key_called_id_survives_a_replay(pipeline: Pipeline) -> None:
    """The quarantine calls a raw row by an id of its own; the contract's column of that name is another thing."""
    model = contract()
    kind = next(p for p in model["schema"][0]["properties"] if p["name"] == "kind")
    kind["customProperties"][0]["value"]["newish"] = "new"
    (pipeline.contracts / "things.odcs.yaml").write_text(yaml.safe_dump(model))
    report = pipeline.run("replay", only=["things"], rule="enum:kind")
    assert report.tables["quarantine.things"]["rows_replayed"] == 1
    staged = pipeline.table("staged.things").where("array_contains(_warnings, 'replayed')")
    assert [tuple(r) for r in staged.select("id", "kind", "_sequence.file").collect()] == [
        ("K", "new", "hostile/csv/unknown enum.csv")
    ]
