"""What the examples share: tables of gold as pandas frames, a training set split by time, and results as a table."""

from __future__ import annotations

import argparse
from datetime import datetime
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from rich.console import Console
from rich.table import Table

mpl.use("Agg")
LABELS = ("churned", "future_spend", "next_category")


def arguments(description: str) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=description)
    p.add_argument("--warehouse", type=Path, required=True, help="the warehouse folder")
    p.add_argument("--set", default="example", help="name of the training set (default: example)")
    p.add_argument("--out", type=Path, default=Path("var/examples"), help="folder for the pictures")
    options = p.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    return options


def as_of(warehouse: Path, table: str, instant: datetime) -> pd.DataFrame:
    """The rows of ``gold.<table>``, one with ``valid_from`` and ``valid_to``, that hold at an instant with a time zone."""
    at = f"TIMESTAMP '{instant.isoformat()}'"
    return _select(warehouse, table, f"valid_from <= {at} AND (valid_to IS NULL OR valid_to > {at})")


def now(warehouse: Path, table: str) -> pd.DataFrame:
    """The rows that hold since the last snapshot."""
    return _select(warehouse, table, "valid_to IS NULL")


def _select(warehouse: Path, table: str, condition: str) -> pd.DataFrame:
    # By DataFusion: deltalake's own readers know no deletion vectors, which mark the rows that have ended.
    rows = QueryBuilder().register("t", DeltaTable(str(warehouse / "gold" / table)))
    return pa.table(rows.execute(f"SELECT * FROM t WHERE {condition}").read_all()).to_pandas()  # noqa: S608


def training_set(warehouse: Path, name: str) -> pd.DataFrame:
    """Features and labels of ``gold.training_<name>``, decimals as floats; one row a customer and cut-off."""
    rows = DeltaTable(str(warehouse / "gold" / f"training_{name}")).to_pyarrow_table().to_pandas()
    decimals = [c for c in rows.columns if c.startswith(("spend_", "total_spend", "future_spend"))]
    return rows.astype(dict.fromkeys(decimals, float)).sort_values(["as_of", "customer_id"]).reset_index(drop=True)


def hold_out(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the earlier cut-offs, and those of the last one, of which a model may know nothing."""
    last = rows["as_of"] == rows["as_of"].max()
    return rows[~last], rows[last]


def show(title: str, rows: list[tuple[str, ...]]) -> None:
    """Print a table; the first of ``rows`` is its header."""
    table = Table(title=title, title_justify="left")
    for n, column in enumerate(rows[0]):
        table.add_column(column, justify="right" if n else "left")
    for row in rows[1:]:
        table.add_row(*row)
    Console(width=110).print(table)
