"""One batch of files to bronze: whatever one of them does, all others are loaded."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import unquote

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame

from lakehouse.context import Context
from lakehouse.errors import InternalError, named
from lakehouse.ingestion import columns, readers
from lakehouse.ingestion.landing import LandedFile, Landing, Unreachable, Unreadable
from lakehouse.ingestion.layouts import Layout, layouts
from lakehouse.ingestion.ledger import LOADED, RETURNED, SET_ASIDE, Entry, files_in_bronze
from lakehouse.runtime.progress import Batch
from lakehouse.sources import Input

UNDECLARED = "has undeclared columns"
OF_SPARK = (PySparkException, Py4JJavaError)
"""What a file may have Spark raise; anything else is our own fault."""
NO_ROW = "has content, but no row was found in it"
SHOWN = 300
"""Characters of Spark's words on a file."""


def load(context: Context, landing: Landing, source: Input, batch: Batch, files: list[LandedFile]) -> list[Entry]:
    """Write one batch's bronze rows; returns what became of each file."""
    report, warehouse, table = context.report, context.warehouse, f"bronze.{source.name}"
    ends: dict[LandedFile, Entry] = {}
    with report.step(f"load {source.name}"):
        interrupted = batch.redo and warehouse.rows_of_batch(table, batch.batch_id) > 0
        sound = {} if interrupted else _sound(context, landing, source, files, ends)
        while sound:
            try:
                _write(context, landing, source, batch, sound, ends)
                break
            except OF_SPARK as error:
                if named(error) is not None:
                    raise
                culprits = _culprits(context, landing, source, batch, sound, error)
                if not culprits:
                    raise
                for file, reason in culprits.items():
                    ends[file] = Entry(file, SET_ASIDE, reason)
                    del sound[file]
    with report.step(f"count {source.name}"):
        counts = {e.file.path: (e.rows, e.corrupt_rows) for e in files_in_bronze(warehouse, table, batch)}
    strange = set(counts) - {f.path for f in files}
    if strange:
        raise InternalError(
            f"rows of {', '.join(sorted(strange)[:3])}, which the batch did not plan",
            where=f"batch {batch.batch_id} of {source.name}",
            todo="Nothing of this batch is validated. Report this with the landing folder's address.",
        )
    for file in files:
        if file.path in counts:
            ends[file] = Entry(file, LOADED, None, *counts[file.path])
        elif file not in ends and interrupted:
            # Whether it was empty or could not be read, the interrupted run did not live to say.
            ends[file] = Entry(file, RETURNED, "not loaded by the interrupted run")
        elif file not in ends:
            ends[file] = Entry(file, SET_ASIDE, NO_ROW) if sound[file].has_rows else Entry(file, LOADED, None, 0, 0)
    _tell(context, table, list(ends.values()))
    return list(ends.values())


def _sound(
    context: Context, landing: Landing, source: Input, files: list[LandedFile], ends: dict[LandedFile, Entry]
) -> dict[LandedFile, Layout]:
    """The layouts of the files that can be read; of the others, the end is added to ``ends``."""
    for file in files:
        if not landing.is_unchanged(file):
            ends[file] = Entry(file, RETURNED, "changed since it was discovered")
        elif file.size == 0:
            ends[file] = Entry(file, LOADED, None, 0, 0)
    sound: dict[LandedFile, Layout] = {}
    for file, layout in layouts(landing, source, [f for f in files if f not in ends]).items():
        if isinstance(layout, Unreadable):
            state = RETURNED if isinstance(layout, Unreachable) else SET_ASIDE
            ends[file] = Entry(file, state, str(layout))
        elif not layout.has_rows:
            ends[file] = Entry(file, LOADED, None, 0, 0)
        else:
            sound[file] = layout
            if layout.remark:
                context.report.warn(f"{file.path}: {layout.remark}")
    return sound


def _write(
    context: Context, landing: Landing, source: Input, batch: Batch,
    sound: dict[LandedFile, Layout], ends: dict[LandedFile, Entry],
) -> None:  # fmt: skip
    """Append the files' rows to bronze; files with forbidden columns are taken out of ``sound``, and added to ``ends``."""
    names = _names(context, landing, source, sound)
    declared = columns.inferred(context, source, names.values())
    for file, found in list(names.items()):
        others = columns.undeclared(declared, found)
        if not declared.columns:
            reason = "it has no column with a usable name"
        elif others and declared.schema_mode == "fail":
            reason = f"{UNDECLARED} {', '.join(map(repr, others))}: declare them in source.yaml, then ingest.py --retry"
        else:
            continue
        ends[file] = Entry(file, SET_ASIDE, reason)
        del sound[file], names[file]
    if sound:
        rows = _rows(context, landing, declared, batch, sound, names)
        context.warehouse.append(rows, f"bronze.{source.name}", batch.transaction("bronze"))


