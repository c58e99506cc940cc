"""A few deliveries of a shop in which every definition of gold has something to decide, as versions of silver's rows.

Fixed: the versions of gold's definitions are digests of what they give (``lakehouse.features.definitions``). Add to them where a
change of a definition would not be seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from lakehouse.instants import instant

AS_OF = "2026-04-01"
CUT_OFF, HORIZON_DAYS = "2026-03-01", 31
MICRO = timedelta(microseconds=1)

Delivery = tuple[str, datetime, datetime, bool, dict[str, Any]]
"""Entity, the instant of the version, that of its arrival, whether it deletes, and the values."""


def deliveries() -> list[Delivery]:
    return [*_customers(), *_products(), *_transactions(), *_interactions()]


def _customers() -> Iterator[Delivery]:
    def customer(key: str, at: str, registered: str | None, *, gone: bool = False, received: str = "") -> Delivery:
        values = {"customer_id": key, "name": key, "registration_date": instant(registered) if registered else None,
                  "customer_type": "regular", "last_active_date": instant(at)}  # fmt: skip
        return "customers", instant(at), instant(received or at), gone, values

    for n in range(1, 10):
        yield customer(f"C{n}", f"2026-01-0{n}", f"2026-01-0{n}T12:00:00")
    yield customer("UNKNOWN", "2026-01-05", None)
    yield customer("NO EVENTS", "2026-02-01", "2026-02-01")
    yield customer("AT THE INSTANT", "2026-03-01", "2026-04-01")
    yield customer("JUST BEFORE", "2026-03-01", "2026-03-31T23:59:59.999999")
    yield customer("HEARD OF LATER", "2026-04-05", "2026-03-15")
    # The earliest registration counts, but none that is heard of after the instant.
    yield customer("C1", "2026-02-01", "2025-12-24")
    yield customer("C2", "2026-04-02", "2020-01-01")
    yield customer("C3", "2026-03-10", None, gone=True)
    yield customer("C4", "2026-03-10", None, gone=True)
    yield customer("C4", "2026-03-20", "2026-03-20")
    yield customer("C5", "2026-02-15", "2025-06-01", received="2026-03-15")


def _products() -> Iterator[Delivery]:
    def product(key: str, at: str, category: str | None, price: str, *, gone: bool = False) -> Delivery:
        values = {"product_id": key, "category": category, "price": Decimal(price), "stock_availability": 1}
        return "products", instant(at), instant(at), gone, values

    yield product("P1", "2026-01-01", "Toys", "9.50")
    yield product("P2", "2026-01-01", "Books", "5.00")
    yield product("P3", "2026-01-01", None, "1.00")
    yield product("P4", "2026-01-01", "Games", "3.00")
    yield product("P5", "2026-01-01", "Games", "3.00")
    yield product("NEVER SEEN", "2026-01-01", "Games", "3.00")
    yield product("P1", "2026-03-01", "Toys", "8.00")
    yield product("P4", "2026-03-15", "Puzzles", "3.00")
    yield product("P2", "2026-04-01", "Novels", "6.00")
    yield product("P5", "2026-03-15", None, "0", gone=True)


def _transactions() -> Iterator[Delivery]:
    n = 0

    def sale(
        customer: str | None, product: str | None, date: str, amount: str, status: str = "Completed", *,
        order: str | None = None, key: str = "", at: str = "", received: str = "", gone: bool = False,
    ) -> Delivery:  # fmt: skip
        nonlocal n
        n += 1
        key = key or f"T{n:03}"
        values = {"transaction_id": key, "order_id": order, "customer_id": customer, "product_id": product,
                  "date": instant(date), "amount": Decimal(amount), "payment_method": "card", "transaction_status": status}  # fmt: skip
        return "transactions", instant(at or date), instant(received or at or date), gone, values

    for c in range(1, 9):
        for k in range(c):
            product, day = f"P{1 + (c * k) % 4}", 2 + (c * 3 + k * 5) % 27
            yield sale(f"C{c}", product, f"2026-0{1 + (c + k) % 3}-{day:02}T0{k}:30:00", f"{c * 7 + k}.{k}5")
    # One order of several lines, of one product twice; days that repeat; the same sum from others.
    for product, amount in (("P1", "2.00"), ("P1", "2.00"), ("P3", "1.00"), (None, "4.00")):
        yield sale("C9", product, "2026-02-10T10:00:00", amount, order="O9")
    yield sale("C9", "P1", "2026-02-10T23:59:59.999999", "5.00", order="O9")
    yield sale("C9", "P2", "2026-02-11", "7.00")
    # The edges of the windows and of the instant.
    yield sale("EDGES", "P1", "2026-01-01", "1.00")
    yield sale("EDGES", "P1", "2025-12-31T23:59:59.999999", "2.00")
    yield sale("EDGES", "P1", "2026-03-02", "4.00")
    yield sale("EDGES", "P1", "2026-03-01T23:59:59.999999", "8.00")
    yield sale("EDGES", "P1", "2026-03-31T23:59:59.999999", "16.00")
    yield sale("EDGES", "P1", "2026-04-01", "32.00")
    yield sale("ONLY LATER", "P1", "2026-04-01T00:00:00.000001", "1.00")
    # Cancelled from the start, before the instant, after it; a cancellation that arrives first; a deleted sale.
    yield sale("CANCELS", "P2", "2026-02-01", "3.00", "Cancelled")
    yield sale("CANCELS", "P2", "2026-02-02", "3.00", key="TC")
    yield sale("CANCELS", "P2", "2026-02-02", "3.00", "Cancelled", key="TC", at="2026-02-20")
    yield sale("CANCELS", "P2", "2026-02-03", "3.00", key="TD", received="2026-03-02")
    yield sale("CANCELS", "P2", "2026-02-03", "3.00", "Cancelled", key="TD", at="2026-04-01")
    yield sale("CANCELS", "P4", "2026-02-04", "9.00", key="TE")
    yield sale("CANCELS", None, "2026-02-04", "0", key="TE", at="2026-03-05", gone=True)
    yield sale("ONLY CANCELLED", "P9", "2026-02-01", "3.00", "Cancelled")
    # A free sale, guests, an orphan, a product that nobody knows, one that is gone.
    yield sale("FREE", "P1", "2026-02-01", "0.00")
    yield sale(None, "P1", "2026-02-01", "11.00")
    yield sale(None, "P8", "2026-02-01", "11.00", "Cancelled")
    yield sale("C9", "P7", "2026-02-12", "1.00")
    yield sale("C9", "P5", "2026-02-12", "1.00")
    # Converted at the same instant, after exactly thirty days, and a microsecond later; two purchases, the first too early.
    yield sale("CONVERTS", "P1", "2026-03-20", "1.00")
    yield sale("CONVERTS", "P2", "2026-03-20", "1.00")
    yield sale("CONVERTS", "P2", "2026-03-22", "1.00")
    yield sale("CONVERTS", "P3", "2026-03-20", "1.00", "Cancelled")
    yield sale("CONVERTS", "P4", "2026-04-01", "1.00")
    # Labels: next category of a tie is that of the lower id, and of the first product that has one.
    yield sale("C6", "P3", "2026-03-05T08:00:00", "1.00", key="TX")
    yield sale("C6", "P2", "2026-03-06T08:00:00", "2.00", key="TZ")
    yield sale("C6", "P1", "2026-03-06T08:00:00", "2.00", key="TY")


def _interactions() -> Iterator[Delivery]:
    n = 0

    def look(
        customer: str | None, product: str | None, at: str | datetime, *, key: str = "", received: str = ""
    ) -> Delivery:
        nonlocal n
        n += 1
        moment = instant(at) if isinstance(at, str) else at
        values = {"interaction_id": key or f"I{n:03}", "customer_id": customer, "interaction_type": "view",
                  "timestamp": moment, "source": "website", "product_id": product}  # fmt: skip
        return "interactions", moment, instant(received) if received else moment, False, values

    for c in range(1, 8, 2):
        for k in range(3 * c):
            yield look(f"C{c}", f"P{1 + k % 5}", f"2026-0{1 + k % 3}-{1 + (c * k) % 28:02}T10:{(7 * k) % 60:02}:00")
    # A gap of exactly half an hour is within a session, a microsecond more is not.
    start = instant("2026-03-10T10:00:00")
    for gap in (timedelta(0), timedelta(minutes=30), timedelta(minutes=60), timedelta(minutes=90) + MICRO):
        yield look("SESSIONS", None, start + gap)
    yield look("SESSIONS", None, start + timedelta(minutes=60))
    for at in ("2026-03-25", "2026-03-24T23:59:59.999999", "2026-03-02", "2026-03-01T23:59:59.999999", "2026-04-01"):
        yield look("EDGES", "P1", at)
    sold = instant("2026-03-20")
    month = timedelta(days=30)
    for product in ("P1", "P2", "P3", "P4"):
        for at in (sold, sold + MICRO, sold - month, sold - month - MICRO, sold - timedelta(days=1), sold + month / 6):
            yield look("CONVERTS", product, at)
    yield look("CONVERTS", "P1", sold)
    yield look("CONVERTS", None, sold)
    yield look("ONLY LOOKS", "P6", "2026-03-31T23:59:59.999999")
    yield look(None, "P1", "2026-03-20")
    yield look(None, "P2", "2026-03-20")
    # The first delivery of an interaction stays.
    yield look("C8", "P1", "2026-02-01", key="IX", received="2026-03-02")
    yield look("C8", "P2", "2026-02-02", key="IX", received="2026-03-03")
