"""One batch of bronze rows: check it, write it to staged and quarantine, and prove that no row is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F

from lakehouse.cli import Context, named
from lakehouse.contracts import Contract
from lakehouse.errors import ConfigurationError, InternalError, LakehouseError, TryAgain
from lakehouse.ingestion.readers import is_corrupt
from lakehouse.progress import Batch
from lakehouse.sources import Input
from lakehouse.sql import quote
from lakehouse.validation import checking, failures, mapping, quarantine, rules


@dataclass(frozen=True)
class Arrived:
    """What ingest has loaded into bronze for a batch: all rows, and those of them that cannot be read."""

    rows: int
    corrupt: int


@dataclass(frozen=True)
class Published:
    """What became of one entity's rows of a batch.

    Attributes:
        rows: all of them, corrupt ones included.
        measures: rows that break each rule, and rows in which each column is missing.
    """

    contract: Contract
    rows: int
    accepted: int
    quarantined: int
    measures: dict[str, int]


class Refused(Exception):
    """A batch has more bad rows than a contract allows; nothing of it stays published."""


def publish(context: Context, source: Input, batch: Batch, arrived: Arrived) -> list[Published]:
    """Publish one batch for every entity of its input, parents first.

    Raises:
        Refused: nothing is left in staged and quarantine.
        InternalError: the rows do not balance.
    """
    bronze = bronze_rows(context, source, batch.inputs)
    context.report.count(f"bronze.{source.name}", rows_read=arrived.rows)
    entities = [c for name, c in context.entities.items() if name in dict(source.sql)]
    published = []
    with expressions_of(source, entities, bronze):
        good = _readable(bronze, arrived)
        for contract in entities:
            known = known_rows(context, contract)
            checked = check(source, contract, good, known)

            def again(few: DataFrame, contract: Contract = contract, known: dict[str, DataFrame] = known) -> DataFrame:
                return check(source, contract, _readable(few, arrived), known)

            try:
                published.append(_publish(context, source, contract, batch, checked, again, bronze, good, arrived))
            except Refused:
                rollback(context, batch)
                raise
        if not any(
            p.rows == arrived.rows and mapping.keeps_every_row(dict(source.sql)[p.contract.name]) for p in published
        ):
            _count_left_out(context, source, good, arrived.rows - arrived.corrupt)
    return published


def _readable(bronze: DataFrame, arrived: Arrived) -> DataFrame:
    """The raw rows that are not corrupt; where ingest has found none, nobody looks at every cell again."""
    return mapping.raw_rows(bronze.where(~is_corrupt(bronze)) if arrived.corrupt else bronze)


def bronze_rows(context: Context, source: Input, batches: tuple[int, ...]) -> DataFrame:
    """The rows of some bronze batches, with every declared column, and ``_source`` in the shape of ``mapping.placed``."""
    context.warehouse.note_read(f"bronze.{source.name}")
    declared = dict.fromkeys(source.columns, "string")
    rows = context.warehouse.batches(f"bronze.{source.name}", batches, declared)
    return mapping.placed(rows) if source.format == "kafka" else rows


def known_rows(context: Context, contract: Contract) -> dict[str, DataFrame]:
    """What the rules of a contract compare with: its parents' keys, and silver if a column is unique."""
    known = {p: known_keys(context, context.contracts[p]) for p in contract.parents}
    if any(c.unique for c in contract.columns):
        known[contract.name] = context.warehouse.read_or_empty(f"silver.{contract.name}", contract.ddl())
    return known


def check(source: Input, contract: Contract, good: DataFrame, known: dict[str, DataFrame]) -> DataFrame:
    """An input's rows, mapped to an entity and checked against its contract."""
    mapped = mapping.map_rows(good, source, contract)
    try:
        return checking.check(mapped, contract, known)
    except (AnalysisException, ParseException) as error:
        raise ConfigurationError(
            f"a rule cannot be evaluated: {' '.join(str(error).split())[:300]}",
            where=f"the contract of {contract.name}",
            todo="Mend the rule's expression.",
        ) from error


def known_keys(context: Context, parent: Contract) -> DataFrame:
    """The keys of a parent entity, merged or staged (one column, distinct), as they are now.

    Of one version of each table: a batch is read twice, and must see the same parents both times.
    """
    (key,) = parent.keys
    typed = f"{quote(key)} STRING"
    merged = context.warehouse.read_or_empty(f"silver.{parent.name}", typed, version="newest").select(key)
    staged = context.warehouse.read_or_empty(
        f"staged.{parent.name}", f"{typed}, {mapping.DELETED} BOOLEAN", version="newest"
    )
    return merged.union(staged.where(~F.col(mapping.DELETED)).select(key)).distinct()


