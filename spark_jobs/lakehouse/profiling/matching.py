"""Which received column is which of a contract's: a guess by names and values, for a person to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from lakehouse.contracts import Column, Contract
from lakehouse.profiling.measure import Figures
from lakehouse.profiling.proposal import plain_name
from lakehouse.sql import quote

MEANS = {
    **dict.fromkeys(("no", "nr", "num", "number", "key", "code", "identifier"), ("id",)),
    **dict.fromkeys(("client", "buyer", "user", "visitor", "shopper", "member", "account", "cust"), ("customer",)),
    **dict.fromkeys(("item", "article", "goods"), ("product",)),
    **dict.fromkeys(("sku", "asin", "ean"), ("product", "id")),
    **dict.fromkeys(("total", "sum", "value", "paid", "revenue", "turnover"), ("amount",)),
    **dict.fromkeys(("at", "time", "timestamp", "datetime", "when", "ts"), ("date",)),
    **dict.fromkeys(("signup", "signed", "joined", "registered", "created"), ("registration",)),
    **dict.fromkeys(("stock", "inventory", "quantity"), ("stock", "availability")),
    **dict.fromkeys(("event", "action", "activity"), ("interaction",)),
    **dict.fromkeys(("department", "group"), ("category",)),
    **dict.fromkeys(("url", "path"), ("page",)),
    **{"state": ("status",), "kind": ("type",), "invoice": ("order",), "nation": ("country",), "channel": ("source",)},
}
"""What words of column names mean in the words of the contracts."""
SURE, READABLE = 0.5, 0.9
"""The score from which names are alike, and the share of the values that must be of the contract's type."""


@dataclass(frozen=True)
class Match:
    """A column of a contract, and the received one that may be it; None where none looks like it.

    ``remark`` says what to look at, if anything.
    """

    column: Column
    received: str | None
    remark: str = ""


def match(contract: Contract, figures: Sequence[Figures], unique: str | None, key: str | None = None) -> list[Match]:
    """Of each column of a contract the received column that looks most like it; none is taken for two, but the key.

    Args:
        unique: the received column whose values are always given and never the same, if there is one.
        key: the received column that a person has named as the key.
    """
    scores = sorted(
        ((_score(contract, c, f), -n, c.name, f) for c in contract.columns for n, f in enumerate(figures)),
        key=lambda s: s[:2],
        reverse=True,
    )
    found: dict[str, tuple[Figures, float]] = {}
    for score, _, name, f in scores:
        if score >= SURE and name not in found and f.name not in {taken.name for taken, _ in found.values()}:
            found[name] = f, score
    taken = {f.name for f, _ in found.values()}
    instants = [
        f
        for f in figures
        if f.name not in taken and f.given and f.reads_as["timestamp"] >= READABLE * f.given and not _is_number(f)
    ]
    return [
        Match(c, key, "as asked for") if c.key and key else _match(c, found.get(c.name), unique, instants)
        for c in contract.columns
    ]


def _match(column: Column, found: tuple[Figures, float] | None, unique: str | None, instants: list[Figures]) -> Match:
    if found is not None:
        f, score = found
        known = {v.lower() for v in (*column.enum, *(alias for alias, _ in column.aliases))}
        strange = [v for v in f.values if v.lower() not in known] if column.enum else []
        if column.enum and not f.values:
            return Match(column, f.name, f"received are many values; allowed are {', '.join(column.enum)}")
        if strange:
            return Match(column, f.name, f"received are {', '.join(strange[:5])}; allowed are {', '.join(column.enum)}")
        return Match(column, f.name, "" if score == 1 else "by its name, nearly")
    if column.key and unique:
        return Match(column, unique, "by its values: always given, never twice")
    if column.required and column.type == "timestamp" and len(instants) == 1:
        return Match(column, instants[0].name, "the only instant there is")
    if not column.required and not column.key:
        return Match(column, None)
    allowed = f", one of {', '.join(column.enum)}" if column.enum else ""
    kind = "the key" if column.key else "required"
    remark = f"{kind}{allowed}: nothing received looks like it; write a column or a text such as 'unknown'"
    return Match(column, None, remark)


def select(input_name: str, matches: Sequence[Match], received: Sequence[str]) -> str:
    """The SELECT to a contract's columns, with remarks for the person who edits it."""
    used = {m.received for m in matches}
    rest = [r for r in received if r not in used]
    head = ["-- Proposed from a profile, by names and values: look at each line."]
    head += [f"-- Received and not used: {', '.join(' '.join(r.split()) for r in rest)}"] if rest else []
    given = [m for m in matches if m.received is not None or m.column.required or m.column.key]
    lines = []
    for n, m in enumerate(given):
        value = quote(m.received) if m.received is not None else "NULL"
        comma = "," if n < len(given) - 1 else ""
        remark = f"  -- {' '.join(m.remark.split())}" if m.remark else ""
        lines.append(f"  {value} AS {m.column.name}{comma}{remark}")
    return "\n".join([*head, "SELECT", "  _row,", *lines, f"FROM {input_name}"]) + "\n"


def _score(contract: Contract, column: Column, f: Figures) -> float:
    """From 0 to 1: how much a received column looks like one of the contract's."""
    if not f.given or not _reads(column, f):
        return 0.0
    own = _words(contract.name.removesuffix("s"))
    wanted, got = _words(column.name), _words(f.name)
    score = len(wanted & got) / len(wanted | got)
    # A customer's `type` is its customer_type, and an order's `order_country` its country.
    for left, right in ((wanted - own, got), (wanted, got - own)):
        if left and left == right:
            score = max(score, 0.9)
    near = SequenceMatcher(None, column.name, plain_name(f.name)).ratio()
    return max(score, near if near >= 0.85 and near < 1 else 0.0)


def _words(name: str) -> frozenset[str]:
    return frozenset(meant for word in plain_name(name).split("_") for meant in MEANS.get(word, (word,)))


def _reads(column: Column, f: Figures) -> bool:
    type_ = column.type.partition("(")[0]
    read = {"string": f.given, "decimal": f.reads_as["double"], "date": f.reads_as["timestamp"]}
    return read.get(type_, f.reads_as.get(type_, f.given)) >= READABLE * f.given


def _is_number(f: Figures) -> bool:
    return f.reads_as["double"] >= READABLE * f.given
