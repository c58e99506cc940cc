"""What is forgotten of ops.progress: no stage finds more or less to do without it, whatever has happened before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lakehouse.runtime.progress import (
    DISCARDED,
    DONE,
    PLANNED,
    REFUSED,
    VOID,
    Progress,
    Record,
    Work,
    batches_of,
    open_refusals,
    to_merge,
    to_validate,
)
from lakehouse.runtime.retention import settled

INPUTS = ["shop_orders", "other_orders"]
ENTITIES = ["orders", "clicks"]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Known(Progress):
    """What a stage knows when it reads these records."""

    def __init__(self, records: list[Record], stage: str, upstream: str = "") -> None:
        def read(stage: list[str]) -> list[Record]:
            return [r for r in records if r.stage in stage]

        journal = SimpleNamespace(read=read)
        warehouse: Any = SimpleNamespace(location="", journal=lambda table, record: journal)
        super().__init__(warehouse, stage, "run", NOW, upstream)


class Shop:
    """A table of progress, and what the stages do to it."""

    def __init__(self) -> None:
        self.rows: list[Record] = []

    def end(self, stage: str, unit: str, batch_id: int, state: str, rows: dict[str, int]) -> None:
        self.rows.append(Record(stage, unit, batch_id, state, (), rows, None, "run", NOW))

    def plan(self, stage: str, unit: str, inputs: tuple[int, ...] = (), detail: str | None = None) -> int:
        number = Known(self.rows, stage)._last_id + 1
        self.rows.append(Record(stage, unit, number, PLANNED, inputs, {}, detail, "run", NOW))
        return number

    def ingest(self, unit: str, rows: int, state: str = DONE) -> None:
        number = self.plan("ingest", unit)
        if state != PLANNED:
            self.end("ingest", unit, number, state, {f"bronze.{unit}": rows} if state == DONE else {})

    def validate(self, outcome: str, entities: tuple[str, ...]) -> None:
        """One run: what an earlier one has left is undone, and all that is new is planned and comes to an outcome."""
        progress = Known(self.rows, "validate", "ingest")
        left = progress.outstanding()
        work = dict.fromkeys([*(Work(b.unit, b.inputs) for b in left), *to_validate(progress.known, INPUTS)])
        planned = [(self.plan("validate", w.unit, w.inputs), w.unit) for w in work]
        for b in left:
            self.end("validate", b.unit, b.batch_id, VOID, {})
        for number, unit in planned:
            if outcome != PLANNED:
                rows = {f"staged.{e}": 5 for e in entities} if outcome == DONE else {}
                self.end("validate", unit, number, outcome, rows)

    def decide(self, outcome: str) -> None:
        """A person releases, or discards, what has been refused; a release may be refused again."""
        progress = Known(self.rows, "validate", "ingest")
        for b in open_refusals(progress.batches()):
            number = self.plan("validate", b.unit, b.inputs, "released")
            self.end("validate", b.unit, number, outcome, {"staged.orders": 3} if outcome == DONE else {})

    def replay(self, entity: str) -> None:
        self.end("validate", entity, self.plan("validate", entity, (), "replay"), DONE, {f"staged.{entity}": 1})

    def merge(self, *, ends: bool) -> None:
        progress = Known(self.rows, "merge", "validate")
        batches = [(b.unit, b.batch_id) for b in progress.outstanding()]
        batches += [(w.unit, self.plan("merge", w.unit, w.inputs)) for w in to_merge(progress.known, ENTITIES)]
        for unit, number in batches if ends else []:
            self.end("merge", unit, number, DONE, {f"silver.{unit}": 1})

    def featurize(self, state: str) -> None:
        number = self.plan("featurize", "2026-01-01T00:00:00+00:00")
        if state != PLANNED:
            self.end("featurize", "2026-01-01T00:00:00+00:00", number, state, {})

    def prune(self, kept: int) -> None:
        gone = settled(batches_of(self.rows), kept)
        self.rows = [r for r in self.rows if r.batch_id not in gone[r.stage]]

    def todo(self) -> dict[str, Any]:
        """All that the stages ask the table for."""
        ingest = Known(self.rows, "ingest")
        validate, merge = Known(self.rows, "validate", "ingest"), Known(self.rows, "merge", "validate")
        featurize = Known(self.rows, "featurize", "merge")
        validated = [f for f in validate.finished("validate") if f.state == DONE]
        return {
            "last": [p._last_id for p in (ingest, validate, merge, featurize)],
            "outstanding": [p.outstanding() for p in (ingest, validate, merge, featurize)],
            "to validate": to_validate(validate.known, INPUTS),
            "refused": [(b.batch_id, b.inputs) for b in open_refusals(validate.batches())],
            "to merge": to_merge(merge.known, ENTITIES),
            "fingerprint": {f.unit: f.batch_id for f in featurize.finished("merge") if f.state == DONE},
            "loaded": {f.unit: f.batch_id for f in ingest.finished("ingest") if f.state == DONE},
            "newest validated": {f.unit: f.batch_id for f in validated},
        }


units = st.sampled_from(INPUTS)
entities = st.sampled_from([("orders",), ("clicks",), ("orders", "clicks"), ()])
steps = st.one_of(
    st.tuples(st.just("ingest"), units, st.sampled_from([0, 7]), st.sampled_from([DONE, DONE, DONE, VOID, PLANNED])),
    st.tuples(st.just("validate"), st.sampled_from([DONE, DONE, REFUSED, PLANNED]), entities),
    st.tuples(st.just("decide"), st.sampled_from([DONE, DISCARDED, REFUSED])),
    st.tuples(st.just("replay"), st.sampled_from(list(ENTITIES))),
    st.tuples(st.just("merge"), st.sampled_from([True, True, False])),
    st.tuples(st.just("featurize"), st.sampled_from([DONE, VOID, PLANNED])),
    st.tuples(st.just("prune"), st.integers(1, 3)),
)


ONCE: list[tuple[Any, ...]] = [("ingest", "shop_orders", 7, DONE), ("validate", DONE, ("orders",)), ("merge", True)]
TWICE = [*ONCE, ("ingest", "shop_orders", 7, DONE), ("validate", DONE, ("clicks",)), ("merge", True)]
"""The last batch of orders is older than that of clicks, and all that it covers has been settled."""


@given(st.lists(steps, max_size=40))
@example([*TWICE, ("prune", 1)])
@settings(max_examples=400, deadline=None)
def test_stages_find_the_same_to_do(steps: list[tuple[Any, ...]]) -> None:
    whole, pruned = Shop(), Shop()
    for name, *arguments in steps:
        for shop in (whole, pruned):
            if name == "merge":
                shop.merge(ends=arguments[0])
            elif name != "prune":
                action: Callable[..., None] = getattr(shop, name)
                action(*arguments)
            elif shop is pruned:
                shop.prune(*arguments)
        expected, found = whole.todo(), pruned.todo()
        # A validated batch is looked up among the newest only, for what is usual.
        newest = expected.pop("newest validated")
        assert found.pop("newest validated").items() <= newest.items()
        assert found == expected


@pytest.mark.parametrize("rounds", [50, 400])
def test_a_stream_does_not_let_the_table_grow(rounds: int) -> None:
    shop = Shop()
    for n in range(rounds):
        shop.ingest("shop_orders", 7)
        shop.validate(DONE, ("orders",))
        shop.merge(ends=True)
        if n % 10 == 0:
            shop.replay("orders")
            shop.ingest("shop_orders", 0, VOID)
        shop.prune(kept=5)
    batches = {(r.stage, r.batch_id) for r in shop.rows}
    # Five of each stage, five replays, and what merge has made of those.
    assert len(batches) <= 5 * 5


def test_what_waits_is_kept() -> None:
    shop = Shop()
    shop.ingest("shop_orders", 7)
    shop.validate(REFUSED, ())
    for _ in range(5):
        shop.ingest("shop_orders", 7)
        shop.validate(DONE, ("orders",))
    shop.prune(kept=1)
    # The refused one, for a person; the others because they are not merged.
    assert {(r.stage, r.batch_id) for r in shop.rows} == {(s, n) for s in ("ingest", "validate") for n in range(1, 7)}
    shop.decide(DISCARDED)
    shop.merge(ends=True)
    shop.prune(kept=1)
    assert {(r.stage, r.batch_id) for r in shop.rows} == {
        ("ingest", 6),
        ("validate", 6),
        ("validate", 7),
        ("merge", 1),
    }
