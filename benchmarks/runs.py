"""Runs of scripts for benchmarks: how long, how much memory, how many bytes."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "spark_jobs"), str(ROOT / "plugins")]
from lakehouse import sizes  # noqa: E402

LITTLE_BYTES = sizes.LITTLE_ROWS * sizes.BYTES_OF_LANDED_ROW
STAGES = ("ingest", "validate", "merge", "featurize")


@dataclass
class Run:
    """One process, from its start to its end.

    Attributes:
        seconds: by the clock, with all start-up.
        memory: the most bytes that it and its children have held at once (resident); executors of a cluster are not
            among them.
        cpu: seconds of processors that it and its children have used.
        executions, jobs: of Spark SQL, and of Spark, in the event log; ``descriptions`` says of each execution what it was.
        read, written: bytes of Spark's own task metrics: of tables and of their logs; 0, as is memory, where that is another
            process's.
        report: what a stage has written of itself.
    """

    name: str
    seconds: float
    memory: int
    read: int = 0
    written: int = 0
    cpu: float = 0.0
    executions: int = 0
    jobs: int = 0
    descriptions: list[str] = field(default_factory=list, repr=False)
    report: dict[str, Any] = field(default_factory=dict, repr=False)


def timed(name: str, command: Sequence[str], log: Path, root: Path = ROOT, **environment: str) -> Run:
    """Run a command that must end well, from a checkout's folder."""
    begin, used = time.monotonic(), _used()
    with log.open("wb") as out:
        variables = os.environ | {"TZ": "UTC"} | environment
        process = subprocess.Popen(command, cwd=root, env=variables, stdout=out, stderr=out)
        memory, over = [0], threading.Event()
        watching = threading.Thread(target=_watch, args=(process.pid, memory, over), daemon=True)
        watching.start()
        code = process.wait()
        seconds = time.monotonic() - begin
        over.set()
        watching.join()
    if code:
        sys.exit(f"{name} ended with {code}:\n{log.read_text(errors='replace')[-3000:]}")
    return Run(name, seconds, memory[0], cpu=_used() - used)


def _used() -> float:
    """Seconds of processors that this process's children have used that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _watch(pid: int, most: list[int], over: threading.Event) -> None:
    while not over.wait(0.5):
        try:
            process = psutil.Process(pid)
            processes = [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
        # A process that is about to become another one has its parent's command line, and all of its memory.
        most[0] = max(most[0], sum(dict(map(_resident, processes)).values()))


def _resident(process: psutil.Process) -> tuple[tuple[str, ...], int]:
    try:
        return tuple(process.cmdline()), process.memory_info().rss
    except psutil.NoSuchProcess:
        return (), 0


class Spark:
    """Scripts by spark-submit, with their event logs; a folder for what they leave."""

    def __init__(self, folder: Path, master: str = "local[2]", memory: str = "4g", root: Path = ROOT) -> None:
        """``root`` is the checkout whose scripts are run."""
        self.folder, self._master, self._memory, self._root = folder, master, memory, root
        self._events = folder / "events"
        self._events.mkdir(parents=True)

    def command(self, script: str, *arguments: str) -> list[str]:
        settings = {"spark.eventLog.enabled": "true", "spark.eventLog.dir": self._events.as_uri()}
        settings |= {"spark.eventLog.rolling.enabled": "false", "spark.eventLog.compress": "false"}
        command = ["spark-submit", "--master", self._master, "--driver-memory", self._memory]
        command += [t for k, v in settings.items() for t in ("--conf", f"{k}={v}")]
        return [*command, script, *arguments]

    def _as_then(self) -> dict[str, str]:
        """What has the environment's spark-submit start Spark as it did before it knew of archives and compilers."""
        if (self._root / "bin" / "spark_submit.py").exists():
            return {}
        return {"SPARK_CONF_DIR": str(self._root / "conf"), "LAKEHOUSE_WORK": ""}

    def submit(self, script: str, *arguments: str, name: str = "", **environment: str) -> Run:
        for old in self._events.iterdir():
            old.unlink()
        environment = self._as_then() | environment
        run = timed(name or script, self.command(script, *arguments), self.folder / "log", self._root, **environment)
        for log in self._events.iterdir():
            _count(run, log)
        return run


