"""Sources without a line of Python: OTTO's sessions and Google's retail files, real data."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import oracle
import pytest
from pipeline import Pipeline
from pyspark.sql import SparkSession
from support import real_data


@pytest.fixture(scope="module")
def both(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    pipeline = Pipeline(spark, tmp_path_factory.mktemp("others"))
    (pipeline.landing / "otto").symlink_to(real_data("otto"))
    (pipeline.landing / "google_retail").symlink_to(real_data("google_retail"))
    pipeline.run("ingest", only=["otto", "google_retail"])
    pipeline.run("validate", only=["otto", "google_retail"])
    pipeline.run("merge")
    return pipeline


def test_ottos_events_become_interactions_and_orders(both: Pipeline) -> None:
    lines = [json.loads(line) for line in (real_data("otto") / "train.jsonl").read_text().splitlines()]
    events = [(str(s["session"]), str(e["aid"]), e["ts"], e["type"]) for s in lines for e in s["events"]]
    db = oracle.connect(both.warehouse_path)
    types = {"clicks": "click", "carts": "add-to-cart"}
    interactions = db.sql("""
        SELECT customer_id, product_id, epoch_ms("timestamp"), interaction_type FROM silver_interactions
        WHERE interaction_id NOT IN (SELECT interaction_id FROM silver_interactions WHERE length(interaction_id) = 64)""").fetchall()
    assert sorted(interactions) == sorted((s, a, t, types[k]) for s, a, t, k in events if k in types)
    orders = db.sql(
        "SELECT customer_id, product_id, epoch_ms(date), amount::VARCHAR FROM silver_transactions"
    ).fetchall()
    assert sorted(orders) == sorted((s, a, t, "0.00") for s, a, t, k in events if k == "orders")


def test_googles_products(both: Pipeline) -> None:
    rows = [json.loads(line) for line in (real_data("google_retail") / "products.json").read_text().splitlines()]
    want = {
        r["id"]: (
            r["categories"][0],
            f"{float(r['priceInfo']['price']):.2f}",
            0 if r["availability"] == "OUT_OF_STOCK" else r.get("availableQuantity"),
        )
        for r in rows
    }
    got = (
        oracle.connect(both.warehouse_path)
        .sql("SELECT product_id, category, price::VARCHAR, stock_availability FROM silver_products")
        .fetchall()
    )
    assert {r[0]: r[1:] for r in got} == want


def test_googles_invalid_rows_are_in_quarantine_with_their_reasons(both: Pipeline) -> None:
    kept = oracle.connect(both.warehouse_path)
    (product,) = kept.sql("SELECT reasons, raw, row_number FROM quarantine_products").fetchall()
    assert product[0][0]["message"] == (
        'products row 1 of google_retail/products_some_invalid.json: stock_availability "INVALID_VALUE" is not a whole number '
        "from -2147483648 to 2147483647, in digits alone"
    )
    assert json.loads(product[1])["id"] == "GGCOGOAC101259"
    (event,) = kept.sql("SELECT reasons, raw FROM quarantine_interactions").fetchall()
    assert [r["rule"] for r in event[0]] == ["enum:interaction_type"]
    assert event[0][0]["value"] == "invalid"


def test_googles_events(both: Pipeline) -> None:
    got = duckdb_rows(both.warehouse_path)
    assert got == [
        ("bjbs_group1_visitor1", "view", None, None),
        ("bjbs_group1_visitor1", "view", "/search?q=RockerJeans+teenagers+blue+jeans", None),
        ("bjbs_group1_visitor1", "view", "/search?q=SocksUnlimited+teenagers+black+socks", None),
        ("bjbs_group1_visitor1", "view", None, "GGCOGAEC100616"),
    ]


def duckdb_rows(warehouse: Path) -> list[tuple]:  # type: ignore[type-arg]
    rows: duckdb.DuckDBPyRelation = oracle.connect(warehouse).sql("""
        SELECT customer_id, interaction_type, page, product_id FROM silver_interactions WHERE length(interaction_id) = 64
        ORDER BY product_id NULLS FIRST, page NULLS FIRST""")
    return rows.fetchall()
