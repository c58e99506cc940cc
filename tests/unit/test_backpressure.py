"""Loading waits for refining."""

from __future__ import annotations

import threading
import time

import pytest
from lakehouse.streaming import backpressure
from lakehouse.streaming.backpressure import Backpressure


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backpressure, "LOOK_SECONDS", 0.001)


def waiting(pressure: Backpressure) -> threading.Thread:
    """An input that has loaded something, and waits."""
    thread = threading.Thread(target=pressure.wait_for_silver, daemon=True)
    thread.start()
    time.sleep(0.05)
    return thread


def goes_on(thread: threading.Thread) -> bool:
    thread.join(0.3)
    return not thread.is_alive()


def nothing_loading() -> bool:
    return False


def test_an_input_waits_for_a_round_that_begins_after_its_batch() -> None:
    pressure = Backpressure(threading.Event())
    one = waiting(pressure)
    with pressure.round(nothing_loading):
        assert not goes_on(one)
        # Loaded while a round is at work: that one may have missed it.
        other = waiting(pressure)
    assert goes_on(one)
    assert not goes_on(other)
    with pressure.round(nothing_loading):
        assert not goes_on(other)
    assert goes_on(other)


def test_a_round_that_fails_has_ended_too() -> None:
    pressure = Backpressure(threading.Event())
    one = waiting(pressure)
    with pytest.raises(ValueError), pressure.round(nothing_loading):
        raise ValueError
    assert goes_on(one)


def test_an_input_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backpressure, "SILVER_SECONDS", 0.1)
    assert goes_on(waiting(Backpressure(threading.Event())))


def test_an_input_that_is_told_to_stop_waits_no_longer() -> None:
    stop = threading.Event()
    one = waiting(Backpressure(stop))
    stop.set()
    assert goes_on(one)


def test_a_round_takes_what_is_being_loaded_along() -> None:
    pressure, loading, begun = Backpressure(threading.Event()), threading.Event(), threading.Event()
    loading.set()

    def work() -> None:
        with pressure.round(loading.is_set):
            begun.set()

    threading.Thread(target=work, daemon=True).start()
    assert not begun.wait(0.2)
    loading.clear()
    assert begun.wait(1)


def test_a_round_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backpressure, "GATHER_SECONDS", 0.1)
    begun = time.monotonic()
    with Backpressure(threading.Event()).round(lambda: True):
        assert 0.1 <= time.monotonic() - begun < 5
