"""A folder of hostile files in one run: each row and file has the outcome that a sensible user expects.

One file a case, so that a case cannot hide behind another. The contract has a column of each type; a row
names the outcome: the typed values of an accepted row, the rules that a rejected one breaks, or what
became of the file.
"""

from __future__ import annotations

import base64
import bz2
import codecs
import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from pipeline import Pipeline
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

COLUMNS = ["id", "kind", "amount", "ratio", "stock", "at", "day", "flag", "note"]
HEADER = ",".join(COLUMNS)
TYPES = {
    "id": "string",
    "kind": "string",
    "amount": "decimal(18,2)",
    "ratio": "double",
    "stock": "int",
    "at": "timestamp",
    "day": "date",
    "flag": "boolean",
    "note": "string",
}
LONG = "x" * 5_000_000


@dataclass(frozen=True)
class Outcome:
    accepted: list[dict[str, str | None]] = field(default_factory=list)
    rejected: list[list[str]] = field(default_factory=list)
    set_aside: str | None = None


def ok(**columns: str | None) -> Outcome:
    return Outcome(accepted=[columns])


def bad(*rules: str) -> Outcome:
    return Outcome(rejected=[list(rules)])


def aside(reason: str) -> Outcome:
    return Outcome(set_aside=reason)


def bad2(rule: str) -> Outcome:
    """Two rows that break the same rule."""
    return Outcome(rejected=[[rule], [rule]])


NOTHING, CORRUPT = Outcome(), bad("corrupt_record")


def csv(rest: str, header: str = HEADER) -> bytes:
    return f"{header}\n{rest}\n".encode()


def cell(**values: str) -> bytes:
    """A file of one row: sound, but for the given cells."""
    sound = {"id": "K", "kind": "new"}
    return csv(",".join((sound | values).get(c, "") for c in COLUMNS))


