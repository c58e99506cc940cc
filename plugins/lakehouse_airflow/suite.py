"""What the pages share with the stages: contracts, the life of batches, the rule by which optimize decides. None of it loads Spark.

Both are read as the stages read them, so that a page never tells another story than a run.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

# The stages' package is installed nowhere.
sys.path.append(str(Path(os.environ.get("LAKEHOUSE_ROOT") or Path(__file__).resolve().parents[2]) / "spark_jobs"))

from lakehouse.contracts import Column, Contract
from lakehouse.errors import ConfigurationError
from lakehouse.maintenance.needs import COMMITS, OPERATIONS, Layout, Need, commit, layout, need
from lakehouse.odcs import load_contracts
from lakehouse.runtime.progress import Batch, Record, batches_of, open_refusals, to_merge, to_validate
from lakehouse.storage import canonical, is_uri, options

__all__ = [
    "COMMITS",
    "OPERATIONS",
    "Batch",
    "Column",
    "ConfigurationError",
    "Contract",
    "Contracts",
    "Layout",
    "Need",
    "Record",
    "batches_of",
    "canonical",
    "commit",
    "is_uri",
    "layout",
    "need",
    "open_refusals",
    "options",
    "to_merge",
    "to_validate",
]


class Contracts:
    """The contracts of a folder; read again when a file has changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._state: tuple[tuple[str, int], ...] = ()
        self._read: dict[str, Contract] = {}

    def read(self) -> dict[str, Contract]:
        """By name; none where the folder is not on this machine.

        Raises:
            ConfigurationError: a file is wrong.
        """
        if not self.folder.is_dir():
            return {}
        state = tuple(sorted((f.name, f.stat().st_mtime_ns) for f in self.folder.glob("*.yaml")))
        with self._lock:
            if state != self._state:
                self._read, self._state = load_contracts(self.folder), state
            return self._read

    def of(self, table: str) -> Contract | None:
        """That of a table of silver or gold, ``<layer>.<table>``; a history has its entity's."""
        layer, _, name = table.partition(".")
        known = self.read()
        contract = known.get(name) or known.get(name.removesuffix("_history"))
        return contract if contract and contract.layer == layer else None
