"""The Spark session of a stage."""

from __future__ import annotations

import atexit
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from subprocess import TimeoutExpired

from pyspark import SparkContext
from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

from lakehouse import sizes
from lakehouse.engine import engine

NEEDED = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.caseSensitive": "true",
    # Spark 4.2 takes a union for partitioned as its parts are, and then joins the wrong partitions (decision 0024).
    "spark.sql.unionOutputPartitioning": "false",
    # Else ${...} in the name of a column or in a value is replaced, by a setting or a variable of the environment.
    "spark.sql.variable.substitute": "false",
    # Instants in nanoseconds, which pandas writes: else Spark refuses the file.
    "spark.sql.legacy.parquet.nanosAsLong": "true",
}

LITTLE = {
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.shuffle.partitions": "2",
    "spark.databricks.delta.snapshotPartitions": "1",
}
"""What a session is set to while all rows of a query are few."""
KEPT = "spark.lakehouse.kept."
"""Begins the settings by which a session remembers what it had before."""


def amount(rows: float) -> str:
    """So many rows as ``LAKEHOUSE_WORK`` and a report say it: little or much."""
    return "little" if rows <= sizes.LITTLE_ROWS else "much"


def build_session(app_name: str) -> SparkSession:
    """A session with Delta Lake and UTC, on whatever master spark-submit (or SPARK_REMOTE) names.

    Tuning belongs into ``conf/spark-defaults.conf``; only what correctness needs is set here.
    It begins prepared for little data, as a stage's own records are; see ``prepare``.
    """
    atexit.register(wait_for_jvm)
    builder = SparkSession.builder.appName(app_name)
    if not engine().has_delta:
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
    prepare(spark, rows=0)
    return spark


def prepare(spark: SparkSession, rows: float = math.inf, beside: float = 0) -> None:
    """Have the session do its next work in the way that is best for so many rows; by default, for any number.

    ``beside`` are the rows of the tables that those rows are joined to. Results are the same either way.

    Spark makes, formats and looks up code for single expressions in each task. That pays where it sorts and compares
    many rows; with few rows it is a third of a stage's CPU. And adaptive execution plans a query anew after each of its
    shuffles, which pays where their sizes are not known to be small (decision 0034).
    """
    if not engine().takes_settings:
        return
    with suppress(AnalysisException):
        spark.conf.set("spark.sql.codegen.factoryMode", "NO_CODEGEN" if rows <= sizes.LITTLE_ROWS else "FALLBACK")
    little = rows + beside <= sizes.LITTLE_ROWS
    for name, for_little in LITTLE.items():
        kept = KEPT + name
        # What the session began with is its user's choice, and comes back.
        if (chosen := spark.conf.get(kept, None)) is None:
            chosen = spark.conf.get(name, None) or ""
            spark.conf.set(kept, chosen)
        if little or chosen:
            spark.conf.set(name, for_little if little else chosen)
        else:
            spark.conf.unset(name)


@contextmanager
def rewriting_changed_files(spark: SparkSession, whole: bool) -> Iterator[None]:
    """Within, a MERGE writes a file anew in which a row changes; or else marks the row in it, which takes five more queries."""
    name = "spark.databricks.delta.merge.deletionVectors.persistent"
    if not engine().takes_settings:
        yield
        return
    before = spark.conf.get(name, "true") or "true"
    spark.conf.set(name, str(not whole).lower())
    try:
        yield
    finally:
        spark.conf.set(name, before)


def wait_for_jvm(seconds: float = 60) -> None:
    """End the JVM that this process has started, if it has, and wait until it has written the last of its event log."""
    gateway = SparkContext._gateway
    process = getattr(gateway, "proc", None)
    if gateway is not None and process is not None:
        # So that nothing of Python's asks the JVM any more.
        gateway.shutdown()
        process.stdin.close()
        with suppress(TimeoutExpired):
            process.wait(seconds)


def application_id(spark: SparkSession) -> str | None:
    """What Spark, its history server and its event log call the run; None where that cannot be known."""
    try:
        return spark.conf.get("spark.app.id", None)
    except AnalysisException:
        return None
