"""A lease: no two attempts of one stage at work on the same tables at once.

A file in a folder that all hosts share, or an object, says who holds it; the holder touches it every few seconds. A lease that nobody
has touched for a while, or whose process on this host is gone, is stale and is taken over. Each holder has a
number one higher than the one before (a fencing token): whoever finds another number than its own there
has lost the lease and must not write.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from lakehouse import storage
from lakehouse.errors import ConfigurationError, LakehouseError, TryAgain
from lakehouse.lease_notes import FileNote, Holder, Note, ObjectNote

OF_TABLES = "_leases"
"""The folder of a warehouse with the leases of its tables."""
BEAT, STALE = 5.0, 60.0
"""Seconds between two touches, and without one after which a lease is stale."""


class Lease:
    """A held lease; ``hold`` makes one."""

    def __init__(self, path: str, note: Note, mine: Holder) -> None:
        self._path, self._note, self._mine = path, note, mine
        self._over = threading.Event()

    def check(self) -> None:
        """Raise TryAgain if another run has taken the lease over."""
        now = self._note.holder()
        if now is None or now.token != self._mine.token:
            raise TryAgain(
                "another run has taken over" + (f": {now.run_id} on {now.host}" if now else ""),
                where=self._path,
                todo="Nothing more is written by this one; run it again when the other has ended.",
            )

    def beat(self, every: float, stale: float) -> None:
        """Touch the note until the lease is released; when it is lost, or may be by now, have the process end as by SIGTERM."""
        alive = time.monotonic()
        while not self._over.wait(every):
            is_ours = True
            # A share or a store that is away, or refuses, for a moment: the next beat tries again, and stale is twelve beats away.
            with suppress(OSError, LakehouseError):
                is_ours = self._note.touch(self._mine)
                alive = time.monotonic()
            if (not is_ours or time.monotonic() - alive > max(stale, 2 * every)) and not self._over.is_set():
                os.kill(os.getpid(), signal.SIGTERM)
                return

    def release(self) -> None:
        self._over.set()
        self._note.release(self._mine)


@contextmanager
def hold(
    path: str,
    run_id: str,
    say: Callable[[str], None],
    *,
    patience: float = 2 * STALE,
    stale: float = STALE,
    every: float = BEAT,
    poll: float = 1.0,
    yielding: bool = False,
) -> Iterator[Lease]:
    """Hold the lease at a path while the body runs.

    Args:
        say: is told whom the run waits for.
        patience: seconds to wait for another holder.
        poll: seconds between two looks at whether it is free.
        yielding: let those who wait go first. For a run that takes the lease again and again, which
            would leave others no moment.

    Raises:
        TryAgain: another run holds it and goes on holding it.
        ConfigurationError: the file or object cannot be written, or is no lease.
        ServiceUnavailable: its store does not answer.
    """
    note: Note = ObjectNote(path) if storage.is_object_store(path) else FileNote(storage.below(path))
    deadline, told = time.monotonic() + patience, False
    try:
        while True:
            holder, ours = note.take(run_id, stale, yielding)
            if ours:
                break
            whom = f"{holder.run_id} (process {holder.pid} on {holder.host})"
            if time.monotonic() > deadline:
                raise TryAgain(f"held by {whom}", where=path, todo="Wait for its end, or end it.")
            if not told:
                say(f"waiting for {whom}, which is at work on the same tables")
            told = True
            time.sleep(min(poll, every))
    except OSError as error:
        raise ConfigurationError(
            f"the lease cannot be taken: {error.strerror}", where=path, todo="Name a folder that can be written."
        ) from error
    held = Lease(path, note, holder)
    beats = threading.Thread(target=held.beat, args=(every, stale), daemon=True, name="lease")
    beats.start()
    try:
        yield held
    except TryAgain:
        held.check()
        raise
    finally:
        with suppress(OSError, LakehouseError):
            held.release()
