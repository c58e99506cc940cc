"""JSON objects, one a line of a file or one a message: their fields as text, the same wherever they come from.

A field's text is its value: of a string its characters, of a number its digits without exponent and without
zeros at the end of a fraction, of what is nested its JSON.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse.ingestion.numbers import number_text
from lakehouse.sql import quote

BLANK = " \t\r\n"
"""White space of JSON."""
BYTES = "base64:"
"""Begins what is kept of bytes that are no text in UTF-8."""
INEXACT = r"\d{39}|[\d.]{40}|[\d.]{18}[eE]|[eE][-+]?0*(30[89]|3[1-9]\d|[4-9]\d\d|[1-9]\d{3})"
"""Numbers that neither a decimal nor a double holds."""


def parsed(rows: DataFrame, value: Column, names: Sequence[str]) -> DataFrame:
    """The rows with ``text`` (the value as text, null if it is none), what the functions below look into, and ``is_object``.

    ``is_object`` is false for what is not exactly one JSON object: for an array or a scalar, for an object with
    anything behind it, with a field twice, or with a number that would lose digits; it is never null.

    Args:
        value: bytes.
        names: the fields that ``field`` is asked for.
    """
    text = F.ltrim(F.try_validate_utf8(value.cast("string")), F.lit("\ufeff"))
    rows = rows.select("*", text.alias("text"))
    # Spark's parsers stop behind the first value. A second one, which no text can foretell, shows that all was read.
    seal = F.xxhash64("text")
    sealed = F.concat(F.lit("["), F.col("text"), F.lit(","), seal.cast("string"), F.lit("]"))
    rows = rows.select("*", F.try_parse_json(sealed).alias("variant"))
    # A double has an exponent or more than 38 digits. It can hide in an array of several types, which has VARIANT.
    types = F.schema_of_variant(F.try_variant_get("variant", "$[0]", "variant"))
    doubles = (types.contains("DOUBLE") | types.contains("VARIANT")).alias("doubles")
    # One look-up for all of them: each by itself takes as long as half of the parser.
    declared = ",".join(f"{quote(name)} string" for name in names)
    values = F.try_variant_get("variant", "$[0]", f"struct<{declared}>").alias("values")
    rows = rows.select("*", doubles, values)
    whole = F.try_variant_get("variant", "$[1]", "bigint") == seal
    # Without the strings, in which anything may stand; what is escaped first, or it would end one.
    bare = F.regexp_replace(F.regexp_replace("text", r"\\.", ""), '"[^"]*"', "")
    exact = F.when(F.col("doubles"), ~bare.rlike(INEXACT)).otherwise(F.lit(True))
    braced = F.startswith(F.ltrim("text", F.lit(BLANK)), F.lit("{"))
    typed = F.try_variant_get("variant", "$[0]", "map<string,variant>")
    texts = F.when(F.col("doubles"), F.transform_values(typed, lambda _, v: _text(v))).alias("texts")
    return rows.select("*", F.coalesce(whole & braced & exact, F.lit(False)).alias("is_object"), texts)


def field(name: str) -> Column:
    """A field's text; null when the object has none, or it is null."""
    exact = F.try_element_at("texts", F.lit(name))
    return F.when(F.col("is_object"), F.when(F.col("doubles"), exact).otherwise(F.col("values")[name]))


def fields() -> Column:
    """All fields, as a map of texts by name; null where there is no object."""
    plain = F.try_variant_get("variant", "$[0]", "map<string,string>")
    return F.when(F.col("is_object"), F.when(F.col("doubles"), F.col("texts")).otherwise(plain))


def other_names(names: Sequence[str]) -> Column:
    """The names of an object's fields beside some; null where there is no object."""
    known = F.lit(list(names)).cast("array<string>")
    return F.when(F.col("is_object"), F.array_except(F.json_object_keys("text"), known))


def other_fields(names: Sequence[str]) -> Column:
    """The fields beside some that are not null, as a JSON object; null without any."""
    others = F.map_filter(fields(), lambda name, value: ~name.isin(*names) & value.isNotNull())
    # A map costs more than all else; most objects have no other names.
    return F.when(F.size(other_names(names)) > 0, F.when(F.size(others) > 0, F.to_json(others)))


def _text(value: Column) -> Column:
    double = F.schema_of_variant(value) == "DOUBLE"
    return F.when(double, number_text(F.try_variant_get(value, "$", "double"))).otherwise(
        F.try_variant_get(value, "$", "string")
    )


def text_or_bytes(value: Column) -> Column:
    """Bytes as text; those that are no UTF-8 as base64, behind ``BYTES``."""
    text = F.try_validate_utf8(value.cast("string"))
    return F.coalesce(text, F.concat(F.lit(BYTES), F.base64(value)))
