"""Raw files as rows: declared columns as received, the rest in ``_rescued``, bad lines in ``_corrupt``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import reduce
from typing import cast

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    DataType,
    MapType,
    StringType,
    StructField,
    StructType,
)

from lakehouse.ingestion import json_objects
from lakehouse.ingestion.csv_files import BYTES_AS_TEXT, CsvLayout, Dialect
from lakehouse.ingestion.json_objects import BYTES, text_or_bytes
from lakehouse.ingestion.landing import LandedFile, Landing
from lakehouse.ingestion.layouts import Layout, ParquetLayout
from lakehouse.ingestion.numbers import number_text
from lakehouse.sources import BOOKKEEPING, ON_THEIR_WAY, TAKEN, Input
from lakehouse.sql import quote

RESCUED, CORRUPT, SOURCE, INGESTED_AT, BATCH_ID = BOOKKEEPING
PARSER_CORRUPT, FILE, ROW = ON_THEIR_WAY
"""Of a row on its way: its line if a parser cannot read it, Spark's metadata of its file, and its number in the partition."""

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
MAX_COLUMNS = 20_480
"""Spark's CSV parser makes room for so many by itself."""
UNDECODABLE = "\ufffd"
"""What stands in the place of bytes that were not text."""
ROWS_OF_A_PARTITION = 1 << 33
BYTE_ORDER_MARK = "\ufeff".encode().decode(BYTES_AS_TEXT)


def read(spark: SparkSession, landing: Landing, source: Input, files: Mapping[LandedFile, Layout]) -> DataFrame:
    """Files of one input, each value as text: what ``received`` gives.

    Args:
        files: of formats with columns, those that have the columns of the first.
    """
    if source.format == "json":
        return read_json(spark, landing, source, files)
    if source.format == "csv":
        return read_csv(spark, landing, source, cast(Mapping[LandedFile, CsvLayout], files))
    return read_parquet(spark, landing, source, cast(Mapping[LandedFile, ParquetLayout], files))


def read_json(spark: SparkSession, landing: Landing, source: Input, files: Iterable[LandedFile]) -> DataFrame:
    """JSON lines."""
    rows = json_lines(spark, landing, source, files)
    corrupt = F.when(~F.col("is_object"), text_or_bytes(F.col("bytes")))
    return rows.select(
        *[json_objects.field(name).alias(name) for name in source.columns],
        json_objects.other_fields(source.columns).alias(RESCUED),
        corrupt.alias(CORRUPT),
        FILE,
        ROW,
    )


def json_lines(spark: SparkSession, landing: Landing, source: Input, files: Iterable[LandedFile]) -> DataFrame:
    """The lines of files that are not blank: ``bytes``, what ``json_objects.parsed`` adds, FILE and ROW."""
    lines = spark.read.options(**landing.reader_options).text([landing.uri(f.path) for f in files])
    encoding = dict(source.options).get("encoding", "utf-8")
    received = F.col("value").cast("binary")
    if encoding == "iso-8859-1":
        received = F.encode(F.decode(received, "ISO-8859-1"), "UTF-8")
    rows = lines.select(
        received.alias("bytes"), F.col("_metadata").alias(FILE), F.monotonically_increasing_id().alias(ROW)
    )
    # Trimming knows bytes, not characters: parts of a byte order mark would go with it.
    blank = F.btrim(F.col("bytes").cast("string"), F.lit(" \t\r")).isin("", "\ufeff")
    return json_objects.parsed(rows.where(~blank), F.col("bytes"), source.columns)


def json_keys(lines: DataFrame, declared: Sequence[str]) -> dict[str, set[str]]:
    """The names that objects have beside those that are declared, by the address of their file."""
    keys = F.explode(json_objects.other_names(declared)).alias("key")
    found: dict[str, set[str]] = {}
    for r in lines.select(F.col(FILE)["file_path"].alias("file"), keys).distinct().collect():
        found.setdefault(r["file"], set()).add(r["key"])
    return found


