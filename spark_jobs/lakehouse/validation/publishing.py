"""One batch of bronze rows: check it, write it to staged and quarantine, and prove that no row is missing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F

from lakehouse.cli import Context
from lakehouse.contracts import Contract
from lakehouse.errors import ConfigurationError, InternalError, LakehouseError
from lakehouse.progress import Batch
from lakehouse.sources import Input
from lakehouse.validation import checking, mapping, quarantine, rules


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


def publish(context: Context, source: Input, batch: Batch) -> list[Published]:
    """Publish one batch for every entity of its input, parents first.

    Raises:
        Refused: nothing is left in staged and quarantine.
        InternalError: the rows do not balance.
    """
    bronze = bronze_rows(context, source, batch.inputs)
    corrupt = mapping.is_corrupt(bronze)
    with context.report.step(f"count {source.name}"):
        counted = bronze.agg(F.count(F.lit(1)).alias("rows"), F.count_if(corrupt).alias("corrupt")).first()
    assert counted is not None
    context.report.count(f"bronze.{source.name}", rows_read=counted["rows"])
    entities = [c for name, c in context.entities.items() if name in dict(source.sql)]
    published = []
    with expressions_of(source):
        good = mapping.raw_rows(bronze.where(~corrupt))
        for contract in entities:
            checked = check(context, source, contract, good)
            try:
                published.append(_publish(context, source, contract, batch, checked, bronze, counted["corrupt"]))
            except Refused:
                take_back(context, batch)
                raise
        _count_left_out(context, source, good, counted["rows"] - counted["corrupt"])
    return published


def bronze_rows(context: Context, source: Input, batches: tuple[int, ...]) -> DataFrame:
    """The rows of some bronze batches, with every declared column."""
    context.warehouse.note_read(f"bronze.{source.name}")
    declared = dict.fromkeys(source.columns, "string")
    return context.warehouse.read(f"bronze.{source.name}", declared).where(F.col("_batch_id").isin(list(batches)))


def check(context: Context, source: Input, contract: Contract, good: DataFrame) -> DataFrame:
    """An input's rows, mapped to an entity and checked against its contract."""
    mapped = mapping.map_rows(good, source, contract)
    known = {p: known_keys(context, context.contracts[p]) for p in contract.parents}
    if any(c.unique for c in contract.columns):
        known[contract.name] = context.warehouse.read_or_empty(f"silver.{contract.name}", contract.ddl())
    try:
        return checking.check(mapped, contract, known)
    except (AnalysisException, ParseException) as error:
        raise ConfigurationError(
            f"a rule cannot be evaluated: {' '.join(str(error).split())[:300]}",
            where=f"the contract of {contract.name}",
            todo="Mend the rule's expression.",
        ) from error


def known_keys(context: Context, parent: Contract) -> DataFrame:
    """The keys of a parent entity, merged or staged (one column, distinct)."""
    (key,) = parent.keys
    typed = f"`{key}` STRING"
    merged = context.warehouse.read_or_empty(f"silver.{parent.name}", typed).select(key)
    staged = context.warehouse.read_or_empty(f"staged.{parent.name}", typed).select(key)
    return merged.union(staged).distinct()


def staged_rows(checked: DataFrame, contract: Contract, batch: Batch) -> DataFrame:
    """Accepted rows as they stand in ``staged.<entity>``."""
    return checking.accepted(checked, contract).select(
        *contract.column_names,
        mapping.DELETED,
        mapping.SEQUENCE,
        checking.WARNINGS,
        F.lit(batch.batch_id).cast("bigint").alias("_batch_id"),
    )


def take_back(context: Context, batch: Batch) -> None:
    """Remove a batch's rows, which nobody has read yet, from staged and quarantine."""
    for name in context.entities:
        for table in (f"staged.{name}", f"quarantine.{name}"):
            context.warehouse.delete_batch(table, batch.batch_id)


@contextmanager
def expressions_of(source: Input) -> Iterator[None]:
    """Turn what a SELECT's expressions raise on a row into an error that names the SELECT."""
    try:
        yield
    except (LakehouseError, Refused):
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


