"""Keeps gold.customer_days as silver has it: of what has changed, the days are made anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.context import Context
from lakehouse.features import customer_days, definitions, gold, silver
from lakehouse.features.customer_days import KEYS
from lakehouse.features.publishing import held, merge_changes, typed, types_of
from lakehouse.features.timelines import GONE
from lakehouse.sql import quote
from lakehouse.tables import FIRST_ROWS

TABLE, RECORDS = "gold.customer_days", "ops.customer_days"


@dataclass(frozen=True)
class Record:
    """That the table was brought up to silver: to which version of each of its tables, and by which definitions."""

    silver: Mapping[str, int] = field(hash=False)
    definitions: str
    rows: int
    run_id: str
    at: datetime


def refresh(
    context: Context, frames: Mapping[str, DataFrame], versions: Mapping[str, int], *, anew: bool, small: bool
) -> None:
    """Bring the table up to silver, in one commit, unless it is.

    Killed and begun again it does the same once more: a row depends on silver alone.

    Args:
        frames: the tables of silver by entity, in the given versions.
        anew: write all rows anew, whatever has changed.
        small: the events fit into memory, and are added up sooner than it is found out which days have changed.
    """
    contract, warehouse = context.contracts["customer_days"], context.warehouse
    journal = warehouse.journal(RECORDS, Record)
    types, last = types_of(contract), max(journal.read(), key=lambda r: r.at, default=None)
    names = definitions.of_days(types)
    is_ours = last is not None and last.definitions == names and bool(warehouse.size(TABLE))
    if last is not None and is_ours and last.silver == versions and not anew:
        return
    with context.report.step("publish customer_days"):
        warehouse.create(TABLE, ", ".join(f"{quote(n)} {t}" for n, t in types.items()))
        changed = None
        if last is not None and is_ours and not (anew or small) and _precede(last.silver, versions):
            changed = gold.change_data(context, last.silver, versions)
        if changed is None:
            written = _write_anew(context, typed(contract, customer_days.of_silver(frames)), small=small)
        else:
            written = _merge(context, frames, changed)
    context.report.count(TABLE, rows_written=written)
    journal.append([Record(versions, names, written, context.run_id, context.now)])


def _precede(silver: Mapping[str, int], versions: Mapping[str, int]) -> bool:
    """Whether tables have only gone on since; one that was restored has other versions of the same numbers."""
    return all(version <= versions.get(table, -1) for table, version in silver.items())


def _write_anew(context: Context, rows: DataFrame, *, small: bool) -> int:
    if not small:
        # So that a reader of some days, as of a window, finds them in few files.
        rows = rows.repartitionByRange("day")
    if not context.warehouse.size(TABLE):
        written = context.warehouse.append(rows, TABLE, FIRST_ROWS)
        if written is not None:
            return written
    return context.warehouse.replace(rows, TABLE, "true")


def _merge(context: Context, frames: Mapping[str, DataFrame], changed: Mapping[str, DataFrame]) -> int:
    contract = context.contracts["customer_days"]
    day_of = {"transactions": F.to_date("date"), "interactions": F.to_date("timestamp")}
    parts = [changed[entity].select(day.alias("day"), "customer_id") for entity, day in day_of.items()]
    touched = reduce(DataFrame.union, parts).where("day IS NOT NULL AND customer_id IS NOT NULL").distinct()
    with held(touched):
        days = [r["day"] for r in touched.select("day").distinct().collect()]
        if not days:
            return 0
        ranges = customer_days.ranges(days)
        some = {
            entity: frames[entity]
            .where(silver.among(instant, ranges))
            .withColumn("day", day_of[entity])
            .join(touched, KEYS, "left_semi")
            for entity, instant in (("transactions", "date"), ("interactions", "timestamp"))
        }
        rows = typed(contract, customer_days.of_silver(some)).withColumn(GONE, F.lit(False))
        gone = touched.join(rows, KEYS, "left_anti").withColumn(GONE, F.lit(True))
        changes = rows.unionByName(gone, allowMissingColumns=True)
        return merge_changes(context.warehouse, TABLE, KEYS, list(types_of(contract)), changes, (min(days), max(days)))
