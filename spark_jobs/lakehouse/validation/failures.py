"""Which SELECT of a source, or rule of a contract, Spark cannot evaluate on a row, and on which row.

Spark raises hundreds of errors on values, some without any name, and tells of none in whose expression it stands. So they are
not told apart by a list, but by trying: what fails again when it is evaluated by itself, on rows that can be read, is at fault.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.contracts import Contract
from lakehouse.errors import ConfigurationError, named
from lakehouse.ingestion.readers import is_corrupt
from lakehouse.sources import Input
from lakehouse.validation import checking, mapping, quarantine, rules

MAX_ROWS_SEARCHED = 1_000_000
"""The largest batch of which a row that fails is searched: some twenty times, half of the rows that are left are evaluated."""
OF_THE_MACHINERY = ("08", "40", "53", "57", "58")
"""Classes of SQLSTATE that tell of a connection, a transaction, memory, an operator or a disk, and not of values."""
SHOWN = 300
UNKNOWN_ROW = "a row"

Evaluate = Callable[[DataFrame], DataFrame]


def at_fault(source: Input, contracts: Sequence[Contract], bronze: DataFrame) -> ConfigurationError | None:
    """The error to raise for a batch that could not be evaluated; None if neither a SELECT nor a rule is to blame.

    Args:
        contracts: of the entities whose SELECTs and rules were evaluated.
        bronze: the batch's rows, as ``publishing.bronze_rows`` gives them.
    """
    if _failure(_raw(bronze)) is not None:
        return None
    return next(filter(None, (_of_entity(source, contract, bronze) for contract in contracts)), None)


def _of_entity(source: Input, contract: Contract, bronze: DataFrame) -> ConfigurationError | None:
    def selected(rows: DataFrame) -> DataFrame:
        return mapping.map_rows(_raw(rows), source, contract)

    if (error := _failure(selected(bronze))) is not None:
        line = re.search(r"== SQL[^\n]*\(line (\d+), position", str(error))
        return ConfigurationError(
            f"fails on {_row(selected, bronze)}: {_said(error)}",
            where=f"sources/{source.source}/{contract.name}.sql" + (f", line {line[1]}" if line else ""),
            todo="Write it so that a bad value becomes null or a text that the contract rejects: with the try_ form of the function "
            "(try_cast, try_to_timestamp, try_divide, try_element_at, ...), or with a CASE where it has none.",
        )

    def checked(names: Sequence[str]) -> Evaluate:
        return lambda rows: _checks(selected(rows), contract, names)

    every = list(dict.fromkeys(c.name for c in rules.checks(contract)))
    if _failure(checked(every)(bronze)) is None:
        return None
    # None fails alone where the reading of the values does, such as a default that is no value of its column's type.
    name = next((n for n in every if _failure(checked([n])(bronze)) is not None), None)
    evaluate = checked([name] if name else [])
    error = _failure(evaluate(bronze)) or _failure(checked(every)(bronze))
    return ConfigurationError(
        f"{f'the rule {name}' if name else 'reading the values'} fails on {_row(evaluate, bronze)}: {_said(error)}",
        where=f"the contract of {contract.name}",
        todo="Mend the rule; in SQL, use the try_ form of the function, so that a bad value breaks the rule.",
    )


def _raw(bronze: DataFrame) -> DataFrame:
    return mapping.raw_rows(bronze.where(~is_corrupt(bronze)))


def _checks(mapped: DataFrame, contract: Contract, names: Sequence[str]) -> DataFrame:
    """Whether each row breaks the rules of some names, as far as that follows from the row alone."""
    marks = [f"_orphan_{c.name}" for c in contract.columns] + [f"_taken_{c.name}" for c in contract.columns]
    rows = checking.typed(mapped, contract).withColumns(dict.fromkeys([*marks, rules.CELL_BROKEN], F.lit(False)))
    wanted = [c for c in rules.checks(contract) if c.name in names]
    return rows.select(*contract.column_names, *[c.violated.alias(f"_{n}") for n, c in enumerate(wanted)])


def _failure(rows: DataFrame) -> Exception | None:
    """What Spark raises when every value of some rows is computed, and kept nowhere.

    Raises:
        Exception: what has nothing to do with their values.
    """
    try:
        rows.write.format("noop").mode("overwrite").save()
    except Exception as error:
        told = str(error)
        states = re.findall(r"SQLSTATE: (\w\w)\w{3}", told)
        lost = "ExecutorLostFailure" in told or "OutOfMemoryError" in told
        if named(error) is not None or lost or (states and states[-1] in OF_THE_MACHINERY):
            raise
        return error
    return None


def _row(evaluate: Evaluate, bronze: DataFrame) -> str:
    """A row on which an evaluation fails, by its place; ``a row`` where it takes several, or too long to find."""
    if bronze.count() > MAX_ROWS_SEARCHED:
        return UNKNOWN_ROW
    place = checking.place(F.col("_source"))
    places = sorted(bronze.select(place.alias("place")).toArrow()["place"].to_pylist())

    def fails(some: Sequence[int]) -> bool:
        return _failure(evaluate(bronze.where(place.between(some[0], some[-1])))) is not None

    while len(places) > 1:
        middle = len(places) // 2
        places = places[:middle] if fails(places[:middle]) else places[middle:]
    if not places or not fails(places):
        return UNKNOWN_ROW
    few = bronze.where(place == places[0])
    found = few.select("_source", "_batch_id").first()
    assert found is not None
    at = found["_source"]
    if at["block"] is None:
        return f"offset {at['row']} of {at['file']}"
    there = quarantine.positions(bronze).where(
        (F.col("_file") == at["file"]) & (F.col("_loaded") == found["_batch_id"]) & (F.col("_block") == at["block"])
    )
    (block,) = there.collect()
    return f"row {at['row'] - block['_first'] + block['_before'] + 1} of {at['file']}"


def _said(error: Exception | None) -> str:
    """What Spark says of a value, without the tale of the job and the task that it was met in."""
    told = str(error)
    found = re.search(r"\[[A-Z][A-Z0-9_.]+\] [^\n]*", told) or re.search(
        r"(?<=\): )[\w.$]+(Exception|Error)[^\n]*", told
    )
    text = found[0] if found else (told.strip().splitlines() or [""])[0]
    # Advice that nobody can follow here: without ANSI, a bad value would silently be missing.
    text = re.sub(r' If necessary set "spark\.sql\.ansi\.enabled" to "false"[^.]*\.', "", text)
    return re.sub(r"\s*SQLSTATE: \w+", "", text)[:SHOWN]
