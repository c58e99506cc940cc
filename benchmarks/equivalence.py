"""One shop, brought to gold in many ways: silver and every gold table must be identical, row for row.

Run it with: `make equivalence` (10,000,000 rows) or `. bin/env && python benchmarks/equivalence.py --rows 20000`

The first way is one load of everything; each other way is compared with it. Tables, of gold the last snapshot, are compared
by the number of their rows and two sums of 64-bit hashes over them; of tables that differ, the rows are shown.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "spark_jobs"), str(ROOT / "tests")]

from lakehouse.features import timelines  # noqa: E402
from lakehouse.instants import instant  # noqa: E402
from lakehouse.report import RunReport  # noqa: E402
from lakehouse.session import build_session  # noqa: E402
from lakehouse.synthetic.shop import Scale  # noqa: E402
from lakehouse.synthetic.stage import generate  # noqa: E402
from lakehouse.versions import DELETED, FIRST  # noqa: E402
from pipeline import GOLD, SILVER, Pipeline  # noqa: E402
from shell import Shell  # noqa: E402

START, DAYS, LATEST = instant("2026-03-01"), 30, 30
END = f"{START + timedelta(days=DAYS):%Y-%m-%d}"
HISTORIES = ("customers", "products", "transactions")
TABLES = [
    *(f"silver.{e}" for e in SILVER),
    *(f"silver.{e}_history" for e in HISTORIES),
    *(f"gold.{g}" for g in GOLD),
]
CONSOLE = Console(width=120)
Delivery = list[tuple[Path, str]]
"""Files, and what they are called in the landing folder."""


@dataclass
class Shop:
    """The files of the shop, in the order of their days."""

    spark: SparkSession
    folder: Path
    files: list[Path]
    deliveries: int
    seed: int

    def day(self, file: Path) -> str:
        return file.parent.name

    def by_day(self) -> list[Delivery]:
        days = sorted({self.day(f) for f in self.files})
        cuts = [days[len(days) * n // self.deliveries] for n in range(self.deliveries)] + ["9999"]
        return [
            [(f, self.name(f)) for f in self.files if begin <= self.day(f) < end]
            for begin, end in itertools.pairwise(cuts)
        ]

    def name(self, file: Path) -> str:
        return str(file.relative_to(self.folder))

    def parts(self, files: list[tuple[Path, str]]) -> list[Delivery]:
        return [files[n :: self.deliveries] for n in range(self.deliveries)]


def make_shop(spark: SparkSession, folder: Path, rows: int, deliveries: int, seed: int) -> Shop:
    """Generate a shop of so many rows into a folder."""
    generate(
        spark, str(folder), Scale(rows, DAYS, START.date()), seed, 2.0, RunReport("generate", "equivalence", START)
    )
    files = sorted((f for e in SILVER for f in (folder / "shop" / e).rglob("part-*")), key=lambda f: f.parent.name)
    return Shop(spark, folder, files, deliveries, seed)


def deliver(landing: Path, delivery: Delivery) -> None:
    """Files keep the time of their first delivery, as a copy between stores does: it is part of the sequence."""
    for file, name in delivery:
        target = landing / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target)


def in_process(shop: Shop, folder: Path, deliveries: list[Delivery], *, daily: bool = False) -> Path:
    pipeline = Pipeline(shop.spark, folder)
    for n, delivery in enumerate(deliveries):
        deliver(pipeline.landing, delivery)
        pipeline.batch("shop")
        if daily and n < len(deliveries) - 1:
            after = max(shop.day(f) for f, _ in delivery)
            pipeline.run("featurize", as_of=f"{instant(after) + timedelta(days=1):%Y-%m-%d}", recompute="changed")
    pipeline.run("featurize", as_of=END, recompute="changed" if daily else "auto")
    return pipeline.warehouse_path


def one_load(shop: Shop, folder: Path) -> Path:
    return in_process(shop, folder, [[(f, shop.name(f)) for f in shop.files]])


def daily(shop: Shop, folder: Path) -> Path:
    """In the order of the days, gold after each delivery, carried over from the one before."""
    return in_process(shop, folder, shop.by_day(), daily=True)


def shuffled(shop: Shop, folder: Path) -> Path:
    files = random.Random(shop.seed).sample(shop.files, len(shop.files))
    return in_process(shop, folder, shop.parts([(f, shop.name(f)) for f in files]))


def duplicated(shop: Shop, folder: Path) -> Path:
    """Every file twice, under another name, in another delivery."""
    copies = [(f, shop.name(f).replace("part-", "copy-")) for f in shop.files]
    random.Random(shop.seed).shuffle(copies)
    again = shop.parts(copies)
    return in_process(shop, folder, [first + more for first, more in zip(shop.by_day(), again, strict=True)])


def late(shop: Shop, folder: Path) -> Path:
    """A third of the files up to 30 days late, a fifth once more under another name, gold after each delivery."""
    chance = random.Random(shop.seed)
    arrivals = []
    for file in shop.files:
        names = [shop.name(file), shop.name(file).replace("part-", "copy-")][: 1 + (chance.random() < 0.2)]
        for name in names:
            days = chance.choice((0, 0, chance.randint(1, LATEST)))
            arrivals.append((instant(shop.day(file)) + timedelta(days=days), name, file))
    arrivals.sort()
    size = -(-len(arrivals) // shop.deliveries)
    chunks = [arrivals[n : n + size] for n in range(0, len(arrivals), size)]
    return in_process(shop, folder, [[(f, name) for _, name, f in chunk] for chunk in chunks], daily=True)


def backfilled(shop: Shop, folder: Path) -> Path:
    """The newest days first, then the days before them; the snapshots that are stale by then are renewed."""
    return in_process(shop, folder, shop.by_day()[::-1])


def rebuilt(shop: Shop, folder: Path) -> Path:
    """Daily, then every snapshot computed again from all events."""
    warehouse = in_process(shop, folder, shop.by_day(), daily=True)
    pipeline = Pipeline(shop.spark, folder)
    pipeline.run("featurize", start=f"{START:%Y-%m-%d}", end=END, recompute="all")
    return warehouse


def killed(shop: Shop, folder: Path, kills: int = 20) -> Path:
    """By spark-submit, kill -9 of driver and Python at random moments, each stage run again until it ends well."""
    shell, chance, done, seconds = Shell(folder), random.Random(shop.seed), 0, 25.0
    batch = [("ingest", "--only", "shop"), ("validate", "--only", "shop"), ("merge",)]
    runs = [(delivery, stage) for delivery in shop.by_day() for stage in batch]
    runs.append(([], ("featurize", "--as-of", END)))
    for n, (delivery, (stage, *arguments)) in enumerate(runs, start=1):
        deliver(shell.landing, delivery)
        # One that comes too late has let the stage end; the next one meets a run that finds nothing to do.
        while done < kills * n / len(runs):
            due = time.monotonic() + chance.uniform(2, seconds)
            done += shell.kill_when(stage, lambda due=due: time.monotonic() > due, *arguments)
            seconds = max(6.0, seconds * 0.95)
        begin = time.monotonic()
        shell.ok(stage, *arguments)
        seconds = max(12.0, time.monotonic() - begin)
    CONSOLE.print(f"killed {done} times")
    return shell.warehouse


WAYS: dict[str, Callable[[Shop, Path], Path]] = {
    f.__name__.replace("_", " "): f for f in (one_load, daily, shuffled, duplicated, late, backfilled, rebuilt, killed)
}


def content(spark: SparkSession, warehouse: Path, table: str) -> DataFrame:
    """A table without what depends on the way, which is who brought a row when; of gold, the last snapshot."""
    rows = spark.read.format("delta").load(str(warehouse / table.replace(".", "/")))
    if "as_of" in rows.columns:
        rows = rows.where(F.col("as_of") == F.lit(END).cast("timestamp"))
    elif table.startswith("gold.") and "valid_to" in rows.columns:
        # Other instants have been kept, or none, by the way.
        rows = timelines.as_of(rows, instant(END)).drop("valid_from", "valid_to")
    return rows.select(*sorted(c for c in rows.columns if not c.startswith("_") or c in (DELETED, FIRST)))


def fingerprint(spark: SparkSession, warehouse: Path, table: str) -> tuple[int, str, str]:
    rows = content(spark, warehouse, table)
    # Which of the columns are null goes in as well: a hash passes over nulls.
    nulls = F.concat(*[F.col(c).isNull().cast("int").cast("string") for c in rows.columns])
    sums = [
        F.sum(F.xxhash64(F.lit(salt), nulls, *rows.columns).cast("decimal(38,0)")).cast("string") for salt in (1, 2)
    ]
    found = rows.agg(F.count("*"), *sums).first()
    assert found is not None
    return found[0], found[1], found[2]


def differences(spark: SparkSession, mine: Path, theirs: Path, table: str) -> str:
    one, other = content(spark, mine, table), content(spark, theirs, table)
    lost, found = one.exceptAll(other).limit(2).collect(), other.exceptAll(one).limit(2).collect()
    return f"{table}\n  only in the first way: {lost}\n  only in this way: {found}"


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--rows", type=int, default=10_000_000)
    p.add_argument("--deliveries", type=int, default=5)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--ways", default=",".join(WAYS), help="which of: " + ", ".join(WAYS))
    options = p.parse_args()
    if unknown := set(options.ways.split(",")) - set(WAYS):
        p.error(f"--ways: no way is called {', '.join(sorted(unknown))}")
    if not 1 <= options.deliveries <= DAYS:
        p.error(f"--deliveries: from 1 to {DAYS}, as each has files of its own days")
    ways = ["one load", *(w for w in options.ways.split(",") if w != "one load")]
    os.environ["PYSPARK_SUBMIT_ARGS"] = "--master local[2] pyspark-shell"
    spark = build_session("equivalence")
    result = Table(title=f"{options.rows:,} rows, {DAYS} days, {options.deliveries} deliveries", title_justify="left")
    for column in ("way", "seconds", "rows of silver", "rows of gold", "tables that differ"):
        result.add_column(column, justify="left" if column == "way" else "right")
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        shop = make_shop(spark, Path(name) / "source", options.rows, options.deliveries, options.seed)
        expected: dict[str, tuple[int, str, str]] = {}
        for way in ways:
            CONSOLE.print(f"{way} ...")
            begin = time.monotonic()
            warehouse = WAYS[way](shop, Path(name) / way.replace(" ", "_"))
            seconds = time.monotonic() - begin
            found = {t: fingerprint(spark, warehouse, t) for t in TABLES}
            expected = expected or found
            differ = [t for t in TABLES if found[t] != expected[t]]
            for table in differ:
                CONSOLE.print(differences(spark, Path(name) / "one_load" / "warehouse", warehouse, table))
            wrong += len(differ)
            CONSOLE.print(f"{way}: {seconds:,.0f} s, {len(differ)} of {len(TABLES)} tables differ")
            rows = {
                layer: sum(n for t, (n, *_) in found.items() if t.startswith(layer)) for layer in ("silver", "gold")
            }
            result.add_row(
                way, f"{seconds:,.0f}", f"{rows['silver']:,}", f"{rows['gold']:,}", ", ".join(differ) or "none"
            )
            if way != "one load":
                shutil.rmtree(Path(name) / way.replace(" ", "_"))
    CONSOLE.print(result)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
