"""The contract's rules, compiled to Column expressions: pure functions of the contract.

A *check* is one rule over one row: whether the row breaks it, and what to tell the person who must
mend the data. ``checking`` evaluates all checks of a contract in one pass. The expressions refer to
the columns that ``checking.typed`` makes: per contract column its typed value, ``_text_<column>`` (the
received value, trimmed) and, where it is declared, ``_orphan_<column>`` or ``_taken_<column>``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache, reduce

from pyspark.sql import Column as SparkColumn
from pyspark.sql import functions as F

from lakehouse.contracts import FAIL, REJECT, WARN, Column, Contract
from lakehouse.sql import quote
from lakehouse.validation.mapping import DELETED, ROW, SEQUENCE

CONTROL_CHARACTER = r"[\x00-\x1f\x7f-\x9f]"
CELL_BROKEN = "_cell_broken"
"""Whether a row breaks a rejecting rule of a single cell; SQL rules over such a row may be unknown."""
SEQUENCE_TEXT = "_given_sequence"
"""The received sequence; ``_text_sequence`` is a column that a contract calls sequence."""
SHOWN = 100
"""Characters of a value that a message quotes."""


INSTANT = "an ISO 8601 instant: 2026-03-01, or 2026-03-01T23:50:49 in UTC, or that with its offset right behind it, as Z, -05:00, -0500 or -05"
MEANINGS = {
    "timestamp": INSTANT,
    "date": "an ISO 8601 date: 2026-03-01",
    "int": "a whole number from -2147483648 to 2147483647, in digits alone",
    "bigint": "a whole number of at most 19 digits, in digits alone",
    "double": "a number: digits with a decimal point, and an exponent if need be, as 12.5 or 1.25e1; no separators between thousands",
    "boolean": "true or false",
}
"""What a value of a type looks like, by type."""


@dataclass(frozen=True)
class Check:
    """One rule as Column expressions.

    Attributes:
        name: ``<kind>:<column>``, or the name of a table's own rule.
        violated: boolean, never null.
        message: text for the person who must mend the data, without the row's position.
        fail_above: for severity fail, the share of a batch that may break it.
    """

    name: str
    column: str | None
    severity: str
    violated: SparkColumn
    value: SparkColumn
    message: SparkColumn
    fail_above: float = 0.0

    @property
    def of_a_cell(self) -> bool:
        return self.column is not None

    @property
    def rejects(self) -> bool:
        return self.severity != WARN


# Kept: the expressions of a contract are several thousand calls into the JVM, and are needed in many places.
@lru_cache(maxsize=64)
def checks(contract: Contract) -> tuple[Check, ...]:
    """All rules of a contract: of its cells, column by column, of the sequence, and the table's own."""
    cells = [c for column in contract.columns for c in _column_checks(column)]
    return (*cells, *_sequence_checks(), *_table_checks(contract))


def _table_checks(contract: Contract) -> list[Check]:
    """The table's own SQL rules.

    A rule that is unknown (null) is violated, unless that follows from a cell that is broken anyway, or
    from a null in an optional column that the rule names.
    """
    checks = []
    for rule in contract.rules:
        holds = F.expr(rule.expression)
        named = set(re.findall(r"\w+", rule.expression))
        excuses = [F.col(c.name).isNull() for c in contract.columns if c.name in named and not c.required]
        excused = reduce(SparkColumn.__or__, excuses, F.col(CELL_BROKEN))
        violated = ~F.col(DELETED) & F.coalesce(~holds, ~excused)
        nothing = F.lit(None).cast("string")
        checks.append(Check(rule.name, None, rule.severity, violated, nothing, F.lit(rule.message), rule.fail_above))
    return checks


