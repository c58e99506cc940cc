"""Whether tables are as fresh as promised, and what maintenance would do, from tables written without Spark."""

from __future__ import annotations

import os
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from lakehouse_airflow.health import Health, freshness
from lakehouse_airflow.lake import Lake, Table
from lakehouse_airflow.suite import ConfigurationError, Contracts
from small_warehouse import add, at, fill
from support import ROOT


@pytest.fixture
def contracts(tmp_path: Path) -> Contracts:
    shutil.copytree(ROOT / "contracts", tmp_path / "contracts")
    return Contracts(tmp_path / "contracts")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    fill(tmp_path / "warehouse")
    return Lake(str(tmp_path / "warehouse"))


def test_a_table_is_as_old_as_its_newest_rows_and_gold_as_its_newest_snapshot(lake: Lake, contracts: Contracts) -> None:
    found = freshness(lake.state(), contracts.read())
    # Of the tables that are there: no rows have ever come for transactions, and a batch without rows brings none.
    assert [(f.table, f.newest, f.limit) for f in found] == [
        ("gold.customer_features", at(6), timedelta(days=1)),
        ("silver.interactions", at(7), timedelta(days=1)),
    ]
    (silver,) = (f for f in found if f.table == "silver.interactions")
    assert not silver.late(at(7) + timedelta(days=1))
    assert silver.late(at(7) + timedelta(days=1, seconds=1))


def test_files_are_judged_anew_when_the_table_has_changed(lake: Lake, contracts: Contracts, tmp_path: Path) -> None:
    health = Health(lake, contracts)
    judged = health.need(lake.table("bronze.clicks"))
    assert judged is not None
    assert (judged.layout.number, judged.optimize, judged.reason) == (2, False, "is fine")
    for n in range(10):
        add(tmp_path / "warehouse", "bronze.clicks", (f"{n}",))
    judged = health.need(lake.table("bronze.clicks"))
    assert judged is not None
    assert (judged.layout.number, judged.reason) == (12, "12 small files")


def test_files_are_judged_anew_when_the_contract_has_changed(lake: Lake, contracts: Contracts, tmp_path: Path) -> None:
    add(tmp_path / "warehouse", "silver.interactions", ("c1", at(8), "view", None, None))
    health = Health(lake, contracts)
    judged = health.need(lake.table("silver.interactions"))
    assert judged is not None
    assert judged.reason == "100% of its files not clustered"
    file = contracts.folder / "interactions.odcs.yaml"
    order = "{property: zOrderBy, value: [customer_id]}"
    assert order in file.read_text()
    file.write_text(file.read_text().replace(order, "{property: zOrderBy, value: []}"))
    judged = health.need(lake.table("silver.interactions"))
    assert judged is not None
    assert judged.reason == "is fine"


@pytest.mark.parametrize("name", ["gold.training_churn", "ops.training_sets", "silver.nothing_known"])
def test_what_maintenance_does_not_tend_is_not_judged(lake: Lake, contracts: Contracts, name: str) -> None:
    assert Health(lake, contracts).need(Table(name)) is None


def test_contracts_are_read_again_when_one_has_changed(contracts: Contracts, tmp_path: Path) -> None:
    assert contracts.of("silver.transactions") is contracts.of("silver.transactions_history")
    assert contracts.of("gold.transactions") is None
    assert contracts.of("staged.transactions") is None
    file = contracts.folder / "transactions.odcs.yaml"
    text = file.read_text()
    assert "freshness, value: 1, unit: d" in text
    file.write_text(text.replace("freshness, value: 1, unit: d", "freshness, value: 6, unit: h"))
    os.utime(file, (1, 1))
    contract = contracts.of("silver.transactions")
    assert contract is not None
    assert contract.freshness_hours == 6
    file.write_text("{")
    with pytest.raises(ConfigurationError, match=r"transactions\.odcs\.yaml"):
        contracts.read()
    assert Contracts(tmp_path / "none").of("silver.transactions") is None
