"""On a standalone cluster: an application that has lost its executors would wait for new ones for ever.

A driver goes on when its master is lost. A master that is started again does not know the application, and has the
workers end its executors.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from pyspark.sql import SparkSession

EVERY, PATIENCE = 5.0, 60.0
"""Seconds between two looks, and without an executor after which the cluster has forgotten the application."""


def watch(spark: SparkSession, warn: Callable[[str], None]) -> None:
    """Have the process end as by SIGTERM when a cluster has taken all executors from it while there is work."""
    if os.environ.keys() & {"SPARK_REMOTE", "DATABRICKS_RUNTIME_VERSION"}:
        return
    if (spark.sparkContext.master or "").startswith("spark://"):
        arguments = (spark.sparkContext._jsc.sc().statusTracker(), warn)
        threading.Thread(target=_watch, args=arguments, daemon=True, name="executors").start()


def _watch(tracker: Any, warn: Callable[[str], None]) -> None:
    last: float | None = None
    while True:
        time.sleep(EVERY)
        try:
            # The driver is one of them.
            there = len(tracker.getExecutorInfos()) > 1
            idle = len(tracker.getActiveJobIds()) == 0
        except Exception:
            # Spark itself is gone; whoever waits for it is told.
            return
        if there or (idle and last is not None):
            last = time.monotonic()
        elif last is not None and time.monotonic() - last > PATIENCE:
            warn(
                f"no executor for {PATIENCE:.0f} s: the cluster's master has forgotten this application, or has no worker"
            )
            os.kill(os.getpid(), signal.SIGTERM)
            return
