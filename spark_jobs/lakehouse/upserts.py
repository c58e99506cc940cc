"""What a MERGE by key says, and which rows are worth one: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.sql import literal, quote

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
        # Every name in here is quoted, and the conditions are the callers' own.
        values = ", ".join(f"s.{quote(c)}" for c in self.columns)
        kept = f" AND NOT ({self.delete_when})" if self.delete_when else ""
        inserted = f"INSERT ({', '.join(map(quote, self.columns))}) VALUES ({values})"  # noqa: S608
        return f"{self.clauses_of_matched} WHEN NOT MATCHED{kept} THEN {inserted}"

    @property
    def clauses_of_matched(self) -> str:
        """Those of a MERGE of rows whose keys are there."""
        deleted = f"WHEN MATCHED AND {self.delete_when} THEN DELETE " if self.delete_when else ""
        assignments = ", ".join(f"t.{quote(c)} = s.{quote(c)}" for c in self.columns)
        return f"{deleted}WHEN MATCHED AND ({self.update_when}) THEN UPDATE SET {assignments}"

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


def same_key(keys: Sequence[str], within: tuple[object, object] | None) -> str:
    """SQL that joins ``t`` and ``s`` by key; files of ``t`` with no key within a range are not read."""
    on = [f"t.{quote(k)} = s.{quote(k)}" for k in keys]
    if within is not None:
        on.append(f"t.{quote(keys[0])} BETWEEN {literal(within[0])} AND {literal(within[1])}")
    return " AND ".join(on)


def repeated(rows: DataFrame, keys: Sequence[str], most: int = 5) -> str:
    """The keys of which there are several rows, for a message."""
    found = rows.groupBy(*keys).count().where("count > 1").orderBy(*keys).limit(most + 1).collect()
    named = [", ".join(f"{k} {r[k]!r}" for k in keys) + f" ({r['count']} rows)" for r in found[:most]]
    return "; ".join([*named, "and more"] if len(found) > most else named)
