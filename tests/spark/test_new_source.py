"""A source that the project has never seen: one YAML and one SQL file, no Python."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import oracle
import pytest
from lakehouse.errors import DataRefused
from pipeline import Pipeline
from pyspark.sql import SparkSession
from support import ROOT

YAML = """
inputs:
  market_orders:
    path: market/orders
    format: csv
    columns: [Order ID, Kunde, Artikel, Betrag, Zeit]
    options: {sep: ";", encoding: iso-8859-1}
    schema_mode: MODE
    entities: [transactions]
"""
SQL = """
SELECT _row, `Order ID` AS transaction_id, Kunde AS customer_id, Artikel AS product_id, Betrag AS amount,
  Zeit AS date, 'card' AS payment_method, 'completed' AS transaction_status
FROM market_orders
"""
HEADER = "Order ID;Kunde;Artikel;Betrag;Zeit"


def market(spark: SparkSession, folder: Path, mode: str) -> Pipeline:
    sources = folder / "sources"
    shutil.copytree(ROOT / "sources", sources)
    (sources / "market").mkdir()
    (sources / "market/source.yaml").write_text(YAML.replace("MODE", mode))
    (sources / "market/transactions.sql").write_text(SQL)
    return Pipeline(spark, folder, sources=sources)


def deliver(pipeline: Pipeline, name: str, text: str) -> None:
    file = pipeline.landing / "market/orders" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode("latin-1"))


def test_from_a_foreign_csv_to_silver(spark: SparkSession, tmp_path: Path) -> None:
    pipeline = market(spark, tmp_path, "rescue")
    names = ("Möbel [1] 100%+.csv", "sub folder/x*?{a}.csv")
    deliver(
        pipeline, names[0], f'{HEADER}\n1;Jürgen;"Tisch;\r\n""groß""";19.90;2026-03-01\n2;Zoë;Stuhl;19,90;2026-03-01\n'
    )
    deliver(
        pipeline,
        names[1],
        "Zeit;Kunde;Artikel;Betrag;Order ID;kunde;Neu\n2026-03-02T10:00:00+01:00;;Bank;5;3;k;ü\n4;a;b\n",
    )
    reports = pipeline.batch("market")
    db = oracle.connect(pipeline.warehouse_path)
    got = db.sql(
        "SELECT transaction_id, customer_id, product_id, amount::VARCHAR, epoch(date)::BIGINT, transaction_status FROM silver_transactions ORDER BY 1"
    ).fetchall()
    assert got == [
        ("1", "Jürgen", 'Tisch;\r\n"groß"', "19.90", 1772323200, "Completed"),
        ("3", None, "Bank", "5.00", 1772442000, "Completed"),
    ]
    kept = db.sql("SELECT reasons[1].message, raw FROM quarantine_transactions ORDER BY 1").fetchall()
    assert [k[0] for k in kept] == [
        'transactions row 2 of market/orders/Möbel [1] 100%+.csv: amount "19,90" is not a decimal(18,2): digits with a '
        "decimal point, at most 16 before and 2 behind it, no separators between thousands and no currency",
        "transactions row 2 of market/orders/sub folder/x*?{a}.csv: cannot be parsed: wrong number of fields, or not the declared format",
    ]
    assert kept[1][1] == "4;a;b"
    rescued = pipeline.table("bronze.market_orders").where("_rescued IS NOT NULL").select("_rescued").collect()
    assert [json.loads(r[0]) for r in rescued if json.loads(r[0])] == [{"kunde": "k", "Neu": "ü"}]
    assert reports["ingest"].tables["bronze.market_orders"]["rows_in"] == 4
    assert not pipeline.run("ingest", only=["market"]).wrote


