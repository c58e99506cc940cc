"""Places and environments that tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("LAKEHOUSE_TEST_DATA", ROOT.parent / "shared" / "data"))


BRIEF = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m"
"""For a JVM that lives half a minute: optimizing compilation takes a third of its CPU and never pays."""


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
