"""The Spark session of a stage."""

from __future__ import annotations

import os

from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

NEEDED = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.caseSensitive": "true",
    # Spark 4.2 takes a union for partitioned as its parts are, and then joins the wrong partitions (decision 0024).
    "spark.sql.unionOutputPartitioning": "false",
}


def build_session(app_name: str) -> SparkSession:
    """A session with Delta Lake and UTC, on whatever master spark-submit (or SPARK_REMOTE) names.

    Tuning belongs into ``conf/spark-defaults.conf``; only what correctness needs is set here.
    """
    builder = SparkSession.builder.appName(app_name)
    # A Spark Connect server, and Databricks, have Delta; there these would be refused, or take its place.
    if not os.environ.keys() & {"SPARK_REMOTE", "DATABRICKS_RUNTIME_VERSION"}:
        builder = builder.config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension").config(
            "spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog"
        )
    spark = builder.getOrCreate()
    for name, value in NEEDED.items():
        try:
            spark.conf.set(name, value)
        except AnalysisException as error:
            # Databricks serverless has few settings, and a Spark of its own.
            if "CONFIG_NOT_AVAILABLE" not in str(error) or name in (
                "spark.sql.session.timeZone",
                "spark.sql.ansi.enabled",
            ):
                raise
    return spark


def application_id(spark: SparkSession) -> str | None:
    """What Spark, its history server and its event log call the run; None where that cannot be known."""
    try:
        return spark.conf.get("spark.app.id", None)
    except AnalysisException:
        return None
