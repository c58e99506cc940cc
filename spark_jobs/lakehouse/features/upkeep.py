"""Keeps gold.customer_days as silver has it: of what has changed, the days are made anew."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.context import Context
from lakehouse.features import customer_days, silver
from lakehouse.features.customer_days import KEYS
from lakehouse.features.publishing import held, merge_changes, typed, types_of
from lakehouse.features.timelines import GONE
from lakehouse.sql import quote
from lakehouse.tables import FIRST_ROWS

TABLE = "gold.customer_days"


def refresh(
    context: Context, frames: Mapping[str, DataFrame], changed: Mapping[str, DataFrame] | None, *, small: bool
) -> int:
    """Bring the table up to silver, in one commit; returns how many rows were written.

    Killed and begun again it does the same once more: a row depends on silver alone.

    Args:
        frames: the tables of silver by entity.
        changed: their change data since the table was brought up to them last; None: that is not known.
        small: the events fit into memory, and are added up sooner than it is found out which days have changed.
    """
    contract, warehouse = context.contracts["customer_days"], context.warehouse
    warehouse.create(TABLE, ", ".join(f"{quote(n)} {t}" for n, t in types_of(contract).items()))
    if changed is not None and not small and warehouse.size(TABLE):
        written = _merge(context, frames, changed)
    else:
        rows = typed(contract, customer_days.of_silver(frames))
        # So that a reader of some days, as of a window, finds them in few files.
        rows = rows if small else rows.repartitionByRange("day")
        first = None if warehouse.size(TABLE) else warehouse.append(rows, TABLE, FIRST_ROWS)
        written = warehouse.replace(rows, TABLE, "true") if first is None else first
    context.report.count(TABLE, rows_written=written)
    return written


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
