"""What a CSV file looks like before Spark reads it: its columns, where its rows begin, how its lines end.

Spark's parser takes the first record that is no blank line and no comment for the header, and the first line
break for all. A file for which that is right is read as it is; of any other, what is found here tells Spark
where to begin, or the person who delivered it what is the matter.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from lakehouse.ingestion.landing import CHUNK_BYTES, Unreadable
from lakehouse.sources import Input

HEAD_BYTES = 1 << 20
BYTES_AS_TEXT = "iso-8859-1"
"""In this encoding each byte is a character, so that none is lost while Spark finds the fields."""
NUL = "holds NUL bytes: not text, or not in UTF-8; declare its encoding in source.yaml"
MARK = "\ufeff"
"""A byte order mark, in text."""
EXCEL_SEPARATOR = re.compile(r"sep=(.{1,2})", re.IGNORECASE)
"""A first line by which Excel is told the separator."""


@dataclass(frozen=True)
class Dialect:
    """How a source writes CSV. Of ``line_sep``, empty is LF, CRLF or CR, whatever the file begins with."""

    sep: str = ","
    quote: str = '"'
    escape: str = '"'
    comment: str = ""
    encoding: str = "utf-8"
    line_sep: str = ""
    null: str = ""
    skip_blanks: bool = False

    @classmethod
    def of(cls, source: Input) -> Dialect:
        options = dict(source.options)
        return cls(
            sep=options.get("sep", ","),
            quote=options.get("quote", '"'),
            escape=options.get("escape", '"'),
            comment=options.get("comment", ""),
            encoding=options.get("encoding", "utf-8").lower(),
            line_sep=options.get("lineSep", ""),
            null=options.get("nullValue", ""),
            skip_blanks=options.get("ignoreLeadingWhiteSpace", "false").lower() == "true",
        )

    @property
    def keeps_bytes(self) -> bool:
        """Whether Spark is to find the fields among bytes, which become text afterwards."""
        return self.encoding in ("utf-8", "us-ascii") and (self.quote + self.escape + self.comment).isascii()

    @property
    def single_byte(self) -> bool:
        """Whether a quote and a line break are one byte each, and that byte is nothing else."""
        return self.encoding in ("utf-8", "us-ascii", "iso-8859-1") and self.quote.isascii()

    @property
    def doubles_quotes(self) -> bool:
        """Whether quotes come in pairs, as in RFC 4180."""
        return self.quote != "" and self.escape == self.quote and not self.comment and not self.line_sep


@dataclass(frozen=True)
class CsvLayout:
    """Where the rows of a file begin, and how they are told apart.

    Attributes:
        names: of the columns, in their order.
        leading: records before the first row, the header included, blank lines and comments not.
        line_sep: what ends a line, where Spark must be told.
        has_rows: whether anything comes behind the header.
        remark: what a person should know of the file.
    """

    names: tuple[str, ...]
    leading: int = 1
    line_sep: str = ""
    has_rows: bool = True
    remark: str | None = None


def layout(source: Input, read: Callable[[], BinaryIO]) -> CsvLayout:
    """The layout of one file.

    Args:
        read: opens the file's content, unpacked.

    Raises:
        Unreadable: it cannot be read as it is; the message says why.
    """
    dialect = Dialect.of(source)
    with read() as stream:
        head = stream.read(HEAD_BYTES)
        counted = _Counted(dialect, head)
        while chunk := stream.read(CHUNK_BYTES) if dialect.single_byte else b"":
            counted.add(chunk)
    if counted.nul:
        raise Unreadable(NUL)
    text, rest_follows = _decoded(head, dialect, source.skip_lines), len(head) == HEAD_BYTES
    breaks = counted.breaks
    if counted.may_be_open or (dialect.doubles_quotes and counted.quotes and len(breaks) > 1):
        # Quotes come in pairs. One that stays open would take all lines after it into its cell.
        with read() as stream:
            opened, outside = _open_quote(stream, dialect)
        if opened:
            raise Unreadable("a quoted field never ends: the file is cut short, or a quote is missing")
        breaks = outside if dialect.single_byte else []
    known = (dialect.doubles_quotes or not counted.quotes) and not dialect.line_sep
    line_sep = _line_sep(counted.first_break, breaks) if known else ""
    # From here on, lines end as they do for Spark.
    detected = counted.first_break.decode("ascii") if dialect.single_byte else ""
    ends = line_sep or dialect.line_sep or detected
    found = _header(source, replace(dialect, line_sep=ends), text, rest_follows)
    return replace(found, line_sep=line_sep)


def _line_sep(detected: bytes, breaks: list[bytes]) -> str:
    """What Spark must be told of the line breaks of a file; raises Unreadable for those that it cannot tell apart.

    By itself it takes the first one, within quotes or not, for all, and would make one row of two that end otherwise.

    Args:
        detected: the file's first line break.
        breaks: the kinds of those that end a row, the first one's first.
    """
    kinds = [b for b in breaks if b != b"\r"] if breaks and breaks[0] != b"\r" else breaks
    if len(kinds) < 2:
        return "" if not kinds or kinds[0] == detected else kinds[0].decode("ascii")
    if set(kinds) == {b"\r\n", b"\n"}:
        return "\n"
    raise Unreadable("its lines end in several ways (CRLF, LF, CR), which cannot be told apart: write one of them")


def _line_end(line_sep: str) -> str:
    """The regular expression of what ends a line; an empty ``line_sep`` is each of the three."""
    return re.escape(line_sep) if line_sep else r"\r\n|\n|\r"


def _decoded(head: bytes, dialect: Dialect, skip_lines: int) -> str:
    """The head as text; of a file in UTF-8, only the first line that is not passed over must be text."""
    first = head
    if dialect.single_byte:
        first = (re.split(_line_end(dialect.line_sep).encode(), head, maxsplit=skip_lines + 1) + [b""] * skip_lines)[
            skip_lines
        ]
    try:
        codecs.getincrementaldecoder(dialect.encoding)().decode(first, final=False)
    except UnicodeDecodeError as error:
        raise Unreadable(f"its first line is not {dialect.encoding}; declare the encoding in source.yaml") from error
    return head.decode(dialect.encoding, errors="replace")


def _header(source: Input, dialect: Dialect, text: str, rest_follows: bool) -> CsvLayout:
    """Names and leading records by the first records of a file; raises Unreadable.

    A byte order mark is none of the text, but Spark's parser takes it for a character of the first line: what is blank, a comment
    or quoted is not so for it behind one.
    """

    def leading(end: int) -> int:
        """How many records Spark finds in the text before a place."""
        return 0 if text[:end] == MARK else len(list(_records(text, dialect, end=end)))

    begin = len(MARK) if text.startswith(MARK) else 0
    if source.skip_lines:
        lines = re.compile(_line_end(dialect.line_sep))
        ends = [m.end() for _, m in zip(range(source.skip_lines), lines.finditer(text), strict=False)]
        begin = ends[-1] if len(ends) == source.skip_lines else len(text)
        if any(not record.closed for record in _records(text, dialect, end=begin)):
            raise Unreadable("a quote opens in the lines to skip, and does not close in them")
    records = _records(text, dialect, begin)
    first = next(records, None)
    if first is not None and (excel := EXCEL_SEPARATOR.fullmatch(dialect.sep.join(first.values).rstrip("\r\n"))):
        if excel[1] != dialect.sep:
            raise Unreadable(f"its first line says that fields end with {excel[1]!r}: declare sep in source.yaml")
        first = next(records, None)
    if source.header == "none":
        remark = None
        if first is not None and {_plain(n) for n in first.values} >= {_plain(n) for n in source.columns}:
            remark = "its first row names the columns, and is taken for a row: does it have a header?"
        before = leading(len(text) if first is None else first.begin)
        if first is not None and text[: first.begin] == MARK and _needs_its_quotes(text, first, dialect):
            raise Unreadable("a byte order mark stands before a quoted value: deliver the file without it")
        return CsvLayout(source.columns, before, has_rows=first is not None or rest_follows, remark=remark)
    while first is not None and not any(name.strip() for name in first.values):
        first = next(records, None)
    if first is None:
        if rest_follows:
            raise Unreadable(f"has no header within its first {HEAD_BYTES:,} bytes")
        return CsvLayout((), leading(len(text)), has_rows=False)
    second = next(records, None)
    if second is None and rest_follows:
        raise Unreadable(f"its header is longer than {HEAD_BYTES:,} bytes")
    if "\ufffd" in "".join(first.values):
        raise Unreadable(f"its header is not {dialect.encoding}; declare the encoding in source.yaml")
    names = _named([name.strip() for name in first.values])
    _fits(source, dialect, names)
    return CsvLayout(names, leading(first.end), has_rows=second is not None)


def _named(given: list[str]) -> tuple[str, ...]:
    """The names of a header; a column without one is called by its place, as Spark does. Raises Unreadable."""
    names = [name or f"_c{n}" for n, name in enumerate(given)]
    if len(set(names)) != len(names):
        twice = sorted({n for n in names if names.count(n) > 1})
        raise Unreadable(f"its header names a column twice: {', '.join(repr(n) for n in twice[:5])}")
    return tuple(names)


def _fits(source: Input, dialect: Dialect, names: tuple[str, ...]) -> None:
    """Raise Unreadable for a header that has nothing of what the source declares: its first row would be lost."""
    # A source that forbids undeclared columns says so in its own words.
    if (
        not source.columns
        or source.schema_mode == "fail"
        or {_plain(n) for n in names} & {_plain(n) for n in source.columns}
    ):
        return
    # What stands there is not told: it may be a person's data.
    others = [s for s in (",", ";", "\t", "|") if s != dialect.sep and any(s in name for name in names)]
    advice = f"is sep {others[0]!r}" if others else "is it another file, or one without a header (header: none)"
    raise Unreadable(f"its first row has {len(names)} fields, and none of the declared columns: {advice}?")


def _plain(name: str) -> str:
    """A name as far as it tells columns apart for a person."""
    return re.sub(r"[\W_]+", "", name.lower())


@dataclass(frozen=True)
class _Record:
    """The values of a record, the places in the text where it begins and where the next line does, and whether its quotes are closed."""

    values: list[str]
    begin: int
    end: int
    closed: bool


def _records(text: str, dialect: Dialect, place: int = 0, end: int | None = None) -> Iterator[_Record]:
    """The records of a text, from a place to another, as Spark's parser finds them: blank lines and comments are none."""
    text = text[:end]
    breaks = _line_end(dialect.line_sep)
    # Where blanks before a value are none of it, a line of blanks is an empty one.
    empty = re.compile(f"[ \t]*(?:{breaks})" if dialect.skip_blanks else breaks)
    line_end, ends = re.compile(breaks), re.compile(f"{re.escape(dialect.sep)}|{breaks}")
    quote = dialect.quote
    while place < len(text):
        if found := empty.match(text, place):
            place = found.end()
            continue
        if dialect.comment and text.startswith(dialect.comment, place):
            found = line_end.search(text, place)
            place = found.end() if found else len(text)
            continue
        record, first, closed = list[str](), place, True
        while True:
            begin = place
            while dialect.skip_blanks and text[begin : begin + 1] in (" ", "\t"):
                begin += 1
            value, place = "", place
            if quote and text.startswith(quote, begin):
                closed, value, place = _quoted(text, begin + 1, dialect)
            found = ends.search(text, place)
            record.append(value + text[place : found.start() if found else len(text)])
            place = found.end() if found else len(text)
            if found is None or line_end.fullmatch(found[0]):
                break
        yield _Record(record, first, place, closed)