CSV_CASES: dict[str, tuple[bytes, Outcome]] = {
    # Files
    "empty": (b"", NOTHING),
    "header alone": (csv("").rstrip(b"\n"), NOTHING),
    "byte order mark": (codecs.BOM_UTF8 + cell(note="a"), ok(id="K", note="a")),
    "crlf": (cell(note="a").replace(b"\n", b"\r\n"), ok(id="K", note="a")),
    "cr": (cell(note="a").replace(b"\n", b"\r"), ok(id="K", note="a")),
    "no line break at the end": (cell(note="a").rstrip(b"\n"), ok(id="K", note="a")),
    "column named twice": (csv("K,new,1,2", "id,kind,note,note"), aside("names a column twice: 'note'")),
    "column named twice after trimming": (csv("K,new,1,2", "id,kind,note,note "), aside("names a column twice")),
    "other order of columns": (csv("new,K", "kind,id"), ok(id="K", kind="new", note=None)),
    "undeclared column": (csv("K,new,1", "id,kind,colour"), ok(id="K")),
    "required column is missing": (csv("K", "id"), bad("required:kind")),
    "key column is missing": (csv("new", "kind"), bad("required:id")),
    "utf-16": (cell(note="a").decode().encode("utf-16"), aside("NUL bytes")),
    "header in latin-1": ("id,kind,größe\nK,new,1\n".encode("latin-1"), aside("first line is not utf-8")),
    "parquet named csv": (b"PAR1\x15\x04\x15\x00\x00\x00PAR1", aside("is Parquet, which is not read here")),
    "not csv at all": (b"<html><body>502 Bad Gateway</body></html>\n", aside("none of the declared columns")),
    "one row and no header": (
        b"K,new,,,,,,,a\n",
        aside("its first row has 9 fields, and none of the declared columns: is it another file"),
    ),
    "another separator": (cell(note="a").replace(b",", b";"), aside("is sep ';'?")),
    "byte order mark before quotes": (
        codecs.BOM_UTF8 + cell(note="a").replace(b"id,", b'"id",', 1),
        ok(id="K", note="a"),
    ),
    "blank line before the header": (b"\n\r\n" + cell(note="a"), ok(id="K", note="a")),
    "separators before the header": (b",,,\n  \n" + cell(note="a"), ok(id="K", note="a")),
    "separator told to excel": (b"sep=,\r\n" + cell(note="a").replace(b"\n", b"\r\n"), ok(id="K", note="a")),
    "two columns without a name": (csv("K,new,x,y", "id,kind,,"), ok(id="K")),
    "crlf header and lf rows": (
        csv("K,new,,,,,,,a\nL,new,,,,,,,b", f"{HEADER}\r"),
        Outcome([{"id": "K", "note": "a"}, {"id": "L", "note": "b"}]),
    ),
    "crlf and lf rows with a blank line": (
        csv('K,new,,,,,,,"a"\r\n\r\nL,new,,,,,,,\r\nM,new,,,,,,,c', f"{HEADER}\r"),
        Outcome([{"id": "K", "note": "a"}, {"id": "L", "note": None}, {"id": "M", "note": "c"}]),
    ),
    "lf header and crlf rows": (
        csv("K,new,,,,,,,a\r\nL,new,,,,,,,b\r"),
        Outcome([{"id": "K", "note": "a"}, {"id": "L", "note": "b"}]),
    ),
    "names of the reader's own": (
        csv("K,new,1,2,3,4,5,6,7", "id,kind,_file,_metadata,_rescued,_corrupt,lakehouse corrupt record,c0,`x`.y"),
        ok(id="K"),
    ),
    "3,000 columns": (
        csv("K,new," + ",".join(map(str, range(3000))), "id,kind," + ",".join(f"n{n}" for n in range(3000))),
        ok(id="K"),
    ),
    "10:30": (cell(note="a colon in its name"), ok(note="a colon in its name")),
    "caf\u00e9 [1] {2} *?\\ %41+#": (cell(note="a"), ok(id="K", note="a")),
    "stale checksum": (cell(note="a"), ok(id="K", note="a")),
    # Rows
    "too few fields": (csv("K,new,1"), CORRUPT),
    "too many fields": (csv("K,new" + "," * 12), CORRUPT),
    "blank line between rows": (cell(note="a") + b"\nL,new,,,,,,,\n", Outcome([{"id": "K"}, {"id": "L"}])),
    "undecodable byte in a cell": (csv("K,new,,,,,,,caf?").replace(b"?", b"\xe9"), CORRUPT),
    "quoted comma, quote and line break": (cell(note='"a,""b""\r\nc"'), ok(note='a,"b"\r\nc')),
    "quote that never ends": (csv('K,new,,,,,,,"open\nL,new,,,,,,,\nM,new,,,,,,,'), aside("a quoted field never ends")),
    "quote that never ends at the very end": (csv('K,new,,,,,,,"open').rstrip(), aside("a quoted field never ends")),
    "quote that ends early": (cell(note='"5" disk'), ok(note='"5" disk')),
    "quote in the middle": (cell(note='5" disk'), ok(note='5" disk')),
    "nul in a quoted cell": (cell(note="a\0b"), aside("NUL bytes")),
    "row of 5 MB": (cell(note=LONG), Outcome([{"id": "K", "length": "5000000"}])),
    "all cells blank": (csv(",,,,,,,,"), bad("required:id", "required:kind")),
    "injection": (cell(note="'); DROP TABLE silver.things; --"), ok(note="'); DROP TABLE silver.things; --")),
    "markup": (cell(note="<script>alert(1)</script>"), ok(note="<script>alert(1)</script>")),
    "spreadsheet formula": (cell(note="=cmd|'/c calc'!A0"), ok(note="=cmd|'/c calc'!A0")),
    "template": (cell(note="{{ 7 * 7 }} ${jndi:ldap://x} %s"), ok(note="{{ 7 * 7 }} ${jndi:ldap://x} %s")),
    "backslashes": (cell(note=r"C:\new\table"), ok(note=r"C:\new\table")),
    "emoji and right-to-left": (cell(note="🛒 שלום\u202e"), ok(note="🛒 שלום\u202e")),
    "the text null": (cell(note="null"), ok(note="null")),
    "the text NaN in text": (cell(note="NaN"), ok(note="NaN")),
    # Keys
    "blank key": (cell(id='" \t"'), bad("required:id")),
    "key in white space": (cell(id=" K\u00a0"), ok(id="K")),
    "leading zeros": (cell(id="007"), ok(id="007")),
    "key with a control character": (cell(id="K\x07K"), bad("key:id")),
    "key of 300 characters": (cell(id="k" * 300), bad("length:id")),
    "zero-width space in a key": (cell(id="\u200bK"), ok(id="\u200bK")),
    # Enumerations
    "enum in capitals": (cell(kind="NEW"), ok(kind="new")),
    "enum by alias": (cell(kind="Fresh"), ok(kind="new")),
    "enum with inner space": (cell(kind="n ew"), bad("enum:kind")),
    "unknown enum": (cell(kind="newish"), bad("enum:kind")),
    # Decimals
    "decimal in scientific notation": (cell(amount="5e0"), ok(amount="5.00")),
    "decimal comma": (cell(amount='"12,50"'), bad("cast:amount")),
    "currency": (cell(amount="$5"), bad("cast:amount")),
    "thousands separator": (cell(amount='"1,000.00"'), bad("cast:amount")),
    "decimal that overflows": (cell(amount="10000000000000000"), bad("cast:amount")),
    "decimal that would lose digits": (cell(amount="5.001"), bad("cast:amount")),
    "amount not a number": (cell(amount="NaN"), bad("cast:amount")),
    "infinite amount": (cell(amount="Infinity"), bad("cast:amount")),
    "hexadecimal": (cell(amount="0x10"), bad("cast:amount")),
    "arabic digits": (cell(amount="\u0665"), bad("cast:amount")),
    "below the minimum": (cell(amount="-0.01"), bad("range:amount")),
    # Doubles, integers, booleans
    "ratio not a number": (cell(ratio="NaN"), bad("cast:ratio")),
    "infinite ratio": (cell(ratio="-inf"), bad("cast:ratio")),
    "ratio that overflows": (cell(ratio="1e999"), bad("cast:ratio")),
    "ratio with a type suffix": (cell(ratio="1.5d"), bad("cast:ratio")),
    "ratio": (cell(ratio="-1.5e-3"), ok(ratio="-0.0015")),
    "integer that overflows": (cell(stock="2147483648"), bad("cast:stock")),
    "integer with a fraction": (cell(stock="5.0"), bad("cast:stock")),
    "flag in capitals": (cell(flag="TRUE"), ok(flag="true")),
    "flag as a word": (cell(flag="yes"), bad("cast:flag")),
    # Time
    "impossible date": (cell(at="2026-02-30"), bad("cast:at")),
    "leap day of no leap year": (cell(day="2025-02-29"), bad("cast:day")),
    "month first": (cell(at="03/01/2026"), bad("cast:at")),
    "epoch seconds": (cell(at="1772323200"), bad("cast:at")),
    "hour 25": (cell(at="2026-03-01T25:00:00"), bad("cast:at")),
    "time zone by name": (cell(at="2026-03-01T10:00:00 Europe/Berlin"), bad("cast:at")),
    "offset": (cell(at="2026-03-01T10:00:00+01:30"), ok(at="2026-03-01 08:30:00")),
    "year 9999": (cell(at="9999-12-31"), bad("range:at")),
    "before 1970": (cell(at="1969-12-31T23:59:59Z"), bad("range:at")),
    "short date": (cell(day="2026-3-1"), bad("cast:day")),
    # Several at once
    "everything wrong": (
        cell(id="K\x01", kind="x", amount="a", ratio="b", stock="c", at="d", day="e", flag="f"),
        bad("key:id", "enum:kind", "cast:amount", "cast:ratio", "cast:stock", "cast:at", "cast:day", "cast:flag"),
    ),
}


