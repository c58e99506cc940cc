"""Which snapshots gold has, in ``ops.snapshots``: from which versions of silver each was made, and whether it still holds.

An entry is added when a snapshot is published, when late data makes it stale, and when it expires. The
last entry of an instant tells its state.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pyspark.sql import functions as F

from lakehouse.progress import Batch
from lakehouse.tables import Warehouse

TABLE = "ops.snapshots"
DDL = (
    "as_of TIMESTAMP, state STRING, reason STRING, inputs STRING, definitions STRING, silver MAP<STRING, BIGINT>, "
    "customers BIGINT, recomputed BIGINT, made_at TIMESTAMP, batch_id BIGINT, run_id STRING, at TIMESTAMP"
)
PUBLISHED, STALE, EXPIRED = "published", "stale", "expired"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Snapshot:
    """Gold as of an instant.

    Attributes:
        inputs: names what it depends on: merged batches and definitions.
        definitions: names the definitions alone, the columns of its tables among them.
        silver: the version of each table of silver that it was made from.
        customers: rows of gold.customer_features, of which ``recomputed`` were computed from events.
    """

    as_of: datetime
    state: str
    reason: str | None
    inputs: str
    definitions: str
    silver: Mapping[str, int] = field(hash=False)
    customers: int
    recomputed: int
    made_at: datetime
    batch_id: int


class Snapshots:
    """The snapshots of one warehouse, as known at the start of a run and changed by it."""

    def __init__(self, warehouse: Warehouse, run_id: str, now: datetime) -> None:
        self._warehouse, self._run_id, self._now = warehouse, run_id, now
        self._entries: list[Snapshot] = []
        self._new: list[Snapshot] = []
        if warehouse.exists(TABLE):
            instants = [F.unix_micros(c).alias(c) for c in ("as_of", "made_at")]
            names = [f.name for f in dataclasses.fields(Snapshot) if f.name not in ("as_of", "made_at")]
            rows = warehouse.read(TABLE).select(*names, *instants).collect()
            self._entries = [
                Snapshot(**r.asDict() | {c: EPOCH + timedelta(microseconds=r[c]) for c in ("as_of", "made_at")})
                for r in sorted(rows, key=lambda r: (r["batch_id"], [PUBLISHED, STALE, EXPIRED].index(r["state"])))
            ]

    @property
    def current(self) -> dict[datetime, Snapshot]:
        """The last entry of each instant, by instant."""
        last = {s.as_of: s for s in [*self._entries, *self._new]}
        return {as_of: last[as_of] for as_of in sorted(last)}

    @property
    def newest(self) -> Snapshot | None:
        """The snapshot that was made last: up to its versions of silver, all late data have been told."""
        return max((s for s in self._entries if s.state == PUBLISHED), key=lambda s: s.batch_id, default=None)

    def base(self, as_of: datetime, definitions: Set[str], torn: set[datetime]) -> Snapshot | None:
        """The latest snapshot from which one as of an instant can be carried over.

        Args:
            definitions: the names of those by which it may have been made.
            torn: instants of which a killed run may have replaced some tables and not the others.
        """
        fit = [
            s
            for s in self.current.values()
            if s.as_of <= as_of and s.state != EXPIRED and s.definitions in definitions and s.as_of not in torn
        ]
        return fit[-1] if fit else None

    def published(
        self, batch: Batch, as_of: datetime, inputs: str, definitions: str, silver: Mapping[str, int],
        customers: int, recomputed: int,
    ) -> None:  # fmt: skip
        """Note a snapshot that has been made; ``commit`` makes the note durable."""
        self._new.append(
            Snapshot(as_of, PUBLISHED, None, inputs, definitions, silver, customers, recomputed, self._now, batch.batch_id)
        )  # fmt: skip

    def end(self, snapshot: Snapshot, state: str, reason: str, batch: Batch) -> None:
        """Note that a snapshot is stale, or expired."""
        self._new.append(dataclasses.replace(snapshot, state=state, reason=reason, batch_id=batch.batch_id))

    def commit(self) -> None:
        """Write what was noted, in one commit."""
        if self._new:
            records = [
                (
                    *(s.as_of, s.state, s.reason, s.inputs, s.definitions, dict(s.silver), s.customers, s.recomputed),
                    *(s.made_at, s.batch_id, self._run_id, self._now),
                )
                for s in self._new
            ]
            self._warehouse.append_always(self._warehouse.frame(records, DDL), TABLE)
            self._entries += self._new
            self._new = []
