"""How the tables fare: whether they are as fresh as their contracts promise, and what maintenance would do about their files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from lakehouse_airflow.lake import Lake, State, Table
from lakehouse_airflow.suite import Contract, Contracts, Layout, Need, commit, layout, need

COMMITS = 1_000
"""How far back a table's last clustering is looked for, as optimize does."""


@dataclass(frozen=True)
class Freshness:
    """Of a table with a promise.

    Attributes:
        newest: when its source has brought rows last, or a snapshot was made.
        limit: how old that may be.
    """

    table: str
    newest: datetime
    limit: timedelta

    def late(self, now: datetime) -> bool:
        return now - self.newest > self.limit


def freshness(found: State, contracts: Mapping[str, Contract]) -> list[Freshness]:
    """Of each table of silver and gold whose contract promises one, and that has ever had rows."""
    arrived = {a["entity"]: a["at"] for a in found.arrivals}
    made = max((s["made_at"] for s in found.snapshots if s["state"] == "published"), default=None)
    told = []
    for name, contract in contracts.items():
        newest = made if contract.layer == "gold" else arrived.get(name)
        if contract.freshness_hours and newest and f"{contract.layer}.{name}" in found.tables:
            told.append(Freshness(f"{contract.layer}.{name}", newest, timedelta(hours=contract.freshness_hours)))
    return told


class Health:
    """What each table's files need; worked out once for each version."""

    def __init__(self, lake: Lake, contracts: Contracts) -> None:
        self._lake, self._contracts = lake, contracts
        self._known: dict[str, tuple[int, Need]] = {}

    def need(self, table: Table) -> Need:
        """By the rule by which optimize decides."""
        version, known = self._known.get(table.name, (-1, None))
        if known is None or version != table.version:
            contract = self._contracts.of(table.name)
            known = need(self._layout(table), contract.z_order_by if contract else ())
            self._known[table.name] = table.version, known
        return known

    def _layout(self, table: Table) -> Layout:
        opened = self._lake.opened(table.name)
        commits = [
            commit(h["operation"], h.get("operationParameters") or {}, h.get("operationMetrics") or {})
            for h in opened.history(COMMITS)
        ]
        return layout(
            self._lake.files(table.name), len(opened.metadata().partition_columns), table.size, commits, table.rows
        )
