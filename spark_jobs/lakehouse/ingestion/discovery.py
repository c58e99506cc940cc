"""Which of the files that lie in the landing folder are new, and which have lain there long enough."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa

from lakehouse.context import Context
from lakehouse.errors import UsageError
from lakehouse.ingestion.landing import LandedFile, Landing
from lakehouse.ingestion.ledger import ARCHIVED, DELETED, REPEATED, RETURNED, SET_ASIDE, SETTLED, Entry, Ledger
from lakehouse.runtime.progress import Batch
from lakehouse.sources import Input


@dataclass(frozen=True)
class Found:
    """What lies in the folder of an input.

    Attributes:
        new: to be loaded now.
        repeated: with the content of what was loaded under their names, each with the note of it.
        loaded: what is known of the others.
    """

    new: list[LandedFile]
    repeated: list[tuple[Batch, Entry]]
    loaded: list[Entry]


def look(
    context: Context,
    landing: Landing,
    ledger: Ledger,
    source: Input,
    files: list[LandedFile] | None,
    *,
    retry: bool,
) -> Found:
    """Tell the files that are new from the others; nothing is changed.

    Args:
        files: None when the input's folder is not there, which is an error for an input asked for by name.
        retry: those that have been set aside are new again.
    """
    if files is None:
        if source.name in context.only or source.source in context.only:
            where = f"{landing.location}/{source.path}"
            raise UsageError("no such folder", where=where, todo=f"Deliver {source.name} there or leave it out.")
        return Found([], [], [])
    states = ledger.states(source.name)
    again = {None, RETURNED, SET_ASIDE} if retry else {None, RETURNED}
    new = [f for f in files if states.get(f) in again]
    aside = [f for f in files if states.get(f) == SET_ASIDE and f not in new]
    more = aside or source.identity == "content" or source.loaded_files != "keep"
    known = ledger.entries(source.name) if more else {}
    for file in aside:
        context.report.warn(f"{file.path} is still set aside: {known[file].reason}")
    repeated: list[tuple[Batch, Entry]] = []
    if source.identity == "content":
        new = landing.with_hash(new)
        repeated = _repeated(source, known, new)
    others = {entry.file for _, entry in repeated}
    context.report.count(
        f"bronze.{source.name}",
        files_found=len(files), files_new=len(new) - len(others), files_repeated=len(others),
    )  # fmt: skip
    return Found([f for f in new if f not in others], repeated, [known[f] for f in files if f in known])


def tidy(context: Context, landing: Landing, ledger: Ledger, source: Input, found: Found) -> None:
    """Note the files that only repeat others; archive or delete those that are due."""
    if found.repeated:
        ledger.record(found.repeated)
        context.report.say(f"{source.name}: {len(found.repeated)} files repeat what has been loaded")
    if source.loaded_files != "keep":
        _clear_away(context, landing, ledger, source, found.loaded)


def _repeated(source: Input, known: dict[LandedFile, Entry], new: list[LandedFile]) -> list[tuple[Batch, Entry]]:
    """The new files that have the content with which a file of their name was loaded last, with a note of it."""

    def age(entry: Entry) -> tuple[datetime, int]:
        return entry.at, entry.batch_id

    last: dict[str, Entry] = {}
    for entry in known.values():
        if entry.state in SETTLED and (entry.file.path not in last or age(entry) > age(last[entry.file.path])):
            last[entry.file.path] = entry
    return [
        (
            # Of the newest batch that knows this file, or the note would not be its last one.
            Batch("ingest", source.name, max(e.batch_id for e in (last[file.path], known.get(file)) if e is not None)),
            Entry(file, REPEATED, f"the content of {last[file.path].file.modified.isoformat()}", 0, 0),
        )
        for file in new
        if file.sha256 and file.path in last and last[file.path].file.sha256 == file.sha256
    ]


def _clear_away(context: Context, landing: Landing, ledger: Ledger, source: Input, entries: list[Entry]) -> None:
    """Archive or delete the files whose rows have been in bronze for as long as the source asks.

    Noted first: what a run that is killed in between leaves lying is found, and cleared away, by the next.
    """
    archive = source.loaded_files == "archive"
    limit = context.now - timedelta(days=source.loaded_files_after_days)
    due = [e for e in entries if e.state in (ARCHIVED, DELETED) or (e.state in SETTLED and e.at <= limit)]
    noted = ARCHIVED if archive else DELETED
    ledger.record(
        (
            Batch("ingest", source.name, e.batch_id),
            Entry(e.file, noted, landing.archived(e.file) if archive else None, e.rows, e.corrupt_rows),
        )
        for e in due
        if e.state not in (ARCHIVED, DELETED)
    )
    cleared = 0
    for entry in due:
        try:
            (landing.archive if archive else landing.delete)(entry.file)
            cleared += 1
        except (OSError, pa.ArrowException) as error:
            context.report.warn(f"{entry.file.path} cannot be {noted}: {' '.join(str(error).split())}")
    if cleared:
        context.report.count(f"bronze.{source.name}", **{f"files_{noted}": cleared})
        context.report.say(
            f"{source.name}: {cleared} files {noted}, {source.loaded_files_after_days} days after loading"
        )