@pytest.mark.parametrize(
    ("sql", "kept"),
    [
        (SQL.replace("_row,", "x._row AS _row,").replace("FROM market_orders", "FROM market_orders x, (VALUES (1)) y WHERE Kunde <> 'b'"), 2),
        # Nothing in its words says that it leaves rows out.
        ("SELECT min_by(_row, `Order ID`) AS _row, min(`Order ID`) AS transaction_id, 'c' AS customer_id, 'p' AS product_id, '1' AS amount, '2026-03-01' AS date, 'card' AS payment_method, 'Completed' AS transaction_status FROM market_orders", 1),
    ],
)  # fmt: skip
def test_rows_that_a_select_leaves_out_are_told_and_not_taken_for_lost(
    spark: SparkSession, tmp_path: Path, sql: str, kept: int
) -> None:
    pipeline = market(spark, tmp_path, "rescue")
    (tmp_path / "sources/market/transactions.sql").write_text(sql)
    deliver(pipeline, "a.csv", f"{HEADER}\n1;a;p;1;2026-03-01\n2;b;p;1;2026-03-01\n3;c;p;x;2026-03-01\n")
    reports = pipeline.batch("market")
    figures = reports["validate"].tables
    assert figures["bronze.market_orders"]["rows_left_out"] == 3 - kept
    assert figures["staged.transactions"]["rows_in"] == kept
    assert figures["staged.transactions"]["rows_quarantined"] == kept - 1
    assert pipeline.table("staged.transactions").count() == 1


def test_evolve_adds_the_columns_of_later_files(spark: SparkSession, tmp_path: Path) -> None:
    pipeline = market(spark, tmp_path, "evolve")
    deliver(pipeline, "a.csv", f"{HEADER}\n1;a;b;1;2026-03-01\n")
    pipeline.batch("market")
    deliver(pipeline, "b.csv", f"{HEADER};Neu\n2;a;b;1;2026-03-01;n\n")
    deliver(pipeline, "c.csv", f"{HEADER};Anders;kunde\n3;a;b;1;2026-03-01;m;k\n")
    pipeline.batch("market")
    rows = pipeline.table("bronze.market_orders").orderBy("`Order ID`").select("Neu", "Anders", "_rescued").collect()
    assert [tuple(r) for r in rows] == [(None, None, None), ("n", None, None), (None, "m", '{"kunde":"k"}')]
    assert pipeline.table("silver.transactions").count() == 3


def test_a_name_that_parquet_has_not_is_declared_later(spark: SparkSession, tmp_path: Path) -> None:
    pipeline = market(spark, tmp_path, "evolve")
    source = tmp_path / "sources/market/source.yaml"
    plain = re.sub(r"columns: \[.*\]", "columns: [kunde]", source.read_text())
    source.write_text(plain)
    deliver(pipeline, "a.csv", "kunde\na\n")
    pipeline.run("ingest", only=["market"])
    source.write_text(plain.replace("[kunde]", "[kunde, order date]"))
    deliver(pipeline, "b.csv", "kunde;order date;a,b\nb;2026-03-01;x\n")
    pipeline.run("ingest", only=["market"])
    rows = pipeline.table("bronze.market_orders").orderBy("kunde").select("kunde", "order date", "_rescued").collect()
    assert [tuple(r) for r in rows] == [("a", None, None), ("b", "2026-03-01", '{"a,b":"x"}')]


def test_fail_sets_the_file_aside_loads_the_others_and_says_so(spark: SparkSession, tmp_path: Path) -> None:
    pipeline = market(spark, tmp_path, "fail")
    deliver(pipeline, "a.csv", f"{HEADER}\n1;a;b;1;2026-03-01\n")
    deliver(pipeline, "b.csv", f"{HEADER};Neu\n2;a;b;1;2026-03-01;n\n")
    with pytest.raises(DataRefused, match=r"market/orders/b.csv is set aside: has undeclared columns 'Neu'"):
        pipeline.run("ingest", only=["market"])
    assert pipeline.table("bronze.market_orders").count() == 1
    yaml = tmp_path / "sources/market/source.yaml"
    yaml.write_text(yaml.read_text().replace("Zeit]", "Zeit, Neu]"))
    pipeline.run("ingest", only=["market"], retry=True)
    assert [r[0] for r in pipeline.table("bronze.market_orders").orderBy("`Order ID`").select("Neu").collect()] == [
        None,
        "n",
    ]
