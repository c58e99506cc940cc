"""The quarantine: rejected rows with their received values, their position and all their reasons."""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse.contracts import Contract
from lakehouse.ingestion.json_objects import BYTES
from lakehouse.runtime.progress import Batch
from lakehouse.validation.checking import REASON_DDL, REASONS
from lakehouse.validation.mapping import ROW

CORRUPT_RULE = "corrupt_record"
OPEN, REPLAYED, DISCARDED = "open", "replayed", "discarded"
HISTORY_DDL = (
    "ARRAY<STRUCT<at: TIMESTAMP, run_id: STRING, action: STRING, by: STRING, note: STRING, "
    "corrections: MAP<STRING, STRING>>>"
)


def row_id(source: str, position: Column) -> Column:
    """What a raw row is called in the quarantine: the same whenever and however often it is judged.

    Args:
        position: a struct with file, block and row, and the file's modification time as ``modified``.
    """
    parts = [F.unix_micros(position["modified"]), position["block"], position["row"]]
    return F.md5(F.concat_ws("|", F.lit(source), position["file"], *[p.cast("string") for p in parts]))


def positions(bronze: DataFrame) -> DataFrame:
    """(_file, _loaded: bronze batch, _block, _first, _before): how to tell a row's number in its file, counted from 1."""
    place = Window.partitionBy("_file", "_loaded").orderBy("_block").rowsBetween(Window.unboundedPreceding, -1)
    blocks = bronze.groupBy(
        F.col("_source.file").alias("_file"),
        F.col("_batch_id").alias("_loaded"),
        F.col("_source.block").alias("_block"),
    ).agg(F.min("_source.row").alias("_first"), F.count("*").alias("_rows"))
    before = F.coalesce(F.sum("_rows").over(place), F.lit(0)).alias("_before")
    return blocks.select("_file", "_loaded", "_block", "_first", before)


def rejected_rows(
    rejected: DataFrame, places: DataFrame, contract: Contract, source: str, batch: Batch, now: datetime
) -> DataFrame:
    """Rows that broke the contract, as they are kept."""
    return _kept(rejected, places, F.col(REASONS), F.to_json(f"{ROW}.raw"), contract, source, batch, now)


def corrupt_rows(
    raw: DataFrame, places: DataFrame, contract: Contract, source: str, batch: Batch, now: datetime
) -> DataFrame:
    """Rows that could not even be parsed, as they are kept: the raw line where there is one."""
    line = F.coalesce(F.col(f"{ROW}.corrupt"), F.to_json(f"{ROW}.raw"))
    kept = F.col(f"{ROW}.corrupt")
    unparsed = kept.isNotNull() & ~F.startswith(kept, F.lit(BYTES))
    message = F.when(unparsed, "cannot be parsed: wrong number of fields, or not the declared format").otherwise(
        "holds bytes that are not text in the declared encoding"
    )
    reason = F.struct(
        F.lit(CORRUPT_RULE).alias("rule"),
        F.lit(None).cast("string").alias("column"),
        line.alias("value"),
        message.alias("message"),
    )
    return _kept(raw, places, F.array(reason), line, contract, source, batch, now)


def _kept(
    rows: DataFrame, places: DataFrame, reasons: Column, raw: Column,
    contract: Contract, source: str, batch: Batch, now: datetime,
) -> DataFrame:  # fmt: skip
    placed = rows.join(
        F.broadcast(places),
        (F.col(f"{ROW}.source.file") == F.col("_file"))
        & (F.col(f"{ROW}.bronze_batch") == F.col("_loaded"))
        & (F.col(f"{ROW}.source.block") == F.col("_block")),
        "left",
    )
    # Of a message, whose place has no block, the offset is its number.
    in_file = F.col(f"{ROW}.source.row") - F.col("_first") + F.col("_before") + 1
    number = F.coalesce(in_file, F.col(f"{ROW}.source.row"))
    called = F.when(F.col(f"{ROW}.source.block").isNull(), "offset").otherwise("row")
    where = F.concat(
        F.lit(f"{contract.name} "), called, F.lit(" "), number.cast("string"),
        F.lit(" of "), F.col(f"{ROW}.source.file"), F.lit(": "),
    )  # fmt: skip
    explained = F.transform(
        reasons.cast(f"array<{REASON_DDL}>"), lambda r: r.withField("message", F.concat(where, r["message"]))
    )
    return placed.select(
        row_id(source, F.col(f"{ROW}.source")).alias("id"),
        F.lit(source).alias("input"),
        F.lit(OPEN).alias("status"),
        explained.alias("reasons"),
        raw.alias("raw"),
        number.alias("row_number"),
        F.lit(contract.fingerprint).alias("contract_fingerprint"),
        F.lit(now).cast("timestamp").alias("quarantined_at"),
        F.array().cast(HISTORY_DDL).alias("history"),
        F.col(f"{ROW}.source").alias("_source"),
        F.col(f"{ROW}.ingested_at").alias("_ingested_at"),
        F.col(f"{ROW}.bronze_batch").alias("_bronze_batch"),
        F.lit(batch.batch_id).cast("bigint").alias("_batch_id"),
        F.lit(None).cast("bigint").alias("_decided_by"),
    )