def _needs_its_quotes(text: str, record: _Record, dialect: Dialect) -> bool:
    """Whether a record's first value stands in quotes, and would be another one without them."""
    begin, value = text[record.begin :].lstrip(" \t" if dialect.skip_blanks else ""), record.values[0]
    special = (dialect.quote, dialect.sep, dialect.line_sep or "\n", dialect.line_sep or "\r")
    return dialect.quote != "" and begin.startswith(dialect.quote) and any(mark in value for mark in special)


def _within_quotes(quote: str, escape: str) -> re.Pattern[str]:
    """Finds what matters within quotes: a character behind an escape (``pair``), or the quote that ends them."""
    quote, escape = re.escape(quote), re.escape(escape)
    pair = f"{escape}(?:{escape}|{quote})" if escape != quote else f"{quote}{quote}"
    return re.compile(f"(?P<pair>{pair if escape else '(?!)'})|{quote}")


def _quoted(text: str, place: int, dialect: Dialect) -> tuple[bool, str, int]:
    """Whether a quoted field closes, its value so far, and the place behind its closing quote."""
    token, value = _within_quotes(dialect.quote, dialect.escape), ""
    while found := token.search(text, place):
        value, place = value + text[place : found.start()], found.end()
        if not found["pair"]:
            return True, value, place
        value += found["pair"][-1]
    return False, value + text[place:], len(text)


