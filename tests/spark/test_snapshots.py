"""Snapshots carried over from earlier ones: equal to those computed from all events; stale, renewed and expired ones."""

from __future__ import annotations

import runpy
import shutil
from datetime import UTC, datetime, timedelta
from functools import reduce
from pathlib import Path

import oracle
import pytest
from lakehouse import sizes
from lakehouse.errors import ConfigurationError
from lakehouse.features import catalogue, definitions, publishing, timelines
from lakehouse.features.catalogue import DAYS, MONEY, Feature
from lakehouse.features.publishing import Gold
from lakehouse.features.snapshots import Snapshots
from lakehouse.instants import instant
from lakehouse.report import RunReport
from lakehouse.synthetic.shop import Scale
from lakehouse.synthetic.stage import generate
from pipeline import GOLD, SILVER, Pipeline, rows_of
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from support import ROOT

START = instant("2026-03-01")
AS_OF = "2026-03-08"
EARLIER = ("2026-03-03", "2026-03-05", "2026-03-06")


@pytest.fixture(scope="module")
def daily(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Seven days in three deliveries, the third with a file of the first days; each followed by a snapshot."""
    pipeline = Pipeline(spark, tmp_path_factory.mktemp("daily"))
    landing = tmp_path_factory.mktemp("landing")
    generate(spark, str(landing), Scale(2_500, 7, START.date()), 7, 3.0, RunReport("generate", "g", START))
    files = sorted(f.relative_to(landing) for e in SILVER for f in (landing / "shop" / e).rglob("part-*"))
    late = [f for f in files if "2026-03-02" in str(f) and {"transactions", "interactions"} & set(f.parts)]
    assert late
    for as_of, previous in zip((*EARLIER[:2], AS_OF), ("", *EARLIER[:2]), strict=True):
        for file in files:
            day = next(p for part in file.parts for p in part.split("=") if p.startswith("2026-"))
            due = day < as_of and (day >= previous or file in late) and (file not in late or as_of == AS_OF)
            if due:
                target = pipeline.landing / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(landing / file, target)
        pipeline.batch("shop")
        report = pipeline.run("featurize", as_of=as_of, recompute="changed")
        pipeline.reports[as_of] = report
    return pipeline


def test_carried_over_is_what_duckdb_computes_from_all_events(daily: Pipeline) -> None:
    figures = daily.reports[AS_OF].tables["gold.customer_features"]
    assert 0 < figures["customers_recomputed"] < figures["rows_written"], "nothing was carried over"
    assert oracle.differences(oracle.connect(daily.warehouse_path), AS_OF) == {}


def test_late_data_make_the_snapshots_after_them_stale_until_they_are_renewed(
    daily: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Rows are found and merged, as in large tables.
    monkeypatch.setattr(sizes, "REWRITTEN_BYTES", 0)
    # The shop itself delivers some rows late, so that the first snapshot was stale before.
    warnings = [w for as_of in (EARLIER[1], AS_OF) for w in daily.reports[as_of].warnings if "stale" in w]
    assert [w.split(": data from ")[0] for w in warnings] == [
        "stale are the snapshots as of 2026-03-03T00:00:00+00:00",
        "stale are the snapshots as of 2026-03-05T00:00:00+00:00",
    ]
    assert oracle.differences(oracle.connect(daily.warehouse_path), EARLIER[0]) != {}
    daily.run("featurize", start="2026-03-01", end=AS_OF, recompute="changed")
    for as_of in EARLIER[:2]:
        assert oracle.differences(oracle.connect(daily.warehouse_path), as_of) == {}
    before = daily.versions()
    assert not daily.run("featurize", start="2026-03-01", end=AS_OF).wrote
    assert not daily.run("featurize", as_of=AS_OF, recompute="changed").wrote
    assert daily.versions() == before


def test_a_grid_of_instants_is_what_single_ones_are(daily: Pipeline, unpinned_reads: set[str]) -> None:
    report = daily.run("featurize", start=EARLIER[1], end=EARLIER[2], every="1", recompute="changed")
    figures = report.tables["gold.customer_features"]
    assert 0 < figures["customers_recomputed"] < figures["rows_written"], "nothing was carried over"
    assert not {t for t in unpinned_reads if not t.startswith("ops.")}, "what is persisted of them is computed again"
    assert oracle.differences(oracle.connect(daily.warehouse_path), EARLIER[2]) == {}


def test_from_all_events_is_what_carried_over_is(daily: Pipeline) -> None:
    tables = [f"gold.{g}" for g in GOLD]
    before = rows_of(daily, tables, as_of=AS_OF)
    report = daily.run("featurize", as_of=AS_OF, recompute="all")
    figures = report.tables["gold.customer_features"]
    assert figures["customers_recomputed"] == figures["rows_written"]
    assert rows_of(daily, tables, as_of=AS_OF) == before


def test_a_product_in_another_category_changes_its_buyers_who_did_nothing_since(daily: Pipeline) -> None:
    db = oracle.connect(daily.warehouse_path)
    oracle.prepare(db, AS_OF)
    then = oracle.as_of(db, "product_affinity")
    most = f"SELECT product_id, count(*) FROM ({then}) WHERE purchases > 0 GROUP BY 1 ORDER BY 2 DESC, 1"
    product, buyers = db.sql(most).fetchall()[0]
    of_product = f"SELECT category, price FROM silver_products WHERE product_id = '{product}'"
    [(category, price)] = db.sql(of_product).fetchall()
    file = daily.landing / "shop" / "products" / AS_OF / "moved.csv"
    file.parent.mkdir(parents=True)
    moved = f"{product},{'Toys' if category != 'Toys' else 'Books'},{price},1,{AS_OF}T06:00:00Z,"
    file.write_text(f"ProductID,Category,Price,StockAvailability,UpdatedAt,op\n{moved}\n")
    daily.batch("shop")
    report = daily.run("featurize", as_of="2026-03-09", recompute="changed")
    assert report.tables["gold.customer_features"]["customers_recomputed"] < buyers
    assert oracle.differences(oracle.connect(daily.warehouse_path), "2026-03-09") == {}


def test_spark_and_python_read_the_same_as_of_an_instant(daily: Pipeline) -> None:
    helpers = runpy.run_path(str(ROOT / "examples" / "gold.py"))
    for name in publishing.TIMELINES:
        table, key = daily.table(f"gold.{name}"), publishing.columns_of(daily.context("featurize").contracts[name])[0]
        for at in map(instant, EARLIER):
            found = helpers["as_of"](daily.warehouse_path, name, at)
            expected = {tuple(r) for r in timelines.as_of(table, at).select(*key).collect()}
            assert len(found) == len(expected)
            assert set(found[key].itertuples(index=False, name=None)) == expected
        assert len(helpers["now"](daily.warehouse_path, name)) == table.where("valid_to IS NULL").count() > 0


def test_a_warehouse_of_whole_snapshots_is_refused_until_it_is_brought_over(
    daily: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = [f"gold.{name}" for name in publishing.TIMELINES]
    expected, kept = rows_of(daily, tables), Snapshots(daily.context("migrate").warehouse, "", START).kept
    for table in tables:
        rows = [timelines.as_of(daily.table(table), at).withColumn("as_of", F.lit(at)) for at in kept]
        # And one that has expired, of which a killed run has left the rows.
        rows.append(rows[0].withColumn("as_of", F.lit(START - timedelta(days=9))))
        former = reduce(DataFrame.unionByName, rows).drop("valid_from", "valid_to")
        daily.spark.sql(
            f"ALTER TABLE delta.`{daily.path(table)}` SET TBLPROPERTIES ('delta.enableDeletionVectors' = 'false')"
        )
        former.write.format("delta").mode("overwrite").option("overwriteSchema", "true").partitionBy("as_of").save(
            str(daily.path(table))
        )
    with pytest.raises(ConfigurationError, match=r"migrate\.py"):
        daily.run("featurize", as_of=AS_OF)
    with monkeypatch.context() as m:
        contracts = shutil.copytree(daily.contracts, tmp_path / "contracts")
        old = contracts / "product_features.odcs.yaml"
        old.write_text(old.read_text().replace("valid_from", "as_of"))
        m.setattr(daily, "contracts", contracts)
        with pytest.raises(ConfigurationError, match="the contract of an earlier release"):
            daily.run("migrate")
    daily.run("migrate")
    assert rows_of(daily, tables) == expected
    assert not daily.run("migrate").wrote
    assert not daily.run("featurize", as_of="2026-03-09").wrote
    for table in tables:
        detail = daily.spark.sql(f"DESCRIBE DETAIL delta.`{daily.path(table)}`").first()
        assert detail is not None
        assert (detail["partitionColumns"], detail["properties"]["delta.enableDeletionVectors"]) == ([], "true")


def test_old_snapshots_are_thinned_and_expire_but_never_the_latest(
    daily: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def instants() -> list[datetime]:
        rows = daily.table("gold.customer_features").selectExpr("unix_seconds(as_of) AS s").distinct().collect()
        return sorted(datetime.fromtimestamp(r["s"], UTC) for r in rows)

    assert len(instants()) == 5
    later = datetime.now(UTC) + timedelta(days=61)
    with monkeypatch.context() as m:
        # Killed when it is noted which snapshots have expired, and none is gone.
        m.setattr(Gold, "remove", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            daily.run("featurize", as_of="2026-03-10", now=later)
    assert len(instants()) == 6
    daily.run("featurize", as_of="2026-03-07", recompute="changed", now=later)
    # A new one, the midnight that ended the first week, and the latest.
    assert instants() == [instant(t) for t in ("2026-03-07", "2026-03-09", "2026-03-10")]
    for as_of in ("2026-03-07", "2026-03-09", "2026-03-10"):
        assert oracle.differences(oracle.connect(daily.warehouse_path), as_of) == {}
    daily.run("featurize", as_of="2026-03-10", recompute="all", now=later + timedelta(days=1101))
    assert instants() == [instant("2026-03-10")]
    for table in publishing.TIMELINES:
        assert daily.table(f"gold.{table}").where("valid_from < '2026-03-10' OR valid_to IS NOT NULL").count() == 0
    assert oracle.differences(oracle.connect(daily.warehouse_path), "2026-03-10") == {}


def test_a_snapshot_of_the_former_definitions_holds_and_is_carried_over_with_zero_sessions(
    daily: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as m:
        # The name that the release before gave to the shipped definitions, and the null that it wrote.
        m.setattr(definitions, "of_gold", lambda contracts: "2df7015ce7fc46d3")
        daily.run("featurize", as_of="2026-03-10", recompute="all")
    features = f"delta.`{daily.path('gold.customer_features')}`"
    daily.spark.sql(f"UPDATE {features} SET session_count = NULL WHERE session_count = 0")
    without = daily.table("gold.customer_features").where("as_of = '2026-03-10' AND session_count IS NULL").count()
    assert without > 0
    assert not daily.run("featurize", as_of="2026-03-10").wrote
    assert not daily.run("featurize", start="2026-03-10", end="2026-03-10").wrote
    report = daily.run("featurize", as_of="2026-03-11", recompute="changed")
    figures = report.tables["gold.customer_features"]
    assert figures["customers_recomputed"] < figures["rows_written"], "nothing was carried over"
    assert oracle.differences(oracle.connect(daily.warehouse_path), "2026-03-11") == {}
    assert daily.table("gold.customer_features").where("as_of = '2026-03-11' AND session_count = 0").count() >= without


def test_a_feature_is_added_in_one_place(daily: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    week = Feature("spend_7d", MONEY, DAYS, catalogue._spend, "Spend in the last 7 days.", "money", "", (), 7)
    monkeypatch.setattr(catalogue, "FEATURES", (*catalogue.FEATURES, week))
    docs = runpy.run_path(str(ROOT / "bin" / "generate-docs"))
    shutil.copytree(ROOT / "contracts", tmp_path / "contracts")
    (tmp_path / "contracts" / "customer_features.odcs.yaml").write_text(docs["customer_contract"]())
    monkeypatch.setattr(daily, "contracts", tmp_path / "contracts")
    daily.run("featurize", as_of=AS_OF)
    db = oracle.connect(daily.warehouse_path)
    oracle.prepare(db, AS_OF)
    spend = dict(
        db.sql("SELECT customer_id, sum(amount) FROM buys WHERE date >= t() - INTERVAL 7 DAY GROUP BY 1").fetchall()
    )
    rows = db.sql("SELECT customer_id, spend_7d FROM gold_customer_features WHERE as_of = t()").fetchall()
    assert len(spend) > 10
    assert dict(rows) == {customer: spend.get(customer, 0) for customer, _ in rows}
