"""Quarantined rows back through validate: after a rule changed, with corrected values, or discarded.

A raw row is replayed as a whole: its values are read from bronze, corrections laid over them, and
mapped and checked again together with all rows of its bronze batch (a SELECT may number or compare
them). It passes when every row that the SELECT makes of it passes. Then its rows go to staged, but for
those of which staged has an equal delivery already, and its entries in the quarantine become
``replayed``; otherwise nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse.context import Context
from lakehouse.contracts import Contract
from lakehouse.errors import ConfigurationError, InternalError, UsageError
from lakehouse.ingestion.readers import is_corrupt, received_columns
from lakehouse.runtime.payloads import Replay
from lakehouse.runtime.progress import Batch, End, Progress, Work
from lakehouse.sources import Input
from lakehouse.sql import quote
from lakehouse.validation import checking, mapping, publishing, quarantine
from lakehouse.validation.quarantine import DISCARDED, OPEN, REPLAYED

_FIRST_REASON = "CASE WHEN status = 'open' THEN reasons[1]['rule'] END"
"""Of an open row, the rule of its first reason, in the SQL of DataFusion."""
FIXED, FIX = "lakehouse fixed row", "lakehouse fix"
"""Beside a bronze table's columns, whatever those are called: the id of a corrected row, and its corrected values."""
RAW_ID = "_raw_id"
"""A raw row's id beside a contract's columns, of which none begins with an underscore."""


@dataclass(frozen=True)
class Selection:
    """Which open rows of a quarantine are meant; an empty field leaves that open."""

    rule: str = ""
    since: datetime | None = None
    until: datetime | None = None
    ids: tuple[str, ...] = ()

    def of(self, kept: DataFrame) -> DataFrame:
        rows = kept.where(F.col("status") == OPEN)
        if self.rule:
            rows = rows.where(F.array_contains(F.col("reasons.rule"), self.rule))
        if self.since is not None:
            rows = rows.where(F.col("quarantined_at") >= F.lit(self.since))
        if self.until is not None:
            rows = rows.where(F.col("quarantined_at") < F.lit(self.until))
        return rows.where(F.col("id").isin(list(self.ids))) if self.ids else rows


@dataclass(frozen=True)
class Decision:
    """Who decides what about rows, as it is remembered with them."""

    action: str
    by: str = ""
    note: str = ""


@dataclass
class Outcome:
    """Entries of a quarantine that were selected, and how many would pass, or passed; what the others break."""

    selected: int = 0
    passed: int = 0
    broken: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)


def replay(
    context: Context, progress: Progress, inputs: Mapping[str, Input], contract: Contract, rows: DataFrame,
    decision: Decision, corrections: DataFrame | None = None, *, dry_run: bool = False,
) -> Outcome:  # fmt: skip
    """Replay entries of one entity's quarantine.

    Args:
        rows: open entries, as they stand in ``quarantine.<entity>``.
        corrections: (id, fix: map of received column to value), one row an id.
        dry_run: only tell what would pass.
    """
    outcome = Outcome()
    places = rows.groupBy("input").agg(F.collect_set("_bronze_batch").alias("batches"), F.count("*").alias("rows"))
    for place in sorted(places.collect(), key=lambda r: r["input"]):
        if place["input"] not in inputs or contract.name not in dict(inputs[place["input"]].sql):
            raise ConfigurationError(
                f"rows of '{place['input']}', which feeds {contract.name} no longer", where=f"quarantine.{contract.name}",
                todo="Restore its source.yaml, or discard the rows.",
            )  # fmt: skip
        source = inputs[place["input"]]
        outcome.selected += place["rows"]
        own = rows.where(F.col("input") == source.name)
        bronze = _corrected(context, source, tuple(sorted(place["batches"])), corrections)
        with (
            publishing.expressions_of(source, [contract], bronze),
            context.report.step(f"replay {contract.name}"),
        ):
            again = _checked_again(context, source, contract, own, bronze)
            passed = _judge(outcome, own, again, contract)
            if not dry_run and passed:
                write = partial(_write, context, source, contract, own, again, decision, corrections)
                progress.carry_out(Work(source.name, payload=Replay(contract.name)), write)
    return outcome


