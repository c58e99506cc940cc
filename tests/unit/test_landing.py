"""Discovery and headers, on real files."""

from __future__ import annotations

import gzip
import hashlib
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import lakehouse.ingestion.landing as landing_module
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lakehouse.errors import UsageError
from lakehouse.ingestion.landing import LandedFile, Landing, Unreadable
from support import an_input

SOURCE = an_input()


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


def ends_inside_quotes(text: str) -> bool:
    """RFC 4180, character by character."""
    state = "start"
    for c in text:
        if state == "inside":
            state = "quote" if c == '"' else "inside"
        elif state == "quote" and c == '"':
            state = "inside"
        elif c in ",\r\n":
            state = "start"
        else:
            state = "inside" if state == "start" and c == '"' else "bare"
    return state == "inside"


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet='",\n\rä', max_size=40), chunk=st.integers(1, 7))
def test_a_quoted_field_that_never_ends(tmp_path: Path, text: str, chunk: int) -> None:
    """Wherever the file is cut into chunks; an even number of quotes is not looked into."""
    put(tmp_path, "x.csv", b"a,b\n" + text.encode())
    with pytest.MonkeyPatch.context() as m:
        m.setattr(landing_module, "CHUNK_BYTES", chunk)
        landing = Landing(str(tmp_path))
        (file,) = landing.find(SOURCE) or ()
        header = landing.headers(SOURCE, [file])[file]
    found = isinstance(header, Unreadable) and "never ends" in str(header)
    assert found == (text.count('"') % 2 == 1 and ends_inside_quotes(text))


def test_a_file_is_archived_under_its_time_unless_another_has_taken_its_place(tmp_path: Path) -> None:
    os.utime(put(tmp_path, "2026/a.csv"), ns=(0, 1_600_000_000_123_000_000))
    put(tmp_path, "b.csv")
    landing = Landing(str(tmp_path))
    first, second = landing.find(SOURCE) or ()
    put(tmp_path, "b.csv", b"a,b\n3,4\n5,6\n")
    for file in (first, second):
        landing.archive(file)
    assert [f.path for f in landing.find(SOURCE) or ()] == ["shop/products/b.csv"]
    archived = tmp_path / "_archive/shop/products/2026/20200913T122640.123000Z_a.csv"
    assert archived.read_bytes() == b"a,b\n1,2\n"
    landing.archive(first)  # again: it has gone, and that is no error
    landing.delete(second)
    assert (tmp_path / "shop/products/b.csv").exists()
    (second,) = landing.find(SOURCE) or ()
    landing.delete(second)
    assert landing.find(SOURCE) == []


def test_the_hash_is_that_of_the_bytes_as_they_lie_there(tmp_path: Path) -> None:
    content = gzip.compress(b"a,b\n1,2\n")
    put(tmp_path, "x.csv.gz", content)
    landing = Landing(str(tmp_path))
    files = landing.find(SOURCE) or []
    assert [f.sha256 for f in landing.with_hash(files)] == [hashlib.sha256(content).hexdigest()]
    (tmp_path / "shop/products/x.csv.gz").unlink()
    assert [f.sha256 for f in landing.with_hash(files)] == [None]
