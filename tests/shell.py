"""Real spark-submit, as a user would call it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support import ROOT, clean_environment


class Shell:
    """spark-submit of stage scripts on one warehouse."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.environment = {"TZ": "UTC"} | environment
        self.landing = folder / "landing"
        self.warehouse = folder / "warehouse"

    def argv(self, stage: str, *args: str) -> list[str]:
        own = [] if stage == "generate" else ["--warehouse", str(self.warehouse)]
        if stage == "ingest":
            own += ["--landing", str(self.landing)]
        report = ["--report", str(self.folder / f"{stage}.json")]
        return ["spark-submit", "--master", "local[2]", str(ROOT / f"spark_jobs/{stage}.py"), *own, *report, *args]

    def run(self, stage: str, *args: str) -> subprocess.CompletedProcess[str]:
        """Run a stage; ``stdout`` is what a terminal would show: spark-submit sends what Python writes there."""
        return subprocess.run(
            self.argv(stage, *args),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1800,
            env=clean_environment(**self.environment),
        )

    def ok(self, stage: str, *args: str) -> dict[str, Any]:
        """Run a stage that must end well; returns its report."""
        done = self.run(stage, *args)
        assert done.returncode == 0, done.stdout
        return self.report(stage)

    def report(self, stage: str) -> dict[str, Any]:
        return json.loads((self.folder / f"{stage}.json").read_text())

    def start(self, stage: str, *args: str, stdout: Any = subprocess.PIPE) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.argv(stage, *args),
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=clean_environment(**self.environment),
        )

    def kill_when(self, stage: str, moment: Callable[[], bool], *args: str) -> bool:
        """kill -9 a stage, JVM and Python, at a moment; returns whether it was killed before its end."""
        process = self.start(stage, *args)
        try:
            while process.poll() is None and not moment():
                time.sleep(0.002)
            killed = process.poll() is None
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            killed = False
        finally:
            process.communicate()
        return killed

    def versions(self) -> dict[str, int]:
        found = {}
        for log in sorted(self.warehouse.glob("*/*/_delta_log")):
            numbers = [int(f.stem) for f in log.glob("*.json") if f.stem.isdigit()]
            found[f"{log.parent.parent.name}.{log.parent.name}"] = max(numbers, default=-1)
        return found
