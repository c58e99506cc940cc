"""Gold as earlier releases kept it: every table had the rows of each snapshot, where three are timelines now."""

from __future__ import annotations

from lakehouse.context import Context
from lakehouse.errors import ConfigurationError
from lakehouse.features import timelines
from lakehouse.features.publishing import KEPT, TIMELINES, columns_of
from lakehouse.features.snapshots import Snapshots


def refuse_former(context: Context) -> None:
    """Raises ConfigurationError while a table is as earlier releases kept it."""
    found = _former(context)
    if found:
        raise ConfigurationError(
            "has the rows of each snapshot, as earlier releases kept them",
            where=", ".join(f"gold.{name}" for name in found),
            todo="Bring the warehouse over, once: spark-submit spark_jobs/migrate.py --warehouse ...",
        )


def run(context: Context) -> None:
    """Make timelines of whole snapshots, each table in one commit; a run that is killed is gone on with by the next.

    Snapshots that have expired are left out.
    """
    report, warehouse = context.report, context.warehouse
    kept = Snapshots(warehouse, context.run_id, context.now).kept
    for name in _former(context):
        table = f"gold.{name}"
        keys, values = columns_of(context.contracts[name])
        with report.step(f"migrate {table}"):
            snapshots = warehouse.read(table, version="newest")
            before = snapshots.count()
            # First, for what is brought over is not looked at again.
            warehouse.renew_properties(table)
            made = timelines.of_snapshots(snapshots, keys, values, kept)
            rows = warehouse.overwrite(made.select(*context.contracts[name].column_names, *KEPT.get(name, {})), table)
        report.count(table, rows_written=rows)
        report.say(f"{table}: {before:,} rows of {len(kept)} snapshots are {rows:,} rows now")


def _former(context: Context) -> list[str]:
    there = [name for name in TIMELINES if context.warehouse.exists(f"gold.{name}")]
    return [name for name in there if "as_of" in context.warehouse.log.columns(f"gold.{name}")]
