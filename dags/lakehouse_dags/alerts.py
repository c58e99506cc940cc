"""Whom failures and missed deadlines are told to."""

from __future__ import annotations

import runpy
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference  # type: ignore[attr-defined]  # loaded when asked for

from lakehouse_dags.settings import ROOT, Settings


def on_failure(settings: Settings) -> Any:
    """The notifier, for a task that has failed and is not tried again."""
    module, _, name = settings.notifier.rpartition(".")
    return getattr(import_module(module), name)(**settings.notifier_arguments)


def deadline(settings: Settings) -> DeadlineAlert | None:
    """An alert for a run that has not ended within the freshness that the customer features promise."""
    interval = freshness(Path(settings.contracts) / "customer_features.odcs.yaml")
    if interval is None:
        return None
    return DeadlineAlert(
        name="freshness of customer_features",
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=interval,
        callback=AsyncCallback(settings.notifier, kwargs=settings.notifier_arguments),
    )


def freshness(contract: Path) -> timedelta | None:
    """The freshness that a contract promises, as the stages read it.

    None if it promises none, if the contract or the stages are not on this machine, or if it cannot be read: then the first stage
    says what is wrong with it, which nobody would see of a DAG that is not there.
    """
    reader = ROOT / "spark_jobs/lakehouse/service_levels.py"
    if not contract.is_file() or not reader.is_file():
        return None
    promised = runpy.run_path(str(reader))["promised"]
    try:
        span: timedelta | None = promised(
            yaml.load(contract.read_bytes(), Loader=yaml.CSafeLoader).get("slaProperties"), "freshness"
        )
    except (yaml.YAMLError, AttributeError, TypeError, ValueError):
        return None
    return span
