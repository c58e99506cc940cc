"""The life of a batch, whatever is killed or fails: each input is covered by one batch that is done, and its rows are there once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lakehouse.errors import ConfigurationError, InternalError, ServiceUnavailable, TryAgain
from lakehouse.report import RunReport
from lakehouse.runtime.progress import DONE, VOID, Batch, End, Progress, Record, Work, batches_of, to_merge
from lakehouse.runtime.stages import Failures, Recovery, Stage

START = datetime(2026, 3, 1, tzinfo=UTC)
UNITS = ("customers", "orders")


class Killed(BaseException):
    """Stands for kill -9."""


class FakeSession:
    """Takes the settings that a stage gives its session."""

    def __init__(self) -> None:
        self.conf = self

    def get(self, name: str, default: str | None = None) -> str | None:
        return default

    def set(self, name: str, value: str) -> None:
        pass


class Lake:
    """A journal of progress and the rows that were written, as far as they are durable; dies at a chosen commit."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.rows: list[tuple[str, int, int]] = []
        self.transactions: dict[str, int] = {}
        self.commits_left = -1
        self.location = "memory"
        self.spark = FakeSession()
        self.clock = START

    def journal(self, table: str, record: type) -> Lake:
        return self

    def read(self, stage: Sequence[str]) -> list[Record]:
        return [r for r in self.records if r.stage in stage]

    def _commit(self) -> None:
        if self.commits_left == 0:
            raise Killed
        self.commits_left -= 1

    def append(self, records: Iterable[Record], once: Any = None) -> bool:
        if once and self.transactions.get(once.application, -1) >= once.version:
            return False
        self._commit()
        if once:
            self.transactions[once.application] = once.version
        self.records += records
        return True

    def write(self, batch: Batch) -> None:
        """Rows of a batch, by its transaction."""
        transaction = batch.transaction("rows")
        if self.transactions.get(transaction.application, -1) >= transaction.version:
            return
        self._commit()
        self.transactions[transaction.application] = transaction.version
        self.rows += [(batch.unit, i, batch.batch_id) for i in batch.inputs]

    def delete(self, batch: Batch) -> None:
        if any(number == batch.batch_id for *_, number in self.rows):
            self._commit()
            self.rows = [r for r in self.rows if r[2] != batch.batch_id]


class Merge(Stage):
    """Writes what the batches of validate have for each unit."""

    name, upstream = "merge", "validate"

    def __init__(self, lake: Lake, broken: Iterable[str] = (), recovery: Recovery = Recovery.REDO) -> None:
        lake.clock += timedelta(seconds=1)
        report = RunReport("merge", "run", lake.clock)
        context: Any = SimpleNamespace(warehouse=lake, run_id="run", now=lake.clock, report=report)
        super().__init__(context)
        self.lake, self.broken, self.recovery = lake, broken, recovery  # type: ignore[misc]
        self.ran: list[int] = []

    def pending(self, undone: Sequence[Batch]) -> list[Work]:
        return [*(Work(b.unit, b.inputs) for b in undone), *to_merge(self.progress.known, UNITS)]

    def rows(self, work: Sequence[Work | Batch]) -> float:
        return sum(len(w.inputs) for w in work)

    def run(self, batch: Batch) -> End:
        self.ran.append(batch.batch_id)
        self.lake.write(batch)
        if batch.unit in self.broken:
            raise ConfigurationError(f"{batch.unit} is broken")
        return End(rows={f"silver.{batch.unit}": len(batch.inputs)})

    def rollback(self, batch: Batch) -> None:
        self.lake.delete(batch)


def deliver(lake: Lake, unit: str) -> None:
    number = max((r.batch_id for r in lake.records if r.stage == "validate"), default=0) + 1
    lake.records.append(Record("validate", unit, number, DONE, (), {f"staged.{unit}": 1}, None, "run", lake.clock))


steps = st.one_of(
    st.tuples(st.just("deliver"), st.sampled_from(UNITS)),
    st.tuples(st.just("killed"), st.integers(0, 6)),
    st.tuples(st.just("broken"), st.sampled_from(UNITS)),
    st.tuples(st.just("run")),
)


