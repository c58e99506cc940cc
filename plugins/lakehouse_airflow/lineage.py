"""What a lineage server is told of a stage: the tables it read and wrote, with their versions (OpenLineage)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage


def of_report(report: dict[str, Any] | None, catalog: str = "") -> OperatorLineage:
    """The tables of a run report as OpenLineage's datasets; none without a report.

    Names are those of OpenLineage's naming rules, by which Spark's own listener goes too: a folder or
    object store with the path in it, or ``catalog`` with the name in it.
    See https://openlineage.io/docs/spec/naming.
    """
    # Here, because it takes a second that every parse of a DAG file would pay.
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import InputDataset, OutputDataset
    from openlineage.client.facet_v2 import dataset_version_dataset, output_statistics_output_dataset

    inputs, outputs = [], []
    for table, figures in (report or {}).get("tables", {}).items():
        namespace, name = _named((report or {})["warehouse"], table, catalog)

        def version(key: str, figures: dict[str, Any] = figures) -> dict[str, Any]:
            return {"version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=str(figures[key]))}

        if "version_read" in figures:
            inputs.append(InputDataset(namespace, name, facets=version("version_read")))
        if "version_written" in figures:
            size = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
                size=figures.get("bytes_written"), fileCount=figures.get("files_written")
            )
            facets = version("version_written")
            outputs.append(OutputDataset(namespace, name, facets=facets, outputFacets={"outputStatistics": size}))
    return OperatorLineage(inputs=inputs, outputs=outputs)


def _named(warehouse: str, table: str, catalog: str) -> tuple[str, str]:
    """The namespace and the name of a table's dataset."""
    if warehouse.startswith("catalog:"):
        return catalog, f"{warehouse.removeprefix('catalog:')}.{table}"
    address, path = urlsplit(warehouse), table.replace(".", "/")
    if address.scheme in ("", "file"):
        return "file", f"{address.path.rstrip('/')}/{path}"
    return f"{address.scheme}://{address.netloc}", f"{address.path.strip('/')}/{path}".lstrip("/")
