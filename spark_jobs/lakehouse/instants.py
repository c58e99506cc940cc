"""Instants, as people write them and as numbers."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from lakehouse.errors import UsageError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def of_micros(micros: int) -> datetime:
    """The instant so many microseconds after 1970 in UTC."""
    return EPOCH + timedelta(microseconds=micros)


def instant(text: str) -> datetime:
    """An ISO 8601 instant or date as an aware datetime in UTC; raises UsageError.

    Windows are counted back from it, and horizons forth: it stays away from the ends of Python's calendar.
    """
    try:
        if not re.match(r"\d{4}-\d{2}-\d{2}", text):
            raise ValueError(text)
        value = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise UsageError(
            f"'{text}' is not an instant", todo="Write 2026-03-01 or 2026-03-01T12:00:00+00:00."
        ) from error
    value = value.replace(tzinfo=value.tzinfo or UTC)
    if not 1970 <= value.year < 9000 or value.astimezone(UTC).year < 1970:
        raise UsageError(f"'{text}' is no instant of a shop's events", todo="Write one from 1970 to 8999.")
    return value.astimezone(UTC)
