"""Discovery and headers, on real files."""

from __future__ import annotations

import gzip
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lakehouse.errors import UsageError
from lakehouse.ingestion.landing import LandedFile, Landing, Unreadable
from lakehouse.sources import Input

SOURCE = Input(
    name="shop_products",
    source="shop",
    path="shop/products",
    format="csv",
    columns=("a", "b"),
    pattern="*",
    ignore=("*.tmp", "*.part", "*.crc"),
    options=(),
    schema_mode="rescue",
    sql=(),
)


def put(root: Path, name: str, content: bytes = b"a,b\n1,2\n") -> Path:
    file = root / "shop/products" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def test_finds_files_in_all_subfolders_and_passes_over_what_is_to_be_ignored(tmp_path: Path) -> None:
    for name in (
        "b.csv",
        "2026/03/a.csv",
        "x.tmp",
        "y.part",
        ".hidden",
        "_work/c.csv",
        ".crc/d",
        "z.crc",
        "n ame+%.csv",
    ):
        put(tmp_path, name)
    os.utime(tmp_path / "shop/products/b.csv", ns=(0, 1_600_000_000_123_456_789))
    found = Landing(str(tmp_path)).find(SOURCE)
    assert found is not None
    assert [f.path for f in found] == [
        "shop/products/2026/03/a.csv",
        "shop/products/b.csv",
        "shop/products/n ame+%.csv",
    ]
    assert found[1] == LandedFile("shop/products/b.csv", 8, datetime(2020, 9, 13, 12, 26, 40, 123000, tzinfo=UTC))


def test_a_pattern_chooses_files_by_name(tmp_path: Path) -> None:
    put(tmp_path, "products_1.csv"), put(tmp_path, "events_1.csv")
    found = Landing(str(tmp_path)).find(replace(SOURCE, pattern="products*"))
    assert [f.path for f in found or ()] == ["shop/products/products_1.csv"]


def test_no_folder_for_the_input_is_not_an_error_but_no_landing_folder_is(tmp_path: Path) -> None:
    assert Landing(str(tmp_path)).find(SOURCE) is None
    with pytest.raises(UsageError, match="no such folder"):
        Landing(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a,b\n1,2\n", ("a", "b")),
        (b"\xef\xbb\xbfa,b\r\n1,2\r\n", ("a", "b")),
        (b"a,b\r1,2\r", ("a", "b")),
        (b'"a","b, c\nd"\n1,2\n', ("a", "b, c\nd")),
        (b" a , b \n", ("a", "b")),
        (b"a,b", ("a", "b")),
        (b"a,b,a\n", "its header names a column twice: 'a'"),
        ("a,b\n".encode("utf-16"), "NUL bytes"),
        (b"\xffa,b\n", "its first line is not utf-8"),
    ],
)
def test_header(tmp_path: Path, content: bytes, expected: tuple[str, ...] | str) -> None:
    put(tmp_path, "x.csv", content)
    landing = Landing(str(tmp_path))
    (file,) = landing.find(SOURCE) or ()
    header = landing.headers(SOURCE, [file])[file]
    if isinstance(expected, str):
        assert isinstance(header, Unreadable)
        assert expected in str(header)
    else:
        assert header == expected


def test_header_of_a_compressed_file_in_another_encoding_with_another_delimiter(tmp_path: Path) -> None:
    put(tmp_path, "x.csv.gz", gzip.compress("Stück;b\n1;2\n".encode("latin-1")))
    landing = Landing(str(tmp_path))
    source = replace(SOURCE, options=(("encoding", "latin-1"), ("sep", ";")))
    (file,) = landing.find(source) or ()
    assert landing.headers(source, [file])[file] == ("Stück", "b")


def test_a_damaged_compressed_file_is_unreadable(tmp_path: Path) -> None:
    put(tmp_path, "x.csv.gz", b"this is not gzip")
    landing = Landing(str(tmp_path))
    (file,) = landing.find(SOURCE) or ()
    assert isinstance(landing.headers(SOURCE, [file])[file], Unreadable)
