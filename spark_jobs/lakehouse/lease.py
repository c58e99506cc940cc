"""A lease: no two attempts of one stage at work on the same tables at once.

A file on a folder that all hosts share says who holds it; the holder touches it every few seconds. A lease that nobody
has touched for a while, or whose process on this host is gone, is stale and is taken over. Each holder has a
number one higher than the one before (a fencing token): whoever finds another number than its own in the file
has lost the lease and must not write.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from lakehouse.errors import ConfigurationError, TryAgain

BEAT, STALE = 5.0, 60.0
"""Seconds between two touches, and without one after which a lease is stale."""
WAITING = 3.0
"""Seconds for which somebody who has looked for the lease is taken to wait for it."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease; ``started`` tells a process from a later one with the same id."""

    token: int
    run_id: str
    host: str
    pid: int
    started: float

    def is_gone(self) -> bool:
        """Whether it is known to have ended: only of a process on this host can that be told."""
        if self.host != socket.gethostname():
            return False
        try:
            process = psutil.Process(self.pid)
            return process.create_time() != self.started or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


class Lease:
    """A held lease; ``hold`` makes one."""

    def __init__(self, path: Path, mine: Holder) -> None:
        self._path, self._mine = path, mine
        self._over = threading.Event()

    def check(self) -> None:
        """Raise TryAgain if another run has taken the lease over."""
        now = _read(self._path)
        if now is None or now.token != self._mine.token:
            raise TryAgain(
                "another run has taken over" + (f": {now.run_id} on {now.host}" if now else ""),
                where=str(self._path),
                todo="Nothing more is written by this one; run it again when the other has ended.",
            )

    def beat(self, every: float) -> None:
        """Touch the file until the lease is released; when it is lost, have the process end as by SIGTERM."""
        while not self._over.wait(every):
            try:
                self.check()
                os.utime(self._path)
            except TryAgain:
                os.kill(os.getpid(), signal.SIGTERM)
                return
            except OSError:
                # A share that is away for a moment; the next beat tries again, and stale is twelve beats away.
                continue

    def release(self) -> None:
        self._over.set()
        with _guarded(self._path):
            now = _read(self._path)
            if now is not None and now.token == self._mine.token:
                # Kept, for its number: only its time says that nobody holds it.
                os.utime(self._path, (0, 0))


@contextmanager
def hold(
    path: str,
    run_id: str,
    say: Callable[[str], None],
    *,
    patience: float = 2 * STALE,
    stale: float = STALE,
    every: float = BEAT,
    yielding: bool = False,
) -> Iterator[Lease]:
    """Hold the lease at a path while the body runs.

    Args:
        say: is told whom the run waits for.
        patience: seconds to wait for another holder.
        yielding: let those who wait go first. For a run that takes the lease again and again, which
            would leave others no moment.

    Raises:
        TryAgain: another run holds it and goes on holding it.
        ConfigurationError: the file cannot be written, or is no lease.
    """
    file, deadline, told = Path(path), time.monotonic() + patience, False
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        while isinstance(held := _take(file, run_id, stale, yielding), Holder):
            whom = f"{held.run_id} (process {held.pid} on {held.host})"
            if time.monotonic() > deadline:
                raise TryAgain(f"held by {whom}", where=path, todo="Wait for its end, or end it.")
            if not told:
                say(f"waiting for {whom}, which is at work on the same tables")
            told = True
            time.sleep(min(1.0, every))
    except OSError as error:
        raise ConfigurationError(
            f"the lease cannot be taken: {error.strerror}", where=path, todo="Name a folder that can be written."
        ) from error
    beats = threading.Thread(target=held.beat, args=(every,), daemon=True, name="lease")
    beats.start()
    try:
        yield held
    except TryAgain:
        held.check()
        raise
    finally:
        with suppress(OSError):
            held.release()


def _take(path: Path, run_id: str, stale: float, yielding: bool) -> Lease | Holder:
    """The lease, now ours, or who holds it, or comes before us."""
    waiting = path.with_name(path.name + ".waiting")
    with _guarded(path) as now:
        there = _read(path)
        if there is not None and not there.is_gone() and now - path.stat().st_mtime < stale:
            if not yielding:
                waiting.touch()
                os.utime(waiting, (now, now))
            return there
        if yielding and there is not None and waiting.exists() and now - waiting.stat().st_mtime < WAITING:
            return there
        if not yielding:
            waiting.unlink(missing_ok=True)
        me = psutil.Process()
        mine = Holder((there.token if there else 0) + 1, run_id, socket.gethostname(), me.pid, me.create_time())
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(asdict(mine)), encoding="utf-8")
        part.replace(path)
        return Lease(path, mine)


@contextmanager
def _guarded(path: Path) -> Iterator[float]:
    """Nobody else looks at the lease or changes it meanwhile; gives the time by the file server's clock."""
    with path.with_name(path.name + ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.utime(lock.name)
        yield os.fstat(lock.fileno()).st_mtime


def _read(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            "is no lease", where=str(path), todo="Name another file, or remove it when no stage runs."
        ) from error
