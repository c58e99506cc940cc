"""Real data: UCI Online Retail by day, against its published figures, three ways."""

from __future__ import annotations

import random
from pathlib import Path

import oracle
import pandas as pd
import pytest
from lifetimes.utils import summary_data_from_transaction_data
from pipeline import GOLD, Pipeline, rows_of
from pyspark.sql import SparkSession
from support import real_data

AS_OF = "2011-12-10"
TABLES = ["silver.customers", "silver.products", "silver.transactions", *(f"gold.{g}" for g in GOLD)]


@pytest.fixture(scope="module")
def data() -> Path:
    return real_data("online_retail") / "by-day"


@pytest.fixture(scope="module")
def retail(spark: SparkSession, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Everything in one load."""
    pipeline = Pipeline(spark, tmp_path_factory.mktemp("retail"))
    (pipeline.landing / "online_retail").symlink_to(data)
    pipeline.batch("online_retail", AS_OF)
    return pipeline


def one(pipeline: Pipeline, query: str) -> tuple:  # type: ignore[type-arg]
    return oracle.connect(pipeline.warehouse_path).sql(query).fetchall()[0]


def test_the_published_counts_come_out_of_bronze_and_silver(retail: Pipeline) -> None:
    assert one(retail, """
        SELECT count(*), count(DISTINCT InvoiceNo), count(DISTINCT StockCode), count(DISTINCT CustomerID), count(DISTINCT Country),
          count(*) FILTER (CustomerID IS NULL), count(*) FILTER (Quantity::INT < 0),
          count(*) FILTER (UnitPrice::DOUBLE = 0), count(*) FILTER (UnitPrice::DOUBLE < 0)
        FROM bronze_online_retail""") == (541_909, 25_900, 4_070, 4_372, 38, 135_080, 10_624, 2_515, 2)  # fmt: skip
    # The two lines below 0 that are not cancelled (bad debt, no customer) are the only ones in quarantine.
    assert one(retail, "SELECT count(*), list(DISTINCT reasons[1].rule) FROM quarantine_transactions") == (
        2, ["completed_amount_not_negative"],
    )  # fmt: skip
    assert one(retail, """
        SELECT count(*), count(*) FILTER (customer_id IS NULL), count(DISTINCT customer_id), count(DISTINCT product_id),
          count(*) FILTER (transaction_status = 'Cancelled'), count(DISTINCT order_id) FILTER (transaction_status = 'Cancelled')
        FROM silver_transactions""") == (541_907, 135_078, 4_372, 4_070, 9_288, 3_836)  # fmt: skip
    assert one(retail, "SELECT count(*) FROM silver_customers") == (4_372,)


def test_repeated_lines_stay_apart(retail: Pipeline) -> None:
    """The id of a line ends with its number among identical lines of a file."""
    assert one(
        retail, "SELECT count(*) FROM silver_transactions WHERE split_part(transaction_id, '-', -1)::INT > 1"
    ) == (5_268,)


def test_revenue_of_what_customers_bought(retail: Pipeline) -> None:
    bought = (
        "FROM silver_transactions WHERE customer_id IS NOT NULL AND transaction_status = 'Completed' AND amount > 0"
    )
    lines, orders, customers, revenue = one(
        retail, f"SELECT count(*), count(DISTINCT order_id), count(DISTINCT customer_id), sum(amount)::VARCHAR {bought}"
    )
    # One line of 0.001 a piece rounds to 0.00; it is a purchase, but not above 0.
    cents = one(
        retail,
        "SELECT count(*) FROM bronze_online_retail WHERE CustomerID IS NOT NULL AND Quantity::INT > 0 AND UnitPrice::DOUBLE > 0 AND round(Quantity::INT * UnitPrice::DECIMAL(18,3), 2) = 0",
    )[0]
    assert (lines + cents, orders, customers, revenue) == (397_884, 18_532, 4_338, "8911407.90")
    assert one(retail, "SELECT sum(total_spend)::VARCHAR FROM gold_customer_features") == ("8911407.90",)
    unique = f"{bought} AND split_part(transaction_id, '-', -1)::INT = 1"
    assert one(retail, f"SELECT count(*) {unique}")[0] + cents == 392_692


@pytest.mark.parametrize(
    ("customer", "recency", "orders", "spend"),
    [("12346", 325, 1, "77183.60"), ("12347", 2, 7, "4310.00"), ("12348", 75, 4, "1797.24")],
)
def test_the_three_customers(retail: Pipeline, customer: str, recency: int, orders: int, spend: str) -> None:
    assert one(
        retail,
        f"SELECT days_since_last_purchase, purchase_frequency, total_spend::VARCHAR FROM gold_customer_features WHERE customer_id = '{customer}'",
    ) == (recency, orders, spend)


def test_every_gold_column_is_what_duckdb_computes(retail: Pipeline) -> None:
    assert oracle.differences(oracle.connect(retail.warehouse_path), AS_OF) == {}


@pytest.mark.long
@pytest.mark.parametrize("order", ["calendar", "shuffled"])
def test_fed_by_day_in_a_few_groups_the_result_is_the_same(
    spark: SparkSession, data: Path, retail: Pipeline, tmp_path: Path, order: str
) -> None:
    """The 305 days fed over two runs: each a half of the calendar, or an arbitrary half of the days."""
    other = Pipeline(spark, tmp_path)
    days = sorted(data.glob("*.csv"))
    if order == "shuffled":
        random.Random(11).shuffle(days)
    (other.landing / "online_retail").mkdir()
    for group in (days[:150], days[150:]):
        for day in group:
            (other.landing / "online_retail" / day.name).symlink_to(day)
        other.batch("online_retail")
    other.run("featurize", as_of=AS_OF)
    mine, theirs = rows_of(retail, TABLES), rows_of(other, TABLES)
    for table in TABLES:
        assert mine[table]
        assert theirs[table] == mine[table], table


def test_rfm_columns_are_those_of_a_published_implementation(retail: Pipeline) -> None:
    """Of every customer, against the library lifetimes, whose days end with the last one before as_of."""
    db = oracle.connect(retail.warehouse_path)
    purchases = db.sql("""
        SELECT customer_id, date, amount::DOUBLE AS amount FROM silver_transactions
        WHERE customer_id IS NOT NULL AND transaction_status = 'Completed'""").df()
    expected = summary_data_from_transaction_data(
        purchases, "customer_id", "date", monetary_value_col="amount", observation_period_end="2011-12-09"
    )
    mine = db.sql("""
        SELECT customer_id, rfm_frequency AS frequency, rfm_recency AS recency, rfm_t AS "T", rfm_monetary AS monetary_value
        FROM gold_customer_features WHERE rfm_t IS NOT NULL""").df().set_index("customer_id")  # fmt: skip
    assert len(mine) == 4_339
    pd.testing.assert_frame_equal(mine.sort_index(), expected.sort_index(), check_dtype=False, rtol=1e-9)
