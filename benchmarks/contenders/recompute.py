"""Everything anew, tuned: the suite's own checks and definitions over all files at once, without bronze, staged and quarantine.

Each file is read once, silver is overwritten, gold is computed from it. What the stages cost beyond this is what their
increments, their quarantine and their records are worth.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "spark_jobs"))

from lakehouse import versions  # noqa: E402
from lakehouse.context import Context  # noqa: E402
from lakehouse.contracts import entities  # noqa: E402
from lakehouse.features import gold, upkeep  # noqa: E402
from lakehouse.features.publishing import Gold  # noqa: E402
from lakehouse.ingestion import readers  # noqa: E402
from lakehouse.ingestion.landing import Landing  # noqa: E402
from lakehouse.ingestion.layouts import layouts  # noqa: E402
from lakehouse.instants import instant  # noqa: E402
from lakehouse.odcs import load_contracts  # noqa: E402
from lakehouse.report import RunReport  # noqa: E402
from lakehouse.session import build_session  # noqa: E402
from lakehouse.sources import load_sources  # noqa: E402
from lakehouse.tables import Warehouse  # noqa: E402
from lakehouse.validation import checking, mapping  # noqa: E402


def build(landing: str, folder: str, as_of: str) -> None:
    now = datetime.now(UTC)
    report = RunReport("recompute", "benchmark", now)
    contracts = load_contracts(str(ROOT / "contracts"))
    inputs = {i.name: i for i in load_sources(str(ROOT / "sources"), contracts)}
    spark = build_session("recompute")
    warehouse = Warehouse(lambda: spark, folder, report)
    silver = entities(contracts)
    context = Context(
        warehouse, contracts, silver, list(inputs.values()), [], "benchmark", now, instant(as_of), report
    )  # fmt: skip
    known, place = {}, Landing(landing)
    # Parents come first.
    for entity, contract in silver.items():
        source = inputs[f"shop_{entity}"]
        found = layouts(place, source, place.find(source) or [])
        rows = readers.stamp(readers.read(spark, place, source, found), source, place.address, now, 1)
        raw = mapping.raw_rows(rows.where(~readers.is_corrupt(rows)))
        checked = checking.check(mapping.map_rows(raw, source, contract), contract, known)
        accepted = checking.accepted(checked, contract)
        if contract.merge_mode == "first":
            warehouse.overwrite(versions.earliest(accepted, contract), f"silver.{entity}")
        else:
            table = f"silver.{entity}_history"
            warehouse.overwrite(versions.build_scd2(versions.as_versions(accepted, contract), contract), table)
            alive = warehouse.read(table).where(~versions.F.col(versions.DELETED))
            known[entity] = alive.select(*contract.keys).distinct()
    versions_of_silver = gold.silver_versions(context)
    frames = gold.read_silver(context, versions_of_silver)
    upkeep.refresh(context, frames, versions_of_silver, anew=True, small=False)
    gold.publish(context, Gold(context, []), frames, instant(as_of), None, small=False)


if __name__ == "__main__":
    build(*sys.argv[1:])
