"""Which tables are worth rewriting, from what their logs tell."""

from __future__ import annotations

import pytest
from lakehouse.maintenance.needs import SMALL_FILES, TARGET_BYTES, Commit, Layout, layout, need

CLUSTERING, COMPACTION = Commit(4, compacted=True, clustered=True), Commit(4, compacted=True)


def test_files_are_told_by_their_partition() -> None:
    files = [
        "file:/w/gold/t/as_of=2026-03-01%2000%3A00%3A00/a.parquet",
        "file:/w/gold/t/as_of=2026-03-01%2000%3A00%3A00/b.parquet",
    ]
    assert layout(files, 1, 10, []).files == {"as_of=2026-03-01 00:00:00": 2}
    assert layout(["file:/w/silver/t/a.parquet"], 0, 10, []).files == {"": 1}
    deep = layout(["s3://b/t/day=1/hour=2/a.parquet", "s3://b/t/day=1/hour=3/a.parquet"], 2, 10, [])
    assert deep.files == {"day=1/hour=2": 1, "day=1/hour=3": 1}
    assert layout([], 1, 0, []).number == 0


@pytest.mark.parametrize(
    ("files", "size", "crowded"),
    [
        (SMALL_FILES, 10, False),
        (SMALL_FILES + 1, 10, True),
        # As many as its size asks for.
        (SMALL_FILES + 100, 100 * TARGET_BYTES, False),
        (SMALL_FILES + 101, 100 * TARGET_BYTES, True),
        (0, 0, False),
    ],
)  # fmt: skip
def test_a_table_of_small_files_is_crowded(files: int, size: int, crowded: bool) -> None:
    found = need(Layout({"": files}, size), ())
    assert (bool(found.crowded), found.optimize) == (crowded, crowded)


def test_a_partition_is_judged_by_itself() -> None:
    found = need(Layout({"as_of=1": 3, "as_of=2": 30, "as_of=3": 8}, 1_000), ("customer_id",))
    assert found.crowded == {"as_of=2": 30}
    assert found.urgency == 30
    assert found.reason == "30 small files in 1 partitions"


@pytest.mark.parametrize(
    ("commits", "unclustered", "worth_it"),
    [
        ([CLUSTERING], 0.0, False),
        ([Commit(1), CLUSTERING], 0.25, False),
        ([Commit(1), Commit(1), CLUSTERING, Commit(9)], 0.5, True),
        # What compaction rewrites is no longer clustered.
        ([COMPACTION, CLUSTERING], 1.0, True),
        ([Commit(9), CLUSTERING], 1.0, True),
        ([Commit(4)], 1.0, True),
        ([], 1.0, True),
    ],
)  # fmt: skip
def test_a_table_is_clustered_anew_when_enough_of_it_is_not(
    commits: list[Commit], unclustered: float, worth_it: bool
) -> None:
    found = Layout({"": 4}, 1_000, tuple(commits))
    assert (need(found, ("customer_id",)).unclustered, need(found, ("customer_id",)).optimize) == (
        unclustered,
        worth_it,
    )
    assert not need(found, ()).optimize


def test_one_file_is_as_clustered_as_can_be() -> None:
    assert not need(Layout({"": 1}, 1_000, (Commit(1),)), ("customer_id",)).optimize


def test_the_worst_is_told_by_the_files_that_a_reader_opens_in_vain() -> None:
    crowded, loose = need(Layout({"": 40}, 1_000), ()), need(Layout({"": 6}, 1_000), ("customer_id",))
    assert crowded.urgency > loose.urgency > need(Layout({"": 6}, 1_000), ()).urgency == 0
    assert loose.reason == "100% of its files not clustered"
    assert need(Layout({"": 6}, 1_000), ()).reason == "is fine"


@pytest.mark.parametrize(
    ("commits", "rows", "marked", "worth_it"),
    [
        ([Commit(1, rows_marked=10)], 90, 0.1, False),
        ([Commit(1, rows_marked=11)], 89, 0.11, True),
        ([Commit(1, rows_marked=20), Commit(1), Commit(1, rows_marked=30)], 50, 0.5, True),
        # Compaction has dropped what was marked before it.
        ([Commit(1, rows_marked=5), COMPACTION, Commit(1, rows_marked=90)], 95, 0.05, False),
        ([Commit(1, rows_marked=7)], 0, 1.0, True),
        ([], 0, 0.0, False),
    ],
)  # fmt: skip
def test_a_table_of_which_many_rows_are_only_marked_as_gone_is_written_anew(
    commits: list[Commit], rows: int, marked: float, worth_it: bool
) -> None:
    found = need(Layout({"": 4}, 1_000, tuple(commits), rows), ())
    assert (found.marked, found.optimize) == (marked, worth_it)
    assert found.urgency == 4 * marked
    if worth_it:
        assert found.reason == f"{marked:.0%} of the rows in its files are marked as gone"
