"""The optimize stage: decide per table by need, then OPTIMIZE and VACUUM."""

from __future__ import annotations

import time
from functools import partial

from lakehouse import sizes
from lakehouse.context import Context
from lakehouse.contracts import Contract
from lakehouse.errors import UsageError
from lakehouse.maintenance.needs import COMMITS, OPERATIONS, Layout, Need, commit, layout, need
from lakehouse.options import Optimize
from lakehouse.parallel import side_by_side
from lakehouse.runtime import progress, retention
from lakehouse.session import amount, prepare
from lakehouse.tables import Warehouse


def run(context: Context, options: Optimize) -> None:
    """Rewrite the tables that need it, the worst first, until the budget is spent; then vacuum."""
    tended = tables(context)
    for name in context.only:
        if name not in {t.split(".")[1] for t in tended} | set(tended):
            raise UsageError(f"--only {name}: no such table", todo=f"Known are: {', '.join(sorted(tended))}.")
    wanted = {
        table: contract
        for table, contract in tended.items()
        if (not context.only or table in context.only or table.split(".")[1] in context.only)
        and context.warehouse.exists(table)
    }
    deadline = time.monotonic() + (options.budget or float("inf")) * 60
    needs: dict[str, Need] = {}
    side_by_side([partial(_inspect, context, table, contract, needs) for table, contract in wanted.items()])
    for table in sorted(set(wanted) - {t for t, n in needs.items() if n.optimize}):
        _tell(context, table, needs[table], "")
    urgent = sorted((t for t in needs if needs[t].optimize), key=lambda t: -needs[t].urgency)
    if layouts := [needs[t].layout.size for t in urgent if t not in OPERATIONS]:
        rows = max(layouts) / sizes.BYTES_OF_STORED_ROW
        context.report.work = amount(rows)
        prepare(context.warehouse.spark, rows)
    if progress.TABLE in wanted and not options.dry_run:
        forgotten = retention.prune(context.warehouse)
        context.report.say(f"{progress.TABLE}: {forgotten:,} settled batches forgotten")
    side_by_side([partial(_optimize, context, options, t, wanted[t], needs[t], deadline) for t in urgent])
    if options.vacuum and not options.dry_run:
        prepare(context.warehouse.spark)
        side_by_side([partial(_vacuum, context, options, table) for table in wanted])


def tables(context: Context) -> dict[str, Contract | None]:
    """Those that are tended, with their contracts where they have one."""
    found: dict[str, Contract | None] = {f"bronze.{i.name}": None for i in context.inputs}
    for name, contract in context.entities.items():
        found |= {f"staged.{name}": None, f"quarantine.{name}": None, f"silver.{name}": contract}
        found[f"silver.{name}_history"] = contract
    found |= {f"gold.{n}": c for n, c in context.contracts.items() if c.layer == "gold"}
    return found | dict.fromkeys(OPERATIONS)


def _inspect(context: Context, table: str, contract: Contract | None, needs: dict[str, Need]) -> None:
    with context.report.step(f"inspect {table}"):
        found = inspect(context.warehouse, table)
        needs[table] = need(found, contract.z_order_by if contract else ())
    context.report.count(table, files=found.number, bytes=found.size)


def inspect(warehouse: Warehouse, table: str) -> Layout:
    """What the log of a table tells of its files; none of them is read."""
    log = warehouse.log
    commits = [commit(c.operation, c.parameters, c.metrics) for c in log.commits(table, COMMITS)]
    # Asked for only where it says something.
    rows = log.rows(table) if any(c.rows_marked for c in commits) else 0
    return layout(log.paths(table), len(log.partition_columns(table)), log.size(table), commits, rows)


def _optimize(
    context: Context, options: Optimize, table: str, contract: Contract | None, wanted: Need, deadline: float
) -> None:
    if time.monotonic() > deadline:
        return _tell(context, table, wanted, "left for the next run: the budget is spent")
    if options.dry_run:
        return _tell(context, table, wanted, "would be rewritten")
    with context.report.step(f"optimize {table}"):
        added, removed = context.warehouse.optimize(table, contract.z_order_by if contract else ())
    context.report.count(table, files_added=added, files_removed=removed)
    return _tell(context, table, wanted, f"{removed} files became {added}")


def _vacuum(context: Context, options: Optimize, table: str) -> None:
    with context.report.step(f"vacuum {table}"):
        context.warehouse.vacuum(table, options.retain_hours)


def _tell(context: Context, table: str, found: Need, outcome: str) -> None:
    size = f"{found.layout.number:,} files, {found.layout.size / 1e6:,.1f} MB"
    context.report.say(f"{table}: {size}: {found.reason}" + (f": {outcome}" if outcome else ""))
