"""The landing folder: which files are there, and their bytes.

Files are looked at through pyarrow's file systems (local, HDFS, S3, GCS, Azure), so that finding
out that nothing is new takes no Spark job.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

import pyarrow as pa
from pyarrow import fs

from lakehouse import storage
from lakehouse.errors import ConfigurationError, ServiceUnavailable, UsageError
from lakehouse.runtime.delta_log import without_patterns
from lakehouse.sources import Input

CHUNK_BYTES = 1 << 22
ARCHIVE = "_archive"
"""The folder below the landing folder that takes loaded files; discovery passes it over."""
HIDDEN, BEING_COPIED = ("_", "."), "._COPYING_"
PLAIN_FILES = {
    "fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    "fs.file.impl.disable.cache": "true",
}
"""Reads files of the machine without Hadoop's checksums: these cannot stand beside a name with a colon, and one that was
left behind by another version of a file makes it unreadable."""
COMPRESSIONS = {".gz": "gzip", ".gzip": "gzip", ".bz2": "bz2", ".zst": "zstd"}
"""By the end of a file's name, what Spark and Python both unpack."""
PACKED = (
    ".deflate",
    ".snappy",
    ".lz4",
    ".xz",
    ".br",
    ".zip",
    ".7z",
    ".rar",
    ".tar",
    ".tgz",
    ".z",
    ".lzo",
    ".lzma",
    ".zlib",
)
"""Ends of names of what they do not, or not alike."""
MAGIC = {
    "gzip": b"\x1f\x8b\x08",
    "bz2": b"BZh",
    "zstd": b"\x28\xb5\x2f\xfd",
    "lz4": b"\x04\x22\x4d\x18",
    "xz": b"\xfd7zXZ\x00",
    "zip": b"PK\x03\x04",
    "7z": b"7z\xbc\xaf\x27\x1c",
    "snappy": b"\xff\x06\x00\x00sNaPpY",
    "Parquet": b"PAR1",
    "Avro": b"Obj\x01",
    "PDF": b"%PDF-",
}
"""How files of other kinds begin, by what they are called."""


@dataclass(frozen=True)
class LandedFile:
    """A file as found. ``path`` is relative to the landing folder, ``modified`` in whole ms, UTC."""

    path: str
    size: int
    modified: datetime
    sha256: str | None = field(default=None, compare=False)


class Unreadable(Exception):
    """A file that cannot be loaded as it is; the message says why."""


class Unreachable(Unreadable):
    """A file that could not be opened; nothing is known of its content, so it is tried again next time."""