def _names(
    context: Context, landing: Landing, source: Input, files: Mapping[LandedFile, Layout]
) -> dict[LandedFile, tuple[str, ...]]:
    """The columns of each file. Of JSON, Spark is asked for its keys, where more than the declared ones matter."""
    if source.format != "json":
        return {file: layout.names for file, layout in files.items()}
    found: dict[str, set[str]] = {}
    if not source.columns or source.schema_mode != "rescue":
        lines = readers.json_lines(context.warehouse.spark, landing, source, files)
        for address, keys in readers.json_keys(lines, source.columns).items():
            found[unquote(address).partition(landing.address)[2].lstrip("/")] = keys
    return {file: (*source.columns, *sorted(found.get(file.path, ()))) for file in files}


def _rows(
    context: Context, landing: Landing, source: Input, batch: Batch,
    files: Mapping[LandedFile, Layout], names: Mapping[LandedFile, tuple[str, ...]],
) -> DataFrame:  # fmt: skip
    """The files' rows as they go into bronze."""
    alike: dict[tuple[str, ...], dict[LandedFile, Layout]] = {}
    for file, layout in files.items():
        alike.setdefault(names[file] if source.format != "json" else (), {})[file] = layout
    every = tuple(dict.fromkeys(name for found in names.values() for name in found))
    parts = []
    for found, some in alike.items():
        wide = columns.widened(source, found or every)
        rows = readers.read(context.warehouse.spark, landing, wide, some)
        parts.append(readers.stamp(rows, wide, landing.address, context.now, batch.batch_id))
    return readers.union(parts)


def _culprits(
    context: Context, landing: Landing, source: Input, batch: Batch, files: dict[LandedFile, Layout], error: Exception
) -> dict[LandedFile, str]:
    """The files without which Spark can read the batch, with its reasons; none if each can be read."""
    text = str(error)
    texts = (text, unquote(text))
    told = [f for f in files if any(f"/{f.path}" in t for t in texts)]
    if told:
        # Of several, the one with the longest name that fits.
        culprit = max(told, key=lambda f: len(f.path))
        return {culprit: _reason(culprit, error)}

    def trouble(some: list[LandedFile]) -> Exception | None:
        names = _names(context, landing, source, {f: files[f] for f in some})
        declared = columns.inferred(context, source, names.values())
        try:
            rows = _rows(context, landing, declared, batch, {f: files[f] for f in some}, names)
            rows.write.format("noop").mode("overwrite").save()
        except OF_SPARK as found:
            if named(found) is not None:
                raise
            return found
        return None

    return {file: _reason(file, found) for file, found in _halved(list(files), trouble)}


def _halved(
    files: list[LandedFile], trouble: Callable[[list[LandedFile]], Exception | None]
) -> list[tuple[LandedFile, Exception]]:
    """The single files that cause trouble, with it: a set of files without any is not looked into."""
    found = trouble(files)
    if found is None:
        return []
    if len(files) == 1:
        return [(files[0], found)]
    middle = len(files) // 2
    return _halved(files[:middle], trouble) + _halved(files[middle:], trouble)


def _reason(file: LandedFile, error: Exception) -> str:
    """Why Spark cannot read a file, in its words: the first cause of the error."""
    causes = re.findall(r"Caused by: ([^\n]+)", str(error)) or [str(error).strip().splitlines()[0]]
    words = " ".join(re.sub(r"\b(?:[a-z]\w*\.)+([A-Z]\w*)", r"\1", causes[-1]).split())[:SHOWN]
    hint = "" if file.path.isascii() else " (its name is not ASCII: is LC_ALL set to a UTF-8 locale, such as C.UTF-8?)"
    return f"cannot be read: damaged, cut short, or gone while it was read: {words}{hint}"


def _tell(context: Context, table: str, ends: list[Entry]) -> None:
    report = context.report
    for end in ends:
        if end.state != LOADED:
            report.warn(f"{end.file.path} is {end.state}: {end.reason}")
    loaded = [end for end in ends if end.state == LOADED]
    rows = sum(end.rows or 0 for end in loaded)
    report.count(
        table,
        files_loaded=len(loaded),
        files_set_aside=sum(end.state == SET_ASIDE for end in ends),
        bytes_read=sum(end.file.size for end in loaded),
        rows_in=rows,
        rows_corrupt=sum(end.corrupt_rows or 0 for end in loaded),
    )
    report.say(f"{len(loaded)} files, {rows:,} rows to {table}")
