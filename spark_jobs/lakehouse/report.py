"""The run report: what a run read, wrote, refused and took, as one JSON file and a row of ops.runs."""

from __future__ import annotations

import copy
import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

import pyarrow as pa

from lakehouse import __version__, storage

RUNS = "ops.runs"
log = logging.getLogger("lakehouse")


@dataclass(frozen=True)
class Record:
    """A row of ``ops.runs``; ``report`` is JSON."""

    run_id: str
    stage: str
    started_at: datetime
    seconds: float
    status: str
    exit_code: Annotated[int, pa.int32()]
    code_version: str
    report: str


@dataclass
class RunReport:
    """Collected while a stage runs; times are UTC, durations seconds, sizes rows unless named bytes."""

    stage: str
    run_id: str
    started_at: datetime
    contracts: dict[str, str] = field(default_factory=dict)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    rules: dict[str, dict[str, int]] = field(default_factory=dict)
    status: str = "running"
    exit_code: int | None = None
    error: str | None = None
    traceback: str | None = None
    warehouse: str | None = None
    """Where the tables are."""
    warehouse_id: str | None = None
    """What tells the warehouse from any other; None while it has no table."""
    application_id: str | None = None
    """What Spark calls the run."""
    work: str | None = None
    """How much there is to do, ``little`` or ``much``; None until that is known, and where nothing is."""
    wrote: bool = False
    """Whether the run changed any table."""
    _clock: float = field(default_factory=time.monotonic)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def count(self, table: str, **figures: int) -> None:
        """Add figures (rows, files, bytes) to what is known of a table."""
        with self._lock:
            known = self.tables.setdefault(table, {})
            for name, value in figures.items():
                known[name] = known.get(name, 0) + value

    def note(self, table: str, **facts: Any) -> None:
        """Set facts (a Delta version) of a table."""
        with self._lock:
            self.tables.setdefault(table, {}).update(facts)

    def count_rules(self, entity: str, figures: dict[str, int]) -> None:
        """Add the number of rows that violate each rule of an entity."""
        with self._lock:
            known = self.rules.setdefault(entity, {})
            for name, value in figures.items():
                known[name] = known.get(name, 0) + value

    def warn(self, message: str) -> None:
        self.warnings.append(message)
        self._log(logging.WARNING, f"warning: {message}")

    def say(self, message: str) -> None:
        """One line of progress."""
        self._log(logging.INFO, message)

    def _log(self, level: int, message: str) -> None:
        log.log(level, "%s [%6.1f s] %s", self.stage, time.monotonic() - self._clock, message)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step."""
        begin = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self.steps[name] = round(self.steps.get(name, 0.0) + time.monotonic() - begin, 3)

    def finish(self, status: str, exit_code: int, error: str | None = None) -> None:
        self.status, self.exit_code, self.error = status, exit_code, error
        self.steps["total"] = round(time.monotonic() - self._clock, 3)

    def as_dict(self) -> dict[str, Any]:
        with self._lock:
            return copy.deepcopy(self._as_dict())

    def _as_dict(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "stage": self.stage,
            "status": self.status,
            "exit_code": self.exit_code,
            "error": self.error,
            "started_at": self.started_at.isoformat(),
            "finished_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "code_version": __version__,
            "application_id": self.application_id,
            "work": self.work,
            "warehouse": self.warehouse,
            "warehouse_id": self.warehouse_id,
            "contracts": self.contracts,
            "tables": self.tables,
            "rules": self.rules,
            "steps": self.steps,
            "warnings": self.warnings,
            **({"traceback": self.traceback} if self.traceback else {}),
        }

    def write(self, path: str) -> None:
        """Write the report to a file or an object; raises OSError."""
        storage.write_text(path, json.dumps(self.as_dict(), indent=1, default=str) + "\n")
