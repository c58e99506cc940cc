"""JSON objects, one a line of a file or one a message: their fields as text, the same wherever they come from.

A field's text is its value: of a string its characters, of a number its digits without exponent and without
zeros at the end of a fraction, of what is nested its JSON.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse.ingestion.numbers import number_text

BYTES = "base64:"
"""Begins what is kept of bytes that are no text in UTF-8."""
MAY_BE_A_DOUBLE = r"\d[eE][-+]?\d|\d{39}|[\d.]{40}"
"""What the text of an object has if one of its numbers is kept as a double: an exponent, or more than 38 digits."""
INEXACT = r"\d{39}|[\d.]{40}|[\d.]{18}[eE]|[eE][-+]?0*(30[89]|3[1-9]\d|[4-9]\d\d|[1-9]\d{3})"
"""Numbers that neither a decimal nor a double holds."""


def with_fields(rows: DataFrame, value: Column) -> DataFrame:
    """The rows with ``text`` (the value as text, null if it is none) and ``fields`` (text by name).

    ``fields`` is null for what is not exactly one JSON object: for an array or a scalar, for an object with
    anything behind it, with a field twice, or with a number that would lose digits.

    Args:
        value: bytes.
    """
    text = F.ltrim(F.try_validate_utf8(value.cast("string")), F.lit("\ufeff"))
    rows = rows.select("*", text.alias("text"))
    # Spark's parsers stop behind the first value. A second one, which no text can foretell, shows that all was read.
    seal = F.xxhash64("text")
    sealed = F.concat(F.lit("["), F.col("text"), F.lit(","), seal.cast("string"), F.lit("]"))
    rows = rows.select("*", F.try_parse_json(sealed).alias("parsed"))
    whole = F.try_variant_get("parsed", "$[1]", "bigint") == seal
    doubles = F.col("text").rlike(MAY_BE_A_DOUBLE)
    # Without the strings, in which anything may stand; what is escaped first, or it would end one.
    bare = F.regexp_replace(F.regexp_replace("text", r"\\.", ""), '"[^"]*"', "")
    plain = F.try_variant_get("parsed", "$[0]", "map<string,string>")
    typed = F.transform_values(F.try_variant_get("parsed", "$[0]", "map<string,variant>"), lambda _, v: _text(v))
    exact = F.when(doubles, F.when(~bare.rlike(INEXACT), typed)).otherwise(plain)
    return rows.select("*", F.when(whole, exact).alias("fields"))


def _text(value: Column) -> Column:
    double = F.schema_of_variant(value) == "DOUBLE"
    return F.when(double, number_text(F.try_variant_get(value, "$", "double"))).otherwise(
        F.try_variant_get(value, "$", "string")
    )


def field(name: str) -> Column:
    """A field's text; null when the object has none, or it is null."""
    return F.try_element_at("fields", F.lit(name))


def other_fields(names: tuple[str, ...]) -> Column:
    """The fields beside some, as a JSON object; null without any."""
    others = F.map_filter("fields", lambda name, value: ~name.isin(*names) & value.isNotNull())
    return F.when(F.size(others) > 0, F.to_json(others))


def text_or_bytes(value: Column) -> Column:
    """Bytes as text; those that are no UTF-8 as base64, behind ``BYTES``."""
    text = F.try_validate_utf8(value.cast("string"))
    return F.coalesce(text, F.concat(F.lit(BYTES), F.base64(value)))
