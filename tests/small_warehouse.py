"""A small warehouse with something of everything, written without Spark."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
INSTANT = pa.timestamp("us", tz="UTC")
RUDE_ID = "c'1<script>alert(1)</script>"
SCHEMAS = {
    "bronze.clicks": pa.schema([("id", pa.string())]),
    "quarantine.clicks": pa.schema([("status", pa.string()), ("reasons", pa.list_(pa.struct([("rule", pa.string()), ("message", pa.string())]))), ("id", pa.string()), ("raw", pa.string()), ("_batch_id", pa.int64())]),
    "ops.runs": pa.schema(
        [("run_id", pa.string()), ("stage", pa.string()), ("started_at", INSTANT), ("seconds", pa.float64()),
         ("status", pa.string()), ("exit_code", pa.int32()), ("report", pa.string())]
    ),
    "ops.snapshots": pa.schema(
        [("as_of", INSTANT), ("state", pa.string()), ("reason", pa.string()), ("customers", pa.int64()),
         ("made_at", INSTANT), ("batch_id", pa.int64())]
    ),
    "ops.progress": pa.schema(
        [("stage", pa.string()), ("unit", pa.string()), ("batch_id", pa.int64()), ("state", pa.string()),
         ("inputs", pa.list_(pa.int64())), ("rows", pa.map_(pa.string(), pa.int64())), ("detail", pa.string()),
         ("run_id", pa.string()), ("at", INSTANT)]
    ),
    "gold.customer_features": pa.schema(
        [("customer_id", pa.string()), ("as_of", INSTANT), ("total_spend", pa.decimal128(28, 2)), ("session_count", pa.int32()),
         ("segment", pa.string())]
    ),
    "silver.transactions": pa.schema(
        [("customer_id", pa.string()), ("date", INSTANT), ("transaction_status", pa.string()), ("product_id", pa.string()),
         ("amount", pa.decimal128(18, 2))]
    ),
    "silver.interactions": pa.schema(
        [("customer_id", pa.string()), ("timestamp", INSTANT), ("interaction_type", pa.string()), ("product_id", pa.string()),
         ("page", pa.string())]
    ),
    "ops.quality": pa.schema(
        [("entity", pa.string()), ("batch_id", pa.int64()), ("measure", pa.string()), ("value", pa.int64()), ("rows", pa.int64()),
         ("at", INSTANT)]
    ),
    "ops.stream": pa.schema(
        [("at", INSTANT), ("run_id", pa.string()), ("input", pa.string()), ("state", pa.string()), ("error", pa.string()),
         ("restarts", pa.int32()), ("messages", pa.int64()), ("per_second", pa.float64()), ("lag", pa.int64()),
         ("batch_seconds", pa.float64()), ("last_commit", INSTANT), ("merged_until", INSTANT), ("rejected", pa.int64())]
    ),
}  # fmt: skip


def add(warehouse: Path, table: str, *rows: tuple[Any, ...]) -> None:
    schema = SCHEMAS[table]
    records = [dict(zip(schema.names, row, strict=True)) for row in rows]
    write_deltalake(
        str(warehouse / table.replace(".", "/")), pa.Table.from_pylist(records, schema=schema), mode="append"
    )


def at(hour: int) -> datetime:
    return NOON.replace(hour=hour)


def fill(folder: Path) -> None:
    """Clicks in bronze and in quarantine, runs that failed, batches that wait, snapshots, a stream that is down."""
    add(folder, "bronze.clicks", ("a",), ("b",))
    add(folder, "bronze.clicks", ("c",))
    late = {"rule": "late", "message": "too late"}
    rude = {"rule": "[red]rude[/red]", "message": "<script>document.title = 'taken'</script>"}
    add(
        folder, "quarantine.clicks", ("open", [late], "q1", '{"id": "one"}', 1),
        ("open", [late, rude], "q2", '{"id": "<img src=x onerror=alert(1)>"}', 2),
        ("replayed", [rude], "q3", "{}", 2), ("open", [], "q4", "{}", 2),
    )  # fmt: skip
    figures = {"staged.clicks": {"rows_quarantined": 4}, "staged.orders": {"rows_quarantined": 1_000, "rows_in": 7}}
    report = json.dumps({"error": None, "warnings": ["a <script> of a warning"], "tables": figures})
    failed = json.dumps({"error": "validate: the reason", "warnings": ["not told"]})
    add(
        folder, "ops.runs", ("r1", "ingest", at(1), 3.0, "failed", 70, failed), ("r2", "ingest", at(2), 4.0, "done", 0, report),
        ("r2", "validate", at(3), 5.5, "failed", 65, failed),
    )  # fmt: skip
    add(
        folder, "ops.snapshots", (at(0), "published", None, 10, at(4), 1), (at(1), "published", None, 11, at(5), 2),
        (at(0), "stale", "late data", 10, at(4), 2), (at(1), "stale", "late data", 11, at(5), 3),
        (at(1), "published", None, 12, at(6), 4),
    )  # fmt: skip
    add(
        folder, "ops.progress",
        # Refused, and tried again: 4 has taken the place of 3.
        ("validate", "clicks", 3, "planned", [7], None, None, "r", at(3)), ("validate", "clicks", 3, "refused", [], None, "half of it is bad", "r", at(3)),
        ("validate", "clicks", 4, "planned", [7], None, None, "r", at(3)), ("validate", "clicks", 4, "done", [], {"staged.clicks": 2}, None, "r", at(3)),
        ("validate", "clicks", 5, "planned", [8], None, None, "r", at(3)), ("validate", "clicks", 5, "refused", [], None, "all of it is bad", "r", at(3)),
        # Its plan was given up, so that 5 still stands.
        ("validate", "clicks", 6, "planned", [8], None, None, "r", at(3)), ("validate", "clicks", 6, "void", [], None, None, "r", at(3)),
        ("ingest", "clicks", 8, "refused", [], None, "another stage's", "r", at(3)),
        ("ingest", "clicks", 9, "planned", [], None, None, "r", at(3)),
        ("ingest", "clicks", 9, "done", [], {"bronze.clicks": 3}, None, "r", at(3)),
    )  # fmt: skip
    beat = ("r", "clicks", "running", None, 0, 5, 1.5, 0, 0.1, at(2), at(2), 1)
    add(folder, "ops.stream", (at(3), *beat), (at(4), "r", "clicks", "down", "no [broker]", 2, 9, 0.0, 1234, 0.1, at(3), None, 1))  # fmt: skip
    measured = [
        (b, m, v)
        for b, late, rejected in ((1, 1, 2), (2, 5, 5), (40, 0, 0))
        for m, v in (("rule:late", late), ("rejected", rejected), ("missing:id", 9))
    ]
    add(folder, "ops.quality", *[("clicks", b, m, v, 10, at(1)) for b, m, v in measured], ("clicks", 41, "rejected", 0, 0, at(9)),
        ("interactions", 40, "rows", 10, 10, at(3)), ("interactions", 41, "rows", 4, 4, at(7)), ("interactions", 42, "rows", 0, 0, at(9)))  # fmt: skip
    spent = {at(0): (1, 3, 8), at(1): (2, 4, 12)}
    add(
        folder, "gold.customer_features",
        *[(f"c{n}", as_of, Decimal(x), None if n else 7, "Loyal") for as_of, values in spent.items() for n, x in enumerate(values)],
        (RUDE_ID, at(1), Decimal("2.00"), None, None),
    )  # fmt: skip
    add(
        folder, "silver.transactions", (RUDE_ID, at(3), "Completed", "p1", Decimal("7.50")), ("c1", at(4), "Completed", "p2", Decimal(1)),
        (RUDE_ID, at(5), "Cancelled", None, Decimal(2)),
    )  # fmt: skip
    add(
        folder, "silver.interactions", (RUDE_ID, at(4), "view", "p1", "/<b>page</b>"), ("c1", at(6), "view", None, None)
    )
