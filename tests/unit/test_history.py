"""What counts as unusual: figures worked out by hand."""

from __future__ import annotations

import math

import pytest
from lakehouse.validation.history import modified_z, unusual


def test_modified_z_by_hand() -> None:
    # Median 10, distances 2 1 0 1 2, their median 1: 0.6745 * (20 - 10) / 1
    assert modified_z(20, [8, 9, 10, 11, 12]) == pytest.approx(6.745)
    assert modified_z(0, [8, 9, 10, 11, 12]) == pytest.approx(-6.745)


def test_where_more_than_half_are_equal_the_mean_distance_takes_over() -> None:
    # Median 10, distances 0 0 0 0 5, their mean 1: (15 - 10) / 1.253314
    assert modified_z(15, [10, 10, 10, 10, 15]) == pytest.approx(5 / 1.253314)


def test_what_never_differed_is_infinitely_far_from_anything_else() -> None:
    assert modified_z(10, [10, 10]) == 0
    assert modified_z(11, [10, 10]) == math.inf
    assert modified_z(9, [10, 10]) == -math.inf


ROWS = [1000.0, 1010, 990, 1005, 995, 1002, 998, 1001, 1000]


@pytest.mark.parametrize(
    ("measure", "value", "past", "text"),
    [
        ("rows", 1003, ROWS, None),
        ("rows", 100, ROWS, "100 rows; the last 9 batches had 990 to 1,010, median 1,000 (robust z -303.5)"),
        # Far off by the score, but a person would not care.
        ("rows", 1200, ROWS, None),
        ("rows", 100, ROWS[:7], None),
        ("rejected", 0.5, [0.01] * 9, "50.0% of the rows are rejected; the last 9 batches had 1.0% to 1.0%, median 1.0% (never another value)"),
        ("rejected", 0.015, [0.01] * 9, None),
        ("missing:email", 0.9, [0.1, 0.12] * 5, "email is missing in 90.0%; the last 10 batches had 10.0% to 12.0%, median 11.0% (robust z +53.3)"),
        ("rule:cast:amount", 0.2, [0.0, 0.001] * 5, "20.0% of the rows break cast:amount; the last 10 batches had 0.0% to 0.1%, median 0.1% (robust z +269.1)"),
    ],
)  # fmt: skip
def test_unusual(measure: str, value: float, past: list[float], text: str | None) -> None:
    assert unusual(measure, value, past) == text
