"""What a table must look like, as far as this suite acts on it: the model that the stages work with.

``odcs`` reads it from Open Data Contract Standard files.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lakehouse.errors import ConfigurationError, UsageError
from lakehouse.sql import quote

REJECT, WARN, FAIL = "reject", "warn", "fail"
SEVERITIES = (REJECT, WARN, FAIL)
KINDS = {"required": REJECT, "cast": REJECT, "enum": REJECT, "range": REJECT, "length": WARN, "pattern": WARN}
"""The kinds of rules that a column declares, with the severity each has unless the contract says otherwise."""
SEQUENCE_DDL = "STRUCT<at: TIMESTAMP, deleted: BOOLEAN, received: TIMESTAMP, file: STRING, block: BIGINT, row: BIGINT>"
"""The total order of a key's versions: the source's instant, deletions last, then arrival and position."""


@dataclass(frozen=True)
class Column:
    """One column of a contract. ``type`` is the Spark SQL type."""

    name: str
    type: str
    description: str = ""
    key: bool = False
    required: bool = False
    unique: bool = False
    enum: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    minimum: str | None = None
    maximum: str | None = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None
    max_days_ahead: int | None = None
    default: str | None = None
    merge: str = "latest"
    references: tuple[str, str] | None = None
    on_orphan: str = "accept"
    personal: bool = False
    severities: tuple[tuple[str, str], ...] = ()
    fail_above: float = 0.0

    def severity(self, kind: str) -> str:
        """What breaking a rule of this kind does to a row; a broken key always rejects it."""
        return REJECT if self.key else dict(self.severities).get(kind, KINDS[kind])


@dataclass(frozen=True)
class Rule:
    """A SQL expression over the contract's columns that must be true for every row.

    ``fail_above`` is the share of a batch's rows that may break it before the batch is refused, for
    the severity fail.
    """

    name: str
    expression: str
    severity: str
    message: str
    fail_above: float = 0.0


@dataclass(frozen=True)
class Contract:
    """What one silver or gold table must look like."""

    name: str
    layer: str
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...] = ()
    description: str = ""
    merge_mode: str = "history"
    partition_by: tuple[str, ...] = ()
    z_order_by: tuple[str, ...] = ()
    max_rejected_share: float | None = None
    min_rows_to_refuse: int = 100
    retention_days: int | None = None
    weekly_after_days: int | None = None
    monthly_after_days: int | None = None
    freshness_hours: float | None = None
    fingerprint: str = field(default="", compare=False)

    @property
    def keys(self) -> list[str]:
        return [c.name for c in self.columns if c.key]

    @property
    def column_names(self) -> list[str]:
        return [c.name for c in self.columns]

    @property
    def parents(self) -> list[str]:
        """Names of the entities that this one's foreign keys point to."""
        return sorted({c.references[0] for c in self.columns if c.references})

    def merged_by(self, behaviour: str) -> list[str]:
        """The non-key columns with the merge behaviour latest, least or greatest."""
        return [c.name for c in self.columns if not c.key and c.merge == behaviour]

    def ddl(self) -> str:
        """The columns as a Spark DDL string."""
        return ", ".join(f"{quote(c.name)} {c.type}" for c in self.columns)


def entities(contracts: dict[str, Contract]) -> dict[str, Contract]:
    """The silver contracts, parents before the tables that refer to them."""
    silver = {n: c for n, c in contracts.items() if c.layer == "silver"}
    ordered: dict[str, Contract] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise ConfigurationError(f"foreign keys form a circle: {' -> '.join((*path, name))}", where=name)
        if name in silver and name not in ordered:
            for parent in silver[name].parents:
                visit(parent, (*path, name))
            ordered[name] = silver[name]

    for name in silver:
        visit(name, ())
    return ordered


def select_entities(entities: dict[str, Contract], only: list[str]) -> dict[str, Contract]:
    """The entities named by ``only``; all of them when it is empty. Raises UsageError for a name that is none."""
    for name in only:
        if name not in entities:
            raise UsageError(f"--only {name}: no such entity", todo=f"Known are: {', '.join(entities)}.")
    return {n: c for n, c in entities.items() if not only or n in only}
