"""What a stage's function gets from whoever runs it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lakehouse.contracts import Contract
from lakehouse.report import RunReport

if TYPE_CHECKING:
    from lakehouse.sources import Input
    from lakehouse.tables import Warehouse


@dataclass(frozen=True)
class Context:
    """Everything but the stage's own options: nothing else reads the clock, the environment or argv.

    Attributes:
        contracts: by name; ``entities`` are those of silver, parents first.
        only: the entities or sources that were asked for; empty for all.
        now: when the run began.
        as_of: the instant up to which events count, if one was named.
    """

    warehouse: Warehouse
    contracts: dict[str, Contract]
    entities: dict[str, Contract]
    inputs: list[Input]
    only: list[str]
    run_id: str
    now: datetime
    as_of: datetime | None
    report: RunReport
