"""Labelled sets for training: features as of cut-offs and as known by then, and what happened after them.

A set is the table ``gold.training_<name>`` and its manifest, a row of ``ops.training_sets``: from the
manifest the same set is built again, as long as Delta keeps the versions of silver that it names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse import __version__
from lakehouse.context import Context
from lakehouse.errors import ConfigurationError, InternalError, UsageError
from lakehouse.features import catalogue, customer_days, customers, definitions, gold, products
from lakehouse.features.labels import LABELS, labelled, labels
from lakehouse.instants import instant, of_micros
from lakehouse.options import TrainingSet
from lakehouse.session import prepare

TABLE = "ops.training_sets"
CUT_OFF, NOW = "cut-off", "now"
NAME = re.compile(r"[a-z][a-z0-9_]*")
INSTANT = r"^\d{4}-\d{2}-\d{2}[0-9T:.+Z-]*$"
MAX_CUT_OFFS = 60


@dataclass(frozen=True)
class Record:
    """A row of the table: a set that was made, and its manifest as JSON."""

    name: str
    manifest: str
    table_version: int
    run_id: str
    at: datetime


@dataclass(frozen=True)
class Recipe:
    """What a set is made from.

    Attributes:
        known_by: ``cut-off``, ``now``, or an instant: what was delivered at or after it is unknown.
        definitions: the name of what features and labels were defined by.
        silver: the version of each table of silver.
    """

    name: str
    cut_offs: tuple[str, ...]
    horizon_days: int
    known_by: str
    definitions: str
    silver: Mapping[str, int]

    def learned_before(self, cut_off: datetime) -> datetime | None:
        if self.known_by == NOW:
            return None
        return cut_off if self.known_by == CUT_OFF else instant(self.known_by)


class Manifest(BaseModel):
    """What of a manifest is used to build its set again; each in its shape, so that errors may name it."""

    name: Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
    cut_offs: Annotated[
        tuple[Annotated[str, Field(pattern=INSTANT)], ...], Field(min_length=1, max_length=MAX_CUT_OFFS)
    ]
    horizon_days: Annotated[int, Field(ge=1)]
    known_by: Annotated[str, Field(pattern=f"^({CUT_OFF}|{NOW})$|{INSTANT}")]
    definitions: Annotated[str, Field(pattern=r"^\w{1,64}$")]
    silver: dict[Annotated[str, Field(pattern=r"^silver\.[a-z][a-z0-9_]*$")], Annotated[int, Field(ge=0)]]
    code_version: Annotated[str, Field(pattern=r"^[\w.+-]{1,64}$")]
    content: Annotated[str, Field(pattern=r"^-?\d+$")] | None


def run(context: Context, options: TrainingSet) -> None:
    """Build a set, or build one again from its manifest.

    Raises:
        UsageError: the arguments name no set that can be made: a horizon has not passed, or nothing was known.
        ConfigurationError: the manifest is of other definitions, or of versions that are gone.
        InternalError: built again, the set is another one.
    """
    again = _read_manifest(options.from_manifest) if options.from_manifest else None
    recipe = _recipe(context, options, again)
    for table, version in recipe.silver.items():
        context.report.note(table, version_read=version)
    if again is None:
        _check_time(context, recipe)
    table = f"gold.training_{recipe.name}"
    prepare(context.warehouse.spark)
    parts = [_of_cut_off(context, recipe, instant(t)) for t in recipe.cut_offs]
    with context.report.step(f"publish {table}"):
        rows = context.warehouse.overwrite(reduce(DataFrame.unionByName, parts), table)
    manifest = asdict(recipe) | {"code_version": __version__, "labels": LABELS} | _figures(context, table)
    context.report.count(table, rows_written=rows)
    for cut_off, facts in manifest["by_cut_off"].items():
        context.report.say(f"{table} {cut_off}: {facts['rows']:,} customers, {facts['churned']:,} churned")
    if again is not None and again.content != manifest["content"]:
        raise InternalError(
            "built again, the set has other rows than its manifest says",
            where=table,
            todo="Report this with the manifest.",
        )
    text = json.dumps(manifest, indent=2, sort_keys=True)
    record = Record(recipe.name, text, context.warehouse.newest_version(table), context.run_id, context.now)
    context.warehouse.journal(TABLE, Record).append([record])
    if options.manifest:
        _write_manifest(Path(options.manifest), text)


def _recipe(context: Context, options: TrainingSet, manifest: Manifest | None) -> Recipe:
    if manifest is not None:
        recipe = Recipe(**{f: getattr(manifest, f) for f in Recipe.__dataclass_fields__})
        if not definitions.can_be_made(recipe.definitions):
            raise ConfigurationError(
                f"made by other definitions ({recipe.definitions}, these are {definitions.of_training_sets()})", where=options.from_manifest or "",
                todo=f"Use the release that made it: {manifest.code_version}.",
            )  # fmt: skip
        return recipe
    if not NAME.fullmatch(options.name or ""):
        raise UsageError(f"--name {options.name}", todo="Name the set with small letters, digits and underscores.")
    if options.known_by not in (CUT_OFF, NOW):
        instant(options.known_by)
    cut_offs = sorted({instant(t).isoformat() for t in options.cut_offs})
    if not 0 < len(cut_offs) <= MAX_CUT_OFFS:
        raise UsageError(f"--cut-offs: {len(cut_offs)} instants", todo=f"Name 1 to {MAX_CUT_OFFS}.")
    silver = gold.silver_versions(context)
    return Recipe(
        options.name or "", tuple(cut_offs), options.horizon, options.known_by, definitions.of_training_sets(), silver
    )


def _check_time(context: Context, recipe: Recipe) -> None:
    """Refuse cut-offs of which the labels are not known yet, or the features were not known then."""
    frames = gold.read_silver(context, recipe.silver)
    events = (
        frames["transactions"]
        .select(F.col("date").alias("at"), "_sequence.received")
        .unionByName(frames["interactions"].select(F.col("timestamp").alias("at"), "_sequence.received"))
    )
    found = events.agg(F.unix_micros(F.max("at")), F.unix_micros(F.min("received"))).first()
    if found is None or found[0] is None:
        raise UsageError("there is no event in silver", todo="Run the DAG, or merge.py, first.")
    newest, first = map(of_micros, found)
    # The day of the newest event is taken to be complete.
    complete = min(context.now, newest.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1))
    last, horizon = instant(recipe.cut_offs[-1]), timedelta(days=recipe.horizon_days)
    if last + horizon > complete:
        raise UsageError(
            f"the horizon of cut-off {last.isoformat()} ends {(last + horizon).isoformat()}, but events reach to {complete.isoformat()}",
            todo=f"The last cut-off with a horizon of {recipe.horizon_days} days is {(complete - horizon).isoformat()}.",
        )
    learned = recipe.learned_before(instant(recipe.cut_offs[0]))
    if learned is not None and learned <= first:
        raise UsageError(
            f"nothing was known by {learned.isoformat()}: the first delivery was at {first.isoformat()}",
            todo="Where history was delivered afterwards, say --known-by now.",
        )


def _of_cut_off(context: Context, recipe: Recipe, cut_off: datetime) -> DataFrame:
    then = gold.activity(gold.read_silver(context, recipe.silver, recipe.learned_before(cut_off)), cut_off)
    preferences = products.category_preferences(then)
    days = customer_days.of_activity(then)
    unscored = customers.unscored(then, customers.lifelong(days), customers.windowed(days, then), preferences)
    features = customers.customer_features(unscored, cut_off)
    published = features.select("customer_id", "as_of", *[f.name for f in catalogue.published()])
    published = definitions.as_defined(published, recipe.definitions)
    later = gold.activity(gold.read_silver(context, recipe.silver), cut_off + timedelta(days=recipe.horizon_days))
    return labelled(published, labels(later, cut_off))


def _figures(context: Context, table: str) -> dict:
    """Counts, class balance and a sum over all cells that does not depend on the order of rows."""
    rows = context.warehouse.read(table)
    content = F.sum(F.xxhash64(*[F.col(c) for c in sorted(rows.columns)]).cast("decimal(38,0)")).cast("string")
    spend = F.sum("future_spend").cast("string").alias("future_spend")
    counts = [F.count("*").alias("rows"), F.count_if("churned").alias("churned"), spend]
    by_cut_off = rows.groupBy(F.date_format("as_of", "yyyy-MM-dd'T'HH:mm:ssXXX").alias("t")).agg(*counts).orderBy("t")
    categories = rows.where("next_category IS NOT NULL").groupBy("next_category").count()
    whole = rows.agg(F.count("*").alias("rows"), content.alias("content")).first()
    assert whole is not None
    return {
        "rows": whole["rows"],
        "content": whole["content"],
        "columns": rows.columns,
        "by_cut_off": {r["t"]: {k: r[k] for k in ("rows", "churned", "future_spend")} for r in by_cut_off.collect()},
        "next_category": {r["next_category"]: r["count"] for r in categories.orderBy("next_category").collect()},
    }


def _read_manifest(path: str) -> Manifest:
    try:
        return Manifest.model_validate_json(Path(path).read_bytes())
    except (OSError, ValueError):
        # What is in it is not told: it may be any file.
        raise UsageError(
            f"--from-manifest {path}: is no manifest", todo="Name the file that --manifest wrote."
        ) from None


def _write_manifest(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"the manifest cannot be written: {error.strerror}",
            where=str(path),
            todo=f"Name another file. The set is made, and its manifest is in {TABLE}.",
        ) from error
