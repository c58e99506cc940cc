"""The contract's rules over a batch, in one pass: every row typed, with all its reasons.

A violated rule is a *reason*: a struct of rule, column, value and a message for the person who
must mend the data. Reasons of severity reject are in ``_reasons``, the names of the others in
``_warnings``.
"""

from __future__ import annotations

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.contracts import Column, Contract
from lakehouse.validation import values
from lakehouse.validation.mapping import DELETED, ROW, SEQUENCE

REASONS, WARNINGS = "_reasons", "_warnings"
REASON_DDL = "STRUCT<rule: STRING, column: STRING, value: STRING, message: STRING>"
SEQUENCE_DDL = "STRUCT<at: TIMESTAMP, deleted: BOOLEAN, received: TIMESTAMP, file: STRING, block: BIGINT, row: BIGINT>"
CONTROL_CHARACTER = r"[\x00-\x1f\x7f-\x9f]"
SHOWN = 100
"""Characters of a value that a message quotes."""


def check(mapped: DataFrame, contract: Contract, parents: dict[str, DataFrame]) -> DataFrame:
    """Type a mapped batch and find what is wrong with each row.

    Args:
        mapped: what the source's SELECT gave.
        parents: for each entity a foreign key points to, its known keys (one column, distinct).

    Returns:
        The contract's columns, ``_deleted``, ``_sequence``, ``_warnings`` (array of rule names),
        ``_reasons`` (array of reasons, empty when the row is accepted) and ``_row``.
    """
    has = set(mapped.columns)
    deleted = F.coalesce(F.col(DELETED), F.lit(False)) if DELETED in has else F.lit(False)
    texts = [_given(mapped, c.name).alias(f"_text_{c.name}") for c in contract.columns]
    trimmed = mapped.select("*", *texts, deleted.alias("_gone"), _given(mapped, SEQUENCE).alias("_text_sequence"))
    cells = trimmed.select(
        ROW,
        F.col("_gone").alias(DELETED),
        *[f"_text_{c.name}" for c in contract.columns],
        *[_typed(mapped, c).alias(c.name) for c in contract.columns],
        "_text_sequence",
        _instant(mapped, SEQUENCE).alias("_sequence_at"),
    )
    for column in contract.columns:
        if column.references:
            cells = _mark_orphans(cells, column, parents[column.references[0]])

    reasons, warnings = [], []
    for column in contract.columns:
        reasons += _rejecting(column)
        warnings += _warning(column)
        if column.default is not None:
            missing = F.col(f"_text_{column.name}").isNull() & ~F.col(DELETED)
            warnings.append(F.when(missing, F.lit(f"default:{column.name}")))
        if column.references:
            orphan = F.col(f"_orphan_{column.name}") & ~F.col(DELETED)
            name = f"orphan:{column.name}"
            if column.on_orphan == "reject":
                reasons.append(_reason(orphan, name, column, f"is no known {column.references[0]} key"))
            else:
                warnings.append(F.when(orphan, F.lit(name)))
    latest = F.col(f"{ROW}.ingested_at") + F.expr("INTERVAL 1 DAY")
    too_far = (F.col("_sequence_at") > latest) | (F.col("_sequence_at") < F.lit("1970-01-01").cast("timestamp"))
    far = F.concat(_shown("_text_sequence"), F.lit(" is before 1970, or more than a day after its delivery"))
    reasons.append(F.when(too_far, _struct("range:_sequence", SEQUENCE, F.col("_text_sequence"), far)))
    reasons.append(
        F.when(
            F.col("_text_sequence").isNotNull() & F.col("_sequence_at").isNull(),
            _struct(
                "cast:_sequence",
                SEQUENCE,
                F.col("_text_sequence"),
                F.concat(_shown("_text_sequence"), F.lit(" is not an instant")),
            ),
        )
    )
    cells = cells.withColumn(REASONS, F.array_compact(F.array(*reasons)))

    rejecting = []
    for rule in contract.rules:
        holds = F.expr(rule.expression)
        # A rule over an unreadable cell is null; the cell's own reason says enough.
        unknown = holds.isNull() & (F.size(REASONS) == 0)
        violated = ~F.col(DELETED) & (F.coalesce(~holds, F.lit(False)) | unknown)
        if rule.severity == "reject":
            rejecting.append(F.when(violated, _struct(rule.name, None, F.lit(None), F.lit(rule.message))))
        else:
            warnings.append(F.when(violated, F.lit(rule.name)))
    sequence = F.struct(
        F.coalesce("_sequence_at", F.col(f"{ROW}.source.modified")).alias("at"),
        # Before the arrival, so that a deletion wins ties of time.
        F.col(DELETED).alias("deleted"),
        F.col(f"{ROW}.source.modified").alias("received"),
        F.col(f"{ROW}.source.file").alias("file"),
        F.col(f"{ROW}.source.block").alias("block"),
        F.col(f"{ROW}.source.row").alias("row"),
    )
    return cells.select(
        *contract.column_names,
        DELETED,
        sequence.alias(SEQUENCE),
        F.array_compact(F.array(*warnings, F.lit(None).cast("string"))).alias(WARNINGS),
        F.concat(REASONS, F.array_compact(F.array(*rejecting, F.lit(None).cast(REASON_DDL)))).alias(REASONS),
        ROW,
    )


