"""Structured Streaming with availableNow against planned batches, as the progress of a stage.

Both read new bronze rows, check them by the same function and append what is accepted to a staged
table, exactly once. Measured: a run with nothing new, and an increment, on a table that grew in
several commits. Run it with: `. bin/env && spark-submit benchmarks/progress.py`

Each figure is the median of several runs in one warm session; the machine is noisy, the ratio counts.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "spark_jobs"))

from lakehouse.report import RunReport  # noqa: E402
from lakehouse.runtime.progress import End, Progress, Work  # noqa: E402
from lakehouse.session import build_session  # noqa: E402
from lakehouse.tables import Warehouse  # noqa: E402

RUNS, INCREMENT = 7, 10_000


def rows(spark: SparkSession, batch: int) -> DataFrame:
    return spark.range(INCREMENT).select(
        F.col("id").cast("string").alias("key"),
        F.rand(batch).alias("value"),
        F.lit(batch).cast("bigint").alias("_batch_id"),
    )


def accepted(frame: DataFrame) -> DataFrame:
    return frame.where(F.col("value") < 0.98)


class Streaming:
    """One availableNow query, its progress in a checkpoint folder."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.spark, self.folder = spark, folder

    def run(self) -> None:
        def write(frame: DataFrame, batch: int) -> None:
            writer = accepted(frame).write.format("delta").mode("append")
            writer.option("txnAppId", "bench").option("txnVersion", batch).save(str(self.folder / "staged"))

        stream = self.spark.readStream.format("delta").load(str(self.folder / "bronze"))
        query = (
            stream.writeStream.foreachBatch(write)
            .option("checkpointLocation", str(self.folder / "checkpoint"))
            .trigger(availableNow=True)
            .start()
        )
        query.awaitTermination()


class Planned:
    """The project's way: a plan and a completion per batch in ops.progress."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.warehouse = Warehouse(lambda: spark, str(folder), RunReport("bench", "bench", datetime.now(UTC)))
        self.folder, self.spark = folder, spark

    def run(self) -> None:
        progress = Progress(self.warehouse, "bench", "bench", datetime.now(UTC), upstream="load")
        covered = {i for b in progress.batches() for i in b.inputs}
        done = {b.batch_id for b in progress.finished("load")} - covered
        for batch in progress.plan([Work("bronze", tuple(done))] if done else []):
            frame = self.spark.read.format("delta").load(str(self.folder / "bronze"))
            new = accepted(frame.where(F.col("_batch_id").isin(list(batch.inputs))))
            self.warehouse.append(new, "staged.bench", batch.transaction("staged"))
            progress.finish(batch, End())
        progress.commit()

    def loaded(self) -> None:
        """What the stage before would have recorded of the increment."""
        progress = Progress(self.warehouse, "load", "bench", datetime.now(UTC))
        (batch,) = progress.plan([Work("bronze")])
        progress.finish(batch, End())
        progress.commit()


def timed(function: Callable[[], None]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def main() -> None:
    spark = build_session("progress benchmark")
    table = Table(title="Seconds, median (least to most)")
    for column in ("way", "nothing new", f"{INCREMENT:,} new rows"):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as folder:
        for way in (Streaming(spark, Path(folder) / "streaming"), Planned(spark, Path(folder) / "planned")):
            idle, busy = [], []
            for batch in range(1, RUNS + 3):
                rows(spark, batch).write.format("delta").mode("append").save(str(way.folder / "bronze"))
                if isinstance(way, Planned):
                    way.loaded()
                seconds = timed(way.run)
                if batch > 2:
                    busy.append(seconds)
                    idle.append(timed(way.run))
            table.add_row(
                type(way).__name__,
                *[f"{statistics.median(s):.2f} ({min(s):.2f} to {max(s):.2f})" for s in (idle, busy)],
            )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
