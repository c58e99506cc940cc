"""An independent computation of gold, in DuckDB, from silver read without Spark.

Written from the definitions, not from the code under test: current rows of the entities, events
before T, and the history only where a value as of T may differ from the current one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder

MICRO = 1_000_000


LAYERS = ("silver", "gold", "staged", "quarantine", "ops", "bronze")


def connect(warehouse: Path, layers: Sequence[str] = LAYERS) -> duckdb.DuckDBPyConnection:
    """A connection with the tables registered under their names with _ for the dot."""
    db = duckdb.connect()
    db.sql("SET TimeZone = 'UTC'")
    for layer in layers:
        for folder in sorted((warehouse / layer).glob("*")):
            if (folder / "_delta_log").is_dir():
                # DuckDB cannot take every nested column from Arrow, and needs none of these.
                db.register(f"{layer}_{folder.name}", rows(folder, but=("_seen", "_sequence", "_source")))
            if (layer, folder.name) == ("silver", "customers_history"):
                db.register("silver_customer_versions", _registrations(folder))
    return db


def rows(folder: Path, but: Sequence[str] = ()) -> pa.Table:
    """A Delta table's rows."""
    columns = ", ".join(f'"{f.name}"' for f in DeltaTable(str(folder)).schema().fields if f.name not in but)
    return _select(folder, columns)


def _registrations(folder: Path) -> pa.Table:
    """When customers are said to have registered, by each version that an interval of the history stands for."""
    seen = "SELECT customer_id, _deleted, unnest(_seen) AS s FROM t"
    columns = "s['sequence']['at'] AS heard, s['extremes']['registration_date'] AS registration_date"
    return _select(folder, f"customer_id, _deleted, {columns}", f"({seen})")


def count(folder: Path) -> int:
    """How many rows a Delta table has."""
    return _select(folder, "count(*) AS n")["n"][0].as_py()


def _select(folder: Path, columns: str, origin: str = "t") -> pa.Table:
    # By DataFusion: deltalake's own readers know no deletion vectors.
    return pa.table(
        QueryBuilder().register("t", DeltaTable(str(folder))).execute(f"SELECT {columns} FROM {origin}").read_all()
    )


def prepare(db: duckdb.DuckDBPyConnection, as_of: str) -> None:
    """Views of what happened before T: tx, it, products, customers, buys."""
    db.sql(f"CREATE OR REPLACE MACRO t() AS TIMESTAMPTZ '{as_of} 00:00:00+00'")
    empty = {
        "transactions_history": "transaction_id VARCHAR, order_id VARCHAR, customer_id VARCHAR, product_id VARCHAR, date TIMESTAMPTZ, amount DECIMAL(18,2), transaction_status VARCHAR, valid_from TIMESTAMPTZ, valid_to TIMESTAMPTZ, _deleted BOOLEAN, _first BOOLEAN",
        "interactions": 'interaction_id VARCHAR, customer_id VARCHAR, product_id VARCHAR, "timestamp" TIMESTAMPTZ',
        "products_history": "product_id VARCHAR, category VARCHAR, price DECIMAL(18,2), valid_from TIMESTAMPTZ, valid_to TIMESTAMPTZ, _deleted BOOLEAN, _first BOOLEAN",
        "customers_history": "customer_id VARCHAR, registration_date TIMESTAMPTZ, valid_from TIMESTAMPTZ, valid_to TIMESTAMPTZ, _deleted BOOLEAN, _first BOOLEAN",
    }
    have = {
        r[0]
        for r in db.sql(
            "SELECT view_name FROM duckdb_views() UNION ALL SELECT table_name FROM duckdb_tables()"
        ).fetchall()
    }
    for name, columns in empty.items():
        if f"silver_{name}" not in have:
            db.sql(f"CREATE TABLE silver_{name} ({columns})")
    if "silver_customer_versions" not in have:
        # Of a history that was made without merging equal versions, each interval is one.
        db.sql(
            "CREATE VIEW silver_customer_versions AS "
            "SELECT customer_id, _deleted, valid_from AS heard, registration_date FROM silver_customers_history"
        )
    # The version known last before T, else the first one ever.
    for name, key in (("transactions", "transaction_id"), ("products", "product_id"), ("customers", "customer_id")):
        db.sql(f"""
            CREATE OR REPLACE TABLE {name}_then AS
            SELECT * FROM silver_{name}_history
            QUALIFY row_number() OVER (
              PARTITION BY {key}
              ORDER BY (valid_from < t()) DESC, CASE WHEN valid_from < t() THEN valid_from END DESC,
                CASE WHEN valid_from < t() THEN coalesce(valid_to, 'infinity') END DESC, _first DESC
            ) = 1""")
    db.sql("""
        CREATE OR REPLACE TABLE tx AS
        SELECT transaction_id, coalesce(order_id, transaction_id) AS order_id, customer_id, product_id, date, amount,
               transaction_status = 'Completed' AS completed, CAST(date AT TIME ZONE 'UTC' AS DATE) AS day
        FROM transactions_then WHERE NOT _deleted AND date < t()""")
    db.sql(
        'CREATE OR REPLACE TABLE it AS SELECT interaction_id, customer_id, product_id, "timestamp" AS moment FROM silver_interactions WHERE "timestamp" < t()'
    )
    db.sql(
        "CREATE OR REPLACE TABLE products AS SELECT product_id, category, price FROM products_then WHERE NOT _deleted"
    )
    # Nothing heard of at T or later counts, but for what is the first that is known of a customer.
    db.sql("""
        CREATE OR REPLACE TABLE earliest AS
        SELECT customer_id, min(registration_date) AS registration_date
        FROM (SELECT *, min(heard) OVER (PARTITION BY customer_id) AS first_heard FROM silver_customer_versions)
        WHERE NOT _deleted AND (heard < t() OR heard = first_heard) GROUP BY 1""")
    db.sql(
        "CREATE OR REPLACE TABLE customers AS SELECT customer_id, e.registration_date FROM customers_then c JOIN earliest e USING (customer_id) WHERE NOT c._deleted"
    )
    db.sql("CREATE OR REPLACE TABLE buys AS SELECT * FROM tx WHERE completed")


