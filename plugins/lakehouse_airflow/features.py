"""What gold.customer_features holds: its columns as the contract describes them, their figures, one customer's row and events."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lakehouse_airflow.lake import Lake, literal
from lakehouse_airflow.suite import Column, Contract

TABLE = "gold.customer_features"
NUMBERS = ("int", "bigint", "double", "decimal")


@dataclass(frozen=True)
class Figures:
    """Of a feature in a snapshot; those of numbers are None for other columns, or without a value.

    Attributes:
        missing: share of the customers that have no value.
        spread: standard deviation.
    """

    missing: float
    least: float | None = None
    middle: float | None = None
    mean: float | None = None
    most: float | None = None
    spread: float | None = None

    def moved(self, before: Figures | None) -> float | None:
        """By how many of the earlier standard deviations the mean has moved; None if that says nothing."""
        if before is None or self.mean is None or before.mean is None or not before.spread:
            return None
        return (self.mean - before.mean) / before.spread


def described(contract: Contract | None) -> list[Column]:
    """The contract's columns but for the keys; none without a contract."""
    return [c for c in contract.columns if not c.key] if contract else []


def figures(lake: Lake, features: list[Column], as_of: datetime) -> dict[str, Figures]:
    """Figures of the features that the table has, in the snapshot as of an instant."""
    there = {name for name, _ in lake.columns(TABLE)}
    features = [f for f in features if f.name in there]
    if not features:
        return {}
    asked = []
    for n, f in enumerate(features):
        asked.append(f'count("{f.name}") AS there_{n}')
        if f.type.lower().startswith(NUMBERS):
            value = f'CAST("{f.name}" AS DOUBLE)'
            asked += [f"min({value}) AS least_{n}", f"max({value}) AS most_{n}", f"avg({value}) AS mean_{n}"]
            asked += [f"median({value}) AS middle_{n}", f"stddev_pop({value}) AS spread_{n}"]
    query = f"SELECT count(*) AS everyone, {', '.join(asked)} FROM t WHERE {_snapshot(as_of)}"  # noqa: S608
    (row,) = lake.select(query, TABLE)
    found = {}
    for n, f in enumerate(features):
        numbers = {k: row.get(f"{k}_{n}") for k in ("least", "middle", "mean", "most", "spread")}
        found[f.name] = Figures(1 - row[f"there_{n}"] / row["everyone"] if row["everyone"] else 0.0, **numbers)
    return found


def customer(lake: Lake, customer_id: str, as_of: datetime) -> dict[str, Any] | None:
    """A customer's row in a snapshot; None if it has none."""
    query = f"SELECT * FROM t WHERE customer_id = {literal(customer_id)} AND {_snapshot(as_of)}"  # noqa: S608
    return next(iter(lake.select(query, TABLE)), None)


def timeline(lake: Lake, customer_id: str, most: int = 50) -> list[dict[str, Any]]:
    """A customer's newest events in silver, the newest first: at, what, product_id, detail."""
    events = {
        "silver.transactions": "SELECT date AS at, transaction_status AS what, product_id, CAST(amount AS VARCHAR) AS detail",
        "silver.interactions": 'SELECT "timestamp" AS at, interaction_type AS what, product_id, page AS detail',
    }
    there = lake.names()
    rest = f"FROM t WHERE customer_id = {literal(customer_id)} ORDER BY at DESC LIMIT {most}"
    with ThreadPoolExecutor(len(events)) as pool:
        answers = [pool.submit(lake.select, f"{select} {rest}", t) for t, select in events.items() if t in there]
        found = [event for answer in answers for event in answer.result()]
    return sorted(found, key=lambda e: e["at"], reverse=True)[:most]


def _snapshot(as_of: datetime) -> str:
    return f"as_of = TIMESTAMP '{as_of:%Y-%m-%dT%H:%M:%S.%f}Z'"