def accepted(checked: DataFrame) -> DataFrame:
    return checked.where(F.size(REASONS) == 0)


def rejected(checked: DataFrame) -> DataFrame:
    return checked.where(F.size(REASONS) > 0)


def tally(checked: DataFrame) -> dict[str, int]:
    """Rows per violated rule, with ``*`` for all rows and ``!`` for the rejected ones."""
    names = F.concat(
        F.array(F.lit("*")),
        F.when(F.size(REASONS) > 0, F.array(F.lit("!"))).otherwise(F.array().cast("array<string>")),
        F.array_distinct(F.col(f"{REASONS}.rule")),
        F.col(WARNINGS),
    )
    counted = checked.select(F.explode(names).alias("name")).groupBy("name").count().collect()
    return {"*": 0, "!": 0} | {r["name"]: r["count"] for r in counted}


def _given(mapped: DataFrame, name: str) -> SparkColumn:
    """The value as trimmed text, null when missing."""
    if name not in mapped.columns:
        return F.lit(None).cast("string")
    return values.text(F.col(f"`{name}`").cast("string"))


def _typed(mapped: DataFrame, column: Column) -> SparkColumn:
    given = F.col(f"_text_{column.name}")
    if column.name in mapped.columns and mapped.schema[column.name].dataType.simpleString() == column.type != "string":
        typed = F.col(f"`{column.name}`")
    else:
        typed = values.read(column, given)
    if column.default is not None:
        typed = F.when(given.isNull(), F.lit(column.default).cast(column.type)).otherwise(typed)
    return typed.cast(column.type)


def _instant(mapped: DataFrame, name: str) -> SparkColumn:
    if name in mapped.columns and mapped.schema[name].dataType.simpleString() == "timestamp":
        return F.col(name)
    return values.instant(F.col(f"_text{name}"))


def _mark_orphans(cells: DataFrame, column: Column, parent: DataFrame) -> DataFrame:
    """Add ``_orphan_<column>``: a key is given, and no parent has it."""
    known = parent.select(F.col(parent.columns[0]).alias(f"_parent_{column.name}"), F.lit(True).alias("_known"))
    joined = cells.join(known, F.col(column.name) == F.col(f"_parent_{column.name}"), "left")
    orphan = F.col(column.name).isNotNull() & F.col("_known").isNull()
    return joined.withColumn(f"_orphan_{column.name}", orphan).drop(f"_parent_{column.name}", "_known")


