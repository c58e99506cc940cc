"""The lease, with real processes: one holder at a time, and a holder that is gone is no obstacle."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from http_proxy import Proxy
from lakehouse import lease, lease_notes
from lakehouse.errors import ConfigurationError, ServiceUnavailable, TryAgain
from loopback import free_port
from s3_server import S3Server
from support import ROOT

HOLDER = """
import sys, time
sys.path.insert(0, {jobs!r})
from lakehouse import lease
with lease.hold({address!r}, "other run", print, every=0.1):
    print("held", flush=True)
    time.sleep(60)
"""
FAR = {"run_id": "far", "host": "elsewhere", "pid": 1, "started": 1.0}
"""A holder on another host."""


class File:
    """Where a lease is a file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "leases" / "merge"
        self.address = str(self.path)

    def write(self, text: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(text)

    def read(self) -> str:
        return self.path.read_text()

    def wait_for_it(self) -> None:
        self.path.with_name("merge.waiting").touch()

    def is_free(self) -> bool:
        return time.time() - self.path.stat().st_mtime > 60


class Object:
    """Where it is an object."""

    def __init__(self, server: S3Server, folder: str, name: str = "merge") -> None:
        self._client, self._key = server.client, f"{folder}/{name}"
        self.address = f"s3a://leases/{self._key}"

    def write(self, text: str) -> None:
        self._client.put_object(Bucket="leases", Key=self._key, Body=text.encode())

    def read(self) -> str:
        return self._client.get_object(Bucket="leases", Key=self._key)["Body"].read().decode()

    def wait_for_it(self) -> None:
        self._client.put_object(Bucket="leases", Key=f"{self._key}.waiting", Body=b"")

    def is_free(self) -> bool:
        return json.loads(self.read()).get("released", False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("server")).running() as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        running.bucket("leases")
        yield running


@pytest.fixture(params=["file", "object"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> File | Object:
    if request.param == "file":
        return File(tmp_path)
    return Object(request.getfixturevalue("server"), tmp_path.name)


def hold(place: File | Object, **options: Any):  # type: ignore[no-untyped-def]
    return lease.hold(place.address, "my run", [].append, **options)


@pytest.fixture
def other(place: File | Object):  # type: ignore[no-untyped-def]
    """Another process that holds the lease."""
    code = HOLDER.format(jobs=str(ROOT / "spark_jobs"), address=place.address)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def foreign(place: File | Object, token: int) -> None:
    """A holder on another host, that has just touched the lease."""
    place.write(json.dumps({"token": token} | FAR))


def token(place: File | Object) -> int:
    return json.loads(place.read())["token"]


def test_the_number_grows_with_each_holder_and_a_released_lease_is_free(place: File | Object) -> None:
    for number in (1, 2, 3):
        with hold(place, patience=0) as held:
            held.check()
            assert token(place) == number


def test_a_lease_that_is_held_makes_others_wait_and_then_try_again(place: File | Object, other) -> None:  # type: ignore[no-untyped-def]
    said: list[str] = []
    with (
        pytest.raises(TryAgain, match=rf"held by other run \(process {other.pid} on "),
        lease.hold(place.address, "my run", said.append, patience=0.5, every=0.1),
    ):
        pytest.fail("two hold it")
    assert len(said) == 1
    assert "other run" in said[0]
    assert token(place) == 1


def test_a_holder_that_was_killed_is_taken_over_at_once(place: File | Object, other) -> None:  # type: ignore[no-untyped-def]
    # Not waited for yet: what is left of it is a zombie.
    other.kill()
    time.sleep(0.2)
    with hold(place, patience=0):
        assert token(place) == 2


def test_a_holder_on_another_host_is_taken_over_when_it_has_been_still_for_too_long(place: File | Object) -> None:
    foreign(place, 7)
    with pytest.raises(TryAgain, match="held by far"), hold(place, patience=0, stale=30):
        pytest.fail("two hold it")
    with hold(place, patience=30, stale=1):
        assert token(place) == 8


def test_a_file_that_was_touched_too_long_ago_is_taken_over_at_once(tmp_path: Path) -> None:
    place = File(tmp_path)
    foreign(place, 7)
    os.utime(place.path, (time.time() - 20,) * 2)
    with pytest.raises(TryAgain, match="held by far"), hold(place, patience=0, stale=30):
        pytest.fail("two hold it")
    with hold(place, patience=0, stale=10):
        assert token(place) == 8


def test_the_holder_touches_it_so_that_it_is_not_taken_for_stale(place: File | Object, other) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(TryAgain, match="held by"), hold(place, patience=2.5, stale=1.5):
        pytest.fail("two hold it")


def test_who_was_taken_over_may_write_no_more_and_says_by_whom(place: File | Object) -> None:
    with hold(place, every=30) as held:
        held.check()
        foreign(place, 9)
        with pytest.raises(TryAgain, match="another run has taken over: far on elsewhere"):
            held.check()
    assert token(place) == 9
    assert not place.is_free(), "the lease of another was released"


def test_a_run_that_ends_because_it_was_taken_over_says_so(place: File | Object) -> None:
    def end_by_a_signal(*, taken: bool) -> None:
        with hold(place, every=30, stale=-1):
            if taken:
                foreign(place, 9)
            raise TryAgain("ended by a signal")

    with pytest.raises(TryAgain, match="another run has taken over"):
        end_by_a_signal(taken=True)
    with pytest.raises(TryAgain, match="ended by a signal"):
        end_by_a_signal(taken=False)


def test_a_process_that_was_taken_over_while_it_slept_ends_by_itself(place: File | Object, other) -> None:  # type: ignore[no-untyped-def]
    foreign(place, 9)
    assert other.wait(timeout=10) == -15


def test_a_file_that_is_no_lease_is_named(place: File | Object) -> None:
    place.write("notes of a person")
    with pytest.raises(ConfigurationError, match="merge: is no lease"), hold(place):
        pytest.fail("held")
    assert place.read() == "notes of a person"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "leases").write_text("a file")
    with pytest.raises(ConfigurationError, match="the lease cannot be taken"), hold(File(tmp_path)):
        pytest.fail("held")


def test_a_put_whose_answer_is_lost_is_ours(server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The library makes it again, and finds what the first one has put."""
    puts = itertools.count(1)

    def answered(method: str, address: str) -> bool:
        return method != "PUT" or next(puts) % 2 == 0

    with Proxy(server.port, lambda *_: None, answered).running() as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{proxy.port}")
        address = f"s3://leases/{tmp_path.name}/lost"
        for number in (1, 2):
            with lease.hold(address, "my run", [].append, patience=0, every=0.2) as held:
                time.sleep(1)
                held.check()
            assert json.loads(Object(server, tmp_path.name, "lost").read())["token"] == number
        assert next(puts) > 8, "nothing was lost"


def test_who_has_released_it_does_not_take_it_again_by_a_late_beat(server: S3Server, tmp_path: Path) -> None:
    place = Object(server, tmp_path.name)
    note = lease_notes.ObjectNote(place.address)
    mine, ours = note.take("my run", 60, False)
    assert ours
    note.release(mine)
    assert note.touch(mine)
    assert place.is_free()


def test_who_cannot_show_that_it_is_alive_ends(server: S3Server, tmp_path: Path) -> None:
    """A store that refuses for a moment is waited for; one that refuses for longer than others wait is not."""
    refuses = threading.Event()

    def before(method: str, address: str) -> int | None:
        return 403 if refuses.is_set() and method == "PUT" else None

    with Proxy(server.port, before).running() as proxy:
        code = HOLDER.replace("every=0.1", "every=0.1, stale=2")
        code = code.format(jobs=str(ROOT / "spark_jobs"), address=f"s3://leases/{tmp_path.name}/refused")
        environment = os.environ | {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{proxy.port}"}
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
        try:
            assert process.stdout
            assert process.stdout.readline() == "held\n"
            refuses.set()
            time.sleep(0.5)
            refuses.clear()
            time.sleep(2.5)
            assert process.poll() is None
            refuses.set()
            assert process.wait(timeout=10) == -15
        finally:
            process.kill()
            process.communicate()


def test_a_bucket_that_is_not_there_is_named(server: S3Server) -> None:
    with (
        pytest.raises(ConfigurationError, match="s3://nowhere/merge: no such bucket"),
        lease.hold("s3://nowhere/merge", "my run", [].append),
    ):
        pytest.fail("held")


def test_a_store_that_does_not_answer_is_worth_another_try(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    with (
        pytest.raises(ServiceUnavailable, match="s3://leases/merge: the lease cannot be reached"),
        lease.hold("s3://leases/merge", "my run", [].append),
    ):
        pytest.fail("held")


def test_of_many_processes_one_at_a_time_holds_it(place: File | Object, tmp_path: Path) -> None:
    code = f"""
import os, sys
sys.path.insert(0, {str(ROOT / "spark_jobs")!r})
from lakehouse import lease
log = os.open({str(tmp_path / "log")!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for _ in range(20):
    with lease.hold({place.address!r}, "run", lambda text: None, every=0.01):
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
    assert token(place) == 100


def test_who_takes_it_again_and_again_lets_those_who_wait_go_first(place: File | Object) -> None:
    order: list[str] = []

    def wait() -> None:
        with lease.hold(place.address, "batch", [].append, every=0.1):
            order.append("batch")

    waiting = threading.Thread(target=wait)
    for n in range(20):
        with lease.hold(place.address, "stream", [].append, every=0.1, yielding=True):
            order.append("stream")
            if n == 3:
                waiting.start()
                time.sleep(0.5)
    waiting.join()
    assert order == ["stream"] * 4 + ["batch"] + ["stream"] * 16


def test_who_has_waited_and_had_its_turn_holds_nobody_up(place: File | Object) -> None:
    with lease.hold(place.address, "batch", [].append, every=0.1):
        place.wait_for_it()
    with lease.hold(place.address, "batch", [].append, every=0.1):
        pass
    begin = time.monotonic()
    with lease.hold(place.address, "stream", [].append, every=0.1, yielding=True):
        assert time.monotonic() - begin < lease_notes.WAITING / 2


def test_who_has_waited_and_is_gone_holds_nobody_up(place: File | Object) -> None:
    with lease.hold(place.address, "stream", [].append, every=0.1):
        place.wait_for_it()
    begin = time.monotonic()
    with lease.hold(place.address, "stream", [].append, every=0.1, yielding=True):
        assert time.monotonic() - begin < lease_notes.WAITING + 2