def line(**values: Any) -> bytes:
    return json.dumps({"id": "K", "kind": "new"} | values, ensure_ascii=False).encode() + b"\n"


JSON_CASES: dict[str, tuple[bytes, Outcome]] = {
    "empty": (b"", NOTHING),
    "one line": (line(amount=5.0), ok(amount="5.00")),
    "number kept to the letter": (
        b'{"id":"K","kind":"new","amount":12345678901234.10}\n',
        ok(amount="12345678901234.10"),
    ),
    "number beyond a double": (
        b'{"id":"K","kind":"new","amount":9007199254740993}\n',
        ok(amount="9007199254740993.00"),
    ),
    "null": (line(note=None), ok(note=None)),
    "nested": (line(note={"a": [1, {"b": "ü"}]}), ok(note='{"a":[1,{"b":"ü"}]}')),
    "two objects on a line": (line(note="a").strip() + line(id="L"), CORRUPT),
    "words behind": (line(note="a").strip() + b" and so on\n", CORRUPT),
    "comma behind": (line(note="a").strip() + b",\n", CORRUPT),
    "bracket behind": (line(note="a").strip() + b"]\n", CORRUPT),
    "array of objects": (b"[" + line(note="a").strip() + b"]\n", CORRUPT),
    "nothing in an array": (b"[]\n", CORRUPT),
    "scalar": (b"12\n", CORRUPT),
    "the word null": (b"null\n", CORRUPT),
    "object over several lines": (b'{"id":"K",\n"kind":"new"}\n', bad2("corrupt_record")),
    "field twice": (b'{"id":"K","id":"L","kind":"new"}\n', CORRUPT),
    "number beyond 38 digits": (b'{"id":"K","kind":"new","note":' + b"9" * 39 + b"}\n", CORRUPT),
    "number beyond a double's range": (b'{"id":"K","kind":"new","ratio":1e400}\n', CORRUPT),
    "digits that a double would lose": (b'{"id":"K","kind":"new","ratio":1.23456789012345678e5}\n', CORRUPT),
    "long digits in text": (line(note="1" * 50 + " and 1e5"), ok(note="1" * 50 + " and 1e5")),
    "quotes and digits in text": (line(note='a" ' + "1" * 50, ratio=1.5e-7), ok(note='a" ' + "1" * 50, ratio="1.5E-7")),
    "whole number as a double": (b'{"id":12345.0,"kind":"new","stock":1e2}\n', ok(id="12345", stock="100")),
    "money with an exponent": (b'{"id":"K","kind":"new","amount":1.25e3}\n', ok(amount="1250.00")),
    "negative zero": (b'{"id":"K","kind":"new","amount":-0.0}\n', ok(amount="0.00")),
    "half of a pair of surrogates": (b'{"id":"K","kind":"new","note":"\\ud83d"}\n', CORRUPT),
    "other half of a pair of surrogates": (b'{"id":"K","kind":"new","note":"\\ude00"}\n', CORRUPT),
    "pair of surrogates": (b'{"id":"K","kind":"new","note":"\\ud83d\\ude00"}\n', ok(note="\U0001f600")),
    "names of the reader's own": (
        line(_file=1, _metadata=2, _rescued=3, _corrupt=4, value=5, fields=6, text=7),
        ok(id="K"),
    ),
    "5,000 fields": (line(**{f"n{n}": n for n in range(5000)}), ok(id="K")),
    "nested 600 deep": (
        b'{"id":"K","kind":"new","note":' + b"[" * 600 + b"]" * 600 + b"}\n",
        ok(note="[" * 600 + "]" * 600),
    ),
    "blanks around": (b"  " + line(note="a").strip() + b" \t\r\n", ok(id="K", note="a")),
    "truncated": (line(note="a")[:-5], CORRUPT),
    "array at the top": (b'["K","new"]\n', CORRUPT),
    "bare word": (b"hello\n", CORRUPT),
    "single quotes": (b"{'id':'K','kind':'new'}\n", CORRUPT),
    "NaN literal": (b'{"id":"K","kind":"new","amount":NaN}\n', CORRUPT),
    "byte order mark": (codecs.BOM_UTF8 + line(note="a"), ok(note="a")),
    "blank line": (line(note="a") + b"\n" + line(id="L"), Outcome([{"id": "K"}, {"id": "L"}])),
    "undecodable byte": (line(note="caf?").replace(b"?", b"\xe9"), CORRUPT),
    "nul escaped in a key": (b'{"id":"K\\u0000","kind":"new"}\n', bad("key:id")),
    "line break escaped in text": (line(note="a\nb"), ok(note="a\nb")),
    "unknown field": (line(colour="red"), ok(id="K")),
    "field in other case": (b'{"ID":"K","kind":"new"}\n', bad("required:id")),
    "boolean": (line(flag=True), ok(flag="true")),
    "text for a number": (line(stock="5"), ok(stock="5")),
    "object for a number": (line(stock={"n": 5}), bad("cast:stock")),
    "line of 5 MB": (line(note=LONG), Outcome([{"id": "K", "length": "5000000"}])),
}

PACKED: dict[str, tuple[bytes, Outcome]] = {
    "sound.csv.gz": (gzip.compress(cell(note="packed")), ok(note="packed")),
    "sound.csv.bz2": (bz2.compress(cell(note="packed")), ok(note="packed")),
    "cut short.csv.gz": (
        gzip.compress(csv("\n".join(f"K{n},new,,,,,,,{n * 7919}" for n in range(20_000))))[:-4000],
        aside(""),
    ),
    "not packed.csv.gz": (cell(note="a"), aside("is named .gz, but is not packed so")),
    "zip.csv": (b"PK\x03\x04" + bytes(30), aside("is zip, which is not read here")),
}

FILES = {
    **{f"hostile/csv/{name}.csv": case for name, case in CSV_CASES.items()},
    **{f"hostile/json/{name}.jsonl": case for name, case in JSON_CASES.items()},
    **{f"hostile/csv/{name}": case for name, case in PACKED.items()},
}
IGNORED = (
    "hostile/csv/.stale checksum.csv.crc",
    "hostile/csv/_SUCCESS",
    "hostile/csv/.hidden.csv",
    "hostile/csv/half.csv.part",
    "hostile/csv/half.tmp",
)


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
