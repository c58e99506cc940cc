"""What files are before Spark reads them: packings, JSON lines, footers; and what is told of those that cannot be read."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lakehouse.ingestion.landing import Unreadable
from lakehouse.sources import Input
from layouts_of_a_test import CSV, JSON, PARQUET, layout_of, reason_of


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.csv", content)
    return file.getvalue()


def arrow(codec: str) -> Callable[[bytes], bytes]:
    return lambda content: pa.Codec(codec).compress(content, asbytes=True)


@pytest.mark.parametrize(
    ("pack", "end", "expected"),
    [
        (gzip.compress, ".gz", None),
        (gzip.compress, ".GZ", None),
        (bz2.compress, ".bz2", None),
        (arrow("zstd"), ".zst", None),
        (lambda c: gzip.compress(c) + gzip.compress(b"5,6\n"), ".gz", None),
        (arrow("lz4"), ".lz4", "is lz4, which is not read here"),
        (lzma.compress, ".xz", "is xz, which is not read here"),
        (zipped, ".zip", "is zip, which is not read here"),
        (arrow("brotli"), ".br", "is packed as .br, which is not read here"),
        (arrow("snappy"), ".snappy", "is packed as .snappy, which is not read here"),
        (gzip.compress, "", "is gzip inside, but not by its name"),
        (gzip.compress, ".bz2", "is gzip inside, but not by its name"),
        (lambda c: c, ".gz", "is named .gz, but is not packed so"),
        (lambda c: gzip.compress(c)[:-9], ".gz", "cannot be unpacked"),
        (lambda c: gzip.compress(c)[:40] + b"\0\0" + gzip.compress(c)[42:], ".gz", "cannot be unpacked"),
        (zipped, ".xlsx", "is zip, which is not read here"),
    ],
)
@pytest.mark.parametrize("source", [CSV, JSON], ids=["csv", "json"])
def test_packed_files_are_read_whole_or_not_at_all(
    tmp_path: Path, source: Input, pack: Callable[[bytes], bytes], end: str, expected: str | None
) -> None:
    content = b"a,b\n" + b"1,2\n" * 30 if source is CSV else b'{"a":"1"}\n' * 30
    found = layout_of(tmp_path, pack(content), source, f"x.{source.format}{end}")
    if expected is None:
        assert not isinstance(found, Unreadable), found
        assert found.has_rows
    else:
        assert isinstance(found, Unreadable)
        assert expected in str(found)


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"\n \r\n", False),
        (b"\xef\xbb\xbf\n", False),
        (b"\xef\xbb\n", True),
        (b"\xbf\n", True),
        (b"\x0b\n", True),
        (b"\n" * 9 + b"{}", True),
        (b"x", True),
    ],
)
def test_json_lines_are_looked_for_no_further_than_to_the_first(tmp_path: Path, content: bytes, rows: bool) -> None:
    found = layout_of(tmp_path, content, JSON, "x.json")
    assert not isinstance(found, Unreadable)
    assert found.has_rows is rows
    assert "NUL" in reason_of(tmp_path, "{}".encode("utf-16"), JSON, "x.json")
    assert "is Parquet" in reason_of(tmp_path, b"PAR1....", JSON, "x.json")


def parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (pa.array([0], pa.time64("us")), "'v' is of type INT64 Time"),
        (pa.array([0], pa.time32("ms")), "'v' is of type INT32 Time"),
        (pa.array([UUID(int=5).bytes], pa.uuid()), "'v' is of type FIXED_LEN_BYTE_ARRAY UUID"),
        (pa.array([1.5], pa.float16()), "Float16"),
        (pa.array([Decimal("1.5")], pa.decimal256(50, 2)), "Decimal(precision=50, scale=2)"),
        (pa.array([{"t": 0}], pa.struct([("t", pa.timestamp("ns"))])), "'v.t' is of type INT64 Timestamp"),
        (pa.array([[0]], pa.list_(pa.timestamp("ns"))), "nanoseconds"),
    ],
)
def test_parquet_types_that_are_not_read_are_told(tmp_path: Path, value: Any, words: str) -> None:
    reason = reason_of(tmp_path, parquet(a=["1"], v=value), PARQUET, "x.parquet")
    assert words in reason
    assert "write it as text" in reason


def test_a_column_of_parquet_whose_name_is_no_text(tmp_path: Path) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": ["1"], "ZZZZ": ["2"]}), sink, store_schema=False)
    no_text = sink.getvalue().replace(b"ZZZZ", b"ZZ\xff\xfe")
    assert "its footer cannot be read: 'utf-8' codec" in reason_of(tmp_path, no_text, PARQUET, "x.parquet")


def test_parquet_footers(tmp_path: Path) -> None:
    nano = pa.array([1], pa.timestamp("ns"))
    found = layout_of(tmp_path, parquet(**{"a.b": nano, "_metadata": ["1"]}), PARQUET, "x.parquet")
    assert (getattr(found, "names", None), getattr(found, "nanoseconds", None)) == (("a.b", "_metadata"), ("a.b",))
    texts, nulls = parquet(a=["1"]), parquet(a=pa.nulls(1))
    alike = [getattr(layout_of(tmp_path, c, PARQUET, "x.parquet"), "schema", "") for c in (texts, texts, nulls)]
    assert alike[0] == alike[1] != alike[2]
    empty = layout_of(tmp_path, parquet(a=pa.nulls(0)), PARQUET, "x.parquet")
    assert not isinstance(empty, Unreadable)
    assert not empty.has_rows
    assert "is no Parquet file" in reason_of(tmp_path, b"a,b\n1,2\n1,2\n", PARQUET, "x.parquet")
    assert "footer cannot be read" in reason_of(tmp_path, texts[:-20], PARQUET, "x.parquet")
    twice = pa.Table.from_arrays([pa.array(["1"]), pa.array(["2"])], names=["a", "a"])
    sink = io.BytesIO()
    pq.write_table(twice, sink)
    assert "names a column twice: 'a'" in reason_of(tmp_path, sink.getvalue(), PARQUET, "x.parquet")
