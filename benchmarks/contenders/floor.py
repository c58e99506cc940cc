"""The floor: the suite's tables by plain Spark and Delta, with no bookkeeping at all. Four processes, as the suite has them.

Run by: `spark-submit floor.py ingest|validate|merge|featurize --landing FOLDER --warehouse FOLDER [--as-of DAY]`

The rows are the suite's, because its readers, checks, foldings and features make them: bronze, staged, quarantine, silver with
histories, gold. Left out is what makes them safe to operate: journals, plans, leases, transactions, the proof that no row is
missing, refusals, figures, reports, change data, what a killed run has left. All that is kept beside the tables is which files each
load had. What a stage of the suite costs beyond this is what those are worth.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from types import SimpleNamespace

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "spark_jobs"))

from lakehouse import sizes, versions  # noqa: E402
from lakehouse.features import customer_days, customers, products, silver  # noqa: E402
from lakehouse.features.publishing import typed  # noqa: E402
from lakehouse.features.timelines import FROM, TO  # noqa: E402
from lakehouse.ingestion import readers  # noqa: E402
from lakehouse.ingestion.landing import Landing  # noqa: E402
from lakehouse.ingestion.layouts import layouts  # noqa: E402
from lakehouse.odcs import load_contracts  # noqa: E402
from lakehouse.parallel import side_by_side  # noqa: E402
from lakehouse.session import build_session, prepare  # noqa: E402
from lakehouse.sources import Input, load_sources  # noqa: E402
from lakehouse.sql import same_key  # noqa: E402
from lakehouse.validation import checking, mapping, quarantine  # noqa: E402

PARENTS, CHILDREN = ("customers", "products"), ("transactions", "interactions")
ENTITIES = (*PARENTS, *CHILDREN)


class Floor:
    """The tables of one warehouse folder, and the loads that have made them, numbered from 1."""

    def __init__(self, landing: str, warehouse: str) -> None:
        self.contracts = load_contracts(str(ROOT / "contracts"))
        self.inputs: dict[str, Input] = {
            entity: source
            for source in load_sources(str(ROOT / "sources"), self.contracts)
            if source.source == "shop"
            for entity, _ in source.sql
        }
        self.landing, self.folder, self.now = Landing(landing), Path(warehouse), datetime.now(UTC)
        self._lists = self.folder / "loads"
        # The bytes of each file, by entity.
        self.loads = [json.loads(file.read_text()) for file in sorted(self._lists.glob("*.json"))]

    @cached_property
    def spark(self) -> SparkSession:
        return build_session("floor")

    def note(self, load: dict[str, dict[str, int]]) -> None:
        self.loads.append(load)
        self._lists.mkdir(parents=True, exist_ok=True)
        (self._lists / f"{len(self.loads):06}.json").write_text(json.dumps(load))

    def new(self, among: Sequence[str] = ENTITIES) -> list[str]:
        """The entities of which the newest load has files."""
        return [entity for entity in among if self.loads[-1][entity]]

    @cached_property
    def rows(self) -> float:
        """About so many rows the newest load has."""
        return sum(sum(files.values()) for files in self.loads[-1].values()) / sizes.BYTES_OF_LANDED_ROW

    def kept(self, frame: DataFrame) -> DataFrame:
        """A frame that is looked at several times: of few rows, it is kept sooner than Delta is asked for its files each time."""
        return frame.persist() if self.rows <= sizes.LITTLE_ROWS else frame

    def path(self, table: str) -> Path:
        return self.folder / table.replace(".", "/")

    def exists(self, table: str) -> bool:
        return (self.path(table) / "_delta_log").is_dir()

    def size(self, table: str) -> int:
        return sum(file.stat().st_size for file in self.path(table).rglob("*.parquet"))

    def read(self, table: str) -> DataFrame:
        """The newest version, and no newer one: what is kept of it is not computed again when the table is written."""
        newest = max((self.path(table) / "_delta_log").glob("*.json")).stem
        return self.spark.read.format("delta").option("versionAsOf", int(newest)).load(str(self.path(table)))

    def read_load(self, table: str) -> DataFrame:
        """The rows of the newest load."""
        return self.kept(self.read(table).where(F.col("_batch_id") == len(self.loads)))

    def append(self, rows: DataFrame, table: str) -> None:
        rows.write.format("delta").mode("append").save(str(self.path(table)))

    def merge(
        self, rows: DataFrame, table: str, columns: list[str], keys: list[str], matched: str, new: str = "TRUE"
    ) -> None:
        """Upsert rows (``s``) into a table (``t``), which the first ones make.

        Args:
            columns: those that the table has.
            matched: WHEN clauses for rows whose keys are there.
            new: SQL over ``s``: whether a row whose keys are not there is inserted.
        """
        if not self.exists(table):
            return self.append(rows.alias("s").where(new).select(*columns), table)
        view = table.replace(".", "_")
        rows.createOrReplaceTempView(view)
        self.spark.sql(
            f"MERGE INTO delta.`{self.path(table)}` t USING {view} s ON {same_key(keys, None)} "
            f"{matched} WHEN NOT MATCHED AND {new} THEN INSERT *"
        )

    def replace(self, rows: DataFrame, name: str) -> None:
        """Replace the rows of a table of gold that are of the same instant."""
        types = {c.name: c.type for c in self.contracts[name].columns if c.name not in (FROM, TO)} | {
            "as_of": "timestamp"
        }
        writer = rows.select(*[F.col(column).cast(type_).alias(column) for column, type_ in types.items()]).write
        writer = writer.format("delta").mode("overwrite").partitionBy("as_of")
        writer.option("partitionOverwriteMode", "dynamic").save(str(self.path(f"gold.{name}")))


def each(function: Callable[[Floor, str], None], floor: Floor, entities: Iterable[str]) -> None:
    side_by_side([partial(function, floor, entity) for entity in entities])


def ingest(floor: Floor) -> None:
    known = {path for load in floor.loads for files in load.values() for path in files}
    found = {entity: floor.landing.find(source) or [] for entity, source in floor.inputs.items()}
    new = {entity: [file for file in files if file.path not in known] for entity, files in found.items()}
    floor.note({entity: {file.path: file.size for file in files} for entity, files in new.items()})
    prepare(floor.spark, floor.rows)

    def load(floor: Floor, entity: str) -> None:
        source, landing = floor.inputs[entity], floor.landing
        rows = readers.read(floor.spark, landing, source, layouts(landing, source, new[entity]))  # type: ignore[arg-type]
        stamped = readers.stamp(rows, source, landing.address, floor.now, len(floor.loads))
        floor.append(stamped, f"bronze.{source.name}")

    each(load, floor, floor.new())


def validate(floor: Floor) -> None:
    prepare(floor.spark, floor.rows)
    # Parents first: a row may refer to a row of the same load.
    for level in (PARENTS, CHILDREN):
        each(validate_entity, floor, floor.new(level))


def validate_entity(floor: Floor, entity: str) -> None:
    contract, source, number = floor.contracts[entity], floor.inputs[entity], len(floor.loads)
    bronze = floor.read_load(f"bronze.{source.name}")
    corrupt = readers.is_corrupt(bronze)
    known = {}
    for parent in contract.parents:
        alive = floor.read(f"staged.{parent}").where(~F.col(versions.DELETED))
        known[parent] = floor.kept(alive.select(*floor.contracts[parent].keys).distinct())
    mapped = mapping.map_rows(mapping.raw_rows(bronze.where(~corrupt)), source, contract)
    checked = checking.check(mapped, contract, known)
    accepted = checking.accepted(checked, contract).withColumn("_batch_id", F.lit(number).cast("bigint"))
    floor.append(accepted, f"staged.{entity}")
    facts = (quarantine.positions(bronze), contract, source.name, SimpleNamespace(batch_id=number), floor.now)
    rejected = quarantine.rejected_rows(checking.rejected(checked, contract), *facts)  # type: ignore[arg-type]
    unparsed = quarantine.corrupt_rows(mapping.raw_rows(bronze.where(corrupt)), *facts)  # type: ignore[arg-type]
    floor.append(rejected.unionByName(unparsed), f"quarantine.{entity}")


def merge(floor: Floor) -> None:
    prepare(floor.spark, floor.rows)
    each(merge_entity, floor, floor.new())


def merge_entity(floor: Floor, entity: str) -> None:
    contract, table = floor.contracts[entity], f"silver.{entity}"
    keys, staged = contract.keys, floor.read_load(f"staged.{entity}")
    columns = [*contract.column_names, versions.SEQUENCE]
    if contract.merge_mode == "first":
        earlier = "WHEN MATCHED AND s._sequence < t._sequence THEN UPDATE SET *"
        return floor.merge(versions.earliest(staged, contract), table, columns, keys, earlier)
    history, of_interval = f"{table}_history", [*keys, versions.SEQUENCE]
    every = versions.as_versions(staged, contract)
    before = None
    if floor.exists(history):
        before = floor.read(history).join(staged.select(*keys).distinct(), keys, "left_semi").persist()
        every = every.unionByName(versions.explode_versions(before, contract))
    after = versions.build_scd2(every, contract).persist()
    gone = "WHEN MATCHED AND s._deleted THEN DELETE WHEN MATCHED THEN UPDATE SET *"
    floor.merge(versions.current(after, contract), table, columns, keys, gone, "NOT s._deleted")
    intervals = after.withColumn("_gone", F.lit(False))
    if before is not None:
        intervals = intervals.unionByName(before.join(after, of_interval, "left_anti").withColumn("_gone", F.lit(True)))
    gone = "WHEN MATCHED AND s._gone THEN DELETE WHEN MATCHED THEN UPDATE SET *"
    floor.merge(intervals, history, versions.history_columns(contract), of_interval, gone)


def featurize(floor: Floor, as_of: datetime) -> None:
    tables = {entity: f"silver.{entity}{'' if entity == 'interactions' else '_history'}" for entity in ENTITIES}
    events = sum(floor.size(tables[entity]) for entity in CHILDREN)
    prepare(floor.spark, events / sizes.BYTES_OF_STORED_ROW)
    frames = {entity: floor.read(table) for entity, table in tables.items()}
    if events < sizes.KEPT_BYTES:
        frames = {entity: frame.persist() for entity, frame in frames.items()}
    then = silver.activity(
        frames["transactions"], frames["interactions"], frames["products"], frames["customers"], as_of
    )

    def write(name: str, rows: DataFrame) -> DataFrame:
        kept = rows.withColumn("as_of", F.lit(as_of).cast("timestamp")).persist()
        floor.replace(kept, name)
        return kept

    days = customer_days.of_activity(then)
    if events < sizes.KEPT_BYTES:
        days = days.persist()
    stored = typed(floor.contracts["customer_days"], customer_days.of_silver(frames))
    stored.write.format("delta").mode("overwrite").save(str(floor.path("gold.customer_days")))

    # Whole snapshots, the least that can be written without a look at what is there.
    def of_products() -> None:
        affinity = write("product_affinity", products.product_affinity(then))
        write("product_features", products.product_features(then, affinity))

    def of_customers() -> None:
        preferences = write("category_preferences", products.category_preferences(then))
        features = (customers.lifelong(days), customers.windowed(days, then), preferences)
        unscored = customers.unscored(then, *features).persist()
        write("customer_features", customers.customer_features(unscored, as_of))

    side_by_side([of_products, of_customers])


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("stage", choices=("ingest", "validate", "merge", "featurize"))
    p.add_argument("--landing", required=True)
    p.add_argument("--warehouse", required=True)
    p.add_argument("--as-of", type=lambda day: datetime.fromisoformat(day).replace(tzinfo=UTC))
    options = p.parse_args()
    floor = Floor(options.landing, options.warehouse)
    if options.stage == "featurize":
        featurize(floor, options.as_of)
    else:
        {"ingest": ingest, "validate": validate, "merge": merge}[options.stage](floor)


if __name__ == "__main__":
    main()
