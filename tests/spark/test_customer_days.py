"""Customers' days, and the features that are sums of them, against plain Python: as of any instant, from events and from the table."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from lakehouse.features import customer_days, customers, gold, publishing, silver, upkeep
from lakehouse.features.customer_days import SETTLED
from lakehouse.instants import instant
from pipeline import BATCH, Pipeline
from pyspark.sql import DataFrame, SparkSession

START = instant("2026-03-01")
HALF_HOUR = timedelta(minutes=30)
HISTORY = (
    "transaction_id STRING, order_id STRING, customer_id STRING, product_id STRING, date TIMESTAMP, amount DECIMAL(18,2), "
    "transaction_status STRING, valid_from TIMESTAMP, valid_to TIMESTAMP, _first BOOLEAN, _deleted BOOLEAN"
)
LOOKS = "interaction_id STRING, customer_id STRING, product_id STRING, timestamp TIMESTAMP"


@dataclass(frozen=True)
class Sale:
    """A version of a transaction, heard of at an instant."""

    heard: datetime
    order: str | None
    customer: str | None
    date: datetime
    amount: Decimal
    status: str
    gone: bool = False


@dataclass(frozen=True)
class Shop:
    sales: dict[str, list[Sale]]
    """By transaction, in the order in which its versions were heard of."""
    looks: list[tuple[str | None, datetime]]

    def standing(self, at: datetime | None) -> Iterator[tuple[str, Sale]]:
        """What is known of each transaction before an instant, or today; the first version holds for ever before itself."""
        for key, versions in self.sales.items():
            heard = [v for n, v in enumerate(versions) if n == 0 or at is None or v.heard < at]
            if not heard[-1].gone and heard[-1].customer is not None and (at is None or heard[-1].date < at):
                yield key, heard[-1]

    def seen(self, at: datetime | None) -> Iterator[tuple[str, datetime]]:
        return ((c, t) for c, t in self.looks if c is not None and (at is None or t < at))


def moments(chance: random.Random, days: float) -> datetime:
    """An instant; often a midnight, half an hour after another, or a microsecond beside one of these."""
    exact = START + timedelta(minutes=30 * chance.randrange(int(days * 48)))
    return exact + chance.choice(
        [timedelta(), timedelta(microseconds=1), timedelta(microseconds=-1), timedelta(seconds=chance.randrange(1800))]
    )


def a_shop(seed: int) -> Shop:
    """Sales that change their status, customer, day and order, and are deleted; looks that come in bursts over midnight."""
    chance = random.Random(seed)
    who = ["a", "b", "c", None]
    sales = {}
    for n in range(60):
        begun = moments(chance, 40)
        versions = [
            Sale(
                begun,
                f"O{n // 3}" if n % 4 else None,
                chance.choice(who),
                begun,
                Decimal(chance.randrange(10_000)) / 100,
                "Completed",
            )
        ]
        while chance.random() < 0.45:
            last = versions[-1]
            heard = last.heard + chance.choice([timedelta(hours=1), timedelta(days=1), timedelta(days=9)])
            kind = chance.choice(["status", "customer", "date", "order", "gone"])
            versions.append(
                Sale(
                    heard,
                    f"O{chance.randrange(20)}" if kind == "order" else last.order,
                    chance.choice(who) if kind == "customer" else last.customer,
                    moments(chance, 40) if kind == "date" else last.date,
                    last.amount,
                    ("Cancelled" if last.status == "Completed" else "Completed") if kind == "status" else last.status,
                    kind == "gone",
                )
            )
        sales[f"T{n}"] = versions
    looks: list[tuple[str | None, datetime]] = []
    for n in range(60):
        # Every third begins half an hour before midnight.
        customer, at = chance.choice(who), moments(chance, 40)
        at = at if n % 3 else START + timedelta(days=chance.randrange(1, 40)) - HALF_HOUR
        for _ in range(chance.randrange(1, 6)):
            looks.append((customer, at))
            at += chance.choice([HALF_HOUR, HALF_HOUR + timedelta(microseconds=1), timedelta(minutes=7), timedelta()])
    return Shop(sales, looks)


def frames(spark: SparkSession, shop: Shop) -> dict[str, DataFrame]:
    intervals = [
        (key, v.order, v.customer, "P", v.date, v.amount, v.status, v.heard, following.heard if following else None, n == 0, v.gone)
        for key, versions in shop.sales.items()
        for n, (v, following) in enumerate(zip(versions, [*versions[1:], None], strict=True))
    ]  # fmt: skip
    looks = [(f"I{n}", customer, "P", at) for n, (customer, at) in enumerate(shop.looks)]
    return {
        "transactions": spark.createDataFrame(intervals, HISTORY).coalesce(1).persist(),
        "interactions": spark.createDataFrame(looks, LOOKS).coalesce(1).persist(),
    }


def sessions(times: list[datetime]) -> tuple[int, timedelta]:
    """Their number, and the time within them."""
    gaps = [later - earlier for earlier, later in pairwise(times)]
    within = [g for g in gaps if g <= HALF_HOUR]
    return len(times) - len(within), sum(within, timedelta())


def expected_days(shop: Shop, at: datetime | None) -> dict[tuple[date, str], dict[str, Any]]:
    bought, cancelled, seen = defaultdict(list), defaultdict(int), defaultdict(list)
    for key, sale in shop.standing(at):
        day = (sale.date.date(), str(sale.customer))
        if sale.status == "Completed":
            bought[day].append((sale.date, sale.amount, sale.order or key))
        else:
            cancelled[day] += 1
    for customer, moment in shop.seen(at):
        seen[moment.date(), customer].append(moment)
    found = {}
    for day in {*bought, *cancelled, *seen}:
        buys, looks = bought[day], sorted(seen[day])
        number, time = sessions(looks) if looks else (0, timedelta())
        found[day] = {
            "interactions": len(looks),
            "first_interaction": min(looks, default=None),
            "last_interaction": max(looks, default=None),
            "sessions": number,
            "session_micros": time // timedelta(microseconds=1),
            "purchases": len(buys),
            "cancellations": cancelled[day],
            "spend": sum((amount for _, amount, _ in buys), Decimal(0)),
            "first_purchase": min((t for t, _, _ in buys), default=None),
            "last_purchase": max((t for t, _, _ in buys), default=None),
            "orders": len({order for _, _, order in buys}),
            "_order_ids": sorted({order for _, _, order in buys}),
        }
    return found


def expected_features(shop: Shop, at: datetime) -> dict[str, dict[str, Any]]:
    """Of customers with an event before the instant: some features of each kind."""
    found: dict[str, dict[str, Any]] = {}
    buys, looks = defaultdict(list), defaultdict(list)
    cancelled: dict[str, int] = defaultdict(int)
    for key, sale in shop.standing(at):
        if sale.status == "Completed":
            buys[str(sale.customer)].append((sale.date, sale.amount, sale.order or key))
        else:
            cancelled[str(sale.customer)] += 1
    for customer, moment in shop.seen(at):
        looks[customer].append(moment)

    def since(days: int) -> datetime:
        return at - timedelta(days=days)

    for customer in {*buys, *looks, *cancelled}:
        of, times = buys[customer], sorted(looks[customer])
        days = sorted({t.date() for t, _, _ in of})
        number, time = sessions(times) if times else (0, timedelta())
        found[customer] = {
            "_transactions": len(of) + cancelled[customer],
            "_purchases": len(of),
            "_last_purchase": max((t for t, _, _ in of), default=None),
            "_last_day": max(days, default=None),
            "_first_day": min(days, default=None),
            "_days": len(days),
            "_first_day_spend": sum((a for t, a, _ in of if t.date() == days[0]), Decimal(0)) if days else None,
            "_last_interaction": max(times, default=None),
            "_sessions": (number, time // timedelta(microseconds=1)) if times else None,
            "total_interactions": len(times),
            "total_spend": sum((a for _, a, _ in of), Decimal(0)),
            "purchase_frequency": len({o for _, _, o in of}),
        } | {
            f"{name}_{n}d": value
            for n in (7, 30, 90)
            for name, value in (
                ("interactions", sum(1 for t in times if t >= since(n))),
                ("spend", sum((a for t, a, _ in of if t >= since(n)), Decimal(0))),
                ("orders", len({o for t, _, o in of if t >= since(n)})),
            )
        }  # fmt: skip
    return found


def told(value: object) -> object:
    """As Python has it: Spark gives instants without their zone, which is UTC."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def collected_days(frame: DataFrame) -> dict[tuple[date, str], dict[str, Any]]:
    rows = [r.asDict() for r in frame.collect()]
    found = {(r.pop("day"), r.pop("customer_id")): {k: told(v) for k, v in r.items()} for r in rows}
    assert len(found) == len(rows), "a day is there twice"
    return found


