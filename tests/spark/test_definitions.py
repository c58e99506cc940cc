"""What names gold's definitions: the results for fixed deliveries; and what was made under former names still holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import fixed_deliveries
import oracle
import pytest
from fixed_deliveries import AS_OF, CUT_OFF, HORIZON_DAYS
from lakehouse import versions
from lakehouse.contracts import SEQUENCE_DDL
from lakehouse.features import definitions, gold, publishing, upkeep
from lakehouse.features.publishing import Gold
from lakehouse.instants import instant
from pipeline import SILVER, Pipeline
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

NOW = instant("2026-06-01")
TABLES = {
    **{name: f"gold.{name}" for name in (*publishing.TABLES, "customer_days")},
    "training_sets": "gold.training_fixed",
}
CHANGED = (
    "The results of the definitions have changed: raise the version in features/definitions.py to the digest that is asked for here. "
    "Snapshots and training sets of the former one are then of other definitions."
)


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Silver folded from the fixed deliveries, gold as of the instant, and a training set."""
    pipeline = Pipeline(spark, tmp_path_factory.mktemp("definitions"))
    context = pipeline.context("featurize", now=NOW)
    everything = fixed_deliveries.deliveries()
    for entity in SILVER:
        contract = context.contracts[entity]
        ddl = f"{contract.ddl()}, {versions.DELETED} BOOLEAN, {versions.SEQUENCE} {SEQUENCE_DDL}"
        rows = [
            (*[values.get(c) for c in contract.column_names], gone, (at, gone, received, f"{entity}.csv", 0, n))
            for n, (name, at, received, gone, values) in enumerate(everything)
            if name == entity
        ]
        staged = spark.createDataFrame(rows, ddl)
        if entity == "interactions":
            silver, table = versions.earliest(staged, contract), "interactions"
        else:
            silver, table = versions.build_scd2(versions.as_versions(staged, contract), contract), f"{entity}_history"
        silver.write.format("delta").save(str(pipeline.path(f"silver.{table}")))
    silver_versions = gold.silver_versions(context)
    frames = gold.read_silver(context, silver_versions)
    upkeep.refresh(context, frames, silver_versions, anew=False, small=True)
    gold.publish(context, Gold(context, []), frames, instant(AS_OF), None, small=True)
    build(pipeline)
    return pipeline


def build(pipeline: Pipeline, **changes: object) -> None:
    arguments = {
        "name": "fixed", "cut_offs": CUT_OFF, "horizon": str(HORIZON_DAYS), "known_by": "cut-off", "manifest": None,
        "from_manifest": None,
    }  # fmt: skip
    pipeline.run("training_set", now=NOW, **arguments | changes)


def digest(rows: Iterable[Row]) -> str:
    """A short name of some rows, in whatever order: nine digits of a double, so that no last bit makes a difference."""

    def shown(value: object) -> object:
        if isinstance(value, Row):
            return {k: shown(v) for k, v in value.asDict().items()}
        if isinstance(value, float):
            return f"{value:.9g}"
        return value.isoformat() if isinstance(value, datetime) else value

    lines = sorted(json.dumps(shown(row), default=str, sort_keys=True) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def of_instant(table: DataFrame) -> DataFrame:
    """A gold table's rows with the instant that they are of, in whichever way it keeps them."""
    return table.withColumnRenamed("valid_from", "as_of").drop("valid_to")


def test_the_version_of_each_definition_is_the_digest_of_its_results(shop: Pipeline) -> None:
    got = {name: digest(of_instant(shop.table(table)).collect()) for name, table in TABLES.items()}
    assert got == definitions.VERSIONS, CHANGED


def test_the_fixed_deliveries_give_what_duckdb_computes(shop: Pipeline) -> None:
    assert oracle.differences(oracle.connect(shop.warehouse_path), AS_OF) == {}


def test_every_feature_is_decided_by_them(shop: Pipeline) -> None:
    """A column with one value alone would not show a change of its definition."""
    for name in (*publishing.TABLES, "customer_days"):
        table = shop.table(f"gold.{name}")
        columns = [c for c in table.columns if c not in ("as_of", "valid_from", "valid_to", "_sessions")]
        (counts,) = table.agg(
            *[F.count_distinct(F.coalesce(F.col(c).cast("string"), F.lit("null"))).alias(c) for c in columns]
        ).collect()
        assert [c for c in columns if counts[c] < 2] == [], name


def test_a_customer_without_interactions_has_no_session_and_no_duration_of_one(shop: Pipeline) -> None:
    rows = shop.table("gold.customer_features").where("customer_id IN ('NO EVENTS', 'FREE', 'SESSIONS')")
    got = {r["customer_id"]: (r["session_count"], r["session_duration"]) for r in rows.collect()}
    assert got == {"NO EVENTS": (0, None), "FREE": (0, None), "SESSIONS": (2, 1800.0)}


def test_a_training_set_made_under_the_former_name_is_built_again_as_it_was(shop: Pipeline, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    build(shop, manifest=str(manifest))
    today = json.loads(manifest.read_text())
    # What that release wrote: null for no session.
    former = shop.table("gold.training_fixed").withColumn("session_count", F.expr("nullif(session_count, 0)"))
    content = F.sum(F.xxhash64(*[F.col(c) for c in sorted(former.columns)]).cast("decimal(38,0)")).cast("string")
    ((expected,),) = former.agg(content).collect()
    assert expected != today["content"]
    manifest.write_text(json.dumps(today | {"definitions": "48e41649b64e86f1", "content": expected}))
    build(shop, from_manifest=str(manifest))
    made = shop.table("gold.training_fixed")
    assert made.where("session_count = 0").count() == 0
    assert made.where("session_count IS NULL").count() > 0
    build(shop)


def test_snapshots_made_under_the_former_name_hold(shop: Pipeline) -> None:
    contracts = {n: shop.context("featurize").contracts[n] for n in publishing.TABLES}
    good = definitions.as_good(contracts)
    # The name that the release with the former definitions gave to the shipped contracts.
    assert {definitions.of_gold(contracts), "2df7015ce7fc46d3"} <= good
    assert "others" not in good
