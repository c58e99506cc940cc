"""Sources: what is shipped is complete, and what is not valid is refused with its place."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from lakehouse.errors import ConfigurationError, UsageError
from lakehouse.odcs import load_contracts
from lakehouse.sources import load_sources, select_inputs
from lakehouse.validation import mapping
from support import ROOT

CONTRACTS = load_contracts(ROOT / "contracts")


def test_shipped_sources_and_what_they_feed() -> None:
    feeds = {i.name: [entity for entity, _ in i.sql] for i in load_sources(ROOT / "sources", CONTRACTS)}
    assert feeds == {
        "shop_customers": ["customers"],
        "shop_products": ["products"],
        "shop_transactions": ["transactions"],
        "shop_interactions": ["interactions"],
        "shop_event_transactions": ["transactions"],
        "shop_event_interactions": ["interactions"],
        "online_retail": ["customers", "products", "transactions"],
        "otto": ["interactions", "transactions"],
        "google_retail_products": ["products"],
        "google_retail_events": ["interactions", "transactions"],
    }


def test_columns_of_loaders_can_be_declared(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "sources/otto", tmp_path / "otto")
    file = tmp_path / "otto/source.yaml"
    file.write_text(file.read_text().replace("[session, events]", "[_id, _dlt_id, _metadata, _file, session, events]"))
    (otto,) = load_sources(tmp_path, CONTRACTS)
    assert otto.columns == ("_id", "_dlt_id", "_metadata", "_file", "session", "events")


def test_select_by_source_by_input_and_all() -> None:
    inputs = load_sources(ROOT / "sources", CONTRACTS)
    assert [i.name for i in select_inputs(inputs, ["otto", "shop_products"])] == ["otto", "shop_products"]
    assert len(select_inputs(inputs, ["shop"])) == 4
    assert len(select_inputs(inputs, ["shop_events"])) == 2
    # What has no end is the stream's, unless it is asked for.
    assert select_inputs(inputs, []) == [i for i in inputs if i.source != "shop_events"]
    with pytest.raises(UsageError, match="--only nowhere: no such source"):
        select_inputs(inputs, ["nowhere"])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("format: json", "format: xml", "inputs.otto.format: Input should be 'csv', 'json', 'parquet' or 'kafka'"),
        ("path: otto", "pth: otto", "inputs.otto.pth: Extra inputs are not permitted"),
        ("path: otto", "pattern: '*'", "path '' Name a folder below the landing folder."),
        ("[session, events]", "[]", "inputs.otto.columns"),
        ("[session, events]", "[session, _Rescued]", "column '_Rescued' has a name that is taken"),
        ("[session, events]", "[session, _row]", "column '_row' has a name that is taken"),
        ("[session, events]", "[session, lakehouse row]", "column 'lakehouse row' has a name that is taken"),
        ("format: json", "format: json\n    header: none", "header or skip_lines, but is json"),
        ("[session, events]", "infer\n    header: none", "header or skip_lines, but is json"),
        ("  otto:\n", "  Otto!:\n", "no table name"),
        ("[interactions, transactions]", "[clicks]", "feeds 'clicks', which has no silver contract"),
        ("[interactions, transactions]", "[customers]", "customers.sql is missing"),
    ],
)
def test_an_invalid_source_names_the_file_and_the_place(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert_refused(tmp_path, "otto", old, new, words)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("topics: [shop.transactions]", "path: shop", "needs either topics or topic_pattern"),
        ("topics: [shop.transactions]", "topics: [a]\n    topic_pattern: b", "needs either topics or topic_pattern"),
        ("topics: [shop.transactions]", "topics: [a]\n    path: b", "has a path, but is of Kafka"),
        (
            "columns: [TransactionID, OrderID",
            "schema_mode: evolve\n    columns: [TransactionID, OrderID",
            "schema_mode",
        ),
        ("startingOffsets: earliest", "failOnDataLoss: 'false'", "option 'failOnDataLoss' Offsets are the suite's"),
        ("startingOffsets: earliest", "kafka.sasl.jaas.config: secret", "how to reach Kafka stands in the file"),
    ],
)
def test_what_an_input_of_kafka_cannot_have(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert_refused(tmp_path, "shop_events", old, new, words)


def assert_refused(tmp_path: Path, source: str, old: str, new: str, words: str) -> None:
    shutil.copytree(ROOT / "sources" / source, tmp_path / source)
    file = tmp_path / source / "source.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigurationError) as error:
        load_sources(tmp_path, CONTRACTS)
    assert str(file) in str(error.value)
    assert words in str(error.value)


def test_a_select_is_text_in_utf8(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "sources/otto", tmp_path / "otto")
    file = tmp_path / "otto/interactions.sql"
    file.write_bytes("-- Käufer\n".encode("latin-1") + file.read_bytes())
    with pytest.raises(ConfigurationError, match=r"interactions\.sql: cannot be read.*Write it in UTF-8"):
        load_sources(tmp_path, CONTRACTS)


@pytest.mark.parametrize(
    ("sql", "single"),
    [
        ("SELECT _row, a AS b FROM x", True),
        ("SELECT _row, a -- over and over\nFROM x", True),
        ("SELECT _row, covers, selected FROM x", True),
        ("SELECT _row, row_number() OVER (PARTITION BY a ORDER BY b) AS n FROM x", False),
        ("SELECT _row, (SELECT max(a) FROM x) AS m FROM x", False),
        ("SELECT _row, a FROM x WHERE a > 0", False),
        ("SELECT x._row, y.a FROM x JOIN y", False),
        ("SELECT x._row, y.a FROM x, x AS y", False),
        ("SELECT _row, trim(BOTH 'x' FROM a) AS b, c FROM x", True),
        ("SELECT _row, 'only where -- it is' AS a FROM x", True),
        ("SELECT _row, 'a -- b' AS a FROM x WHERE a > 0", False),
        ("SELECT _row, 'it\\'s over' AS a, `group` FROM x /* where over */", True),
        ('SELECT _row, "it is /* over" AS a FROM x LIMIT 3 -- */', False),
    ],
)
def test_what_a_select_makes_of_a_row_may_depend_on_others(sql: str, single: bool) -> None:
    assert mapping.sees_single_rows(sql) is single
