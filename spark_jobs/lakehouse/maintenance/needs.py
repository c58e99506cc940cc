"""What a table's files look like, and whether they are worth rewriting: pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any
from urllib.parse import unquote

TARGET_BYTES = 128 * 1024 * 1024
"""How large a file should be."""
SMALL_FILES = 8
"""How many files a partition may have beyond what its size asks for."""
MAX_UNCLUSTERED = 0.3
"""The share of a table's files that may have come since it was last clustered. Clustering rewrites all of them."""
MAX_MARKED = 0.1
"""The share of a table's rows that may only be marked as gone: a reader reads them, and drops them."""
COMMITS = 1_000
"""How far back in a table's history the last clustering is looked for."""
OPERATIONS = (
    "ops.progress",
    "ops.files",
    "ops.quality",
    "ops.runs",
    "ops.snapshots",
    "ops.customer_days",
    "ops.stream",
)
"""The tables of ops that are tended: those that grow with every run."""
ADDED = ("numAddedFiles", "numTargetFilesAdded", "numFiles")
"""What the operations of Delta call the files that they have added."""
MARKED = ("numTargetRowsUpdated", "numTargetRowsDeleted")
"""What MERGE calls the rows that are no longer there as they were."""


@dataclass(frozen=True)
class Commit:
    """A version of a table.

    Attributes:
        files_added: how many files it has added.
        rows_marked: rows of files of before that it has marked as gone, by deletion vectors.
        compacted: whether it is an OPTIMIZE, which leaves no file with many such rows.
        clustered: whether it has sorted all rows, too.
    """

    files_added: int
    rows_marked: int = 0
    compacted: bool = False
    clustered: bool = False


@dataclass(frozen=True)
class Layout:
    """What a table's log tells.

    Attributes:
        files: their number by partition (``as_of=...``; empty where the table has none).
        size: bytes of all of them.
        commits: newest first.
        rows: those that are there.
    """

    files: Mapping[str, int]
    size: int
    commits: tuple[Commit, ...] = ()
    rows: int = 0

    @property
    def number(self) -> int:
        return sum(self.files.values())


@dataclass(frozen=True)
class Need:
    """What to do about a table.

    Attributes:
        crowded: partitions of many small files, with their numbers.
        unclustered: share of the files that came since the table was last clustered; 0 if nothing is declared.
        marked: share of the rows in its files that are marked as gone since the files were last compacted.
    """

    layout: Layout
    crowded: Mapping[str, int]
    unclustered: float
    marked: float

    @property
    def optimize(self) -> bool:
        return bool(self.crowded) or self.unclustered > MAX_UNCLUSTERED or self.marked > MAX_MARKED

    @property
    def urgency(self) -> float:
        """Files too many, all in all: what a reader opens in vain."""
        return sum(self.crowded.values()) + max(self.unclustered, self.marked) * self.layout.number

    @property
    def reason(self) -> str:
        reasons = []
        if self.crowded:
            partitions = f" in {len(self.crowded)} partitions" if "" not in self.crowded else ""
            reasons.append(f"{sum(self.crowded.values()):,} small files{partitions}")
        if self.unclustered > MAX_UNCLUSTERED:
            reasons.append(f"{self.unclustered:.0%} of its files not clustered")
        if self.marked > MAX_MARKED:
            reasons.append(f"{self.marked:.0%} of the rows in its files are marked as gone")
        return " and ".join(reasons) or "is fine"


def commit(operation: str, parameters: Mapping[str, Any], metrics: Mapping[str, Any]) -> Commit:
    """A version of a table from its entry in the table's history."""
    compacted = operation == "OPTIMIZE"
    # Without a vector, files are written anew without the rows.
    marks = any(int(metrics.get(f"numTargetDeletionVectors{how}") or 0) for how in ("Added", "Updated"))
    return Commit(
        files_added=int(next((metrics[m] for m in ADDED if metrics.get(m)), 0)),
        rows_marked=sum(int(metrics.get(m) or 0) for m in MARKED) if marks else 0,
        compacted=compacted,
        clustered=compacted and parameters.get("zOrderBy", "[]") != "[]",
    )


def layout(files: Iterable[str], partition_columns: int, size: int, commits: Iterable[Commit], rows: int = 0) -> Layout:
    """A table's layout from the addresses of its files."""
    folders = Counter("/".join(unquote(f).split("/")[-1 - partition_columns : -1]) for f in files)
    return Layout(dict(folders), size, tuple(commits), rows)


def need(found: Layout, z_order_by: tuple[str, ...]) -> Need:
    """What a layout needs, if its table is to be clustered by some columns."""
    each = found.size / found.number if found.number else 0
    crowded = {p: n for p, n in found.files.items() if n > SMALL_FILES + n * each // TARGET_BYTES}
    partitioned = "" not in found.files
    # Of a table with partitions, those that were rewritten are not told by its commits; each is written once, as a whole.
    clusters = bool(z_order_by) and not partitioned and found.number > 1
    return Need(found, crowded, _unclustered(found) if clusters else 0.0, _marked(found))


def _unclustered(found: Layout) -> float:
    added = 0
    for commit in found.commits:
        if commit.clustered:
            return min(1.0, added / found.number)
        added += commit.files_added
    return 1.0


def _marked(found: Layout) -> float:
    marked = sum(c.rows_marked for c in takewhile(lambda c: not c.compacted, found.commits))
    return marked / (found.rows + marked) if marked else 0.0
