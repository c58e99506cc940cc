"""A contract and a source, proposed from a profile: what a person edits instead of a blank page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from open_data_contract_standard.model import OpenDataContractStandard

from lakehouse.profiling.measure import MAX_DIGITS, MAX_VALUES_OF_AN_ENUM, Figures
from lakehouse.sql import quote

LOGICAL = {"int": "integer", "bigint": "integer", "double": "number", "boolean": "boolean", "timestamp": "timestamp"}
PERSONAL = re.compile(r"name|mail|phone|address|street|birth|zip|postcode|iban")
MIN_ROWS_FOR_AN_ENUM, SHARE_OF_AN_ENUM = 50, 0.05


def plain_name(name: str) -> str:
    """A received column's name as a contract spells it: ``Order ID`` and ``orderId`` become ``order_id``."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name))
    plain = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
    return plain if re.match(r"[a-z]", plain) else f"c_{plain}".rstrip("_")


def plain_names(names: Sequence[str]) -> dict[str, str]:
    """``plain_name`` of each, numbered where two would be the same."""
    found: dict[str, str] = {}
    for name in names:
        plain, n = plain_name(name), 2
        while plain in found.values():
            plain, n = f"{plain_name(name)}_{n}", n + 1
        found[name] = plain
    return found


def type_of(f: Figures) -> str:
    """The narrowest type that every given value can be read as; identifiers, and 007, stay text."""
    if not f.given or f.zeros or _is_id(f.name):
        return "string"

    def all_read(type_: str) -> bool:
        return f.reads_as[type_] == f.given

    for type_ in ("boolean", "int", "bigint"):
        if all_read(type_):
            return type_
    scale = max(f.places, 2)
    if all_read("decimal") and f.whole_digits + scale <= MAX_DIGITS:
        return f"decimal({MAX_DIGITS},{scale})"
    if all_read("double"):
        return "double"
    return "timestamp" if all_read("timestamp") else "string"


def key_candidates(figures: Sequence[Figures]) -> list[str]:
    """Columns that could be the key, the likeliest first: always given, nearly all different, called an id."""
    always = [f for f in figures if f.rows and f.given == f.rows and f.distinct >= 0.9 * f.rows]
    return [f.name for f in sorted(always, key=lambda f: not _is_id(f.name))]


def contract(name: str, figures: Sequence[Figures], key: str, key_repeats: bool) -> str:
    """An ODCS file for ``silver.<name>``, as YAML with remarks for the person who edits it."""
    names = plain_names([f.name for f in figures])
    model = OpenDataContractStandard.model_validate(
        {
            "apiVersion": "v3.1.0",
            "kind": "DataContract",
            "id": f"{name}-proposed",
            "name": name,
            "version": "0.1.0",
            "status": "draft",
            "description": {"purpose": f"Proposed from a profile of {figures[0].rows:,} rows. Edit before use."},
            "schema": [
                {
                    "name": name,
                    "physicalName": f"silver.{name}",
                    "physicalType": "table",
                    "logicalType": "object",
                    "properties": [_property(f, names[f.name], f.name == key) for f in figures],
                    "customProperties": [{"property": "mergeMode", "value": "history"}],
                }
            ],
        }
    )
    remarks = [
        "# Proposed from a profile. Look at each type, required, minimum and enumeration: they are what the",
        "# sample had, not what the business means. Then name the file <table>.odcs.yaml and put it into contracts/.",
    ]
    if key_repeats:
        remarks.append(f"# The key {names[key]} repeats in the sample: its rows are taken as versions of one thing.")
    dumped: str = yaml.safe_dump(
        model.model_dump(by_alias=True, exclude_none=True), sort_keys=False, allow_unicode=True, width=120
    )
    return "\n".join(remarks) + "\n" + dumped


def source(input_name: str, entities: Sequence[str], origin: Mapping[str, str], columns: Sequence[str]) -> str:
    """The ``source.yaml`` that reads the profiled files.

    Args:
        origin: their ``path``, ``pattern`` and ``format``; all else in it are options of the reader.
    """
    options = {k: v for k, v in origin.items() if k not in ("path", "pattern", "format")}
    declared: dict[str, Any] = {"path": origin["path"], "format": origin["format"], "columns": list(columns)}
    if origin["pattern"]:
        declared["pattern"] = origin["pattern"]
    if options:
        declared["options"] = options
    declared["entities"] = list(entities)
    described = f"Proposed from a profile of {origin['path']}. Say here what these files are, and who delivers them."
    whole = {"description": described, "inputs": {input_name: declared}}
    return yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=120)


def select(input_name: str, columns: Sequence[str]) -> str:
    """The SELECT from the received columns to the contract's."""
    names = plain_names(columns)
    lines = [f"  {quote(c)} AS {names[c]}" for c in columns]
    return "SELECT\n  _row,\n" + ",\n".join(lines) + f"\nFROM {input_name}\n"


def _property(f: Figures, name: str, key: bool) -> dict[str, Any]:
    type_ = "string" if key else type_of(f)
    share = f.given / f.rows if f.rows else 0.0
    described = f"{f.name}: given in {share:.1%} of the rows, about {f.distinct:,} values"
    if f.least is not None and type_ not in ("string", "boolean"):
        described += f", {_short(f.least)} to {_short(f.greatest)}"
    found: dict[str, Any] = {
        "name": name,
        "logicalType": "number" if type_.startswith("decimal") else LOGICAL.get(type_, "string"),
        "physicalType": type_,
        "description": f"{described}.",
    }
    if key:
        found |= {"primaryKey": True, "primaryKeyPosition": 1}
    if key or (f.rows and f.given == f.rows):
        found["required"] = True
    if PERSONAL.search(name):
        found["classification"] = "personal"
    if type_ not in ("string", "boolean", "timestamp") and f.least is not None and float(f.least) >= 0:
        found["logicalTypeOptions"] = {"minimum": 0}
    if type_ == "string" and not key and _is_enum(f):
        found["quality"] = [
            {"type": "library", "metric": "invalidValues", "arguments": {"validValues": _spellings(f)}, "mustBe": 0}
        ]
    return found


def _is_enum(f: Figures) -> bool:
    few = 1 < len(f.values) <= MAX_VALUES_OF_AN_ENUM and len(f.values) <= SHARE_OF_AN_ENUM * f.given
    return few and f.given >= MIN_ROWS_FOR_AN_ENUM and f.longest <= 40 and not _is_id(f.name)


def _spellings(f: Figures) -> list[str]:
    """One spelling of values that differ in letter case alone."""
    return list({v.lower(): v for v in reversed(f.values)}.values())[::-1]


def _is_id(name: str) -> bool:
    return re.search(r"(^|_)(id|no|nr|number|key|code|sku|uuid)$", plain_name(name)) is not None


def _short(number: str | None) -> str:
    return re.sub(r"[.]?0+$", "", number) if number and re.fullmatch(r"-?\d+[.]\d+", number) else str(number)
