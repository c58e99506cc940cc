"""A mapped batch, typed and checked against its contract: pure DataFrame functions, one pass.

``check`` marks each row; ``accepted`` and ``rejected`` part the rows. Reasons and messages are built for
the rejected rows alone, so that a good row costs little more than its casts.
"""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F

from lakehouse.contracts import FAIL, Column, Contract
from lakehouse.sql import quote
from lakehouse.validation import rules, values
from lakehouse.validation.mapping import DELETED, ROW, SEQUENCE

REASONS, WARNINGS, REJECTED = "_reasons", "_warnings", "_rejected"
REASON_DDL = "STRUCT<rule: STRING, column: STRING, value: STRING, message: STRING>"


def check(mapped: DataFrame, contract: Contract, known: dict[str, DataFrame]) -> DataFrame:
    """Type a mapped batch and mark the rows that its contract rejects.

    Args:
        mapped: what the source's SELECT gave.
        known: for each entity a foreign key points to, its known keys (one column, distinct); for the
            contract's own name, if a column of it is unique, the rows of silver that are there.

    Returns:
        ``_row``, ``_deleted``, the contract's columns, ``_text_<column>`` and what else the rules refer
        to, and ``_rejected``.
    """
    rows = typed(mapped, contract)
    for column in contract.columns:
        if column.references:
            rows = _mark_orphans(rows, column, known[column.references[0]])
        if column.unique and not column.key:
            rows = _mark_taken(rows, column, contract, known[contract.name])
    rejecting = [c for c in rules.checks(contract) if c.rejects]
    rows = rows.withColumn(rules.CELL_BROKEN, _any(c.violated for c in rejecting if c.of_a_cell))
    own = _any(c.violated for c in rejecting if not c.of_a_cell)
    return rows.withColumn(REJECTED, F.col(rules.CELL_BROKEN) | own)


def typed(mapped: DataFrame, contract: Contract) -> DataFrame:
    """``_row``, ``_deleted``, and per contract column the received text and the typed value."""
    deleted = F.coalesce(F.col(DELETED), F.lit(False)) if DELETED in mapped.columns else F.lit(False)
    texts = [_given(mapped, c.name).alias(f"_text_{c.name}") for c in contract.columns]
    trimmed = mapped.select("*", *texts, deleted.alias("_gone"), _given(mapped, SEQUENCE).alias(rules.SEQUENCE_TEXT))
    return trimmed.select(
        ROW,
        F.col("_gone").alias(DELETED),
        *[f"_text_{c.name}" for c in contract.columns],
        *[_typed(mapped, c).alias(c.name) for c in contract.columns],
        rules.SEQUENCE_TEXT,
        _instant(mapped, SEQUENCE).alias("_sequence_at"),
    )


def place(source: SparkColumn) -> SparkColumn:
    """A number for a raw row's position, the same for two rows in no more than one of many billions of pairs."""
    return F.xxhash64(source)


def accepted(
    checked: DataFrame, contract: Contract, into: Observation | None = None, *, places: bool = False
) -> DataFrame:
    """The rows that pass: the contract's columns, ``_deleted``, ``_sequence``, ``_warnings`` (names of rules).

    Args:
        into: counts the checked rows while the accepted ones are written: ``rows``, ``rejected``, ``warn:<name>``
            (accepted rows with that warning), ``missing:<column>`` and, for rules of severity fail, ``fail:<name>``.
        places: have ``into`` collect the ``place`` of each rejected row too, as ``places``.
    """
    warning = [c for c in rules.checks(contract) if not c.rejects]
    names = [F.when(c.violated, F.lit(c.name)) for c in warning]
    none = F.array().cast("array<string>")
    # Most rows have none, and are spared the making of an array of every rule. array_compact would do the same, but a
    # step with a higher-order function in it is left out of the code that Spark generates for the whole stage.
    listed = F.array_except(F.array(*names, F.lit(None).cast("string")), F.array(F.lit(None).cast("string")))
    warnings = F.when(_any(c.violated for c in warning), listed).otherwise(none)
    sequence = F.struct(
        F.coalesce("_sequence_at", F.col(f"{ROW}.source.modified")).alias("at"),
        # Before the arrival, so that a deletion wins ties of time.
        F.col(DELETED).alias("deleted"),
        F.col(f"{ROW}.source.modified").alias("received"),
        F.col(f"{ROW}.source.file").alias("file"),
        F.col(f"{ROW}.source.block").alias("block"),
        F.col(f"{ROW}.source.row").alias("row"),
    )
    kept = [*map(F.col, contract.column_names), F.col(DELETED), sequence.alias(SEQUENCE), warnings.alias(WARNINGS)]
    if into is None:
        return checked.where(~F.col(REJECTED)).select(*kept)
    facts = {f"missing:{c.name}": F.col(f"_text_{c.name}").isNull() for c in contract.columns}
    for c in rules.checks(contract):
        if c.severity == FAIL:
            facts[f"fail:{c.name}"] = facts.get(f"fail:{c.name}", F.lit(False)) | c.violated
    # Rows are copied where they are counted, so only what is needed behind it goes in.
    judged = checked.select(
        *kept,
        REJECTED,
        *[fact.alias(f"_{n}") for n, fact in enumerate(facts.values())],
        *([F.when(F.col(REJECTED), place(F.col(f"{ROW}.source"))).alias("_place")] if places else []),
    )
    warned = ~F.col(REJECTED) & (F.size(WARNINGS) > 0)
    counted = judged.observe(
        into,
        F.count(F.lit(1)).alias("rows"),
        F.count_if(REJECTED).alias("rejected"),
        *[
            F.count_if(warned & F.array_contains(WARNINGS, name)).alias(f"warn:{name}")
            for name in dict.fromkeys(c.name for c in warning)
        ],
        *[F.count_if(F.col(f"_{n}")).alias(name) for n, name in enumerate(facts)],
        *([F.collect_set("_place").alias("places")] if places else []),
    )
    return counted.where(~F.col(REJECTED)).select(*contract.column_names, DELETED, SEQUENCE, WARNINGS)


