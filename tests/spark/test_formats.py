"""Law 4 across formats: the same values as CSV, JSON lines, Parquet (as pandas, Arrow and Spark write it) and messages."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lakehouse.ingestion import json_objects, kafka
from lakehouse.ingestion.numbers import number_text
from lakehouse.ingestion.readers import _value, as_text
from pipeline import Pipeline
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import LongType
from support import ROOT, an_input

COLUMNS = ["id", "customer", "product", "amount", "at", "status"]
AT = datetime(2026, 3, 1, 10, 30, 0, 123456, tzinfo=UTC)
# An id that pandas has made a double, money, an instant: each as the format's writers have it.
CSV = "id,customer,product,amount,at,status\nT1,17850,P1,2.5,2026-03-01T10:30:00.123456Z,Completed\nT2,,P1,1234567.89,2026-03-01T10:30:00.123456Z,cancelled\n"
JSON = [
    {"id": "T1", "customer": 17850.0, "product": "P1", "amount": 2.50, "at": "2026-03-01T10:30:00.123456Z", "status": "Completed"},
    {"id": "T2", "customer": None, "product": "P1", "amount": 1.23456789e6, "at": "2026-03-01T12:30:00.123456+02:00", "status": "cancelled"},
]  # fmt: skip
COMMON = {"id": ["T1", "T2"], "product": ["P1", "P1"], "status": ["Completed", "cancelled"]}
PARQUET = {
    "pandas": COMMON
    | {
        "customer": pa.array([17850.0, None], pa.float64()),
        "amount": pa.array([2.5, 1234567.89], pa.float64()),
        "at": pa.array([AT, AT], pa.timestamp("ns")),
    },
    "arrow": COMMON
    | {
        "customer": pa.array([17850, None], pa.int32()),
        "amount": pa.array([Decimal("2.50"), Decimal("1234567.89")], pa.decimal128(20, 4)),
        "at": pa.array([AT, AT], pa.timestamp("us", tz="Europe/Berlin")),
    },
    "spark": COMMON
    | {
        "customer": pa.array(["17850", None], pa.large_string()),
        "amount": pa.array([b"2.5", b"1234567.89"], pa.binary()),
        "at": pa.array([AT, AT], pa.timestamp("us", tz="UTC")),
    },
}
SELECT = (
    "SELECT _row, id AS transaction_id, customer AS customer_id, product AS product_id, at AS date, amount, "
    "'card' AS payment_method, status AS transaction_status FROM own_{0}"
)
EXPECTED = [
    ("T1", "17850", "P1", AT.replace(tzinfo=None), Decimal("2.50"), "Completed"),
    ("T2", None, "P1", AT.replace(tzinfo=None), Decimal("1234567.89"), "Cancelled"),
]


def test_the_same_transactions_in_every_format(spark: SparkSession, tmp_path: Path) -> None:
    formats = {"csv": "csv", "json": "json"} | dict.fromkeys(PARQUET, "parquet")
    for name, format_ in formats.items():
        source, landed = tmp_path / "sources" / name, tmp_path / "landing" / name
        source.mkdir(parents=True), landed.mkdir(parents=True)
        (source / "source.yaml").write_text(
            f"inputs:\n  own_{name}:\n    path: {name}\n    format: {format_}\n"
            f"    columns: [{', '.join(COLUMNS)}]\n    entities: [transactions]\n"
        )
        (source / "transactions.sql").write_text(SELECT.format(name))
        if format_ == "parquet":
            old = name == "spark"
            pq.write_table(pa.table(PARQUET[name]), landed / "a.parquet", use_deprecated_int96_timestamps=old)
        else:
            (landed / f"a.{name}").write_text(CSV if name == "csv" else "".join(json.dumps(o) + "\n" for o in JSON))
    pipeline = Pipeline(spark, tmp_path, contracts=ROOT / "contracts", sources=tmp_path / "sources")
    pipeline.run("ingest")
    pipeline.run("validate")
    names = ["transaction_id", "customer_id", "product_id", "date", "amount", "transaction_status"]
    staged = pipeline.table("staged.transactions").orderBy("_sequence.file", "transaction_id")
    found: dict[str, list[tuple[Any, ...]]] = {name: [] for name in formats}
    for file, *row in staged.select("_sequence.file", *names).collect():
        found[file.partition("/")[0]].append(tuple(row))
    assert found == dict.fromkeys(formats, EXPECTED)
    texts = pipeline.table("bronze.own_json").select(*COLUMNS).orderBy("id").collect()
    values = [(json.dumps(o).encode(),) for o in JSON]
    assert [tuple(r) for r in texts] == [tuple(r) for r in messages(spark, values, COLUMNS)]


def messages(spark: SparkSession, values: list[tuple[bytes]], columns: list[str]) -> list[tuple[str | None, ...]]:
    """The columns of messages with some values, in their order."""
    frame = spark.createDataFrame(values, "value BINARY").select(
        "value",
        F.lit(None).cast("binary").alias("key"),
        F.lit("t").alias("topic"),
        F.lit(0).alias("partition"),
        F.monotonically_increasing_id().alias("offset"),
        F.lit(AT).alias("timestamp"),
        F.lit(None).cast("array<struct<key: string, value: binary>>").alias("headers"),
    )
    rows = kafka.decoded(frame.coalesce(1), an_input(format="kafka", columns=tuple(columns)), AT, 1)
    return [tuple(r) for r in rows.select(*columns).collect()]


@pytest.mark.parametrize(
    ("literal", "expected"),
    [
        ("12345.0", "12345"), ("1e2", "100"), ("1E+2", "100"), ("1.50", "1.5"), ("-0.0", "0"), ("0", "0"), ("-7", "-7"),
        ("1.5e-7", "1.5E-7"), ("1e22", "1.0E22"), ("9007199254740993", "9007199254740993"), ("9" * 38, "9" * 38),
        ("0." + "1" * 37, "0." + "1" * 37), ("12345678.9", "12345678.9"), ("1.23456789e7", "12345678.9"),
        ("9" * 39, None), ("0." + "1" * 39, None), ("1e400", None), ("1e-400", None), ("1.234567890123456789e3", None),
        ("true", "true"), ("null", None), ('"1e400"', "1e400"), ('" 1.50 "', " 1.50 "), ('{"b":1.50,"a":[]}', '{"a":[],"b":1.5}'),
    ],
)  # fmt: skip
def test_the_text_of_a_json_value(spark: SparkSession, literal: str, expected: str | None) -> None:
    assert messages(spark, [(f'{{"a": {literal}}}'.encode(),)], ["a"]) == [(expected,)]


def test_the_text_of_floats_and_doubles(spark: SparkSession) -> None:
    """Python's own shortest notation is the judge of what digits a double has."""
    doubles = [
        0.0,
        -0.0,
        17850.0,
        10000001.0,
        5521234567890.0,
        12345678.9,
        0.1,
        1e17,
        123456789012345680.0,
        -2.5e7,
        0.001,
    ]
    frame = spark.createDataFrame([(d,) for d in doubles], "d DOUBLE").select(number_text(F.col("d")))
    found = [r[0] for r in frame.collect()]
    assert found == [format(Decimal(repr(d)).normalize() + 0, "f") for d in doubles]
    odd = spark.sql(
        "SELECT double('NaN') n, double('-Infinity') i, double(1e-4) s, double(1e18) b, float(19.99) f, float(1e8) w"
    )
    texts = odd.select(*[number_text(F.col(c)) for c in odd.columns]).first()
    assert texts is not None
    assert tuple(texts) == ("NaN", "-Infinity", "1.0E-4", "1000000000000000000", "19.99", "100000000")


