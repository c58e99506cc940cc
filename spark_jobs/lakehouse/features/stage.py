"""The featurize stage: one snapshot of every gold table as of an instant, or of several."""

from __future__ import annotations

from collections.abc import Mapping, Set
from datetime import datetime, timedelta

from pyspark.sql import DataFrame

from lakehouse.cli import Context, instant
from lakehouse.errors import ConfigurationError, UsageError
from lakehouse.features import changes, definitions, gold
from lakehouse.features.snapshots import EXPIRED, PUBLISHED, STALE, Snapshot, Snapshots
from lakehouse.progress import DONE, VOID, Batch, Progress
from lakehouse.session import BYTES_OF_STORED_ROW, prepare

AUTO, CHANGED, ALL = "auto", "changed", "all"
SMALL_BYTES = 64 * 1024 * 1024
"""Events below this size are computed anew sooner than it is found out which of them have changed."""
KEPT_BYTES = 16 * 1024 * 1024
"""Events below this size are kept in memory, and what is written of them too."""
MAX_SNAPSHOTS = 1_000


def run(context: Context) -> None:
    """Make the snapshots that are asked for, unless they are already what silver gives.

    Raises:
        UsageError: no instant is named, or too many are.
    """
    for name in gold.TABLES:
        if name not in context.contracts or context.contracts[name].layer != "gold":
            raise ConfigurationError("no such gold contract", where=name, todo="Restore contracts/.")
    progress = Progress(context.warehouse, "featurize", context.run_id, context.now, upstream="merge")
    snapshots = Snapshots(context.warehouse, context.run_id, context.now)
    contracts = {n: context.contracts[n] for n in gold.TABLES}
    today, good = definitions.of_gold(contracts), definitions.as_good(contracts)
    merged = {f.unit: f.batch_id for f in progress.finished("merge") if f.state == DONE}
    # A run that was killed may have replaced some tables of a snapshot and not the others.
    interrupted = progress.outstanding()
    torn = {instant(b.unit) for b in interrupted}
    asked = _asked(context, snapshots, good)
    units = sorted(torn | {t for t in asked if _outdated(context, snapshots.current.get(t), good, merged)})
    if units:
        batches = progress.plan((unit.isoformat(), ()) for unit in units)
        # Given up only now, so that no moment is without a plan that covers them.
        for batch in interrupted:
            progress.finish(batch, VOID)
        progress.commit()
        versions = gold.silver_versions(context)
        for table, version in versions.items():
            context.report.note(table, version_read=version)
        frames = gold.read_silver(context, versions)
        events = sum(context.warehouse.size(gold.silver_table(e)) for e in ("transactions", "interactions"))
        prepare(context.warehouse.spark, events / BYTES_OF_STORED_ROW)
        if small := events < KEPT_BYTES:
            # Each table of gold looks at them; to ask Delta for their files takes longer than to keep them.
            frames = {entity: frame.persist() for entity, frame in frames.items()}
        _tell_stale(context, snapshots, versions, units, batches[0])
        for batch in batches:
            as_of = instant(batch.unit)
            changed, recomputed = _changed(context, snapshots, frames, versions, as_of, good, torn, events)
            rows = gold.publish(context, frames, as_of, changed, small=small)
            if changed is not None:
                changed.unpersist()
            everyone = rows["gold.customer_features"]
            recomputed = everyone if recomputed is None else recomputed
            context.report.count("gold.customer_features", customers_recomputed=recomputed)
            inputs = definitions.fingerprint(today, merged)
            snapshots.published(batch, as_of, inputs, today, versions, everyone, recomputed)
            snapshots.commit()
            torn.discard(as_of)
            if batch == batches[-1]:
                # Within the last batch: what is killed here is found, and done again, by the next run.
                _expire(context, snapshots, batch, again=bool(interrupted))
            progress.finish(batch, rows=rows)
            progress.commit()
        for frame in frames.values():
            frame.unpersist()
    for t in sorted(asked - set(units)):
        context.report.say(f"the snapshot as of {t.isoformat()} is up to date")