def staged_rows(
    checked: DataFrame, contract: Contract, batch: Batch, into: Observation | None = None, *, places: bool = False
) -> DataFrame:
    """Accepted rows as they stand in ``staged.<entity>``; ``into`` and ``places`` as for ``checking.accepted``."""
    rows = checking.accepted(checked, contract, into, places=places)
    return rows.withColumn("_batch_id", F.lit(batch.batch_id).cast("bigint"))


def rollback(context: Context, batch: Batch) -> None:
    """Remove a batch's rows, which nobody has read yet, from staged and quarantine."""
    for name in context.entities:
        for table in (f"staged.{name}", f"quarantine.{name}"):
            context.warehouse.delete_batch(table, batch.batch_id)


@contextmanager
def expressions_of(source: Input, contracts: Sequence[Contract], bronze: DataFrame) -> Iterator[None]:
    """Turn what a SELECT or a rule raises on a row into an error that names it, and the row; arguments as of ``at_fault``."""
    try:
        yield
    except (LakehouseError, Refused):
        raise
    except Exception as error:
        if named(error) is None and (fault := failures.at_fault(source, contracts, bronze)) is not None:
            raise fault from error
        raise


def _publish(
    context: Context, source: Input, contract: Contract, batch: Batch,
    checked: DataFrame, again: Callable[[DataFrame], DataFrame], bronze: DataFrame, good: DataFrame, arrived: Arrived,
) -> Published:  # fmt: skip
    report, name = context.report, contract.name
    staged, kept, corrupt = f"staged.{name}", f"quarantine.{name}", arrived.corrupt
    with report.step(f"publish {name}"):
        figures = Observation(f"{source.name} {name} {batch.batch_id}")
        single = arrived.rows <= MAX_ROWS_WITH_PLACES and _sees_single_rows(source, contract)
        wrote = _append(context, staged_rows(checked, contract, batch, figures, places=single), staged, batch)
        seen = figures.get
        warned = {name: seen[f"warn:{name}"] for name in _names(contract, rejecting=False)}
        if seen["rows"] - seen["rejected"] != wrote:
            # A task that Spark ran twice is counted twice while it writes, but its rows are committed once.
            warned = _listing(context, staged, batch, list(warned), F.col(checking.WARNINGS))
        total, rejected = seen["rows"] + corrupt, seen["rejected"] + corrupt
        if batch.detail != RELEASED:
            refusals = rules.refusals(contract, total, rejected, seen)
            if refusals:
                raise Refused(f"batch {batch.batch_id} of {source.name}: " + _why(refusals, checked, contract, corrupt))
        held, broken = 0, dict.fromkeys([*_names(contract, rejecting=True), quarantine.CORRUPT_RULE], 0)
        if rejected:
            places, facts = quarantine.positions(bronze), (contract, source.name, batch, context.now)
            few = single and total == arrived.rows and len(seen["places"]) <= MAX_PLACES
            judged = again(_at(context, bronze, seen["places"])) if few else checked
            bad = quarantine.rejected_rows(checking.rejected(judged, contract), places, *facts)
            if corrupt:
                unparsed = mapping.raw_rows(bronze.where(is_corrupt(bronze)))
                bad = bad.unionByName(quarantine.corrupt_rows(unparsed, places, *facts))
            reasons = Observation(f"{source.name} {name} {batch.batch_id} reasons")
            counts = _counts(list(broken), F.col("reasons.rule"))
            held = _append(context, bad.observe(reasons, F.count(F.lit(1)).alias("rows"), *counts), kept, batch)
            broken = {rule: reasons.get[rule] for rule in broken}
            if reasons.get["rows"] != held:
                # As above.
                broken = _listing(context, kept, batch, list(broken), F.col("reasons.rule"))
    with report.step(f"balance {name}"):
        if (wrote, held) != (total - rejected, rejected):
            # A task that Spark ran twice is counted twice while it writes, but its rows are committed once.
            total, rejected = (n + corrupt for n in _recount(checked))
        expected = total
        if total != arrived.rows and mapping.keeps_every_row(dict(source.sql)[name]):
            # The SELECT has other rows than it reads, in a way its words do not show; or a row is lost.
            expected = mapping.map_rows(good, source, contract).count() + corrupt
        if (wrote, held) != (expected - rejected, rejected):
            raise InternalError(
                f"{expected:,} rows in, but {wrote:,} accepted and {held:,} quarantined",
                where=f"{name}, batch {batch.batch_id} of {source.name}",
                todo="Nothing of this batch is merged. Keep the warehouse as it is and report this.",
            )
    report.count(staged, rows_in=total, rows_accepted=wrote, rows_quarantined=held)
    violations = {rule: n for rule, n in (warned | broken).items() if n}
    report.count_rules(name, violations)
    report.say(f"{source.name}: {name} {total:,} rows in, {wrote:,} accepted, {held:,} quarantined")
    missing = {f"missing:{c}": seen[f"missing:{c}"] for c in contract.column_names}
    return Published(contract, total, wrote, held, {f"rule:{r}": n for r, n in (warned | broken).items()} | missing)


