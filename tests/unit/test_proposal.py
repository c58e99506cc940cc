"""Proposed names and types, against tables made by hand."""

from __future__ import annotations

import pytest
import yaml
from lakehouse.profiling import proposal
from lakehouse.profiling.measure import DECIMAL, TYPES, Figures


@pytest.mark.parametrize(
    ("received", "plain"),
    [
        ("CustomerID", "customer_id"),
        ("orderId", "order_id"),
        ("Order ID", "order_id"),
        ("UnitPrice", "unit_price"),
        ("HTTPStatus", "http_status"),
        ("größe (cm)", "gr_e_cm"),
        ("2nd", "c_2nd"),
        ("%", "c"),
        ("already_plain", "already_plain"),
    ],
)
def test_names(received: str, plain: str) -> None:
    assert proposal.plain_name(received) == plain


def test_names_that_would_be_the_same_are_numbered() -> None:
    assert proposal.plain_names(["Order ID", "orderId", "order-id"]) == {
        "Order ID": "order_id",
        "orderId": "order_id_2",
        "order-id": "order_id_3",
    }


def column(name: str = "x", given: int = 100, zeros: int = 0, whole: int = 3, places: int = 0, **reads: int) -> Figures:
    read = dict.fromkeys((*TYPES, DECIMAL), 0) | reads
    return Figures(name, 100, given, 90, 10, zeros, read, whole, places, "0.000000", "9.000000")


@pytest.mark.parametrize(
    ("figures", "type_"),
    [
        (column(int=100, bigint=100, double=100), "int"),
        (column(int=99, bigint=100, double=100), "bigint"),
        (column(int=50, bigint=50, decimal=100, double=100, places=2), "decimal(18,2)"),
        (column(decimal=100, double=100, places=4), "decimal(18,4)"),
        (column(decimal=100, double=100, whole=15, places=4), "double"),
        (column(decimal=99, double=100, places=4), "double"),
        (column(boolean=100), "boolean"),
        (column(timestamp=100), "timestamp"),
        (column(zeros=1, int=100, bigint=100, double=100), "string"),
        (column(timestamp=99), "string"),
        (column("CustomerID", int=100, bigint=100, double=100), "string"),
        (column("zip code", int=100), "string"),
        (column(given=0), "string"),
        (column(given=40, int=40, bigint=40, double=40), "int"),
    ],
)
def test_types(figures: Figures, type_: str) -> None:
    assert proposal.type_of(figures) == type_


def test_a_proposed_source_says_what_to_say_of_it() -> None:
    origin = {"path": "books/orders", "pattern": "*.csv", "format": "csv", "sep": ";"}
    assert yaml.safe_load(proposal.source("orders", ["transactions"], origin, ["Order ID", "Total"])) == {
        "description": "Proposed from a profile of books/orders. Say here what these files are, and who delivers them.",
        "inputs": {
            "orders": {
                "path": "books/orders",
                "format": "csv",
                "columns": ["Order ID", "Total"],
                "pattern": "*.csv",
                "options": {"sep": ";"},
                "entities": ["transactions"],
            }
        },
    }
