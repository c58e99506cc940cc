"""Loading and refining by turns."""

from __future__ import annotations

import threading
import time

import pytest
from lakehouse.streaming import turns
from lakehouse.streaming.turns import Turns


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "LOOK_SECONDS", 0.001)


def waiting(turn: Turns) -> threading.Thread:
    """An input that has loaded something, and waits."""
    thread = threading.Thread(target=turn.wait_for_silver, daemon=True)
    thread.start()
    time.sleep(0.05)
    return thread


def goes_on(thread: threading.Thread) -> bool:
    thread.join(0.3)
    return not thread.is_alive()


def nothing_loading() -> bool:
    return False


def test_an_input_waits_for_a_round_that_begins_after_its_batch() -> None:
    turn = Turns(threading.Event())
    one = waiting(turn)
    with turn.round(nothing_loading):
        assert not goes_on(one)
        # Loaded while a round is at work: that one may have missed it.
        other = waiting(turn)
    assert goes_on(one)
    assert not goes_on(other)
    with turn.round(nothing_loading):
        assert not goes_on(other)
    assert goes_on(other)


def test_a_round_that_fails_has_ended_too() -> None:
    turn = Turns(threading.Event())
    one = waiting(turn)
    with pytest.raises(ValueError), turn.round(nothing_loading):
        raise ValueError
    assert goes_on(one)


def test_an_input_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.1)
    assert goes_on(waiting(Turns(threading.Event())))


def test_an_input_that_is_told_to_stop_waits_no_longer() -> None:
    stop = threading.Event()
    one = waiting(Turns(stop))
    stop.set()
    assert goes_on(one)


def test_a_round_takes_what_is_being_loaded_along() -> None:
    turn, loading, begun = Turns(threading.Event()), threading.Event(), threading.Event()
    loading.set()

    def work() -> None:
        with turn.round(loading.is_set):
            begun.set()

    threading.Thread(target=work, daemon=True).start()
    assert not begun.wait(0.2)
    loading.clear()
    assert begun.wait(1)


def test_a_round_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "GATHER_SECONDS", 0.1)
    begun = time.monotonic()
    with Turns(threading.Event()).round(lambda: True):
        assert 0.1 <= time.monotonic() - begun < 5
