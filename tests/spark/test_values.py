"""Reading values: what a contract makes of a received text, against tables made by hand and Python's decimal."""

from __future__ import annotations

import decimal
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lakehouse import contracts
from lakehouse.validation import values
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F


def read(spark: SparkSession, function: Callable[[Column], Column], texts: Sequence[str | None]) -> list[object]:
    frame = spark.createDataFrame([(n, t) for n, t in enumerate(texts)], "n INT, t STRING")
    return [r["v"] for r in frame.select("n", function(F.col("t")).alias("v")).orderBy("n").collect()]


def test_text_is_trimmed_and_empty_is_null(spark: SparkSession) -> None:
    cases = {
        " a ": "a",
        "\t\r\na\u00a0\u3000": "a",
        "a b": "a b",
        "": None,
        " \u2003": None,
        None: None,
        "007": "007",
        "\u200ba": "\u200ba",
    }
    assert read(spark, values.text, list(cases)) == list(cases.values())


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(alphabet="aZ09 \t\n\u00a0\u2003\u3000~!\x7fäß", max_size=6), min_size=100, max_size=300))
def test_trimming_agrees_with_pythons(spark: SparkSession, texts: list[str]) -> None:
    expected = [t.strip(" \t\n\u00a0\u2003\u3000") or None for t in texts]
    assert read(spark, values.text, texts) == expected


MONEY = {
    "5": "5.00",
    "5.0": "5.00",
    "5.": "5.00",
    ".5": "0.50",
    "5.00": "5.00",
    "5.0000000000000000000000000": "5.00",
    "5e0": "5.00",
    "5E2": "500.00",
    "1.25e1": "12.50",
    "125e-2": "1.25",
    "1.250e-1": None,
    "-5.10": "-5.10",
    "+5": "5.00",
    "-0": "0.00",
    "0e-9": "0.00",
    "9999999999999999.99": "9999999999999999.99",
    "10000000000000000": None,
    "1e16": None,
    "1e99": None,
    "5.001": None,
    "5.0000000000000000000000001": None,
    "5e-3": None,
    "1e-30": None,
    "12,50": None,
    "1,000.00": None,
    "1_000": None,
    "$5": None,
    "5 EUR": None,
    "NaN": None,
    "Infinity": None,
    "-inf": None,
    "": None,
    "0x10": None,
    "1d": None,
    "5f": None,
    "--5": None,
    "e5": None,
    "\u0665": None,
    None: None,
}


def test_money(spark: SparkSession) -> None:
    read_all = read(spark, lambda c: values.decimal(c, 18, 2), list(MONEY))
    assert {t: None if v is None else str(v) for t, v in zip(MONEY, read_all, strict=True)} == MONEY


def exact(text: str) -> decimal.Decimal | None:
    """A text as decimal(18,2), by Python's decimal."""
    with decimal.localcontext(decimal.Context(prec=400, Emax=9999, Emin=-9999)):
        value = decimal.Decimal(text)
        cents = value * 100
        return (
            value.quantize(decimal.Decimal("0.01"))
            if cents == cents.to_integral_value() and abs(cents) < 10**18
            else None
        )


numbers = st.builds(
    lambda sign, whole, fraction, exponent: f"{sign}{whole}{fraction}{exponent}",
    st.sampled_from(["", "+", "-"]),
    st.integers(0, 10**17).map(str),
    st.one_of(
        st.just(""), st.integers(0, 10**6).map(lambda n: f".{n}"), st.sampled_from([".00", ".5", ".250", ".001"])
    ),
    st.one_of(st.just(""), st.integers(-6, 6).map(lambda n: f"e{n}")),
)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(numbers, min_size=150, max_size=200))
def test_money_agrees_with_pythons_decimal(spark: SparkSession, texts: list[str]) -> None:
    got = read(spark, lambda c: values.decimal(c, 18, 2), texts)
    assert dict(zip(texts, got, strict=True)) == {t: exact(t) for t in texts}


INSTANTS = {
    "2026-03-01": datetime(2026, 3, 1),
    "2026-03-01 12:30": datetime(2026, 3, 1, 12, 30),
    "2026-03-01T12:30:15": datetime(2026, 3, 1, 12, 30, 15),
    "2026-03-01T12:30:15.123456Z": datetime(2026, 3, 1, 12, 30, 15, 123456),
    "2026-03-01T12:30:15+02:00": datetime(2026, 3, 1, 10, 30, 15),
    "2026-03-01T12:30:15-0130": datetime(2026, 3, 1, 14, 0, 15),
    "2026-03-01T12:30:15+02": datetime(2026, 3, 1, 10, 30, 15),
    "2024-02-29": datetime(2024, 2, 29),
    "2026-02-29": None,
    "2026-02-30": None,
    "2026-13-01": None,
    "2026-03-01T25:00:00": None,
    "2026-03-01T24:00:00": None,
    "01/03/2026": None,
    "31.12.2026": None,
    "2026-3-1": None,
    "20260301": None,
    "1772323200": None,
    "2026-03-01T12": None,
    "2026-03": None,
    "2026": None,
    "T12:00": None,
    "yesterday": None,
    "2026-03-01T12:30:15 Europe/Berlin": None,
    "2026-03-01T12:30:15[UTC]": None,
    None: None,
}


def test_instants(spark: SparkSession) -> None:
    got = read(spark, values.instant, list(INSTANTS))
    expected = [None if v is None else v.replace(tzinfo=UTC).timestamp() for v in INSTANTS.values()]
    assert [None if v is None else v.replace(tzinfo=UTC).timestamp() for v in got] == expected  # type: ignore[attr-defined]


def test_integers(spark: SparkSession) -> None:
    cases = {
        "5": 5,
        "+5": 5,
        "-5": -5,
        "007": 7,
        "2147483647": 2147483647,
        "2147483648": None,
        "5.0": None,
        "5e0": None,
        "": None,
        "many": None,
    }
    column = contracts.Column("stock", "int")
    assert read(spark, lambda c: values.read(column, c), list(cases)) == list(cases.values())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("view", "view"),
        ("VIEW", "view"),
        ("Add_To_Cart", "add-to-cart"),
        ("hover", None),
        ("vi ew", None),
        (None, None),
    ],
)
def test_enumerations(spark: SparkSession, text: str | None, expected: str | None) -> None:
    column = contracts.Column(
        "t", "string", enum=("view", "click", "add-to-cart"), aliases=(("add_to_cart", "add-to-cart"),)
    )
    assert read(spark, lambda c: values.read(column, c), [text]) == [expected]