def category_preferences(db: duckdb.DuckDBPyConnection) -> None:
    db.sql("""
        CREATE OR REPLACE TABLE want_category_preferences AS
        WITH totals AS (SELECT customer_id, count(*) AS n FROM buys WHERE customer_id IS NOT NULL GROUP BY 1),
        counted AS (
          SELECT b.customer_id, p.category, count(DISTINCT order_id)::INT AS orders, count(*) AS purchases, sum(amount) AS spend
          FROM buys b JOIN products p USING (product_id) WHERE b.customer_id IS NOT NULL AND p.category IS NOT NULL GROUP BY 1, 2)
        SELECT customer_id, t() AS as_of, category, orders, purchases, spend::DECIMAL(28,2) AS spend, purchases / n AS share,
               row_number() OVER (PARTITION BY customer_id ORDER BY purchases DESC, spend DESC, category)::INT AS rank
        FROM counted JOIN totals USING (customer_id)""")


def product_affinity(db: duckdb.DuckDBPyConnection) -> None:
    db.sql("""
        CREATE OR REPLACE TABLE conversions AS
        SELECT DISTINCT i.interaction_id, i.customer_id, i.product_id
        FROM it i JOIN buys b ON b.customer_id = i.customer_id AND b.product_id = i.product_id
          AND b.date >= i.moment AND b.date <= i.moment + INTERVAL 720 HOUR""")
    db.sql("""
        CREATE OR REPLACE TABLE want_product_affinity AS
        WITH i AS (SELECT customer_id, product_id, count(*) AS interactions, max(moment) AS last FROM it GROUP BY 1, 2),
        c AS (SELECT customer_id, product_id, count(*) AS converted FROM conversions GROUP BY 1, 2),
        b AS (SELECT customer_id, product_id, count(*) AS purchases, max(date) AS last FROM buys GROUP BY 1, 2),
        pairs AS (SELECT customer_id, product_id FROM i UNION SELECT customer_id, product_id FROM b)
        SELECT customer_id, t() AS as_of, product_id, coalesce(interactions, 0) AS interactions, coalesce(converted, 0) AS converted,
               CASE WHEN interactions > 0 THEN 100.0 * coalesce(converted, 0) / interactions END AS affinity,
               coalesce(purchases, 0) AS purchases, greatest(i.last, b.last) AS last_event
        FROM pairs LEFT JOIN i USING (customer_id, product_id) LEFT JOIN c USING (customer_id, product_id) LEFT JOIN b USING (customer_id, product_id)
        WHERE customer_id IS NOT NULL AND product_id IS NOT NULL""")


