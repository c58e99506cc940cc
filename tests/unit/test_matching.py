"""Which received column is taken for which of a contract's, against cases made by hand."""

from __future__ import annotations

import pytest
from lakehouse.contracts import Contract, entities
from lakehouse.odcs import load_contracts
from lakehouse.profiling.matching import instants, match, select
from lakehouse.profiling.measure import DECIMAL, TYPES, Figures
from support import ROOT

ENTITIES = entities(load_contracts(ROOT / "contracts"))


def column(name: str, *reads: str, given: int = 100, values: tuple[str, ...] = (), places: int = 0) -> Figures:
    """A column of 100 rows of which all given values can be read as some types."""
    read = dict.fromkeys((*TYPES, DECIMAL), 0) | dict.fromkeys(reads, given)
    return Figures(name, 100, given, 90, 10, 0, read, 0, places, None, None, values)


def number(name: str) -> Figures:
    return column(name, "double", DECIMAL, places=2)


def instant(name: str) -> Figures:
    return column(name, "timestamp")


def matched(contract: Contract, *figures: Figures, unique: str | None = None) -> dict[str, str | None]:
    return {m.column.name: m.received for m in match(contract, figures, unique)}


def test_the_orders_of_a_shop_that_calls_things_otherwise() -> None:
    status = column("State", values=("Completed", "canceled"))
    received = [
        *(column("Order No"), column("Buyer"), column("SKU"), instant("Ordered At"), number("Total"), column("Note")),
        status,
    ]
    found = match(ENTITIES["transactions"], received, "Order No")
    assert {m.column.name: (m.received, m.remark) for m in found} == {
        "transaction_id": ("Order No", "by its values: always given, never twice"),
        "order_id": ("Order No", ""),
        "customer_id": ("Buyer", "by its name, nearly"),
        "product_id": ("SKU", ""),
        "date": ("Ordered At", "by its name, nearly"),
        "amount": ("Total", ""),
        "payment_method": (
            None, "required: nothing received looks like it; write a column, or a text such as 'unknown'",
        ),
        "transaction_status": ("State", "by its name, nearly"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("entity", "received", "expected"),
    [
        ("customers", "id", "customer_id"),
        ("customers", "CustomerID", "customer_id"),
        ("customers", "client_no", "customer_id"),
        ("customers", "E-Mail", "email"),
        ("customers", "customer country", "country"),
        ("products", "ArticleNumber", "product_id"),
        ("products", "department", "category"),
        ("interactions", "url", "page"),
        ("interactions", "event_type", "interaction_type"),
        ("transactions", "invoice_no", "order_id"),
        # A name that says nothing, and one of another thing.
        ("customers", "note", None),
        ("transactions", "email", None),
    ],
)
def test_names(entity: str, received: str, expected: str | None) -> None:
    found = {name for name, f in matched(ENTITIES[entity], column(received)).items() if f}
    assert found == ({expected} if expected else set())


def test_values_of_another_type_are_no_match_whatever_the_name() -> None:
    transactions = ENTITIES["transactions"]
    assert matched(transactions, column("amount"))["amount"] is None
    assert matched(transactions, number("amount"))["amount"] == "amount"
    nearly = column("amount", "double", given=90)
    assert matched(transactions, nearly)["amount"] == "amount"
    nearly.reads_as["double"] = 89
    assert {m.column.name: m.remark for m in match(transactions, [nearly], None)}["amount"] == (
        "98.9% of the values can be read as decimal(18,2)"
    )
    nearly.reads_as["double"] = 44
    assert matched(transactions, nearly)["amount"] is None
    assert matched(transactions, column("amount", "double", given=0))["amount"] is None


def test_the_only_instant_stands_for_one_that_is_required() -> None:
    customers = ENTITIES["customers"]
    assert matched(customers, instant("Zeit"), column("x"))["registration_date"] == "Zeit"
    assert matched(customers, instant("Zeit"), instant("Ende"))["registration_date"] is None
    assert matched(customers, instant("last_active_date"))["registration_date"] is None, "it is another one"
    # Years can be read as instants, too.
    assert matched(customers, column("Zeit", "timestamp", "double"))["registration_date"] is None


def test_a_column_is_taken_once_and_the_better_name_wins() -> None:
    found = matched(ENTITIES["transactions"], column("customer"), column("customer_id"), column("buyer id"))
    assert found["customer_id"] == "customer_id"
    assert sorted(f for f in found.values() if f) == ["customer_id"]
    # It could be the id of anything, and is that of the row.
    found = matched(ENTITIES["transactions"], column("id"))
    assert {name: f for name, f in found.items() if f} == {"transaction_id": "id"}


def test_values_that_the_contract_does_not_know_are_told() -> None:
    found = match(ENTITIES["interactions"], [column("interaction_type", values=("view", "add_to_cart", "wish"))], None)
    (remark,) = (m.remark for m in found if m.column.name == "interaction_type")
    assert remark == "received are also wish; allowed are view, click, add-to-cart"


def test_what_no_name_tells_the_values_may() -> None:
    """Sales of a book shop."""
    gross = number("Brutto")
    gross.reads_as["double"] = 95
    received = [
        column("Invoice"), column("Client"), column("Item Code"), column("Shelf", values=("crime", "poetry")), instant("Bought On"), gross,
        column("Qty", "int", "double"), column("Condition", values=("Completed", "Refunded")),
        column("Paid With", values=("card", "cash")),
    ]  # fmt: skip
    found = {m.column.name: (m.received, m.remark) for m in match(ENTITIES["transactions"], received, "Invoice")}
    assert found["amount"] == (
        "Brutto", "the only number with decimals; 95.0% of the values can be read as decimal(18,2)",
    )  # fmt: skip
    assert found["transaction_status"] == (
        "Condition", "by its values; received are also Refunded; allowed are Completed, Cancelled",
    )  # fmt: skip
    assert found["payment_method"] == ("Paid With", "")
    products = {m.column.name: (m.received, m.remark) for m in match(ENTITIES["products"], received, None)}
    assert products["price"][0] == "Brutto"
    assert products["category"][0] is None
    # Two of a kind: either could be meant.
    two = [*received, number("Netto"), column("Other", values=("cancelled",))]
    found = {m.column.name: (m.received, m.remark) for m in match(ENTITIES["transactions"], two, None)}
    assert found["amount"] == (
        None, "required, decimal(18,2): nothing received looks like it; write a column, or computed(EXPRESSION, "
        "array(COLUMN, ...)) with try_ functions in the expression",
    )  # fmt: skip
    assert found["transaction_status"][0] is None


def test_an_amount_that_is_not_received_is_proposed_as_quantity_times_price() -> None:
    received = [column("Invoice"), column("Qty", "int", "double"), number("Unit Price")]
    matches = match(ENTITIES["transactions"], received, "Invoice")
    text = select("lines", matches, ["Invoice", "Qty", "Unit Price", "Note"])
    # What is there and cannot be read must not become a missing amount, which counts as 0.
    assert (
        "  computed(round(try_cast(`Qty` AS DECIMAL(18, 3)) * try_cast(`Unit Price` AS DECIMAL(18, 4)), 2), array(`Qty`, `Unit Price`)) "
        "AS amount,  -- quantity times price: look at it\n"
    ) in text
    assert "-- Received and not used: Note\n" in text
    for others in ([number("Unit Price")], [*received, number("List Price")], [*received, number("Total")]):
        found = {m.column.name: m for m in match(ENTITIES["transactions"], others, "Invoice")}
        assert found["amount"].expression == ""


def test_rows_of_a_key_are_ordered_by_the_only_instant() -> None:
    figures = [
        column("id"),
        column("category"),
        number("price"),
        instant("Bought On"),
        column("Year", "timestamp", "double"),
    ]
    assert instants(figures) == ["Bought On"]
    sql = select("files", match(ENTITIES["products"], figures, None), [f.name for f in figures], "Bought On")
    assert "  `price` AS price,\n  `Bought On` AS _sequence  -- of the rows of a key, the latest counts\nFROM" in sql


def test_the_key_that_a_person_names_is_the_key() -> None:
    received = [column("transaction_id"), column("line")]
    found = {m.column.name: (m.received, m.remark) for m in match(ENTITIES["transactions"], received, None, "line")}
    assert found["transaction_id"] == ("line", "as asked for")


def test_many_values_where_few_are_allowed_are_told() -> None:
    found = match(ENTITIES["customers"], [column("customer_type")], None)
    (remark,) = (m.remark for m in found if m.column.name == "customer_type")
    assert remark == "received are many values; allowed are regular, premium"


def test_the_select_has_what_is_received_or_required_and_tells_the_rest() -> None:
    figures = [column("a `b"), column("id"), number("price"), column("note\n; DROP")]
    found = match(ENTITIES["products"], figures, None)
    assert select("files", found, [f.name for f in figures]) == (
        "-- Proposed from a profile, by names and values: look at each line.\n"
        "-- Received and not used: a `b, note ; DROP\n"
        "SELECT\n  _row,\n  `id` AS product_id,  -- by its name, nearly\n"
        "  NULL AS category,  -- required: nothing received looks like it; write a column, or a text such as 'unknown'\n"
        "  `price` AS price\nFROM files\n"
    )
