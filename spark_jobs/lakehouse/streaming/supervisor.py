"""What must go on: each thing in a thread of its own, started again after a growing pause, given up when that does not help."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from lakehouse.errors import ConfigurationError, DataRefused, ServiceUnavailable, TryAgain, UsageError, named

RUNNING, PAUSING, DOWN = "running", "pausing", "down"


@dataclass(frozen=True)
class Policy:
    """Seconds of the first pause, which doubles, and of the longest one; how many failures in how many seconds are too many."""

    pause: float = 1.0
    longest: float = 60.0
    failures: int = 8
    within: float = 3600.0


class Worker(threading.Thread):
    """Does one piece of work until it is told to stop.

    Attributes:
        state: running, pausing after a failure, or down: given up until a person has looked.
        error: why, in one line.
        restarts: how often the work has been begun anew.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        stop: threading.Event,
        say: Callable[[str], None],
        policy: Policy = Policy(),
    ) -> None:
        """``work`` returns when ``stop`` is set, and raises when it cannot go on."""
        super().__init__(name=f"stream {name}", daemon=True)
        self.subject = name
        self._work, self._stop_asked, self._say, self._policy = work, stop, say, policy
        self.state, self.error, self.restarts = RUNNING, "", 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        failures: list[float] = []
        in_a_row = 0
        while not self._stop_asked.is_set():
            begin = time.monotonic()
            try:
                self._work()
                continue
            except Exception as error:
                if self._stop_asked.is_set():
                    return
                self.failure = named(error) or error
                self.error = " ".join(str(self.failure).split())[:500] or type(error).__name__
            now = time.monotonic()
            # Work that has gone well for longer than the longest pause begins anew with a short one.
            in_a_row = 1 if now - begin > self._policy.longest else in_a_row + 1
            if not passes_by_itself(self.failure):
                failures = [f for f in failures if now - f < self._policy.within] + [now]
            if cannot_help_itself(self.failure) or len(failures) >= self._policy.failures:
                self.state = DOWN
                self._say(f"{self.subject} stays down: {self.error}")
                return
            pause = min(self._policy.pause * 2 ** (in_a_row - 1), self._policy.longest)
            self.state = PAUSING
            self._say(f"{self.subject}: {self.error} Trying again in {pause:.0f} s")
            self._stop_asked.wait(pause)
            self.restarts += 1
            self.state = RUNNING


def passes_by_itself(error: BaseException) -> bool:
    """Whether a failure is of a kind that may last, but ends without anybody's doing."""
    return isinstance(error, ServiceUnavailable | TryAgain)


def cannot_help_itself(error: BaseException) -> bool:
    """Whether only a person can mend what is wrong."""
    return isinstance(error, UsageError | ConfigurationError | DataRefused)
