"""Raw files as rows: declared columns as received, the rest in ``_rescued``, bad lines in ``_corrupt``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from lakehouse.ingestion.columns import undeclared
from lakehouse.sources import Input
from lakehouse.sql import quote

CORRUPT, RESCUED, SOURCE = "_corrupt", "_rescued", "_source"
PARSER_CORRUPT = "lakehouse corrupt record"
"""What the parsers call a line they cannot read: no file has a column of this name."""

# RFC 4180: quotes are doubled, quoted fields may hold line breaks; nothing is trimmed or guessed.
CSV_OPTIONS = {
    "header": "true",
    "multiLine": "true",
    "quote": '"',
    "escape": '"',
    "mode": "PERMISSIVE",
    "emptyValue": "",
    "maxCharsPerColumn": "-1",
    "columnNameOfCorruptRecord": PARSER_CORRUPT,
}
UNDECODABLE = "\ufffd"
"""What Spark puts in the place of bytes that are not text."""
JSON_OPTIONS = {
    "mode": "PERMISSIVE",
    "columnNameOfCorruptRecord": PARSER_CORRUPT,
    "allowNonNumericNumbers": "false",
    "allowSingleQuotes": "false",
}


def read(spark: SparkSession, source: Input, names: Sequence[str], uris: list[str]) -> DataFrame:
    """Files of one input that have the columns ``names``, each value as text.

    JSON values that are no text are kept as their JSON text, to the letter.
    """
    options = dict(source.options)
    if source.format == "csv":
        raw = spark.read.schema(_strings(names)).options(**{**CSV_OPTIONS, **options}).csv(uris)
    elif source.format == "json":
        raw = spark.read.schema(_strings(names)).options(**{**JSON_OPTIONS, **options}).json(uris)
    else:
        typed = spark.read.option("mergeSchema", "true").options(**options).parquet(*uris)
        raw = typed.select(*[as_text(field) for field in typed.schema.fields], typed.metadataColumn("_metadata"))
    file = raw.metadataColumn("_metadata") if PARSER_CORRUPT in raw.columns else F.col("_metadata")
    return received(raw.select("*", file.alias("_file")), source, names)


def json_keys(spark: SparkSession, uris: list[str]) -> list[str]:
    """The top-level keys that occur in JSON lines.

    A pass of its own: the parser that keeps numbers exactly must be told the keys, and one that
    it is not told would vanish.
    """
    keys = F.explode(F.array_distinct(F.json_object_keys("value"))).alias("key")
    return [r["key"] for r in spark.read.text(uris).select(keys).distinct().orderBy("key").collect()]


def parquet_columns(spark: SparkSession, source: Input, uris: list[str]) -> list[str]:
    return spark.read.option("mergeSchema", "true").options(**dict(source.options)).parquet(*uris).columns


def stamp(rows: DataFrame, source: Input, root: str, now: datetime, batch_id: int) -> DataFrame:
    """Rows as they go into bronze: where each came from, when, and with which batch.

    Args:
        rows: what a reader returned.
        root: the landing folder as it stands in the decoded addresses of its files.
        now: when the files were discovered; no file is taken to be younger.
    """
    address = F.try_url_decode(F.replace(F.col("_file.file_path"), F.lit("+"), F.lit("%2B")))
    path = F.expr("substring(address, instr(address, root) + length(root) + 1)")
    rows = rows.select("*", address.alias("address"), F.lit(root).alias("root"))
    return rows.select(
        *[F.col(quote(c)) for c in source.columns],
        RESCUED,
        CORRUPT,
        F.struct(
            path.alias("file"),
            F.least(F.col("_file.file_modification_time"), F.lit(now)).alias("modified"),
            F.col("_file.file_size").alias("size"),
            F.col("_file.file_block_start").alias("block"),
            F.col("_row_in_partition").alias("row"),
        ).alias(SOURCE),
        F.lit(now).cast("timestamp").alias("_ingested_at"),
        F.lit(batch_id).cast("bigint").alias("_batch_id"),
    )


def is_corrupt(bronze: DataFrame) -> Column:
    """Whether a bronze row could not be parsed, or holds bytes that could not be decoded."""
    received = [c for c in bronze.columns if not c.startswith("_")]
    undecodable = reduce(Column.__or__, [F.col(quote(c)).contains(UNDECODABLE) for c in received], F.lit(False))
    return F.col(CORRUPT).isNotNull() | F.coalesce(undecodable, F.lit(False))


def union(parts: list[DataFrame]) -> DataFrame:
    return reduce(lambda some, more: some.unionByName(more, allowMissingColumns=True), parts)


def received(raw: DataFrame, source: Input, names: Sequence[str]) -> DataFrame:
    """The declared columns, ``_rescued``, ``_corrupt``, ``_file`` and ``_row_in_partition`` of files' rows.

    Args:
        raw: the columns ``names`` as text, ``_file`` (Spark's metadata of the file) and, where there are
            any, what a parser could not read and what Auto Loader has rescued.
    """

    def column(name: str) -> Column:
        return F.col(quote(name)) if name in names else F.lit(None).cast("string")

    others = undeclared(source, names)
    rescued = F.col(RESCUED) if RESCUED in raw.columns else F.lit(None).cast("string")
    if others:
        some = reduce(Column.__or__, [column(n).isNotNull() for n in others])
        ours = F.when(some, F.to_json(F.struct(*[column(n).alias(n) for n in others])))
        # Both are JSON objects with something in them: one object out of two texts.
        both = F.concat(
            rescued.substr(F.lit(1), F.length(rescued) - 1), F.lit(","), ours.substr(F.lit(2), F.length(ours))
        )
        rescued = F.coalesce(both, rescued, ours)
    parsed = PARSER_CORRUPT in raw.columns
    corrupt = F.col(quote(PARSER_CORRUPT)) if parsed else F.lit(None).cast("string")
    return raw.select(
        *[column(n).alias(n) for n in source.columns],
        rescued.alias(RESCUED),
        corrupt.alias(CORRUPT),
        "_file",
        F.monotonically_increasing_id().alias("_row_in_partition"),
    )


def as_text(field: StructField) -> Column:
    """A typed column as text: JSON for what is nested."""
    value = F.col(quote(field.name))
    nested = field.dataType.typeName() in ("struct", "array", "map")
    return (F.to_json(value) if nested else value.cast("string")).alias(field.name)


def _strings(names: Sequence[str]) -> StructType:
    return StructType([StructField(n, StringType()) for n in (*names, PARSER_CORRUPT)])
