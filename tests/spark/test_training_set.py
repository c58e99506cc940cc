"""Training sets: labels by hand, nothing of the future in the features, and the same set again from its manifest."""

from __future__ import annotations

import json
import os
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from lakehouse.errors import ConfigurationError, UsageError
from lakehouse.features import catalogue, training
from lakehouse.instants import instant
from lakehouse.report import RunReport
from pipeline import Pipeline
from pyspark.sql import SparkSession

CUT_OFF = "2026-03-10"
NOW = instant("2026-04-01")
FILES = {
    "customers/a.csv": ("2026-03-01", "CustomerID,RegistrationDate,CustomerType", [
        "C1,2026-01-01,regular", "C2,2026-02-01,regular", "C3,2026-03-12,regular",
    ]),
    "products/a.csv": ("2026-03-01", "ProductID,Category,Price", ["P1,Toys,1", "P2,Books,1"]),
    "transactions/known.csv": ("2026-03-09", "", ["T1,C1,P1,2026-03-05,10,Completed,", "T2,C2,P2,2026-03-08,5,Completed,"]),
    "transactions/late.csv": ("2026-03-12", "", ["T3,C1,P2,2026-03-06,7,Completed,"]),
    "transactions/after.csv": ("2026-03-21", "", [
        "T4,C1,P9,2026-03-11,3,Completed,", "T5,C1,P2,2026-03-12,4,Completed,", "T6,C1,P1,2026-03-12,2,Cancelled,",
        "T7,C2,P1,2026-03-17,9,Completed,", "T8,C2,P1,2026-03-20,9,Completed,",
    ]),
}  # fmt: skip
TRANSACTIONS = "TransactionID,CustomerID,ProductID,Date,Amount,TransactionStatus,UpdatedAt,PaymentMethod"


def deliver(pipeline: Pipeline, name: str, at: str, header: str, lines: list[str]) -> None:
    file = pipeline.landing / "shop" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = lines if header else [f"{line},card" for line in lines]
    file.write_text("\n".join([header or TRANSACTIONS, *lines]) + "\n")
    os.utime(file, (instant(at).timestamp(), instant(at).timestamp()))


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    pipeline = Pipeline(spark, tmp_path_factory.mktemp("training"))
    (pipeline.landing / "shop" / "interactions").mkdir(parents=True)
    for name, (at, header, lines) in FILES.items():
        deliver(pipeline, name, at, header, lines)
    pipeline.batch("shop")
    return pipeline


def build(pipeline: Pipeline, folder: Path, **changes: Any) -> tuple[RunReport, dict[str, Any]]:
    arguments = {
        "name": "small", "cut_offs": CUT_OFF, "horizon": "7", "known_by": "cut-off",
        "manifest": str(folder / "manifest.json"), "from_manifest": None,
    }  # fmt: skip
    report = pipeline.run("training_set", now=NOW, **arguments | changes)
    return report, json.loads((folder / "manifest.json").read_text())


def rows(pipeline: Pipeline, *columns: str) -> list[tuple[Any, ...]]:
    return sorted(tuple(r) for r in pipeline.table("gold.training_small").select("customer_id", *columns).collect())


def test_features_know_what_was_delivered_by_the_cut_off_and_labels_what_followed(
    shop: Pipeline, tmp_path: Path
) -> None:
    _, manifest = build(shop, tmp_path)
    assert rows(shop, "total_spend", "churned", "future_spend", "next_category") == [
        ("C1", Decimal("10.00"), False, Decimal("7.00"), "Books"),
        ("C2", Decimal("5.00"), True, Decimal("0.00"), None),
    ]
    assert shop.table("gold.training_small").columns == [
        "customer_id", "as_of", *[f.name for f in catalogue.published()], "churned", "future_spend", "next_category",
    ]  # fmt: skip
    assert manifest["by_cut_off"] == {"2026-03-10T00:00:00Z": {"rows": 2, "churned": 1, "future_spend": "7.00"}}
    assert manifest["next_category"] == {"Books": 1}
    build(shop, tmp_path, known_by="now")
    assert rows(shop, "total_spend") == [("C1", Decimal("17.00")), ("C2", Decimal("5.00"))]


