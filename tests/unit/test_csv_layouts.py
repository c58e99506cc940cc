"""What CSV files are before Spark reads them: headers, line ends, quotes; and what is told of those that cannot be read."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
from dataclasses import replace
from pathlib import Path

import lakehouse.ingestion.csv_files as csv_files
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lakehouse.ingestion.landing import Unreadable
from layouts_of_a_test import CSV, layout_of, names_of, reason_of


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a,b\n1,2\n", ("a", "b")),
        (b"\xef\xbb\xbfa,b\r\n1,2\r\n", ("a", "b")),
        (b'\xef\xbb\xbf"a","b, c"\n1,2\n', ("a", "b, c")),
        (b"a,b\r1,2\r", ("a", "b")),
        (b'"a","b, c\nd"\n1,2\n', ("a", "b, c\nd")),
        (b'"a ""x""",b\n1,2\n', ('a "x"', "b")),
        (b" a , b \n", ("a", "b")),
        (b"a,b", ("a", "b")),
        (b"A,x\n", ("A", "x")),  # in other case: its rows are rescued
        (b"a,,b,\n1,2,3,4\n", ("a", "_c1", "b", "_c3")),
        (b"a,b,a\n", "its header names a column twice: 'a'"),
        ("a,b\n".encode("utf-16"), "NUL bytes"),
        (b"a,b\n" + b"1,2\n" * 400_000 + b"1,\0\n", "NUL bytes"),  # beyond the first MiB, too
        (b"\xffa,b\n", "its first line is not utf-8"),
        (b"\na,b\xff\n1,2\n", "its header is not utf-8"),
        (
            b"1,2\n",
            "its first row has 2 fields, and none of the declared columns: is it another file, or one without a",
        ),
        (b"a;b\n1;2\n", "its first row has 1 fields, and none of the declared columns: is sep ';'?"),
        (b"This folder holds products.\n", "none of the declared columns"),
        (b"x,y\n" + b"z" * (1 << 21), "none of the declared columns"),
        (b"a,b," + b"z" * (1 << 21), "its header is longer than 1,048,576 bytes"),
    ],
)
def test_header(tmp_path: Path, content: bytes, expected: tuple[str, ...] | str) -> None:
    if isinstance(expected, str):
        assert expected in reason_of(tmp_path, content)
    else:
        assert names_of(tmp_path, content) == expected


@pytest.mark.parametrize(
    ("before", "leading"),
    [
        ("\n\n", 0),  # blank lines are none of Spark's records
        (",\n", 1),
        ("  \n", 1),
        (",,\n\n,\n", 2),
        ("sep=,\n", 1),
        ("\ufeffsep=,\r\n", 1),
    ],
)
def test_what_comes_before_a_header(tmp_path: Path, before: str, leading: int) -> None:
    found = layout_of(tmp_path, f"{before}a,b\n1,2\n".encode())
    assert isinstance(found, csv_files.CsvLayout), found
    assert (found.names, found.leading, found.has_rows) == (("a", "b"), leading + 1, True)


def test_lines_that_the_source_has_skipped_count_as_the_records_that_spark_finds_in_them(tmp_path: Path) -> None:
    source = replace(CSV, skip_lines=4)
    found = layout_of(tmp_path, b'Report "of" March\n\n"1,\n2",x\na,b\n1,2\n', source)
    assert isinstance(found, csv_files.CsvLayout)
    assert (found.names, found.leading) == (("a", "b"), 3)
    assert "a quote opens in the lines to skip" in reason_of(tmp_path, b'1\n2\n3\n"4\na",b\n', source)
    short = layout_of(tmp_path, b"1\n2\n", source)
    assert not isinstance(short, Unreadable)
    assert not short.has_rows


def test_comments_are_passed_over_wherever_they_stand(tmp_path: Path) -> None:
    source = replace(CSV, options=(("comment", "#"),))
    assert names_of(tmp_path, b'# "GA4", report\n#\na,b\n1,2\n', source) == ("a", "b")
    only = layout_of(tmp_path, b"# nothing\na,b\n# that was it\n", source)
    assert not isinstance(only, Unreadable)
    assert not only.has_rows


def test_a_file_without_a_header(tmp_path: Path) -> None:
    source = replace(CSV, header="none")
    found = layout_of(tmp_path, b"1,2\n", source)
    assert isinstance(found, csv_files.CsvLayout)
    assert (found.names, found.leading, found.has_rows, found.remark) == (("a", "b"), 0, True, None)
    assert "does it have a header?" in str(getattr(layout_of(tmp_path, b"B,a\n1,2\n", source), "remark", None))


@pytest.mark.parametrize("sep", ["||", "\t", "\x01", ";", "§", "."])
def test_separators_of_any_kind(tmp_path: Path, sep: str) -> None:
    source = replace(CSV, options=(("sep", sep),))
    content = sep.join(["a", f'"b{sep}c"', "d"]) + "\n" + sep.join("123") + "\n"
    assert names_of(tmp_path, content.encode(), source) == ("a", f"b{sep}c", "d")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16le", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_headers_of_wide_characters(tmp_path: Path, encoding: str, end: str) -> None:
    source = replace(CSV, options=(("encoding", encoding),))
    content = f"{end}a,\u0a0d b{end}1,2{end}".encode(encoding)
    assert names_of(tmp_path, content, source) == ("a", "\u0a0d b")


