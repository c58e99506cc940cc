"""Whom failures and missed deadlines are told to."""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference

from lakehouse_dags.settings import Settings


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
    """The freshness of a contract's service levels; None if it promises none, or is not on this machine."""
    if not contract.is_file():
        return None
    levels = yaml.load(contract.read_bytes(), Loader=yaml.CSafeLoader).get("slaProperties") or []
    units = {"d": "days", "h": "hours", "m": "minutes"}
    for level in levels:
        if level["property"] == "freshness":
            return timedelta(**{units[level["unit"]]: level["value"]})
    return None