def read_csv(spark: SparkSession, landing: Landing, source: Input, files: Mapping[LandedFile, CsvLayout]) -> DataFrame:
    """CSV files with the same columns in the same order.

    One whose rows do not begin with its second record is read by itself, to leave out what comes before.
    """
    dialect, names = Dialect.of(source), next(iter(files.values())).names
    # By position, so that no name of a file's can be one of the reader's own.
    places = [f"c{n}" for n in range(len(names))]
    alike: dict[tuple[int, str, str], list[LandedFile]] = {}
    for file, layout in files.items():
        single = file.path if layout.leading != (0 if source.header == "none" else 1) else ""
        alike.setdefault((layout.leading, layout.line_sep, single), []).append(file)
    parts = []
    for (leading, line_sep, single), some in alike.items():
        options = {**CSV_OPTIONS, **landing.reader_options, **_csv_options(source, dialect, len(names))}
        options["header"] = "true" if leading and not single else "false"
        if line_sep:
            options["lineSep"] = line_sep
        raw = spark.read.schema(_strings([*places, PARSER_CORRUPT])).options(**options)
        rows = raw.csv([landing.uri(f.path) for f in some])
        row = F.monotonically_increasing_id()
        rows = rows.select("*", rows.metadataColumn("_metadata").alias(FILE), row.alias(ROW))
        if single:
            rows = rows.where(F.col(ROW) % ROWS_OF_A_PARTITION >= leading)
        if line_sep == "\n":
            rows = _without_carriage_returns(rows, places)
        if source.header == "none":
            rows = rows.withColumn("c0", _without_mark(F.col("c0"), dialect))
        parts.append(rows)
    values = {name: F.col(f"c{n}") for n, name in enumerate(names)}
    parsed = F.col(quote(PARSER_CORRUPT))
    if not dialect.keeps_bytes:
        return received(union(parts), source, values, corrupt=parsed)
    rows = union(parts).withColumn("bad", _undecodable(places, parsed, dialect))
    written = {"sep": options.get("sep", ","), "quote": options["quote"], "escape": options["escape"]}
    line = F.coalesce(parsed, F.to_csv(F.struct(*places), written))
    corrupt = F.when(F.col("bad"), F.concat(F.lit(BYTES), F.base64(F.encode(line, BYTES_AS_TEXT)))).otherwise(
        _text(parsed)
    )
    return received(rows, source, values, corrupt=corrupt, as_text=lambda value: F.when(~F.col("bad"), _text(value)))


def read_parquet(
    spark: SparkSession, landing: Landing, source: Input, files: Mapping[LandedFile, ParquetLayout]
) -> DataFrame:
    """Parquet files with columns of the same names; read together are those with the same types."""
    alike: dict[str, list[LandedFile]] = {}
    for file, layout in files.items():
        alike.setdefault(layout.schema, []).append(file)
    options = {**landing.reader_options, **dict(source.options)}
    parts = []
    for some in alike.values():
        layout = files[some[0]]
        typed = spark.read.options(**options).parquet(*[landing.uri(f.path) for f in some])
        types = {f.name: f.dataType for f in typed.schema.fields}
        values = {name: _value(name, types[name], name in layout.nanoseconds) for name in layout.names}
        row = F.monotonically_increasing_id()
        rows = typed.select(*[v.alias(f"c{n}") for n, v in enumerate(values.values())],
                            typed.metadataColumn("_metadata").alias(FILE), row.alias(ROW))  # fmt: skip
        parts.append(received(rows, source, {name: F.col(f"c{n}") for n, name in enumerate(values)}))
    return union(parts)


def received(
    raw: DataFrame,
    source: Input,
    values: Mapping[str, Column],
    rescued: Column | None = None,
    corrupt: Column | None = None,
    as_text: Callable[[Column], Column] = lambda value: value,
) -> DataFrame:
    """The declared columns, ``_rescued``, ``_corrupt``, FILE and ROW of files' rows.

    Args:
        raw: rows with FILE and ROW.
        values: the columns that the files have, by their names.
        rescued: a JSON object of what somebody else has rescued.
        corrupt: what a parser could not read.
        as_text: makes text of a value.
    """
    nothing = F.lit(None).cast("string")
    rescued = nothing if rescued is None else rescued
    others = {name: value for name, value in values.items() if name not in source.columns}
    if others:
        # One expression for all of them: a file may have thousands.
        names = F.from_json(F.lit(json.dumps(list(others))), "array<string>")
        texts = F.transform(F.array(*others.values()), as_text)
        given = F.map_filter(F.map_from_arrays(names, texts), lambda _, value: value.isNotNull())
        ours = F.when(F.size(given) > 0, F.to_json(given))
        # Both are JSON objects with something in them: one object out of two texts.
        both = F.concat(
            rescued.substr(F.lit(1), F.length(rescued) - 1), F.lit(","), ours.substr(F.lit(2), F.length(ours))
        )
        rescued = F.coalesce(both, rescued, ours)
    return raw.select(
        *[(as_text(values[name]) if name in values else nothing).alias(name) for name in source.columns],
        rescued.alias(RESCUED),
        (nothing if corrupt is None else corrupt).alias(CORRUPT),
        FILE,
        ROW,
    )


