"""Which Spark a process runs on, asked once and by what it can do: everything that differs between them is told here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import Enum


class Engine(Enum):
    """The kinds of Spark there are."""

    CLASSIC = "a Spark of its own, in process or on a cluster"
    CONNECT = "a Spark Connect server"
    DATABRICKS = "a Spark of Databricks"

    @property
    def has_delta(self) -> bool:
        """Whether a session has Delta Lake without being told so; to tell it would be refused, or take its place."""
        return self is not Engine.CLASSIC

    @property
    def takes_settings(self) -> bool:
        """Whether it runs as its settings say; Databricks has an engine of its own, and partly no such settings."""
        return self is not Engine.DATABRICKS

    @property
    def owns_jvm(self) -> bool:
        """Whether the JVM is this process's own, to be stopped with it and reached by it."""
        return self is Engine.CLASSIC


def engine(environment: Mapping[str, str] = os.environ) -> Engine:
    """The Spark that a session of this process will be on."""
    if "DATABRICKS_RUNTIME_VERSION" in environment:
        return Engine.DATABRICKS
    return Engine.CONNECT if "SPARK_REMOTE" in environment else Engine.CLASSIC