def product_features(db: duckdb.DuckDBPyConnection) -> None:
    db.sql("""
        CREATE OR REPLACE TABLE want_product_features AS
        WITH i AS (SELECT product_id, count(DISTINCT customer_id) AS viewers, count(*) AS interactions FROM it GROUP BY 1),
        c AS (SELECT product_id, count(*) AS converted FROM conversions GROUP BY 1),
        b AS (SELECT product_id, count(DISTINCT customer_id) AS buyers, count(*) AS purchases, sum(amount) AS revenue FROM buys GROUP BY 1),
        known AS (SELECT product_id FROM products UNION SELECT product_id FROM tx UNION SELECT product_id FROM it)
        SELECT product_id, t() AS as_of, coalesce(viewers, 0) AS viewers, coalesce(interactions, 0) AS interactions, coalesce(converted, 0) AS converted,
               CASE WHEN interactions > 0 THEN 100.0 * coalesce(converted, 0) / interactions END AS affinity,
               coalesce(buyers, 0) AS buyers, coalesce(purchases, 0) AS purchases, coalesce(revenue, 0)::DECIMAL(28,2) AS revenue, category, price
        FROM known LEFT JOIN i USING (product_id) LEFT JOIN c USING (product_id) LEFT JOIN b USING (product_id) LEFT JOIN products USING (product_id)
        WHERE product_id IS NOT NULL""")


def customer_features(db: duckdb.DuckDBPyConnection) -> None:
    days = "date_diff('microsecond', {a}, t()) // 86400000000"
    db.sql(f"""
        CREATE OR REPLACE TABLE want_customer_features AS
        WITH population AS (
          SELECT customer_id FROM customers WHERE registration_date IS NULL OR registration_date < t()
          UNION SELECT customer_id FROM tx UNION SELECT customer_id FROM it),
        registered AS (SELECT customer_id, registration_date FROM customers),
        every AS (SELECT customer_id, count(*) AS n, count(*) FILTER (NOT completed) AS cancelled FROM tx GROUP BY 1),
        b AS (
          SELECT customer_id, max(date) AS last, sum(amount) AS spend, count(*) AS purchases, count(DISTINCT order_id) AS orders,
            sum(amount) FILTER (date >= t() - INTERVAL 720 HOUR) AS spend30, sum(amount) FILTER (date >= t() - INTERVAL 2160 HOUR) AS spend90,
            count(DISTINCT order_id) FILTER (date >= t() - INTERVAL 720 HOUR) AS orders30,
            count(DISTINCT order_id) FILTER (date >= t() - INTERVAL 2160 HOUR) AS orders90,
            min(day) AS first_day, max(day) AS last_day
          FROM buys GROUP BY 1),
        daily AS (SELECT customer_id, day, sum(amount) AS spend FROM buys GROUP BY 1, 2),
        repeats AS (
          SELECT customer_id, count(*) - 1 AS frequency,
            coalesce(avg(spend::DOUBLE) FILTER (day > first_day), 0) AS monetary
          FROM (SELECT *, min(day) OVER (PARTITION BY customer_id) AS first_day FROM daily) GROUP BY 1),
        i AS (
          SELECT customer_id, count(*) AS n, max(moment) AS last, count(*) FILTER (moment >= t() - INTERVAL 168 HOUR) AS n7,
            count(*) FILTER (moment >= t() - INTERVAL 720 HOUR) AS n30 FROM it GROUP BY 1),
        marked AS (
          SELECT customer_id, moment, CASE WHEN moment - lag(moment) OVER w <= INTERVAL 30 MINUTE THEN 0 ELSE 1 END AS starts
          FROM it WHERE customer_id IS NOT NULL WINDOW w AS (PARTITION BY customer_id ORDER BY moment)),
        numbered AS (SELECT customer_id, moment, sum(starts) OVER (PARTITION BY customer_id ORDER BY moment, starts DESC ROWS UNBOUNDED PRECEDING) AS session FROM marked),
        sessions AS (SELECT customer_id, session, date_diff('microsecond', min(moment), max(moment)) / 1e6 AS seconds FROM numbered GROUP BY 1, 2),
        s AS (SELECT customer_id, count(*) AS n, avg(seconds) AS seconds FROM sessions GROUP BY 1),
        favourite AS (SELECT customer_id, category FROM want_category_preferences WHERE rank = 1),
        raw AS (
          SELECT p.customer_id, r.registration_date, b.*, e.n AS tx_n, e.cancelled, i.n AS it_n, i.last AS it_last, i.n7, i.n30,
            s.n AS sessions, s.seconds, f.category AS favourite, rp.frequency, rp.monetary,
            {days.format(a="b.last")} AS recency
          FROM population p LEFT JOIN registered r USING (customer_id) LEFT JOIN b USING (customer_id) LEFT JOIN every e USING (customer_id)
            LEFT JOIN i USING (customer_id) LEFT JOIN s USING (customer_id) LEFT JOIN favourite f USING (customer_id) LEFT JOIN repeats rp USING (customer_id)
          WHERE p.customer_id IS NOT NULL),
        buyers AS (SELECT customer_id, recency, orders, spend, count(*) OVER () AS n FROM raw WHERE purchases > 0),
        scores AS (
          SELECT customer_id,
            (1 + 5 * (SELECT count(*) FROM buyers w WHERE w.recency > x.recency) // n)::INT AS r,
            (1 + 5 * (SELECT count(*) FROM buyers w WHERE w.orders < x.orders) // n)::INT AS f,
            (1 + 5 * (SELECT count(*) FROM buyers w WHERE w.spend < x.spend) // n)::INT AS m
          FROM buyers x)
        SELECT customer_id, t() AS as_of,
          recency::INT AS days_since_last_purchase,
          ({days.format(a="it_last")})::INT AS days_since_last_interaction,
          coalesce(it_n, 0) AS total_interactions,
          CASE WHEN registration_date < t() THEN coalesce(it_n, 0) / greatest(1, {days.format(a="registration_date")}) END AS activity_rate,
          coalesce(spend, 0)::DECIMAL(28,2) AS total_spend,
          coalesce(orders, 0)::INT AS purchase_frequency,
          CASE WHEN orders > 0 THEN spend::DOUBLE / orders END AS average_order_value,
          coalesce(sessions, 0)::INT AS session_count, seconds AS session_duration,
          CASE WHEN purchases > 0 THEN coalesce(it_n, 0)::DOUBLE / purchases END AS interaction_to_purchase_ratio,
          favourite AS favourite_category,
          CASE WHEN tx_n > 0 THEN cancelled::DOUBLE / tx_n END AS cancellation_rate,
          coalesce(spend30, 0)::DECIMAL(28,2) AS spend_30d, coalesce(spend90, 0)::DECIMAL(28,2) AS spend_90d,
          coalesce(orders30, 0)::INT AS orders_30d, coalesce(orders90, 0)::INT AS orders_90d,
          coalesce(n7, 0) AS interactions_7d, coalesce(n30, 0) AS interactions_30d,
          frequency::INT AS rfm_frequency, (last_day - first_day)::INT AS rfm_recency,
          (CAST((t() - INTERVAL 1 MICROSECOND) AT TIME ZONE 'UTC' AS DATE) - first_day)::INT AS rfm_t,
          monetary AS rfm_monetary,
          r AS r_score, f AS f_score, m AS m_score,
          CASE WHEN r IS NULL THEN NULL
            ELSE [['Hibernating','Hibernating','At Risk','At Risk','Can''t Lose Them'],
                  ['Hibernating','Hibernating','At Risk','At Risk','Can''t Lose Them'],
                  ['About to Sleep','About to Sleep','Need Attention','Loyal Customers','Loyal Customers'],
                  ['Promising','Potential Loyalists','Potential Loyalists','Loyal Customers','Loyal Customers'],
                  ['New Customers','Potential Loyalists','Potential Loyalists','Champions','Champions']][r][f] END AS segment
        FROM raw LEFT JOIN scores USING (customer_id)""")