def test_what_happens_or_is_learned_later_changes_no_feature_and_a_leak_is_caught(
    shop: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, before = build(shop, tmp_path)
    deliver(shop, "transactions/later.csv", "2026-03-22", "", [
        "T9,C2,P1,2026-03-09,100,Completed,",  # happened before the cut-off, learned after it
        "T1,C1,P1,2026-03-05,10,Cancelled,2026-03-15",  # cancelled after it
        "T10,C1,P1,2026-03-20T12:00,50,Completed,",  # happened after it
    ])  # fmt: skip
    deliver(
        shop, "customers/b.csv", "2026-03-22", "CustomerID,RegistrationDate,CustomerType", ["C1,2020-01-01,premium"]
    )
    shop.batch("shop")
    _, after = build(shop, tmp_path)
    assert (after["content"], after["rows"]) == (before["content"], 2)
    assert after["silver"] != before["silver"]

    def everything(self: training.Recipe, cut_off: datetime) -> None:
        return None

    with monkeypatch.context() as m:
        m.setattr(training.Recipe, "learned_before", everything)
        _, leaky = build(shop, tmp_path)
    assert leaky["content"] != before["content"]


def test_the_same_set_is_built_again_from_its_manifest(shop: Pipeline, tmp_path: Path) -> None:
    _, before = build(shop, tmp_path, known_by="now")
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps(before))
    expected = rows(shop, *before["columns"])
    deliver(shop, "transactions/more.csv", "2026-03-23", "", ["T11,C2,P2,2026-03-10,1,Completed,"])
    shop.batch("shop")
    _, other = build(shop, tmp_path, known_by="now")
    assert other["content"] != before["content"]
    _, again = build(shop, tmp_path, from_manifest=str(kept))
    assert again == before
    assert rows(shop, *before["columns"]) == expected
    kept.write_text(json.dumps(before | {"definitions": "others"}))
    with pytest.raises(ConfigurationError, match="made by other definitions"):
        build(shop, tmp_path, from_manifest=str(kept))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizon": "12"}, "events reach to 2026-03-21T00:00:00.00:00 The last cut-off with a horizon of 12 days is 2026-03-09"),
        ({"cut_offs": "2026-03-01"}, "nothing was known by 2026-03-01T00:00:00.00:00: the first delivery was at 2026-03-09"),
        ({"cut_offs": ""}, "--cut-offs: 0 instants"),
        ({"horizon": "a week"}, "--horizon a week"),
        ({"name": "Big Set"}, "--name Big Set"),
        ({"known_by": "yesterday"}, "'yesterday' is not an instant"),
        ({"from_manifest": "nowhere.json"}, "--from-manifest nowhere.json: is no manifest"),
    ],
)  # fmt: skip
def test_a_set_that_cannot_be_made_is_refused(
    shop: Pipeline, tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        build(shop, tmp_path, **changes)


@pytest.mark.parametrize(
    "text",
    [
        "root:x:0:0:secret", "[]", "{}", "\udcff", '{"cut_offs": "secret"}', '{"name": "secret/.."}', '{"silver": {"gold.secret": 1}}',
        '{"definitions": "secret of\\nothers"}', '{"known_by": "secret"}', '{"horizon_days": "secret"}', '{"cut_offs": ["2026-03-10", "secret"]}',
    ],
)  # fmt: skip
def test_a_file_that_is_no_manifest_is_refused_and_not_quoted(tmp_path: Path, text: str) -> None:
    sound = {
        "name": "small", "cut_offs": ["2026-03-10T00:00:00+00:00"], "horizon_days": 7, "known_by": "now", "definitions": "d1",
        "silver": {"silver.transactions": 3}, "code_version": "0.1.0", "content": "-17",
    }  # fmt: skip
    file = tmp_path / "any"
    file.write_text(json.dumps(sound))
    assert training._read_manifest(str(file)).silver == {"silver.transactions": 3}
    changes = json.loads(text) if text.startswith("{") and text != "{}" else None
    file.write_text(text if changes is None else json.dumps(sound | changes), errors="surrogateescape")
    with pytest.raises(UsageError, match="is no manifest Name the file that --manifest wrote") as told:
        training._read_manifest(str(file))
    assert "secret" not in str(told.value)


def test_a_manifest_is_written_below_a_new_folder_and_one_that_cannot_be_is_told(
    shop: Pipeline, tmp_path: Path
) -> None:
    build(shop, tmp_path / "new" / "folder")
    with pytest.raises(ConfigurationError, match=r"conftest.py/m.json: the manifest cannot be written: File exists"):
        build(shop, tmp_path, manifest=f"{Path(__file__).with_name('conftest.py')}/m.json")