def test_excel_says_another_separator_than_the_source(tmp_path: Path) -> None:
    assert "fields end with ';': declare sep" in reason_of(tmp_path, b"sep=;\na;b\n")
    for sep in (";", "\t", "||"):
        content = f"sep={sep}\r\na{sep}b\r\n1{sep}2\r\n".encode()
        assert names_of(tmp_path, content, replace(CSV, options=(("sep", sep),))) == ("a", "b")
    without = layout_of(tmp_path, b"sep=,\n1,2\n", replace(CSV, header="none"))
    assert isinstance(without, csv_files.CsvLayout)
    assert without.leading == 1


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(st.text(alphabet='ab,"\n ä', max_size=5), min_size=1, max_size=4),
    blanks=st.integers(0, 2),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    mark=st.booleans(),
)
def test_any_header_that_csv_can_write_is_read_back(
    tmp_path: Path, names: list[str], blanks: int, end: str, mark: bool
) -> None:
    names = [f"a{n}{name}" for n, name in enumerate(names)]  # different, and never blank
    text = io.StringIO()
    csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([names, ["1"] * len(names)])
    content = ("\ufeff" if mark else "") + end * blanks + text.getvalue()
    source = replace(CSV, columns=("a0", *names))
    assert names_of(tmp_path, content.encode(), source) == tuple(name.strip() for name in names)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a,b\n1,2\n3,4\n", ""),
        (b"a,b\r\n1,2\r\n", ""),
        (b"a,b\r1,2\r", ""),
        (b'a,b\r\n1,"x\ny"\r\n', ""),  # Excel: within quotes a line break is LF
        (b"a,b\r\n1,2\n3,4\n", "\n"),
        (b'a,b\r\n1,"x\r\ny"\n3,4\r\n', "\n"),
        (b"a,b\n1,2\r\n", "\n"),
        (b"a,b\n1,x\ry\n", ""),  # CR alone is a character, but where it comes first
        (b'"a\r\n",b\n1,2\n', "\n"),  # Spark would go by the first one, though it is within quotes
        (b'"a\n",b\r1,2\r', "\r"),
        (b'"a\n",b\r\n1,2\r\n', "\r\n"),
        (b"a,b\r1,2\n3,4\r", "end in several ways"),
        (b"a,b\r1,2\r\n3,4\r", "end in several ways"),
    ],
)
def test_line_ends(tmp_path: Path, content: bytes, expected: str) -> None:
    found = layout_of(tmp_path, content)
    if isinstance(found, Unreadable):
        assert expected
        assert expected in str(found)
    else:
        assert isinstance(found, csv_files.CsvLayout)
        assert found.line_sep == expected


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
    with pytest.MonkeyPatch.context() as m:
        m.setattr(csv_files, "CHUNK_BYTES", chunk)
        found = layout_of(tmp_path, b"a,b\n" + text.encode())
    never = isinstance(found, Unreadable) and "never ends" in str(found)
    assert never == (text.count('"') % 2 == 1 and ends_inside_quotes(text))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=st.lists(st.sampled_from(["x", '"x\r\ny"', '"x\ny"', '""""', ""]), max_size=6), chunk=st.integers(1, 5))
@pytest.mark.parametrize("ends", [["\r\n"], ["\r\n", "\n"]])
def test_line_ends_outside_of_quotes_alone_count(tmp_path: Path, cells: list[str], chunk: int, ends: list[str]) -> None:
    rows = "".join(f"1,{cell}{ends[n % len(ends)]}" for n, cell in enumerate(cells))
    with pytest.MonkeyPatch.context() as m:
        m.setattr(csv_files, "CHUNK_BYTES", chunk)
        found = layout_of(tmp_path, f"a,b\r\n{rows}".encode())
    assert isinstance(found, csv_files.CsvLayout), found
    assert found.line_sep == ("\n" if len(ends) > 1 and len(cells) > 1 else "")


DIALECTS: list[dict[str, str]] = [
    {"escape": "\\"},
    {"escape": ""},
    {"comment": "#"},
    {"ignoreLeadingWhiteSpace": "true"},
    {"lineSep": "\n"},
    {"sep": "||"},
    {"encoding": "utf-16"},
    {"quote": "\u00ab", "escape": "\u00ab"},
]


