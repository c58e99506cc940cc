"""One file in a landing folder, and what is told of it before Spark reads it."""

from __future__ import annotations

from pathlib import Path

from lakehouse.ingestion.landing import Landing, Unreadable
from lakehouse.ingestion.layouts import Layout, layouts
from lakehouse.sources import Input
from support import an_input

CSV, JSON, PARQUET = an_input(), an_input(format="json"), an_input(format="parquet")
FOLDER = "shop/products"


def layout_of(root: Path, content: bytes, source: Input = CSV, name: str = "x.csv") -> Layout | Unreadable:
    file = root / FOLDER / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    landing = Landing(str(root))
    (found,) = [f for f in landing.find(source) or () if f.path == f"{FOLDER}/{name}"]
    return layouts(landing, source, [found])[found]


def names_of(root: Path, content: bytes, source: Input = CSV, name: str = "x.csv") -> tuple[str, ...]:
    found = layout_of(root, content, source, name)
    assert not isinstance(found, Unreadable), found
    return found.names


def reason_of(root: Path, content: bytes, source: Input = CSV, name: str = "x.csv") -> str:
    found = layout_of(root, content, source, name)
    assert isinstance(found, Unreadable), found
    return str(found)
