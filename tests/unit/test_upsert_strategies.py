"""Which way rows come into a table, by its size and theirs."""

from __future__ import annotations

import pytest
from lakehouse import sizes
from lakehouse.merging.upserts import Strategy, Upsert, strategy

LIMIT = sizes.MERGED_WHOLE_BYTES


@pytest.mark.parametrize(
    ("size", "is_small", "delete_when", "expected"),
    [
        (0, True, None, Strategy.FIRST_ROWS),
        (0, False, "s.gone", Strategy.FIRST_ROWS),
        (1, True, "s.gone", Strategy.MERGE),
        (LIMIT, True, "s.gone", Strategy.MERGE),
        (LIMIT + 1, True, "s.gone", Strategy.APPEND_NEW_KEYS),
        (1, True, None, Strategy.APPEND_NEW_KEYS),
        (1, False, None, Strategy.MERGE),
        (LIMIT + 1, False, "s.gone", Strategy.MERGE),
    ],
)
def test_the_strategy(size: int, is_small: bool, delete_when: str | None, expected: Strategy) -> None:
    how = Upsert(["id"], ["id"], "true", delete_when, is_small=is_small)
    assert strategy(how, size) == expected
