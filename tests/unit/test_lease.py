"""The lease, with real processes: one holder at a time, and a holder that is gone is no obstacle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from lakehouse import lease
from lakehouse.errors import ConfigurationError, TryAgain
from support import ROOT

HOLDER = """
import sys, time
sys.path.insert(0, {jobs!r})
from lakehouse import lease
with lease.hold({path!r}, "other run", print, every=0.1):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(path: Path, **options: float):  # type: ignore[no-untyped-def]
    return lease.hold(str(path), "my run", [].append, **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "leases" / "merge"


@pytest.fixture
def other(path: Path):  # type: ignore[no-untyped-def]
    """Another process that holds the lease."""
    code = HOLDER.format(jobs=str(ROOT / "spark_jobs"), path=str(path))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def foreign(path: Path, token: int, seconds_ago: float) -> None:
    """A holder on another host, that has touched the lease so long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"token": token, "run_id": "far", "host": "elsewhere", "pid": 1, "started": 1.0}))
    os.utime(path, (time.time() - seconds_ago,) * 2)


def token(path: Path) -> int:
    return json.loads(path.read_text())["token"]


def test_the_number_grows_with_each_holder_and_a_released_lease_is_free(path: Path) -> None:
    for number in (1, 2, 3):
        with hold(path, patience=0) as held:
            held.check()
            assert token(path) == number


def test_a_lease_that_is_held_makes_others_wait_and_then_try_again(path: Path, other) -> None:  # type: ignore[no-untyped-def]
    said: list[str] = []
    with (
        pytest.raises(TryAgain, match=rf"held by other run \(process {other.pid} on "),
        lease.hold(str(path), "my run", said.append, patience=0.5, every=0.1),
    ):
        pytest.fail("two hold it")
    assert len(said) == 1
    assert "other run" in said[0]
    assert token(path) == 1


def test_a_holder_that_was_killed_is_taken_over_at_once(path: Path, other) -> None:  # type: ignore[no-untyped-def]
    # Not waited for yet: what is left of it is a zombie.
    other.kill()
    time.sleep(0.2)
    with hold(path, patience=0):
        assert token(path) == 2


def test_a_holder_on_another_host_is_taken_over_when_it_has_been_still_for_too_long(path: Path) -> None:
    foreign(path, 7, seconds_ago=20)
    with pytest.raises(TryAgain, match="held by far"), hold(path, patience=0, stale=30):
        pytest.fail("two hold it")
    with hold(path, patience=0, stale=10):
        assert token(path) == 8


def test_the_holder_touches_it_so_that_it_is_not_taken_for_stale(path: Path, other) -> None:  # type: ignore[no-untyped-def]
    time.sleep(1.5)
    with pytest.raises(TryAgain, match="held by"), hold(path, patience=0, stale=1):
        pytest.fail("two hold it")


def test_who_was_taken_over_may_write_no_more_and_says_by_whom(path: Path) -> None:
    with hold(path, every=30) as held:
        held.check()
        foreign(path, 9, seconds_ago=0)
        with pytest.raises(TryAgain, match="another run has taken over: far on elsewhere"):
            held.check()
    assert token(path) == 9
    assert time.time() - path.stat().st_mtime < 60, "the lease of another was released"


def test_a_run_that_ends_because_it_was_taken_over_says_so(path: Path) -> None:
    def end_by_a_signal(*, taken: bool) -> None:
        with hold(path, every=30, stale=-1):
            if taken:
                foreign(path, 9, seconds_ago=0)
            raise TryAgain("ended by a signal")

    with pytest.raises(TryAgain, match="another run has taken over"):
        end_by_a_signal(taken=True)
    with pytest.raises(TryAgain, match="ended by a signal"):
        end_by_a_signal(taken=False)


def test_a_process_that_was_taken_over_while_it_slept_ends_by_itself(path: Path, other) -> None:  # type: ignore[no-untyped-def]
    foreign(path, 9, seconds_ago=0)
    assert other.wait(timeout=10) == -15


def test_a_file_that_is_no_lease_is_named(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("notes of a person")
    with pytest.raises(ConfigurationError, match="merge: is no lease"), hold(path):
        pytest.fail("held")
    assert path.read_text() == "notes of a person"


def test_a_folder_that_cannot_be_made_is_named(path: Path) -> None:
    path.parent.write_text("a file")
    with pytest.raises(ConfigurationError, match="the lease cannot be taken"), hold(path):
        pytest.fail("held")


def test_of_many_processes_one_at_a_time_holds_it(path: Path, tmp_path: Path) -> None:
    code = f"""
import os, sys
sys.path.insert(0, {str(ROOT / "spark_jobs")!r})
from lakehouse import lease
log = os.open({str(tmp_path / "log")!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for _ in range(20):
    with lease.hold({str(path)!r}, "run", lambda text: None, every=0.01):
        os.write(log, b"in %d\\n" % os.getpid())
        os.write(log, b"out %d\\n" % os.getpid())
"""
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(5)]
    assert [p.wait(timeout=60) for p in processes] == [0] * 5
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 5 * 20 * 2
    assert all(
        a.split() == ["in", pid] and b == f"out {pid}"
        for a, b in zip(lines[::2], lines[1::2], strict=True)
        for pid in [a.split()[1]]
    )
    assert token(path) == 100


def test_who_takes_it_again_and_again_lets_those_who_wait_go_first(path: Path) -> None:
    order: list[str] = []

    def wait() -> None:
        with lease.hold(str(path), "batch", [].append, every=0.1):
            order.append("batch")

    waiting = threading.Thread(target=wait)
    for n in range(20):
        with lease.hold(str(path), "stream", [].append, every=0.1, yielding=True):
            order.append("stream")
            if n == 3:
                waiting.start()
                time.sleep(0.5)
    waiting.join()
    assert order == ["stream"] * 4 + ["batch"] + ["stream"] * 16


def test_who_has_waited_and_had_its_turn_holds_nobody_up(path: Path) -> None:
    with lease.hold(str(path), "batch", [].append, every=0.1):
        path.with_name("merge.waiting").touch()
    with lease.hold(str(path), "batch", [].append, every=0.1):
        pass
    begin = time.monotonic()
    with lease.hold(str(path), "stream", [].append, every=0.1, yielding=True):
        assert time.monotonic() - begin < lease.WAITING / 2


def test_who_has_waited_and_is_gone_holds_nobody_up(path: Path) -> None:
    with lease.hold(str(path), "stream", [].append, every=0.1):
        path.with_name("merge.waiting").touch()
    begin = time.monotonic()
    with lease.hold(str(path), "stream", [].append, every=0.1, yielding=True):
        assert time.monotonic() - begin < lease.WAITING + 2