def test_the_text_of_nanoseconds_before_and_after_1970(spark: SparkSession) -> None:
    """Python's own floor is the judge."""
    values = [0, 1, -1, 1500, -1500, -1_000, -86_400_000_000_001, 1_772_323_200_123_456_789, -(2**63), 2**63 - 1]
    frame = spark.createDataFrame([(v,) for v in values], "t BIGINT")
    found = [r[0] for r in frame.select(_value("t", LongType(), nanoseconds=True)).collect()]

    def expected(nanoseconds: int) -> str:
        seconds, rest = divmod(nanoseconds, 10**9)
        whole = datetime(1970, 1, 1) + timedelta(seconds=seconds)
        # As Spark has it: no zeros at the end of microseconds, all digits of nanoseconds.
        digits = f"{rest:09d}" if rest % 1000 else f"{rest // 1000:06d}".rstrip("0")
        return f"{whole:%Y-%m-%d %H:%M:%S}" + (f".{digits}" if digits else "")

    assert found == [expected(v) for v in values]


def test_the_text_of_what_is_nested(spark: SparkSession) -> None:
    """Keys of maps, and bytes, have the text that they have in a column of their own."""
    row = spark.sql("""
        SELECT map(DATE '2026-03-01', 1, DATE '1969-12-31', 2) dates, map(TIMESTAMP '2026-03-01 10:30:00Z', 'x') instants,
          map(X'6b6579', X'7a6f65', X'ff', NULL) bytes, map(17850.0D, 1.50BD) doubles, map(1.50BD, 1, 2.00BD, 2) decimals,
          map(named_struct('a', DATE '2026-03-01'), 1) structs, array(X'7a6f65', NULL, X'ff') list,
          named_struct('a.b', X'7a6f65', 'none', CAST(NULL AS BINARY), 'in', array(map(1, X'ff'))) deep,
          CAST(NULL AS STRUCT<a: BINARY>) nothing, map('k', array(named_struct('d', DATE '2026-03-01'))) plain
    """)
    texts = row.select(*[as_text(field) for field in row.schema.fields]).first()
    assert texts is not None
    assert texts.asDict() == {
        "dates": '{"2026-03-01":1,"1969-12-31":2}',
        "instants": '{"2026-03-01 10:30:00":"x"}',
        "bytes": '{"key":"zoe","base64:/w==":null}',
        "doubles": '{"17850":1.50}',
        "decimals": '{"1.50":1,"2.00":2}',
        "structs": '{"{\\"a\\":\\"2026-03-01\\"}":1}',
        "list": '["zoe",null,"base64:/w=="]',
        "deep": '{"a.b":"zoe","in":[{"1":"base64:/w=="}]}',
        "nothing": None,
        "plain": '{"k":[{"d":"2026-03-01"}]}',
    }


