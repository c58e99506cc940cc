"""The options of each stage: what its script's arguments, the environment and the settings file come to.

A value that is no such thing raises UsageError, whichever of the three it comes from.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError, ValidationInfo
from pydantic.dataclasses import dataclass

from lakehouse.errors import UsageError
from lakehouse.instants import instant

T = TypeVar("T")
AUTO, CHANGED, ALL = "auto", "changed", "all"
MIN_RETAIN_HOURS = 168
"""Readers may need files for a week."""


def argument(field: str) -> str:
    """What a field is called on the command line."""
    return f"--{field.replace('_', '-')}"


def _listed(value: Any) -> Any:
    return tuple(x.strip() for x in value.split(",") if x.strip()) if isinstance(value, str) else value


def _instant(value: Any) -> Any:
    return instant(value) if isinstance(value, str) else value


def _above_0(value: Any, info: ValidationInfo) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.0
    if not 0 < number < float("inf"):
        raise UsageError(f"{argument(info.field_name or '')} {value}: no number above 0")
    return number


def _days(value: Any, info: ValidationInfo) -> int:
    if not str(value).isdecimal() or not 1 <= int(value) <= 36_500:
        raise UsageError(
            f"{argument(info.field_name or '')} {value}: not a number of days",
            todo="Write a whole one from 1 to 36500.",
        )
    return int(value)


LAZY = ConfigDict(defer_build=True)
"""Of these classes a stage uses one: the checks of the others need not be built."""
Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Instant = Annotated[datetime, BeforeValidator(_instant)]
Above0 = Annotated[float, BeforeValidator(_above_0)]
Days = Annotated[int, BeforeValidator(_days)]


@dataclass(frozen=True, config=LAZY)
class Ingest:
    """``landing``: folder or URI; ``kafka``: properties file of Kafka's clients; ``state``: folder of Auto Loader's."""

    landing: str | None = None
    kafka: str | None = None
    retry: bool = False
    auto_loader: bool = False
    state: str | None = None


@dataclass(frozen=True, config=LAZY)
class Validate:
    """``release`` and ``discard`` name refused batches; ``by`` and ``reason`` say who discards them, and why."""

    release: Names = ()
    discard: Names = ()
    by: str | None = None
    reason: str | None = None


@dataclass(frozen=True, config=LAZY)
class Merge:
    """Merge has none."""


@dataclass(frozen=True, config=LAZY)
class Migrate:
    """Migrate has none."""


@dataclass(frozen=True, config=LAZY)
class Featurize:
    """Instead of one instant a range of them, each so many days; and whose features are computed anew."""

    start: Instant | None = None
    end: Instant | None = None
    every: Days | None = None
    recompute: Literal["auto", "changed", "all"] = "auto"


@dataclass(frozen=True, config=LAZY)
class Optimize:
    """``budget``: minutes after which no further table is begun."""

    dry_run: bool = False
    vacuum: bool = False
    retain_hours: int = MIN_RETAIN_HOURS
    budget: Above0 | None = None

    def __post_init__(self) -> None:
        if self.retain_hours < MIN_RETAIN_HOURS:
            raise UsageError(
                f"--retain-hours {self.retain_hours}",
                todo=f"Readers may need files for a week: use {MIN_RETAIN_HOURS} or more.",
            )


@dataclass(frozen=True, config=LAZY)
class Replay:
    """Which rows of quarantine, what is done with them, and who decides."""

    action: Literal["dry-run", "replay", "discard"] = "replay"
    rule: str | None = None
    ids: Names = ()
    since: Instant | None = None
    until: Instant | None = None
    patch: str | None = None
    by: str | None = None
    reason: str | None = None


@dataclass(frozen=True, config=LAZY)
class TrainingSet:
    """``known_by``: ``cut-off``, ``now`` or an instant; ``horizon``: days after a cut-off that labels look at."""

    name: str | None = None
    cut_offs: Names = ()
    horizon: Days = 30
    known_by: str = "cut-off"
    manifest: str | None = None
    from_manifest: str | None = None


@dataclass(frozen=True, config=LAZY)
class Stream:
    """``leases``: folder; ``metrics``: host and port; ``beat``, ``poll``, ``tidy``: seconds."""

    kafka: str | None = None
    landing: str | None = None
    leases: str | None = None
    metrics: str | None = None
    beat: Above0 = 30
    poll: Above0 = 5
    tidy: Above0 = 600
    most_failures: Above0 = 8


def parsed(kind: type[T], values: dict[str, Any]) -> T:
    """Options from texts by field; what is None, or an empty text, is as by default.

    Raises:
        UsageError: a text is no value of its field.
    """
    try:
        return TypeAdapter(kind).validate_python({k: v for k, v in values.items() if v not in (None, "")})
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{argument(str(first['loc'][0]))} {first['input']}: {first['msg']}") from None
