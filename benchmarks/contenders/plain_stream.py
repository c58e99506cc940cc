"""What a stream costs at least: Spark's own, from two topics of JSON to two Delta tables, without a check, for stream.py's benchmark."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

COLUMNS = {
    "transactions": "TransactionID STRING, OrderID STRING, CustomerID STRING, ProductID STRING, Date TIMESTAMP, "
    "Amount DECIMAL(18,2), PaymentMethod STRING, TransactionStatus STRING, UpdatedAt TIMESTAMP, op STRING",
    "interactions": "InteractionID STRING, CustomerID STRING, InteractionType STRING, Timestamp TIMESTAMP, "
    "Page STRING, Source STRING, Metadata STRING",
}


def main(servers: str, folder: str, most: str) -> None:
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
        writer = rows.select("sent", "row.*").writeStream.format("delta").outputMode("append")
        writer = writer.option("checkpointLocation", f"{folder}/checkpoints/{entity}")
        queries.append(writer.start(str(Path(folder) / entity)))
    while not stop.is_set() and not spark.streams.awaitAnyTermination(1):
        pass
    for q in queries:
        q.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
