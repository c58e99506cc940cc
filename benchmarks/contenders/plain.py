"""What loading costs at least: Spark reads the shop's files as text and writes Delta tables, without a look at the rows."""

from __future__ import annotations

import sys

from pyspark.sql import SparkSession

FORMATS = {"customers": "csv", "products": "csv", "transactions": "csv", "interactions": "json"}
COLUMNS = {
    "customers": "CustomerID, Name, Email, RegistrationDate, CustomerType, Country, LastActiveDate, UpdatedAt, op",
    "products": "ProductID, Category, Price, StockAvailability, UpdatedAt, op",
    "transactions": "TransactionID, OrderID, CustomerID, ProductID, Date, Amount, PaymentMethod, TransactionStatus, "
    "UpdatedAt, op",
    "interactions": "InteractionID, CustomerID, InteractionType, Timestamp, Page, Source, Metadata",
}


def text_columns(entity: str) -> str:
    """The columns of an entity's files as Spark DDL: all text, as they stand there."""
    return ", ".join(f"{name} STRING" for name in COLUMNS[entity].split(", "))


def main(landing: str, folder: str) -> None:
    spark = SparkSession.builder.appName("plain").getOrCreate()
    for entity, format_ in FORMATS.items():
        reader = spark.read.schema(text_columns(entity)).option("header", "true").format(format_)
        rows = reader.load(f"{landing}/shop/{entity}/*")
        rows.write.format("delta").mode("overwrite").save(f"{folder}/{entity}")


if __name__ == "__main__":
    main(*sys.argv[1:])
