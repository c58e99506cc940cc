"""The processes of a stage on this host: spark-submit, its JVM, Python, and Spark's workers.

They are known by a mark in their environment, which each hands down to those it starts. A process group would
not do: it is forgotten when the Airflow worker dies, and its number may be another's by then.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from pathlib import Path

import psutil

MARK = "LAKEHOUSE_TASK"
log = logging.getLogger(__name__)


def clear_away(report_path: str) -> None:
    """Remove what an earlier attempt of a task has left: its report, which must not be taken for the next one's, and processes."""
    Path(report_path).unlink(missing_ok=True)
    end_processes(report_path)


def end_processes(mark: str, patience: float = 5.0) -> int:
    """End every process of this user that has ``mark`` as its ``LAKEHOUSE_TASK``; returns how many there were.

    Args:
        patience: seconds between SIGTERM, at which a stage ends cleanly, and SIGKILL.
    """
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:
            # Another user's, or gone by now.
            continue
    stubborn = _end(found, "terminate", patience)
    _end(stubborn, "kill", patience)
    if found:
        log.info("Ended %s processes of %s, %s of them by force", len(found), mark, len(stubborn))
    return len(found)


def _end(processes: list[psutil.Process], method: str, patience: float) -> list[psutil.Process]:
    """Signal processes; returns those that are still there when patience ends."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            getattr(process, method)()
    deadline = time.monotonic() + patience
    while (left := [p for p in processes if _alive(p)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def _alive(process: psutil.Process) -> bool:
    # Not by waiting for it: a child's exit status goes to who waits first, and that is spark-submit's hook.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
