"""What a source may tell the reader of its format: the options that lose nothing, and why others are refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches

from lakehouse.errors import ConfigurationError

ALLOWED = {
    "csv": (
        "sep", "quote", "escape", "comment", "encoding", "lineSep", "nullValue",
        "ignoreLeadingWhiteSpace", "ignoreTrailingWhiteSpace",
    ),
    "json": ("encoding",),
    "parquet": ("datetimeRebaseMode", "int96RebaseMode"),
    "kafka": (
        "startingOffsets", "maxOffsetsPerTrigger", "minOffsetsPerTrigger", "maxTriggerDelay", "minPartitions",
        "maxRecordsPerPartition", "fetchOffset.numRetries", "fetchOffset.retryIntervalMs", "kafkaConsumer.pollTimeoutMs",
    ),
}  # fmt: skip
"""By format, the options of Spark's reader that a source may set."""
ENCODINGS = {
    "csv": ("utf-8", "us-ascii", "iso-8859-1", "utf-16", "utf-16le", "utf-16be", "utf-32"),
    # Lines are found by their bytes, so only encodings in which a line break is one byte.
    "json": ("utf-8", "us-ascii", "iso-8859-1"),
}
AUTO_LOADER = "cloudFiles."
"""How options begin that Databricks Auto Loader alone looks at."""
_QUARANTINED = "Bad lines always go to quarantine; leave the option out."
_TOLD = "A file that cannot be read is set aside and told, never passed over in silence; leave the option out."
_FOUND = "Each file below the path is loaded once, whatever its time; choose files by pattern and ignore."
_TEXT = "Values are kept as text, and typed by the contract; leave the option out."
_LIMITS = "Rows have no such limit; leave the option out."
_OFFSETS = "Offsets are the suite's to manage; how to reach Kafka stands in the file that --kafka names."
REFUSED = {
    "header": "Files have a header; for files without one write header: none beside the options.",
    "delimiter": "Call it sep.",
    "charset": "Call it encoding.",
    "multiline": "In CSV, quoted line breaks are always read; in JSON, one line is one object: deliver JSON lines.",
    "mergeschema": "Files with different columns are always read, each with its own; leave the option out.",
    "pathglobfilter": "Write it as the input's pattern.",
    "skiprows": "Write skip_lines beside the options.",
    **dict.fromkeys(("mode", "columnnameofcorruptrecord", "badrecordspath", "unescapedquotehandling"), _QUARANTINED),
    **dict.fromkeys(("ignorecorruptfiles", "ignoremissingfiles"), _TOLD),
    **dict.fromkeys(("modifiedafter", "modifiedbefore", "recursivefilelookup", "basepath"), _FOUND),
    **dict.fromkeys(
        (
            "inferschema", "enforceschema", "samplingratio", "prefersdate", "primitivesasstring", "prefersdecimal",
            "dateformat", "timestampformat", "timestampntzformat", "locale", "nanvalue", "positiveinf", "negativeinf",
            "emptyvalue", "dropfieldifallnull", "singlevariantcolumn",
        ),
        _TEXT,
    ),
    **dict.fromkeys(("maxcolumns", "maxcharspercolumn"), _LIMITS),
    **dict.fromkeys(
        (
            "subscribe", "subscribepattern", "assign", "endingoffsets", "failondataloss", "includeheaders",
            "groupidprefix",
        ),
        _OFFSETS,
    ),
}  # fmt: skip
"""Options of Spark's readers, in lower case, that would change what is read, and what to do instead."""
ALSO_CALLED = {
    "separator": "sep",
    "lineseparator": "lineSep",
    "quotechar": "quote",
    "escapechar": "escape",
    "commentchar": "comment",
    "nullvalues": "nullValue",
}
"""What other readers call an option, for the sake of who writes it so, or nearly so."""
ONE_CHARACTER = ("quote", "escape", "comment")
ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "b": "\b", "f": "\f", "\\": "\\", "'": "'", '"': '"'}


def checked(format_: str, options: Mapping[str, str], where: str) -> tuple[tuple[str, str], ...]:
    """The options by the names that Spark has for them, their values without escapes.

    Raises:
        ConfigurationError: there is no such option, it would lose or change what is received, or it cannot
            have this value.
    """
    known = {name.lower(): name for name in ALLOWED[format_]}
    found: dict[str, str] = {}
    for given, value in options.items():
        name = known.get(given.lower())
        if name is None:
            if given.startswith(AUTO_LOADER) and format_ != "kafka":
                found[given] = value
                continue
            raise ConfigurationError(f"option '{given}'", where=where, todo=_advice(format_, given, known))
        found[name] = _value(format_, name, value, where)
    defaults = {"sep": ",", "quote": '"', "comment": ""}
    characters = [c for c in ((defaults | found)[name] for name in defaults) if c]
    if format_ == "csv" and len(set(characters)) != len(characters):
        raise ConfigurationError("sep, quote and comment are not all different", where=where, todo="Change one.")
    for name in {"sep", "lineSep", "nullValue", *ONE_CHARACTER} & found.keys() if format_ == "csv" else ():
        try:
            found[name].encode(found.get("encoding", "utf-8"))
        except UnicodeEncodeError as error:
            raise ConfigurationError(
                f"{name} {found[name]!a}", where=where, todo=f"{found.get('encoding', 'utf-8')} has no such character."
            ) from error
    return tuple(found.items())


def _advice(format_: str, given: str, known: Mapping[str, str]) -> str:
    reason = REFUSED.get(given.lower())
    if reason is None and format_ == "kafka" and given.lower().startswith("kafka."):
        reason = _OFFSETS
    names = {n: name for n, name in ALSO_CALLED.items() if name in known.values()} | dict(known)
    if reason is None and (near := get_close_matches(given.lower(), names, 1)):
        reason = f"There is no such option for {format_}; is {names[near[0]]} meant?"
    return reason or f"There is no such option for {format_}; there are: {', '.join(ALLOWED[format_])}."


def _value(format_: str, name: str, value: str, where: str) -> str:
    if name == "encoding":
        if value.lower() not in ENCODINGS[format_]:
            raise ConfigurationError(
                f"encoding '{value}'",
                where=where,
                todo=f"Of {format_}, {', '.join(ENCODINGS[format_])} are read; deliver other files in UTF-8.",
            )
        return value.lower()
    if name in ("sep", "lineSep") or (name in ONE_CHARACTER and len(value) > 1):
        value = _unescaped(value, f"{where}: option '{name}'")
    if name == "sep" and (not value or {"\n", "\r"} & {*value}):
        raise ConfigurationError(f"sep {value!r}", where=where, todo="Name the characters between two fields.")
    if name == "lineSep" and not 1 <= len(value) <= 2:
        raise ConfigurationError(f"lineSep {value!r}", where=where, todo="Name the one or two characters of it.")
    if name in ONE_CHARACTER and len(value) > (1 if name == "quote" or value else 0):
        raise ConfigurationError(f"{name} {value!r}", where=where, todo="Name one character.")
    return value


def _unescaped(value: str, where: str) -> str:
    r"""A value as people write it, with \t, \\, \u0001 or \x01, as the characters that it stands for."""

    def character(match: re.Match[str]) -> str:
        code, letter = match[1] or match[2], match[3]
        if code:
            return chr(int(code, 16))
        if letter not in ESCAPES:
            raise ConfigurationError(f"{value!r}", where=where, todo=r"Escapes are \t, \n, \r, \\, \u0001 and \x01.")
        return ESCAPES[letter]

    if value == "\\":
        return value
    return re.sub(r"\\(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})|(.?))", character, value, flags=re.DOTALL)
