"""Rules that do more than reject a row: fail, unique, freshness; by edited copies of the shipped contracts."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from lakehouse.errors import DataRefused
from pipeline import Pipeline, edit_columns
from pyspark.sql import SparkSession
from support import ROOT

HEADER = "CustomerID,Name,Email,RegistrationDate,CustomerType,UpdatedAt"
NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def customers(spark: SparkSession, tmp_path: Path) -> Pipeline:
    shutil.copytree(ROOT / "contracts", tmp_path / "contracts")
    return Pipeline(spark, tmp_path, contracts=tmp_path / "contracts")


def deliver(pipeline: Pipeline, name: str, *lines: str) -> None:
    file = pipeline.landing / "shop/customers" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([HEADER, *lines]) + "\n")


def staged(pipeline: Pipeline) -> list[tuple[str, list[str]]]:
    rows = pipeline.table("staged.customers").select("customer_id", "_warnings").collect()
    return sorted((r["customer_id"], r["_warnings"]) for r in rows)


def test_fail_stops_a_batch_of_which_too_much_breaks_the_rule_and_rejects_the_rows_otherwise(
    customers: Pipeline,
) -> None:
    def strict(properties: list[dict]) -> None:  # type: ignore[type-arg]
        email = next(p for p in properties if p["name"] == "email")
        email["required"] = True
        email.setdefault("customProperties", []).extend(
            [{"property": "severity", "value": {"required": "fail"}}, {"property": "failAbove", "value": 0.25}]
        )

    edit_columns(customers.contracts / "customers.odcs.yaml", strict)
    deliver(customers, "a.csv", *(f"C{n},n,{'' if n < 1 else f'{n}@x.org'},2026-01-01,regular," for n in range(4)))
    customers.run("ingest", only=["shop_customers"])
    report = customers.run("validate", only=["shop_customers"])
    assert report.rules["customers"]["required:email"] == 1
    assert [key for key, _ in staged(customers)] == ["C1", "C2", "C3"]
    deliver(customers, "b.csv", *(f"D{n},n,{'' if n < 2 else f'{n}@y.org'},2026-01-01,regular," for n in range(4)))
    customers.run("ingest", only=["shop_customers"])
    with pytest.raises(DataRefused, match="2 of 4 customers rows break required:email, more than 25%"):
        customers.run("validate", only=["shop_customers"])
    assert [key for key, _ in staged(customers)] == ["C1", "C2", "C3"]
    assert customers.table("quarantine.customers").count() == 1


def test_unique_marks_values_that_several_keys_have_in_the_batch_or_in_silver(customers: Pipeline) -> None:
    def unique(properties: list[dict]) -> None:  # type: ignore[type-arg]
        next(p for p in properties if p["name"] == "email")["unique"] = True

    edit_columns(customers.contracts / "customers.odcs.yaml", unique)
    row = "{},n,{},2026-01-01,regular,{}"
    deliver(
        customers,
        "a.csv",
        row.format("C1", "a@x.org", ""),
        row.format("C2", "b@x.org", ""),
        row.format("C3", "b@x.org", ""),
        row.format("C4", "", ""),
        row.format("C5", "", ""),
    )
    customers.run("ingest", only=["shop_customers"])
    customers.run("validate", only=["shop_customers"])
    customers.run("merge", only=["customers"])
    shared = ["unique:email"]
    assert staged(customers) == [("C1", []), ("C2", shared), ("C3", shared), ("C4", []), ("C5", [])]
    # C1 again is C1, C6 has the address that C1 has in silver.
    deliver(customers, "b.csv", row.format("C1", "a@x.org", "2026-02-01"), row.format("C6", "a@x.org", "2026-02-01"))
    customers.run("ingest", only=["shop_customers"])
    report = customers.run("validate", only=["shop_customers"])
    newest = customers.table("staged.customers").where("_batch_id = 2").select("customer_id", "_warnings").collect()
    assert sorted((r[0], r[1]) for r in newest) == [("C1", shared), ("C6", shared)]
    assert report.rules["customers"]["unique:email"] == 2


def test_an_entity_without_new_rows_for_longer_than_its_contract_allows_is_told(customers: Pipeline) -> None:
    def told(at: datetime, only: tuple[str, ...] = ()) -> list[str]:
        return [w for w in customers.run("validate", now=at, only=only).warnings if "freshness" in w]

    deliver(customers, "a.csv", "C1,n,,2026-01-01,regular,")
    customers.run("ingest", only=["shop_customers"], now=NOW)
    assert told(NOW) == []
    assert told(NOW + timedelta(hours=24)) == []
    late = NOW + timedelta(hours=30)
    assert told(late) == ["customers: no new rows for 30.0 hours; its contract allows 24.0 hours (freshness)"]
    assert told(late, only=("shop_products",)) == []