def customer_days(db: duckdb.DuckDBPyConnection) -> None:
    """What is known today, whatever the instant."""
    db.sql("""
        CREATE OR REPLACE TABLE want_customer_days AS
        WITH o AS (
          SELECT customer_id, CAST(date AT TIME ZONE 'UTC' AS DATE) AS day,
            count(*) FILTER (transaction_status = 'Completed') AS purchases, count(*) FILTER (transaction_status <> 'Completed') AS cancellations,
            sum(amount) FILTER (transaction_status = 'Completed') AS spend,
            count(DISTINCT coalesce(order_id, transaction_id)) FILTER (transaction_status = 'Completed') AS orders,
            min(date) FILTER (transaction_status = 'Completed') AS first_purchase, max(date) FILTER (transaction_status = 'Completed') AS last_purchase
          FROM silver_transactions_history WHERE valid_to IS NULL AND NOT _deleted GROUP BY 1, 2),
        i AS (SELECT customer_id, "timestamp" AS moment, CAST("timestamp" AT TIME ZONE 'UTC' AS DATE) AS day FROM silver_interactions),
        gaps AS (SELECT customer_id, day, moment, moment - lag(moment) OVER (PARTITION BY customer_id, day ORDER BY moment) AS gap FROM i),
        s AS (
          SELECT customer_id, day, count(*) AS interactions, min(moment) AS first_interaction, max(moment) AS last_interaction,
            count(*) FILTER (gap IS NULL OR gap > INTERVAL 30 MINUTE) AS sessions,
            sum(CASE WHEN gap <= INTERVAL 30 MINUTE THEN epoch_us(gap) ELSE 0 END)::BIGINT AS session_micros
          FROM gaps GROUP BY 1, 2)
        SELECT customer_id, day, t() AS as_of, coalesce(interactions, 0) AS interactions, first_interaction, last_interaction,
          coalesce(sessions, 0)::INT AS sessions, coalesce(session_micros, 0) AS session_micros, coalesce(purchases, 0) AS purchases,
          first_purchase, last_purchase, coalesce(orders, 0)::INT AS orders, coalesce(spend, 0)::DECIMAL(28,2) AS spend,
          coalesce(cancellations, 0) AS cancellations
        FROM o FULL JOIN s USING (customer_id, day) WHERE customer_id IS NOT NULL""")


