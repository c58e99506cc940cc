"""Which columns an input's bronze table has, and what becomes of those that a file has beyond them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

from lakehouse.context import Context
from lakehouse.sources import ON_THEIR_WAY, Input


def undeclared(source: Input, names: Sequence[str]) -> list[str]:
    """Columns of a file that the source does not declare; letter case counts."""
    return [n for n in names if n not in source.columns]


def widened(source: Input, names: Sequence[str]) -> Input:
    """The input, with a file's new columns declared if its schema_mode is evolve.

    A name that a table cannot take stays with the rescued ones.
    """
    if source.schema_mode != "evolve":
        return source
    taken = {c.lower() for c in source.columns}
    others = undeclared(source, names)
    fit = [n for n in others if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", n) and n.lower() not in taken]
    return dataclasses.replace(source, columns=(*source.columns, *fit))


def inferred(context: Context, source: Input, headers: Iterable[tuple[str, ...]]) -> Input:
    """The input; one that declares no columns gets those of its bronze table, or all that its first files have.

    It still has none when no name can be used.
    """
    if source.columns:
        return source
    table = f"bronze.{source.name}"
    found: list[str] = []
    if context.warehouse.exists(table):
        found = [c for c in context.warehouse.read(table).columns if not c.startswith("_")]
    if not found:
        by_lower: dict[str, str] = {}
        for name in (n for header in headers for n in header if n and not n.startswith("_") and n not in ON_THEIR_WAY):
            by_lower.setdefault(name.lower(), name)
        found = list(by_lower.values())
    return dataclasses.replace(source, columns=tuple(found))
