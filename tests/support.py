"""Places, environments and an input that tests share."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lakehouse.sources import Input

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("LAKEHOUSE_TEST_DATA", ROOT.parent / "shared" / "data"))


BRIEF = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m"
"""For a JVM that lives half a minute: optimizing compilation takes a third of its CPU and never pays."""


def an_input(**changes: Any) -> Input:
    """An input of CSV files with the columns a and b, but for what is named."""
    plain = Input(
        name="shop_products",
        source="shop",
        path="shop/products",
        format="csv",
        columns=("a", "b"),
        pattern="*",
        ignore=("*.tmp", "*.part", "*.crc"),
        options=(),
        schema_mode="rescue",
        sql=(),
    )
    return replace(plain, **changes)


def real_data(name: str) -> Path:
    """A folder of real data, which is not part of the project; the test is skipped where it is absent."""
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"the real data {name} are not at {folder}; set LAKEHOUSE_TEST_DATA to the folder that holds them")
    return folder


def clean_environment(**changes: str) -> dict[str, str]:
    """The environment of a user's shell: nothing of Airflow's or the lakehouse's settings that the tests made."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "LAKEHOUSE_", "PYSPARK", "SPARK"))}
    return kept | {"SPARK_SUBMIT_OPTS": BRIEF} | changes


def airflow_environment(folder: Path, **settings: str) -> dict[str, str]:
    """What `. bin/env` makes of a deployment with everything below one folder, and of settings beyond that."""
    home = folder / "airflow"
    home.mkdir(parents=True, exist_ok=True)
    places = {
        name: str(folder / name.lower())
        for name in ("WAREHOUSE", "LANDING", "REPORTS", "EXCHANGE", "LEASES", "SESSIONS")
    }
    given = {f"LAKEHOUSE_{name}": place for name, place in places.items()}
    return sourced_environment(**{"AIRFLOW_HOME": str(home)} | given | settings)


def sourced_environment(**settings: str) -> dict[str, str]:
    """What `. bin/env` makes of some settings."""
    given = clean_environment(**settings)
    shell = subprocess.run(["bash", "-c", ". bin/env && env -0"], cwd=ROOT, env=given, capture_output=True, text=True)
    return dict(line.split("=", 1) for line in shell.stdout.split("\0") if line)


def processes_with(text: str) -> list[str]:
    """Command lines of running processes whose environment or arguments mention a text."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (folder / "environ").read_bytes() and int(folder.name) != os.getpid():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found
