"""The validate stage: plan over new bronze batches, publish each, release what has waited for a parent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lakehouse.context import Context
from lakehouse.errors import DataRefused, UsageError
from lakehouse.ingestion.readers import is_corrupt
from lakehouse.options import Validate
from lakehouse.runtime.payloads import Discard, Payload, Refusal, Release, Replay
from lakehouse.runtime.progress import (
    CORRUPT_ROWS,
    DISCARDED,
    REFUSED,
    Batch,
    End,
    Work,
    open_refusals,
    to_validate,
)
from lakehouse.runtime.stages import Recovery, Stage
from lakehouse.sources import select_inputs
from lakehouse.validation import publishing, replay
from lakehouse.validation.history import History


def run(context: Context, options: Validate) -> None:
    """Validate every bronze batch that has not been validated.

    Raises:
        ConfigurationError: a SELECT or a rule cannot be evaluated. All other batches are done by then.
        DataRefused: a batch has more bad rows than a contract allows. All other batches are done
            by then; the refused one waits in bronze until it is released or discarded.
        InternalError: the rows of a batch do not balance.
    """
    stage = BronzeBatches(context, options)
    stage.carry_out()
    if stage.failures.are_of_settings:
        with stage.failures.of("what has waited for its parent"):
            replay.release_held(context, stage.progress, stage.inputs)
    for message in stage.history.stale(context.entities.values(), context.only):
        context.report.warn(message)
    if stage.failures:
        for refusal in stage.refusals:
            context.report.warn(refusal)
    stage.failures.raise_first()
    if stage.refusals:
        raise DataRefused(
            "; ".join(stage.refusals),
            todo="Their rows wait in bronze: mend the contract or the source, then run validate.py --release BATCH, "
            "or --discard BATCH --by NAME --reason TEXT.",
        )


class BronzeBatches(Stage):
    """A batch is some bronze batches of one input.

    An interrupted one is undone and not finished: the contract may have changed since, and a batch must be of one piece.
    """

    name, upstream = "validate", "ingest"
    recovery = Recovery.UNDO

    def __init__(self, context: Context, options: Validate) -> None:
        super().__init__(context)
        self.inputs = {i.name: i for i in select_inputs(context.inputs, context.only)}
        self._decided = _decisions(options, self.progress.batches())
        if others := sorted({w.unit for w in self._decided} - self.inputs.keys()):
            raise UsageError(f"--only leaves out {', '.join(others)}, of which a batch is named", todo="Name it, too.")
        self.history = History(context.warehouse, self.progress, context.run_id, context.now)
        self.refusals: list[str] = []

    def takes(self, batch: Batch) -> bool:
        return batch.unit in self.inputs

    def pending(self, undone: Sequence[Batch]) -> Iterable[Work]:
        again = [Work(b.unit, b.inputs, b.payload) for b in undone if not isinstance(b.payload, Replay)]
        # The last word of a person counts.
        decided = {(w.unit, w.inputs) for w in self._decided}
        again = [w for w in again if (w.unit, w.inputs) not in decided]
        return [*self._decided, *again, *to_validate(self.progress.known, self.inputs)]

    def rows(self, work: Sequence[Work | Batch]) -> float:
        arrived = {b.batch_id: b.rows.get(f"bronze.{b.unit}", 0) for b in self.progress.finished(self.upstream)}
        return sum(arrived.get(i, 0) for w in work for i in w.inputs)

    def beside(self, batches: Sequence[Batch]) -> list[str]:
        return [f"silver.{entity}" for entity in self.context.entities]

    def levels(self, batches: Sequence[Batch]) -> Iterable[Sequence[Batch]]:
        """Parents first: a row may refer to a row that another input delivers in the same run."""
        parents = {p for c in self.context.entities.values() for p in c.parents}
        feeding = {i.name for i in self.inputs.values() if any(entity in parents for entity, _ in i.sql)}
        first = [b for b in batches if b.unit in feeding]
        return [first, [b for b in batches if b.unit not in feeding]]

    def run(self, batch: Batch) -> End:
        report = self.context.report
        if isinstance(batch.payload, Discard):
            report.say(f"{batch.unit}: bronze batches {', '.join(map(str, batch.inputs))} {batch.payload}")
            return End(DISCARDED, payload=batch.payload)
        try:
            published = publishing.Publication(
                self.context, self.inputs[batch.unit], batch, self._arrived(batch)
            ).publish()
        except publishing.Refused as refusal:
            self.refusals.append(str(refusal))
            return End(REFUSED, payload=Refusal(str(refusal)))
        for p in published:
            for message in self.history.add(batch, p):
                report.warn(message)
        return End(rows={f"staged.{p.contract.name}": p.accepted for p in published})

    def rollback(self, batch: Batch) -> None:
        replay.undo(self.context, batch)

    def flush(self) -> None:
        # The figures of a batch count from its end on.
        self.history.commit()

    def _arrived(self, batch: Batch) -> publishing.Arrived:
        """What ingest has recorded of a batch's rows."""
        source = self.inputs[batch.unit]
        loaded = [b.rows for b in self.progress.finished(self.upstream) if b.batch_id in batch.inputs]
        if all(CORRUPT_ROWS in rows for rows in loaded):
            corrupt = sum(rows[CORRUPT_ROWS] for rows in loaded)
        else:
            # Loaded by a release that did not record it.
            bronze = publishing.bronze_rows(self.context, source, batch.inputs)
            corrupt = bronze.where(is_corrupt(bronze)).count()
        return publishing.Arrived(sum(rows[f"bronze.{source.name}"] for rows in loaded), corrupt)


def _decisions(options: Validate, validated: Iterable[Batch]) -> list[Work]:
    """What a person has decided about refused batches; raises UsageError where there is no such batch."""
    if options.discard and not (options.by and options.reason):
        raise UsageError("--discard without --by and --reason", todo="Say who decides, and why.")
    refused = {str(b.batch_id): b for b in open_refusals(validated)}
    for argument, names in (("--release", options.release), ("--discard", options.discard)):
        for name in names:
            if name not in refused:
                waiting = ", ".join(sorted(refused)) or "none"
                raise UsageError(f"{argument} {name}: no refused batch", todo=f"Waiting are: {waiting}.")
    if both := set(options.release) & set(options.discard):
        raise UsageError(
            f"both --release and --discard name batches of {', '.join(sorted(refused[name].unit for name in both))}",
            todo="Name each batch once.",
        )
    discard = Discard(options.by or "", options.reason or "")
    decided: list[tuple[str, Payload]] = [(n, Release()) for n in options.release]
    decided += [(n, discard) for n in options.discard]
    return [Work(refused[n].unit, refused[n].inputs, payload) for n, payload in sorted(decided, key=lambda d: d[0])]
