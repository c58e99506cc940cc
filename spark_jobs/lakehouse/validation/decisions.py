"""What a person decides about quarantined rows: try them again, with corrections or without, or give them up."""

from __future__ import annotations

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.context import Context
from lakehouse.contracts import Contract, select_entities
from lakehouse.errors import UsageError
from lakehouse.options import Replay
from lakehouse.runtime import payloads
from lakehouse.runtime.progress import VOID, End, Progress
from lakehouse.session import prepare
from lakehouse.sql import quote
from lakehouse.validation import replay

PATCH = ("id", "column", "value")
CORRUPT = "_corrupt"
EXAMPLES = 5


def run(context: Context, options: Replay) -> None:
    """Carry out the decision that the arguments name, on every entity that they name (or all).

    Raises:
        UsageError: the arguments name nothing that is there, or contradict each other.
    """
    chosen = select_entities(context.entities, context.only)
    if options.action == "discard" and not (options.by and options.reason):
        raise UsageError("--action discard without --by and --reason", todo="Say who decides, and why.")
    if options.patch and (options.action == "discard" or len(context.only) != 1):
        raise UsageError("--patch", todo="Name one entity with --only, and replay or dry-run it.")
    prepare(context.warehouse.spark)
    progress = Progress(context.warehouse, "validate", context.run_id, context.now)
    if options.action != "dry-run":
        _undo(context, progress)
    for contract in chosen.values():
        if context.warehouse.exists(f"quarantine.{contract.name}"):
            _decide(context, options, progress, contract)


def _undo(context: Context, progress: Progress) -> None:
    """Take back replays that were interrupted; validate does so with all of its batches."""
    for batch in progress.outstanding():
        if isinstance(batch.payload, payloads.Replay):
            context.report.say(f"{batch.unit}: undoing the interrupted {batch.payload}")
            replay.undo(context, batch)
            progress.finish(batch, End(VOID))
    progress.commit()


def _decide(context: Context, options: Replay, progress: Progress, contract: Contract) -> None:
    report, table = context.report, f"quarantine.{contract.name}"
    inputs = {i.name: i for i in context.inputs}
    corrections = None
    if options.patch:
        feeding = [i for i in context.inputs if contract.name in dict(i.sql)]
        corrections = replay.read_corrections(context, contract, _patch(context, options.patch), feeding)
    selection = replay.Selection(rule=options.rule or "", since=options.since, until=options.until, ids=options.ids)
    # What an interrupted validate has written is going to be undone, and decided upon anew.
    unsettled = [b.batch_id for b in progress.outstanding()]
    rows = selection.of(context.warehouse.read(table)).where(~F.col("_batch_id").isin(unsettled))
    if corrections is not None:
        rows = rows.join(corrections.select("id"), "id", "left_semi")
    decision = replay.Decision(options.action, options.by or "", options.reason or "")
    if options.action == "discard":
        discarded = replay.discard(context, contract, rows, decision)
        report.count(table, rows_discarded=discarded)
        report.say(f"{contract.name}: {discarded:,} rows discarded by {options.by}: {options.reason}")
        return
    dry_run = options.action == "dry-run"
    outcome = replay.replay(context, progress, inputs, contract, rows, decision, corrections, dry_run=dry_run)
    report.count(table, rows_selected=outcome.selected, rows_still_rejected=outcome.selected - outcome.passed)
    if dry_run:
        report.count(table, rows_that_would_pass=outcome.passed)
    report.count_rules(contract.name, outcome.broken)
    verb = "would pass" if dry_run else "replayed"
    report.say(f"{contract.name}: {outcome.selected:,} rows selected, {outcome.passed:,} {verb}")
    for rule, count in sorted(outcome.broken.items(), key=lambda item: (-item[1], item[0])):
        report.say(f"{contract.name}: {count:,} still break {rule}")
    for example in outcome.examples[:EXAMPLES]:
        report.say(f"{contract.name}: for example {example}")


def _patch(context: Context, path: str) -> DataFrame:
    """The patch file as (id, column, value)."""
    lines = context.warehouse.spark.read.options(header="true", escape='"', multiLine="true", enforceSchema="false")
    try:
        found = lines.csv(path).columns
        if found != list(PATCH):
            # What is in the file is not told: it may be any file.
            raise UsageError(f"--patch {path}: is no patch", todo=f"Its first line must be {','.join(PATCH)}.")
        ddl = ", ".join(f"{quote(c)} STRING" for c in (*PATCH, CORRUPT))
        patch = lines.option("columnNameOfCorruptRecord", CORRUPT).schema(ddl).csv(path)
        numbered = patch.withColumn("row", F.monotonically_increasing_id() + 1)
        wrong = numbered.where(F.col(CORRUPT).isNotNull()).select("row", CORRUPT, *PATCH).first()
    except AnalysisException as error:
        raise UsageError(f"--patch {path}: cannot be read", todo="Name a CSV file.") from error
    if wrong is not None:
        raise UsageError(
            f"--patch {path}: not three fields in row {wrong['row']} below the header",
            todo="Put values with commas into quotes.",
        )
    return patch.select(*PATCH).where(F.col("id").isNotNull())