def stamp(rows: DataFrame, source: Input, root: str, now: datetime, batch_id: int) -> DataFrame:
    """Rows as they go into bronze: where each came from, when, and with which batch.

    Args:
        rows: what a reader returned.
        root: the landing folder as it stands in the decoded addresses of its files.
        now: when the files were discovered; no file is taken to be younger.
    """
    file = F.col(quote(FILE))
    address = F.try_url_decode(F.replace(file["file_path"], F.lit("+"), F.lit("%2B")))
    path = F.substr(address, F.instr(address, F.lit(root)) + F.lit(len(root) + 1))
    return rows.select(
        *[F.col(quote(c)) for c in source.columns],
        RESCUED,
        CORRUPT,
        F.struct(
            path.alias("file"),
            F.least(file["file_modification_time"], F.lit(now)).alias("modified"),
            file["file_size"].alias("size"),
            file["file_block_start"].alias("block"),
            F.col(quote(ROW)).alias("row"),
        ).alias(SOURCE),
        F.lit(now).cast("timestamp").alias(INGESTED_AT),
        F.lit(batch_id).cast("bigint").alias(BATCH_ID),
    )


def is_corrupt(bronze: DataFrame) -> Column:
    """Whether a bronze row could not be parsed, or holds what stands for bytes that could not be decoded."""
    # One expression for all of them: a table may have thousands.
    values = F.concat_ws(" ", *[F.col(quote(c)) for c in received_columns(bronze)])
    return F.col(CORRUPT).isNotNull() | values.contains(UNDECODABLE)


def received_columns(bronze: DataFrame) -> list[str]:
    """The columns of a bronze table, or of what a SELECT is given, that are received and not the suite's own."""
    return [c for c in bronze.columns if c not in TAKEN]


def union(parts: list[DataFrame]) -> DataFrame:
    return reduce(lambda some, more: some.unionByName(more, allowMissingColumns=True), parts)


def as_text(field: StructField) -> Column:
    """A typed column as text: JSON for what is nested, base64 for bytes that are no text."""
    return _value(field.name, field.dataType, nanoseconds=False).alias(field.name)


def _value(name: str, type_: DataType, nanoseconds: bool) -> Column:
    value = F.col(quote(name))
    if nanoseconds:
        # Spark's instants have microseconds; what a value has beyond them stands behind them.
        # The quotient is cut off, and the rest is never below zero.
        rest, quotient = F.pmod(value, F.lit(1000)), F.call_function("div", value, F.lit(1000))
        instant = F.timestamp_micros(quotient - F.when((value < 0) & (rest > 0), 1).otherwise(0))
        longer = F.concat(F.date_format(instant, "yyyy-MM-dd HH:mm:ss.SSSSSS"), F.lpad(rest.cast("string"), 3, "0"))
        return F.when(rest == 0, instant.cast("string")).otherwise(longer)
    return _text_of(value, type_)


def _text_of(value: Column, type_: DataType) -> Column:
    kind = type_.typeName()
    if kind in ("struct", "array", "map"):
        if not _has_bytes_or_keys(type_):
            return F.to_json(value)
        # A file may have a key twice, which Spark's functions of maps refuse; its JSON has both.
        return F.when(_keys_are_unique(value, type_), F.to_json(_for_json(value, type_))).otherwise(F.to_json(value))
    if kind in ("double", "float"):
        return number_text(value)
    return text_or_bytes(value) if kind == "binary" else value.cast("string")


def _for_json(value: Column, type_: DataType) -> Column:
    """A nested value with the keys of its maps, and its bytes, as the text that a column of their type has: JSON would have their numbers."""
    if not _has_bytes_or_keys(type_):
        return value
    match type_:
        case ArrayType():
            return F.transform(value, lambda v: _for_json(v, type_.elementType))
        case MapType():
            if not isinstance(type_.keyType, StringType):
                value = F.transform_keys(value, lambda key, _: _text_of(key, type_.keyType))
            return F.transform_values(value, lambda _, v: _for_json(v, type_.valueType))
        case StructType():
            fields = [_for_json(value.getField(f.name), f.dataType).alias(f.name) for f in type_.fields]
            return F.when(value.isNotNull(), F.struct(*fields))
    return text_or_bytes(value)