@pytest.mark.parametrize("recovery", list(Recovery))
@given(steps=st.lists(steps, max_size=25))
@settings(max_examples=150, deadline=None)
def test_each_input_is_covered_once_whatever_happens(recovery: Recovery, steps: list[tuple[Any, ...]]) -> None:
    lake = Lake()
    for name, *what in [*steps, ("run",)]:
        if name == "deliver":
            deliver(lake, what[0])
            continue
        lake.commits_left = what[0] if name == "killed" else -1
        with suppress(Killed):
            Merge(lake, what if name == "broken" else (), recovery).carry_out()
        covering = [
            (b.unit, i) for b in batches_of(lake.records) if b.stage == "merge" and b.state != VOID for i in b.inputs
        ]
        if recovery is Recovery.REDO:
            assert len(covering) == len(set(covering))
    done = [(b.unit, i) for b in batches_of(lake.records) if b.stage == "merge" and b.state == DONE for i in b.inputs]
    delivered = [(r.unit, r.batch_id) for r in lake.records if r.stage == "validate"]
    assert sorted(done) == sorted(delivered)
    assert sorted(r[:2] for r in lake.rows) == sorted(delivered)
    # And nothing is left to do.
    before = len(lake.records)
    Merge(lake, (), recovery).carry_out()
    assert len(lake.records) == before


def test_a_unit_that_fails_holds_up_its_own_batches_and_no_others() -> None:
    lake = Lake()
    deliver(lake, "orders")
    Merge(lake, ["orders"]).carry_out()
    deliver(lake, "orders")
    deliver(lake, "customers")
    stage = Merge(lake, ["orders"])
    stage.carry_out()
    # A second batch of orders would be written before the first.
    assert stage.ran == [1, 2]
    states = [(b.batch_id, b.unit, b.state) for b in batches_of(lake.read(["merge"]))]
    assert states == [(1, "orders", "planned"), (2, "customers", "done")]
    with pytest.raises(ConfigurationError, match="orders is broken"):
        stage.failures.raise_first()


def test_what_may_need_what_has_failed_does_not_begin() -> None:
    class InTurn(Merge):
        error: Exception

        def levels(self, batches: Sequence[Batch]) -> list[list[Batch]]:
            return [[b for b in batches if b.unit == unit] for unit in ("orders", "customers")]

        def run(self, batch: Batch) -> End:
            if batch.unit == "orders":
                self.ran.append(batch.batch_id)
                raise self.error
            return super().run(batch)

    for error, ran in ((ValueError("a bug"), ["orders"]), (ConfigurationError("a setting"), ["orders", "customers"])):
        lake = Lake()
        deliver(lake, "orders")
        deliver(lake, "customers")
        stage = InTurn(lake)
        stage.error = error
        stage.carry_out()
        planned = {b.batch_id: b.unit for b in batches_of(lake.read(["merge"]))}
        assert [planned[number] for number in stage.ran] == ran


def test_a_spark_that_is_gone_ends_the_run() -> None:
    failures = Failures(RunReport("merge", "run", START))
    with pytest.raises(RuntimeError), failures.of("orders"):
        raise RuntimeError("Cannot call methods on a stopped SparkContext.")
    with failures.of("orders"):
        raise ServiceUnavailable("Kafka does not answer")


def test_a_bug_is_raised_before_a_wrong_setting() -> None:
    report = RunReport("merge", "run", START)
    failures = Failures(report)
    for unit, error in (("a", ConfigurationError("a is wrong")), ("b", InternalError("rows do not balance"))):
        with failures.of(unit):
            raise error
    with pytest.raises(InternalError, match="do not balance"):
        failures.raise_first()
    assert report.warnings == ["a has failed, too: a is wrong"]


def test_several_wrong_settings_are_told_together_and_other_errors_one_by_one() -> None:
    report = RunReport("merge", "run", START)
    failures = Failures(report)
    failures.raise_first()
    for unit in ("a", "b"):
        with failures.of(unit):
            raise ConfigurationError(f"{unit} is wrong")
    with pytest.raises(ConfigurationError, match=r"a is wrong b is wrong"):
        failures.raise_first()
    with failures.of("c"):
        raise ValueError("c")
    with pytest.raises(ValueError, match=r"^c$"):
        failures.raise_first()
    assert report.warnings == ["a has failed, too: a is wrong", "b has failed, too: b is wrong"]
    with pytest.raises(TryAgain), failures.of("d"):
        raise TryAgain("ended by a signal")


def test_without_spark_no_plan_is_left() -> None:
    class Cold(Lake):
        @property
        def spark(self) -> FakeSession:  # type: ignore[override]
            raise ConnectionError("no Spark")

        @spark.setter
        def spark(self, value: FakeSession) -> None:
            pass

    lake = Cold()
    deliver(lake, "orders")
    with pytest.raises(ConnectionError):
        Merge(lake).carry_out()
    assert lake.read(["merge"]) == []
    assert Progress(lake, "merge", "run", START, "validate").outstanding() == []  # type: ignore[arg-type]