def discard(context: Context, contract: Contract, rows: DataFrame, decision: Decision) -> int:
    """Give up entries for good, in one commit; returns how many."""
    return _decide(context, contract, rows, F.lit(None).cast("map<string,string>"), DISCARDED, decision, None)


def undo(context: Context, batch: Batch) -> None:
    """Take back what an interrupted batch of validate has written: rows of bronze, or a replay."""
    publishing.rollback(context, batch)
    _reopen(context, batch)


def _reopen(context: Context, batch: Batch) -> None:
    """Take back what a replay's batch decided, when it is undone."""
    if not isinstance(batch.payload, Replay):
        return
    for name in context.entities:
        table = f"quarantine.{name}"
        if context.warehouse.exists(table):
            entries = context.warehouse.read(table).where(F.col("_decided_by") == batch.batch_id)
            before = F.slice("history", 1, F.size("history") - 1)
            context.warehouse.update(_states(entries, OPEN, before, None), table, ["id"])


def release_held(context: Context, progress: Progress, inputs: Mapping[str, Input]) -> None:
    """Replay the orphans that were held until their parent arrives, and whose parent has arrived."""
    for contract in context.entities.values():
        held = [c for c in contract.columns if c.references and c.on_orphan == "hold"]
        table = f"quarantine.{contract.name}"
        rules = [f"orphan:{c.name}" for c in held]
        if not held or not context.warehouse.log.may_have_rows(table, _FIRST_REASON, rules):
            continue
        waiting = context.warehouse.read(table)
        orphans = F.size(F.array_except("reasons.rule", F.array(*map(F.lit, rules)))) == 0
        waiting = waiting.where((F.col("status") == OPEN) & orphans)
        feeding = [name for name, i in inputs.items() if contract.name in dict(i.sql)]
        waiting = waiting.where(F.col("input").isin(feeding))
        for column in held:
            assert column.references is not None
            keys = publishing.known_keys(context, context.contracts[column.references[0]]).toDF("_known")
            parents = F.map_from_arrays("reasons.column", "reasons.value")
            waiting = waiting.withColumn("_parent", F.try_element_at(parents, F.lit(column.name)))
            known = F.col("_parent") == F.col("_known")
            waiting = waiting.join(keys, known, "left").where("_parent IS NULL OR _known IS NOT NULL")
            waiting = waiting.drop("_parent", "_known")
        if waiting.limit(1).count():
            outcome = replay(context, progress, inputs, contract, waiting, Decision("released", note="parent arrived"))
            context.report.say(f"{contract.name}: {outcome.passed:,} rows released, whose parent has arrived")


def read_corrections(context: Context, contract: Contract, patch: DataFrame, inputs: Iterable[Input]) -> DataFrame:
    """A patch (id, column, value) as (id, fix), checked: open ids, received columns, one value a cell.

    Raises:
        UsageError: the patch names something else; the message tells the first offender.
    """
    kept = context.warehouse.read(f"quarantine.{contract.name}").where(F.col("status") == OPEN)
    unknown = patch.join(kept, "id", "left_anti").first()
    if unknown is not None:
        raise UsageError(f"no open row '{unknown['id']}'", where=f"quarantine.{contract.name}", todo="Mend the patch.")
    columns = {c for i in inputs for c in _received(context, i)}
    for r in patch.select("column").distinct().collect():
        if r["column"] not in columns:
            raise UsageError(
                f"no received column '{r['column']}'", where="--patch", todo=f"Known are: {', '.join(sorted(columns))}."
            )
    for i in inputs:
        taken = _accepted_in_part(context, contract, i, patch)
        if taken is not None:
            raise UsageError(
                f"'{taken}' is a row of which a part was accepted as it was", where="--patch",
                todo="Have the source deliver it again, corrected.",
            )  # fmt: skip
    twice = patch.groupBy("id", "column").count().where("count > 1").first()
    if twice is not None:
        raise UsageError(f"two values for {twice['column']} of '{twice['id']}'", where="--patch", todo="Keep one.")
    cell = F.struct("column", F.coalesce("value", F.lit("")).alias("value"))
    return patch.groupBy("id").agg(F.map_from_entries(F.collect_list(cell)).alias("fix"))