def _modified(nanoseconds: int | None) -> datetime:
    return datetime.fromtimestamp((nanoseconds or 0) // 1_000_000 / 1000, tz=UTC)


class Landing:
    """The folder (or object-store prefix) that holds one folder per source."""

    def __init__(self, location: str) -> None:
        """Raises UsageError when there is no such folder, ServiceUnavailable when its store cannot be reached."""
        self.location = storage.canonical(location)
        try:
            self._fs, self._root = storage.place(self.location)
            kind = self._fs.get_file_info(self._root).type
        except (OSError, pa.ArrowException) as error:
            words = " ".join(str(error).split())
            if re.search(r"ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|HTTP status 40[13]", words):
                raise ConfigurationError(
                    words, where=location, todo="Check the credentials and their rights."
                ) from error
            raise ServiceUnavailable(words, where=location, todo="Check the address and the credentials.") from error
        if kind != fs.FileType.Directory:
            raise UsageError("no such folder", where=location, todo="Point --landing at the folder with the sources.")

    def uri(self, path: str) -> str:
        """The address of a landed file for Spark."""
        return without_patterns(f"{self.location}/{path}")

    @property
    def reader_options(self) -> dict[str, str]:
        """What Spark's readers must be told to open any file of this folder."""
        return PLAIN_FILES if isinstance(self._fs, fs.LocalFileSystem) else {}

    def open(self, file: LandedFile) -> Any:
        """The bytes of a file as they lie there, as a file object that can seek.

        Raises:
            Unreachable: it cannot be opened now.
        """
        try:
            return self._fs.open_input_file(f"{self._root}/{file.path}")
        except PermissionError as error:
            raise Unreachable("may not be opened: check its owner and permissions") from error
        except (OSError, pa.ArrowException) as error:
            raise Unreachable(f"cannot be opened now: {' '.join(str(error).split())}") from error

    def unpacked(self, file: LandedFile) -> Any:
        """The content of a text file, unpacked by the end of its name, as a file object.

        Raises:
            Unreachable: it cannot be opened now.
            Unreadable: it is packed in a way that Spark does not unpack, or not as its name says.
        """
        suffix = posixpath.splitext(file.path)[1].lower()
        named = COMPRESSIONS.get(suffix)
        with self.open(file) as stream:
            head = stream.read(16)
        inside = next((kind for kind, magic in MAGIC.items() if head.startswith(magic)), None)
        if suffix in PACKED or inside not in (None, *COMPRESSIONS.values()):
            what = inside if inside else f"packed as {suffix}"
            raise Unreadable(f"is {what}, which is not read here: deliver text, plain or as .gz, .bz2 or .zst")
        if inside != named and file.size:
            raise Unreadable(
                f"is named {suffix}, but is not packed so"
                if inside is None
                else f"is {inside} inside, but not by its name"
            )
        return self.open(file) if named is None else pa.CompressedInputStream(self.open(file), named)

    def is_unchanged(self, file: LandedFile) -> bool:
        """Whether a file is still the one that was discovered."""
        info = self._fs.get_file_info(f"{self._root}/{file.path}")
        return info.type == fs.FileType.File and (info.size or 0, _modified(info.mtime_ns)) == (
            file.size,
            file.modified,
        )

    @property
    def address(self) -> str:
        """The folder as it stands in the addresses that Spark reports for its files, decoded."""
        return storage.below(self.location)

    def with_hash(self, files: list[LandedFile]) -> list[LandedFile]:
        """The files with the SHA-256 of their content; one that cannot be read now has none."""

        def one(file: LandedFile) -> LandedFile:
            digest = hashlib.sha256()
            try:
                with self._fs.open_input_stream(f"{self._root}/{file.path}", compression=None) as stream:
                    while chunk := stream.read(CHUNK_BYTES):
                        digest.update(chunk)
            except (OSError, pa.ArrowException):
                return file
            return replace(file, sha256=digest.hexdigest())

        with ThreadPoolExecutor(max_workers=16) as pool:
            return list(pool.map(one, files))

    def archived(self, file: LandedFile) -> str:
        """Where a file goes when it is archived: below ``_archive``, named by its modification time too."""
        folder, name = posixpath.split(file.path)
        return f"{ARCHIVE}/{folder}/{file.modified:%Y%m%dT%H%M%S.%f}Z_{name}"

    def archive(self, file: LandedFile) -> None:
        """Move a file to its place in the archive, unless another has taken its place; raises OSError."""
        if self.is_unchanged(file):
            target = f"{self._root}/{self.archived(file)}"
            self._fs.create_dir(posixpath.dirname(target), recursive=True)
            self._fs.move(f"{self._root}/{file.path}", target)

    def delete(self, file: LandedFile) -> None:
        """Delete a file, unless another has taken its place; raises OSError."""
        if self.is_unchanged(file):
            self._fs.delete_file(f"{self._root}/{file.path}")

    def find(self, source: Input, tell: Callable[[str], None] = lambda text: None) -> list[LandedFile] | None:
        """The input's files in all subfolders, by path; None when its folder is not there.

        Names that begin with ``_`` or ``.`` are passed over, at any depth, and so are the input's
        ignore patterns, and files that Hadoop is still copying.

        Args:
            tell: is told what lies there and cannot be loaded, as text for a person.
        """
        base = f"{self._root}/{source.path}"
        if storage.has_folders(self.location):
            there = self._fs.get_file_info(base).type
            if there == fs.FileType.File:
                tell(f"{source.path} is a file, where the input's folder should be")
            if there != fs.FileType.Directory:
                return None
        if isinstance(self._fs, fs.LocalFileSystem):
            lying = _walk(base, lambda path, what: tell(f"{source.path}/{path} {what}"))
        else:
            listed = self._fs.get_file_info(fs.FileSelector(base, allow_not_found=True, recursive=True))
            if not listed and not storage.has_folders(self.location):
                return None
            lying = (
                (info.path[len(base) + 1 :], info.size or 0, _modified(info.mtime_ns))
                for info in listed
                if info.type == fs.FileType.File
            )
        found = []
        for inside, size, modified in lying:
            parts = inside.split("/")
            if any(part.startswith(HIDDEN) for part in parts) or parts[-1].endswith(BEING_COPIED):
                continue
            if not fnmatchcase(parts[-1], source.pattern):
                continue
            if any(fnmatchcase(parts[-1], pattern) for pattern in source.ignore):
                continue
            found.append(LandedFile(f"{source.path}/{inside}", size, modified))
        return sorted(found, key=lambda f: f.path)


def _walk(root: str, tell: Callable[[str, str], None]) -> Iterator[tuple[str, int, datetime]]:
    """(path below ``root``, bytes, modified) of each file in a folder of this machine and below it, however deep.

    Args:
        tell: is told the path of what is passed over, and why.
    """
    # Folders to look into: the path below the root, and device and number of those on the way. A link back to one is not followed.
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while waiting:
        inside, above = waiting.pop()
        try:
            status = os.stat(f"{root}/{inside}")  # noqa: PTH116
            # The class of a path would take a name that is no text for another one.
            entries = sorted(os.scandir(f"{root}/{inside}"), key=lambda e: e.name)
        except OSError as error:
            tell(inside, f"cannot be looked into: {error.strerror}")
            continue
        here = (status.st_dev, status.st_ino)
        if here in above:
            continue
        for entry in entries:
            path = f"{inside}/{entry.name}" if inside else entry.name
            if entry.name.startswith(HIDDEN):
                continue
            try:
                path.encode()
            except UnicodeEncodeError:
                tell(path.encode(errors="backslashreplace").decode(), "has a name that is not UTF-8: rename it")
                continue
            try:
                if entry.is_dir():
                    waiting.append((path, above | {here}))
                elif entry.is_file():
                    status = entry.stat()
                    yield path, status.st_size, _modified(status.st_mtime_ns)
                else:
                    tell(path, "is a link to nothing" if entry.is_symlink() else "is no file")
            except OSError as error:
                tell(path, f"cannot be looked at: {error.strerror}")
