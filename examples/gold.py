"""What the examples share: a training set as a pandas frame, split by time, and results as a table."""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from deltalake import DeltaTable
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
