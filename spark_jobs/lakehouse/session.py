"""The Spark session of a stage."""

from __future__ import annotations

import os

from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession


def build_session(app_name: str) -> SparkSession:
    """A session with Delta Lake and UTC, on whatever master spark-submit (or SPARK_REMOTE) names.

    Tuning belongs into ``conf/spark-defaults.conf``; only what correctness needs is set here.
    """
    builder = SparkSession.builder.appName(app_name)
    # A server of somebody else's, and Databricks, have Delta; there these would be refused, or take its place.
    if not os.environ.get("SPARK_REMOTE", "").startswith("sc://") and "DATABRICKS_RUNTIME_VERSION" not in os.environ:
        builder = builder.config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension").config(
            "spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog"
        )
    spark = builder.getOrCreate()
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    spark.conf.set("spark.sql.ansi.enabled", "true")
    try:
        spark.conf.set("spark.sql.caseSensitive", "true")
    except AnalysisException as error:
        # Databricks serverless has few settings. Without this one, columns that differ in letter case alone clash.
        if "CONFIG_NOT_AVAILABLE" not in str(error):
            raise
    return spark
