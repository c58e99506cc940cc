"""How the tables fare: whether they are as fresh as their contracts promise, and what maintenance would do about their files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from lakehouse_airflow.lake import Lake, State, Table
from lakehouse_airflow.suite import COMMITS, OPERATIONS, Contract, Contracts, Layout, Need, commit, layout, need


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
    made = max((s["made_at"] for s in found.snapshots if s["state"] != "expired"), default=None)
    told = []
    for name, contract in contracts.items():
        newest = made if contract.layer == "gold" else arrived.get(name)
        if contract.freshness_hours and newest and f"{contract.layer}.{name}" in found.tables:
            told.append(Freshness(f"{contract.layer}.{name}", newest, timedelta(hours=contract.freshness_hours)))
    return told


class Health:
    """What each table's files need; worked out once for each version of the table and of its contract."""

    def __init__(self, lake: Lake, contracts: Contracts) -> None:
        self._lake, self._contracts = lake, contracts
        self._known: dict[str, tuple[tuple[int, str], Need]] = {}

    def need(self, table: Table) -> Need | None:
        """By the rule by which optimize decides; None for a table that it does not tend, such as a training set."""
        contract = self._contracts.of(table.name)
        if (table.layer in ("silver", "gold") and not contract) or (
            table.layer == "ops" and table.name not in OPERATIONS
        ):
            return None
        state = table.version, contract.fingerprint if contract else ""
        before, known = self._known.get(table.name, (None, None))
        if known is None or before != state:
            known = need(self._layout(table), contract.z_order_by if contract else ())
            self._known[table.name] = state, known
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
