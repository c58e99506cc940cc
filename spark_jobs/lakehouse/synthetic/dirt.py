"""Dirt: which rows of a clean shop are spoilt, and how, so that a run can be checked against it.

Each row is spoilt in one way at most. ``rules`` are the rules of the shipped contracts that the
spoilt row must be found by: rejecting ones for what ends in quarantine, warnings for the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse.synthetic.randomness import Dice

CORRUPT = "corrupt"


@dataclass(frozen=True)
class Spot:
    """One way of spoiling a row of an entity.

    Attributes:
        kind: invalid, missing, late, orphan, duplicate, out_of_order or corrupt.
        share: of the rows that may be spoilt.
        column, value: what is overwritten, if anything.
        rules: what finds it.
    """

    kind: str
    share: float
    column: str | None = None
    value: str | None = None
    rules: tuple[str, ...] = ()


SPOTS: dict[str, tuple[Spot, ...]] = {
    "customers": (
        Spot("invalid", 0.010, "CustomerType", "platinum", ("enum:customer_type",)),
        Spot("invalid", 0.010, "RegistrationDate", "31/02/2026", ("cast:registration_date",)),
        Spot("missing", 0.005, "RegistrationDate", None, ("required:registration_date",)),
        Spot("late", 0.030),
        Spot("duplicate", 0.010),
    ),
    "products": (
        Spot("invalid", 0.010, "Price", "-1.00", ("range:price",)),
        Spot("invalid", 0.005, "Price", "12,50", ("cast:price",)),
        Spot("invalid", 0.005, "StockAvailability", "many", ("cast:stock_availability",)),
        Spot("missing", 0.005, "Category", None, ("required:category",)),
        Spot("late", 0.030),
        Spot("duplicate", 0.010),
    ),
    "transactions": (
        Spot("invalid", 0.004, "Amount", "12,50", ("cast:amount",)),
        Spot("invalid", 0.002, "Amount", "NaN", ("cast:amount",)),
        Spot("invalid", 0.004, "Amount", "-5.00", ("completed_amount_not_negative",)),
        Spot("invalid", 0.004, "Date", "2026-02-30", ("cast:date",)),
        Spot("invalid", 0.003, "TransactionStatus", "Lost", ("enum:transaction_status",)),
        Spot("missing", 0.003, "ProductID", None, ("required:product_id",)),
        Spot("missing", 0.010, "Amount", None, ("default:amount", "completed_amount_not_zero")),
        Spot("orphan", 0.004, "CustomerID", "C-nobody", ("orphan:customer_id",)),
        Spot("orphan", 0.003, "ProductID", "P-nothing", ("orphan:product_id",)),
        Spot("late", 0.030),
        Spot("duplicate", 0.010),
    ),
    "interactions": (
        Spot("invalid", 0.006, "InteractionType", "hover", ("enum:interaction_type",)),
        Spot("invalid", 0.006, "Timestamp", "yesterday", ("cast:timestamp",)),
        Spot("invalid", 0.004, "Source", "fax", ("enum:source",)),
        Spot("orphan", 0.003, "CustomerID", "C-nobody", ("orphan:customer_id",)),
        Spot(CORRUPT, 0.002, rules=("corrupt_record",)),
        Spot("late", 0.030),
        Spot("duplicate", 0.010),
    ),
}
OUT_OF_ORDER_SHARE = 0.3
"""Of the transactions that are cancelled later, how many have their first version delivered last."""


def spoil(entity: str, clean: DataFrame, dice: Dice, level: float, days: int) -> DataFrame:
    """Choose the rows to spoil and spoil them.

    Args:
        level: what the shares are multiplied by; 0 leaves the shop clean.
        days: length of the period; nothing is delivered after it.

    Returns:
        The rows as delivered, with ``kind`` and ``rules`` (null for clean ones), duplicates included.
    """
    throw = dice.uniform(f"dirt {entity}", "key")
    edges = accumulate((spot.share * level for spot in SPOTS[entity]), initial=0.0)
    # A look-up names the throw, and below the spot, once: nested cases would repeat them, and Spark's planner each of them.
    passed = F.size(F.filter(F.array(*map(F.lit, edges)), lambda edge: edge <= throw))
    rows = clean.withColumn("spot", F.when(F.col("clean"), passed - 1))
    late_day = F.col("day") + 1 + dice.below(20, f"late {entity}", "key").cast("int")
    rows = rows.withColumn("late_day", late_day)
    # Late beyond the end of the period, or already cancelled: nothing to spoil here.
    rows = rows.withColumn("spot", F.when(~(_is("late", entity) & (F.col("late_day") >= days)), F.col("spot")))
    if entity == "transactions":
        harmless = _spot_number(entity, "completed_amount_not_negative") + _spot_number(entity, "default:amount")
        cancelled = F.col("TransactionStatus") != "Completed"
        rows = rows.withColumn("spot", F.when(~(F.col("spot").isin(harmless) & cancelled), F.col("spot")))
    kinds = F.array(*[F.lit(s.kind) for s in SPOTS[entity]])
    rules = F.array(*[F.array(*map(F.lit, s.rules)).cast("array<string>") for s in SPOTS[entity]])
    rows = rows.withColumn("kind", F.get(kinds, "spot")).withColumn("rules", F.get(rules, "spot"))
    rows = rows.withColumn("day", F.when(F.col("kind") == "late", F.col("late_day")).otherwise(F.col("day")))
    if "day_out_of_order" in rows.columns:
        swapped = (
            dice.chance(OUT_OF_ORDER_SHARE * min(level, 1.0), "out of order", "key")
            & (F.col("day_out_of_order") < days)
            & F.col("kind").isNull()
        )
        rows = rows.withColumn("kind", F.when(swapped, "out_of_order").otherwise(F.col("kind")))
        rows = rows.withColumn(
            "day", F.when(F.col("kind") == "out_of_order", F.col("day_out_of_order")).otherwise(F.col("day"))
        )
    for column in sorted({s.column for s in SPOTS[entity] if s.column}):
        rows = rows.withColumn(column, _overwritten(entity, column))
    copies = F.when(F.col("kind") == "duplicate", F.array(F.lit(0), F.lit(1))).otherwise(F.array(F.lit(0)))
    return rows.withColumn("copy", F.explode(copies)).drop("spot", "late_day", "day_out_of_order", "clean")


def _overwritten(entity: str, column: str) -> Column:
    value = F.col(column)
    for n, spot in enumerate(SPOTS[entity]):
        if spot.column == column:
            value = F.when(F.col("spot") == n, F.lit(spot.value).cast("string")).otherwise(value)
    return value


def _is(kind: str, entity: str) -> Column:
    numbers = [n for n, s in enumerate(SPOTS[entity]) if s.kind == kind]
    return F.coalesce(F.col("spot").isin(numbers), F.lit(False))


def _spot_number(entity: str, rule: str) -> list[int]:
    return [n for n, s in enumerate(SPOTS[entity]) if rule in s.rules]
