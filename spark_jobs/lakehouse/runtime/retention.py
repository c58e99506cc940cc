"""Which records of ``ops.progress`` nobody asks for any more: a stream adds some every few seconds, and every round reads them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from lakehouse.runtime.progress import DISCARDED, DONE, PLANNED, REFUSED, TABLE, VOID, Batch, Record, batches_of
from lakehouse.tables import Warehouse

KEPT = 200
"""How many of an input's newest batches stay, and what came of them. More than validate compares a batch with."""


def prune(warehouse: Warehouse, kept: int = KEPT) -> int:
    """Delete the records of settled batches, in one commit; returns of how many batches."""
    journal = warehouse.journal(TABLE, Record)
    gone = settled(batches_of(journal.read()), kept)
    conditions = [
        f"(stage = '{stage}' AND batch_id IN ({', '.join(map(str, sorted(ids)))}))"
        for stage, ids in sorted(gone.items())
        if ids
    ]
    if conditions:
        journal.delete(" OR ".join(conditions))
    return sum(map(len, gone.values()))


def settled(known: Iterable[Batch], kept: int = KEPT) -> dict[str, set[int]]:
    """The batches that can be forgotten at once, by stage: no stage would find more or less to do without them.

    A batch goes with all that it covers, and with all that covers it: a plan that went before the batch it covers
    would have that one done again, and a release that went before the refusal would have it refused again.

    Args:
        known: all batches of all stages.
        kept: how many of an input's newest batches stay, settled or not.
    """
    batches: dict[str, dict[int, Batch]] = defaultdict(dict)
    covering: dict[tuple[str, str, int], list[Batch]] = defaultdict(list)
    for r in sorted(known, key=lambda r: r.batch_id):
        batches[r.stage][r.batch_id] = r
        for i in r.inputs:
            covering[r.stage, r.unit, i].append(r)

    def merged(r: Batch) -> bool:
        """Whether silver has what a validated batch has accepted."""
        entities = [
            table.removeprefix("staged.") for table, rows in r.rows.items() if rows and table.startswith("staged.")
        ]
        return all(any(m.state == DONE for m in covering["merge", entity, r.batch_id]) for entity in entities)

    def over(r: Batch) -> bool:
        """Whether a validation, or a replay, is at its end."""
        return r.state in (VOID, DISCARDED) or (r.state == DONE and merged(r))

    def through(r: Batch) -> bool:
        """Whether an ingested batch has gone through validate, or has nothing for it."""
        if r.state == VOID or (r.state == DONE and not r.rows.get(f"bronze.{r.unit}")):
            return True
        lasting = [v for v in covering["validate", r.unit, r.batch_id] if v.state != VOID]
        return bool(lasting) and over(lasting[-1])

    gone: dict[str, set[int]] = {stage: set() for stage in ("ingest", "validate", "merge", "featurize")}
    for newer, r in _from_newest(batches["ingest"]):
        # Of a topic, the last batch that is done tells how far it has been loaded.
        if through(r) and (newer >= kept or r.state == VOID):
            gone["ingest"].add(r.batch_id)
    for newer, r in _from_newest(batches["validate"]):
        # A replay covers nothing, so that its age decides.
        old = set(r.inputs) & batches["ingest"].keys() <= gone["ingest"] if r.inputs else newer >= kept
        if old and (over(r) or (r.state == REFUSED and r.inputs)):
            gone["validate"].add(r.batch_id)
    for newer, r in _from_newest(batches["merge"]):
        # Of the last one, featurize makes its fingerprint.
        if newer and r.state == DONE and set(r.inputs) & batches["validate"].keys() <= gone["validate"]:
            gone["merge"].add(r.batch_id)
    for newer, r in _from_newest(batches["featurize"]):
        if newer >= kept and r.state != PLANNED:
            gone["featurize"].add(r.batch_id)
    return gone


def _from_newest(batches: Mapping[int, Batch]) -> Iterator[tuple[int, Batch]]:
    """A stage's batches but for the last, from whose number the next ones count; each with how many of its unit were done after it."""
    done: dict[str, int] = defaultdict(int)
    last = max(batches, default=0)
    for batch_id in sorted(batches, reverse=True):
        r = batches[batch_id]
        if batch_id != last:
            yield done[r.unit], r
        done[r.unit] += r.state == DONE
