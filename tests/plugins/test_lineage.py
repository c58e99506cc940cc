"""What a lineage server is told of a stage."""

from __future__ import annotations

from typing import Any

import pytest
from lakehouse_airflow.lineage import of_report


def report(warehouse: str) -> dict[str, Any]:
    tables = {
        "silver.customers": {"version_read": 7},
        "gold.customer_features": {"version_written": 3, "bytes_written": 900, "files_written": 2, "rows": 5},
        "silver.products": {"rows_in": 1},
    }
    return {"warehouse": warehouse, "tables": tables}


def told(warehouse: str, catalog: str = "") -> list[tuple[str, str]]:
    lineage = of_report(report(warehouse), catalog)
    return [(d.namespace, d.name) for d in [*lineage.inputs, *lineage.outputs]]


@pytest.mark.parametrize(
    ("warehouse", "namespace", "before"),
    [
        ("/data/warehouse", "file", "/data/warehouse/"),
        ("file:///data/warehouse/", "file", "/data/warehouse/"),
        ("s3a://shop/lake", "s3a://shop", "lake/"),
        ("abfss://lake@account.dfs.core.windows.net", "abfss://lake@account.dfs.core.windows.net", ""),
    ],
)
def test_tables_are_named_by_their_place(warehouse: str, namespace: str, before: str) -> None:
    expected = [(namespace, f"{before}silver/customers"), (namespace, f"{before}gold/customer_features")]
    assert told(warehouse) == expected


def test_tables_of_a_catalog_are_named_by_it() -> None:
    there = "databricks://dbc-1.cloud.databricks.com"
    expected = [(there, "main.silver.customers"), (there, "main.gold.customer_features")]
    assert told("catalog:main", there) == expected


def test_the_versions_and_the_size_are_told() -> None:
    lineage = of_report(report("/w"))
    (read,), (written,) = lineage.inputs, lineage.outputs
    assert read.facets["version"].datasetVersion == "7"
    assert written.facets["version"].datasetVersion == "3"
    size = written.outputFacets["outputStatistics"]
    assert (size.size, size.fileCount) == (900, 2)


def test_a_stage_that_left_no_report_has_no_tables() -> None:
    lineage = of_report(None)
    assert (lineage.inputs, lineage.outputs) == ([], [])
