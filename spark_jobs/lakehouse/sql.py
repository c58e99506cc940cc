"""Names and values as SQL text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal


def quote(identifier: str) -> str:
    """A name as SQL text, whatever characters it has."""
    return "`" + identifier.replace("`", "``") + "`"


def literal(value: object) -> str:
    """A value of a row as SQL text. Delta's parser takes no parameters, and prunes files by literals only.

    Raises:
        TypeError: a value of a type that no key has.
    """
    match value:
        case None:
            return "NULL"
        case bool() | int():
            return str(value)
        case str():
            # Where the session's settings are not ours, ${...} in a statement's text is replaced, within literals too.
            return "'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("$", "\\u0024") + "'"
        case bytes() | bytearray():
            return f"X'{value.hex()}'"
        case Decimal():
            return f"{value:f}BD"
        case float():
            return f"CAST('{value!r}' AS DOUBLE)"
        case datetime():
            return f"TIMESTAMP '{value.astimezone(UTC).isoformat(sep=' ', timespec='microseconds')}'"
        case date():
            return f"DATE '{value.isoformat()}'"
    raise TypeError(f"no SQL literal for {type(value).__name__}")


def assignments(columns: Sequence[str]) -> str:
    """What a MERGE of ``s`` into ``t`` sets in a row that is there."""
    return ", ".join(f"t.{quote(c)} = s.{quote(c)}" for c in columns)


def insertion(columns: Sequence[str]) -> str:
    """The INSERT of such a MERGE."""
    values = ", ".join(f"s.{quote(c)}" for c in columns)
    return f"INSERT ({', '.join(map(quote, columns))}) VALUES ({values})"  # noqa: S608


def same_key(keys: Sequence[str], key_range: tuple[object, object] | None, among: Sequence[object] = ()) -> str:
    """SQL that joins ``t`` and ``s`` by key.

    Args:
        key_range: files of ``t`` whose first key is out of this range are not read.
        among: rows of ``t`` whose first key is none of these are left out before the join. All keys of ``s`` must be in it, or
            it is empty: a key that is missing would be taken for new.
    """
    on = [f"t.{quote(k)} = s.{quote(k)}" for k in keys]
    if key_range is not None:
        on.append(f"t.{quote(keys[0])} BETWEEN {literal(key_range[0])} AND {literal(key_range[1])}")
    if among:
        on.append(f"t.{quote(keys[0])} IN ({', '.join(map(literal, among))})")
    return " AND ".join(on)
