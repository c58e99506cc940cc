"""Folders of the driver's own that end with its work, even with the work of one that was killed."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from pathlib import Path

IN_USE = "in-use"


class Scratch:
    """An empty folder for ``name``; what killed processes have left of theirs for the same name is removed first.

    A folder is its owner's as long as that holds a lock on a file in it, which no kill outlives.

    Attributes:
        path: the folder.
    """

    def __init__(self, name: str) -> None:
        prefix = f"lakehouse-{name}-"
        for left in Path(tempfile.gettempdir()).glob(f"{prefix}*/{IN_USE}"):
            _remove_unless_held(left)
        self._folder = Path(tempfile.mkdtemp(prefix=prefix))
        self.path = self._folder / "work"
        self.path.mkdir()
        self._held = (self._folder / IN_USE).open("w")
        fcntl.flock(self._held, fcntl.LOCK_EX)

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._held.close()


def _remove_unless_held(file: Path) -> None:
    try:
        with file.open() as found:
            fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(file.parent, ignore_errors=True)
    except OSError:
        # It is held, or another's, or gone meanwhile.
        return