def test_a_map_of_a_file_may_have_a_key_twice(spark: SparkSession, tmp_path: Path) -> None:
    numbers = pa.array([[(1, "a"), (1, "b")], [(1, "a"), (2, "b")], None], pa.map_(pa.int32(), pa.string()))
    nested = pa.array([[[("k", b"a"), ("k", b"b")]], [], [None]], pa.list_(pa.map_(pa.string(), pa.binary())))
    pq.write_table(pa.table({"numbers": numbers, "nested": nested}), tmp_path / "a.parquet")
    frame = spark.read.parquet(str(tmp_path / "a.parquet"))
    found = frame.select(*[as_text(field) for field in frame.schema.fields]).collect()
    assert [r["numbers"] for r in found] == ['{"1":"a","1":"b"}', '{"1":"a","2":"b"}', None]
    assert [r["nested"] for r in found][1:] == ["[]", "[null]"]
    # As Spark writes bytes by itself.
    assert found[0]["nested"] == '[{"k":"YQ==","k":"Yg=="}]'


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**37), 10**37) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    objects=st.lists(st.dictionaries(st.text(max_size=4), JSON_VALUES, max_size=4), min_size=1, max_size=20),
    tail=st.sampled_from(["", " ", "\t", "{}", ",", "]", "}", " x", '"', "[]", "null", " 1", "\ufeff", "//", "\\"]),
)
def test_one_line_is_one_object(spark: SparkSession, objects: list[dict[str, Any]], tail: str) -> None:
    """Python's own parser is the judge: whatever it takes for one object is one here, with the same text in it."""
    texts = [json.dumps(o, ensure_ascii=False) + tail for o in objects]

    def expected(text: str) -> dict[str, str | None] | None:
        try:
            found = json.loads(text)
        except ValueError:
            return None
        return {k: v if isinstance(v, str) else None if v is None else json.dumps(v) for k, v in found.items()}

    safe = [t for t in texts if not any(0xD800 <= ord(c) < 0xE000 for c in t)]
    frame = spark.createDataFrame([(t.encode(),) for t in safe], "value BINARY").coalesce(1)
    found = [
        r["fields"]
        for r in json_objects.parsed(frame, F.col("value"), []).select(json_objects.fields().alias("fields")).collect()
    ]
    for text, fields in zip(safe, found, strict=True):
        want = expected(text)
        assert (fields is None) == (want is None), text
        for name, value in (want or {}).items():
            assert name in fields
            nested = value is not None and value[:1] in "[{"
            same = (
                json.loads(fields[name]) == json.loads(value)
                if nested and value != fields[name]
                else fields[name] == value
            )
            assert same, (text, name)