def _rejecting(column: Column) -> list[SparkColumn]:
    given, typed = F.col(f"_text_{column.name}"), F.col(f"`{column.name}`")
    alive = F.lit(True) if column.key else ~F.col(DELETED)
    rules = []
    if column.required and column.default is None:
        rules.append(_reason(alive & given.isNull(), f"required:{column.name}", column, "is missing"))
    unreadable = alive & given.isNotNull() & typed.isNull()
    if column.enum:
        rules.append(_reason(unreadable, f"enum:{column.name}", column, f"is not one of {', '.join(column.enum)}"))
    elif column.type != "string":
        meaning = {"timestamp": "an ISO 8601 instant", "int": "a whole number", "bigint": "a whole number"}.get(
            column.type, f"a {column.type}"
        )
        rules.append(_reason(unreadable, f"cast:{column.name}", column, f"is not {meaning}"))
    bounds = [
        (F.lit(b).cast(column.type), word, low)
        for b, word, low in ((column.minimum, "below", True), (column.maximum, "above", False))
        if b is not None
    ]
    for bound, word, low in bounds:
        limit = column.minimum if low else column.maximum
        outside = typed < bound if low else typed > bound
        rules.append(_reason(alive & outside, f"range:{column.name}", column, f"is {word} {limit}"))
    if column.max_days_ahead is not None:
        latest = F.col(f"{ROW}.ingested_at") + F.expr(f"INTERVAL {column.max_days_ahead} DAYS")
        rules.append(
            _reason(
                alive & (typed > latest),
                f"range:{column.name}",
                column,
                f"lies more than {column.max_days_ahead} days after its delivery",
            )
        )
    if column.key:
        rules.append(_reason(given.rlike(CONTROL_CHARACTER), f"key:{column.name}", column, "holds a control character"))
    # A key of the wrong form would be merged under the wrong key; elsewhere the form is a warning.
    if column.key:
        rules += [_reason(broken, rule, column, what) for broken, rule, what in _form(column)]
    return rules


def _warning(column: Column) -> list[SparkColumn]:
    return [] if column.key else [F.when(~F.col(DELETED) & broken, F.lit(rule)) for broken, rule, _ in _form(column)]


def _form(column: Column) -> list[tuple[SparkColumn, str, str]]:
    """The rules of length and pattern: what breaks them, their names, what to say of a value."""
    given, form = F.col(f"_text_{column.name}"), []
    if column.min_length is not None:
        form.append(
            (
                F.length(given) < column.min_length,
                f"length:{column.name}",
                f"is shorter than {column.min_length} characters",
            )
        )
    if column.max_length is not None:
        form.append(
            (
                F.length(given) > column.max_length,
                f"length:{column.name}",
                f"is longer than {column.max_length} characters",
            )
        )
    if column.pattern is not None:
        form.append((~given.rlike(column.pattern), f"pattern:{column.name}", f"does not match {column.pattern}"))
    return form


def _reason(violated: SparkColumn, rule: str, column: Column, what: str) -> SparkColumn:
    given = f"_text_{column.name}"
    shown = F.concat(
        F.when(F.col(given).isNull(), F.lit("")).otherwise(F.concat(_shown(given), F.lit(" "))), F.lit(what)
    )
    return F.when(violated, _struct(rule, column.name, F.col(given), F.concat(F.lit(f"{column.name} "), shown)))


def _shown(given: str) -> SparkColumn:
    value = F.col(given)
    short = F.when(F.length(value) > SHOWN, F.concat(F.substring(value, 1, SHOWN), F.lit("..."))).otherwise(value)
    return F.concat(F.lit('"'), short, F.lit('"'))


def _struct(rule: str, column: str | None, value: SparkColumn, message: SparkColumn) -> SparkColumn:
    return F.struct(
        F.lit(rule).alias("rule"),
        F.lit(column).cast("string").alias("column"),
        value.cast("string").alias("value"),
        message.alias("message"),
    )