def differences(db: duckdb.DuckDBPyConnection, as_of: str) -> dict[str, list[str]]:
    """For each gold table, rows and cells in which it differs from this computation; doubles within 1e-9."""
    prepare(db, as_of)
    category_preferences(db)
    product_affinity(db)
    product_features(db)
    customer_features(db)
    customer_days(db)
    return compared(db)


KEYS = {
    "customer_days": ["customer_id", "day"],
    "category_preferences": ["customer_id", "category"],
    "product_affinity": ["customer_id", "product_id"],
    "product_features": ["product_id"],
    "customer_features": ["customer_id"],
}
"""Of gold's tables."""


def compared(db: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    """The same of any tables ``want_<name>``; ``t()`` is the instant."""
    found: dict[str, list[str]] = {}
    for table, key in KEYS.items():
        db.sql(f"CREATE OR REPLACE TABLE got AS {as_of(db, table)}")
        want, got = db.table(f"want_{table}"), db.table("got")
        assert sorted(want.columns) == sorted(got.columns), set(want.columns) ^ set(got.columns)
        types = dict(zip(want.columns, want.types, strict=True))
        wrong = []
        joined = f"FROM want_{table} w FULL JOIN got g ON {' AND '.join(f'w.{k} = g.{k}' for k in key)}"
        missing = db.sql(
            f"SELECT count(*) FILTER (g.as_of IS NULL), count(*) FILTER (w.as_of IS NULL) {joined}"
        ).fetchall()[0]
        if missing != (0, 0):
            wrong.append(f"rows missing and unexpected: {missing}")
        for column in want.columns:
            if str(types[column]) == "DOUBLE":
                differs = f"(w.{column} IS NULL) <> (g.{column} IS NULL) OR abs(w.{column} - g.{column}) > 1e-9 * greatest(1, abs(w.{column}))"
            else:
                differs = f"w.{column} IS DISTINCT FROM g.{column}"
            rows = db.sql(
                f"SELECT {', '.join(f'w.{k}' for k in key)}, w.{column}, g.{column} {joined} WHERE {differs} ORDER BY 1 LIMIT 3"
            ).fetchall()
            wrong += [f"{column}: {r}" for r in rows]
        assert db.sql("SELECT count(*) FROM got").fetchall() != [(0,)], f"{table} is empty: nothing was compared"
        if wrong:
            found[table] = wrong
    return found


def as_of(db: duckdb.DuckDBPyConnection, table: str) -> str:
    """A query of a gold table's rows as of ``t()``, with their instant; a timeline's rows hold from one until another."""
    columns = db.table(f"gold_{table}").columns
    public = [c for c in columns if not c.startswith("_") and c not in ("as_of", "valid_from", "valid_to")]
    held = "as_of = t()" if "as_of" in columns else "valid_from <= t() AND (valid_to IS NULL OR t() < valid_to)"
    if table == "customer_days":
        held = "interactions + purchases + cancellations > 0"
    return f"SELECT {', '.join(public)}, t() AS as_of FROM gold_{table} WHERE {held}"


def content(warehouse: Path) -> dict[str, list[tuple]]:  # type: ignore[type-arg]
    """Every table's rows but for what tells runs apart."""
    db = connect(warehouse)
    told = {"run_id", "at", "quarantined_at", "_ingested_at", "_batch_id", "_bronze_batch", "batch_id"}
    told |= {"history", "_decided_by"}
    tables = [r[0] for r in db.sql("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()]
    result = {}
    for table in sorted(t for t in tables if not t.startswith("ops_")):
        relation: duckdb.DuckDBPyRelation = db.sql(f"FROM {table}")
        columns = [f'"{c}"::VARCHAR' for c in relation.columns if c not in told]
        result[table] = sorted(relation.project(", ".join(columns)).fetchall(), key=repr)
    return result