def rejected(checked: DataFrame, contract: Contract) -> DataFrame:
    """The rows that do not pass: ``_row`` and ``_reasons``, one for each rejecting rule that is broken."""
    reasons = [
        F.when(
            c.violated,
            F.struct(
                F.lit(c.name).alias("rule"),
                F.lit(c.column).cast("string").alias("column"),
                c.value.alias("value"),
                c.message.alias("message"),
            ),
        )
        for c in rules.checks(contract)
        if c.rejects
    ]
    listed = F.array_compact(F.array(*reasons, F.lit(None).cast(REASON_DDL)))
    return checked.where(F.col(REJECTED)).select(ROW, listed.alias(REASONS))


def _any(conditions) -> SparkColumn:  # type: ignore[no-untyped-def]
    return reduce(SparkColumn.__or__, conditions, F.lit(False))


def _given(mapped: DataFrame, name: str) -> SparkColumn:
    """The value as trimmed text, null when missing."""
    if name not in mapped.columns:
        return F.lit(None).cast("string")
    return values.text(F.col(quote(name)).cast("string"))


def _typed(mapped: DataFrame, column: Column) -> SparkColumn:
    given = F.col(f"_text_{column.name}")
    if column.name in mapped.columns and mapped.schema[column.name].dataType.simpleString() == column.type != "string":
        value = F.col(quote(column.name))
    else:
        value = values.read(column, given)
    if column.default is not None:
        value = F.when(given.isNull(), F.lit(column.default).cast(column.type)).otherwise(value)
    return value.cast(column.type)


def _instant(mapped: DataFrame, name: str) -> SparkColumn:
    if name in mapped.columns and mapped.schema[name].dataType.simpleString() == "timestamp":
        return F.col(name)
    return values.instant(F.col(rules.SEQUENCE_TEXT))


def _mark_orphans(rows: DataFrame, column: Column, parent: DataFrame) -> DataFrame:
    """Add ``_orphan_<column>``: a key is given, and no parent has it."""
    known = parent.select(F.col(parent.columns[0]).alias(f"_parent_{column.name}"), F.lit(True).alias("_known"))
    joined = rows.join(known, F.col(column.name) == F.col(f"_parent_{column.name}"), "left")
    orphan = F.col(column.name).isNotNull() & F.col("_known").isNull()
    return joined.withColumn(f"_orphan_{column.name}", orphan).drop(f"_parent_{column.name}", "_known")


def _mark_taken(rows: DataFrame, column: Column, contract: Contract, silver: DataFrame) -> DataFrame:
    """Add ``_taken_<column>``: another key has the same value, in this batch or in silver."""
    pair = [*contract.keys, column.name]
    owners = rows.select(*pair).union(silver.select(*pair)).where(F.col(column.name).isNotNull()).distinct()
    shared = (
        owners.groupBy(F.col(column.name).alias(f"_value_{column.name}"))
        .agg(F.count("*").alias("_owners"))
        .where("_owners > 1")
    )
    joined = rows.join(
        shared.withColumn("_shared", F.lit(True)), F.col(column.name) == F.col(f"_value_{column.name}"), "left"
    )
    taken = F.coalesce("_shared", F.lit(False))
    return joined.withColumn(f"_taken_{column.name}", taken).drop(f"_value_{column.name}", "_shared", "_owners")
