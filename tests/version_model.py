"""A plain Python model of what versions of customers amount to, and versions drawn at random."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from hypothesis import strategies as st
from lakehouse.odcs import load_contracts
from pyspark.sql import DataFrame, SparkSession
from support import ROOT

CONTRACTS = load_contracts(ROOT / "contracts")
CUSTOMERS = CONTRACTS["customers"]
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
STAGED = f"{CUSTOMERS.ddl()}, _deleted BOOLEAN, _sequence STRUCT<at: TIMESTAMP, deleted: BOOLEAN, received: TIMESTAMP, file: STRING, block: BIGINT, row: BIGINT>"


@dataclasses.dataclass(frozen=True, order=True)
class Version:
    """A version of a customer; the fields compare in the order of the sequence."""

    at: int
    deleted: bool
    received: int
    file: str
    row: int
    key: str = dataclasses.field(compare=False)
    name: str | None = dataclasses.field(compare=False)
    registered: int | None = dataclasses.field(compare=False)
    active: int | None = dataclasses.field(compare=False)


def day(n: int | None) -> datetime | None:
    return None if n is None else EPOCH + timedelta(days=n)


def frame(spark: SparkSession, rows: list[Version]) -> DataFrame:
    data = [
        (
            v.key,
            v.name,
            None,
            day(v.registered),
            "regular",
            None,
            day(v.active),
            v.deleted,
            (day(v.at), v.deleted, day(v.received), v.file, 0, v.row),
        )
        for v in rows
    ]
    return spark.createDataFrame(data, STAGED)


def history(rows: set[Version]) -> list[tuple[Any, ...]]:
    """(key, name, least registered, greatest active, from, to, deleted), computed the obvious way."""
    result = []
    for key, group in groupby(sorted(rows, key=lambda v: (v.key, v)), key=lambda v: v.key):
        runs: list[list[Version]] = []
        for v in group:
            if runs and (runs[-1][-1].deleted, None if v.deleted else runs[-1][-1].name) == (
                v.deleted,
                None if v.deleted else v.name,
            ):
                runs[-1].append(v)
            else:
                runs.append([v])
        for n, run in enumerate(runs):
            registered = [v.registered for v in run if v.registered is not None]
            active = [v.active for v in run if v.active is not None]
            result.append(
                (
                    key,
                    None if run[0].deleted else run[0].name,
                    day(min(registered, default=None)),
                    day(max(active, default=None)),
                    day(run[0].at),
                    day(runs[n + 1][0].at) if n + 1 < len(runs) else None,
                    run[0].deleted,
                )
            )
    return sorted(result, key=repr)


def current(rows: set[Version]) -> list[tuple[Any, ...]]:
    """(key, name, least registered, greatest active) of the keys that are not deleted."""
    result = []
    for key, group in groupby(sorted(rows, key=lambda v: (v.key, v)), key=lambda v: v.key):
        all_of = list(group)
        if all_of[-1].deleted:
            continue
        alive = [v for v in all_of if not v.deleted]
        registered = [v.registered for v in alive if v.registered is not None]
        active = [v.active for v in alive if v.active is not None]
        result.append((key, all_of[-1].name, day(min(registered, default=None)), day(max(active, default=None))))
    return sorted(result, key=repr)


def utc(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def rows_of_history(table: DataFrame) -> list[tuple[Any, ...]]:
    rows = table.select(
        "customer_id", "name", "registration_date", "last_active_date", "valid_from", "valid_to", "_deleted"
    ).collect()
    return sorted((tuple(utc(x) for x in r) for r in rows), key=repr)


def rows_of_current(table: DataFrame) -> list[tuple[Any, ...]]:
    rows = table.select("customer_id", "name", "registration_date", "last_active_date").collect()
    return sorted((tuple(utc(x) for x in r) for r in rows), key=repr)


some_versions = st.lists(
    st.builds(
        Version,
        at=st.integers(0, 4),
        received=st.integers(0, 2),
        file=st.sampled_from(["a", "b"]),
        row=st.integers(0, 50),
        key=st.sampled_from(["1", "2", "03", "3"]),
        name=st.sampled_from(["x", "y", None]),
        registered=st.one_of(st.none(), st.integers(-5, 0)),
        active=st.one_of(st.none(), st.integers(0, 5)),
        deleted=st.booleans() | st.just(False),
    ),
    min_size=1,
    max_size=60,
    # A position holds one version of one key.
    unique_by=lambda v: (v.at, v.received, v.file, v.row),
)
