"""On a standalone cluster: an application that has lost its executors would wait for new ones for ever.

A driver goes on when its master is lost. A master that is started again does not know the application, and has the
workers end its executors.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from pyspark.sql import SparkSession

from lakehouse.engine import engine

EVERY, PATIENCE = 5.0, 60.0
"""Seconds between two looks, and without an executor after which the cluster has forgotten the application."""


def watch(spark: SparkSession, warn: Callable[[str], None]) -> None:
    """Stop Spark when a cluster has taken all executors from it while there is work.

    Whatever waits for Spark then fails with an error that ``cli.named`` knows. To end the stage alone would not do: it
    records its end through Spark, and would wait again.
    """
    if engine().owns_jvm and (spark.sparkContext.master or "").startswith("spark://"):
        context = spark.sparkContext._jsc.sc()
        threading.Thread(target=_watch, args=(context, warn), daemon=True, name="executors").start()


def _watch(context: Any, warn: Callable[[str], None]) -> None:
    tracker, last = context.statusTracker(), None
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
            context.stop()
            return
