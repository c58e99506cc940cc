"""What a contract makes of a received value: pure Column functions, null in, null out.

A value that does not denote exactly one value of the type reads as null; the caller tells a
missing value from an unreadable one by ``text``.
"""

from __future__ import annotations

import re

from pyspark.sql import Column as SparkColumn
from pyspark.sql import functions as F

from lakehouse.contracts import Column

# Unicode's White_Space property.
WHITE_SPACE = "\t\n\u000b\u000c\r \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"

DATE = r"\d{4}-\d{2}-\d{2}"
TIME = r"\d{2}:\d{2}(:\d{2}([.]\d{1,9})?)?"
OFFSET = r"(Z|[+-]\d{2}(:?\d{2})?)"
INSTANT = rf"^{DATE}([T ]{TIME}{OFFSET}?)?$"
INTEGER = r"^[+-]?\d{1,19}$"
PLAIN_NUMBER = r"^[+-]?(\d+([.]\d*)?|[.]\d+)$"
FLOAT = r"^[+-]?(\d+([.]\d*)?|[.]\d+)([eE][+-]?\d{1,3})?$"
SCIENTIFIC = r"^([+-]?)(\d{1,18})(?:[.](\d{0,18}))?[eE]([+-]?\d{1,2})$"


def text(raw: SparkColumn) -> SparkColumn:
    """Text without surrounding white space; empty is null."""
    trimmed = F.btrim(raw, F.lit(WHITE_SPACE))
    # btrim looks at every character; most values visibly begin and end with one that is no white space.
    bare = raw.between("!", "~") & F.right(raw, F.lit(1)).between("!", "~")
    return F.when(bare, raw).when(trimmed != "", trimmed)


def read(column: Column, value: SparkColumn) -> SparkColumn:
    """A trimmed text as the contract's type, null when it does not denote a value of it."""
    if column.enum:
        return enumeration(column, value)
    if column.type == "timestamp":
        return instant(value)
    if column.type.startswith("decimal"):
        precision, scale = map(int, re.findall(r"\d+", column.type))
        return decimal(value, precision, scale)
    if column.type in ("int", "bigint"):
        return F.when(value.rlike(INTEGER), value).try_cast(column.type)
    if column.type == "double":
        number = F.when(value.rlike(FLOAT), value).try_cast("double")
        return F.when(F.abs(number) < F.lit(float("inf")), number)
    if column.type == "date":
        return F.when(value.rlike(f"^{DATE}$"), value).try_cast("date")
    if column.type == "boolean":
        return F.when(value.rlike("(?i)^(true|false)$"), value).try_cast("boolean")
    return value


def enumeration(column: Column, value: SparkColumn) -> SparkColumn:
    """The canonical spelling, ignoring case, or by one of the contract's aliases."""
    spellings = {v.lower(): v for v in column.enum} | {a.lower(): v for a, v in column.aliases}
    lowered, found = F.lower(value), F.lit(None).cast("string")
    for spelling, canonical in spellings.items():
        found = F.when(lowered == spelling, F.lit(canonical)).otherwise(found)
    return found


def instant(value: SparkColumn) -> SparkColumn:
    """ISO 8601: a date (midnight UTC), or a date and a time with an offset or in UTC."""
    # Spark reads +01:30 and +01, not +0130.
    colon = F.regexp_replace(value, r"([+-]\d{2})(\d{2})$", "$1:$2")
    offset_fixed = F.when(value.rlike(r":\d{2}([.]\d+)?[+-]\d{4}$"), colon).otherwise(value)
    return F.when(value.rlike(INSTANT), offset_fixed).try_cast("timestamp")


def decimal(value: SparkColumn, precision: int, scale: int) -> SparkColumn:
    """Any notation of an exact decimal; what would lose digits or overflow reads as null."""
    type_ = f"decimal({precision},{scale})"
    exact_places = rf"[.]\d{{0,{scale}}}0*$|^[^.]*$"
    plain = F.when(value.rlike(PLAIN_NUMBER) & value.rlike(exact_places), value)
    # With an exponent: the places behind the point must fit into an intermediate decimal, so that
    # comparing the two tells whether anything was lost.
    sign, whole = F.regexp_extract(value, SCIENTIFIC, 1), F.regexp_extract(value, SCIENTIFIC, 2)
    fraction = F.rtrim(F.regexp_extract(value, SCIENTIFIC, 3), F.lit("0"))
    exponent = F.regexp_extract(value, SCIENTIFIC, 4)
    normal = F.concat(sign, whole, F.lit("."), fraction, F.lit("e"), exponent)
    wide = normal.try_cast(f"decimal(38,{scale + 16})")
    fits = (F.length(fraction) - exponent.try_cast("int")) <= scale + 16
    scientific = F.when(value.rlike(SCIENTIFIC) & fits & (wide == wide.try_cast(type_)), wide.try_cast(type_))
    return F.coalesce(plain.try_cast(type_), scientific)
