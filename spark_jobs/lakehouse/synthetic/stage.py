"""Write a made-up shop as landing files by day, and beside it what is dirty."""

from __future__ import annotations

from datetime import date

import pyarrow.fs
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.report import RunReport
from lakehouse.synthetic import dirt
from lakehouse.synthetic.randomness import Dice
from lakehouse.synthetic.shop import Scale, Shop

ROWS_PER_FILE = 1_000_000
LABELS_DDL = "entity STRING, key STRING, delivered DATE, kind STRING, rules ARRAY<STRING>"
BOOKKEEPING = ("key", "day", "kind", "rules", "copy")


def generate(spark: SparkSession, landing: str, scale: Scale, seed: int, level: float, report: RunReport) -> None:
    """Write ``<landing>/shop/<entity>/<date>/part-*`` and ``<landing>/shop/_dirt/part-*.jsonl``."""
    shop = Shop(spark, scale, Dice(seed))
    labels = []
    for entity in ("customers", "products", "transactions", "interactions"):
        with report.step(f"generate {entity}"):
            rows = dirt.spoil(entity, getattr(shop, entity)(), Dice(seed), level, scale.days)
            _write(rows, f"{landing}/shop/{entity}", entity, scale)
            labels.append(_labels(rows, entity, scale.start))
        report.say(f"{entity} written to {landing}/shop/{entity}")
    with report.step("generate labels"):
        every = labels[0]
        for more in labels[1:]:
            every = every.unionByName(more)
        every.repartition(1).sortWithinPartitions("entity", "delivered", "key").write.mode("overwrite").json(
            f"{landing}/shop/_dirt"
        )
        _name_plainly(f"{landing}/shop/_dirt")
        counts = (
            # Stated, for a clean shop has no line to learn it from.
            spark.read.schema(LABELS_DDL)
            .json(f"{landing}/shop/_dirt")
            .groupBy("entity", "kind")
            .count()
            .orderBy("entity", "kind")
            .collect()
        )
    for r in counts:
        report.count(f"landing.{r['entity']}", **{r["kind"]: r["count"]})
        report.say(f"{r['entity']}: {r['count']:,} {r['kind']}")


def _write(rows: DataFrame, folder: str, entity: str, scale: Scale) -> None:
    """One folder a day; the same rows in the same files whatever the number of cores."""
    per_day = max(1, scale.rows // scale.days // ROWS_PER_FILE)
    file = F.pmod(F.xxhash64("key"), F.lit(per_day))
    day = F.date_format(F.date_add(F.lit(scale.start), F.col("day")), "yyyy-MM-dd")
    files = min(200, max(2, per_day * scale.days // 4))
    placed = (
        rows.withColumn("date_delivered", day)
        .repartition(files, "date_delivered", file)
        .sortWithinPartitions("date_delivered", "key", "copy")
    )
    values = [c for c in rows.columns if c not in BOOKKEEPING]
    if entity == "interactions":
        line = F.to_json(F.struct(*values))
        cut = F.when(F.col("kind") == dirt.CORRUPT, F.expr("substring(line, 1, length(line) div 2)"))
        lines = placed.withColumn("line", line).select("date_delivered", F.coalesce(cut, "line").alias("value"))
        lines.write.mode("overwrite").partitionBy("date_delivered").text(folder)
    else:
        options = {"header": "true", "escape": '"', "emptyValue": ""}
        placed.select("date_delivered", *values).write.mode("overwrite").options(**options).partitionBy(
            "date_delivered"
        ).csv(folder)
    _name_plainly(folder, ".jsonl" if entity == "interactions" else ".csv")


def _labels(rows: DataFrame, entity: str, start: date) -> DataFrame:
    return rows.where(F.col("kind").isNotNull() & (F.col("copy") == 0)).select(
        F.lit(entity).alias("entity"),
        F.split_part("key", F.lit("#"), F.lit(1)).alias("key"),
        F.date_add(F.lit(start), F.col("day")).alias("delivered"),
        "kind",
        F.coalesce("rules", F.array().cast("array<string>")).alias("rules"),
    )


def _name_plainly(folder: str, suffix: str = ".jsonl") -> None:
    """Spark puts a random word into file and folder names; the same shop should have the same names."""
    store, root = pyarrow.fs.FileSystem.from_uri(folder) if "://" in folder else (pyarrow.fs.LocalFileSystem(), folder)
    for info in store.get_file_info(pyarrow.fs.FileSelector(root, recursive=True)):
        if info.type == pyarrow.fs.FileType.File and info.base_name.startswith("part-"):
            parent = info.path.rpartition("/")[0]
            store.move(info.path, f"{parent}/{info.base_name[:10]}{suffix}")
        elif info.type == pyarrow.fs.FileType.File:
            store.delete_file(info.path)
    for info in store.get_file_info(pyarrow.fs.FileSelector(root)):
        if info.base_name.startswith("date_delivered="):
            store.move(info.path, f"{root}/{info.base_name.removeprefix('date_delivered=')}")