def collected_features(lifelong: DataFrame, windowed: DataFrame) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for r in lifelong.collect():
        values = {k: told(v) for k, v in r.asDict().items() if k != "customer_id"}
        of = r["_sessions"]
        found[r["customer_id"]] = values | {"_sessions": of and (of["sessions"], of["micros"])}
    in_windows = [c for c in windowed.columns if c != "customer_id"]
    seen = {r["customer_id"]: r.asDict() for r in windowed.collect()}
    # Who has done nothing in any of them is not there.
    return {c: values | {w: seen.get(c, {}).get(w, 0) for w in in_windows} for c, values in found.items()}


@pytest.mark.parametrize("seed", [1, 2])
def test_days_and_features_as_of_any_instant(spark: SparkSession, seed: int) -> None:
    shop = a_shop(seed)
    of = frames(spark, shop)
    stored = customer_days.of_silver(of).persist()
    known_today = {
        k: v
        for k, v in collected_days(stored.drop(SETTLED)).items()
        if v["interactions"] or v["purchases"] + v["cancellations"]
    }
    assert known_today == expected_days(shop, None)
    chance = random.Random(seed)
    # Some at which the last thing of a day happens, which then does not count yet.
    last = sorted(r[0].replace(tzinfo=UTC) for r in stored.select(SETTLED).distinct().collect())
    chosen = [*chance.sample(last, 3), *(moments(chance, 60) for _ in range(2))]
    instants = [START + timedelta(days=n) for n in (0, 30, 200)[seed - 1 :: 2]] + chosen
    reused = 0
    for at in instants:
        then = silver.Activity(
            at,
            silver.valid_at(of["transactions"], at).where(silver.F.col("date") < silver.F.lit(at)).select(*silver.order()),
            of["interactions"].where(silver.F.col("timestamp") < silver.F.lit(at)).select(*silver.interaction()),
            of["interactions"], of["interactions"],
        )  # fmt: skip
        from_events = customer_days.of_activity(then)
        unsettled = [r["day"] for r in customer_days.unsettled_days(stored, at).collect()]
        from_table = customer_days.as_of(stored, then, customer_days.ranges(unsettled))
        wanted = expected_features(shop, at)
        for days in (from_events, from_table):
            days = days.persist()
            assert collected_days(days) == expected_days(shop, at), at
            got = collected_features(customers.lifelong(days), customers.windowed(days, then))
            assert got.keys() == wanted.keys()
            for customer, values in got.items():
                assert values == {name: wanted[customer][name] for name in values}, (at, customer)
        reused += stored.where(stored[SETTLED] < at).count()
    assert reused, "nothing came from the table"


