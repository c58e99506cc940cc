"""What the page of features tells, against Python's own statistics."""

from __future__ import annotations

import statistics
from decimal import Decimal
from pathlib import Path

import pytest
from lakehouse_airflow import features
from lakehouse_airflow.features import Figures
from lakehouse_airflow.lake import Lake
from lakehouse_airflow.suite import Column, Contracts
from small_warehouse import RUDE_ID, add, at, fill
from support import ROOT

KNOWN = [
    Column("total_spend", "decimal(28,2)", ""),
    Column("session_count", "int", ""),
    Column("segment", "string", ""),
    Column("one_that_came_later", "int", ""),
]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    folder = tmp_path_factory.mktemp("warehouse")
    fill(folder)
    return Lake(str(folder))


def test_figures_of_one_snapshot(lake: Lake) -> None:
    spent = [2.0, 4.0, 12.0, 2.0]
    found = features.figures(lake, KNOWN, at(1))
    mean, spread = statistics.fmean(spent), statistics.pstdev(spent)
    assert set(found) == {"total_spend", "session_count", "segment"}
    assert found["total_spend"] == Figures(0.0, 2.0, statistics.median(spent), mean, 12.0, pytest.approx(spread))
    assert found["session_count"] == Figures(0.75, 7.0, 7.0, 7.0, 7.0, 0.0)
    assert found["segment"] == Figures(0.25)


def test_figures_are_other_ones_when_the_table_or_the_contract_has_changed(tmp_path: Path) -> None:
    fill(tmp_path)
    lake = Lake(str(tmp_path))
    assert features.figures(lake, KNOWN, at(0))["total_spend"].most == 8
    assert features.figures(lake, KNOWN, at(1))["total_spend"].most == 12
    fewer = features.figures(lake, KNOWN[:1], at(1))
    assert list(fewer) == ["total_spend"], "the contract has changed"
    add(tmp_path, features.TABLE, ("c9", at(0), Decimal(40), 1, "Loyal"))
    assert features.figures(lake, KNOWN, at(0))["total_spend"].most == 40


def test_a_mean_has_moved_by_so_many_of_the_earlier_standard_deviations(lake: Lake) -> None:
    before, now = (features.figures(lake, KNOWN, at(hour)) for hour in (0, 1))
    expected = (5.0 - 4.0) / statistics.pstdev([1, 3, 8])
    assert now["total_spend"].moved(before["total_spend"]) == pytest.approx(expected)
    # Without spread, without a number, without an earlier snapshot.
    assert now["session_count"].moved(before["session_count"]) is None
    assert now["segment"].moved(before["segment"]) is None
    assert now["total_spend"].moved(None) is None


def test_a_snapshot_without_rows_has_no_figures(lake: Lake) -> None:
    assert features.figures(lake, KNOWN, at(9))["total_spend"] == Figures(0.0)


def test_one_customer(lake: Lake) -> None:
    row = features.customer(lake, RUDE_ID, at(1))
    assert row is not None
    assert (row["customer_id"], str(row["total_spend"])) == (RUDE_ID, "2.00")
    assert features.customer(lake, RUDE_ID, at(0)) is None
    assert features.customer(lake, "' OR 1 = 1 --", at(1)) is None
    assert [(e["at"], e["what"], e["product_id"], e["detail"]) for e in features.timeline(lake, RUDE_ID)] == [
        (at(5), "Cancelled", None, "2.00"),
        (at(4), "view", "p1", "/<b>page</b>"),
        (at(3), "Completed", "p1", "7.50"),
    ]
    assert [e["what"] for e in features.timeline(lake, RUDE_ID, most=1)] == ["Cancelled"]


def test_the_shipped_contract_describes_its_features() -> None:
    described = {f.name: f for f in features.described(Contracts(ROOT / "contracts").of(features.TABLE))}
    assert "customer_id" not in described
    assert described["total_spend"].description.startswith("Sum of purchase amounts.")
    assert features.described(None) == []


def test_without_a_contract_nothing_is_asked(lake: Lake) -> None:
    assert features.figures(lake, [], at(1)) == {}
