"""The validate stage: plan over new bronze batches, publish each, release what has waited for a parent."""

from __future__ import annotations

from functools import partial

from lakehouse.cli import Context
from lakehouse.errors import ConfigurationError, DataRefused, UsageError
from lakehouse.ingestion.readers import is_corrupt
from lakehouse.parallel import side_by_side
from lakehouse.progress import CORRUPT_ROWS, DISCARDED, REFUSED, VOID, Batch, Progress
from lakehouse.session import prepare
from lakehouse.sources import Input, select_inputs
from lakehouse.validation import publishing, replay
from lakehouse.validation.history import History
from lakehouse.validation.publishing import RELEASED

Work = tuple[str, tuple[int, ...]]
"""A unit (input) and the bronze batches to validate for it."""


def run(context: Context) -> None:
    """Validate every bronze batch that has not been validated.

    Raises:
        ConfigurationError: a SELECT or a rule cannot be evaluated. All other batches are done by then.
        DataRefused: a batch has more bad rows than a contract allows. All other batches are done
            by then; the refused one waits in bronze until it is released or discarded.
        InternalError: the rows of a batch do not balance.
    """
    progress = Progress(context.warehouse, "validate", context.run_id, context.now, upstream="ingest")
    history = History(context.warehouse, progress, context.run_id, context.now)
    inputs = select_inputs(context.inputs, context.only)
    by_name = {i.name: i for i in inputs}
    refusals: list[str] = []
    faults: list[ConfigurationError] = []

    def validate(batches: list[Batch]) -> None:
        for batch in batches:
            try:
                refusals.extend(_validate(context, progress, history, by_name[batch.unit], batch))
            except ConfigurationError as fault:
                # The batch stays planned and is undone by the next run; what is wrong with one input stops no other.
                faults.append(fault)

    releases = _named(context.args.release, "--release", progress)
    discards = _named(context.args.discard, "--discard", progress)
    if both := set(releases) & set(discards):
        raise UsageError(
            f"both --release and --discard name batches of {', '.join(sorted(unit for unit, _ in both))}",
            todo="Name each batch once.",
        )
    interrupted = [b for b in progress.outstanding() if b.unit in by_name]
    for batch in interrupted:
        _undo(context, batch)
    again: dict[str | None, list[Work]] = {
        detail: [(b.unit, b.inputs) for b in interrupted if b.detail == detail and (b.unit, b.inputs) not in discards]
        for detail in (None, RELEASED)
    }
    _discard(context, progress, discards)
    # A batch that is undone may have been planned again, or its release asked for again: it is still one batch.
    batches = progress.plan(dict.fromkeys(again[RELEASED] + releases), detail=RELEASED)
    batches += progress.plan(dict.fromkeys(again[None] + _pending(progress, inputs)))
    # Given up only now, so that no moment is without a plan that covers their inputs.
    for batch in interrupted:
        progress.finish(batch, VOID)
    progress.commit()
    if batches:
        arrived = {f.batch_id: f.rows.get(f"bronze.{f.unit}", 0) for f in progress.finished("ingest")}
        prepare(context.warehouse.spark, sum(arrived.get(i, 0) for b in batches for i in b.inputs))
    try:
        # Parents first: a row may refer to a row that another input delivers in the same run.
        for level in _levels(context, inputs):
            side_by_side([partial(validate, [b for b in batches if b.unit == source.name]) for source in level])
        try:
            replay.release_held(context, progress, by_name)
        except ConfigurationError as fault:
            faults.append(fault)
    finally:
        # The figures of a batch count from its end on, so they are written before it.
        history.commit()
        progress.commit()
    for message in history.stale(context.entities.values(), context.only):
        context.report.warn(message)
    if faults:
        for refusal in refusals:
            context.report.warn(refusal)
        raise faults[0] if len(faults) == 1 else ConfigurationError(" ".join(str(fault) for fault in faults))
    if refusals:
        raise DataRefused(
            "; ".join(refusals),
            todo="Their rows wait in bronze: mend the contract or the source, then run validate.py --release BATCH, "
            "or --discard BATCH --by NAME --reason TEXT.",
        )