def _publish(
    context: Context, source: Input, contract: Contract, batch: Batch,
    checked: DataFrame, bronze: DataFrame, corrupt: int,
) -> Published:  # fmt: skip
    report, warehouse, name = context.report, context.warehouse, contract.name
    staged, kept = f"staged.{name}", f"quarantine.{name}"
    with report.step(f"publish {name}"):
        figures = Observation(f"{source.name} {name} {batch.batch_id}")
        rows = staged_rows(checking.measured(checked, contract, figures), contract, batch)
        warehouse.append(rows, staged, batch.transaction(staged))
        seen = figures.get
        total, rejected = seen["rows"] + corrupt, seen["rejected"] + corrupt
        if batch.detail != RELEASED:
            refusals = rules.refusals(contract, total, rejected, seen)
            if refusals:
                raise Refused(f"batch {batch.batch_id} of {source.name}: " + _why(refusals, checked, contract, corrupt))
        if rejected:
            places, facts = quarantine.positions(bronze), (contract, source.name, batch, context.now)
            bad = quarantine.rejected_rows(checking.rejected(checked, contract), places, *facts)
            if corrupt:
                unparsed = mapping.raw_rows(bronze.where(mapping.is_corrupt(bronze)))
                bad = bad.unionByName(quarantine.corrupt_rows(unparsed, places, *facts))
            warehouse.append(bad, kept, batch.transaction(kept))
    with report.step(f"balance {name}"):
        wrote, warned = _tally(context, staged, batch, _names(contract, False), F.col(checking.WARNINGS))
        held, broken = (
            _tally(context, kept, batch, [*_names(contract, True), quarantine.CORRUPT_RULE], F.col("reasons.rule"))
            if rejected
            else (0, {})
        )
        if (wrote, held) != (total - rejected, rejected):
            # The figures came with the write, and a task that Spark ran twice is counted twice: count again.
            total, rejected = (n + corrupt for n in _recount(checked))
        if (wrote, held) != (total - rejected, rejected):
            raise InternalError(
                f"{total:,} rows in, but {wrote:,} accepted and {held:,} quarantined",
                where=f"{name}, batch {batch.batch_id} of {source.name}",
                todo="Nothing of this batch is merged. Keep the warehouse as it is and report this.",
            )
    report.count(staged, rows_in=total, rows_accepted=wrote, rows_quarantined=held)
    violations = {rule: n for rule, n in (warned | broken).items() if n}
    report.count_rules(name, violations)
    report.say(f"{source.name}: {name} {total:,} rows in, {wrote:,} accepted, {held:,} quarantined")
    missing = {f"missing:{c}": seen[f"missing:{c}"] for c in contract.column_names}
    return Published(contract, total, wrote, held, {f"rule:{r}": n for r, n in (warned | broken).items()} | missing)


RELEASED = "released"
"""The remark of a batch that a person lets through whatever share of it is bad."""


def _names(contract: Contract, rejecting: bool) -> list[str]:
    return list(dict.fromkeys(c.name for c in rules.checks(contract) if c.rejects == rejecting))


def _tally(context: Context, table: str, batch: Batch, names: list[str], listed) -> tuple[int, dict[str, int]]:  # type: ignore[no-untyped-def]
    """Rows that a batch has in a table, and how many of them list each name: what is really there."""
    counts = [F.count_if(F.array_contains(listed, name)).alias(name) for name in names]
    rows = context.warehouse.read(table).where(F.col("_batch_id") == batch.batch_id)
    counted = rows.agg(F.count(F.lit(1)).alias("*"), *counts).first()
    assert counted is not None
    return counted["*"], {name: counted[name] for name in names}


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
    if any(mapping.keeps_every_row(sql) for _, sql in source.sql):
        return
    position = F.col(f"{mapping.ROW}.source").alias("position")
    selected = [mapping.map_rows(good, source, context.contracts[entity]).select(position) for entity, _ in source.sql]
    used = reduce(DataFrame.union, selected).distinct().count()
    context.report.count(f"bronze.{source.name}", rows_left_out=rows - used)
    if used < rows:
        context.report.warn(
            f"{source.name}: {rows - used:,} of {rows:,} rows are left out by every SELECT of the source"
        )