class _Counted:
    """What is counted of a file's bytes while it streams by: of one whose characters are bytes."""

    def __init__(self, dialect: Dialect, head: bytes) -> None:
        self._counts = dialect.single_byte
        self._quote = dialect.quote.encode("ascii") if dialect.single_byte and dialect.quote else b""
        # Of any other file, whether quotes come in pairs can only be seen by looking at all of it.
        self.quotes = 1 if dialect.quote and not dialect.single_byte else 0
        escape = dialect.escape if dialect.escape != dialect.quote else ""
        self._others = [mark.encode(dialect.encoding) for mark in (escape, dialect.comment) if mark and self._quote]
        self._has_others = False
        self.nul, self._cr, self._lf, self._crlf, self._last = False, 0, 0, 0, b""
        first = re.search(rb"\r\n?|\n", head)
        self.first_break = first[0] if first else b""
        self.add(head)

    def add(self, chunk: bytes) -> None:
        if not self._counts:
            return
        self.nul = self.nul or b"\0" in chunk
        self.quotes += chunk.count(self._quote) if self._quote else 0
        self._has_others = self._has_others or any(mark in chunk for mark in self._others)
        self._cr += chunk.count(b"\r")
        self._lf += chunk.count(b"\n")
        # A pair may lie across two chunks.
        self._crlf += chunk.count(b"\r\n") + (self._last == b"\r" and chunk[:1] == b"\n")
        self._last = chunk[-1:]

    @property
    def may_be_open(self) -> bool:
        """Whether a quote may have no partner: their number is odd, or some may be escaped or within comments."""
        return self.quotes > 0 and (self.quotes % 2 == 1 or self._has_others)

    @property
    def breaks(self) -> list[bytes]:
        """The kinds of line breaks there are, inside of quotes and outside, the first one's first."""
        lone = {b"\r\n": self._crlf, b"\n": self._lf - self._crlf, b"\r": self._cr - self._crlf}
        return sorted((kind for kind, number in lone.items() if number), key=lambda kind: kind != self.first_break)


