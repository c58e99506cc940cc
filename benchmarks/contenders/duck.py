"""The same steps in DuckDB, in one process: files, checks, the latest state and the history of each key, quarantine, gold.

From the definitions, not from the suite's code: the SQL of gold is that by which the tests judge it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import oracle  # noqa: E402

INSTANT = "regexp_full_match({0}, '[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}([T ][0-9:.]+(Z|[+-][0-9:]+)?)?') AND TRY_CAST({0} AS TIMESTAMPTZ) IS NOT NULL"
MONEY = "regexp_full_match({0}, '[+-]?[0-9]+([.][0-9]{{0,2}})?') AND TRY_CAST({0} AS DECIMAL(18,2)) IS NOT NULL"
CHECKS = {
    "customers": f"CustomerID IS NOT NULL AND lower(CustomerType) IN ('regular', 'premium') AND {INSTANT.format('RegistrationDate')}",
    "products": f"ProductID IS NOT NULL AND Category IS NOT NULL AND {MONEY.format('Price')} AND TRY_CAST(Price AS DECIMAL(18,2)) >= 0 "
    "AND (StockAvailability IS NULL OR TRY_CAST(StockAvailability AS INT) >= 0)",
    "transactions": f"TransactionID IS NOT NULL AND ProductID IS NOT NULL AND PaymentMethod IS NOT NULL AND {INSTANT.format('Date')} "
    f"AND lower(TransactionStatus) IN ('completed', 'cancelled') AND (Amount IS NULL OR {MONEY.format('Amount')}) "
    "AND (lower(TransactionStatus) <> 'completed' OR coalesce(TRY_CAST(Amount AS DECIMAL(18,2)), 0) >= 0)",
    "interactions": f"InteractionID IS NOT NULL AND lower(InteractionType) IN ('view', 'click', 'add_to_cart') "
    f"AND {INSTANT.format('Timestamp')} AND lower(Source) IN ('mobile_app', 'website')",
}
HISTORIES = {
    "customers": ("customer_id", "CustomerID AS customer_id, CAST(RegistrationDate AS TIMESTAMPTZ) AS registration_date"),
    "products": ("product_id", "ProductID AS product_id, Category AS category, CAST(Price AS DECIMAL(18,2)) AS price"),
    "transactions": (
        "transaction_id",
        "TransactionID AS transaction_id, coalesce(nullif(OrderID, ''), TransactionID) AS order_id, CustomerID AS customer_id, "
        "ProductID AS product_id, CAST(Date AS TIMESTAMPTZ) AS date, CAST(coalesce(Amount, '0') AS DECIMAL(18,2)) AS amount, "
        "TransactionStatus AS transaction_status",
    ),
}  # fmt: skip
GOLD = (
    oracle.category_preferences,
    oracle.product_affinity,
    oracle.product_features,
    oracle.customer_features,
    oracle.customer_days,
)


def load(db: duckdb.DuckDBPyConnection, landing: str) -> None:
    """raw_<entity>: the files' rows as text, with whether each passes."""
    for entity, check in CHECKS.items():
        files = f"{landing}/shop/{entity}/*/*"
        if entity == "interactions":
            columns = ["InteractionID", "CustomerID", "InteractionType", "Timestamp", "Page", "Source", "Metadata"]
            listed = ", ".join(f"{c}: 'VARCHAR'" for c in columns)
            reader = f"read_json('{files}', format = 'newline_delimited', columns = {{{listed}}}, ignore_errors = true)"
        else:
            reader = f"read_csv('{files}', all_varchar = true, header = true)"
        db.sql(f"CREATE TABLE raw_{entity} AS SELECT *, coalesce({check}, false) AS valid FROM {reader}")


def refine(db: duckdb.DuckDBPyConnection) -> None:
    """silver_<entity>_history and silver_interactions."""
    for entity, (key, columns) in HISTORIES.items():
        db.sql(f"""
            CREATE TABLE silver_{entity}_history AS
            SELECT *, lead(valid_from) OVER w AS valid_to, row_number() OVER w = 1 AS _first
            FROM (SELECT DISTINCT {columns}, CAST(UpdatedAt AS TIMESTAMPTZ) AS valid_from, coalesce(upper(op) = 'D', false) AS _deleted
                  FROM raw_{entity} WHERE valid)
            WINDOW w AS (PARTITION BY {key} ORDER BY valid_from)""")
    db.sql(r"""
        CREATE TABLE silver_interactions AS
        SELECT InteractionID AS interaction_id, any_value(CustomerID) AS customer_id, any_value(CAST("Timestamp" AS TIMESTAMPTZ)) AS "timestamp",
          any_value(coalesce(nullif(json_extract_string(Metadata, '$.product_id'), ''), nullif(json_extract_string(Metadata, '$.ProductID'), ''),
            nullif(regexp_extract(Page, '/product/([^/?#]+)', 1), ''))) AS product_id
        FROM raw_interactions WHERE valid GROUP BY 1""")


def main(landing: str, folder: str, as_of: str) -> None:
    """Write silver, quarantine and gold as Parquet files into a folder."""
    db = duckdb.connect()
    db.sql("SET TimeZone = 'UTC'")
    db.sql("SET threads = 2")
    load(db, landing)
    refine(db)
    oracle.prepare(db, as_of)
    for table in GOLD:
        table(db)
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    tables = {f"silver_{e}_history": f"silver_{e}_history" for e in HISTORIES} | {
        "silver_interactions": "silver_interactions"
    }
    tables |= {f"want_{t.__name__}": f"gold_{t.__name__}" for t in GOLD}
    for table, name in tables.items():
        db.table(table).write_parquet(f"{target}/{name}.parquet", compression="zstd")
    for entity in CHECKS:
        db.table(f"raw_{entity}").filter("NOT valid").write_parquet(f"{target}/quarantine_{entity}.parquet")


if __name__ == "__main__":
    main(*sys.argv[1:])
