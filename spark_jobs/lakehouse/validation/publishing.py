"""One batch of bronze rows: check it, write it to staged and quarantine, and prove that no row is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F

from lakehouse.context import Context
from lakehouse.contracts import Contract
from lakehouse.errors import ConfigurationError, InternalError, LakehouseError, TryAgain, named
from lakehouse.ingestion.readers import is_corrupt
from lakehouse.runtime.payloads import Release
from lakehouse.runtime.progress import Batch
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


MAX_ROWS_WITH_PLACES, MAX_PLACES = 10_000_000, 500_000
"""The largest batch of which the rejected rows are remembered by their places, and how many are looked up by them."""


class Publication:
    """One batch of bronze rows on its way to staged and quarantine."""

    def __init__(self, context: Context, source: Input, batch: Batch, arrived: Arrived) -> None:
        self._context, self._source, self._batch, self._arrived = context, source, batch, arrived
        self._bronze = bronze_rows(context, source, batch.inputs)
        self._good = self._readable(self._bronze)

    def publish(self) -> list[Published]:
        """Publish it for every entity of its input, parents first.

        Raises:
            Refused: nothing is left in staged and quarantine.
            InternalError: the rows do not balance.
        """
        context, source, arrived = self._context, self._source, self._arrived
        context.report.count(f"bronze.{source.name}", rows_read=arrived.rows)
        entities = [c for name, c in context.entities.items() if name in dict(source.sql)]
        published = []
        with expressions_of(source, entities, self._bronze):
            for contract in entities:
                try:
                    published.append(self._publish(contract))
                except Refused:
                    rollback(context, self._batch)
                    raise
            if not any(p.rows == arrived.rows and self._keeps_every_row(p.contract) for p in published):
                self._count_left_out()
        return published

    def _readable(self, bronze: DataFrame) -> DataFrame:
        """The raw rows that are not corrupt; where ingest has found none, nobody looks at every cell again."""
        return mapping.raw_rows(bronze.where(~is_corrupt(bronze)) if self._arrived.corrupt else bronze)

    def _keeps_every_row(self, contract: Contract) -> bool:
        return mapping.keeps_every_row(dict(self._source.sql)[contract.name])

    def _publish(self, contract: Contract) -> Published:
        """Write the rows of one entity, and compare their numbers."""
        report, name, arrived, corrupt = self._context.report, contract.name, self._arrived, self._arrived.corrupt
        known = known_rows(self._context, contract)
        checked = check(self._source, contract, self._good, known)
        staged = f"staged.{name}"
        with report.step(f"publish {name}"):
            figures = Observation(f"{self._source.name} {name} {self._batch.batch_id}")
            single = arrived.rows <= MAX_ROWS_WITH_PLACES and _sees_single_rows(self._source, contract)
            wrote = self._append(staged_rows(checked, contract, self._batch, figures, places=single), staged)
            seen = figures.get
            warned = {name: seen[f"warn:{name}"] for name in _names(contract, rejecting=False)}
            if seen["rows"] - seen["rejected"] != wrote:
                # A task that Spark ran twice is counted twice while it writes, but its rows are committed once.
                warned = self._listing(staged, list(warned), F.col(checking.WARNINGS))
            total, rejected = seen["rows"] + corrupt, seen["rejected"] + corrupt
            if not isinstance(self._batch.payload, Release):
                refusals = rules.refusals(contract, total, rejected, seen)
                if refusals:
                    why = _why(refusals, checked, contract, corrupt)
                    raise Refused(f"batch {self._batch.batch_id} of {self._source.name}: {why}")
            held, broken = 0, dict.fromkeys([*_names(contract, rejecting=True), quarantine.CORRUPT_RULE], 0)
            if rejected:
                few = single and total == arrived.rows and len(seen["places"]) <= MAX_PLACES
                bronze = self._at(seen["places"]) if few else None
                judged = checked if bronze is None else check(self._source, contract, self._readable(bronze), known)
                held, broken = self._quarantine(contract, judged, list(broken))
        with report.step(f"balance {name}"):
            if (wrote, held) != (total - rejected, rejected):
                # As above.
                total, rejected = (n + corrupt for n in _recount(checked))
            self._balance(contract, total, rejected, wrote, held)
        report.count(staged, rows_in=total, rows_accepted=wrote, rows_quarantined=held)
        report.count_rules(name, {rule: n for rule, n in (warned | broken).items() if n})
        report.say(f"{self._source.name}: {name} {total:,} rows in, {wrote:,} accepted, {held:,} quarantined")
        missing = {f"missing:{c}": seen[f"missing:{c}"] for c in contract.column_names}
        measures = {f"rule:{r}": n for r, n in (warned | broken).items()} | missing
        return Published(contract, total, wrote, held, measures)

    def _quarantine(self, contract: Contract, judged: DataFrame, names: list[str]) -> tuple[int, dict[str, int]]:
        """Write the rejected rows; returns how many, and how many of them break each rule."""
        kept = f"quarantine.{contract.name}"
        places = quarantine.positions(self._bronze)
        facts = (contract, self._source.name, self._batch, self._context.now)
        bad = quarantine.rejected_rows(checking.rejected(judged, contract), places, *facts)
        if self._arrived.corrupt:
            unparsed = mapping.raw_rows(self._bronze.where(is_corrupt(self._bronze)))
            bad = bad.unionByName(quarantine.corrupt_rows(unparsed, places, *facts))
        reasons = Observation(f"{self._source.name} {contract.name} {self._batch.batch_id} reasons")
        counts = _counts(names, F.col("reasons.rule"))
        held = self._append(bad.observe(reasons, F.count(F.lit(1)).alias("rows"), *counts), kept)
        if reasons.get["rows"] != held:
            # A task that Spark ran twice is counted twice while it writes, but its rows are committed once.
            return held, self._listing(kept, names, F.col("reasons.rule"))
        return held, {rule: reasons.get[rule] for rule in names}

    def _balance(self, contract: Contract, total: int, rejected: int, wrote: int, held: int) -> None:
        """Raise InternalError unless every row that arrived was accepted or is held."""
        expected = total
        if total != self._arrived.rows and self._keeps_every_row(contract):
            # The SELECT has other rows than it reads, in a way its words do not show; or a row is lost.
            expected = mapping.map_rows(self._good, self._source, contract).count() + self._arrived.corrupt
        if (wrote, held) != (expected - rejected, rejected):
            raise InternalError(
                f"{expected:,} rows in, but {wrote:,} accepted and {held:,} quarantined",
                where=f"{contract.name}, batch {self._batch.batch_id} of {self._source.name}",
                todo="Nothing of this batch is merged. Keep the warehouse as it is and report this.",
            )

    def _at(self, places: list[int]) -> DataFrame:
        """The bronze rows at some places: those that need a second look, to be told their reasons."""
        wanted = self._context.warehouse.frame([(p,) for p in places], "place BIGINT")
        there = checking.place(F.col("_source")) == F.col("place")
        return self._bronze.join(F.broadcast(wanted), there, "left_semi")

    def _append(self, rows: DataFrame, table: str) -> int:
        """Append the batch's rows; returns how many the commit has."""
        written = self._context.warehouse.append(rows, table, self._batch.transaction(table))
        if written is None:
            raise TryAgain(
                f"another run has written batch {self._batch.batch_id}", where=table, todo="Run it again later."
            )
        return written

    def _listing(self, table: str, names: list[str], listed: Column) -> dict[str, int]:
        """How many of the batch's rows in a table list each of some names."""
        if not names:
            return {}
        there = self._context.warehouse.batches(table, [self._batch.batch_id]).agg(*_counts(names, listed)).first()
        assert there is not None
        return there.asDict()

    def _count_left_out(self) -> None:
        """Report raw rows of which no SELECT of the input makes anything: the declared drops."""
        source, report, rows = self._source, self._context.report, self._arrived.rows - self._arrived.corrupt
        position = F.col(f"{mapping.ROW}.source").alias("position")
        contracts = [self._context.contracts[entity] for entity, _ in source.sql]
        selected = [mapping.map_rows(self._good, source, contract).select(position) for contract in contracts]
        used = reduce(DataFrame.union, selected).distinct().count()
        if (there := self._good.count()) != rows:
            raise InternalError(
                f"{rows:,} rows were loaded, but {there:,} are there", where=f"bronze.{source.name}",
                todo="Nothing of this batch is merged. Keep the warehouse as it is and report this.",
            )  # fmt: skip
        report.count(f"bronze.{source.name}", rows_left_out=rows - used)
        if used < rows:
            report.warn(f"{source.name}: {rows - used:,} of {rows:,} rows are left out by every SELECT of the source")


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


def _sees_single_rows(source: Input, contract: Contract) -> bool:
    """Whether a row's reasons follow from that row alone, so that the rejected ones can be judged by themselves."""
    rules_look = any(mapping.looks_around(rule.expression) for rule in contract.rules)
    return mapping.sees_single_rows(dict(source.sql)[contract.name]) and not rules_look


def _names(contract: Contract, rejecting: bool) -> list[str]:
    return list(dict.fromkeys(c.name for c in rules.checks(contract) if c.rejects == rejecting))


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