def test_ranges_of_days() -> None:
    def march(*days: int) -> list[date]:
        return [date(2026, 3, n) for n in days]

    assert customer_days.ranges([]) == []
    assert customer_days.ranges(march(5, 3, 4, 9, 1)) == [tuple(march(1, 1)), tuple(march(3, 5)), tuple(march(9, 9))]
    assert customer_days.ranges(march(20, 3, 9, 1), most=2) == [tuple(march(1, 9)), tuple(march(20, 20))]
    assert customer_days.ranges(march(20, 3), most=1) == [tuple(march(3, 20))]


def test_what_is_brought_up_to_silver_is_what_silver_gives(spark: SparkSession, tmp_path: Path) -> None:
    """By MERGE of the days that have changed, late ones, moved ones and deleted ones among them."""
    pipeline = Pipeline(spark, tmp_path)

    def refreshed() -> int | None:
        """How many rows were written; None without a commit."""
        context = pipeline.context("featurize")
        versions = gold.silver_versions(context)
        upkeep.refresh(context, gold.read_silver(context, versions), versions, anew=False, small=False)
        return context.report.tables.get(upkeep.TABLE, {}).get("rows_written")

    folder = pipeline.landing / "shop" / "transactions"
    folder.mkdir(parents=True)
    header = "TransactionID,OrderID,CustomerID,ProductID,Date,Amount,PaymentMethod,TransactionStatus,UpdatedAt,op"
    deliveries = [
        ("N1,O1,ALONE,P,2026-03-02T10:00:00Z,5.00,card,Completed,2026-03-02T10:00:00Z,",
         "N2,O1,ALONE,P,2026-03-03T10:00:00Z,7.00,card,Completed,2026-03-03T10:00:00Z,",
         "N4,O4,OTHER,P,2026-03-03T10:00:00Z,7.00,card,Completed,2026-03-03T10:00:00Z,",
         "N5,O5,OTHER,P,2026-03-04T10:00:00Z,7.00,card,Cancelled,2026-03-04T10:00:00Z,"),
        # To another customer, and to another day; a late one of a day long gone; one is deleted.
        ("N1,O1,OTHER,P,2026-03-02T10:00:00Z,5.00,card,Completed,2026-03-05T10:00:00Z,",
         "N2,O1,ALONE,P,2026-03-01T10:00:00Z,7.00,card,Completed,2026-03-05T10:00:00Z,",
         "N3,O3,ALONE,P,2026-02-01T10:00:00Z,1.00,card,Completed,2026-02-01T10:00:00Z,"),
        ("N2,O1,ALONE,P,2026-03-01T10:00:00Z,7.00,card,Completed,2026-03-06T10:00:00Z,D",),
    ]  # fmt: skip
    written = []
    for n, lines in enumerate(deliveries):
        (folder / f"more-{n}.csv").write_text("\n".join([header, *lines]) + "\n")
        for step in BATCH:
            pipeline.run(step, **({} if step == "merge" else {"only": ["shop_transactions"]}))
        written.append(refreshed())
        context = pipeline.context("featurize")
        names = publishing.types_of(context.contracts["customer_days"])
        wanted = customer_days.of_silver(gold.read_silver(context, gold.silver_versions(context))).select(*names)
        got = pipeline.table(upkeep.TABLE).select(*names)
        assert got.exceptAll(wanted).collect() == wanted.exceptAll(got).collect() == []
    # Four days; then two that one customer had, the two that have their sales since, and the late one; then the one whose sale is gone.
    assert written == [4, 5, 1]
    zeros = pipeline.table(upkeep.TABLE).where("interactions + purchases + cancellations = 0")
    assert {(r["customer_id"], f"{r['day']}") for r in zeros.collect()} == {
        ("ALONE", "2026-03-01"), ("ALONE", "2026-03-02"), ("ALONE", "2026-03-03"),
    }  # fmt: skip
    before = pipeline.versions()
    assert refreshed() is None
    assert pipeline.versions() == before
    # A day that is none any more goes.
    context = pipeline.context("featurize")
    ghost = pipeline.table(upkeep.TABLE).limit(1).withColumn("customer_id", silver.F.lit("GHOST"))
    context.warehouse.append_always(ghost, upkeep.TABLE)
    versions = gold.silver_versions(context)
    of_ghost = (
        pipeline.table(upkeep.TABLE)
        .where("customer_id = 'GHOST'")
        .selectExpr("customer_id", "timestamp(day) AS timestamp")
    )
    changed = gold.change_data(context, versions, versions) | {"interactions": of_ghost}  # type: ignore[operator]
    upkeep._merge(context, gold.read_silver(context, versions), changed)
    assert pipeline.table(upkeep.TABLE).count() == wanted.count()
    # Of a run that was killed when it had made the table, and of one by other definitions, all of it is made.
    for table in (upkeep.TABLE, upkeep.RECORDS):
        DeltaTable(str(pipeline.path(table))).delete()
        assert refreshed() == wanted.count() > 0
