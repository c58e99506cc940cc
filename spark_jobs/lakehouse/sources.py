"""Sources: where raw data comes from, declared in ``sources/<source>/``.

``source.yaml`` lists the source's inputs. Each input fills one bronze table of the same name, and
for each entity it feeds there is one ``<entity>.sql`` beside it: a SELECT from that input to the
contract's columns. The SELECT passes ``_row`` through (the row's position, arrival and raw
values) and may add ``_sequence`` (the instant that orders the versions of a key) and ``_deleted``
(true for a message that deletes its key).
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lakehouse import reader_options
from lakehouse.contracts import Contract
from lakehouse.errors import ConfigurationError, UsageError

IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
BOOKKEEPING = ("_rescued", "_corrupt", "_source", "_ingested_at", "_batch_id")
"""Columns that every bronze table has beside those that are received."""
TAKEN = (*BOOKKEEPING, "_row", "_key", "_tombstone")
"""Names that no declared column can have: of a bronze table's own columns, and of what a SELECT is given."""
ON_THEIR_WAY = ("lakehouse corrupt record", "lakehouse file", "lakehouse row")
"""Names that no declared column can have either: readers call so what a row has beside its values until it is in bronze."""


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid")

    path: str = ""
    format: Literal["csv", "json", "parquet", "kafka"]
    topics: list[str] = []
    topic_pattern: str = ""
    epoch: int = Field(default=0, ge=0)
    on_loss: Literal["stop", "continue"] = "stop"
    columns: Annotated[list[str], Field(min_length=1)] | Literal["infer"]
    entities: list[str] = Field(min_length=1)
    pattern: str = "*"
    ignore: list[str] = ["*.tmp", "*.part", "*.crc"]
    options: dict[str, str] = {}
    header: Literal["first", "none"] = "first"
    skip_lines: int = Field(default=0, ge=0, le=1000)
    schema_mode: Literal["rescue", "evolve", "fail"] = "rescue"
    identity: Literal["modified", "content"] = "modified"
    loaded_files: Literal["keep", "archive", "delete"] = "keep"
    loaded_files_after_days: int = Field(default=30, ge=0)


class _Source(BaseModel):
    model_config = ConfigDict(extra="forbid")

    description: str = ""
    inputs: dict[str, _Input] = Field(min_length=1)


@dataclass(frozen=True)
class Input:
    """One stream of raw files or messages; ``name`` is also its bronze table.

    Attributes:
        columns: those that a file is expected to have; none when they are inferred from the first files.
        schema_mode: what a column beyond them does: rescue, evolve or fail.
        header: whether the first row of a CSV file names its columns: first, or none.
        skip_lines: lines of a CSV file that are passed over, whatever they hold, before its header or first row.
        identity: what makes a file of a known name another one: its size and modification time, or its content.
        loaded_files: what becomes of them after ``loaded_files_after_days``: keep, archive or delete.
        topics, topic_pattern: of Kafka, by their names or by a regular expression.
        epoch: raised by a person when topics were made anew and are to be read from their start.
        on_loss: what to do when Kafka has deleted messages before they were loaded: stop, or continue after them.
    """

    name: str
    source: str
    path: str
    format: str
    columns: tuple[str, ...]
    pattern: str
    ignore: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    schema_mode: str
    sql: tuple[tuple[str, str], ...]
    """(entity, SELECT) pairs."""
    header: str = "first"
    skip_lines: int = 0
    identity: str = "modified"
    loaded_files: str = "keep"
    loaded_files_after_days: int = 30
    topics: tuple[str, ...] = ()
    topic_pattern: str = ""
    epoch: int = 0
    on_loss: str = "stop"

    @property
    def is_stream(self) -> bool:
        """Whether it has no end: what has arrived is loaded by the stream, or when it is asked for by name."""
        return self.format == "kafka"


def load_sources(folder: str | Path, contracts: dict[str, Contract]) -> list[Input]:
    """Read every source below ``folder``.

    Raises:
        ConfigurationError: a source is not valid, an entity has no contract or no SQL file, or two
            inputs share a name.
    """
    files = sorted(Path(folder).glob("*/source.yaml"))
    if not files:
        raise ConfigurationError(
            "no */source.yaml", where=str(folder), todo="Point --sources at the folder that holds them."
        )
    inputs: list[Input] = []
    for file in files:
        inputs.extend(_load_source(file, contracts))
    names = [i.name for i in inputs]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"two inputs are called '{name}'", where=str(folder), todo="Rename one of them.")
    return inputs


