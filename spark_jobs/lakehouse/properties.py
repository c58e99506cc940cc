"""The Delta properties that a table is made with."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

SPECIAL = re.compile(r"[ ,;{}()\n\t=]")


def need_mapping(columns: Iterable[str]) -> bool:
    """Whether a column has a name that Parquet cannot have: Delta maps it to another."""
    return any(SPECIAL.search(name) for name in columns)


def of_new_table(table: str, columns: Collection[str]) -> dict[str, str]:
    """By the table's layer, and by its columns' names."""
    properties = {"delta.checkpointPolicy": "classic"}
    layer = table.partition(".")[0]
    if layer in ("bronze", "staged"):
        # They are read by batch; the least and greatest of every other column would cost more than they save.
        properties["delta.dataSkippingStatsColumns"] = "_batch_id"
    if layer == "ops":
        # Nobody reads an old version of them, and a stream adds one every few seconds.
        properties["delta.logRetentionDuration"] = "interval 7 days"
    if layer == "silver" or (layer == "gold" and "as_of" not in columns):
        # A row that a MERGE updates or deletes is marked, and its file stays as it is.
        properties["delta.enableDeletionVectors"] = "true"
    if layer == "silver":
        # Tells featurize what to compute anew.
        properties["delta.enableChangeDataFeed"] = "true"
    if need_mapping(columns):
        properties["delta.columnMapping.mode"] = "name"
    return properties
