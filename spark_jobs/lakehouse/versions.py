"""What a set of versions of a key amounts to: pure DataFrame functions.

A *version* is one delivery of a key's values, ordered by ``_sequence``, a total order. Everything
here is a function of the set of versions: it does not matter in what order, how often, or in what
batches they arrive. To keep it so, an interval of the history remembers each version that it
stands for (``_seen``), because a version that arrives late may have to split it.
"""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse.contracts import SEQUENCE_DDL, Contract
from lakehouse.sql import quote

SEQUENCE, DELETED, SEEN, FIRST = "_sequence", "_deleted", "_seen", "_first"


def history_ddl(contract: Contract) -> str:
    """The columns of ``silver.<entity>_history`` as a Spark DDL string."""
    types = {c.name: c.type for c in contract.columns}
    inside = ", ".join(f"{quote(n)}: {types[n]}" for n in extreme_columns(contract)) or "none: STRING"
    seen = f"ARRAY<STRUCT<sequence: {SEQUENCE_DDL}, extremes: STRUCT<{inside}>>>"
    return (
        f"{contract.ddl()}, valid_from TIMESTAMP, valid_to TIMESTAMP, {DELETED} BOOLEAN, "
        f"{SEQUENCE} {SEQUENCE_DDL}, {FIRST} BOOLEAN, {SEEN} {seen}"
    )


def as_known_by(history: DataFrame, contract: Contract, known_by: datetime) -> DataFrame:
    """The history as it would be had nothing been delivered at or after an instant."""
    delivered = F.col(f"{SEQUENCE}.received") < F.lit(known_by)
    return build_scd2(explode_versions(history, contract).where(delivered), contract)


def history_columns(contract: Contract) -> list[str]:
    """The columns of ``silver.<entity>_history``."""
    return [*contract.column_names, "valid_from", "valid_to", DELETED, SEQUENCE, FIRST, SEEN]


def earliest(staged: DataFrame, contract: Contract) -> DataFrame:
    """For insert-only entities: per key, the version with the lowest sequence."""
    values = [c for c in contract.column_names if c not in contract.keys]
    lowest = F.min_by(F.struct(*values, SEQUENCE), SEQUENCE).alias("v")
    return staged.groupBy(*contract.keys).agg(lowest).select(*contract.keys, "v.*")


def as_versions(staged: DataFrame, contract: Contract) -> DataFrame:
    """Staged rows as versions: keys, latest columns, ``_deleted``, ``_sequence``, ``_extremes``.

    ``_extremes`` holds the values of the columns merged by least or greatest, so that each version
    keeps its own.
    """
    return staged.select(
        *contract.keys,
        *contract.merged_by("latest"),
        DELETED,
        SEQUENCE,
        _extremes(contract, lambda c: F.col(c)).alias("_extremes"),
    )


def explode_versions(history: DataFrame, contract: Contract) -> DataFrame:
    """A history's intervals as the versions they were made from."""
    return history.select(*contract.keys, *contract.merged_by("latest"), DELETED, F.explode(SEEN).alias("seen")).select(
        *contract.keys,
        *contract.merged_by("latest"),
        DELETED,
        F.col("seen.sequence").alias(SEQUENCE),
        F.col("seen.extremes").alias("_extremes"),
    )


def build_scd2(versions: DataFrame, contract: Contract) -> DataFrame:
    """The history of each key: intervals in which its latest columns did not change.

    Args:
        versions: ``as_versions`` and ``explode_versions``, in any order, repeated or not.

    Returns:
        ``history_columns``; per key, the first interval has ``_first``, the last has no
        ``valid_to``. Columns merged by least or greatest have their value over the interval. A
        deletion is an interval with ``_deleted``.
    """
    keys, latest = contract.keys, contract.merged_by("latest")
    state = F.struct(DELETED, *[F.when(~F.col(DELETED), F.col(c)).alias(c) for c in latest])
    # Two rows of one sequence can only be one delivery mapped to the same key twice; the greater
    # one counts, so that the result does not depend on the order of rows.
    in_order = Window.partitionBy(*keys).orderBy(SEQUENCE, F.desc("_state"), F.desc("_extremes"))
    marked = (
        versions.withColumn("_state", state)
        .withColumn("_previous", F.lag(SEQUENCE).over(in_order))
        .where(~F.col(SEQUENCE).eqNullSafe(F.col("_previous")))
        .withColumn("_before", F.lag("_state").over(in_order))
        .withColumn("_starts", (~F.col("_state").eqNullSafe(F.col("_before"))).cast("int"))
        .withColumn("_interval", F.sum("_starts").over(in_order))
    )
    seen = F.sort_array(
        F.collect_list(F.struct(F.col(SEQUENCE).alias("sequence"), F.col("_extremes").alias("extremes")))
    )
    intervals = marked.groupBy(*keys, "_interval").agg(F.first("_state").alias("_state"), seen.alias(SEEN))
    following = Window.partitionBy(*keys).orderBy("_interval")
    began = F.element_at(SEEN, 1)["sequence"]
    return intervals.select(
        *[_column(name, contract) for name in contract.column_names],
        began["at"].alias("valid_from"),
        F.lead(began["at"]).over(following).alias("valid_to"),
        F.col(f"_state.{DELETED}").alias(DELETED),
        began.alias(SEQUENCE),
        (F.col("_interval") == 1).alias(FIRST),
        SEEN,
    )


def current(history: DataFrame, contract: Contract) -> DataFrame:
    """The state of each key after all its versions, with ``_deleted`` and the sequence that decided it."""
    names = contract.merged_by("latest")
    last = F.max_by(F.struct(*names, DELETED, F.element_at(SEEN, -1)["sequence"].alias(SEQUENCE)), SEQUENCE)
    extremes = [_extreme(c, contract)(F.when(~F.col(DELETED), F.col(c))).alias(c) for c in extreme_columns(contract)]
    folded = history.groupBy(*contract.keys).agg(last.alias("v"), *extremes)
    return folded.select(*contract.keys, "v.*", *extreme_columns(contract))


def _column(name: str, contract: Contract) -> Column:
    if name in contract.keys:
        return F.col(name)
    if name in contract.merged_by("latest"):
        return F.col(f"_state.{name}").alias(name)
    values = F.transform(SEEN, lambda v: v["extremes"][name])
    best = F.array_min(values) if name in contract.merged_by("least") else F.array_max(values)
    return best.alias(name)


def extreme_columns(contract: Contract) -> list[str]:
    return contract.merged_by("least") + contract.merged_by("greatest")


def _extreme(name: str, contract: Contract):  # type: ignore[no-untyped-def]
    return F.min if name in contract.merged_by("least") else F.max


def _extremes(contract: Contract, value) -> Column:  # type: ignore[no-untyped-def]
    names = extreme_columns(contract)
    return F.struct(*[value(n) for n in names]) if names else F.struct(F.lit(None).cast("string").alias("none"))