def _open_quote(stream: BinaryIO, dialect: Dialect) -> tuple[bool, list[bytes]]:
    """Whether a file ends inside a quoted field, and the kinds of line breaks outside of quotes, the first one's first.

    A quote at the beginning of a field opens it, one that is escaped or doubled within it is one of its characters, and
    the next one closes it; a quote elsewhere is a character like others, and those in comments do not count.
    """

    def as_read(mark: str) -> str:
        return mark.encode(dialect.encoding).decode(code)

    # Where each byte is a character, the marks of the dialect are looked for as the bytes that they are.
    code = BYTES_AS_TEXT if dialect.single_byte else dialect.encoding
    quote, escape, comment = map(as_read, (dialect.quote, dialect.escape, dialect.comment))
    sep, line_sep = map(as_read, (dialect.sep, dialect.line_sep))
    mark = MARK.encode().decode(code) if dialect.single_byte else MARK
    line_end = _line_end(line_sep)
    outside, ends = re.compile(f"(?P<quote>{re.escape(quote)})|{line_end}"), re.compile(line_end)
    inside = _within_quotes(quote, escape)
    before_field = (sep, line_sep) if line_sep else (sep, "\n", "\r")
    blanks = " \t".replace(sep, "") if dialect.skip_blanks else ""
    decoder = codecs.getincrementaldecoder(code)(errors="replace")
    # What stands before a quote tells whether a field begins with it; what stands behind, whether it is doubled.
    before, ahead = 256, 8
    buffer, place, final = line_sep or "\n", len(line_sep or "\n"), False
    opened, in_comment, at_line, at_start, quotes, breaks = False, False, True, True, 0, dict[str, None]()
    while not final:
        chunk = stream.read(CHUNK_BYTES)
        final, kept = not chunk, max(0, place - before)
        text = decoder.decode(chunk, final=final)
        buffer, place = buffer[kept:] + (text.removeprefix(mark) if at_start else text), place - kept
        at_start = False
        limit = len(buffer) - (0 if final else ahead)
        while place < limit:
            if at_line:
                in_comment, at_line = comment != "" and buffer.startswith(comment, place), False
            found = (ends if in_comment else inside if opened else outside).search(buffer, place)
            if found is None or found.start() >= limit:
                place = limit
                break
            place = found.end()
            if in_comment:
                at_line = True
            elif opened:
                if not found["pair"]:
                    opened, quotes = False, quotes + 1
            elif found["quote"]:
                begin = found.start()
                while blanks and buffer[begin - 1] in blanks and begin > max(1, found.start() - before):
                    begin -= 1
                opened = buffer.endswith(before_field, 0, begin)
                quotes += 1
            else:
                breaks[found[0]], at_line = None, True
    return opened and quotes % 2 == 1, [kind.encode(code) for kind in breaks]
