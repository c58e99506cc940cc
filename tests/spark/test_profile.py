"""From a CSV that nobody has described to rows in silver, by way of the proposal alone."""

from __future__ import annotations

import gzip
import random
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from datacontract.data_contract import DataContract
from lakehouse.contracts import entities
from lakehouse.errors import ConfigurationError, UsageError
from lakehouse.instants import instant
from lakehouse.odcs import load_contract, load_contracts
from lakehouse.profiling import stage
from lakehouse.report import RunReport
from pipeline import Pipeline
from pyspark.sql import SparkSession
from support import ROOT

ROWS = 400


def report() -> RunReport:
    return RunReport("profile", "p", instant("2026-03-01"))


def lines() -> list[str]:
    chance = random.Random(5)
    made = ["Auftrag Nr;Kunde;E-Mail;Betrag;Menge;Zustand;Zeit;Gewicht;Bemerkung"]
    for n in range(ROWS):
        note = "" if n % 3 else '"sagt ""ja""; oft"'
        made.append(
            f"A{n:05};K{chance.randint(1, 30)};k{n}@example.com;{chance.randint(1, 9999) / 100:.2f};{chance.randint(0, 9)};"
            f"{chance.choice(['offen', 'bezahlt', 'Bezahlt'])};2026-03-{chance.randint(1, 28):02}T10:00:00Z;"
            f"{chance.random() * 1e-9:.3e};{note}"
        )
    return made