def select_inputs(inputs: list[Input], only: list[str]) -> list[Input]:
    """The inputs named by ``only`` (inputs or whole sources); all that are files when it is empty.

    Raises:
        UsageError: a name is neither.
    """
    known = {i.name for i in inputs} | {i.source for i in inputs}
    for name in only:
        if name not in known:
            raise UsageError(f"--only {name}: no such source", todo=f"Known are: {', '.join(sorted(known))}.")
    return [i for i in inputs if (not only and not i.is_stream) or i.name in only or i.source in only]


def _load_source(file: Path, contracts: dict[str, Contract]) -> list[Input]:
    try:
        model = _Source.model_validate(yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{place}: {first['msg']}", where=str(file), todo="Mend that field.") from error
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot be read: {' '.join(str(error).split())}", where=str(file)) from error
    return [_to_input(name, i, file, contracts) for name, i in model.inputs.items()]


def _to_input(name: str, model: _Input, file: Path, contracts: dict[str, Contract]) -> Input:
    where = f"{file}: inputs.{name}"
    if not IDENTIFIER.fullmatch(name):
        raise ConfigurationError("no table name", where=where, todo="Use lower-case letters, digits and _.")
    if model.format == "kafka":
        _check_topics(model, where)
    else:
        path = posixpath.normpath(model.path)
        if path.startswith(("/", "..")) or path == ".":
            raise ConfigurationError(
                f"path '{model.path}'", where=where, todo="Name a folder below the landing folder."
            )
        model.path = path
    options = reader_options.checked(model.format, model.options, where)
    if model.format != "csv" and (model.header == "none" or model.skip_lines):
        raise ConfigurationError(f"header or skip_lines, but is {model.format}", where=where, todo="Remove them.")
    if model.header == "none" and model.columns == "infer":
        raise ConfigurationError(
            "header: none with columns: infer", where=where, todo="List the columns in the order that the files have."
        )
    columns = () if model.columns == "infer" else tuple(model.columns)
    for column in columns:
        if column.lower() in (*TAKEN, *ON_THEIR_WAY):
            raise ConfigurationError(
                f"column '{column}' has a name that is taken", where=where,
                todo="Leave it out of the list: it is kept in _rescued, from where a SELECT can read it.",
            )  # fmt: skip
    if len({c.lower() for c in columns}) != len(columns):
        raise ConfigurationError(
            "a column is declared twice", where=where, todo="Letter case does not tell columns apart."
        )
    sql = []
    for entity in model.entities:
        if entity not in contracts or contracts[entity].layer != "silver":
            raise ConfigurationError(f"feeds '{entity}', which has no silver contract", where=where)
        sql_file = file.parent / f"{entity}.sql"
        if not sql_file.is_file():
            raise ConfigurationError(f"feeds '{entity}', but {sql_file} is missing", where=where)
        try:
            sql.append((entity, sql_file.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"cannot be read: {error}", where=str(sql_file), todo="Write it in UTF-8."
            ) from error
    fields: dict[str, Any] = model.model_dump(exclude={"entities", "columns", "ignore", "options", "topics"})
    return Input(
        name=name,
        source=file.parent.name,
        columns=columns,
        ignore=tuple(model.ignore),
        topics=tuple(model.topics),
        options=options,
        sql=tuple(sql),
        **fields,
    )


def _check_topics(model: _Input, where: str) -> None:
    """Raise ConfigurationError for what a Kafka input cannot have."""
    if bool(model.topics) == bool(model.topic_pattern):
        raise ConfigurationError("needs either topics or topic_pattern", where=where)
    if model.path:
        raise ConfigurationError("has a path, but is of Kafka", where=where, todo="Remove it.")
    if model.columns == "infer" or model.schema_mode != "rescue":
        raise ConfigurationError(
            "columns that are inferred, or schema_mode", where=where,
            todo="Of Kafka, declare the columns; other fields go to _rescued.",
        )  # fmt: skip
