"""What must go on: begun anew after a growing pause, given up when that does not help."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from lakehouse.errors import ConfigurationError, DataRefused, ServiceUnavailable, TryAgain
from lakehouse.streaming.supervisor import DOWN, RUNNING, Policy, Worker

QUICK = Policy(pause=0.01, longest=0.05, failures=3)


class Stop(threading.Event):
    """Notes how long it was to be waited for, and returns soon."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout)
        return super().wait(min(timeout or 0.05, 0.05))


class Work:
    """Fails as it is told, then goes on until it is stopped."""

    def __init__(self, *errors: Exception) -> None:
        self.stop = Stop()
        self.begun: list[float] = []
        self.said: list[str] = []
        self._errors: Iterator[Exception] = iter(errors)

    def __call__(self) -> None:
        self.begun.append(time.monotonic())
        for error in self._errors:
            raise error
        while not self.stop.is_set():
            time.sleep(0.005)

    def run(self, policy: Policy = QUICK, until: int = 1) -> Worker:
        """The worker, when it has begun so often, or is down."""
        worker = Worker("orders", self, self.stop, self.said.append, policy)
        worker.start()
        deadline = time.monotonic() + 10
        while len(self.begun) < until and worker.state != DOWN:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        self.stop.set()
        worker.join(5)
        assert not worker.is_alive()
        return worker


def test_what_fails_is_begun_anew_after_a_growing_pause() -> None:
    work = Work(*map(ValueError, "abcde"))
    worker = work.run(Policy(pause=1, longest=5, failures=9), until=6)
    assert (worker.state, worker.restarts, worker.error) == (RUNNING, 5, "e")
    assert work.stop.pauses == [1, 2, 4, 5, 5]


def test_too_many_failures_and_it_stays_down_and_says_why() -> None:
    work = Work(*[ValueError(f"no {n}\nlonger") for n in range(9)])
    worker = work.run(until=10)
    assert (worker.state, len(work.begun)) == (DOWN, 3)
    assert work.said[-1] == "orders stays down: no 2 longer"
    assert isinstance(worker.failure, ValueError)


@pytest.mark.parametrize("error", [ConfigurationError("x"), DataRefused("x")])
def test_what_only_a_person_can_mend_is_not_tried_again(error: Exception) -> None:
    work = Work(error)
    assert (work.run(until=2).state, len(work.begun)) == (DOWN, 1)


@pytest.mark.parametrize("error", [ServiceUnavailable("x"), TryAgain("x")])
def test_what_passes_by_itself_is_waited_for_however_long(error: Exception) -> None:
    work = Work(*[error] * 20)
    assert work.run(until=21).state == RUNNING


def test_failures_of_long_ago_are_forgotten() -> None:
    work = Work(*[ValueError("x")] * 9)
    assert work.run(Policy(pause=0.05, longest=0.05, failures=3, within=0.08), until=10).state == RUNNING
