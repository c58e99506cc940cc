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
    **dict.fromkeys(("total", "sum", "value", "gross", "revenue", "turnover"), ("amount",)),
    **dict.fromkeys(("paid", "pay"), ("payment",)),
    **dict.fromkeys(("with", "by"), ("method",)),
    **dict.fromkeys(("at", "time", "timestamp", "datetime", "when", "ts"), ("date",)),
    **dict.fromkeys(("signup", "signed", "joined", "registered", "created"), ("registration",)),
    **dict.fromkeys(("stock", "inventory", "quantity"), ("stock", "availability")),
    **dict.fromkeys(("event", "action", "activity"), ("interaction",)),
    **dict.fromkeys(("department", "group"), ("category",)),
    **dict.fromkeys(("url", "path"), ("page",)),
    **{"state": ("status",), "kind": ("type",), "invoice": ("order",), "nation": ("country",), "channel": ("source",)},
}
"""What words of column names mean in the words of the contracts."""
QUANTITY, PRICE = frozenset({"quantity", "qty", "units", "pieces"}), frozenset({"price"})
"""Words of the names of columns whose product is an amount."""
SURE, READABLE, MOSTLY = 0.5, 0.5, 0.9
"""The score from which names are alike; the share of the values that must be of the contract's type for a column with such a name,
and for one that is chosen by its values alone."""


@dataclass(frozen=True)
class Match:
    """A column of a contract, and the received one that may be it; None where none looks like it.

    ``remark`` says what to look at, if anything; ``expression`` is SQL of several received columns instead of one.
    """

    column: Column
    received: str | None
    remark: str = ""
    expression: str = ""


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
    rest = [f for f in figures if f.name not in {taken.name for taken, _ in found.values()}]
    return [
        Match(c, key, "as asked for") if c.key and key else _match(c, found.get(c.name), unique, rest)
        for c in contract.columns
    ]


def instants(figures: Sequence[Figures]) -> list[str]:
    """The received columns whose values are instants."""
    return [f.name for f in figures if _is_instant(f)]


def _match(column: Column, found: tuple[Figures, float] | None, unique: str | None, rest: Sequence[Figures]) -> Match:
    if found is not None:
        f, score = found
        return Match(column, f.name, _doubts(column, f) or ("" if score == 1 else "by its name, nearly"))
    if column.key and unique:
        return Match(column, unique, "by its values: always given, never twice")
    if not column.required and not column.key:
        return Match(column, None)
    product = _product(column, rest)
    if product is not None:
        return product
    by_values = _by_values(column, rest)
    if by_values is not None:
        f, why = by_values
        return Match(column, f.name, "; ".join(filter(None, (why, _doubts(column, f)))))
    kind = "the key" if column.key else "required"
    if column.enum:
        kind, todo = f"{kind}, one of {', '.join(column.enum)}", "write one of them, or an expression that gives them"
    elif column.type == "string":
        todo = "write a column, or a text such as 'unknown'"
    else:
        kind = f"{kind}, {column.type}"
        todo = "write a column, or computed(EXPRESSION, array(COLUMN, ...)) with try_ functions in the expression"
    return Match(column, None, f"{kind}: nothing received looks like it; {todo}")


def _product(column: Column, rest: Sequence[Figures]) -> Match | None:
    """An amount as quantity times price, where both are received and it is not."""
    if "amount" not in _words(column.name) or not column.type.startswith("decimal"):
        return None

    def numbers(words: frozenset[str]) -> list[Figures]:
        return [f for f in rest if words & set(plain_name(f.name).split("_")) and _share(f, "double") >= MOSTLY]

    quantities, prices = numbers(QUANTITY), numbers(PRICE)
    if len(quantities) != 1 or len(prices) != 1 or quantities == prices:
        return None
    q, p = (quote(f.name) for f in (*quantities, *prices))
    exact = f"try_cast({q} AS DECIMAL(18, 3)) * try_cast({p} AS DECIMAL(18, 4))"
    return Match(column, None, "quantity times price: look at it", f"computed(round({exact}, 2), array({q}, {p}))")


def _by_values(column: Column, rest: Sequence[Figures]) -> tuple[Figures, str] | None:
    """The one column that can be meant, whatever its name, and why."""
    if column.enum:
        known = _allowed(column)
        fits = [f for f in rest if f.values and 2 * sum(v.lower() in known for v in f.values) >= len(f.values)]
        why = "by its values"
    elif column.type == "timestamp":
        fits, why = [f for f in rest if _is_instant(f)], "the only instant there is"
    elif column.type.startswith("decimal"):
        fits, why = [f for f in rest if f.places and _share(f, "double") >= MOSTLY], "the only number with decimals"
    else:
        return None
    return (fits[0], why) if len(fits) == 1 else None


def _doubts(column: Column, f: Figures) -> str:
    """What a received column has that the contract does not allow."""
    if column.enum and not f.values:
        return f"received are many values; allowed are {', '.join(column.enum)}"
    strange = [v for v in f.values if v.lower() not in _allowed(column)] if column.enum else []
    if strange:
        return f"received are also {', '.join(strange[:5])}; allowed are {', '.join(column.enum)}"
    share = _read(column, f) / f.given
    return f"{share:.1%} of the values can be read as {column.type}" if share < 1 else ""


def _allowed(column: Column) -> set[str]:
    return {v.lower() for v in (*column.enum, *(alias for alias, _ in column.aliases))}


def select(input_name: str, matches: Sequence[Match], received: Sequence[str], sequence: str | None = None) -> str:
    """The SELECT to a contract's columns, with remarks for the person who edits it.

    Args:
        sequence: the received column that orders the rows of a key, if that is known.
    """
    used = {m.received for m in matches}
    expressions = [m.expression for m in matches if m.expression]
    rest = [r for r in received if r not in used and not any(quote(r) in e for e in expressions)]
    head = ["-- Proposed from a profile, by names and values: look at each line."]
    head += [f"-- Received and not used: {', '.join(' '.join(r.split()) for r in rest)}"] if rest else []
    given = [m for m in matches if m.received is not None or m.expression or m.column.required or m.column.key]
    parts = []
    for m in given:
        value = quote(m.received) if m.received is not None else m.expression or "NULL"
        parts.append((f"{value} AS {m.column.name}", " ".join(m.remark.split())))
    if sequence is not None:
        parts.append((f"{quote(sequence)} AS _sequence", "of the rows of a key, the latest counts"))
    lines = [
        f"  {text}{',' if n < len(parts) - 1 else ''}{f'  -- {remark}' if remark else ''}"
        for n, (text, remark) in enumerate(parts)
    ]
    return "\n".join([*head, "SELECT", "  _row,", *lines, f"FROM {input_name}"]) + "\n"


def _score(contract: Contract, column: Column, f: Figures) -> float:
    """From 0 to 1: how much a received column looks like one of the contract's."""
    if not f.given or _read(column, f) < READABLE * f.given:
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


def _read(column: Column, f: Figures) -> int:
    """How many values can be read as the column's type."""
    type_ = column.type.partition("(")[0]
    read = {"string": f.given, "decimal": f.reads_as["double"], "date": f.reads_as["timestamp"]}
    return read.get(type_, f.reads_as.get(type_, f.given))


def _is_instant(f: Figures) -> bool:
    return _share(f, "timestamp") >= MOSTLY and _share(f, "double") < MOSTLY


def _share(f: Figures, type_: str) -> float:
    return f.reads_as[type_] / f.given if f.given else 0.0
