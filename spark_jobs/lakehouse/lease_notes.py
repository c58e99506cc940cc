"""Where it is noted who holds a lease: a file, or an object of a store."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import psutil

from lakehouse import storage
from lakehouse.errors import ConfigurationError, ServiceUnavailable, of_a_store, without_answer

if TYPE_CHECKING:
    from obstore import UpdateVersion

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


def _me(before: Holder | None, run_id: str) -> Holder:
    """This process, as the next holder."""
    me = psutil.Process()
    return Holder((before.token if before else 0) + 1, run_id, socket.gethostname(), me.pid, me.create_time())


class Note(Protocol):
    """Who holds one lease, noted where all who may want it can see it."""

    def holder(self) -> Holder | None:
        """Who holds it, or was the last to; raises ConfigurationError if what lies there is no lease."""

    def take(self, run_id: str, stale: float, yielding: bool) -> tuple[Holder, bool]:
        """Note this process as the holder, if nobody holds it or comes before us; gives the holder, and whether that is us."""

    def touch(self, mine: Holder) -> bool:
        """Show that the holder is alive; false if it has been taken over."""

    def release(self, mine: Holder) -> None:
        """Let the next one take it, unless it has been taken over."""


class FileNote:
    """A file in a folder that all hosts share. Its time tells when the holder was last alive, by the file server's clock."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def holder(self) -> Holder | None:
        try:
            return _read(self._path.read_text(encoding="utf-8"), str(self._path))[0]
        except FileNotFoundError:
            return None

    def take(self, run_id: str, stale: float, yielding: bool) -> tuple[Holder, bool]:
        path, waiting = self._path, self._path.with_name(self._path.name + ".waiting")
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._guarded() as now:
            there = self.holder()
            if there is not None and not there.is_gone() and now - path.stat().st_mtime < stale:
                if not yielding:
                    waiting.touch()
                    os.utime(waiting, (now, now))
                return there, False
            if yielding and there is not None and waiting.exists() and now - waiting.stat().st_mtime < WAITING:
                return there, False
            if not yielding:
                waiting.unlink(missing_ok=True)
            mine = _me(there, run_id)
            part = path.with_name(path.name + ".part")
            part.write_text(json.dumps(asdict(mine)), encoding="utf-8")
            part.replace(path)
            return mine, True

    def touch(self, mine: Holder) -> bool:
        now = self.holder()
        if now is None or now.token != mine.token:
            return False
        os.utime(self._path)
        return True

    def release(self, mine: Holder) -> None:
        with self._guarded():
            now = self.holder()
            if now is not None and now.token == mine.token:
                # Kept, for its number: only its time says that nobody holds it.
                os.utime(self._path, (0, 0))

    @contextmanager
    def _guarded(self) -> Iterator[float]:
        """Nobody else looks at the lease or changes it meanwhile; gives the time by the file server's clock."""
        with self._path.with_name(self._path.name + ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.utime(lock.name)
            yield os.fstat(lock.fileno()).st_mtime


@dataclass(frozen=True)
class Noted:
    """What an object says, and which version of it that was."""

    holder: Holder
    released: bool
    beat: int
    nonce: str
    version: UpdateVersion


class ObjectNote:
    """An object, which is only ever written where it still is as it was read: of two who do so at once, one is refused.

    No clock is compared: a holder counts as gone whose object has not changed for so long as somebody has been waiting.
    """

    def __init__(self, address: str) -> None:
        self._address = storage.canonical(address)
        self._store, self._key = storage.objects(self._address)
        self._looked: tuple[UpdateVersion, float] | None = None
        self._noted: Noted | None = None
        # Tells what this one has written from what another thread or run has.
        self._nonce = uuid.uuid4().hex
        # The thread that touches it, and the one that releases it.
        self._writing = threading.Lock()

    def holder(self) -> Holder | None:
        there = self._get()
        return None if there is None else there.holder

    def take(self, run_id: str, stale: float, yielding: bool) -> tuple[Holder, bool]:
        there = self._get()
        if there and not there.released and not there.holder.is_gone() and not self._is_stale(there, stale):
            if not yielding:
                self._put(f"{self._key}.waiting", b"", None)
            return there.holder, False
        if yielding and there and self._is_awaited():
            return there.holder, False
        if not yielding:
            self._no_more_waiting()
        mine = _me(there.holder if there else None, run_id)
        if self._write(mine, there):
            return mine, True
        # Somebody has been quicker.
        return self.holder() or mine, False

    def touch(self, mine: Holder) -> bool:
        with self._writing:
            # A beat that comes after the end must not take it again.
            return bool(self._noted and self._noted.released) or self._write(mine, self._noted)

    def release(self, mine: Holder) -> None:
        with self._writing:
            self._write(mine, self._noted, released=True)

    def _write(self, mine: Holder, before: Noted | None, released: bool = False) -> bool:
        """Note the holder if the object is still as it was; false if it is not."""
        # A store may name versions by content, so no two are alike.
        noted = Noted(mine, released, before.beat + 1 if before else 0, self._nonce, {})
        text = json.dumps(asdict(mine) | {"released": released, "beat": noted.beat, "nonce": self._nonce})
        version = self._put(self._key, text.encode(), before.version if before else "create")
        if version is not None:
            self._noted = replace(noted, version=version)
            return True
        # Of a put whose answer is lost, the library makes another one, which finds the first.
        there = self._get()
        if there is None or (there.nonce, there.beat, there.holder) != (self._nonce, noted.beat, mine):
            return False
        self._noted = there
        return True

    def _is_stale(self, there: Noted, stale: float) -> bool:
        now = time.monotonic()
        if self._looked is None or self._looked[0] != there.version:
            self._looked = (there.version, now)
        return now - self._looked[1] > stale

    def _is_awaited(self) -> bool:
        import obstore

        with self._reaching(), suppress(FileNotFoundError):
            waiting = obstore.head(self._store, f"{self._key}.waiting")
            return datetime.now(UTC) - waiting["last_modified"] < timedelta(seconds=WAITING)
        return False

    def _no_more_waiting(self) -> None:
        import obstore

        with self._reaching(), suppress(FileNotFoundError):
            obstore.delete(self._store, f"{self._key}.waiting")

    def _get(self) -> Noted | None:
        import obstore

        with self._reaching(), suppress(FileNotFoundError):
            found = obstore.get(self._store, self._key)
            version: Any = {name: value for name in ("e_tag", "version") if (value := found.meta[name])}
            holder, other = _read(bytes(found.bytes()).decode(errors="replace"), self._address)
            return Noted(
                holder, bool(other.get("released")), int(other.get("beat", 0)), str(other.get("nonce", "")), version
            )  # fmt: skip
        return None

    def _put(self, key: str, content: bytes, mode: Any) -> UpdateVersion | None:
        """Write an object; the version that it is now, or None if another has been there before."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with self._reaching():
            try:
                done = obstore.put(self._store, key, content, mode=mode, use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                return None
            except FileNotFoundError as error:
                raise ConfigurationError("no such bucket", where=self._address, todo="Make it first.") from error
            return {name: value for name in ("e_tag", "version") if (value := done[name])}  # type: ignore[return-value]

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Give the store's errors names of ours."""
        from obstore import exceptions

        try:
            yield
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError):
            raise ConfigurationError(
                "the lease cannot be taken: access is denied", where=self._address,
                todo="Check the credentials, and their rights to read, write and delete there.",
            ) from None  # fmt: skip
        except exceptions.BaseError as error:
            known = of_a_store(str(error))
            if known is not None and not isinstance(known, ServiceUnavailable):
                raise known from None
            raise ServiceUnavailable(
                f"the lease cannot be reached: {without_answer(str(error))[:300]}", where=self._address,
                todo="Check the address; run it again when the store answers.",
            ) from None  # fmt: skip


def _read(text: str, where: str) -> tuple[Holder, dict[str, Any]]:
    """The holder that a note names, and what else it says."""
    try:
        found = json.loads(text)
        other = {name: found.pop(name) for name in ("released", "beat", "nonce") if name in found}
        return Holder(**found), other
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            "is no lease", where=where, todo="Name another file, or remove it when no stage runs."
        ) from error
