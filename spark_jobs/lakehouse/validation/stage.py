"""The validate stage: plan over new bronze batches, check, publish to staged and quarantine, balance."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.cli import Context
from lakehouse.contracts import Contract
from lakehouse.errors import ConfigurationError, DataRefused, InternalError, LakehouseError, UsageError
from lakehouse.parallel import side_by_side
from lakehouse.progress import REFUSED, VOID, Batch, Progress
from lakehouse.sources import Input, select_inputs
from lakehouse.validation import mapping, quarantine, rules

RELEASED = "released"
Work = tuple[str, tuple[int, ...]]
"""A unit (input) and the bronze batches to validate for it."""


@dataclass(frozen=True)
class _Checked:
    contract: Contract
    rows: DataFrame
    counts: dict[str, int]


def run(context: Context) -> None:
    """Validate every bronze batch that has not been validated.

    Raises:
        DataRefused: a batch has more bad rows than a contract allows. All other batches are done
            by then; the refused one waits in bronze until it is released.
        InternalError: the rows of a batch do not balance.
    """
    progress = Progress(context.warehouse, "validate", context.run_id, context.now, upstream="ingest")
    inputs = select_inputs(context.inputs, context.only)
    by_name = {i.name: i for i in inputs}
    refusals: list[str] = []

    def validate(batches: list[Batch]) -> None:
        for batch in batches:
            refusals.extend(_validate(context, progress, by_name[batch.unit], batch))

    interrupted = [b for b in progress.outstanding() if b.unit in by_name]
    for batch in interrupted:
        _undo(context, progress, batch)
    again: dict[str | None, list[Work]] = {
        detail: [(b.unit, b.inputs) for b in interrupted if b.detail == detail] for detail in (None, RELEASED)
    }
    # A release that was interrupted may be asked for again: it is still one batch.
    released = dict.fromkeys(again[RELEASED] + _released(context, progress))
    batches = progress.plan(released, detail=RELEASED)
    batches += progress.plan(again[None] + _fresh(progress, inputs))
    try:
        # Parents first: a row may refer to a row that another input delivers in the same run.
        for level in _levels(context, inputs):
            side_by_side([partial(validate, [b for b in batches if b.unit == source.name]) for source in level])
    finally:
        progress.commit()
    if refusals:
        raise DataRefused(
            "; ".join(refusals),
            todo="Their rows wait in bronze: mend the contract or the source, then run validate.py --release BATCH.",
        )


def _undo(context: Context, progress: Progress, batch: Batch) -> None:
    """Give up a batch that an earlier run left half done; its inputs go into a new one.

    Not finished as it is: the contract may have changed since, and the batch must be of one piece.
    """
    context.report.say(f"{batch.unit}: undoing batch {batch.batch_id} of an interrupted run")
    for name in context.entities:
        for table in (f"staged.{name}", f"quarantine.{name}"):
            context.warehouse.delete_batch(table, batch.batch_id)
    progress.finish(batch, VOID)
    progress.commit()


def _fresh(progress: Progress, inputs: list[Input]) -> list[Work]:
    """For each input, the loaded bronze batches that no batch of this stage covers yet."""
    loaded = [f for f in progress.finished("ingest") if sum(f.rows.values()) > 0]
    work: list[Work] = []
    for source in inputs:
        consumed = progress.consumed(source.name)
        ids = [f.batch_id for f in loaded if f.unit == source.name and f.batch_id not in consumed]
        if ids:
            work.append((source.name, tuple(ids)))
    return work


def _levels(context: Context, inputs: list[Input]) -> list[list[Input]]:
    """Inputs grouped so that those that feed parents come before those that feed only their children."""
    parents = {p for c in context.entities.values() for p in c.parents}
    first = [i for i in inputs if any(entity in parents for entity, _ in i.sql)]
    return [first, [i for i in inputs if i not in first]]


def _released(context: Context, progress: Progress) -> list[Work]:
    wanted = {x.strip() for x in (context.args.release or "").split(",") if x.strip()}
    if not wanted:
        return []
    waiting = progress.open_refusals()
    refused = {str(b.batch_id): b for b in progress.batches() if b.batch_id in waiting}
    for name in wanted - set(refused):
        raise UsageError(
            f"--release {name}: no refused batch", todo=f"Waiting are: {', '.join(sorted(refused)) or 'none'}."
        )
    return [(refused[name].unit, refused[name].inputs) for name in sorted(wanted)]


def _validate(context: Context, progress: Progress, source: Input, batch: Batch) -> list[str]:
    """Carry out one batch; returns why it was refused, if it was."""
    report, warehouse = context.report, context.warehouse
    warehouse.note_read(f"bronze.{source.name}")
    bronze = warehouse.read(f"bronze.{source.name}", dict.fromkeys(source.columns, "string")).where(
        F.col("_batch_id").isin(list(batch.inputs))
    )
    corrupt = mapping.is_corrupt(bronze)
    good = mapping.raw_rows(bronze.where(~corrupt))
    bad = mapping.raw_rows(bronze.where(corrupt))
    try:
        with report.step(f"check {source.name}"):
            bad_count = bad.count()
            report.count(f"bronze.{source.name}", rows_read=good.count() + bad_count)
            checked = _check_all(context, source, good)
        refused = [] if batch.detail == RELEASED else _refusals(batch, source, checked, bad_count)
        if refused:
            progress.finish(batch, REFUSED, detail="; ".join(refused))
            return refused
        places = quarantine.positions(bronze)
        rows: dict[str, int] = {}
        for c in checked:
            rows |= _publish(context, source, batch, c, bad, bad_count, places)
    except LakehouseError:
        raise
    except Exception as error:
        on_a_row = re.search(
            r"\[(CAST_|NUMERIC_VALUE_OUT|DIVIDE_BY_ZERO|ARITHMETIC|INVALID_ARRAY_INDEX|DATETIME_OVERFLOW).*", str(error)
        )
        if on_a_row is None:
            raise
        raise ConfigurationError(
            f"fails on a row: {on_a_row[0][:200]}",
            where=f"sources/{source.source}/*.sql",
            todo="Use the try_ variant of that function, so that a bad value becomes a reason.",
        ) from error
    progress.finish(batch, rows=rows)
    return []


def _check_all(context: Context, source: Input, good: DataFrame) -> list[_Checked]:
    """All entities of an input, parents first, so that rows of one file may refer to each other."""
    done: dict[str, _Checked] = {}
    selects = dict(source.sql)
    for name, contract in context.entities.items():
        if name in selects:
            mapped = mapping.map_rows(good, source, contract)
            parents = {p: _known_keys(context, context.contracts[p], done.get(p)) for p in contract.parents}
            try:
                rows = rules.check(mapped, contract, parents)
            except (AnalysisException, ParseException) as error:
                raise ConfigurationError(
                    f"a rule cannot be evaluated: {' '.join(str(error).split())[:300]}",
                    where=f"the contract of {name}",
                    todo="Mend the rule's expression.",
                ) from error
            done[name] = _Checked(contract, rows, rules.tally(rows))
    return list(done.values())


def _known_keys(context: Context, parent: Contract, here: _Checked | None) -> DataFrame:
    """The keys of a parent entity: merged, staged, or accepted in this very batch."""
    (key,) = parent.keys
    typed = f"`{key}` STRING"
    keys = context.warehouse.read_or_empty(f"silver.{parent.name}", typed).select(key)
    keys = keys.union(context.warehouse.read_or_empty(f"staged.{parent.name}", typed).select(key))
    if here is not None:
        keys = keys.union(rules.accepted(here.rows).select(key))
    return keys.distinct()


def _refusals(batch: Batch, source: Input, checked: list[_Checked], bad_count: int) -> list[str]:
    refusals = []
    for c in checked:
        total, rejected = c.counts["*"] + bad_count, c.counts["!"] + bad_count
        limit = c.contract.max_rejected_share
        if limit is not None and total >= c.contract.min_rows_to_refuse and rejected > limit * total:
            worst = sorted(((n, k) for k, n in c.counts.items() if k not in "*!"), reverse=True)[:3]
            why = ", ".join(f"{rule} {n:,}" for n, rule in worst)
            refusals.append(
                f"batch {batch.batch_id} of {source.name}: {rejected:,} of {total:,} {c.contract.name} rows are "
                f"rejected, more than {limit:.0%} (corrupt {bad_count:,}; {why})"
            )
    return refusals


def _publish(
    context: Context, source: Input, batch: Batch, checked: _Checked, bad: DataFrame, bad_count: int, places: DataFrame
) -> dict[str, int]:
    """Write one entity's rows of a batch and prove that none is missing."""
    report, warehouse, name = context.report, context.warehouse, checked.contract.name
    total, rejected = checked.counts["*"] + bad_count, checked.counts["!"] + bad_count
    staged, kept = f"staged.{name}", f"quarantine.{name}"
    with report.step(f"publish {name}"):
        if total > rejected:
            rows = rules.accepted(checked.rows).select(
                *checked.contract.column_names,
                mapping.DELETED,
                mapping.SEQUENCE,
                rules.WARNINGS,
                F.lit(batch.batch_id).cast("bigint").alias("_batch_id"),
            )
            warehouse.append(rows, staged, batch.transaction(staged))
        if rejected:
            facts = (checked.contract, source.name, batch, context.now)
            rows = quarantine.rejected_rows(rules.rejected(checked.rows), places, *facts)
            if bad_count:
                rows = rows.unionByName(quarantine.corrupt_rows(bad, places, *facts))
            warehouse.append(rows, kept, batch.transaction(kept))
    with report.step(f"balance {name}"):
        wrote = warehouse.rows_of_batch(staged, batch.batch_id)
        held = warehouse.rows_of_batch(kept, batch.batch_id) if rejected else 0
    if (wrote, held) != (total - rejected, rejected):
        raise InternalError(
            f"{total:,} rows in, but {wrote:,} accepted and {held:,} quarantined",
            where=f"{name}, batch {batch.batch_id} of {source.name}",
            todo="Nothing of this batch is merged. Keep the warehouse as it is and report this.",
        )
    report.count(staged, rows_in=total, rows_accepted=wrote, rows_quarantined=held)
    report.count_rules(name, {k: n for k, n in checked.counts.items() if k not in "*!"})
    if bad_count:
        report.count_rules(name, {quarantine.CORRUPT_RULE: bad_count})
    report.say(f"{source.name}: {name} {total:,} rows in, {wrote:,} accepted, {held:,} quarantined")
    return {staged: wrote}
