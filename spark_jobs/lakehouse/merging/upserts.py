"""Rows into a table by key: what a MERGE of them says, which of them are worth one, and which commits they get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse import sizes
from lakehouse.runtime.journal import Transaction
from lakehouse.sql import assignments, insertion, quote, same_key
from lakehouse.tables import FIRST_ROWS, Warehouse

KNOWN = "_known"
"""Whether the table has rows with the ``whole`` keys of a row."""


@dataclass(frozen=True)
class Upsert:
    """Rows ``s`` into a table ``t``: those with a key that is there update it, the others are inserted.

    Attributes:
        update_when: SQL over ``t`` and ``s``.
        delete_when: SQL over ``s``; such rows are not inserted either.
        key_range: the least and the greatest value of the first key in the rows.
        is_small: the rows fit into the memory of each process, so that the table need not be shuffled to find their keys.
        whole: the keys whose rows must change in one commit, the first of ``keys`` among them at the first place; by default
            all keys, a row each.
    """

    keys: Sequence[str]
    columns: Sequence[str]
    update_when: str
    delete_when: str | None = None
    key_range: tuple[object, object] | None = None
    is_small: bool = False
    whole: Sequence[str] = ()

    @property
    def together(self) -> list[str]:
        """The keys whose rows get one commit."""
        return [*(self.whole or self.keys)]

    @property
    def clauses(self) -> str:
        """The WHEN clauses of a MERGE."""
        return f"{self.clauses_of_matched} {self.clause_of_new}"

    @property
    def clauses_of_matched(self) -> str:
        """Those for rows whose keys are there."""
        # Every name in here is quoted, and the conditions are the callers' own.
        deleted = f"WHEN MATCHED AND {self.delete_when} THEN DELETE " if self.delete_when else ""
        return f"{deleted}WHEN MATCHED AND ({self.update_when}) THEN UPDATE SET {assignments(self.columns)}"

    @property
    def clause_of_new(self) -> str:
        """The one for rows whose keys are not there."""
        kept = f" AND NOT ({self.delete_when})" if self.delete_when else ""
        return f"WHEN NOT MATCHED{kept} THEN {insertion(self.columns)}"

    def inserted(self, rows: DataFrame) -> DataFrame:
        """What the rows make of an empty table."""
        kept = rows.alias("s").where(f"NOT ({self.delete_when})") if self.delete_when else rows
        return kept.select(*map(quote, self.columns))

    def inserts_any(self, rows: DataFrame) -> bool:
        """Whether an empty table would not stay empty; rows that cannot be deletions are not looked at."""
        return self.delete_when is None or not self.inserted(rows).isEmpty()

    def belonging(self, rows: DataFrame, table: DataFrame) -> DataFrame:
        """The table's rows with the ``whole`` keys of rows."""
        keys = rows.select(*map(quote, self.together)).distinct()
        same = F.expr(same_key(self.together, self.key_range))
        return table.alias("t").join((F.broadcast(keys) if self.is_small else keys).alias("s"), same, "left_semi")

    def changing(self, rows: DataFrame, table: DataFrame) -> DataFrame:
        """The rows by which the table would become another, and whether their keys are there (``KNOWN``)."""
        there = f"t.{quote(self.keys[0])} IS NOT NULL"
        gone = f"({self.delete_when})" if self.delete_when else "false"
        changes = f"CASE WHEN {there} THEN {gone} OR ({self.update_when}) ELSE NOT {gone} END"
        both = rows.alias("s").join(table.alias("t"), F.expr(same_key(self.keys, self.key_range)), "left")
        return both.where(F.expr(changes)).select("s.*", F.expr(there).alias(KNOWN))


class Strategy(Enum):
    """How rows come into a table."""

    FIRST_ROWS = "appended to an empty table, without a MERGE, which would first hold all of them in memory"
    APPEND_NEW_KEYS = "a MERGE of those whose keys are there, beside which the others are appended"
    MERGE = "one MERGE"


def strategy(how: Upsert, size: int) -> Strategy:
    """How rows come into a table of so many bytes; see ``sizes``."""
    if not size:
        return Strategy.FIRST_ROWS
    # Rows that are never deleted are mostly new.
    if how.is_small and (size > sizes.MERGED_WHOLE_BYTES or how.delete_when is None):
        return Strategy.APPEND_NEW_KEYS
    return Strategy.MERGE


