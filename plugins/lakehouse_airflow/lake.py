"""What a warehouse looks like now: its tables, runs, snapshots, quarantine and stream, read without Spark.

From the tables' logs and the small tables of ``ops``, so that an answer takes a fraction of a second whatever the size.
Of no use for tables of a catalog, which only the catalog can find.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import DeltaError
from deltalake.fs import DeltaStorageHandler
from pyarrow.fs import FileSelector, FileType, PyFileSystem

from lakehouse_airflow.suite import (
    Batch,
    Record,
    batches_of,
    canonical,
    is_uri,
    open_refusals,
    options,
    to_merge,
    to_validate,
)  # fmt: skip

LAYERS = ("bronze", "staged", "quarantine", "silver", "gold", "ops")
STAGES = ("ingest", "validate", "merge", "featurize", "optimize")
FIRST = "ops.progress"
"""The table whose id is that of the warehouse."""
WORKERS, ANSWERS = 8, 500
"""How many tables are looked at side by side, and how many answers are remembered."""
TOLD = (
    "numOutputRows",
    "numTargetRowsInserted",
    "numTargetRowsUpdated",
    "numTargetRowsDeleted",
    "numFiles",
    "numAddedFiles",
    "numRemovedFiles",
)
"""The figures of a commit that say what it has done."""


@dataclass(frozen=True)
class Table:
    """A table's newest version.

    Attributes:
        name: ``<layer>.<table>``.
        rows, files, size: of what is there; size in bytes.
        changed_at: when the version was committed.
        error: why it cannot be read; the figures are 0 then.
    """

    name: str
    version: int = 0
    rows: int = 0
    files: int = 0
    size: int = 0
    changed_at: datetime | None = None
    error: str = ""

    @property
    def layer(self) -> str:
        return self.name.split(".")[0]


@dataclass(frozen=True)
class State:
    """All of it.

    Attributes:
        runs: of each stage the newest one: stage, run_id, started_at, seconds, status, exit_code, error.
        snapshots: of each instant the newest entry, the latest first: as_of, state, reason, customers, made_at.
        reasons: of rows in quarantine that nobody has decided upon: entity, rule, rows, the most first.
        refused: batches that wait for a person: unit, batch_id, detail.
        waiting: how many batches of the stage before are still to be taken by validate, and by merge.
        arrivals: when rows of an entity, good or bad, have come last: entity, at.
        stream: of each input the last heartbeat, at most a week old.
    """

    tables: Mapping[str, Table]
    runs: list[dict[str, Any]] = field(default_factory=list)
    snapshots: list[dict[str, Any]] = field(default_factory=list)
    reasons: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    waiting: Mapping[str, int] = field(default_factory=dict)
    arrivals: list[dict[str, Any]] = field(default_factory=list)
    stream: list[dict[str, Any]] = field(default_factory=list)

    def rows(self, table: str) -> int:
        return self.tables[table].rows if table in self.tables else 0


class NoTables(FileNotFoundError):
    """No batch has run on the warehouse yet, or it is another one."""


class Lake:
    """The tables below a folder, or a location that deltalake can read; kept open, and brought up to date when asked."""

    def __init__(self, warehouse: str) -> None:
        self.warehouse = canonical(warehouse)
        self._options = options(self.warehouse)
        self._open: dict[str, DeltaTable] = {}
        self._tables: dict[str, Table] = {}
        # By table, version and query: a version never changes, and most tables do not from one page to the next.
        self._answers: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def state(self) -> State:
        """Everything, as it is now.

        Raises:
            NoTables: there is no table at all.
        """
        names = self.names()
        if not names:
            raise NoTables(f"{self.warehouse} has no tables: no batch has run on it.")
        with ThreadPoolExecutor(WORKERS) as pool:
            tables = dict(zip(names, pool.map(self.table, names), strict=True))
            answers = {
                name: pool.submit(self.select, query, table)
                for name, (table, query) in QUERIES.items()
                if table in tables and not tables[table].error
            }
            batches = self._batches() if FIRST in tables and not tables[FIRST].error else []
            reasons = [
                (name, pool.submit(self.select, REASONS, name))
                for name, table in tables.items()
                if table.layer == "quarantine" and not table.error
            ]
            found = {name: answer.result() for name, answer in answers.items()}
            rejected = [{"entity": n.split(".")[1], **r} for n, answer in reasons for r in answer.result()]
        rejected.sort(key=lambda r: (-r["rows"], r["entity"], r["rule"]))
        refused = [
            {"unit": b.unit, "batch_id": b.batch_id, "detail": str(b.end.payload or "") if b.end else ""}
            for b in sorted(
                open_refusals(b for b in batches if b.stage == "validate"), key=lambda b: (b.unit, b.batch_id)
            )
        ]
        return State(tables, reasons=rejected, refused=refused, waiting=_waiting(batches), **found)

    def _batches(self) -> list[Batch]:
        """What the records of each batch amount to; those that are settled for long have been forgotten."""
        rows = self.select("SELECT stage, unit, batch_id, state, inputs, rows, detail, run_id, at FROM t", FIRST)
        return batches_of(Record(**r | {"rows": dict(r["rows"] or ())}) for r in rows)

    def identity(self) -> str | None:
        """What tells the warehouse from any other, as run reports have it; None while it has none."""
        return str(self.opened(FIRST).metadata().id) if FIRST in self.names() else None

    def names(self) -> list[str]:
        """The tables there are, ``<layer>.<table>``."""
        if not is_uri(self.warehouse):
            logs = Path(self.warehouse).glob("*/*/_delta_log")
            return sorted(f"{p.parent.name}.{p.name}" for p in (log.parent for log in logs) if p.parent.name in LAYERS)
        # One listing a layer, and not of every object.
        store = PyFileSystem(DeltaStorageHandler(self.warehouse, self._options))
        with ThreadPoolExecutor(WORKERS) as pool:
            listed = pool.map(lambda layer: store.get_file_info(FileSelector(layer, allow_not_found=True)), LAYERS)
        folders = [f for files in listed for f in files if f.type == FileType.Directory]
        return sorted(".".join(f.path.strip("/").split("/")) for f in folders)

    def table(self, name: str) -> Table:
        """What the log of a table tells."""
        try:
            opened = self.opened(name)
            with self._lock:
                known = self._tables.get(name)
            if known is None or known.version != opened.version():
                files = pa.table(opened.get_add_actions(flatten=True))
                (commit,) = opened.history(1)
                sizes = files["size_bytes"].to_pylist()
                known = Table(
                    name, opened.version(), self.select("SELECT count(*) AS n FROM t", name)[0]["n"], len(sizes), sum(sizes),
                    datetime.fromtimestamp(commit["timestamp"] / 1000, UTC),
                )  # fmt: skip
                with self._lock:
                    self._tables[name] = known
            return known
        except (DeltaError, OSError, ValueError) as error:
            # What follows the first line is a stack of calls.
            return Table(name, error=(str(error).strip().splitlines() or [type(error).__name__])[0][:300])

    def since(self, instant: datetime) -> dict[str, Counter[str]]:
        """What runs that began since an instant have done, by table: the sums of their reports' figures."""
        done: dict[str, Counter[str]] = {}
        if "ops.runs" in self.names():
            query = f"SELECT report FROM t WHERE started_at >= TIMESTAMP '{instant:%Y-%m-%dT%H:%M:%S}Z'"  # noqa: S608
            for run in self.select(query, "ops.runs"):
                for table, figures in json.loads(run["report"])["tables"].items():
                    numbers = {k: v for k, v in figures.items() if isinstance(v, int) and "version" not in k}
                    done.setdefault(table, Counter()).update(numbers)
        return done

    def history(self, name: str, most: int = 50) -> list[dict[str, Any]]:
        """The newest versions of a table: version, at, operation, and the figures of its commit."""
        return [
            {
                "version": h["version"], "at": datetime.fromtimestamp(h["timestamp"] / 1000, UTC), "operation": h["operation"],
                "figures": {k: v for k, v in h.get("operationMetrics", {}).items() if k in TOLD},
            }
            for h in self.opened(name).history(most)
        ]  # fmt: skip

    def files(self, name: str) -> list[str]:
        """The addresses of a table's files, below the table's folder."""
        # The log has addresses, in which what is special in a folder's name is escaped once more.
        return [unquote(path) for path in pa.table(self.opened(name).get_add_actions())["path"].to_pylist()]

    def columns(self, name: str) -> list[tuple[str, str]]:
        """(name, type) of a table's columns."""
        return [(f.name, str(f.type)) for f in pa.schema(self.opened(name).schema().to_arrow())]

    def quarantined(self, entity: str, rule: str, first: int, most: int) -> list[dict[str, Any]]:
        """Rows that nobody has decided upon and that have a reason, the newest first: id, raw, reasons."""
        query = f"""
            WITH why AS (SELECT id, unnest(reasons) AS reason FROM t WHERE status = 'open')
            SELECT id, raw, reasons FROM t
            WHERE id IN (SELECT id FROM why WHERE reason['rule'] = {literal(rule)})
            ORDER BY _batch_id DESC, id LIMIT {int(most)} OFFSET {int(first)}"""  # noqa: S608
        return self.select(query, f"quarantine.{entity}")

    def passing(self) -> list[dict[str, Any]]:
        """Of each rule that looked at rows of late, the share that passed it in each of the newest batches: entity, measure, shares.

        The oldest batch comes first; ``rejected`` stands for all rules together.
        """
        if "ops.quality" not in self.names():
            return []
        found: dict[tuple[str, str], list[float]] = {}
        for r in self.select(PASSING, "ops.quality"):
            found.setdefault((r["entity"], r["measure"]), []).append(1 - r["value"] / r["rows"])
        return [{"entity": entity, "measure": measure, "shares": shares} for (entity, measure), shares in found.items()]

    def warned(self, most: int = 20) -> list[dict[str, Any]]:
        """What the newest runs of validate have warned of, the newest first: run_id, started_at, says (one warning)."""
        if "ops.runs" not in self.names():
            return []
        runs = self.select(VALIDATED, "ops.runs")
        told = [
            {"run_id": r["run_id"], "started_at": r["started_at"], "says": line}
            for r in runs
            for line in json.loads(r["report"]).get("warnings") or []
        ]
        return told[:most]

    def select(self, query: str, name: str) -> list[dict[str, Any]]:
        """The rows of a query over a table, which is ``t`` in it; in the SQL of DataFusion. They are shared: do not change them."""
        opened = self.opened(name)
        asked = name, opened.version(), query
        with self._lock:
            known = self._answers.get(asked)
        if known is None:
            answer = QueryBuilder().register("t", opened).execute(query)
            known = pa.table(answer.read_all()).to_pylist()
            with self._lock:
                self._answers[asked] = known
                if len(self._answers) > ANSWERS:
                    del self._answers[next(iter(self._answers))]
        return known

    def opened(self, name: str) -> DeltaTable:
        """A table at its newest version."""
        with self._lock:
            opened = self._open.get(name)
        if opened is None:
            opened = DeltaTable(f"{self.warehouse}/{name.replace('.', '/')}", storage_options=self._options)
            with self._lock:
                self._open[name] = opened
        else:
            opened.update_incremental()
        return opened


