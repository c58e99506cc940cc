"""Which interactions a purchase follows: what comparing each with each gives, in the time that a search takes."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta

from lakehouse.features.products import product_affinity
from lakehouse.features.silver import Activity
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

AS_OF = datetime(2026, 6, 1, tzinfo=UTC)
DAYS, MICRO = timedelta(days=30), timedelta(microseconds=1)


def activity(looks: DataFrame, sales: DataFrame) -> Activity:
    spark = looks.sparkSession
    nothing = spark.createDataFrame([], "product_id STRING, category STRING, price DECIMAL(18,2)")
    return Activity(
        AS_OF, sales, looks, nothing, spark.createDataFrame([], "customer_id STRING, registration_date TIMESTAMP")
    )


def test_conversions_are_those_of_comparing_each_look_with_each_purchase(spark: SparkSession) -> None:
    chance = random.Random(7)
    start = datetime(1969, 12, 1, tzinfo=UTC)
    # Few instants, some of them an exact horizon apart, so that ties and edges are met; some lie before 1970.
    instants = [
        start + n * timedelta(days=5) + m * DAYS + e * MICRO for n in range(4) for m in range(4) for e in (-1, 0, 1)
    ]
    looks = [(f"C{chance.randrange(30)}", f"P{chance.randrange(3)}", chance.choice(instants)) for _ in range(900)]
    sales = [
        (f"C{chance.randrange(35)}", f"P{chance.randrange(4)}", chance.choice(instants), chance.random() < 0.7)
        for _ in range(300)
    ]
    looks += [("ONLY LOOKS", "P1", start), (None, "P1", start), ("C1", None, start)]
    sales += [
        ("ONLY BUYS", "P1", start, True),
        (None, "P1", start, True),
        ("C1", None, start, True),
        ("ONLY CANCELS", "P1", start, False),
    ]
    bought = [s[:3] for s in sales if s[3]]
    want = {}
    for pair in {(c, p) for c, p, _ in [*looks, *bought] if c and p}:
        seen = [t for c, p, t in looks if (c, p) == pair]
        paid = [t for c, p, t in bought if (c, p) == pair]
        converted = sum(any(s <= b <= s + DAYS for b in paid) for s in seen)
        want[pair] = (len(seen), converted, len(paid), max(seen + paid))
    frame = activity(
        spark.createDataFrame(looks, "customer_id STRING, product_id STRING, timestamp TIMESTAMP"),
        spark.createDataFrame(
            sales, "customer_id STRING, product_id STRING, date TIMESTAMP, completed BOOLEAN"
        ).withColumn("amount", F.lit(1).cast("decimal(18,2)")),
    )
    got = {
        (r["customer_id"], r["product_id"]): (
            r["interactions"],
            r["converted"],
            r["purchases"],
            r["last_event"].replace(tzinfo=UTC),
        )
        for r in product_affinity(frame).collect()
    }
    assert got == want
    assert 100 < sum(c for _, c, _, _ in want.values()) < 800


def test_all_events_of_one_customer_and_product_take_seconds(spark: SparkSession) -> None:
    """A hundred thousand looks after as many purchases, and as many before another one: compared in pairs, it takes minutes."""
    n = 100_000
    ids = spark.range(n).select(F.lit("0").alias("customer_id"), F.lit("P1").alias("product_id"), "id")
    at = F.timestamp_seconds(F.lit(1767225600) + F.col("id"))
    sales = (
        ids.withColumn("date", at)
        .withColumn("amount", F.lit(1).cast("decimal(18,2)"))
        .withColumn("completed", F.lit(True))
    )
    last = sales.where("id = 0").withColumn("date", F.timestamp_seconds(F.lit(1777225600 + n // 2)))
    looks = ids.withColumn("timestamp", F.timestamp_seconds(F.lit(1777225600) + F.col("id")))
    begun = time.monotonic()
    (row,) = product_affinity(activity(looks, sales.unionByName(last))).collect()
    assert (row["interactions"], row["purchases"], row["converted"]) == (n, n + 1, n // 2 + 1)
    assert time.monotonic() - begun < 30
