"""Open Data Contract Standard files, read into contracts.

The YAML is parsed by the standard's published pydantic models; this module only picks the parts
that this suite acts on. What the standard has no field for is a ``customProperty``:

========================  ==========================================================================
property                  meaning
========================  ==========================================================================
mergeMode                 table: ``history`` (default: every version counts, intervals are kept) or
                          ``first`` (insert-only: the version with the lowest sequence stays)
merge                     column: ``latest`` (default), ``least`` or ``greatest``
aliases                   column: other spellings of an enumeration's values
defaultWhenNull           column: the value a missing one is replaced with (counted and marked)
onOrphan                  column with a relationship: ``accept`` (default: a warning), ``hold`` (in
                          quarantine until the parent arrives) or ``reject``
severity                  column: by kind of rule (required, cast, enum, range, length, pattern),
                          ``reject``, ``warn`` or ``fail``; length and pattern warn by default, the
                          others reject; on a key all reject
failAbove                 column: the share of a batch that may break a rule of severity ``fail``
                          before the batch is refused (default 0)
maxAheadOfIngestion       column: how far after its ingestion an instant may lie (ISO 8601 duration,
                          days: ``P1D``)
zOrderBy, partitionBy     table: layout
maxRejectedShare,         table: a batch of at least ``minRowsToRefuse`` rows of which more than
minRowsToRefuse           this share is rejected is refused as a whole
thinToWeekly,             gold table: of the snapshots made longer ago than this (ISO 8601 duration,
thinToMonthly             days: ``P60D``), the last of each week, or month, stays
========================  ==========================================================================

A table's own rules are ``quality`` entries of type custom and engine spark. Their ``severity`` is one
of the three; for ``fail``, ``mustBeLessOrEqualTo`` with ``unit: percent`` is the share of a batch that
may break the rule. Of ``slaProperties``, ``freshness`` and ``retention`` count, in the units of ``service_levels``. ``unique: true`` on a column that is no key warns of values that several keys have.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from open_data_contract_standard.model import (
    CustomProperty,
    DataQuality,
    OpenDataContractStandard,
    SchemaObject,
    SchemaProperty,
)
from pydantic import ValidationError

from lakehouse.contracts import FAIL, KINDS, REJECT, SEVERITIES, WARN, Column, Contract, Rule
from lakehouse.errors import ConfigurationError
from lakehouse.service_levels import promised

SUFFIX = ".odcs.yaml"
IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
TYPES = re.compile(r"string|int|bigint|double|boolean|timestamp|date|decimal\(\d{1,2},\d{1,2}\)")
ON_ORPHAN = ("accept", "hold", "reject")


def load_contracts(folder: str | Path) -> dict[str, Contract]:
    """Read every contract of a folder.

    Returns:
        Contracts by table name.

    Raises:
        ConfigurationError: the folder has no contract, or one of them is not valid; the message
            names the file and the place in it.
    """
    files = sorted(Path(folder).glob(f"*{SUFFIX}"))
    if not files:
        raise ConfigurationError(
            f"no *{SUFFIX} file", where=str(folder), todo="Point --contracts at the folder that holds them."
        )
    contracts = {}
    for file in files:
        contract = load_contract(file)
        if contract.name != file.name.removesuffix(SUFFIX):
            raise ConfigurationError(
                f"describes '{contract.name}'", where=str(file), todo=f"Name the file {contract.name}{SUFFIX}."
            )
        contracts[contract.name] = contract
    for contract in contracts.values():
        for column in contract.columns:
            if column.references and column.references[0] not in contracts:
                raise ConfigurationError(
                    f"refers to '{column.references[0]}', which has no contract",
                    where=f"{contract.name}.{column.name}",
                    todo="Mend the relationship or add the contract.",
                )
            if column.references and contracts[column.references[0]].keys != [column.references[1]]:
                raise ConfigurationError(
                    f"refers to {'.'.join(column.references)}, which is not that table's key",
                    where=f"{contract.name}.{column.name}",
                    todo="Refer to the one column that is its primary key.",
                )
    return contracts


def load_contract(file: Path) -> Contract:
    """Read one contract file; raises ConfigurationError with the file's name and what is wrong."""
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        model = OpenDataContractStandard(**content)
        return _from_model(model, hashlib.sha256(_canonical(content)).hexdigest()[:16])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(
            f"not a valid data contract: {place}: {first['msg']}",
            where=str(file),
            todo="Mend that field; `datacontract lint FILE` lists every fault.",
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        raise ConfigurationError(
            f"not valid YAML{line}: {getattr(error, 'problem', error)}", where=str(file), todo="Mend the syntax."
        ) from error
    except (OSError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise ConfigurationError(f"cannot be read: {error}", where=str(file), todo="Check the file.") from error
    except ConfigurationError as error:
        raise ConfigurationError(error.what, where=f"{file}: {error.where}".rstrip(": "), todo=error.todo) from error


def _canonical(content: object) -> bytes:
    """A contract's content, whatever the comments and the layout of its file."""
    return json.dumps(content, sort_keys=True, default=str).encode()


def _from_model(model: OpenDataContractStandard, fingerprint: str) -> Contract:
    tables = model.schema_ or []
    if len(tables) != 1:
        raise ConfigurationError(f"describes {len(tables)} tables", where="schema", todo="Describe exactly one.")
    table = tables[0]
    name = table.name or ""
    layer = (table.physicalName or "").partition(".")[0]
    if not IDENTIFIER.fullmatch(name) or layer not in ("silver", "gold"):
        raise ConfigurationError(
            f"the table is called '{table.physicalName}'",
            where="schema[0]",
            todo="Set name (lower-case letters, digits, _) and physicalName (silver.NAME or gold.NAME).",
        )
    extra = _properties(table.customProperties)
    columns = tuple(_column(p) for p in table.properties or [])
    levels = [level.model_dump() for level in model.slaProperties or []]
    contract = Contract(
        name=name,
        layer=layer,
        columns=columns,
        rules=_rules(table),
        description=" ".join((table.description or "").split()),
        merge_mode=_one_of(extra.get("mergeMode", "history"), ("history", "first"), "mergeMode"),
        partition_by=tuple(
            p.name or ""
            for p in sorted(
                (p for p in table.properties or [] if p.partitioned), key=lambda p: p.partitionKeyPosition or 0
            )
        ),
        z_order_by=tuple(extra.get("zOrderBy", ())),
        max_rejected_share=extra.get("maxRejectedShare"),
        min_rows_to_refuse=int(extra.get("minRowsToRefuse", 100)),
        retention_days=_retention_days(levels),
        weekly_after_days=_days_or_none(extra.get("thinToWeekly"), "thinToWeekly"),
        monthly_after_days=_days_or_none(extra.get("thinToMonthly"), "thinToMonthly"),
        freshness_hours=_freshness_hours(levels),
        fingerprint=fingerprint,
    )
    names = contract.column_names
    if len(set(names)) != len(names):
        raise ConfigurationError("a column is declared twice", where=name, todo="Remove one of them.")
    if not contract.keys:
        raise ConfigurationError("no column has primaryKey: true", where=name, todo="Mark the key.")
    for listed in (*contract.z_order_by,):
        if listed not in names:
            raise ConfigurationError(f"zOrderBy names '{listed}', which is no column", where=name)
    return contract


def _column(p: SchemaProperty) -> Column:
    name, type_ = p.name or "", (p.physicalType or "").lower().replace(" ", "")
    if not IDENTIFIER.fullmatch(name):
        raise ConfigurationError(f"'{name}' is no column name", where="properties", todo="Use a-z, 0-9 and _.")
    if not TYPES.fullmatch(type_):
        raise ConfigurationError(
            f"physicalType '{p.physicalType}' is not supported", where=name, todo=f"Use one of {TYPES.pattern}."
        )
    extra = _properties(p.customProperties)
    options = p.logicalTypeOptions or {}
    enum: tuple[str, ...] = ()
    for quality in p.quality or []:
        if quality.metric == "invalidValues" and (quality.arguments or {}).get("validValues"):
            enum = tuple(str(v) for v in quality.arguments["validValues"])  # type: ignore[index]
        else:
            raise ConfigurationError(
                f"column quality rule '{quality.name or quality.metric}' is not supported",
                where=name,
                todo="Use metric invalidValues with validValues here, or a custom SQL rule on the table.",
            )
    aliases = tuple((str(k), str(v)) for k, v in (extra.get("aliases") or {}).items())
    for alias, target in aliases:
        if target not in enum:
            raise ConfigurationError(f"alias '{alias}' stands for '{target}', which is not allowed", where=name)
    default = extra.get("defaultWhenNull")
    return Column(
        name=name,
        type=type_,
        description=" ".join((p.description or "").split()),
        key=bool(p.primaryKey),
        required=bool(p.required),
        enum=enum,
        aliases=aliases,
        minimum=_text(options.get("minimum")),
        maximum=_text(options.get("maximum")),
        min_length=options.get("minLength"),
        max_length=options.get("maxLength"),
        pattern=options.get("pattern"),
        max_days_ahead=_days(extra["maxAheadOfIngestion"], name) if "maxAheadOfIngestion" in extra else None,
        default=None if default is None else str(default),
        merge=_one_of(extra.get("merge", "latest"), ("latest", "least", "greatest"), name),
        references=_reference(p),
        on_orphan=_one_of(extra.get("onOrphan", "accept"), ON_ORPHAN, name),
        personal=p.classification == "personal",
        unique=bool(p.unique),
        severities=_severities(extra.get("severity") or {}, bool(p.primaryKey), name),
        fail_above=_share(extra.get("failAbove", 0), name),
    )


def _rules(table: SchemaObject) -> tuple[Rule, ...]:
    rules = []
    for q in table.quality or []:
        if q.type != "custom" or q.engine != "spark" or not isinstance(q.implementation, str) or not q.name:
            raise ConfigurationError(
                f"quality rule '{q.name}' is not supported",
                where=table.name or "",
                todo="Use type: custom, engine: spark, a name, and a SQL expression as implementation.",
            )
        rules.append(
            Rule(
                name=q.name,
                expression=q.implementation,
                severity=(severity := _one_of(q.severity or WARN, SEVERITIES, q.name)),
                message=" ".join((q.description or q.implementation).split()),
                fail_above=_percentage(q) if severity == FAIL else 0.0,
            )
        )
    return tuple(rules)


def _severities(declared: Any, key: bool, where: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(declared, dict):
        raise ConfigurationError("severity is no map", where=where, todo="Write {pattern: reject}, by kind of rule.")
    for kind, severity in declared.items():
        _one_of(kind, tuple(KINDS), where)
        if _one_of(severity, SEVERITIES, where) != REJECT and key:
            raise ConfigurationError(
                f"severity {severity} for {kind} of a key", where=where, todo="A row without a sound key is rejected."
            )
    return tuple(sorted(declared.items()))


def _percentage(q: DataQuality) -> float:
    """The share of rows that may break a rule of severity fail."""
    if q.mustBeLessOrEqualTo is None:
        return 0.0
    if q.unit != "percent":
        raise ConfigurationError(
            f"mustBeLessOrEqualTo in '{q.unit}'", where=q.name or "", todo="Add unit: percent; shares are per batch."
        )
    return _share(q.mustBeLessOrEqualTo / 100, q.name or "")


def _share(value: Any, where: str) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigurationError(f"'{value}' is no share", where=where, todo="Use a number from 0 to 1.")
    return float(value)


def _reference(p: SchemaProperty) -> tuple[str, str] | None:
    for relationship in p.relationships or []:
        entity, _, column = str(relationship.to).partition(".")
        if not column:
            raise ConfigurationError(
                f"relationship to '{relationship.to}'", where=p.name or "", todo="Use TABLE.COLUMN."
            )
        return entity, column
    return None


def _properties(properties: list[CustomProperty] | None) -> dict[str, Any]:
    return {p.property or "": p.value for p in properties or []}


def _one_of(value: Any, allowed: tuple[str, ...], where: str) -> str:
    if value not in allowed:
        raise ConfigurationError(f"'{value}' is not one of {', '.join(allowed)}", where=where)
    return str(value)


def _days(value: Any, where: str) -> int:
    match = re.fullmatch(r"P(\d+)D", str(value))
    if not match:
        raise ConfigurationError(f"'{value}' is not a duration in days", where=where, todo="Write P1D for one day.")
    return int(match[1])


def _days_or_none(value: Any, where: str) -> int | None:
    return None if value is None else _days(value, where)


def _text(value: Any) -> str | None:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return None if value is None else str(value)


def _retention_days(levels: list[dict[str, Any]]) -> int | None:
    retention = _promised(levels, "retention")
    if retention is not None and retention % timedelta(days=1):
        raise ConfigurationError("retention is no whole number of days", where="slaProperties")
    return None if retention is None else retention.days


def _freshness_hours(levels: list[dict[str, Any]]) -> float | None:
    freshness = _promised(levels, "freshness")
    return None if freshness is None else freshness / timedelta(hours=1)


def _promised(levels: list[dict[str, Any]], name: str) -> timedelta | None:
    try:
        return promised(levels, name)
    except ValueError as error:
        raise ConfigurationError(str(error), where="slaProperties", todo="Mend that service level.") from error
