"""The equivalence harness, small: other ways than one load give the same silver and gold, and it would tell if not."""

from __future__ import annotations

from pathlib import Path

import equivalence
import pytest
from equivalence import END, TABLES, WAYS, Shop, fingerprint, make_shop
from pyspark.sql import SparkSession

OTHERS = sorted(set(WAYS) - {"one load"})


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return make_shop(spark, tmp_path_factory.mktemp("source"), rows=2_000, deliveries=2, seed=5)


@pytest.fixture(scope="module")
def one_load(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return equivalence.one_load(shop, tmp_path_factory.mktemp("one_load"))


@pytest.mark.long
@pytest.mark.parametrize("way", OTHERS)
def test_another_way_gives_the_same_tables(shop: Shop, one_load: Path, tmp_path: Path, way: str) -> None:
    warehouse = WAYS[way](shop, tmp_path)
    differ = [t for t in TABLES if fingerprint(shop.spark, warehouse, t) != fingerprint(shop.spark, one_load, t)]
    assert [equivalence.differences(shop.spark, one_load, warehouse, t) for t in differ] == []
    assert all(fingerprint(shop.spark, one_load, t)[0] for t in TABLES), "an empty table proves nothing"


def test_the_fingerprint_tells_a_value_a_null_a_place_of_a_null_and_a_repeated_row(
    spark: SparkSession, tmp_path: Path
) -> None:
    def of(name: str, values: str) -> tuple[int, str, str]:
        rows = spark.sql(f"SELECT *, TIMESTAMP '{END}' AS as_of FROM VALUES {values} AS t(x, y)")
        rows.write.format("delta").save(str(tmp_path / name / "gold" / "things"))
        return fingerprint(spark, tmp_path / name, "gold.things")

    same = of("same", "(1, 2), (3, CAST(NULL AS INT))")
    assert of("other_order", "(3, CAST(NULL AS INT)), (1, 2)") == same
    others = {
        "a value": "(1, 4), (3, CAST(NULL AS INT))",
        "a null": "(1, CAST(NULL AS INT)), (3, CAST(NULL AS INT))",
        "where the null is": "(1, 2), (CAST(NULL AS INT), 3)",
        "repeated": "(1, 2), (1, 2), (3, CAST(NULL AS INT))",
    }
    assert [what for what, values in others.items() if of(what.replace(" ", "_"), values) == same] == []
