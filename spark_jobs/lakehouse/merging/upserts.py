"""Rows into a table by key: what a MERGE of them says, which of them are worth one, and which commits they get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.sql import quote, same_key
from lakehouse.tables import Transaction, Warehouse

FIRST_ROWS = "first rows"
"""The transaction by which an empty table gets its rows without a MERGE: of two writers at once, one is late and merges."""

THERE = "_there"
"""Whether the table has a row with the key of a row."""


@dataclass(frozen=True)
class Upsert:
    """Rows ``s`` into a table ``t``: those with a key that is there update it, the others are inserted.

    Attributes:
        update_when: SQL over ``t`` and ``s``.
        delete_when: SQL over ``s``; such rows are not inserted either.
        within: the least and the greatest value of the first key in the rows.
        few: the rows fit into the memory of each process, so that the table need not be shuffled to find their keys.
    """

    keys: Sequence[str]
    columns: Sequence[str]
    update_when: str
    delete_when: str | None = None
    within: tuple[object, object] | None = None
    few: bool = False

    @property
    def clauses(self) -> str:
        """The WHEN clauses of a MERGE."""
        return f"{self.clauses_of_matched} {self.clause_of_new}"

    @property
    def clauses_of_matched(self) -> str:
        """Those for rows whose keys are there."""
        # Every name in here is quoted, and the conditions are the callers' own.
        deleted = f"WHEN MATCHED AND {self.delete_when} THEN DELETE " if self.delete_when else ""
        assignments = ", ".join(f"t.{quote(c)} = s.{quote(c)}" for c in self.columns)
        return f"{deleted}WHEN MATCHED AND ({self.update_when}) THEN UPDATE SET {assignments}"

    @property
    def clause_of_new(self) -> str:
        """The one for rows whose keys are not there."""
        values = ", ".join(f"s.{quote(c)}" for c in self.columns)
        kept = f" AND NOT ({self.delete_when})" if self.delete_when else ""
        inserted = f"INSERT ({', '.join(map(quote, self.columns))}) VALUES ({values})"  # noqa: S608
        return f"WHEN NOT MATCHED{kept} THEN {inserted}"

    def inserted(self, rows: DataFrame) -> DataFrame:
        """What the rows make of an empty table."""
        kept = rows.alias("s").where(f"NOT ({self.delete_when})") if self.delete_when else rows
        return kept.select(*map(quote, self.columns))

    def inserts_any(self, rows: DataFrame) -> bool:
        """Whether an empty table would not stay empty; rows that cannot be deletions are not looked at."""
        return self.delete_when is None or not self.inserted(rows).isEmpty()

    def changing(self, rows: DataFrame, table: DataFrame) -> DataFrame:
        """The rows by which the table would become another, and ``_there``."""
        there = f"t.{quote(self.keys[0])} IS NOT NULL"
        gone = f"({self.delete_when})" if self.delete_when else "false"
        changes = f"CASE WHEN {there} THEN {gone} OR ({self.update_when}) ELSE NOT {gone} END"
        on = F.expr(same_key(self.keys, self.within))
        if self.few:
            # The side whose rows are all kept cannot be broadcast; a semi-join's can.
            table = table.alias("t").join(F.broadcast(rows.select(*map(quote, self.keys)).alias("s")), on, "left_semi")
        both = rows.alias("s").join(table.alias("t"), on, "left")
        return both.where(F.expr(changes)).select("s.*", F.expr(there).alias(THERE))


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
        transaction: by it, of few rows, those that are new may be appended in a commit of their own.
        before: the table's rows with the keys of ``rows``, if they have been read; they must be of a version.

    Returns:
        Numbers of rows: inserted, updated, deleted.

    Raises:
        InternalError: a row of the table has the key of several rows; the keys are named.
    """
    if not warehouse.size(table):
        if how.inserts_any(rows):
            # Without a MERGE, which would first hold all of them in memory.
            inserted = warehouse.append(how.inserted(rows), table, Transaction(FIRST_ROWS, 1))
            if inserted is not None:
                return {"inserted": inserted, "updated": 0, "deleted": 0}
        return warehouse.merge(rows, table, how.keys, how.clauses, how.within)
    if how.few:
        before = warehouse.read(table, pinned=True) if before is None else before
        return _upsert_few(warehouse, rows, table, how, before, transaction)
    # A file of which a row is matched is written anew, although the row stays as it is.
    return warehouse.merge(how.changing(rows, warehouse.read(table)), table, how.keys, how.clauses, how.within)


def _upsert_few(
    warehouse: Warehouse,
    rows: DataFrame,
    table: str,
    how: Upsert,
    before: DataFrame,
    transaction: Transaction | None,
) -> dict[str, int]:
    """A MERGE that may insert shuffles all rows of the files in which it changes one: so only where it has to."""
    changing = how.changing(rows, before).persist()
    there, new = (changing.where(F.col(THERE) == known) for known in (True, False))

    def merge(some: DataFrame, clauses: str) -> dict[str, int]:
        return warehouse.merge(F.broadcast(some), table, how.keys, clauses, how.within)

    try:
        numbers = {row[0]: row[1] for row in changing.groupBy(THERE).count().collect()}
        if numbers.get(False) and transaction is None:
            return merge(changing, how.clauses)
        done = {"inserted": 0, "updated": 0, "deleted": 0}
        if numbers.get(True):
            done = merge(there, how.clauses_of_matched)
        if numbers.get(False) and transaction is not None:
            inserted = warehouse.append(how.inserted(new).coalesce(1), table, transaction)
            if inserted is None:
                # Another run has appended by it, perhaps other rows; what it has made of these since is newer.
                inserted = merge(new, how.clause_of_new)["inserted"]
            done["inserted"] = inserted
        return done
    finally:
        changing.unpersist()
