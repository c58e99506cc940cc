"""What 40 rules cost: validate against the same read, cast and write without any rule.

Run it with: `. bin/env && spark-submit benchmarks/rules.py [ROWS]` (10,000,000 unless given)

Two in a hundred rows are bad. Both sides read the same bronze table and write the accepted form of all
columns; validate also checks, quarantines, counts and balances. The median of runs that take turns, in one
warm session; the machine is noisy, the ratio counts.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import yaml
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "spark_jobs"))

import ingest  # noqa: E402
import validate  # noqa: E402
from lakehouse import cli  # noqa: E402
from lakehouse.odcs import load_contracts  # noqa: E402
from lakehouse.session import build_session  # noqa: E402
from lakehouse.sources import load_sources  # noqa: E402
from lakehouse.validation import checking, mapping, rules  # noqa: E402

ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
RULES, RUNS = 40, 3
COLUMNS = ("transaction_id", "order_id", "customer_id", "product_id", "payment_method")


def contracts(folder: Path) -> Path:
    """The shipped contracts, with rules added to the transactions until there are ``RULES``."""
    shutil.copytree(ROOT / "contracts", folder)
    file = folder / "transactions.odcs.yaml"
    model = yaml.safe_load(file.read_text())
    table = model["schema"][0]
    for p in table["properties"]:
        if p["name"] in COLUMNS[1:]:
            p.setdefault("logicalTypeOptions", {}).update({"maxLength": 64, "pattern": "^[A-Za-z0-9 _-]+$"})
        # The parents are not delivered here: 10 M orphans would be another benchmark.
        p.pop("relationships", None)
    number = 0
    while (count := len(rules.checks(load_contracts(folder)["transactions"]))) < RULES:
        number += 1
        expression = f"length({COLUMNS[number % len(COLUMNS)]}) + amount < {1_000_000 + number}"
        table.setdefault("quality", []).append(
            {
                "type": "custom",
                "engine": "spark",
                "name": f"sum_{number}",
                "implementation": expression,
                "severity": "reject" if number % 2 else "warn",
                "description": f"is too much by rule {number}",
            }
        )
        file.write_text(yaml.safe_dump(model))
    assert count == RULES
    return folder


def land(spark: SparkSession, folder: Path) -> None:
    price = (F.col("id") % 10_000 / 100).cast("decimal(18,2)").cast("string")
    amount = F.when(F.col("id") % 50 == 0, F.lit("12,50")).otherwise(price)
    day = F.date_add(F.lit("2026-03-01").cast("date"), (F.col("id") % 28).cast("int")).cast("string")
    spark.range(ROWS).select(
        F.concat(F.lit("T"), F.format_string("%010d", "id")).alias("TransactionID"),
        F.concat(F.lit("O"), (F.col("id") / 2).cast("bigint")).alias("OrderID"),
        F.concat(F.lit("C"), F.col("id") % 100_003).alias("CustomerID"),
        F.concat(F.lit("P"), F.col("id") % 5_003).alias("ProductID"),
        F.concat(day, F.lit("T10:00:00Z")).alias("Date"),
        amount.alias("Amount"),
        F.element_at(F.array(F.lit("card"), F.lit("paypal")), (F.col("id") % 2 + 1).cast("int")).alias("PaymentMethod"),
        F.lit("Completed").alias("TransactionStatus"),
        F.concat(day, F.lit("T10:00:00Z")).alias("UpdatedAt"),
        F.lit("").alias("op"),
    ).write.option("header", "true").csv(str(folder / "shop/transactions"))


def stage(script, name: str, *arguments: str) -> float:  # type: ignore[no-untyped-def]
    begin = time.perf_counter()
    code = cli.run_stage(name, script.build_parser(), script.run, list(arguments))
    assert code == 0, f"{name} ended with {code}"
    return time.perf_counter() - begin


def main() -> None:
    console = Console()
    spark = build_session("rules benchmark")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = contracts(folder / "contracts")
        land(spark, folder / "landing")
        common = ("--only", "shop_transactions", "--contracts", str(model))
        stage(ingest, "ingest", "--warehouse", f"{folder}/loaded", "--landing", f"{folder}/landing", *common)
        contract = load_contracts(model)["transactions"]
        source = next(i for i in load_sources(ROOT / "sources", load_contracts(model)) if i.name == "shop_transactions")

        def without_rules(target: Path) -> float:
            begin = time.perf_counter()
            bronze = spark.read.format("delta").load(f"{folder}/loaded/bronze/shop_transactions")
            typed = checking.typed(mapping.map_rows(mapping.raw_rows(bronze), source, contract), contract)
            written = typed.select(*contract.column_names, mapping.DELETED, "_sequence_at", f"{mapping.ROW}.source")
            written.write.format("delta").save(str(target))
            return time.perf_counter() - begin

        def with_rules(target: Path) -> float:
            shutil.copytree(folder / "loaded", target)
            seconds = stage(validate, "validate", "--warehouse", str(target), *common)
            figures = spark.read.format("delta").load(f"{target}/quarantine/transactions").count()
            assert figures == len(range(0, ROWS, 50)), figures
            return seconds

        seconds: dict[str, list[float]] = {}
        for run in range(RUNS + 1):
            for title, measured in (("read, cast, write", without_rules), (f"validate, {RULES} rules", with_rules)):
                target = folder / "target"
                taken = measured(target)
                shutil.rmtree(target)
                if run:
                    seconds.setdefault(title, []).append(taken)
    table = Table("what", "seconds (median)", "all", title=f"{ROWS:,} rows, 2% of them bad")
    for title, taken in seconds.items():
        table.add_row(title, f"{statistics.median(taken):.1f}", ", ".join(f"{s:.1f}" for s in taken))
    console.print(table)
    without, with_ = (statistics.median(taken) for taken in seconds.values())
    console.print(f"ratio {with_ / without:.2f}")


if __name__ == "__main__":
    main()
