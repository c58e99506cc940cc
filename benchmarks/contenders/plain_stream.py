"""What a stream costs at least, for stream.py's benchmark: Spark's own, from two topics of JSON to Delta tables, without a check.

Either to a table a topic; or, as the third argument ``merge`` asks, to that table and from there by key into a second one.
"""

from __future__ import annotations

import signal
import sys
import threading
from functools import partial
from pathlib import Path

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

COLUMNS = {
    "transactions": "TransactionID STRING, OrderID STRING, CustomerID STRING, ProductID STRING, Date TIMESTAMP, "
    "Amount DECIMAL(18,2), PaymentMethod STRING, TransactionStatus STRING, UpdatedAt TIMESTAMP, op STRING",
    "interactions": "InteractionID STRING, CustomerID STRING, InteractionType STRING, Timestamp TIMESTAMP, "
    "Page STRING, Source STRING, Metadata STRING",
}


def merged(rows: DataFrame, batch: int, folder: str, entity: str, key: str) -> None:
    """A micro-batch appended to ``<folder>/<entity>``, and its rows by key into ``<folder>/merged/<entity>``."""
    spark, target = rows.sparkSession, f"{folder}/merged/{entity}"
    rows.withColumn("_batch", F.lit(batch)).write.format("delta").mode("append").save(f"{folder}/{entity}")
    fresh = spark.read.format("delta").load(f"{folder}/{entity}").where(F.col("_batch") == batch)
    if not DeltaTable.isDeltaTable(spark, target):
        fresh.limit(0).write.format("delta").save(target)
    table = DeltaTable.forPath(spark, target).alias("t")
    joined = table.merge(fresh.dropDuplicates([key]).alias("s"), f"t.{key} = s.{key}")
    joined.whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()


def main(servers: str, folder: str, most: str, how: str = "append") -> None:
    spark = SparkSession.builder.appName("plain stream").getOrCreate()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    queries = []
    for entity, columns in COLUMNS.items():
        messages = (
            spark.readStream.format("kafka")
            .option("kafka.bootstrap.servers", servers)
            .option("subscribe", f"shop.{entity}")
            .option("startingOffsets", "earliest")
            .option("maxOffsetsPerTrigger", most)
            .load()
        )
        rows = messages.select(
            F.col("timestamp").alias("sent"), F.from_json(F.col("value").cast("string"), columns).alias("row")
        )
        writer = rows.select("sent", "row.*").writeStream
        writer = writer.option("checkpointLocation", f"{folder}/checkpoints/{entity}")
        if how == "merge":
            key = columns.split()[0]
            queries.append(writer.foreachBatch(partial(merged, folder=folder, entity=entity, key=key)).start())
        else:
            queries.append(writer.format("delta").outputMode("append").start(str(Path(folder) / entity)))
    while not stop.is_set() and not spark.streams.awaitAnyTermination(1):
        pass
    for q in queries:
        q.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
