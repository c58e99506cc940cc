"""From an input's raw rows to the columns of an entity, by the source's SELECT."""

from __future__ import annotations

import re

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.contracts import Contract
from lakehouse.errors import ConfigurationError
from lakehouse.ingestion.readers import received_columns
from lakehouse.sources import Input
from lakehouse.sql import quote
from lakehouse.validation import functions

ROW, SEQUENCE, DELETED = "_row", "_sequence", "_deleted"
MAY_DROP = re.compile(
    r"\b(where|having|qualify|join|group|distinct|limit|offset|union|intersect|except|minus|lateral|\w*explode\w*|pivot|unpivot|"
    r"inline\w*|stack|tablesample|values)\b",
    re.IGNORECASE,
)
"""Words of SQL with which a SELECT may have fewer, or other, rows than it reads."""
LOOKS_AROUND = re.compile(r"\bover\b|\bselect\b.*\bselect\b|\(\s*select\b|\bfrom\b[^()]*,", re.IGNORECASE | re.DOTALL)
"""SQL in which a row's values may depend on other rows: windows, subqueries and joins."""


OF_MESSAGES = KEY, TOMBSTONE = "_key", "_tombstone"
"""Of a message: its key as text, and whether it has no value, which deletes that key."""


def placed(messages: DataFrame) -> DataFrame:
    """Bronze rows from Kafka with the place of a message in the shape of a file's: topic/partition and offset.

    From here on a row is a row, wherever it came from. ``_key`` and ``_tombstone`` stand beside it for the SELECT.
    """
    message = F.col("_source")
    place = F.struct(
        F.concat_ws("/", message["topic"], message["partition"].cast("string")).alias("file"),
        message["timestamp"].alias("modified"),
        F.lit(None).cast("bigint").alias("size"),
        F.lit(None).cast("bigint").alias("block"),
        message["offset"].alias("row"),
    )
    others = [c for c in messages.columns if c != "_source"]
    return messages.select(
        *[F.col(quote(c)) for c in others],
        message["key"].alias(KEY),
        message["tombstone"].alias(TOMBSTONE),
        place.alias("_source"),
    )


def raw_rows(bronze: DataFrame) -> DataFrame:
    """Bronze rows with ``_row``: source position, time of ingestion, bronze batch, received values.

    Of messages, ``_key`` and ``_tombstone`` are there as well.
    """
    of_messages = [c for c in OF_MESSAGES if c in bronze.columns]
    received = received_columns(bronze)
    row = F.struct(
        F.col("_source").alias("source"),
        F.col("_ingested_at").alias("ingested_at"),
        F.col("_batch_id").alias("bronze_batch"),
        F.struct(*[F.col(quote(c)) for c in received], "_rescued").alias("raw"),
        F.col("_corrupt").alias("corrupt"),
    )
    return bronze.select(*[F.col(quote(c)) for c in received], *of_messages, row.alias(ROW))


def map_rows(raw: DataFrame, source: Input, contract: Contract) -> DataFrame:
    """Run the source's SELECT for one entity.

    Returns:
        ``_row`` and, as text or typed, whichever of the contract's columns, ``_sequence`` and
        ``_deleted`` the SELECT has.

    Raises:
        ConfigurationError: the SELECT does not run, lacks ``_row``, or has a column that the
            contract does not know.
    """
    where = f"sources/{source.source}/{contract.name}.sql"
    functions.register(raw.sparkSession)
    raw.createOrReplaceTempView(source.name)
    try:
        mapped = raw.sparkSession.sql(dict(source.sql)[contract.name])
        columns = mapped.columns
    except (AnalysisException, ParseException) as error:
        message = " ".join(str(error).split())[:300]
        raise ConfigurationError(message, where=where, todo="Mend the SELECT.") from error
    if len(set(columns)) != len(columns):
        twice = ", ".join(sorted({c for c in columns if columns.count(c) > 1}))
        raise ConfigurationError(
            f"selects {twice} twice", where=where, todo="Remove one of them, or name it otherwise."
        )
    if ROW not in columns:
        raise ConfigurationError("does not select _row", where=where, todo="Add _row to the SELECT.")
    unknown = set(columns) - set(contract.column_names) - {ROW, SEQUENCE, DELETED}
    if unknown:
        raise ConfigurationError(
            f"selects {', '.join(sorted(unknown))}, not in the contract of {contract.name}",
            where=where,
            todo="Rename or remove it, or add it to the contract.",
        )
    return mapped


def keeps_every_row(sql: str) -> bool:
    """Whether no word of a SELECT says that it may have fewer, or other, rows than it reads."""
    return MAY_DROP.search(bare(sql)) is None


def sees_single_rows(sql: str) -> bool:
    """Whether no word of a SELECT says that what it makes of a row may depend on other rows."""
    return keeps_every_row(sql) and not looks_around(sql)


def looks_around(sql: str) -> bool:
    """Whether SQL has windows or subqueries."""
    return LOOKS_AROUND.search(bare(sql)) is not None


def bare(sql: str) -> str:
    """SQL without its comments, and with its literals and quoted names emptied."""
    quoted = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`"
    comments = r"--[^\n]*|/\*.*?\*/"
    return re.sub(f"{quoted}|{comments}", lambda found: "''" if found[0][0] in "'\"`" else " ", sql, flags=re.DOTALL)
