"""The optimize stage: decide per table by need, then OPTIMIZE and VACUUM."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from pyspark.sql import functions as F

from lakehouse import progress, retention
from lakehouse.cli import Context
from lakehouse.contracts import Contract
from lakehouse.errors import UsageError
from lakehouse.parallel import side_by_side

TARGET_BYTES = 128 * 1024 * 1024
OPERATIONS = (progress.TABLE, "ops.files", "ops.quality", "ops.runs", "ops.snapshots", "ops.stream")
SMALL_FILES = 8
"""How many files a partition may have beyond what its size asks for."""


@dataclass(frozen=True)
class Need:
    """What a table's files look like, and whether they are worth rewriting."""

    table: str
    files: int
    size: int
    crowded_partitions: int
    z_order_by: tuple[str, ...]

    @property
    def optimize(self) -> bool:
        return self.crowded_partitions > 0


def run(context: Context) -> None:
    """Compact the tables that need it; vacuum those and only those that hold removed files."""
    tables = _tables(context)
    for name in context.only:
        if name not in {t.split(".")[1] for t in tables} | set(tables):
            raise UsageError(f"--only {name}: no such table", todo=f"Known are: {', '.join(sorted(tables))}.")
    wanted = {
        table: contract
        for table, contract in tables.items()
        if not context.only or table in context.only or table.split(".")[1] in context.only
    }
    if progress.TABLE in wanted and not context.args.dry_run:
        forgotten = retention.prune(context.warehouse)
        context.report.say(f"{progress.TABLE}: {forgotten:,} settled batches forgotten")
    side_by_side([partial(_maintain, context, table, contract) for table, contract in wanted.items()])


def _maintain(context: Context, table: str, contract: Contract | None) -> None:
    report, warehouse = context.report, context.warehouse
    if not warehouse.exists(table):
        return
    with report.step(f"inspect {table}"):
        need = inspect(context, table, contract)
    report.count(table, files=need.files, bytes=need.size)
    verdict = "is fine"
    if need.optimize:
        verdict = f"has {need.crowded_partitions} partitions of small files"
        if not context.args.dry_run:
            with report.step(f"optimize {table}"):
                added, removed = warehouse.optimize(table, need.z_order_by)
            report.count(table, files_added=added, files_removed=removed)
            verdict += f": {removed} files became {added}"
    report.say(f"{table}: {need.files} files, {need.size / 1e6:,.1f} MB, {verdict}")
    if context.args.vacuum and not context.args.dry_run:
        with report.step(f"vacuum {table}"):
            warehouse.vacuum(table, context.args.retain_hours)


def _tables(context: Context) -> dict[str, Contract | None]:
    tables: dict[str, Contract | None] = {f"bronze.{i.name}": None for i in context.inputs}
    for name, contract in context.entities.items():
        tables |= {f"staged.{name}": None, f"quarantine.{name}": None, f"silver.{name}": contract}
        tables[f"silver.{name}_history"] = contract
    tables |= {f"gold.{n}": c for n, c in context.contracts.items() if c.layer == "gold"}
    return tables | dict.fromkeys(OPERATIONS)


def inspect(context: Context, table: str, contract: Contract | None) -> Need:
    """Look at a table's files, partition by partition, without reading its columns."""
    partitions = (
        contract.partition_by if contract and table.startswith(("silver.", "gold.")) and "_history" not in table else ()
    )
    file = F.struct(F.col("_metadata.file_path").alias("path"), F.col("_metadata.file_size").alias("size"))
    files = context.warehouse.read(table).select(*partitions, file.alias("file")).distinct()
    per_partition = files.groupBy(*partitions) if partitions else files.groupBy()
    rows = per_partition.agg(F.count("*").alias("files"), F.sum("file.size").alias("size")).collect()
    crowded = [r for r in rows if r["files"] > SMALL_FILES + (r["size"] or 0) // TARGET_BYTES]
    return Need(
        table,
        sum(r["files"] for r in rows),
        sum(r["size"] or 0 for r in rows),
        len(crowded),
        contract.z_order_by if contract else (),
    )
