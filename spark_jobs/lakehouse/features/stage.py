"""The featurize stage: one snapshot of every gold table as of an instant."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from functools import partial

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.cli import Context, instant
from lakehouse.contracts import Contract
from lakehouse.errors import ConfigurationError, UsageError
from lakehouse.features import catalogue, customers, products, silver
from lakehouse.parallel import side_by_side
from lakehouse.progress import DONE, VOID, Progress

TABLES = ("category_preferences", "customer_features", "product_affinity", "product_features")


def run(context: Context) -> None:
    """Replace the snapshot of ``as_of`` in every gold table, unless it is already what silver gives."""
    if context.as_of is None:
        raise UsageError("--as-of is missing", todo="Name the instant up to which events count.")
    for name in TABLES:
        if name not in context.contracts or context.contracts[name].layer != "gold":
            raise ConfigurationError("no such gold contract", where=name, todo="Restore contracts/.")
    progress = Progress(context.warehouse, "featurize", context.run_id, context.now, upstream="merge")
    unit = context.as_of.isoformat()
    wanted = _fingerprint(context, progress)
    made = [f.detail for f in progress.finished("featurize") if f.unit == unit]
    # A run that was killed may have replaced some tables of a snapshot and not the others.
    torn = {b.unit for b in progress.outstanding()}
    for batch in progress.outstanding():
        progress.finish(batch, VOID)
    units = sorted(torn | (set() if made and made[-1] == wanted else {unit}))
    if not units:
        context.report.say(f"the snapshot as of {unit} is up to date")
        return
    for name in ("transactions_history", "interactions", "products_history", "customers_history"):
        context.warehouse.note_read(f"silver.{name}")
    batches = progress.plan((u, ()) for u in units)
    progress.commit()
    for batch in batches:
        rows = _publish(context, instant(batch.unit))
        progress.finish(batch, rows=rows, detail=wanted)
    progress.commit()


def _fingerprint(context: Context, progress: Progress) -> str:
    """What a snapshot depends on: the batches merged into silver, the definitions, the contracts."""
    merged = {f.unit: f.batch_id for f in progress.finished("merge") if f.state == DONE}
    contracts = {n: context.contracts[n].fingerprint for n in TABLES}
    text = json.dumps([merged, catalogue.fingerprint(), contracts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read(context: Context, as_of: datetime) -> silver.Activity:
    def table(name: str, history: bool) -> DataFrame:
        contract = context.contracts[name]
        extra = ", valid_from TIMESTAMP, valid_to TIMESTAMP, _deleted BOOLEAN, _first BOOLEAN" if history else ""
        return context.warehouse.read_or_empty(f"silver.{name}{'_history' if history else ''}", contract.ddl() + extra)

    return silver.activity(
        table("transactions", True),
        table("interactions", False),
        table("products", True),
        table("customers", True),
        as_of,
    )


def _publish(context: Context, as_of: datetime) -> dict[str, int]:
    report = context.report
    activity = _read(context, as_of)
    preferences = products.category_preferences(activity).persist()
    affinity = products.product_affinity(activity).persist()
    frames = {
        "category_preferences": preferences,
        "product_affinity": affinity,
        "product_features": products.product_features(activity, affinity),
        "customer_features": customers.customer_features(activity, preferences),
    }
    rows: dict[str, int] = {}

    def publish(name: str) -> None:
        with report.step(f"publish {name}"):
            rows[f"gold.{name}"] = _replace(context, context.contracts[name], frames[name], as_of)
        report.say(f"{name}: {rows[f'gold.{name}']:,} rows as of {as_of.isoformat()}")

    try:
        side_by_side([partial(publish, name) for name in frames])
    finally:
        preferences.unpersist()
        affinity.unpersist()
    return rows


def _replace(context: Context, contract: Contract, frame: DataFrame, as_of: datetime) -> int:
    table = f"gold.{contract.name}"
    typed = frame.select(*[F.col(c.name).cast(c.type).alias(c.name) for c in contract.columns])
    context.warehouse.create(table, contract.ddl(), contract.partition_by)
    moment = as_of.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    rows = context.warehouse.replace(typed, table, f"as_of = TIMESTAMP '{moment}'")
    context.report.count(table, rows_written=rows)
    return rows
