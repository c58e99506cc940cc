"""Profile files or a table, and write what follows from it: a contract, and for files a source."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse import reader_options, storage
from lakehouse.contracts import Contract
from lakehouse.errors import ConfigurationError, UsageError
from lakehouse.ingestion import readers
from lakehouse.ingestion.landing import LandedFile, Landing, Unreadable
from lakehouse.ingestion.layouts import Layout, layouts
from lakehouse.odcs import load_contract
from lakehouse.profiling import matching, measure, proposal
from lakehouse.report import RunReport
from lakehouse.sources import Input
from lakehouse.sql import quote

SUFFIXES = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet"}
GLOB = re.compile(r"[*?\[]")
IGNORED = ("*.tmp", "*.part", "*.crc")


def profile_files(
    spark: SparkSession, location: str, format_: str | None, options: dict[str, str], limit: int, report: RunReport
) -> tuple[DataFrame, dict[str, str]]:
    """The rows of a folder's files, or of one file, each value as text, and their origin as ``propose`` takes it.

    Raises:
        UsageError: there is nothing to read, or it is not of the named format.
        ConfigurationError: an option cannot have its value.
    """
    location = storage.canonical(location)
    folder, _, name = location.rstrip("/").rpartition("/")
    if not storage.is_uri(location) and not Path(location).exists():
        raise UsageError("no such file or folder", where=location)
    found = Landing(folder or "/").find(_input(name, "csv", options))
    pattern = ""
    if found is None:
        # A file, not a folder: it is looked for among its neighbours.
        folder, _, parent = folder.rpartition("/")
        found = [
            f for f in Landing(folder or "/").find(_input(parent, "csv", options)) or [] if f.path == f"{parent}/{name}"
        ]
        name, pattern = parent, GLOB.sub(r"[\g<0>]", name)
    landing, files = Landing(folder or "/"), found
    if not files:
        raise UsageError("no files", where=location, todo="Name a file, or a folder that has some.")
    kinds = {_kind(f.path) for f in files}
    guessed = format_ or (kinds.pop() if len(kinds) == 1 else "")
    if not guessed:
        raise UsageError("the format of the files is not clear", where=location, todo="Give --format.")
    options = dict(reader_options.checked(guessed, options, "the arguments"))
    source = _input(name, guessed, options)
    sound: dict[LandedFile, Layout] = {}
    for file, layout in layouts(landing, source, [f for f in files if f.size]).items():
        if isinstance(layout, Unreadable):
            raise UsageError(f"{file.path}: {layout}", where=location, todo="Mend or leave out the file.")
        if sound and guessed == "csv" and layout.names != next(iter(sound.values())).names:
            report.warn(f"{file.path} has other columns: {', '.join(layout.names)}; it is left out")
        elif layout.has_rows:
            sound[file] = layout
    if not sound:
        raise UsageError("all files are empty", where=location, todo="Profile files with rows.")
    if guessed == "json":
        keys = readers.json_keys(readers.json_lines(spark, landing, source, sound), ())
        names = sorted({key for found in keys.values() for key in found})
    else:
        names = list(dict.fromkeys(name for layout in sound.values() for name in layout.names))
    declared = _input(name, guessed, options, tuple(names))
    alike: dict[tuple[str, ...], dict[LandedFile, Layout]] = {}
    for file, layout in sound.items():
        alike.setdefault(layout.names, {})[file] = layout
    rows = readers.union([readers.read(spark, landing, declared, some) for some in alike.values()])
    corrupt = F.col(readers.CORRUPT).isNotNull()
    sample = rows.limit(limit) if limit else rows
    # Every column is asked for: of a line that is read in part, Spark does not tell whether it is sound.
    every = [F.count(F.col(quote(n))) for n in names]
    (bad, *_) = sample.agg(F.count_if(corrupt), *every).first() or (0,)
    if bad:
        report.warn(f"{bad:,} rows cannot be parsed and are left out: is the format, separator or encoding right?")
    return sample.where(~corrupt).select(*[F.col(quote(n)) for n in names]), {
        "path": name,
        "pattern": pattern,
        "format": guessed,
        **options,
    }


def profile_table(spark: SparkSession, name: str, limit: int) -> DataFrame:
    """The columns of a table, each value as text; raises UsageError when it is not there."""
    try:
        table = spark.table(name) if "/" not in name else spark.read.format("delta").load(name)
    except AnalysisException as error:
        raise UsageError(
            f"--table {name}: no such table", todo="Name a table of the catalog, or its folder."
        ) from error
    rows = table.select(*[readers.as_text(f) for f in table.schema.fields if not f.name.startswith("_")])
    return rows.limit(limit) if limit else rows


def propose(
    texts: DataFrame, entity: str, key: str | None, out: Path, report: RunReport, origin: dict[str, str] | None = None
) -> Path:
    """Measure the rows and write ``contracts/<entity>.odcs.yaml`` below ``out``.

    Args:
        key: the received column that is the key; None: the likeliest.
        origin: for files, their ``path``, ``pattern``, ``format`` and reader options; a source is written too.

    Returns:
        The contract's file, which has been read back and is valid.

    Raises:
        UsageError: there are no rows, or there is no such column.
        ConfigurationError: a file is already there.
    """
    figures, chosen, unique = _measured(texts, key, report)
    names = [f.name for f in figures]
    if unique is None:
        report.warn(f"no column is a key by its values; {chosen} is proposed: look at it")
    files = {out / f"contracts/{entity}.odcs.yaml": proposal.contract(entity, figures, chosen, unique is None)}
    if origin is not None:
        folder = out / "sources" / entity
        received = f"{entity}_files"
        files[folder / "source.yaml"] = proposal.source(received, [entity], origin, names)
        files[folder / f"{entity}.sql"] = proposal.select(received, names)
    _write(files, report)
    contract = load_contract(next(iter(files)))
    for column, f in zip(contract.columns, figures, strict=True):
        facts = [
            column.type,
            "key" if column.key else "required" if column.required else f"given {f.given / f.rows:.0%}",
        ]
        facts += [f"one of {', '.join(column.enum)}"] if column.enum else []
        facts += [f"at least {column.minimum}"] if column.minimum is not None else []
        report.say(f"{column.name}: {', '.join(facts)} (from {f.name!r})")
    report.count(f"silver.{entity}", rows_profiled=figures[0].rows, columns=len(figures))
    return next(iter(files))


def propose_source(
    texts: DataFrame,
    source: str,
    contracts: Sequence[Contract],
    key: str | None,
    out: Path,
    report: RunReport,
    origin: dict[str, str],
) -> Path:
    """Measure the rows of files and write ``sources/<source>/`` below ``out``: the source, and a SELECT for each contract.

    Args:
        source: its name, and that of its folder below the landing folder.
        contracts: of the entities that it feeds.
        key, origin: as in ``propose``.

    Returns:
        The folder that was written.

    Raises:
        UsageError: there are no rows, or there is no such column.
        ConfigurationError: a file is already there.
    """
    figures, _, unique = _measured(texts, key, report)
    names = [f.name for f in figures]
    folder, received = out / "sources" / source, f"{source}_files"
    entities = [c.name for c in contracts]
    files = {folder / "source.yaml": proposal.source(received, entities, origin | {"path": source}, names)}
    when = matching.instants(figures)
    for contract in contracts:
        # What is unique in the files is a key of what a line of them is: of the last entity, the others come along.
        own = (unique, key) if contract is contracts[-1] else (None, None)
        # A file's rows come in any order: what is said of a customer last is what was bought last.
        sequence = when[0] if len(when) == 1 and contract is not contracts[-1] else None
        matches = matching.match(contract, figures, *own)
        files[folder / f"{contract.name}.sql"] = matching.select(received, matches, names, sequence)
        for m in matches:
            place = f"{contract.name}.{m.column.name}"
            if m.received is not None:
                report.say(f"{place}: from {m.received!r}" + (f" ({m.remark})" if m.remark else ""))
            elif m.expression:
                report.say(f"{place}: {m.expression} ({m.remark})")
            elif m.remark:
                report.warn(f"{place}: {m.remark}")
    _write(files, report)
    report.count(received, rows_profiled=figures[0].rows, columns=len(figures))
    return folder


def _measured(texts: DataFrame, key: str | None, report: RunReport) -> tuple[list[measure.Figures], str, str | None]:
    """The figures, the likeliest key, and the column that is one by its values, if there is one."""
    with report.step("measure"):
        figures = measure.figures(texts)
    if not figures or not figures[0].rows:
        raise UsageError("no rows", todo="Profile data that have some.")
    names = [f.name for f in figures]
    if key is not None and key not in names:
        raise UsageError(f"--key {key}: no such column", todo=f"Received are: {', '.join(names)}.")
    candidates = [key] if key else proposal.key_candidates(figures)
    unique = next((c for c in candidates if not measure.repeats(texts, c)), None)
    likeliest = unique or (candidates or [max(figures, key=lambda f: (f.given, f.distinct)).name])[0]
    return figures, likeliest, unique


def _write(files: dict[Path, str], report: RunReport) -> None:
    for file in files:
        if file.exists():
            raise ConfigurationError(
                "is already there", where=str(file), todo="Choose another --out, --entity or --source."
            )
    for file, text in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        report.say(f"wrote {file}")


def _kind(path: str) -> str:
    return SUFFIXES.get(Path(re.sub(r"[.](gz|bz2|zst)$", "", path)).suffix.lower(), "")


def _input(path: str, format_: str, options: dict[str, str], columns: tuple[str, ...] = ()) -> Input:
    return Input("profile", "profile", path, format_, columns, "*", IGNORED, tuple(options.items()), "rescue", ())