class Remote:
    """Scripts by Python alone, whose Spark is a Connect server that stays; neither bytes nor memory are told."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self.folder, self.environment = folder, {"SPARK_REMOTE": url}
        folder.mkdir(parents=True, exist_ok=True)

    def submit(self, script: str, *arguments: str, name: str = "") -> Run:
        command = [sys.executable, script, *arguments]
        run = timed(name or script, command, self.folder / "log", **self.environment)
        run.memory = 0
        return run


def _count(run: Run, events: Path) -> None:
    """Add what an event log tells."""
    with events.open(encoding="utf-8") as lines:
        for line in lines:
            # Most events are of no interest, and large.
            kind = line[:120].partition('"Event":"')[2].partition('"')[0].rpartition(".")[2]
            if kind == "SparkListenerTaskEnd":
                metrics = json.loads(line).get("Task Metrics") or {}
                run.read += metrics.get("Input Metrics", {}).get("Bytes Read", 0)
                run.written += metrics.get("Output Metrics", {}).get("Bytes Written", 0)
            elif kind == "SparkListenerJobStart":
                run.jobs += 1
            elif kind == "SparkListenerSQLExecutionStart":
                run.executions += 1
                told = json.loads(line)
                plan = told.get("physicalPlanDescription", "").split("\n")
                run.descriptions.append(" | ".join([told["description"][:60], *plan[1:2]])[:180])


class Stages:
    """The suite's stages on one warehouse and one landing folder."""

    def __init__(self, spark: Spark | Remote, folder: Path) -> None:
        self._spark, self.landing, self.warehouse = spark, folder / "landing", folder / "warehouse"
        self._report = folder / "report.json"

    def of_batch(self, stage: str, as_of: str) -> list[str]:
        """The arguments with which a daily run starts a stage."""
        own = {"ingest": ["--landing", str(self.landing), "--only", "shop"], "validate": ["--only", "shop"]}
        own |= {"merge": [], "featurize": ["--as-of", as_of]}
        return own[stage]

    def run(self, stage: str, *arguments: str) -> Run:
        of_warehouse = () if stage == "generate" else ("--warehouse", str(self.warehouse))
        reported = ("--report", str(self._report))
        run = self._spark.submit(f"spark_jobs/{stage}.py", *of_warehouse, *reported, *arguments, name=stage)
        run.report = json.loads(self._report.read_text())
        return run

    def batch(self, as_of: str) -> list[Run]:
        """Landing to gold, as a daily run does it."""
        return [self.run(stage, *self.of_batch(stage, as_of)) for stage in STAGES]


class StagesOfARun(Stages):
    """The stages with a Connect server of each day's own, as ``LAKEHOUSE_BACKEND=session`` starts and ends it; of it, only seconds are told."""

    def __init__(self, folder: Path) -> None:
        from lakehouse_airflow.run_server import RunServer

        self._remote = Remote(folder / "spark")
        super().__init__(self._remote, folder)
        self._server = RunServer(str(folder / "server"), str(folder / "server.log"), {"spark.driver.memory": "4g"})

    def batch(self, as_of: str) -> list[Run]:
        begin = time.monotonic()
        server = self._server.start()
        started = time.monotonic()
        self._remote.environment = {
            "SPARK_REMOTE": server.address,
            "SPARK_CONNECT_AUTHENTICATE_TOKEN": self._server.token(),
        }
        try:
            runs = super().batch(as_of)
        finally:
            over = time.monotonic()
            self._server.end()
        return [Run("start", started - begin, 0), *runs, Run("end", time.monotonic() - over, 0)]


class Floor:
    """Plain Spark that makes the suite's tables without any bookkeeping, by the same four stages."""

    def __init__(self, spark: Spark, landing: Path, warehouse: Path) -> None:
        self._spark, self.landing, self.warehouse = spark, landing, warehouse
        self._loaded = 0

    def batch(self, as_of: str) -> list[Run]:
        arguments = ("--landing", str(self.landing), "--warehouse", str(self.warehouse), "--as-of", as_of)
        there = sum(file.stat().st_size for file in self.landing.rglob("*") if file.is_file())
        new, self._loaded = there - self._loaded, there
        return [self._run(stage, there if stage == "featurize" else new, *arguments) for stage in STAGES]

    def _run(self, stage: str, size: int, *arguments: str) -> Run:
        # With the compiler that the suite's stage has for files of this size: it tells spark-submit, the floor does not.
        work = "little" if size <= LITTLE_BYTES else "much"
        return self._spark.submit("benchmarks/contenders/floor.py", stage, *arguments, name=stage, LAKEHOUSE_WORK=work)
