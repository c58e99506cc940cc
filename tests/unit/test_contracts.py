"""Contracts: what is shipped is valid, and what is not valid is refused with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from datacontract.data_contract import DataContract
from hypothesis import given
from hypothesis import strategies as st
from lakehouse.contracts import entities
from lakehouse.errors import ConfigurationError
from lakehouse.odcs import load_contract, load_contracts
from support import ROOT

SHIPPED = sorted((ROOT / "contracts").glob("*.odcs.yaml"))


def write(folder: Path, change) -> Path:  # type: ignore[no-untyped-def]
    """The shipped products contract with a change made to its parsed YAML."""
    model = yaml.safe_load((ROOT / "contracts/products.odcs.yaml").read_text())
    change(model)
    file = folder / "products.odcs.yaml"
    file.write_text(yaml.safe_dump(model))
    return file


@pytest.mark.parametrize("file", SHIPPED, ids=lambda f: f.stem)
def test_shipped_contract_passes_the_standards_linter(file: Path) -> None:
    result = DataContract(data_contract_file=str(file)).lint()
    assert result.result == "passed", [c.reason for c in result.checks]


def test_the_shipped_tables_are_there() -> None:
    contracts = load_contracts(ROOT / "contracts")
    assert {n: c.layer for n, c in contracts.items()} == {
        "customers": "silver",
        "products": "silver",
        "transactions": "silver",
        "interactions": "silver",
        "customer_features": "gold",
        "category_preferences": "gold",
        "customer_days": "gold",
        "product_affinity": "gold",
        "product_features": "gold",
    }


def test_canonical_columns_and_what_is_required() -> None:
    contracts = load_contracts(ROOT / "contracts")
    required = {n: [c.name for c in contracts[n].columns if c.required] for n in entities(contracts)}
    assert required == {
        "customers": ["customer_id", "registration_date", "customer_type"],
        "products": ["product_id", "category", "price"],
        "transactions": ["transaction_id", "product_id", "date", "amount", "payment_method", "transaction_status"],
        "interactions": ["interaction_id", "interaction_type", "timestamp", "source"],
    }


def test_parents_come_before_their_children() -> None:
    order = list(entities(load_contracts(ROOT / "contracts")))
    assert order.index("customers") < order.index("transactions")
    assert order.index("products") < order.index("interactions")


def test_a_comment_does_not_change_the_fingerprint_but_a_rule_does(tmp_path: Path) -> None:
    text = (ROOT / "contracts/products.odcs.yaml").read_text()
    file = tmp_path / "products.odcs.yaml"
    prints = []
    for variant in (text, "# a comment\n" + text, text.replace("minimum: 0", "minimum: 1", 1)):
        file.write_text(variant)
        prints.append(load_contract(file).fingerprint)
    assert prints[0] == prints[1] != prints[2]


def _drop_keys(m: dict) -> None:
    for p in m["schema"][0]["properties"]:
        p.pop("primaryKey", None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(nonsense=1), "nonsense: Extra inputs are not permitted"),
        (lambda m: m["schema"][0]["properties"][2].update(physicalType="money"), "price: physicalType 'money'"),
        (lambda m: m["schema"][0]["properties"][0].update(name="Product ID"), "'Product ID' is no column name"),
        (_drop_keys, "no column has primaryKey"),
        (lambda m: m["schema"].append(m["schema"][0]), "describes 2 tables"),
        (lambda m: m["schema"][0].update(physicalName="products"), "the table is called 'products'"),
        (lambda m: m["schema"][0]["properties"].append(m["schema"][0]["properties"][0]), "declared twice"),
        (
            lambda m: m["schema"][0]["customProperties"].append({"property": "mergeMode", "value": "overwrite"}),
            "'overwrite' is not one of history, first",
        ),
        (
            lambda m: m["schema"][0].update(
                quality=[{"name": "x", "type": "custom", "engine": "soda", "implementation": "1"}]
            ),
            "quality rule 'x' is not supported",
        ),
    ],
)
def test_an_invalid_contract_names_the_file_and_the_place(tmp_path: Path, change, words: str) -> None:  # type: ignore[no-untyped-def]
    file = write(tmp_path, change)
    with pytest.raises(ConfigurationError) as error:
        load_contract(file)
    assert str(file) in str(error.value)
    assert words in str(error.value)
    assert error.value.exit_code == 78


def test_a_contract_that_is_not_yaml_tells_the_line(tmp_path: Path) -> None:
    file = tmp_path / "products.odcs.yaml"
    file.write_text("apiVersion: v3.1.0\nkind: [DataContract\n")
    with pytest.raises(ConfigurationError, match=r"not valid YAML \(line 3\)"):
        load_contract(file)


def test_a_folder_without_contracts_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--contracts"):
        load_contracts(tmp_path)


def test_a_reference_to_an_unknown_table_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "transactions.odcs.yaml").write_text((ROOT / "contracts/transactions.odcs.yaml").read_text())
    with pytest.raises(ConfigurationError, match="refers to 'customers', which has no contract"):
        load_contracts(tmp_path)


@given(st.text(max_size=200))
def test_any_text_is_a_contract_or_a_named_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("c") / "x.odcs.yaml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(ConfigurationError):
        load_contract(file)


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ({"value": 2, "unit": "d"}, 2),
        ({"value": 48, "unit": "hours"}, 2),
        ({"value": 1, "unit": "y"}, 365),
        ({"value": 1, "unit": "hour"}, "retention is no whole number of days"),
        ({"value": 1, "unit": "months"}, "retention has the unit 'months'; use one of m, min, minute, minutes, h"),
        ({"value": "long", "unit": "d"}, "retention has the value 'long'; write a number above 0"),
        ({"value": 0, "unit": "d"}, "retention has the value '0'; write a number above 0"),
    ],
)
def test_a_retention_is_read_in_its_unit_or_refused(tmp_path: Path, level: dict[str, Any], expected: int | str) -> None:
    file = write(tmp_path, lambda m: m.update(slaProperties=[{"property": "retention", **level}]))
    if isinstance(expected, int):
        assert load_contract(file).retention_days == expected
    else:
        with pytest.raises(ConfigurationError, match=expected):
            load_contract(file)


def test_thinning_is_read_in_days_or_refused(tmp_path: Path) -> None:
    def thin(model: dict[str, Any], weekly: str) -> None:
        model["schema"][0]["customProperties"] = [{"property": "thinToWeekly", "value": weekly}]

    contract = load_contract(write(tmp_path, lambda m: thin(m, "P60D")))
    assert (contract.weekly_after_days, contract.monthly_after_days) == (60, None)
    with pytest.raises(ConfigurationError, match="'60' is not a duration in days"):
        load_contract(write(tmp_path, lambda m: thin(m, "60")))
