"""The landing folder: which files are there, and what their first line says.

Files are looked at through pyarrow's file systems (local, HDFS, S3, GCS, Azure), so that finding
out that nothing is new takes no Spark job.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import os
import posixpath
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase

import pyarrow as pa
from pyarrow import fs

from lakehouse.errors import ServiceUnavailable, UsageError
from lakehouse.sources import Input

HEADER_BYTES, CHUNK_BYTES = 1 << 20, 1 << 22
ARCHIVE = "_archive"
"""The folder below the landing folder that takes loaded files; discovery passes it over."""
SINGLE_BYTE_QUOTE = ("utf-8", "us-ascii", "iso-8859-1")
"""Encodings in which a quote is one byte, and that byte is nothing else."""
GLOB = re.compile(r"[\\\[\]{}*?]")
"""Characters of a file name that Spark would take for a pattern."""


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


def is_uri(location: str) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", location) is not None


def _escape(match: re.Match[str]) -> str:
    return "\\" + match[0]


def _modified(info: fs.FileInfo) -> datetime:
    return datetime.fromtimestamp((info.mtime_ns or 0) // 1_000_000 / 1000, tz=UTC)


class Landing:
    """The folder (or object-store prefix) that holds one folder per source."""

    def __init__(self, location: str) -> None:
        """Raises UsageError when there is no such folder, ServiceUnavailable when its store cannot be reached."""
        self.location = location.rstrip("/") or "/"
        if not is_uri(self.location):
            # Not resolve(): Spark reports a link's address, not what it points to.
            self.location = os.path.abspath(self.location)  # noqa: PTH100
        uri = self.location.replace("s3a://", "s3://", 1)
        try:
            store = fs.FileSystem.from_uri(uri) if is_uri(uri) else (fs.LocalFileSystem(), uri)
            self._fs: fs.FileSystem = store[0]
            self._root: str = store[1]
            kind = self._fs.get_file_info(self._root).type
        except (OSError, pa.ArrowException) as error:
            raise ServiceUnavailable(
                " ".join(str(error).split()), where=location, todo="Check the address and the credentials."
            ) from error
        if kind != fs.FileType.Directory:
            raise UsageError("no such folder", where=location, todo="Point --landing at the folder with the sources.")

    def uri(self, path: str) -> str:
        """The address of a landed file for Spark."""
        return f"{self.location}/{GLOB.sub(_escape, path)}"

    def is_unchanged(self, file: LandedFile) -> bool:
        """Whether a file is still the one that was discovered."""
        info = self._fs.get_file_info(f"{self._root}/{file.path}")
        return info.type == fs.FileType.File and (info.size or 0, _modified(info)) == (file.size, file.modified)

    @property
    def address(self) -> str:
        """The folder as it stands in the addresses that Spark reports for its files, decoded."""
        return self._root

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

    def find(self, source: Input) -> list[LandedFile] | None:
        """The input's files in all subfolders, by path; None when its folder is not there.

        Names that begin with ``_`` or ``.`` are passed over, at any depth, and so are the input's
        ignore patterns.
        """
        base = f"{self._root}/{source.path}"
        if self._fs.get_file_info(base).type != fs.FileType.Directory:
            return None
        found = []
        for info in self._fs.get_file_info(fs.FileSelector(base, recursive=True)):
            if info.type != fs.FileType.File:
                continue
            inside = info.path[len(base) + 1 :]
            if any(part.startswith(("_", ".")) for part in inside.split("/")):
                continue
            if not fnmatchcase(info.base_name, source.pattern):
                continue
            if any(fnmatchcase(info.base_name, pattern) for pattern in source.ignore):
                continue
            found.append(LandedFile(f"{source.path}/{inside}", info.size or 0, _modified(info)))
        return sorted(found, key=lambda f: f.path)

    def headers(self, source: Input, files: list[LandedFile]) -> dict[LandedFile, tuple[str, ...] | Unreadable]:
        """The column names of each CSV file, or why it has none."""

        def one(file: LandedFile) -> tuple[str, ...] | Unreadable:
            try:
                return self._header(source, file)
            except Unreadable as error:
                return error

        with ThreadPoolExecutor(max_workers=16) as pool:
            return dict(zip(files, pool.map(one, files), strict=True))

    def _can_be_read(self, file: LandedFile) -> bool:
        try:
            with self._fs.open_input_stream(f"{self._root}/{file.path}", compression=None) as stream:
                stream.read(1)
        except (OSError, pa.ArrowException):
            return False
        return True

    def _header(self, source: Input, file: LandedFile) -> tuple[str, ...]:
        options = dict(source.options)
        encoding, quote = options.get("encoding", "utf-8"), options.get("quote", '"')
        single_byte = quote != "" and encoding.lower() in SINGLE_BYTE_QUOTE and not {"escape", "comment"} & {*options}
        try:
            with self._fs.open_input_stream(f"{self._root}/{file.path}", compression="detect") as stream:
                head = stream.read(HEADER_BYTES)
                quotes = head.count(quote.encode())
                while chunk := stream.read(CHUNK_BYTES) if single_byte else b"":
                    quotes += chunk.count(quote.encode())
        except PermissionError as error:
            raise Unreachable("may not be opened: check its owner and permissions") from error
        except (OSError, pa.ArrowException) as error:
            if not self._can_be_read(file):
                raise Unreachable(f"cannot be opened now: {' '.join(str(error).split())}") from error
            raise Unreadable(f"cannot be unpacked: {' '.join(str(error).split())}") from error
        if b"\0" in head and encoding.lower().replace("-", "") == "utf8":
            raise Unreadable("holds NUL bytes: not text, or not in UTF-8; declare its encoding in source.yaml")
        first = head.split(b"\n", 1)[0] if encoding.lower().replace("-", "") == "utf8" else head
        try:
            codecs.getincrementaldecoder(encoding)().decode(first, final=False)
        except UnicodeDecodeError as error:
            raise Unreadable(f"its first line is not {encoding}; declare the encoding in source.yaml") from error
        text = io.TextIOWrapper(io.BytesIO(head), encoding=encoding, errors="replace", newline="")
        reader = csv.reader(text, delimiter=options.get("sep", ","), quotechar=quote or None)
        try:
            names = next(reader, [])
        except csv.Error as error:
            raise Unreadable(f"its first line is not CSV: {error}") from error
        names = [name.removeprefix("\ufeff").strip() if n == 0 else name.strip() for n, name in enumerate(names)]
        if len(set(names)) != len(names):
            twice = sorted({n for n in names if names.count(n) > 1})
            raise Unreadable(f"its header names a column twice: {', '.join(repr(n) for n in twice)}")
        # In RFC 4180 quotes come in pairs. One that stays open would take all lines after it into its cell.
        if single_byte and quotes % 2 and self._never_ends(file, options.get("sep", ","), quote):
            raise Unreadable("a quoted field never ends: the file is cut short, or a quote is missing")
        return tuple(names)

    def _never_ends(self, file: LandedFile, sep: str, quote: str) -> bool:
        """Whether the file ends inside a quoted field.

        A quote at the beginning of a field opens it, two quotes within it are one of its characters, and
        the next one closes it; a quote elsewhere is a character like others.
        """
        q, begins = quote.encode(), (b"\n", b"\r", sep.encode()[-1:])
        # The byte before the place that has been reached is kept, and so is the last one of a chunk: two
        # quotes in a row must be seen together.
        buffer, place, opened = b"\n", 1, False
        with self._fs.open_input_stream(f"{self._root}/{file.path}", compression="detect") as stream:
            chunk = stream.read(CHUNK_BYTES).removeprefix(codecs.BOM_UTF8)
            while True:
                buffer, place = buffer[place - 1 :] + chunk, 1
                end = len(buffer) - (1 if chunk else 0)
                while place < end:
                    found = buffer.find(q, place, end)
                    if found < 0:
                        place = end
                    elif opened and buffer[found + 1 : found + 2] == q:
                        place = found + 2
                    else:
                        opened = not opened and buffer[found - 1 : found] in begins
                        place = found + 1
                if not chunk:
                    return opened
                chunk = stream.read(CHUNK_BYTES)