MAX_ROWS_WITH_PLACES, MAX_PLACES = 10_000_000, 500_000
"""The largest batch of which the rejected rows are remembered by their places, and how many are looked up by them."""


def _sees_single_rows(source: Input, contract: Contract) -> bool:
    """Whether a row's reasons follow from that row alone, so that the rejected ones can be judged by themselves."""
    rules_look = any(mapping.looks_around(rule.expression) for rule in contract.rules)
    return mapping.sees_single_rows(dict(source.sql)[contract.name]) and not rules_look


def _at(context: Context, bronze: DataFrame, places: list[int]) -> DataFrame:
    """The raw rows at some places: those that need a second look, to be told their reasons."""
    wanted = context.warehouse.frame([(p,) for p in places], "place BIGINT")
    return bronze.join(F.broadcast(wanted), checking.place(F.col("_source")) == F.col("place"), "left_semi")


RELEASED = "released"
"""The remark of a batch that a person lets through whatever share of it is bad."""


def _names(contract: Contract, rejecting: bool) -> list[str]:
    return list(dict.fromkeys(c.name for c in rules.checks(contract) if c.rejects == rejecting))


def _append(context: Context, rows: DataFrame, table: str, batch: Batch) -> int:
    """Append a batch's rows; returns how many the commit has."""
    written = context.warehouse.append(rows, table, batch.transaction(table))
    if written is None:
        raise TryAgain(f"another run has written batch {batch.batch_id}", where=table, todo="Run it again later.")
    return written


def _listing(context: Context, table: str, batch: Batch, names: list[str], listed: Column) -> dict[str, int]:
    """How many of a batch's rows in a table list each of some names."""
    if not names:
        return {}
    there = context.warehouse.batches(table, [batch.batch_id]).agg(*_counts(names, listed)).first()
    assert there is not None
    return there.asDict()


def _counts(names: list[str], listed: Column) -> list[Column]:
    return [F.count_if(F.array_contains(listed, name)).alias(name) for name in names]


def _recount(checked: DataFrame) -> tuple[int, int]:
    counted = checked.agg(F.count(F.lit(1)), F.count_if(checking.REJECTED)).first()
    assert counted is not None
    return counted[0], counted[1]


def _why(refusals: list[str], checked: DataFrame, contract: Contract, corrupt: int) -> str:
    """The refusal, with the rules that reject most rows."""
    reasons = F.explode(F.array_distinct(F.col(f"{checking.REASONS}.rule"))).alias("rule")
    worst = (
        checking.rejected(checked, contract).select(reasons).groupBy("rule").count()
        .orderBy(F.desc("count"), "rule").limit(3).collect()
    )  # fmt: skip
    parts = [f"corrupt {corrupt:,}", *(f"{r['rule']} {r['count']:,}" for r in worst)]
    return f"{'; '.join(refusals)} ({', '.join(parts)})"


def _count_left_out(context: Context, source: Input, good: DataFrame, rows: int) -> None:
    """Report raw rows of which no SELECT of the input makes anything: the declared drops."""
    position = F.col(f"{mapping.ROW}.source").alias("position")
    selected = [mapping.map_rows(good, source, context.contracts[entity]).select(position) for entity, _ in source.sql]
    used = reduce(DataFrame.union, selected).distinct().count()
    if (there := good.count()) != rows:
        raise InternalError(
            f"{rows:,} rows were loaded, but {there:,} are there", where=f"bronze.{source.name}",
            todo="Nothing of this batch is merged. Keep the warehouse as it is and report this.",
        )  # fmt: skip
    context.report.count(f"bronze.{source.name}", rows_left_out=rows - used)
    if used < rows:
        context.report.warn(
            f"{source.name}: {rows - used:,} of {rows:,} rows are left out by every SELECT of the source"
        )
