"""A home-made notebook: files by Auto Loader's way to bronze, then everything in gold anew, overwritten and Z-ordered.

It does what such notebooks do: a streaming query per folder, filters and a window for duplicates, one group-by per question,
joins of their results, OPTIMIZE ... ZORDER BY. It keeps no rejected row, no history of states and no snapshot of earlier days:
each run costs what all data cost.
"""

from __future__ import annotations

import sys

from plain import FORMATS, text_columns
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F


def bronze(spark: SparkSession, landing: str, folder: str) -> None:
    """New files of each folder, appended."""
    for entity, format_ in FORMATS.items():
        reader = spark.readStream.schema(text_columns(entity)).option("header", "true").format(format_)
        writer = reader.load(f"{landing}/shop/{entity}/*").writeStream.format("delta").trigger(availableNow=True)
        writer.option("checkpointLocation", f"{folder}/checkpoints/{entity}").start(
            f"{folder}/bronze/{entity}"
        ).awaitTermination()


def latest(rows: DataFrame, key: str, order: str) -> DataFrame:
    """One row a key: the newest."""
    place = F.row_number().over(Window.partitionBy(key).orderBy(F.desc(order)))
    return rows.withColumn("_place", place).where("_place = 1").drop("_place")


def cleaned(spark: SparkSession, folder: str, as_of: str) -> dict[str, DataFrame]:
    """Valid rows as they were known at the instant."""

    def raw(entity: str) -> DataFrame:
        return spark.read.format("delta").load(f"{folder}/bronze/{entity}")

    until = F.lit(as_of).cast("timestamp")
    price, amount = F.expr("try_cast(Price AS DECIMAL(18,2))"), F.expr("try_cast(Amount AS DECIMAL(18,2))")
    products = raw("products").where((price >= 0) & F.col("Category").isNotNull())
    products = products.where(
        F.expr("StockAvailability IS NULL OR try_cast(StockAvailability AS INT) IS NOT NULL")
    ).where(F.col("UpdatedAt").cast("timestamp") < until)
    transactions = (
        raw("transactions")
        .where(F.col("Amount").isNull() | amount.isNotNull())
        .withColumn("date", F.expr("try_cast(Date AS TIMESTAMP)"))
        .withColumn("amount", F.coalesce(amount, F.lit(0).cast("decimal(18,2)")))
        .where(F.expr("date IS NOT NULL AND ProductID IS NOT NULL AND TransactionStatus IN ('Completed', 'Cancelled')"))
        .where((F.col("TransactionStatus") != "Completed") | (F.col("amount") >= 0))
        .where((F.col("date") < until) & (F.col("UpdatedAt").cast("timestamp") < until))
    )
    interactions = (
        raw("interactions")
        .withColumn("at", F.expr("try_cast(Timestamp AS TIMESTAMP)"))
        .where(F.col("at").isNotNull() & (F.col("at") < until) & F.col("InteractionID").isNotNull())
        .where(F.col("InteractionType").isin("view", "click", "add_to_cart"))
        .where(F.col("Source").isin("mobile_app", "website"))
    )
    return {
        "products": latest(products, "ProductID", "UpdatedAt"),
        "transactions": latest(transactions, "TransactionID", "UpdatedAt"),
        "interactions": latest(interactions, "InteractionID", "at"),
    }


def gold(rows: dict[str, DataFrame], as_of: str) -> DataFrame:
    """A row for each customer who has done something."""
    until = F.lit(as_of).cast("timestamp")
    bought = rows["transactions"].where("TransactionStatus = 'Completed' AND CustomerID IS NOT NULL")
    spent = bought.groupBy("CustomerID").agg(
        F.sum("amount").cast("decimal(28,2)").alias("total_spend"),
        F.count_distinct(F.coalesce("OrderID", "TransactionID")).cast("int").alias("purchase_frequency"),
    )
    recency = bought.groupBy("CustomerID").agg(
        F.floor((F.unix_micros(until) - F.unix_micros(F.max("date"))) / 86_400_000_000)
        .cast("int")
        .alias("days_since_last_purchase")
    )
    seen = rows["interactions"].where("CustomerID IS NOT NULL")
    looked = seen.groupBy("CustomerID").agg(F.count("*").alias("total_interactions"))
    before = F.lag("at").over(Window.partitionBy("CustomerID").orderBy("at"))
    begins = (F.unix_micros("at") - F.unix_micros(before) <= 1_800_000_000).cast("int")
    sessions = seen.withColumn("_same", F.coalesce(begins, F.lit(0))).groupBy("CustomerID")
    sessions = sessions.agg(F.sum(1 - F.col("_same")).cast("int").alias("session_count"))
    by_category = bought.join(rows["products"].select("ProductID", "Category"), "ProductID").groupBy(
        "CustomerID", "Category"
    )
    best = Window.partitionBy("CustomerID").orderBy(F.desc("_purchases"), F.desc("_spend"), "Category")
    favourite = (
        by_category.agg(F.count("*").alias("_purchases"), F.sum("amount").alias("_spend"))
        .withColumn("_place", F.row_number().over(best))
        .where("_place = 1")
        .select("CustomerID", F.col("Category").alias("favourite_category"))
    )
    everything = spent
    for part in (recency, looked, sessions, favourite):
        everything = everything.join(part, "CustomerID", "full")
    return everything.withColumnRenamed("CustomerID", "customer_id").na.fill(
        0, ["total_interactions", "purchase_frequency", "total_spend", "session_count"]
    )


def main(landing: str, folder: str, as_of: str) -> None:
    spark = SparkSession.builder.appName("notebook").getOrCreate()
    bronze(spark, landing, folder)
    features = gold(cleaned(spark, folder, as_of), as_of)
    features.write.format("delta").mode("overwrite").save(f"{folder}/gold/customer_features")
    spark.sql(f"OPTIMIZE delta.`{folder}/gold/customer_features` ZORDER BY (customer_id)")


if __name__ == "__main__":
    main(*sys.argv[1:])
