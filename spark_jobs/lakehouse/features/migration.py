"""Gold as earlier releases kept it: every table had the rows of each snapshot, where three are timelines now."""

from __future__ import annotations

from lakehouse.context import Context
from lakehouse.errors import ConfigurationError
from lakehouse.features import customer_days, timelines
from lakehouse.features.publishing import TABLES, TIMELINES, columns_of, types_of
from lakehouse.features.snapshots import Snapshots
from lakehouse.features.timelines import FROM, TO
from lakehouse.session import prepare


def check(context: Context) -> None:
    """See that the contracts and the tables of gold are of this release.

    Raises:
        ConfigurationError: a contract is missing or is of an earlier release, or a table has the rows of each snapshot still.
    """
    _check_contracts(context)
    found = _former(context)
    if found:
        raise ConfigurationError(
            "has the rows of each snapshot, as earlier releases kept them",
            where=", ".join(f"gold.{name}" for name in found),
            todo="Bring the warehouse over, once: spark-submit spark_jobs/migrate.py --warehouse ...",
        )


def run(context: Context) -> None:
    """Make timelines of whole snapshots, each table in one commit; after a kill, the next run goes on where it stopped.

    Snapshots that have expired are left out.

    Raises:
        ConfigurationError: a contract of gold is missing, or is of an earlier release.
    """
    _check_contracts(context)
    report, warehouse = context.report, context.warehouse
    kept = Snapshots(warehouse, context.run_id, context.now).kept
    if former := _former(context):
        prepare(warehouse.spark)
    for name in former:
        table, types = f"gold.{name}", types_of(context.contracts[name])
        keys, values = columns_of(context.contracts[name])
        with report.step(f"migrate {table}"):
            before = warehouse.log.rows(table)
            # Before the table is one that is not looked at again; and where a catalog drops them with the old columns, after it too.
            warehouse.set_properties(table, types)
            snapshots = warehouse.read(table, {c: types[c] for c in values}, version="newest")
            rows = warehouse.overwrite(timelines.of_snapshots(snapshots, keys, values, kept).select(*types), table)
            if warehouse.location.startswith("catalog:"):
                warehouse.set_properties(table, types)
        report.count(table, rows_written=rows)
        report.say(f"{table}: {before:,} rows of {len(kept)} snapshots are {rows:,} rows now")


def _check_contracts(context: Context) -> None:
    for name in (*TABLES, "customer_days"):
        contract = context.contracts.get(name)
        if contract is None or contract.layer != "gold":
            raise ConfigurationError("no such gold contract", where=name, todo="Restore contracts/.")
        lacking = {*customer_days.KEYS, *customer_days.VALUES} - set(types_of(contract))
        if name == "customer_days" and lacking:
            listed = ", ".join(sorted(lacking))
            raise ConfigurationError(
                f"features are made from {listed}, which it lacks",
                where=name,
                todo="Take them from the shipped contract.",
            )
        is_timeline = FROM in contract.keys and TO in contract.column_names and "as_of" not in contract.column_names
        if name in TIMELINES and not is_timeline:
            raise ConfigurationError(
                f"is the contract of an earlier release: it has no {FROM} as a key, no {TO}, or still as_of",
                where=name,
                todo="Take these columns from the shipped contract.",
            )


def _former(context: Context) -> list[str]:
    there = [name for name in TIMELINES if context.warehouse.exists(f"gold.{name}")]
    return [name for name in there if "as_of" in context.warehouse.log.columns(f"gold.{name}")]