@pytest.fixture(scope="module")
def proposed(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A landing folder with two files (one of them packed), and the proposal beside it."""
    folder = tmp_path_factory.mktemp("profile")
    landing = folder / "landing/orders"
    landing.mkdir(parents=True)
    header, *rows = lines()
    (landing / "a.csv").write_bytes("\n".join([header, *rows[:200]]).encode("latin-1"))
    (landing / "b.csv.gz").write_bytes(gzip.compress("\n".join([header, *rows[200:]]).encode("latin-1")))
    options = {"sep": ";", "encoding": "iso-8859-1"}
    texts, origin = stage.profile_files(spark, str(landing), None, options, 0, report())
    assert origin == {"path": "orders", "pattern": "", "format": "csv", **options}
    stage.propose(texts, "orders", None, folder, report(), origin)
    return folder


def test_the_proposed_contract(proposed: Path) -> None:
    contract = load_contract(proposed / "contracts/orders.odcs.yaml")
    assert [(c.name, c.type, c.key, c.required) for c in contract.columns] == [
        ("auftrag_nr", "string", True, True),
        ("kunde", "string", False, True),
        ("e_mail", "string", False, True),
        ("betrag", "decimal(18,2)", False, True),
        ("menge", "int", False, True),
        ("zustand", "string", False, True),
        ("zeit", "timestamp", False, True),
        ("gewicht", "double", False, True),
        ("bemerkung", "string", False, False),
    ]
    by_name = {c.name: c for c in contract.columns}
    assert by_name["e_mail"].personal
    assert [v.lower() for v in by_name["zustand"].enum] == ["bezahlt", "offen"]
    assert by_name["menge"].minimum == "0"
    assert by_name["bemerkung"].enum == ()


def test_the_proposed_contract_passes_the_standards_linter(proposed: Path) -> None:
    result = DataContract(data_contract_file=str(proposed / "contracts/orders.odcs.yaml")).lint()
    assert result.result == "passed", [c.reason for c in result.checks]


def test_the_proposal_brings_every_row_to_silver(spark: SparkSession, proposed: Path) -> None:
    pipeline = Pipeline(spark, proposed, contracts=proposed / "contracts", sources=proposed / "sources")
    for name in ("ingest", "validate", "merge"):
        pipeline.run(name)
    assert pipeline.table("silver.orders").count() == ROWS
    notes = {r[0] for r in pipeline.table("silver.orders").select("bemerkung").distinct().collect()}
    assert notes == {None, 'sagt "ja"; oft'}


def test_what_is_there_is_not_overwritten(spark: SparkSession, proposed: Path) -> None:
    file = proposed / "landing/orders/a.csv"
    texts, origin = stage.profile_files(spark, str(file), None, {"sep": ";"}, 0, report())
    assert (origin["path"], origin["pattern"]) == ("orders", "a.csv")
    with pytest.raises(ConfigurationError, match="already there"):
        stage.propose(texts, "orders", None, proposed, report())


def test_a_table_can_be_profiled_and_a_repeating_key_is_said(spark: SparkSession, tmp_path: Path) -> None:
    rows = [(f"C{n % 50}", n, {"a": n}) for n in range(100)]
    spark.createDataFrame(rows, "customer_id STRING, points INT, more MAP<STRING, INT>").write.format("delta").save(
        str(tmp_path / "table")
    )
    own = report()
    texts = stage.profile_table(spark, str(tmp_path / "table"), 0)
    file = stage.propose(texts, "points", "customer_id", tmp_path, own)
    assert load_contract(file).keys == ["customer_id"]
    assert "versions of one thing" in file.read_text()
    assert own.warnings == ["no column is a key by its values; customer_id is proposed: look at it"]
    assert "more" in [p["name"] for p in yaml.safe_load(file.read_text())["schema"][0]["properties"]]


@pytest.mark.parametrize(
    ("files", "message"),
    [({}, "no files"), ({"a.csv": "", "b.csv": ""}, "all files are empty"), ({"a.xyz": "1"}, "format of the files")],
)
def test_what_cannot_be_profiled_is_said(
    spark: SparkSession, tmp_path: Path, files: dict[str, str], message: str
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    with pytest.raises(UsageError, match=message):
        stage.profile_files(spark, str(folder), None, {}, 0, report())


def test_a_new_source_of_known_entities_needs_what_was_not_received_and_no_more(
    spark: SparkSession, tmp_path: Path
) -> None:
    """Orders whose columns are called otherwise: the proposal, one word written by a person, and all of it is in silver."""
    files = tmp_path / "landing/webshop"
    files.mkdir(parents=True)
    lines = ["Order No,Buyer,SKU,Department,Unit Price,Ordered At,Total,State"]
    lines += [
        f"W{n:04},K{n % 7},P{n % 5},toys,9.50,2026-03-{n % 28 + 1:02}T10:00:00Z,{n}.50,Completed" for n in range(100)
    ]
    (files / "orders.csv").write_text("\n".join(lines))
    texts, origin = stage.profile_files(spark, str(files), None, {}, 0, report())
    contracts = entities(load_contracts(ROOT / "contracts"))
    chosen = [contracts[e] for e in ("customers", "products", "transactions")]
    own = report()
    folder = stage.propose_source(texts, "webshop", chosen, None, tmp_path, own, origin)
    assert folder == tmp_path / "sources/webshop"
    missing = "nothing received looks like it; write"
    assert own.warnings == [
        f"customers.customer_type: required, one of regular, premium: {missing} one of them, or an expression that gives them",
        f"transactions.payment_method: required: {missing} a column, or a text such as 'unknown'",
    ]
    # Lines are orders: of a customer or a product, what the latest says counts.
    assert [f.stem for f in sorted(folder.glob("*.sql")) if "_sequence" in f.read_text()] == ["customers", "products"]
    for file, value in (("customers", "'regular'"), ("transactions", "'unknown'")):
        path = folder / f"{file}.sql"
        assert path.read_text().count("NULL AS") == 1
        path.write_text(path.read_text().replace("NULL AS", f"{value} AS"))
    pipeline = Pipeline(spark, tmp_path, sources=tmp_path / "sources")
    pipeline.batch("webshop", "2026-03-20")
    silver = pipeline.table("silver.transactions").select(
        "transaction_id", "order_id", "customer_id", "product_id", "amount", "payment_method", "transaction_status"
    )
    assert sorted(map(tuple, silver.collect())) == [
        (f"W{n:04}", f"W{n:04}", f"K{n % 7}", f"P{n % 5}", Decimal(f"{n}.50"), "unknown", "Completed")
        for n in range(100)
    ]
    products = pipeline.table("silver.products").select("product_id", "category", "price")
    assert sorted(map(tuple, products.collect())) == [(f"P{n}", "toys", Decimal("9.50")) for n in range(5)]
    assert pipeline.table("silver.customers").count() == 7
    # Of 19 days; a customer is there from the day of the earliest order.
    spent = {f"K{k}": sum(Decimal(f"{n}.50") for n in range(100) if n % 7 == k and n % 28 < 19) for k in range(7)}
    features = pipeline.table("gold.customer_features").select("customer_id", "total_spend").collect()
    assert {r[0]: r[1] for r in features} == spent
    with pytest.raises(ConfigurationError, match="already there"):
        stage.propose_source(texts, "webshop", chosen, None, tmp_path, report(), origin)