def upsert(
    warehouse: Warehouse,
    rows: DataFrame,
    table: str,
    how: Upsert,
    *,
    transaction: Transaction | None = None,
    before: DataFrame | None = None,
) -> dict[str, int]:
    """Upsert rows into a table by key; what changes nothing writes no version.

    Args:
        rows: one row a key, with at least the columns of ``how`` and whatever its conditions name.
        transaction: by it, of few rows, those that belong to nothing that is there are appended in a commit of their own.
        before: the table's rows with the ``whole`` keys of the rows, where they have been read; of a version. Many rows do
            without.

    Returns:
        Numbers of rows: inserted, updated, deleted.

    Raises:
        InternalError: a row of the table has the key of several rows; the keys are named.
    """
    match strategy(how, warehouse.size(table)):
        case Strategy.FIRST_ROWS:
            inserted = None
            if how.inserts_any(rows):
                inserted = warehouse.append(how.inserted(rows), table, FIRST_ROWS)
            if inserted is not None:
                return {"inserted": inserted, "updated": 0, "deleted": 0}
            return warehouse.merge(rows, table, how.keys, how.clauses, how.key_range)
        case Strategy.APPEND_NEW_KEYS:
            if before is None:
                before = how.belonging(rows, warehouse.read(table, version="newest"))
            return _append_new_keys(warehouse, rows, table, how, before, transaction)
        case Strategy.MERGE:
            # A file of which a row is matched is written anew, although the row stays as it is.
            if before is None:
                before = warehouse.read(table, version="newest" if how.is_small else None)
            return warehouse.merge(how.changing(rows, before), table, how.keys, how.clauses, how.key_range)


def _append_new_keys(
    warehouse: Warehouse,
    rows: DataFrame,
    table: str,
    how: Upsert,
    before: DataFrame,
    transaction: Transaction | None,
) -> dict[str, int]:
    """MERGE rows of keys that are there, then append those of new ones: a commit each.

    A MERGE that may insert shuffles all rows of the files in which it changes one, so it is left for where it has to.
    """
    changing = how.changing(rows, before)
    if how.whole:
        known = before.select(*map(quote, how.together)).distinct().withColumn(KNOWN, F.lit(True))
        joined = changing.drop(KNOWN).join(F.broadcast(known), how.together, "left")
        changing = joined.withColumn(KNOWN, F.coalesce(KNOWN, F.lit(False)))
    changing = changing.persist()
    there, new = changing.where(F.col(KNOWN)), changing.where(~F.col(KNOWN))

    def merge(some: DataFrame, clauses: str, among: Sequence[object] = ()) -> dict[str, int]:
        return warehouse.merge(F.broadcast(some), table, how.keys, clauses, how.key_range, among)

    try:
        numbers = {row[0]: row[1] for row in changing.groupBy(KNOWN).count().collect()}
        if numbers.get(False) and transaction is None:
            return merge(changing, how.clauses)
        done = {"inserted": 0, "updated": 0, "deleted": 0}
        if numbers.get(True) and how.whole:
            done = merge(there, how.clauses, _listed(there, how.keys[0]))
        elif numbers.get(True):
            done = merge(there, how.clauses_of_matched)
        if numbers.get(False) and transaction is not None:
            inserted = warehouse.append(how.inserted(new).coalesce(1), table, transaction)
            if inserted is None:
                # Another run has appended by it, perhaps other rows; what it has made of these since is newer.
                missing = new.join(warehouse.read(table, version="newest"), how.together, "left_anti")
                inserted = merge(missing, how.clause_of_new)["inserted"]
            done["inserted"] += inserted
        return done
    finally:
        changing.unpersist()


def _listed(rows: DataFrame, key: str) -> list[object]:
    """The values of a key, in their order; none if they are many."""
    values = [row[0] for row in rows.select(quote(key)).distinct().limit(sizes.LISTED_KEYS + 1).collect()]
    return sorted(values) if len(values) <= sizes.LISTED_KEYS else []
