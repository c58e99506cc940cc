"""Run reports as people read them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lakehouse_airflow import outcome

ORDER = (
    *("files_loaded", "files_set_aside", "rows_in", "rows_corrupt", "rows_read", "rows_accepted", "rows_quarantined"),
    *(
        "keys_in",
        "repeated_keys",
        "inserted",
        "updated",
        "deleted",
        "unchanged",
        "rows_written",
        "customers_recomputed",
    ),
)
"""The figures of a table that come first, in the order of the stages; then others, versions and bytes last."""
ID, RUN = re.compile(r"(?!\.+$)[\w.-]{1,250}"), re.compile(r"(?!\.+$)[A-Za-z0-9_.~:+-]{1,250}")
"""What Airflow takes for the id of a DAG or a task, and of a run; but nothing of dots alone."""
LAST = ("files_written", "bytes_read", "bytes_written", "version_read", "version_written")


def find(folder: Path, dag: str, run: str, task: str) -> dict[str, Any] | None:
    """The report of a task's newest attempt; None if there is none in the folder."""
    # Names come from an address: none of them leads elsewhere, by itself or by a link.
    if not (ID.fullmatch(dag) and RUN.fullmatch(run) and ID.fullmatch(task)):
        return None
    path = folder.resolve() / dag / run / f"{task}.json"
    try:
        if path.resolve() != path:
            return None
        report = outcome.read(path)
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) else None


def columns(report: dict[str, Any]) -> list[str]:
    """The figures that any of a report's tables has, in the order in which they are shown."""
    there = {name for figures in report["tables"].values() for name in figures}
    others = sorted(there - {*ORDER, *LAST})
    return [name for name in (*ORDER, *others, *LAST) if name in there]


def steps(report: dict[str, Any]) -> list[tuple[str, float, float]]:
    """(name, seconds, percent of the whole run) of each step, the longest first."""
    whole = report["steps"].get("total") or 0
    found = [(n, s, round(100 * s / whole, 1) if whole else 0.0) for n, s in report["steps"].items() if n != "total"]
    return sorted(found, key=lambda step: (-step[1], step[0]))