def _waiting(batches: list[Batch]) -> dict[str, int]:
    inputs = {b.unit for b in batches if b.stage == "ingest"}
    staged = {t.removeprefix("staged.") for b in batches if b.stage == "validate" for t in b.rows}
    found = {"validate": to_validate(batches, inputs), "merge": to_merge(batches, staged)}
    return {stage: sum(len(w.inputs) for w in work) for stage, work in found.items() if work}


def literal(value: str) -> str:
    """A text in the SQL of DataFusion, which knows no other escape."""
    quoted = value.replace("'", "''")
    return f"'{quoted}'"


def report_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """The report of one of ``State.runs``."""
    return json.loads(run["report"])


NEWEST_RUNS = """
    SELECT stage, run_id, started_at, seconds, status, exit_code, report FROM (
      SELECT *, row_number() OVER (PARTITION BY stage ORDER BY started_at DESC) AS place FROM t)
    WHERE place = 1 ORDER BY started_at"""
VALIDATED = """
    SELECT run_id, started_at, report FROM t WHERE stage = 'validate' ORDER BY started_at DESC LIMIT 100"""
SNAPSHOTS = """
    SELECT as_of, state, reason, customers, made_at FROM (
      SELECT *, row_number() OVER (PARTITION BY as_of ORDER BY batch_id DESC, state = 'published') AS place FROM t)
    WHERE place = 1 ORDER BY as_of DESC"""
