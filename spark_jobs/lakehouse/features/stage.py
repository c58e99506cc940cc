"""The featurize stage: one snapshot of every gold table as of an instant, or of several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from datetime import datetime, timedelta

from pyspark.sql import DataFrame

from lakehouse import sizes
from lakehouse.context import Context
from lakehouse.errors import UsageError
from lakehouse.features import changes, definitions, gold, migration, publishing, upkeep
from lakehouse.features.publishing import Gold
from lakehouse.features.snapshots import EXPIRED, PUBLISHED, STALE, Retention, Snapshot, Snapshots
from lakehouse.instants import instant
from lakehouse.options import ALL, AUTO, Featurize
from lakehouse.runtime.progress import DONE, Batch, End, Work
from lakehouse.runtime.stages import Recovery, Stage

MAX_SNAPSHOTS = 1_000


def run(context: Context, options: Featurize) -> None:
    """Make the snapshots that are asked for, unless they are already what silver gives.

    Raises:
        UsageError: no instant is named, or too many are.
    """
    migration.check(context)
    stage = Instants(context, options)
    stage.carry_out()
    stage.failures.raise_first()
    for t in sorted(stage.up_to_date):
        context.report.say(f"the snapshot as of {t.isoformat()} is up to date")


class Instants(Stage):
    """A batch is the snapshot as of one instant, in every table of gold.

    One that was interrupted may have replaced some tables and not the others; it needs no rollback, since it is made anew.
    """

    name, upstream = "featurize", "merge"
    recovery = Recovery.UNDO
    one_by_one = True

    def __init__(self, context: Context, options: Featurize) -> None:
        super().__init__(context)
        self._recompute = options.recompute
        self._snapshots = Snapshots(context.warehouse, context.run_id, context.now)
        contracts = {n: context.contracts[n] for n in publishing.TABLES}
        self._today, self._good = definitions.of_gold(contracts), definitions.as_good(contracts)
        self._merged = {b.unit: b.batch_id for b in self.progress.finished(self.upstream) if b.state == DONE}
        self._asked = _asked(context, options, self._snapshots, self._good)
        # In bytes.
        self._events = sum(context.warehouse.size(gold.silver_table(e)) for e in ("transactions", "interactions"))
        self._torn: set[datetime] = set()
        self._last: Batch | None = None
        self.up_to_date: set[datetime] = set()

    def pending(self, undone: Sequence[Batch]) -> list[Work]:
        self._torn = {instant(b.unit) for b in undone}
        self._interrupted = bool(undone)
        units = self._torn | {t for t in self._asked if self._is_outdated(self._snapshots.current.get(t))}
        self.up_to_date = self._asked - units
        return [Work(unit.isoformat()) for unit in sorted(units)]

    def _is_outdated(self, snapshot: Snapshot | None) -> bool:
        if snapshot is None or snapshot.state != PUBLISHED or self._recompute == ALL:
            return True
        made_from = definitions.fingerprint(snapshot.definitions, self._merged)
        return snapshot.definitions not in self._good or snapshot.inputs != made_from

    def rows(self, work: Sequence[Work | Batch]) -> float:
        return len(work) * self._events / sizes.BYTES_OF_STORED_ROW

    @contextmanager
    def prepared(self, batches: Sequence[Batch]) -> Iterator[None]:
        context = self.context
        self._last = batches[-1]
        self._versions = gold.silver_versions(context)
        for table, version in self._versions.items():
            context.report.note(table, version_read=version)
        self._frames = gold.read_silver(context, self._versions)
        if self._events < sizes.KEPT_BYTES:
            # Each table of gold looks at them; to ask Delta for their files takes longer than to keep them.
            self._frames = {entity: frame.persist() for entity, frame in self._frames.items()}
        if self._interrupted:
            # Perhaps between the note that snapshots have expired and their end; what is left of them must not count as there.
            _take_out(context, self._snapshots, self._snapshots.expired)
        self._take_in_changes(batches)
        try:
            yield
        finally:
            for frame in self._frames.values():
                frame.unpersist()

    def _take_in_changes(self, batches: Sequence[Batch]) -> None:
        """What follows from changes of silver since the last run, whatever the instants of this one."""
        context, newest = self.context, self._snapshots.newest
        if newest is not None and newest.silver != self._versions:
            data = gold.change_data(context, newest.silver, self._versions)
            _tell_stale(context, self._snapshots, data, [instant(b.unit) for b in batches], batches[0])
        anew, small = self._recompute == ALL, self._events < sizes.KEPT_BYTES
        upkeep.refresh(context, self._frames, self._versions, anew=anew, small=small)

    def run(self, batch: Batch) -> End:
        as_of, report = instant(batch.unit), self.context.report
        tables = Gold(self.context, {*self._snapshots.kept, *self._torn})
        changed, recomputed = self._changed(tables, as_of)
        rows = gold.publish(self.context, tables, self._frames, as_of, changed, small=self._events < sizes.KEPT_BYTES)
        if changed is not None:
            changed.unpersist()
        everyone = rows["gold.customer_features"]
        recomputed = everyone if recomputed is None else recomputed
        report.count("gold.customer_features", customers_recomputed=recomputed)
        inputs = definitions.fingerprint(self._today, self._merged)
        self._snapshots.published(batch, as_of, inputs, self._today, self._versions, everyone, recomputed)
        self._snapshots.commit()
        self._torn.discard(as_of)
        if batch == self._last:
            # Within the last batch: what is killed here is found, and done again, by the next run.
            _expire(self.context, self._snapshots, batch)
        return End(rows=rows)

    def _changed(self, tables: Gold, as_of: datetime) -> tuple[gold.Changed | None, int | None]:
        """Whom to compute anew, and how many they are; None for everyone."""
        report, how = self.context.report, self._recompute
        base = self._snapshots.base(as_of, self._good, self._torn) if how != ALL else None
        if base is None or (how == AUTO and self._events < sizes.COMPUTED_ANEW_BYTES):
            return None, None
        with report.step("changes"):
            changed = gold.changed_since(self.context, tables, base, self._frames, self._versions, as_of)
            if changed is None:
                report.say("silver's changes since the last snapshot are not kept: everyone is computed anew")
                return None, None
            count = changed.customers.count()
        if how == AUTO and count > sizes.CARRIED_OVER_SHARE * base.customers:
            changed.unpersist()
            return None, None
        report.say(
            f"{count:,} customers have changed events; the others are carried over from {base.as_of.isoformat()} "
            f"({base.customers:,} customers)"
        )
        return changed, count


def _asked(context: Context, options: Featurize, snapshots: Snapshots, good: Set[str]) -> set[datetime]:
    """The instants that the arguments name."""
    start, end = options.start, options.end
    if (context.as_of is None) == (start is None or end is None):
        raise UsageError(
            "--as-of is missing" if context.as_of is None else "--as-of with --start and --end",
            todo="Name the instant up to which events count, or a range of them with --start and --end.",
        )
    if context.as_of is not None:
        return {context.as_of}
    assert start is not None
    assert end is not None
    told = f"{start.isoformat()} to {end.isoformat()}"
    if start > end:
        raise UsageError(f"--start and --end: {told} is no range", todo="Name the earlier instant with --start.")
    if options.every:
        number = (end - start) // timedelta(days=options.every) + 1
        if number > MAX_SNAPSHOTS:
            raise UsageError(
                f"--every {options.every}: {number:,} snapshots", todo=f"Ask for {MAX_SNAPSHOTS:,} at most."
            )
        return {start + timedelta(days=n * options.every) for n in range(number)}
    there = [s for s in snapshots.current.values() if start <= s.as_of <= end and s.state != EXPIRED]
    renewed = {s.as_of for s in there if s.state == STALE or s.definitions not in good or options.recompute == ALL}
    context.report.say(f"{len(renewed)} of {len(there)} snapshots from {told} are to be renewed")
    return renewed


def _tell_stale(
    context: Context,
    snapshots: Snapshots,
    data: dict[str, DataFrame] | None,
    units: list[datetime],
    batch: Batch,
) -> None:
    """Mark the snapshots that late data have made wrong, as far as they are not about to be renewed."""
    held = [s for s in snapshots.current.values() if s.state == PUBLISHED and s.as_of not in units]
    if not held:
        return
    with context.report.step("late data"):
        since = changes.earliest(**data) if data is not None else held[0].as_of - timedelta(days=1)
    stale = [s for s in held if since is not None and s.as_of > since]
    if not stale:
        return
    assert since is not None
    reason = f"data from {since.isoformat()} on arrived later" if data is not None else "changes of silver are not kept"
    for snapshot in stale:
        snapshots.end(snapshot, STALE, reason, batch)
    context.report.warn(
        f"stale are the snapshots as of {', '.join(s.as_of.isoformat() for s in stale)}: {reason}; "
        "renew them with featurize.py --start ... --end ..."
    )


def _expire(context: Context, snapshots: Snapshots, batch: Batch) -> None:
    """Take out the snapshots that the contracts no longer retain.

    Noted first: a snapshot of which only a part is left must not be carried over from.
    """
    retention = Retention.of(context.contracts[n] for n in publishing.TABLES)
    held = [s for s in snapshots.current.values() if s.state != EXPIRED]
    due = retention.expired(held, context.now)
    for snapshot in held:
        if snapshot.as_of in due:
            snapshots.end(snapshot, EXPIRED, due[snapshot.as_of], batch)
    snapshots.commit()
    _take_out(context, snapshots, list(due))


def _take_out(context: Context, snapshots: Snapshots, gone: list[datetime]) -> None:
    if gone:
        Gold(context, {*snapshots.kept, *gone}).remove(gone)
        context.report.say(f"{len(gone)} snapshots have expired")
