"""Hostile files, each with the outcome that a sensible user expects.

One file a case, so that a case cannot hide behind another. The contract has a column of each type; a row
names the outcome: the typed values of an accepted row, the rules that a rejected one breaks, or what
became of the file.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
from dataclasses import dataclass, field
from typing import Any

COLUMNS = ["id", "kind", "amount", "ratio", "stock", "at", "day", "flag", "note"]
HEADER = ",".join(COLUMNS)
TYPES = {
    "id": "string",
    "kind": "string",
    "amount": "decimal(18,2)",
    "ratio": "double",
    "stock": "int",
    "at": "timestamp",
    "day": "date",
    "flag": "boolean",
    "note": "string",
}
LONG = "x" * 5_000_000


@dataclass(frozen=True)
class Outcome:
    accepted: list[dict[str, str | None]] = field(default_factory=list)
    rejected: list[list[str]] = field(default_factory=list)
    set_aside: str | None = None


def ok(**columns: str | None) -> Outcome:
    return Outcome(accepted=[columns])


def bad(*rules: str) -> Outcome:
    return Outcome(rejected=[list(rules)])


def aside(reason: str) -> Outcome:
    return Outcome(set_aside=reason)


def bad2(rule: str) -> Outcome:
    """Two rows that break the same rule."""
    return Outcome(rejected=[[rule], [rule]])


NOTHING, CORRUPT = Outcome(), bad("corrupt_record")


def csv(rest: str, header: str = HEADER) -> bytes:
    return f"{header}\n{rest}\n".encode()


def cell(**values: str) -> bytes:
    """A file of one row: sound, but for the given cells."""
    sound = {"id": "K", "kind": "new"}
    return csv(",".join((sound | values).get(c, "") for c in COLUMNS))


CSV_CASES: dict[str, tuple[bytes, Outcome]] = {
    # Files
    "empty": (b"", NOTHING),
    "header alone": (csv("").rstrip(b"\n"), NOTHING),
    "byte order mark": (codecs.BOM_UTF8 + cell(note="a"), ok(id="K", note="a")),
    "crlf": (cell(note="a").replace(b"\n", b"\r\n"), ok(id="K", note="a")),
    "cr": (cell(note="a").replace(b"\n", b"\r"), ok(id="K", note="a")),
    "no line break at the end": (cell(note="a").rstrip(b"\n"), ok(id="K", note="a")),
    "column named twice": (csv("K,new,1,2", "id,kind,note,note"), aside("names a column twice: 'note'")),
    "column named twice after trimming": (csv("K,new,1,2", "id,kind,note,note "), aside("names a column twice")),
    "other order of columns": (csv("new,K", "kind,id"), ok(id="K", kind="new", note=None)),
    "undeclared column": (csv("K,new,1", "id,kind,colour"), ok(id="K")),
    "required column is missing": (csv("K", "id"), bad("required:kind")),
    "key column is missing": (csv("new", "kind"), bad("required:id")),
    "utf-16": (cell(note="a").decode().encode("utf-16"), aside("NUL bytes")),
    "header in latin-1": ("id,kind,größe\nK,new,1\n".encode("latin-1"), aside("first line is not utf-8")),
    "parquet named csv": (b"PAR1\x15\x04\x15\x00\x00\x00PAR1", aside("is Parquet, which is not read here")),
    "not csv at all": (b"<html><body>502 Bad Gateway</body></html>\n", aside("none of the declared columns")),
    "one row and no header": (
        b"K,new,,,,,,,a\n",
        aside("its first row has 9 fields, and none of the declared columns: is it another file"),
    ),
    "another separator": (cell(note="a").replace(b",", b";"), aside("is sep ';'?")),
    "byte order mark before quotes": (
        codecs.BOM_UTF8 + cell(note="a").replace(b"id,", b'"id",', 1),
        ok(id="K", note="a"),
    ),
    "byte order mark and a blank line before the header": (
        codecs.BOM_UTF8 + b"\r\n" + cell(note="a").replace(b"\n", b"\r\n"),
        ok(id="K", note="a"),
    ),
    "byte order mark before a name of two lines": (
        codecs.BOM_UTF8 + csv("x,K,new", '"note\nof it",id,kind'),
        ok(id="K", note=None),
    ),
    "undecodable byte between carriage returns": (
        csv("K,new,,,,,,,a\nL,new,,,,,,,caf?\nM,new,,,,,,,c").replace(b"?", b"\xe9").replace(b"\n", b"\r"),
        Outcome([{"id": "K", "note": "a"}, {"id": "M", "note": "c"}], [["corrupt_record"]]),
    ),
    "blank line before the header": (b"\n\r\n" + cell(note="a"), ok(id="K", note="a")),
    "separators before the header": (b",,,\n  \n" + cell(note="a"), ok(id="K", note="a")),
    "separator told to excel": (b"sep=,\r\n" + cell(note="a").replace(b"\n", b"\r\n"), ok(id="K", note="a")),
    "two columns without a name": (csv("K,new,x,y", "id,kind,,"), ok(id="K")),
    "crlf header and lf rows": (
        csv("K,new,,,,,,,a\nL,new,,,,,,,b", f"{HEADER}\r"),
        Outcome([{"id": "K", "note": "a"}, {"id": "L", "note": "b"}]),
    ),
    "crlf and lf rows with a blank line": (
        csv('K,new,,,,,,,"a"\r\n\r\nL,new,,,,,,,\r\nM,new,,,,,,,c', f"{HEADER}\r"),
        Outcome([{"id": "K", "note": "a"}, {"id": "L", "note": None}, {"id": "M", "note": "c"}]),
    ),
    "lf header and crlf rows": (
        csv("K,new,,,,,,,a\r\nL,new,,,,,,,b\r"),
        Outcome([{"id": "K", "note": "a"}, {"id": "L", "note": "b"}]),
    ),
    "names of the reader's own": (
        csv("K,new,1,2,3,4,5,6,7", "id,kind,_file,_metadata,_rescued,_corrupt,lakehouse corrupt record,c0,`x`.y"),
        ok(id="K"),
    ),
    "3,000 columns": (
        csv("K,new," + ",".join(map(str, range(3000))), "id,kind," + ",".join(f"n{n}" for n in range(3000))),
        ok(id="K"),
    ),
    "10:30": (cell(note="a colon in its name"), ok(note="a colon in its name")),
    "caf\u00e9 [1] {2} *?\\ %41+#": (cell(note="a"), ok(id="K", note="a")),
    "stale checksum": (cell(note="a"), ok(id="K", note="a")),
    # Rows
    "too few fields": (csv("K,new,1"), CORRUPT),
    "too many fields": (csv("K,new" + "," * 12), CORRUPT),
    "blank line between rows": (cell(note="a") + b"\nL,new,,,,,,,\n", Outcome([{"id": "K"}, {"id": "L"}])),
    "undecodable byte in a cell": (csv("K,new,,,,,,,caf?").replace(b"?", b"\xe9"), CORRUPT),
    "quoted comma, quote and line break": (cell(note='"a,""b""\r\nc"'), ok(note='a,"b"\r\nc')),
    "quote that never ends": (csv('K,new,,,,,,,"open\nL,new,,,,,,,\nM,new,,,,,,,'), aside("a quoted field never ends")),
    "quote that never ends at the very end": (csv('K,new,,,,,,,"open').rstrip(), aside("a quoted field never ends")),
    "quote that ends early": (cell(note='"5" disk'), ok(note='"5" disk')),
    "quote in the middle": (cell(note='5" disk'), ok(note='5" disk')),
    "nul in a quoted cell": (cell(note="a\0b"), aside("NUL bytes")),
    "row of 5 MB": (cell(note=LONG), Outcome([{"id": "K", "length": "5000000"}])),
    "all cells blank": (csv(",,,,,,,,"), bad("required:id", "required:kind")),
    "injection": (cell(note="'); DROP TABLE silver.things; --"), ok(note="'); DROP TABLE silver.things; --")),
    "markup": (cell(note="<script>alert(1)</script>"), ok(note="<script>alert(1)</script>")),
    "spreadsheet formula": (cell(note="=cmd|'/c calc'!A0"), ok(note="=cmd|'/c calc'!A0")),
    "template": (cell(note="{{ 7 * 7 }} ${jndi:ldap://x} %s"), ok(note="{{ 7 * 7 }} ${jndi:ldap://x} %s")),
    "backslashes": (cell(note=r"C:\new\table"), ok(note=r"C:\new\table")),
    "emoji and right-to-left": (cell(note="🛒 שלום\u202e"), ok(note="🛒 שלום\u202e")),
    "the text null": (cell(note="null"), ok(note="null")),
    "the text NaN in text": (cell(note="NaN"), ok(note="NaN")),
    # Keys
    "blank key": (cell(id='" \t"'), bad("required:id")),
    "key in white space": (cell(id=" K\u00a0"), ok(id="K")),
    "leading zeros": (cell(id="007"), ok(id="007")),
    "key with a control character": (cell(id="K\x07K"), bad("key:id")),
    "key of 300 characters": (cell(id="k" * 300), bad("length:id")),
    "zero-width space in a key": (cell(id="\u200bK"), ok(id="\u200bK")),
    # Enumerations
    "enum in capitals": (cell(kind="NEW"), ok(kind="new")),
    "enum by alias": (cell(kind="Fresh"), ok(kind="new")),
    "enum with inner space": (cell(kind="n ew"), bad("enum:kind")),
    "unknown enum": (cell(kind="newish"), bad("enum:kind")),
    # Decimals
    "decimal in scientific notation": (cell(amount="5e0"), ok(amount="5.00")),
    "decimal comma": (cell(amount='"12,50"'), bad("cast:amount")),
    "currency": (cell(amount="$5"), bad("cast:amount")),
    "thousands separator": (cell(amount='"1,000.00"'), bad("cast:amount")),
    "decimal that overflows": (cell(amount="10000000000000000"), bad("cast:amount")),
    "decimal that would lose digits": (cell(amount="5.001"), bad("cast:amount")),
    "amount not a number": (cell(amount="NaN"), bad("cast:amount")),
    "infinite amount": (cell(amount="Infinity"), bad("cast:amount")),
    "hexadecimal": (cell(amount="0x10"), bad("cast:amount")),
    "arabic digits": (cell(amount="\u0665"), bad("cast:amount")),
    "below the minimum": (cell(amount="-0.01"), bad("range:amount")),
    # Doubles, integers, booleans
    "ratio not a number": (cell(ratio="NaN"), bad("cast:ratio")),
    "infinite ratio": (cell(ratio="-inf"), bad("cast:ratio")),
    "ratio that overflows": (cell(ratio="1e999"), bad("cast:ratio")),
    "ratio with a type suffix": (cell(ratio="1.5d"), bad("cast:ratio")),
    "ratio": (cell(ratio="-1.5e-3"), ok(ratio="-0.0015")),
    "integer that overflows": (cell(stock="2147483648"), bad("cast:stock")),
    "integer with a fraction": (cell(stock="5.0"), bad("cast:stock")),
    "flag in capitals": (cell(flag="TRUE"), ok(flag="true")),
    "flag as a word": (cell(flag="yes"), bad("cast:flag")),
    # Time
    "impossible date": (cell(at="2026-02-30"), bad("cast:at")),
    "leap day of no leap year": (cell(day="2025-02-29"), bad("cast:day")),
    "month first": (cell(at="03/01/2026"), bad("cast:at")),
    "epoch seconds": (cell(at="1772323200"), bad("cast:at")),
    "hour 25": (cell(at="2026-03-01T25:00:00"), bad("cast:at")),
    "time zone by name": (cell(at="2026-03-01T10:00:00 Europe/Berlin"), bad("cast:at")),
    "offset": (cell(at="2026-03-01T10:00:00+01:30"), ok(at="2026-03-01 08:30:00")),
    "year 9999": (cell(at="9999-12-31"), bad("range:at")),
    "before 1970": (cell(at="1969-12-31T23:59:59Z"), bad("range:at")),
    "short date": (cell(day="2026-3-1"), bad("cast:day")),
    # Several at once
    "everything wrong": (
        cell(id="K\x01", kind="x", amount="a", ratio="b", stock="c", at="d", day="e", flag="f"),
        bad("key:id", "enum:kind", "cast:amount", "cast:ratio", "cast:stock", "cast:at", "cast:day", "cast:flag"),
    ),
}


def line(**values: Any) -> bytes:
    return json.dumps({"id": "K", "kind": "new"} | values, ensure_ascii=False).encode() + b"\n"


JSON_CASES: dict[str, tuple[bytes, Outcome]] = {
    "empty": (b"", NOTHING),
    "one line": (line(amount=5.0), ok(amount="5.00")),
    "number kept to the letter": (
        b'{"id":"K","kind":"new","amount":12345678901234.10}\n',
        ok(amount="12345678901234.10"),
    ),
    "number beyond a double": (
        b'{"id":"K","kind":"new","amount":9007199254740993}\n',
        ok(amount="9007199254740993.00"),
    ),
    "null": (line(note=None), ok(note=None)),
    "nested": (line(note={"a": [1, {"b": "ü"}]}), ok(note='{"a":[1,{"b":"ü"}]}')),
    "two objects on a line": (line(note="a").strip() + line(id="L"), CORRUPT),
    "words behind": (line(note="a").strip() + b" and so on\n", CORRUPT),
    "comma behind": (line(note="a").strip() + b",\n", CORRUPT),
    "bracket behind": (line(note="a").strip() + b"]\n", CORRUPT),
    "array of objects": (b"[" + line(note="a").strip() + b"]\n", CORRUPT),
    "nothing in an array": (b"[]\n", CORRUPT),
    "scalar": (b"12\n", CORRUPT),
    "the word null": (b"null\n", CORRUPT),
    "object over several lines": (b'{"id":"K",\n"kind":"new"}\n', bad2("corrupt_record")),
    "field twice": (b'{"id":"K","id":"L","kind":"new"}\n', CORRUPT),
    "number beyond 38 digits": (b'{"id":"K","kind":"new","note":' + b"9" * 39 + b"}\n", CORRUPT),
    "number beyond a double's range": (b'{"id":"K","kind":"new","ratio":1e400}\n', CORRUPT),
    "digits that a double would lose": (b'{"id":"K","kind":"new","ratio":1.23456789012345678e5}\n', CORRUPT),
    "long digits in text": (line(note="1" * 50 + " and 1e5"), ok(note="1" * 50 + " and 1e5")),
    "quotes and digits in text": (line(note='a" ' + "1" * 50, ratio=1.5e-7), ok(note='a" ' + "1" * 50, ratio="1.5E-7")),
    "whole number as a double": (b'{"id":12345.0,"kind":"new","stock":1e2}\n', ok(id="12345", stock="100")),
    "money with an exponent": (b'{"id":"K","kind":"new","amount":1.25e3}\n', ok(amount="1250.00")),
    "negative zero": (b'{"id":"K","kind":"new","amount":-0.0}\n', ok(amount="0.00")),
    "half of a pair of surrogates": (b'{"id":"K","kind":"new","note":"\\ud83d"}\n', CORRUPT),
    "other half of a pair of surrogates": (b'{"id":"K","kind":"new","note":"\\ude00"}\n', CORRUPT),
    "pair of surrogates": (b'{"id":"K","kind":"new","note":"\\ud83d\\ude00"}\n', ok(note="\U0001f600")),
    "names of the reader's own": (
        line(_file=1, _metadata=2, _rescued=3, _corrupt=4, value=5, fields=6, text=7),
        ok(id="K"),
    ),
    "5,000 fields": (line(**{f"n{n}": n for n in range(5000)}), ok(id="K")),
    "nested 600 deep": (
        b'{"id":"K","kind":"new","note":' + b"[" * 600 + b"]" * 600 + b"}\n",
        ok(note="[" * 600 + "]" * 600),
    ),
    "blanks around": (b"  " + line(note="a").strip() + b" \t\r\n", ok(id="K", note="a")),
    "truncated": (line(note="a")[:-5], CORRUPT),
    "array at the top": (b'["K","new"]\n', CORRUPT),
    "bare word": (b"hello\n", CORRUPT),
    "single quotes": (b"{'id':'K','kind':'new'}\n", CORRUPT),
    "NaN literal": (b'{"id":"K","kind":"new","amount":NaN}\n', CORRUPT),
    "byte order mark": (codecs.BOM_UTF8 + line(note="a"), ok(note="a")),
    "part of a byte order mark": (b"\xef\xbb\n" + line(note="a"), Outcome([{"note": "a"}], [["corrupt_record"]])),
    "last byte of a byte order mark": (b"\xbf\n", CORRUPT),
    "blank line": (line(note="a") + b"\n" + line(id="L"), Outcome([{"id": "K"}, {"id": "L"}])),
    "undecodable byte": (line(note="caf?").replace(b"?", b"\xe9"), CORRUPT),
    "nul escaped in a key": (b'{"id":"K\\u0000","kind":"new"}\n', bad("key:id")),
    "line break escaped in text": (line(note="a\nb"), ok(note="a\nb")),
    "unknown field": (line(colour="red"), ok(id="K")),
    "field in other case": (b'{"ID":"K","kind":"new"}\n', bad("required:id")),
    "boolean": (line(flag=True), ok(flag="true")),
    "text for a number": (line(stock="5"), ok(stock="5")),
    "object for a number": (line(stock={"n": 5}), bad("cast:stock")),
    "line of 5 MB": (line(note=LONG), Outcome([{"id": "K", "length": "5000000"}])),
}

PACKED: dict[str, tuple[bytes, Outcome]] = {
    "sound.csv.gz": (gzip.compress(cell(note="packed")), ok(note="packed")),
    "sound.csv.bz2": (bz2.compress(cell(note="packed")), ok(note="packed")),
    "cut short.csv.gz": (
        gzip.compress(csv("\n".join(f"K{n},new,,,,,,,{n * 7919}" for n in range(20_000))))[:-4000],
        aside(""),
    ),
    "not packed.csv.gz": (cell(note="a"), aside("is named .gz, but is not packed so")),
    "zip.csv": (b"PK\x03\x04" + bytes(30), aside("is zip, which is not read here")),
}

FILES = {
    **{f"hostile/csv/{name}.csv": case for name, case in CSV_CASES.items()},
    **{f"hostile/json/{name}.jsonl": case for name, case in JSON_CASES.items()},
    **{f"hostile/csv/{name}": case for name, case in PACKED.items()},
}
IGNORED = (
    "hostile/csv/.stale checksum.csv.crc",
    "hostile/csv/_SUCCESS",
    "hostile/csv/.hidden.csv",
    "hostile/csv/half.csv.part",
    "hostile/csv/half.tmp",
)