def _accepted_in_part(context: Context, contract: Contract, source: Input, patch: DataFrame) -> str | None:
    """The id of a patched raw row of which staged has rows already: a correction could change their keys."""
    if not context.warehouse.exists(f"staged.{contract.name}"):
        return None
    place = F.struct(
        F.col("_sequence.received").alias("modified"), "_sequence.file", "_sequence.block", "_sequence.row"
    )
    staged = context.warehouse.read(f"staged.{contract.name}").select(quarantine.row_id(source.name, place).alias("id"))
    found = patch.join(staged, "id", "left_semi").first()
    return None if found is None else str(found["id"])


def _received(context: Context, source: Input) -> list[str]:
    table = f"bronze.{source.name}"
    return received_columns(context.warehouse.read(table)) if context.warehouse.exists(table) else []


def _corrected(
    context: Context, source: Input, batches: tuple[int, ...], corrections: DataFrame | None
) -> DataFrame:  # fmt: skip
    """The rows of some bronze batches, with the corrections laid over them."""
    bronze = publishing.bronze_rows(context, source, batches)
    return bronze if corrections is None else _laid_over(bronze, source, corrections)


def _checked_again(
    context: Context, source: Input, contract: Contract, rows: DataFrame, bronze: DataFrame
) -> DataFrame:  # fmt: skip
    """The selected raw rows, mapped and checked as they are now; with ``_raw_id``."""
    good = mapping.raw_rows(bronze.where(~is_corrupt(bronze)))
    checked = publishing.check(source, contract, good, publishing.known_rows(context, contract))
    checked = checked.withColumn(RAW_ID, quarantine.row_id(source.name, F.col(f"{mapping.ROW}.source")))
    return checked.join(rows.select(F.col("id").alias(RAW_ID)).distinct(), RAW_ID, "left_semi")


def _laid_over(bronze: DataFrame, source: Input, corrections: DataFrame) -> DataFrame:
    """Bronze rows with corrected values; of a line that could not be parsed, only those count."""
    received = received_columns(bronze)
    fixes = corrections.select(F.col("id").alias(FIXED), F.col("fix").alias(FIX))
    place = quarantine.row_id(source.name, F.col("_source"))
    joined = bronze.join(F.broadcast(fixes), place == F.col(FIXED), "left")
    fix, unparsed = F.col(FIX), F.col("_corrupt").isNotNull() & F.col(FIXED).isNotNull()

    def value(name: str) -> Column:
        kept = F.when(~unparsed, F.col(quote(name)))
        return F.when(F.map_contains_key(fix, name), F.element_at(fix, name)).otherwise(kept).alias(name)

    others = [c for c in bronze.columns if c not in (*received, "_corrupt")]
    still = F.when(F.col(FIXED).isNull(), F.col("_corrupt")).alias("_corrupt")
    return joined.select(*[value(c) for c in received], *others, still)


def _judge(outcome: Outcome, rows: DataFrame, again: DataFrame, contract: Contract) -> int:
    """Add to the outcome how many entries pass, and what the others break; returns how many pass."""
    passed = rows.join(_passing(again), "id", "left_semi").count()
    outcome.passed += passed
    bad = checking.rejected(again, contract).select(F.explode(checking.REASONS).alias("reason"))
    for r in (
        bad.groupBy("reason.rule").agg(F.count("*").alias("rows"), F.min("reason.message").alias("message")).collect()
    ):
        outcome.broken[r["rule"]] = outcome.broken.get(r["rule"], 0) + r["rows"]
        outcome.examples.append(f"{r['rule']}: {r['message']}")
    return passed


def _passing(again: DataFrame) -> DataFrame:
    """(id) of the raw rows of which the SELECT makes something, and all of it passes."""
    bad = again.groupBy(RAW_ID).agg(F.count_if(checking.REJECTED).alias("_bad"))
    return bad.where(F.col("_bad") == 0).select(F.col(RAW_ID).alias("id"))


