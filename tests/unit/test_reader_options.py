"""What a source may tell a reader: options by their names, values without escapes, and why others are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lakehouse.errors import ConfigurationError
from lakehouse.reader_options import ALLOWED, checked


def option(format_: str, **options: str) -> dict[str, str]:
    return dict(checked(format_, options, "here"))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"\t", "\t"), ("\t", "\t"), ("||", "||"), (r"\u0001", "\x01"), (r"\x1f", "\x1f"), (r"\\", "\\"), ("\\", "\\"),
        (r"\t|\t", "\t|\t"), ("§", "§"), (";", ";"),
    ],
)  # fmt: skip
def test_separators_are_the_characters_that_people_mean(written: str, meant: str) -> None:
    assert option("csv", sep=written) == {"sep": meant}


@pytest.mark.parametrize(
    ("format_", "name", "value", "words"),
    [
        ("csv", "seperator", ";", "There is no such option for csv; is sep meant?"),
        ("csv", "ecoding", "utf-8", "is encoding meant?"),
        ("csv", "frobnicate", "1", "There is no such option for csv; there are: sep, quote, escape"),
        ("csv", "Header", "false", "write header: none"),
        ("csv", "delimiter", ";", "Call it sep."),
        ("csv", "multiLine", "false", "quoted line breaks are always read"),
        ("json", "multiLine", "true", "deliver JSON lines"),
        ("csv", "mode", "DROPMALFORMED", "Bad lines always go to quarantine"),
        ("csv", "maxColumns", "2", "Rows have no such limit"),
        ("csv", "modifiedAfter", "2999-01-01", "Each file below the path is loaded once"),
        ("csv", "pathGlobFilter", "*.csv", "Write it as the input's pattern."),
        ("parquet", "mergeSchema", "false", "Files with different columns are always read"),
        ("json", "ignoreCorruptFiles", "true", "never passed over in silence"),
        ("json", "sep", ";", "There is no such option for json"),
        ("json", "dropFieldIfAllNull", "true", "Values are kept as text"),
        ("json", "encoding", "UTF-16", "Of json, utf-8, us-ascii, iso-8859-1 are read"),
        ("csv", "encoding", "klingon", "Of csv, utf-8"),
        ("csv", "quote", "''", "Name one character"),
        ("csv", "escape", "", None),
        ("csv", "comment", "//", "Name one character"),
        ("csv", "sep", "", "Name the characters between two fields"),
        ("csv", "sep", "\n", "Name the characters between two fields"),
        ("csv", "sep", r"\q", "Escapes are"),
        ("csv", "sep", '"', "not all different"),
        ("csv", "sep", r"\ud800", "utf-8 has no such character"),
        ("csv", "lineSep", "abc", "Name the one or two characters"),
        ("kafka", "kafka.sasl.jaas.config", "x", "how to reach Kafka stands in the file"),
        ("kafka", "endingOffsets", "latest", "Offsets are the suite's"),
        ("kafka", "cloudFiles.region", "x", "There is no such option for kafka"),
    ],
)  # fmt: skip
def test_what_would_lose_something_or_is_not_there_is_refused(
    format_: str, name: str, value: str, words: str | None
) -> None:
    if words is None:
        assert option(format_, **{name: value})
        return
    with pytest.raises(ConfigurationError, match=r"^here") as error:
        option(format_, **{name: value})
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("encoding", "name", "value"), [("iso-8859-1", "sep", "\u2016"), ("us-ascii", "quote", "\u00ab")]
)
def test_an_encoding_has_the_characters_of_the_other_options(encoding: str, name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{encoding} has no such character"):
        option("csv", encoding=encoding, **{name: value})
    assert option("csv", **{name: value}) == {name: value}


def test_sep_quote_and_comment_are_different() -> None:
    with pytest.raises(ConfigurationError, match="not all different"):
        option("csv", sep=";", comment=";")


@given(format_=st.sampled_from(sorted(ALLOWED)), name=st.text(max_size=12), value=st.text(max_size=4))
def test_whatever_is_written_is_taken_or_refused(format_: str, name: str, value: str) -> None:
    try:
        taken = option(format_, **{name: value})
    except ConfigurationError:
        return
    assert all(n in ALLOWED[format_] or n.startswith("cloudFiles.") for n in taken)
