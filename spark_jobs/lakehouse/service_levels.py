"""What a contract promises by ``slaProperties``, read in one way by the stages, the pages and the DAGs.

Of Python's own modules alone, and of none of ours: a DAG file, which imports nothing of the stages, runs this one by its path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

UNITS = {
    **dict.fromkeys(("m", "min", "minute", "minutes"), timedelta(minutes=1)),
    **dict.fromkeys(("h", "hr", "hour", "hours"), timedelta(hours=1)),
    **dict.fromkeys(("d", "day", "days"), timedelta(days=1)),
    **dict.fromkeys(("w", "week", "weeks"), timedelta(weeks=1)),
    **dict.fromkeys(("y", "yr", "year", "years"), timedelta(days=365)),
}
"""The units of a service level, in any letter case."""


def promised(levels: Iterable[Mapping[str, Any]] | None, name: str) -> timedelta | None:
    """The span that the first level of a name promises; None if there is none.

    Args:
        levels: ``slaProperties`` as the contract's YAML has them.
        name: ``freshness`` or ``retention``.

    Raises:
        ValueError: its value or its unit is none; the message tells which are.
    """
    for level in levels or ():
        if level.get("property") != name or level.get("value") is None:
            continue
        unit = UNITS.get(str(level.get("unit")).lower())
        if unit is None:
            raise ValueError(f"{name} has the unit '{level.get('unit')}'; use one of {', '.join(UNITS)}")
        try:
            span = float(level["value"]) * unit
        except (TypeError, ValueError, OverflowError):
            span = timedelta(0)
        if span <= timedelta(0):
            raise ValueError(f"{name} has the value '{level['value']}'; write a number above 0")
        return span
    return None
