"""A value that is there and cannot be read is never the same as one that is missing: in the shipped SELECTs, and by computed."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from lakehouse.validation import functions
from pipeline import Pipeline
from pyspark.sql import SparkSession

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
LINES = {
    "sound": ("3", "2.50"), "unread quantity": ("abc", "2.50"), "unread price": ("3", "2;50"), "only a quantity": ("3", ""),
    "only a price": ("", "2.50"), "neither": ("", ""), "blanks": ('" "', '"\t"'), "unread alone": ("abc", ""), "large": ("2000000000", "99999999999999.999"),
}  # fmt: skip


@pytest.fixture(scope="module")
def shops(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    pipeline = Pipeline(spark, tmp_path_factory.mktemp("computed"))
    (pipeline.landing / "online_retail").mkdir()
    lines = [
        f"{name},S1,thing,{quantity},2011-01-01T10:00:00Z,{price},C1,UK" for name, (quantity, price) in LINES.items()
    ]
    (pipeline.landing / "online_retail/a.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    events = [
        {"eventType": "purchase-complete", "visitorId": name, "eventTime": "2021-01-01T00:00:00Z",
         "productDetails": [{"product": {"id": "P1"}, "quantity": 1}, {"product": {"id": "P2"}, "quantity": 1}],
         "purchaseTransaction": transaction}
        for name, transaction in (("sound", {"revenue": 12.5}), ("no revenue", {"id": "x"}), ("none", None), ("no json", "12.5 EUR"))
    ]  # fmt: skip
    products = [
        {"id": "sound", "categories": ["a"], "availability": "OUT_OF_STOCK", "priceInfo": {"price": 3}},
        {"id": "no price", "categories": ["a"], "availability": "OUT_OF_STOCK", "priceInfo": {"currency": "USD"}},
        {"id": "no json", "categories": ["a"], "availability": "OUT_OF_STOCK", "priceInfo": "three"},
    ]
    folder = pipeline.landing / "google_retail"
    folder.mkdir()
    (folder / "user_events.json").write_text("\n".join(map(json.dumps, events)) + "\n")
    (folder / "products.json").write_text("\n".join(map(json.dumps, products)) + "\n")
    for source in ("online_retail", "google_retail"):
        pipeline.run("ingest", only=[source])
        pipeline.run("validate", only=[source])
    return pipeline


def reasons(pipeline: Pipeline, entity: str, column: str, key: str) -> dict[str, str]:
    rows = pipeline.table(f"quarantine.{entity}").collect()
    told = [
        (json.loads(r["raw"]).get(key), reason) for r in rows for reason in r["reasons"] if reason["column"] == column
    ]
    told = [(name, reason) for name, reason in told if name is not None]
    return {name: f"{reason['rule']} {reason['message'].split(': ', 1)[1]}" for name, reason in told}


def test_an_amount_that_cannot_be_computed_is_no_sale_of_nothing(shops: Pipeline) -> None:
    staged = shops.table("staged.transactions").where("customer_id = 'C1'").collect()
    assert {r["order_id"]: (r["amount"], r["_warnings"].count("default:amount")) for r in staged} == {
        "sound": (Decimal("7.50"), 0), "neither": (Decimal("0.00"), 1), "blanks": (Decimal("0.00"), 1),
    }  # fmt: skip
    told = reasons(shops, "transactions", "amount", "InvoiceNo")
    assert {name: message.partition('" is not a decimal(18,2)')[0] for name, message in told.items()} == {
        "unread quantity": 'cast:amount amount "cannot be computed from abc, 2.50',
        "unread price": 'cast:amount amount "cannot be computed from 3, 2;50',
        "only a quantity": 'cast:amount amount "cannot be computed from 3, (missing)',
        "only a price": 'cast:amount amount "cannot be computed from (missing), 2.50',
        "unread alone": 'cast:amount amount "cannot be computed from abc, (missing)',
        "large": 'cast:amount amount "199999999999999998000000.00',
    }


def test_what_is_no_json_is_not_a_missing_value(shops: Pipeline) -> None:
    staged = shops.table("staged.transactions").where("product_id IN ('P1', 'P2')").collect()
    assert sorted((r["customer_id"], r["product_id"], r["amount"]) for r in staged) == [
        ("no json", "P2", Decimal("0.00")),
        *[(name, p, Decimal("0.00")) for name in ("no revenue", "none") for p in ("P1", "P2")],
        ("sound", "P1", Decimal("12.50")), ("sound", "P2", Decimal("0.00")),
    ]  # fmt: skip
    rejected = shops.table("quarantine.transactions").where("input = 'google_retail_events'").collect()
    assert [(json.loads(r["raw"])["visitorId"], r["reasons"][0]["value"]) for r in rejected] == [
        ("no json", "cannot be computed from 12.5 EUR")
    ]
    told = reasons(shops, "products", "price", "id")
    assert {name: message.split(":", 2)[1].split(" is not")[0] for name, message in told.items()} == {
        "no price": "price price is missing", "no json": 'price price "cannot be computed from three"',
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("computed(1.50, array('a'))", "1.50"),
        ("computed(CAST(7 AS INT), array('a'))", "7"),
        ("computed(TIMESTAMP '2026-03-01 10:00:00', array('a'))", "2026-03-01 10:00:00"),
        ("computed(DATE '2026-03-01', array('a'))", "2026-03-01"),
        ("computed(CAST(2.5e10 AS DOUBLE), array('a'))", "2.5E10"),
        ("computed(NULL, array('a', NULL, 'b'))", "cannot be computed from a, (missing), b"),
        ("computed(NULL, array(NULL, ' \\u00a0\\t', ''))", None),
        ("computed(NULL, array(NULL))", None),
        ("computed(NULL, array(1, NULL))", "cannot be computed from 1, (missing)"),
        ("upper(computed(try_cast('x' AS INT) * 2, array('x')))", "CANNOT BE COMPUTED FROM X"),
        ("CASE WHEN computed(NULL, array('x')) IS NULL THEN 'missing' ELSE 'there' END", "there"),
    ],
)
def test_computed(spark: SparkSession, sql: str, expected: str | None) -> None:
    functions.register(spark)
    assert spark.sql(f"SELECT {sql} AS x FROM range(1)").collect()[0][0] == expected
