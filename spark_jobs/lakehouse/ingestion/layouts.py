"""What each file of a batch is, before Spark reads it: found in Python, file by file, so that one file's trouble is its own."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.ingestion.csv_files import CsvLayout, layout
from lakehouse.ingestion.landing import CHUNK_BYTES, MAGIC, LandedFile, Landing, Unreadable
from lakehouse.sources import Input

MAX_DIGITS = 38
NANOSECONDS = "nanoseconds"
WHITE_SPACE = b" \t\r\n"
"""What JSON lines may have without having anything."""


@dataclass(frozen=True)
class JsonLayout:
    """JSON lines have no header; what keys they have, Spark tells.

    Attributes:
        has_rows: whether there is anything but white space.
    """

    has_rows: bool
    names: tuple[str, ...] = ()
    remark: str | None = None


@dataclass(frozen=True)
class ParquetLayout:
    """What a Parquet file's footer says.

    Attributes:
        schema: its types, as text: files of one schema are read together.
        nanoseconds: the columns of instants in nanoseconds, which Spark reads as numbers.
    """

    names: tuple[str, ...]
    schema: str
    nanoseconds: tuple[str, ...] = ()
    has_rows: bool = True
    remark: str | None = None


Layout = CsvLayout | JsonLayout | ParquetLayout


def layouts(landing: Landing, source: Input, files: list[LandedFile]) -> dict[LandedFile, Layout | Unreadable]:
    """The layout of each file, or why it cannot be read."""
    looks: dict[str, Callable[[Landing, Input, LandedFile], Layout]] = {"csv": _csv, "json": _json, "parquet": _parquet}
    look = looks[source.format]

    def one(file: LandedFile) -> Layout | Unreadable:
        try:
            return look(landing, source, file)
        except Unreadable as error:
            return error
        except (OSError, pa.ArrowException, EOFError) as error:
            return Unreadable(f"cannot be unpacked: {' '.join(str(error).split())[:300]}")

    with ThreadPoolExecutor(max_workers=16) as pool:
        return dict(zip(files, pool.map(one, files), strict=True))


def _csv(landing: Landing, source: Input, file: LandedFile) -> CsvLayout:
    return layout(source, lambda: landing.unpacked(file))


def _json(landing: Landing, source: Input, file: LandedFile) -> JsonLayout:
    """Reads all of a packed file: one that is cut short would else stop the batch; raises Unreadable."""
    with landing.unpacked(file) as stream:
        chunk = head = stream.read(CHUNK_BYTES)
        if b"\0" in head.split(b"\n", 1)[0]:
            raise Unreadable("holds NUL bytes in its first line: not text, or not in UTF-8")
        has_rows = bool(head.removeprefix(codecs.BOM_UTF8).strip(WHITE_SPACE))
        while chunk and (isinstance(stream, pa.CompressedInputStream) or not has_rows):
            chunk = stream.read(CHUNK_BYTES)
            has_rows = has_rows or bool(chunk.strip(WHITE_SPACE))
    return JsonLayout(has_rows)


def _parquet(landing: Landing, source: Input, file: LandedFile) -> ParquetLayout:
    with landing.open(file) as stream:
        if file.size < 12 or stream.read(4) != MAGIC["Parquet"]:
            raise Unreadable("is no Parquet file")
        stream.seek(0)
        try:
            found = pq.ParquetFile(stream)
            schema = found.schema
            columns = [schema.column(n) for n in range(len(schema))]
            names = tuple(found.schema_arrow.names)
            kinds = [json.loads(column.logical_type.to_json()) for column in columns]
        except (OSError, pa.ArrowException, ValueError) as error:
            raise Unreadable(f"its footer cannot be read: {' '.join(str(error).split())[:300]}") from error
        rows = found.metadata.num_rows
        # The first line of its text is the address of an object.
        text = str(schema).partition("\n")[2]
    if not names:
        raise Unreadable("has no column")
    if len(set(names)) != len(names):
        raise Unreadable(
            f"names a column twice: {', '.join(repr(n) for n in sorted(names) if names.count(n) > 1)[:200]}"
        )
    nanoseconds = []
    for column, kind in zip(columns, kinds, strict=True):
        nested, type_ = column.path not in names, kind["Type"]
        nano = kind.get("timeUnit") == NANOSECONDS and column.physical_type == "INT64"
        if (
            type_ in ("Time", "UUID", "Float16", "Interval", "Variant")
            or kind.get("precision", 0) > MAX_DIGITS
            or (nano and nested)
        ):
            raise Unreadable(
                f"its column '{column.path}' is of type {column.physical_type} {column.logical_type}, which is not read: write it as text"
            )
        if nano:
            nanoseconds.append(column.path)
    return ParquetLayout(names, text, tuple(nanoseconds), rows > 0)
