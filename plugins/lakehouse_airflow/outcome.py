"""What a stage's end means to Airflow, on every backend: XCom, asset events, and whether to try again."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.exceptions import AirflowException
from airflow.sdk import Asset, AssetAlias
from airflow.sdk.exceptions import AirflowFailException

if TYPE_CHECKING:
    from airflow.sdk import Context

TABLES = AssetAlias(name="lakehouse_tables", group="lakehouse")
"""The outlet of stages that change rows: stands for whichever tables a run has written."""

RETRYABLE = {69: "a service is unreachable", 75: "try again"}
MEANINGS = {
    64: "wrong arguments",
    65: "data refused",
    70: "a bug",
    78: "wrong configuration",
    **RETRYABLE,
}
log = logging.getLogger(__name__)


def read(report: Path) -> dict[str, Any] | None:
    """The run report in a file; None while there is none."""
    try:
        return json.loads(report.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def written(application: str, report: Path) -> dict[str, Any]:
    """The run report of a script that ended well; raises AirflowFailException if it has left none."""
    result = read(report)
    if result is None:
        raise AirflowFailException(f"{application} ended well but left no report at {report}.")
    return result


def succeeded(context: Context, outlets: list[Any], report: dict[str, Any]) -> dict[str, Any]:
    """Log a report's warnings and tell of the tables that were written; returns the report, as the task's XCom.

    Each written table is an event of the asset of its name (``gold.customer_features``), with its
    version, the run's id and its figures.
    """
    for line in report["warnings"]:
        log.warning("%s", line)
    if TABLES in outlets:
        for table, figures in report["tables"].items():
            if "version_written" in figures and not table.startswith("ops."):
                extra = {"run_id": report["run_id"], "stage": report["stage"], **figures}
                context["outlet_events"][TABLES].add(Asset(table, group="lakehouse"), extra=extra)
    return report


def failure(application: str, code: int | None, report: dict[str, Any] | None) -> AirflowException:
    """The error to raise for a stage's exit code: AirflowFailException unless another try can succeed.

    Args:
        code: negative, or above 128, for a process that a signal has ended.
    """
    reason = (report or {}).get("error") or f"{Path(application).stem} left no report"
    if code is not None and (code < 0 or code > 128):
        number = -code if code < 0 else code - 128
        return AirflowException(f"ended by signal {number}; it will go on where it stopped. {reason}")
    text = f"exit code {code} ({MEANINGS.get(code or 0, 'it could not run; see the log above')}): {reason}"
    return AirflowException(text) if code in RETRYABLE else AirflowFailException(text)