def is_left_open(text: str, options: dict[str, str]) -> bool:
    """Character by character: whether the text ends within quotes of which there is an odd number, as the dialect has them."""
    default = {"sep": ",", "quote": '"', "escape": '"', "comment": "", "lineSep": "", "ignoreLeadingWhiteSpace": ""}
    sep, quote, escape, comment, line_sep, blanks = (options.get(name, value) for name, value in default.items())
    at, place, number = "line", 0, 0
    while place < len(text):
        rest, width = text[place:], 1
        ends = next((e for e in ([line_sep] if line_sep else ["\r\n", "\r", "\n"]) if rest.startswith(e)), "")
        if at == "inside":
            if escape and rest.startswith((escape + quote, escape + escape)):
                width = 2
            elif rest.startswith(quote):
                at, number = "cell", number + 1
        elif at == "comment":
            at = "line" if ends else at
        elif ends:
            at, width = "line", len(ends)
        elif at == "line" and comment and rest.startswith(comment):
            at = "comment"
        elif rest.startswith(sep):
            at, width = "field", len(sep)
        elif rest.startswith(quote):
            at, number = "inside" if at != "cell" else "cell", number + 1
        elif not (blanks and at != "cell" and rest[0] == " "):
            at = "cell"
        else:
            at = "field"
        place += width
    return at == "inside" and number % 2 == 1


PIECES = ['"', '\\"', '""', ',"', '\n"', ' "', "\u00ab", ",\u00ab", "||", '||"', "#", "\n#", "\n", "\r\n", "\\\\", "x"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.lists(st.sampled_from(PIECES), max_size=12).map("".join), chunk=st.integers(1, 7))
@pytest.mark.parametrize("options", DIALECTS, ids=str)
def test_a_quoted_field_that_never_ends_in_any_dialect(
    tmp_path: Path, options: dict[str, str], text: str, chunk: int
) -> None:
    source = replace(CSV, options=tuple(options.items()))
    sep = options.get("sep", ",")
    with pytest.MonkeyPatch.context() as m:
        m.setattr(csv_files, "CHUNK_BYTES", chunk)
        found = layout_of(tmp_path, f"a{sep}b\n{text}".encode(options.get("encoding", "utf-8")), source)
    never = isinstance(found, Unreadable) and "never ends" in str(found)
    assert never == is_left_open(text, options)


@pytest.mark.parametrize(
    ("content", "options", "skip_lines", "header", "leading"),
    [
        (b"\na,b\n1,2\n", {}, 0, "first", 2),
        (b"\r\n\r\na,b\r\n1,2\r\n", {}, 0, "first", 2),
        (b"# report\na,b\n1,2\n", {"comment": "#"}, 0, "first", 2),
        (b'"a\nA",b\n1,2\n', {}, 0, "first", 2),
        (b'"a,A",b\n1,2\n', {}, 0, "first", 1),
        (b"\nReport\na,b\n1,2\n", {}, 2, "first", 3),
        (b"sep=,\na,b\n1,2\n", {}, 0, "first", 2),
        (b"\n1,2\n", {}, 0, "none", 1),
        (b"# report\n1,2\n", {"comment": "#"}, 0, "none", 1),
        (b"1,2\n", {}, 0, "none", 0),
        (b'"1",2\n', {}, 0, "none", 0),
    ],
)
def test_behind_a_byte_order_mark_spark_finds_other_records(
    tmp_path: Path, content: bytes, options: dict[str, str], skip_lines: int, header: str, leading: int
) -> None:
    """For its parser the mark is a character: a line with it is neither blank nor a comment, and a field with it not quoted."""
    columns = ("a", "a\nA", "a,A", "b") if header == "first" else ("a", "b")
    source = replace(CSV, columns=columns, options=tuple(options.items()), skip_lines=skip_lines, header=header)
    found = layout_of(tmp_path, codecs.BOM_UTF8 + content, source)
    assert isinstance(found, csv_files.CsvLayout), found
    assert (found.leading, found.has_rows, found.names[-1]) == (leading, True, "b")


@pytest.mark.parametrize("first", [b'"1,2"', b'"say ""x"""', b'"two\nlines"'])
def test_a_byte_order_mark_before_a_quoted_value_that_spark_would_not_read(tmp_path: Path, first: bytes) -> None:
    content = codecs.BOM_UTF8 + first + b",3\n"
    assert "before a quoted value" in reason_of(tmp_path, content, replace(CSV, header="none"))


def test_what_precedes_the_header_may_be_no_text(tmp_path: Path) -> None:
    report = "Bericht für März".encode("latin-1")
    for end in (b"\n", b"\r", b"\r\n"):
        assert names_of(tmp_path, end.join([report, b"a,b", b"1,2", b""]), replace(CSV, skip_lines=1)) == ("a", "b")
    assert names_of(tmp_path, "a,b\r1,é\r".encode("latin-1")) == ("a", "b")
    assert "first line is not utf-8" in reason_of(tmp_path, report + b"\ra,b\r")


def test_header_of_a_compressed_file_in_another_encoding_with_another_delimiter(tmp_path: Path) -> None:
    source = replace(CSV, options=(("encoding", "iso-8859-1"), ("sep", ";")))
    assert names_of(tmp_path, gzip.compress("Stück;b\n1;2\n".encode("latin-1")), source, "x.csv.gz") == ("Stück", "b")
