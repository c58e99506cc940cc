"""Loading waits for refining: side by side they slow each other, and a small batch costs as much as a large one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SILVER_SECONDS = 30.0
"""How long an input waits for its last batch to reach silver before it loads the next one."""
GATHER_SECONDS = 5.0
"""How long a round waits for batches that are on their way to bronze."""
LOOK_SECONDS = 0.05


class Backpressure:
    """Of one source: its inputs wait for the rounds of validate and merge that take what they have loaded."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._changes = 0
        """Odd while a round is at work."""

    @contextmanager
    def round(self, loading: Callable[[], bool]) -> Iterator[None]:
        """A round; it begins when nothing is being loaded, or that takes too long."""
        deadline = time.monotonic() + GATHER_SECONDS
        while loading() and time.monotonic() < deadline and not self._stop.wait(LOOK_SECONDS):
            pass
        self._changes += 1
        try:
            yield
        finally:
            self._changes += 1

    def wait_for_silver(self) -> None:
        """Until a round has ended that began after this was called, or that takes too long, or the stream stops."""
        now, deadline = self._changes, time.monotonic() + SILVER_SECONDS
        # A round that is at work already may have missed what was loaded.
        enough = now + 2 + now % 2
        while self._changes < enough and time.monotonic() < deadline and not self._stop.wait(LOOK_SECONDS):
            pass