REASONS = """
    SELECT rule, count(*) AS rows FROM (
      SELECT r['rule'] AS rule FROM (SELECT unnest(reasons) AS r FROM t WHERE status = 'open'))
    GROUP BY rule"""
ARRIVALS = """
    SELECT entity, max("at") AS "at" FROM t WHERE measure = 'rows' AND value > 0 GROUP BY entity ORDER BY entity"""
PASSING = """
    SELECT entity, measure, value, rows FROM (
      SELECT *, dense_rank() OVER (PARTITION BY entity ORDER BY batch_id DESC) AS place FROM t WHERE rows > 0)
    WHERE place <= 30 AND (measure LIKE 'rule:%' OR measure = 'rejected')
    ORDER BY entity, measure <> 'rejected', measure, batch_id"""
STREAM = """
    SELECT "at", run_id, input, state, error, restarts, messages, per_second, lag, batch_seconds, last_commit, merged_until, rejected
    FROM (SELECT *, row_number() OVER (PARTITION BY input ORDER BY "at" DESC) AS place FROM t)
    WHERE place = 1 ORDER BY input"""
QUERIES = {
    "runs": ("ops.runs", NEWEST_RUNS),
    "snapshots": ("ops.snapshots", SNAPSHOTS),
    "arrivals": ("ops.quality", ARRIVALS),
    "stream": ("ops.stream", STREAM),
}
