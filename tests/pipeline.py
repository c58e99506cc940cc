"""Runs stages in the tests' own Spark session, through the same functions the scripts call."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from lakehouse import options
from lakehouse.context import Context
from lakehouse.contracts import entities
from lakehouse.features import migration, training
from lakehouse.features import stage as features
from lakehouse.ingestion import stage as ingestion
from lakehouse.instants import instant
from lakehouse.maintenance import stage as maintenance
from lakehouse.merging import stage as merging
from lakehouse.odcs import load_contracts
from lakehouse.report import RunReport
from lakehouse.sources import load_sources
from lakehouse.tables import Warehouse
from lakehouse.validation import decisions
from lakehouse.validation import stage as validation
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from support import ROOT


@dataclass(frozen=True)
class PipelineContext(Context):
    """A context that knows the landing folder of its pipeline."""

    landing: Path


@dataclass(frozen=True)
class StageFunction:
    """What a stage's script calls, and the options that it takes."""

    function: Callable[..., None]
    kind: type

    def options(self, landing: Path, **chosen: Any) -> Any:
        """The options, of texts as the command line has them; ingest is told where the landing folder is."""
        of_stage = {"landing": str(landing)} if self.kind is options.Ingest else {}
        return options.parsed(self.kind, of_stage | chosen)

    def __call__(self, context: PipelineContext, **chosen: Any) -> None:
        self.function(context, self.options(context.landing, **chosen))


STAGES = {
    "ingest": StageFunction(ingestion.run, options.Ingest),
    "validate": StageFunction(validation.run, options.Validate),
    "merge": StageFunction(lambda context, _: merging.run(context), options.Merge),
    "featurize": StageFunction(features.run, options.Featurize),
    "migrate": StageFunction(lambda context, _: migration.run(context), options.Migrate),
    "training_set": StageFunction(training.run, options.TrainingSet),
    "optimize": StageFunction(maintenance.run, options.Optimize),
    "replay": StageFunction(decisions.run, options.Replay),
}
BATCH = ("ingest", "validate", "merge")


class Pipeline:
    """One warehouse and one landing folder, with the shipped contracts and sources unless others are given."""

    def __init__(
        self, spark: SparkSession, folder: Path, *, contracts: Path | None = None, sources: Path | None = None
    ) -> None:
        self.spark = spark
        self.landing = folder / "landing"
        self.warehouse_path = folder / "warehouse"
        self.contracts = contracts or ROOT / "contracts"
        self.sources = sources or ROOT / "sources"
        self.landing.mkdir(parents=True, exist_ok=True)
        self._runs = 0
        self.reports: dict[str, RunReport] = {}

    def run(
        self,
        stage: str,
        *,
        only: Iterable[str] = (),
        as_of: str | None = None,
        now: datetime | None = None,
        **chosen: Any,
    ) -> RunReport:
        """Run one stage, with options of its own; returns its report, raises what the stage raises."""
        context = self.context(stage, only=only, as_of=as_of, now=now)
        STAGES[stage](context, **chosen)
        return context.report

    def options(self, stage: str, **chosen: Any) -> Any:
        return STAGES[stage].options(self.landing, **chosen)

    def context(
        self,
        stage: str,
        *,
        only: Iterable[str] = (),
        as_of: str | None = None,
        now: datetime | None = None,
    ) -> PipelineContext:
        self._runs += 1
        now = now or datetime.now(UTC)
        contracts = load_contracts(self.contracts)
        report = RunReport(stage, f"test-{self._runs}", now)
        return PipelineContext(
            warehouse=Warehouse(lambda: self.spark, str(self.warehouse_path), report),
            contracts=contracts,
            entities=entities(contracts),
            inputs=load_sources(self.sources, contracts),
            only=list(only),
            run_id=report.run_id,
            now=now,
            as_of=instant(as_of) if as_of else None,
            report=report,
            landing=self.landing,
        )

    def batch(self, source: str, as_of: str | None = None) -> dict[str, RunReport]:
        """Ingest, validate, merge, and featurize when an instant is given."""
        reports = {
            "ingest": self.run("ingest", only=[source]),
            "validate": self.run("validate", only=[source]),
            "merge": self.run("merge"),
        }
        if as_of:
            reports["featurize"] = self.run("featurize", as_of=as_of)
        return reports

    def path(self, table: str) -> Path:
        return self.warehouse_path / table.replace(".", "/")

    def table(self, table: str):  # type: ignore[no-untyped-def]
        return self.spark.read.format("delta").load(str(self.path(table)))

    def versions(self) -> dict[str, int]:
        """The newest version of every table."""
        found = {}
        for log in sorted(self.warehouse_path.glob("*/*/_delta_log")):
            numbers = [int(f.stem) for f in log.glob("*.json") if f.stem.isdigit()]
            found[f"{log.parent.parent.name}.{log.parent.name}"] = max(numbers)
        return found


def edit_columns(contract: Path, edit: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change the properties of a contract file's columns."""
    model = yaml.safe_load(contract.read_text())
    edit(model["schema"][0]["properties"])
    contract.write_text(yaml.safe_dump(model))


def strict_contracts(folder: Path) -> Path:
    """A copy of the shipped contracts, but orphans are held and a missing amount is rejected: every spoilt value is kept out."""
    shutil.copytree(ROOT / "contracts", folder / "contracts")

    def tighten(properties: list[dict[str, Any]]) -> None:
        for p in properties:
            custom = [c for c in p.get("customProperties", []) if c["property"] != "defaultWhenNull"]
            if p.get("relationships"):
                custom.append({"property": "onOrphan", "value": "hold"})
            p["customProperties"] = custom

    for entity in ("transactions", "interactions"):
        edit_columns(folder / f"contracts/{entity}.odcs.yaml", tighten)
    return folder / "contracts"


GOLD = ("customer_days", "customer_features", "category_preferences", "product_affinity", "product_features")
SILVER = ("customers", "products", "transactions", "interactions")


def rows_of(pipeline: Pipeline, tables: Iterable[str], as_of: str | None = None) -> dict[str, list[str]]:
    """All rows of tables as sorted text, without bookkeeping columns: equal exactly when the tables are.

    With an instant, gold tables that have snapshots are reduced to that one.
    """
    result = {}
    for name in tables:
        frame = pipeline.table(name)
        if as_of and "as_of" in frame.columns:
            frame = frame.where(F.col("as_of") == F.lit(instant(as_of)))
        elif as_of and "valid_to" in frame.columns:
            at = F.lit(instant(as_of))
            frame = frame.where((F.col("valid_from") <= at) & (F.col("valid_to").isNull() | (F.col("valid_to") > at)))
            frame = frame.drop("valid_from", "valid_to")
        columns = ", ".join(f"`{c}`" for c in frame.columns if not c.startswith("_"))
        result[name] = sorted(r["row"] for r in frame.selectExpr(f"to_json(struct({columns})) AS row").collect())
    return result