def _has_bytes_or_keys(type_: DataType) -> bool:
    match type_:
        case ArrayType():
            return _has_bytes_or_keys(type_.elementType)
        case MapType():
            return not isinstance(type_.keyType, StringType) or _has_bytes_or_keys(type_.valueType)
        case StructType():
            return any(_has_bytes_or_keys(f.dataType) for f in type_.fields)
    return isinstance(type_, BinaryType)


def _keys_are_unique(value: Column, type_: DataType) -> Column:
    """Whether no map in a value has a key twice; true for null."""
    match type_:
        case ArrayType():
            unique = F.forall(value, lambda v: _keys_are_unique(v, type_.elementType))
        case MapType():
            inside = F.forall(F.map_values(value), lambda v: _keys_are_unique(v, type_.valueType))
            unique = (F.size(F.array_distinct(F.map_keys(value))) == F.size(value)) & inside
        case StructType():
            fields = [_keys_are_unique(value.getField(f.name), f.dataType) for f in type_.fields]
            unique = reduce(Column.__and__, fields, F.lit(True))
        case _:
            return F.lit(True)
    return F.coalesce(unique, F.lit(True))


def _csv_options(source: Input, dialect: Dialect, columns: int) -> dict[str, str]:
    """What Spark is told of the source's dialect: where it finds fields among bytes, in those."""
    options = {k: v for k, v in source.options if not k.startswith("cloudFiles.")}
    if dialect.keeps_bytes:
        options["encoding"] = BYTES_AS_TEXT
        for name in {"sep", "lineSep", "nullValue"} & options.keys():
            options[name] = options[name].encode().decode(BYTES_AS_TEXT)
    if "sep" in options:
        options["sep"] = options["sep"].replace("\\", "\\\\")
    if columns >= MAX_COLUMNS:
        options["maxColumns"] = str(columns + 1)
    return options


def _is_ascii(value: Column) -> Column:
    return F.octet_length(value) == F.char_length(value)


def _text(value: Column) -> Column:
    """Bytes, of which each is a character, as the text that they are in UTF-8."""
    return F.when(_is_ascii(value), value).otherwise(F.encode(value, BYTES_AS_TEXT).cast("string"))


def _undecodable(places: list[str], parsed: Column, dialect: Dialect) -> Column:
    """Whether a row has bytes that are no text."""
    # Joined by what is one byte in every encoding, bytes of two cells never make a character.
    joined = F.concat_ws(",", *places, parsed)
    text = F.encode(joined, BYTES_AS_TEXT).cast("string")
    return ~_is_ascii(joined) & (F.lit(True) if dialect.encoding == "us-ascii" else ~F.is_valid_utf8(text))


def _without_mark(value: Column, dialect: Dialect) -> Column:
    """The first value of a file without a byte order mark, and without the quotes that it has kept behind one."""
    mark = BYTE_ORDER_MARK if dialect.keeps_bytes else "\ufeff"
    bare = F.substr(value, F.lit(len(mark) + 1))
    quoted = F.startswith(bare, F.lit(dialect.quote)) & F.endswith(bare, F.lit(dialect.quote)) & (F.length(bare) > 1)
    unquoted = F.substr(bare, F.lit(2), F.length(bare) - 2)
    return F.when(F.startswith(value, F.lit(mark)), F.when(quoted, unquoted).otherwise(bare)).otherwise(value)


def _without_carriage_returns(rows: DataFrame, places: list[str]) -> DataFrame:
    """Rows of a file with both CRLF and LF, read line feed by line feed: a carriage return ends no value, nor is it a row."""
    first, *others = map(F.col, places)
    last = F.col(places[-1])
    blank = first.eqNullSafe("\r") & F.coalesce(*others, F.lit(None)).isNull()
    bare = F.nullif(F.substr(last, F.lit(1), F.length(last) - 1), F.lit(""))
    return rows.where(~blank).withColumn(places[-1], F.when(last.endswith("\r"), bare).otherwise(last))


def _strings(names: Sequence[str]) -> StructType:
    return StructType([StructField(n, StringType()) for n in names])
