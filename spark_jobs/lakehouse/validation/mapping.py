"""From an input's raw rows to the columns of an entity, by the source's SELECT."""

from __future__ import annotations

import re

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.contracts import Contract
from lakehouse.errors import ConfigurationError
from lakehouse.sources import Input

ROW, SEQUENCE, DELETED = "_row", "_sequence", "_deleted"
MAY_DROP = re.compile(
    r"\b(where|having|qualify|join|group|distinct|limit|offset|union|intersect|except|minus|lateral|\w*explode\w*|pivot|unpivot|"
    r"inline\w*|stack|tablesample|values)\b",
    re.IGNORECASE,
)
"""Words of SQL with which a SELECT may have fewer, or other, rows than it reads."""
LOOKS_AROUND = re.compile(r"\bover\b|\bselect\b.*\bselect\b", re.IGNORECASE | re.DOTALL)
"""SQL in which a row's values may depend on other rows: windows and subqueries."""


def raw_rows(bronze: DataFrame) -> DataFrame:
    """Bronze rows with ``_row``: source position, time of ingestion, bronze batch, received values."""
    received = [c for c in bronze.columns if not c.startswith("_")]
    row = F.struct(
        F.col("_source").alias("source"),
        F.col("_ingested_at").alias("ingested_at"),
        F.col("_batch_id").alias("bronze_batch"),
        F.struct(*[F.col(f"`{c}`") for c in received], "_rescued").alias("raw"),
        F.col("_corrupt").alias("corrupt"),
    )
    return bronze.select(*[F.col(f"`{c}`") for c in received], row.alias(ROW))


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
    raw.createOrReplaceTempView(source.name)
    try:
        mapped = raw.sparkSession.sql(dict(source.sql)[contract.name])
        columns = mapped.columns
    except (AnalysisException, ParseException) as error:
        message = " ".join(str(error).split())[:300]
        raise ConfigurationError(message, where=where, todo="Mend the SELECT.") from error
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
    """Whether a SELECT certainly gives one row for each that it reads; False where that cannot be told."""
    return MAY_DROP.search(_without_comments(sql)) is None


def sees_single_rows(sql: str) -> bool:
    """Whether what a SELECT makes of a row certainly follows from that row alone."""
    return keeps_every_row(sql) and LOOKS_AROUND.search(_without_comments(sql)) is None


def _without_comments(sql: str) -> str:
    return re.sub(r"--[^\n]*", "", sql)
