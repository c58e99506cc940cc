"""What any Spark job costs: a session that opens one Delta table."""

from __future__ import annotations

import sys

from pyspark.sql import SparkSession

if __name__ == "__main__":
    spark = SparkSession.builder.appName("bare").getOrCreate()
    spark.read.format("delta").load(sys.argv[1]).limit(1).collect()