def _write(
    context: Context, source: Input, contract: Contract, rows: DataFrame, again: DataFrame,
    decision: Decision, corrections: DataFrame | None, batch: Batch,
) -> End:  # fmt: skip
    """Decide the passing entries, then stage the rows of those that are decided.

    In this order, because the first makes the choice durable: what is staged follows from the
    quarantine as it is then, and not from a second look at what was open.
    """
    warehouse, name = context.warehouse, contract.name
    staged, kept = f"staged.{name}", f"quarantine.{name}"
    decided = rows.join(_passing(again), "id", "left_semi")
    fix = F.lit(None).cast("map<string,string>")
    if corrections is not None:
        decided, fix = decided.join(F.broadcast(corrections), "id", "left"), F.col("fix")
    count = _decide(context, contract, decided, fix, REPLAYED, decision, batch)
    mine = warehouse.read(kept).where(F.col("_decided_by") == batch.batch_id)
    batches = tuple(sorted(r[0] for r in mine.select("_bronze_batch").distinct().collect()))
    passed = _checked_again(context, source, contract, mine, _corrected(context, source, batches, corrections))
    whole = passed.agg(F.count_distinct(RAW_ID).alias("ids"), F.count_if(checking.REJECTED).alias("bad")).first()
    assert whole is not None
    entries = mine.select("id").distinct().count()
    fresh = _not_delivered(context, publishing.staged_rows(passed, contract, batch), contract, batch)
    marked = F.concat(checking.WARNINGS, F.array(F.lit(REPLAYED)))
    warehouse.append(fresh.withColumn(checking.WARNINGS, marked), staged, batch.transaction(staged))
    wrote, expected = warehouse.rows_of_batch(staged, batch.batch_id), fresh.count()
    if (wrote, whole["ids"], whole["bad"]) != (expected, entries, 0):
        raise InternalError(
            f"{entries:,} raw rows are decided, {whole['ids']:,} are found, {whole['bad']:,} of their rows do not pass; "
            f"{expected:,} rows are new, {wrote:,} were staged",
            where=f"{kept}, batch {batch.batch_id}", todo="Nothing of this batch is merged. Run it again.",
        )  # fmt: skip
    context.report.count(kept, rows_replayed=count)
    context.report.count(staged, rows_accepted=wrote)
    return End(rows={staged: wrote})


def _not_delivered(context: Context, rows: DataFrame, contract: Contract, batch: Batch) -> DataFrame:
    """Of rows for staged, those that no other batch has staged from the same place of the same file.

    A raw row of which the SELECT makes several may have had some accepted at once.
    """
    staged = f"staged.{contract.name}"
    if not context.warehouse.exists(staged):
        return rows
    keys = [F.col(quote(k)).alias(f"_key_{k}") for k in contract.keys]
    place = [F.col(f"_sequence.{p}").alias(f"_at_{p}") for p in ("received", "file", "block", "row")]
    there = context.warehouse.read(staged).where(F.col("_batch_id") != batch.batch_id).select(*keys, *place)
    names = there.columns
    return rows.select("*", *keys, *place).join(there, names, "left_anti").drop(*names)


def _decide(
    context: Context, contract: Contract, rows: DataFrame, fix: Column, status: str, decision: Decision, batch: Batch | None
) -> int:  # fmt: skip
    """Give entries a state and a line of history; returns how many."""
    entry = F.struct(
        F.lit(context.now).cast("timestamp").alias("at"),
        F.lit(context.run_id).alias("run_id"),
        F.lit(decision.action).alias("action"),
        F.lit(decision.by or None).cast("string").alias("by"),
        F.lit(decision.note or None).cast("string").alias("note"),
        fix.alias("corrections"),
    )
    history = F.concat(F.coalesce("history", F.array().cast(quarantine.HISTORY_DDL)), F.array(entry))
    table = f"quarantine.{contract.name}"
    return context.warehouse.update(_states(rows, status, history, batch), table, ["id"])


def _states(entries: DataFrame, status: str, history: Column, batch: Batch | None) -> DataFrame:
    """One row an id: the entries of a raw row are decided together."""
    return (
        entries.select("id", history.alias("history"))
        .groupBy("id")
        .agg(F.any_value("history").alias("history"))
        .select(
            "id",
            F.lit(status).alias("status"),
            F.col("history").cast(quarantine.HISTORY_DDL).alias("history"),
            F.lit(None if batch is None else batch.batch_id).cast("bigint").alias("_decided_by"),
        )
    )
