"""What Spark raises on a row is told with the SELECT or the rule it stands in and the row, and stops no other input."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from lakehouse.errors import ConfigurationError
from pipeline import Pipeline
from pyspark.sql import SparkSession

BAD = {
    "casts": ("CAST(value AS INT)", "x", "CAST_INVALID_INPUT"),
    "divides": ("1 / CAST(value AS INT)", "0", "DIVIDE_BY_ZERO"),
    "instants": ("to_timestamp(value, 'yyyy')", "soon", "CANNOT_PARSE_TIMESTAMP"),
    "dates": ("make_date(2026, CAST(value AS INT), 1)", "13", "DATETIME_FIELD_OUT_OF_BOUNDS"),
    "elements": ("element_at(array(1, 2), CAST(value AS INT))", "3", "INVALID_ARRAY_INDEX"),
    "addresses": ("url_decode(value)", "%zz", "CANNOT_DECODE_URL"),
    "patterns": ("value RLIKE value", "(", "INVALID_PARAMETER_VALUE.PATTERN"),
    "raises": ("assert_true(value = '1')", "2", "USER_RAISED_EXCEPTION"),
    "subqueries": ("(SELECT id FROM range(2))", None, "SCALAR_SUBQUERY_TOO_MANY_ROWS"),
    # Spark has no name for these.
    "documents": ("xpath_int(value, 'a')", "no xml", "Error loading expression"),
    "sequences": ("size(sequence(1, 5, CAST(value AS INT)))", "-1", "Illegal sequence boundaries"),
}
"""By source, an expression over the column ``value``, a value that it fails on, and what Spark says then."""
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: things
name: things
version: 1.0.0
status: active
schema:
  - name: things
    physicalName: silver.things
    properties:
      - {name: id, logicalType: string, physicalType: string, primaryKey: true, primaryKeyPosition: 1, required: true}
      - {name: value, logicalType: string, physicalType: string}
"""
GOOD = {"documents": "<a>1</a>"}


def write(pipeline: Pipeline, source: str, expression: str, values: list[str], *, entity: str = "things") -> None:
    folder = pipeline.sources / source
    folder.mkdir(parents=True, exist_ok=True)
    declared = {"path": source, "format": "csv", "columns": ["id", "value"], "entities": [entity]}
    (folder / "source.yaml").write_text(yaml.safe_dump({"inputs": {f"{source}_files": declared}}))
    (folder / f"{entity}.sql").write_text(
        f"-- Where it fails.\nSELECT _row, id,\n  CAST({expression} AS STRING) AS value FROM {source}_files"
    )
    (pipeline.landing / source).mkdir(exist_ok=True)
    lines = [f"{source} {n},{value}" for n, value in enumerate(values, 1)]
    (pipeline.landing / source / "a.csv").write_text("\n".join(["id,value", *lines]) + "\n")


def pipeline_with(spark: SparkSession, folder: Path, contract: str) -> Pipeline:
    for name in ("contracts", "sources"):
        (folder / name).mkdir()
    (folder / "contracts/things.odcs.yaml").write_text(contract)
    return Pipeline(spark, folder, contracts=folder / "contracts", sources=folder / "sources")


def test_each_select_that_fails_is_named_with_its_row_and_the_other_inputs_are_validated(
    spark: SparkSession, tmp_path: Path
) -> None:
    pipeline = pipeline_with(spark, tmp_path, CONTRACT)
    for source, (expression, bad, _) in BAD.items():
        good = GOOD.get(source, "2026" if source == "instants" else "1")
        write(pipeline, source, expression, [good] * 6 + [bad or "2"] + [good] * 3)
    write(pipeline, "sound", "value", ["1"] * 10)
    pipeline.run("ingest")
    with pytest.raises(ConfigurationError) as raised:
        pipeline.run("validate")
    told = re.findall(
        r"sources/(\w+)/things.sql(, line 3)?: fails on (a row|row \d+ of [\w/.]+): (.*?) Write it so",
        str(raised.value),
    )
    found = {source: (row, text) for source, _, row, text in told}
    assert set(found) == set(BAD)
    assert str(raised.value).count("with the try_ form of the function") == len(BAD)
    for source, (_, bad, text) in BAD.items():
        assert text in found[source][1], found[source]
        # Whoever mends it needs the value, and not what Spark's settings are called.
        assert not re.search(r"SQLSTATE|ansi\.enabled|Job aborted|TASK_WRITE", found[source][1])
        # A subquery of its own fails on any row.
        assert re.fullmatch(f"row {7 if bad else '.*'} of {source}/a.csv", found[source][0]), source
    assert pipeline.table("staged.things").select("_batch_id").distinct().count() == 1
    assert {r["id"].split()[0] for r in pipeline.table("staged.things").collect()} == {"sound"}

    write(pipeline, "casts", "try_cast(value AS INT)", [])
    (pipeline.landing / "casts/a.csv").unlink()
    pipeline.run("validate", only=["casts"])
    assert pipeline.table("staged.things").where("id LIKE 'casts%'").count() == 10


def test_a_rule_that_fails_on_a_row_is_named(spark: SparkSession, tmp_path: Path) -> None:
    rule = {
        "name": "value_is_positive", "type": "custom", "engine": "spark", "severity": "reject", "implementation": "CAST(value AS INT) > 0",
    }  # fmt: skip
    model = yaml.safe_load(CONTRACT)
    model["schema"][0]["quality"] = [{**rule, "name": "id_is_long", "implementation": "length(id) > 1"}, rule]
    pipeline = pipeline_with(spark, tmp_path, yaml.safe_dump(model))
    write(pipeline, "ruled", "value", ["1", "2", "x", "-1"])
    pipeline.run("ingest")
    with pytest.raises(ConfigurationError) as raised:
        pipeline.run("validate")
    assert re.search(
        r"^the contract of things: the rule value_is_positive fails on row 3 of ruled/a.csv: \[CAST_INVALID_INPUT\] .*'x'.* try_", str(raised.value)
    )  # fmt: skip

    mended = {**rule, "implementation": "try_cast(value AS INT) > 0"}
    model["schema"][0]["quality"] = [mended]
    (pipeline.contracts / "things.odcs.yaml").write_text(yaml.safe_dump(model))
    pipeline.run("validate")
    kept = [(r["id"], r["value"]) for r in pipeline.table("staged.things").collect()]
    assert sorted(kept) == [("ruled 1", "1"), ("ruled 2", "2")]

    # A replay evaluates them, too, in a dry run as well.
    write(pipeline, "ruled", "to_date(value)", [])
    for dry_run in (True, False):
        with pytest.raises(
            ConfigurationError, match=r"sources/ruled/things.sql, line 3: fails on row \d of ruled/a.csv: .*try_cast"
        ):
            pipeline.run("replay", only=["things"], dry_run=dry_run, by="A", reason="mended")


def test_what_is_not_about_a_row_stays_what_it_is(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lakehouse.tables import Warehouse

    pipeline = pipeline_with(spark, tmp_path, CONTRACT)
    write(pipeline, "sound", "value", ["1", "2"])
    pipeline.run("ingest")

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("[TASK_WRITE_FAILED] something of the storage. SQLSTATE: 58030")

    monkeypatch.setattr(Warehouse, "append", broken)
    with pytest.raises(RuntimeError, match="something of the storage"):
        pipeline.run("validate")
