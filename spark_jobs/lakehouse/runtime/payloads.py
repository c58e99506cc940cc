"""What a batch's record tells beyond its inputs and its rows: one dataclass for each kind of batch, kept as JSON in ``detail``.

Records of earlier releases have words there; ``decode`` reads them too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

Offsets = dict[str, dict[str, int]]
"""Topic to partition to offset, as Spark writes them: partitions are text."""


@dataclass(frozen=True)
class Messages:
    """A batch of Kafka's messages.

    Attributes:
        epoch: the input's; offsets of another one say nothing.
        ends: of each partition that there has been, the offset after the last message.
        lost: of a partition (``topic/number``), the first offset that Kafka had deleted, and the first that it still had.
    """

    epoch: int
    ends: Offsets = field(hash=False)
    lost: Mapping[str, list[int]] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return f"messages up to {json.dumps(self.ends, sort_keys=True)}"


@dataclass(frozen=True)
class AutoLoaderFiles:
    """A micro-batch of Auto Loader: the id of its query, which lives in the checkpoint, and its number in it."""

    query: str
    number: int

    def __str__(self) -> str:
        return f"micro-batch {self.number} of Auto Loader"


@dataclass(frozen=True)
class Release:
    """A refused batch that a person lets through whatever share of it is bad."""

    def __str__(self) -> str:
        return "released"


@dataclass(frozen=True)
class Discard:
    """A refused batch that a person gives up for good."""

    by: str
    reason: str

    def __str__(self) -> str:
        return f"discarded by {self.by}: {self.reason}"


@dataclass(frozen=True)
class Replay:
    """Rows of an entity's quarantine that go back through validate."""

    entity: str

    def __str__(self) -> str:
        return f"replay of {self.entity}"


@dataclass(frozen=True)
class Refusal:
    """Why a batch has been refused."""

    reason: str

    def __str__(self) -> str:
        return self.reason


Payload = Messages | AutoLoaderFiles | Release | Discard | Replay | Refusal
KINDS: dict[str, type[Payload]] = {
    "kafka": Messages,
    "auto_loader": AutoLoaderFiles,
    "release": Release,
    "discard": Discard,
    "replay": Replay,
    "refusal": Refusal,
}
NAMES = {kind: name for name, kind in KINDS.items()}


def encode(payload: Payload | None) -> str | None:
    return None if payload is None else json.dumps({NAMES[type(payload)]: asdict(payload)}, sort_keys=True)


def decode(detail: str | None) -> Payload | None:
    """What a record's detail says; text of no known form is why a batch was refused."""
    if not detail:
        return None
    if detail.startswith("{"):
        ((name, values),) = json.loads(detail).items()
        return KINDS[name](**values)
    if detail == "released":
        return Release()
    if found := re.fullmatch(r"auto-loader (\S+) (\d+)", detail):
        return AutoLoaderFiles(found[1], int(found[2]))
    if found := re.fullmatch(r"replay(?: of (\w+))?", detail):
        return Replay(found[1] or "")
    if found := re.fullmatch(r"discarded by (.*?): (.*)", detail, re.DOTALL):
        return Discard(found[1], found[2])
    return Refusal(detail)