def _undo(context: Context, batch: Batch) -> None:
    """Take back what an earlier run left half done; its inputs go into a new batch.

    Not finished as it is: the contract may have changed since, and the batch must be of one piece.
    """
    context.report.say(f"{batch.unit}: undoing batch {batch.batch_id} of an interrupted run")
    publishing.rollback(context, batch)
    replay.reopen(context, batch)


def _pending(progress: Progress, inputs: list[Input]) -> list[Work]:
    """For each input, the loaded bronze batches that no batch of this stage covers yet."""
    loaded = [f for f in progress.finished("ingest") if f.rows[f"bronze.{f.unit}"]]
    work: list[Work] = []
    for source in inputs:
        consumed = progress.consumed(source.name)
        ids = {f.batch_id for f in loaded if f.unit == source.name} - consumed
        if ids:
            work.append((source.name, tuple(sorted(ids))))
    return work


def _levels(context: Context, inputs: list[Input]) -> list[list[Input]]:
    """Inputs grouped so that those that feed parents come before those that feed only their children."""
    parents = {p for c in context.entities.values() for p in c.parents}
    first = [i for i in inputs if any(entity in parents for entity, _ in i.sql)]
    return [first, [i for i in inputs if i not in first]]


def _named(batches: str | None, argument: str, progress: Progress) -> list[Work]:
    """The refused batches that an argument names; raises UsageError for any other."""
    wanted = {x.strip() for x in (batches or "").split(",") if x.strip()}
    if not wanted:
        return []
    waiting = progress.open_refusals()
    refused = {str(b.batch_id): b for b in progress.batches() if b.batch_id in waiting}
    for name in wanted - set(refused):
        raise UsageError(
            f"{argument} {name}: no refused batch", todo=f"Waiting are: {', '.join(sorted(refused)) or 'none'}."
        )
    return [(refused[name].unit, refused[name].inputs) for name in sorted(wanted)]


def _discard(context: Context, progress: Progress, work: list[Work]) -> None:
    """Give up refused batches for good, by a named person's decision."""
    if not work:
        return
    if not context.args.by or not context.args.reason:
        raise UsageError("--discard without --by and --reason", todo="Say who decides, and why.")
    decision = f"{DISCARDED} by {context.args.by}: {context.args.reason}"
    for batch in progress.plan(work, detail=decision):
        progress.finish(batch, DISCARDED, detail=decision)
        context.report.say(f"{batch.unit}: bronze batches {', '.join(map(str, batch.inputs))} {decision}")
    progress.commit()


def _validate(context: Context, progress: Progress, history: History, source: Input, batch: Batch) -> list[str]:
    """Carry out one batch; returns why it was refused, if it was."""
    try:
        published = publishing.publish(context, source, batch, _arrived(context, progress, source, batch))
    except publishing.Refused as refusal:
        progress.finish(batch, REFUSED, detail=str(refusal))
        return [str(refusal)]
    for p in published:
        for message in history.add(batch, p):
            context.report.warn(message)
    progress.finish(batch, rows={f"staged.{p.contract.name}": p.accepted for p in published})
    return []


def _arrived(context: Context, progress: Progress, source: Input, batch: Batch) -> publishing.Arrived:
    """What ingest has recorded of a batch's rows."""
    # By id: a batch that two runs have finished, one after the other, has two ends that say the same.
    loaded = list({f.batch_id: f.rows for f in progress.finished("ingest") if f.batch_id in batch.inputs}.values())
    if all(CORRUPT_ROWS in rows for rows in loaded):
        corrupt = sum(rows[CORRUPT_ROWS] for rows in loaded)
    else:
        # Loaded by a release that did not record it.
        bronze = publishing.bronze_rows(context, source, batch.inputs)
        corrupt = bronze.where(is_corrupt(bronze)).count()
    return publishing.Arrived(sum(rows[f"bronze.{source.name}"] for rows in loaded), corrupt)