def _asked(context: Context, snapshots: Snapshots, good: Set[str]) -> set[datetime]:
    """The instants that the arguments name."""
    args = context.args
    start, end = (instant(x) if x else None for x in (args.start, args.end))
    if (context.as_of is None) == (start is None or end is None):
        raise UsageError(
            "--as-of is missing" if context.as_of is None else "--as-of with --start and --end",
            todo="Name the instant up to which events count, or a range of them with --start and --end.",
        )
    if context.as_of is not None:
        return {context.as_of}
    assert start is not None
    assert end is not None
    if start > end:
        raise UsageError(f"--start {args.start} is after --end {args.end}")
    if args.every:
        days = _days(args.every)
        if (end - start) / timedelta(days=days) > MAX_SNAPSHOTS:
            raise UsageError(f"--every {args.every}: more than {MAX_SNAPSHOTS:,} snapshots", todo="Ask for fewer.")
        return {start + timedelta(days=n * days) for n in range(int((end - start) / timedelta(days=days)) + 1)}
    there = [s for s in snapshots.current.values() if start <= s.as_of <= end and s.state != EXPIRED]
    renewed = {s.as_of for s in there if s.state == STALE or s.definitions not in good or args.recompute == ALL}
    context.report.say(f"{len(renewed)} of {len(there)} snapshots from {args.start} to {args.end} are to be renewed")
    return renewed


def _days(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--every {text}: not a number of days", todo="Write a whole number above 0.")
    return int(text)


def _outdated(context: Context, snapshot: Snapshot | None, good: Set[str], merged: Mapping[str, int]) -> bool:
    if snapshot is None or snapshot.state != PUBLISHED or context.args.recompute == ALL:
        return True
    return snapshot.definitions not in good or snapshot.inputs != definitions.fingerprint(snapshot.definitions, merged)


def _changed(
    context: Context, snapshots: Snapshots, frames: dict[str, DataFrame], versions: dict[str, int],
    as_of: datetime, good: Set[str], torn: set[datetime], events: int,
) -> tuple[gold.Changed | None, int | None]:  # fmt: skip
    """Whom to compute anew, and how many they are; None for everyone.

    Args:
        events: bytes of silver's events.
    """
    report, how = context.report, context.args.recompute
    base = snapshots.base(as_of, good, torn) if how != ALL else None
    if base is None:
        return None, None
    if how == AUTO and events < SMALL_BYTES:
        return None, None
    with report.step("changes"):
        changed = gold.changed_since(context, base, frames, versions, as_of)
        if changed is None:
            report.say("silver's changes since the last snapshot are not kept: everyone is computed anew")
            return None, None
        count = changed.customers.count()
    if how == AUTO and count > gold.MAX_CHANGED * base.customers:
        changed.unpersist()
        return None, None
    report.say(
        f"{count:,} customers have changed events; the others are carried over from {base.as_of.isoformat()} "
        f"({base.customers:,} customers)"
    )
    return changed, count


def _tell_stale(
    context: Context, snapshots: Snapshots, versions: dict[str, int], units: list[datetime], batch: Batch
) -> None:
    """Mark the snapshots that late data have made wrong, as far as they are not about to be renewed."""
    newest = snapshots.newest
    held = [s for s in snapshots.current.values() if s.state == PUBLISHED and s.as_of not in units]
    if newest is None or newest.silver == versions or not held:
        return
    with context.report.step("late data"):
        data = gold.change_data(context, newest.silver, versions)
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


def _expire(context: Context, snapshots: Snapshots, batch: Batch, *, again: bool) -> None:
    """Delete the snapshots that were made longer ago than the contracts retain them, but never the latest.

    Noted first: a snapshot of which only a part is left must not be carried over from.

    Args:
        again: a run was killed, perhaps between the note and the deletion.
    """
    retained = [d for n in gold.TABLES if (d := context.contracts[n].retention_days) is not None]
    held = [s for s in snapshots.current.values() if s.state != EXPIRED]
    limit = context.now - timedelta(days=min(retained)) if retained else None
    due = [s for s in held[:-1] if limit is not None and s.made_at < limit]
    for snapshot in due:
        snapshots.end(snapshot, EXPIRED, f"made more than {min(retained)} days ago", batch)
    snapshots.commit()
    gone = [s.as_of for s in snapshots.current.values() if s.state == EXPIRED] if again else [s.as_of for s in due]
    if gone:
        instants = ", ".join(f"TIMESTAMP '{t.strftime('%Y-%m-%dT%H:%M:%S.%fZ')}'" for t in gone)
        for name in gold.TABLES:
            context.warehouse.delete(f"gold.{name}", f"as_of IN ({instants})")
        context.report.say(f"{len(due)} snapshots have expired")
