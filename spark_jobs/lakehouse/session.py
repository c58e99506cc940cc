"""The Spark session of a stage."""

from __future__ import annotations

import os

from pyspark.sql import SparkSession


def build_session(app_name: str) -> SparkSession:
    """A session with Delta Lake and UTC, on whatever master spark-submit (or SPARK_REMOTE) names.

    Tuning belongs into ``conf/spark-defaults.conf``; only what correctness needs is set here.
    """
    builder = SparkSession.builder.appName(app_name)
    if "SPARK_REMOTE" not in os.environ:
        builder = builder.config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension").config(
            "spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog"
        )
    spark = builder.getOrCreate()
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    spark.conf.set("spark.sql.ansi.enabled", "true")
    spark.conf.set("spark.sql.caseSensitive", "true")
    return spark