def _column_checks(column: Column) -> list[Check]:
    given, typed = _given(column), F.col(quote(column.name))
    # A deletion needs nothing but its key.
    alive = F.lit(True) if column.key else ~F.col(DELETED)

    def check(kind: str, violated: SparkColumn, what: str, severity: str | None = None) -> Check:
        shown = F.coalesce(F.concat(quoted(given), F.lit(" ")), F.lit(""))
        return Check(
            f"{kind}:{column.name}",
            column.name,
            severity or column.severity(kind),
            F.coalesce(alive & violated, F.lit(False)),
            given,
            F.concat(F.lit(f"{column.name} "), shown, F.lit(what)),
            column.fail_above,
        )

    found = []
    if column.required and column.default is None:
        found.append(check("required", given.isNull(), "is missing"))
    unreadable = given.isNotNull() & typed.isNull()
    if column.enum:
        found.append(check("enum", unreadable, f"is not one of {', '.join(column.enum)}"))
    elif column.type != "string":
        found.append(check("cast", unreadable, f"is not {_meaning(column.type)}"))
    if column.minimum is not None:
        found.append(check("range", typed < F.lit(column.minimum).cast(column.type), f"is below {column.minimum}"))
    if column.maximum is not None:
        found.append(check("range", typed > F.lit(column.maximum).cast(column.type), f"is above {column.maximum}"))
    if column.max_days_ahead is not None:
        days = column.max_days_ahead
        found.append(
            check("range", typed > _days_after_ingestion(days), f"lies more than {_days(days)} after its delivery")
        )
    if column.key:
        found.append(check("key", given.rlike(CONTROL_CHARACTER), "holds a control character", REJECT))
    if column.min_length is not None:
        found.append(
            check("length", F.length(given) < column.min_length, f"is shorter than {column.min_length} characters")
        )
    if column.max_length is not None:
        found.append(
            check("length", F.length(given) > column.max_length, f"is longer than {column.max_length} characters")
        )
    if column.pattern is not None:
        found.append(check("pattern", ~given.rlike(column.pattern), f"does not match {column.pattern}"))
    if column.default is not None:
        found.append(check("default", given.isNull(), f"is missing and counts as {column.default}", WARN))
    if column.unique:
        found.append(check("unique", F.col(f"_taken_{column.name}"), "is the value of several keys", WARN))
    if column.references:
        severity = WARN if column.on_orphan == "accept" else REJECT
        found.append(
            check("orphan", F.col(f"_orphan_{column.name}"), f"is no known {column.references[0]} key", severity)
        )
    return found  # fmt: skip


def _sequence_checks() -> list[Check]:
    given, at = F.col(SEQUENCE_TEXT), F.col("_sequence_at")
    too_far = (at > _days_after_ingestion(1)) | (at < F.lit("1970-01-01").cast("timestamp"))

    def check(kind: str, violated: SparkColumn, what: str) -> Check:
        message = F.concat(quoted(given), F.lit(f" {what}"))
        return Check(f"{kind}:{SEQUENCE}", SEQUENCE, REJECT, F.coalesce(violated, F.lit(False)), given, message)

    return [
        check("range", too_far, "is before 1970, or more than a day after its delivery"),
        check("cast", given.isNotNull() & at.isNull(), f"is not {INSTANT}"),
    ]


def refusals(contract: Contract, rows: int, rejected: int, broken: dict[str, int]) -> list[str]:
    """Why a batch of a contract's rows is refused as a whole; empty when it is not.

    Args:
        broken: rows that break each rule of severity fail, as ``fail:<name>``.
    """
    found = []
    limit = contract.max_rejected_share
    if limit is not None and rows >= contract.min_rows_to_refuse and rejected > limit * rows:
        found.append(f"{rejected:,} of {rows:,} {contract.name} rows are rejected, more than {limit * 100:g}%")
    for check in checks(contract):
        count = broken.get(f"fail:{check.name}", 0)
        if check.severity == FAIL and count > check.fail_above * rows:
            found.append(
                f"{count:,} of {rows:,} {contract.name} rows break {check.name}, more than {check.fail_above * 100:g}%"
            )
    return list(dict.fromkeys(found))


def quoted(value: SparkColumn) -> SparkColumn:
    """A value as a message shows it; null when there is none."""
    short = F.when(F.length(value) > SHOWN, F.concat(F.substring(value, 1, SHOWN), F.lit("..."))).otherwise(value)
    return F.concat(F.lit('"'), short, F.lit('"'))


def _given(column: Column) -> SparkColumn:
    return F.col(f"_text_{column.name}")


def _meaning(type_: str) -> str:
    """What a value of a type looks like, for whom it may be that somebody wrote it otherwise."""
    if type_.startswith("decimal"):
        precision, scale = map(int, re.findall(r"\d+", type_))
        places = f" and {scale} behind it" if scale else ""
        return (
            f"a {type_}: digits with a decimal point, at most {precision - scale} before{places}, "
            "no separators between thousands and no currency"
        )
    return MEANINGS.get(type_, f"a {type_}")


def _days(days: int) -> str:
    return "1 day" if days == 1 else f"{days} days"


def _days_after_ingestion(days: int) -> SparkColumn:
    return F.col(f"{ROW}.ingested_at") + F.expr(f"INTERVAL {int(days)} DAYS")
