"""What Databricks' Auto Loader is told about an input; nothing here needs Databricks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lakehouse.errors import ConfigurationError
from lakehouse.ingestion.auto_loader import options
from lakehouse.sources import Input
from support import an_input

ORDERS = an_input(
    name="market_orders",
    source="market",
    path="market/orders",
    columns=("Order ID", "amount"),
    pattern="*.csv",
    options=(("sep", ";"),),
)
COMMON = {
    "cloudFiles.schemaLocation": "/Volumes/shop/state/market_orders/schema",
    "cloudFiles.inferColumnTypes": "false",
    "cloudFiles.allowOverwrites": "true",
    "cloudFiles.partitionColumns": "",
    "rescuedDataColumn": "_rescued",
    "readerCaseSensitive": "true",
    "recursiveFileLookup": "true",
}
CORRUPT = "lakehouse corrupt record"


def told(source: Input) -> dict[str, str]:
    return options(source, "/Volumes/shop/landing", "/Volumes/shop/state/market_orders")


def test_csv_with_declared_columns() -> None:
    assert told(ORDERS) == COMMON | {
        "cloudFiles.format": "csv",
        "cloudFiles.schemaEvolutionMode": "rescue",
        "cloudFiles.schemaHints": f"`Order ID` STRING, `amount` STRING, `{CORRUPT}` STRING",
        "cloudFiles.cleanSource": "OFF",
        "pathGlobFilter": "*.csv",
        "header": "true",
        "multiLine": "true",
        "quote": '"',
        "escape": '"',
        "mode": "PERMISSIVE",
        "emptyValue": "",
        "maxCharsPerColumn": "-1",
        "columnNameOfCorruptRecord": CORRUPT,
        "sep": ";",
    }


def test_json_with_inferred_columns_that_evolves_and_is_archived() -> None:
    source = replace(
        ORDERS,
        format="json",
        columns=(),
        pattern="*",
        options=(),
        schema_mode="evolve",
        loaded_files="archive",
        loaded_files_after_days=90,
    )
    assert told(source) == COMMON | {
        "cloudFiles.format": "json",
        "cloudFiles.schemaEvolutionMode": "addNewColumns",
        "cloudFiles.schemaHints": f"`{CORRUPT}` STRING",
        "cloudFiles.cleanSource": "MOVE",
        "cloudFiles.cleanSource.retentionDuration": "90 days",
        "cloudFiles.cleanSource.moveDestination": "/Volumes/shop/landing/_archive/market/orders",
        "pathGlobFilter": "*",
        "mode": "PERMISSIVE",
        "columnNameOfCorruptRecord": CORRUPT,
        "allowNonNumericNumbers": "false",
        "allowSingleQuotes": "false",
    }


def test_parquet_that_refuses_new_columns_and_deletes_what_is_loaded() -> None:
    source = replace(ORDERS, format="parquet", columns=(), options=(), schema_mode="fail", loaded_files="delete")
    assert told(source) == COMMON | {
        "cloudFiles.format": "parquet",
        "cloudFiles.schemaEvolutionMode": "failOnNewColumns",
        "cloudFiles.cleanSource": "DELETE",
        "cloudFiles.cleanSource.retentionDuration": "30 days",
        "pathGlobFilter": "*.csv",
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"identity": "content"}, "identity: content"),
        ({"loaded_files": "delete", "loaded_files_after_days": 7}, "loaded_files_after_days: 7"),
    ],
)
def test_what_auto_loader_does_not_do_is_refused(change: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ConfigurationError, match=message):
        told(replace(ORDERS, **change))
