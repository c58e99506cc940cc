"""Good files with random damage: whatever a file is, ingest goes on, good files are loaded, and no row is lost.

Each row of a good file has a mark of its own. A mark that is whole in a damaged file's bytes must be in bronze afterwards
(as a value, rescued, or within a corrupt record), or the file is set aside.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lakehouse.ingestion.json_objects import BYTES
from pipeline import Pipeline
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from support import ROOT

MARK = re.compile(rb"mark[0-9]{7}end")
UNPACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.decompress, ".bz2": bz2.decompress}
ROWS = 20


def lines(format_: str, first: int) -> bytes:
    """A good file of rows with the marks from a number on."""
    marks = [f"mark{first + n:07}end" for n in range(ROWS)]
    if format_ == "csv":
        return ("id,name\n" + "".join(f'K{m},"Zoë, {m}"\n' for m in marks)).encode()
    if format_ == "json":
        return "".join(
            json.dumps({"id": f"K{m}", "name": {"a": m}, "more": n}) + "\n" for n, m in enumerate(marks)
        ).encode()
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": [f"K{m}" for m in marks], "name": marks}), sink, compression="gzip")
    return sink.getvalue()


def damaged(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """The content, or that of two files, with one kind of damage."""
    place, size = chance.randrange(len(content)), chance.randrange(1, 40)
    junk = chance.randbytes(size)
    flipped = bytearray(content)
    for _ in range(chance.randrange(1, 4)):
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
    kinds = [
        content[:place],
        content[place:],
        bytes(flipped),
        content[:place] + junk + content[place:],
        content[:place] + content[place + size :],
        content + other,
        content.rstrip(b"\n") + other,
        content[:place] + other + content[place:],
        content.replace(b"\n", b"\r\n"),
        content.replace(b"\n", b"\r"),
        content.replace(b"\n", b"\r\n", chance.randrange(1, ROWS)),
        content[:place] + content[place:].replace(b"\n", b"\r\n", 1),
        content[:place] + content[place:].replace(b"\n", b"", 1),
        b"\n" * chance.randrange(3) + content,
        b"\xef\xbb\xbf" + content,
        content[:place] + b'"' + content[place:],
        content.decode("latin-1").encode("utf-16"),
        junk * 50,
    ]
    return chance.choice(kinds)


def shop(spark: SparkSession, folder: Path) -> Pipeline:
    for format_ in ("csv", "json", "parquet"):
        source = folder / "sources" / format_
        source.mkdir(parents=True)
        (source / "source.yaml").write_text(
            f"inputs:\n  own_{format_}:\n    path: {format_}\n    format: {format_}\n"
            "    columns: [id, name]\n    entities: [customers]\n"
        )
        (source / "customers.sql").write_text(
            "SELECT _row, id AS customer_id, name, '2026-01-01' AS registration_date, 'regular' AS customer_type "
            f"FROM own_{format_}"
        )
    return Pipeline(spark, folder, contracts=ROOT / "contracts", sources=folder / "sources")


def deliver(pipeline: Pipeline, chance: random.Random, number: int, first: int) -> dict[str, bytes]:
    """Damaged files, and as many good rows; returns the content of each by its path."""
    delivered: dict[str, bytes] = {}
    for n in range(number):
        format_ = chance.choice(("csv", "csv", "json", "json", "parquet"))
        start = first + 3 * n * ROWS
        good, other = lines(format_, start), lines(format_, start + ROWS)
        packs = [("", lambda c: c), (".gz", gzip.compress), (".bz2", bz2.compress)]
        end, pack = chance.choice(packs) if format_ != "parquet" else packs[0]
        inside = chance.random() < 0.5
        bad = pack(damaged(good, other, chance)) if inside else damaged(pack(good), pack(other), chance)
        delivered[f"{format_}/bad-{first}-{n}.{format_}{end}"] = bad
        delivered[f"{format_}/good-{first}-{n}.{format_}"] = lines(format_, start + 2 * ROWS)
    for path, content in delivered.items():
        file = pipeline.landing / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return delivered


def marks_of(path: str, content: bytes) -> set[bytes]:
    """The marks of a file's rows; those within what may have become its header are not of a row."""
    end = Path(path).suffix
    if end in UNPACK:
        content = UNPACK[end](content)
    if path.startswith("csv"):
        header = re.match(rb'(?:\xef\xbb\xbf|[\r\n]|[, "]*[\r\n])*(?:"[^"]*"|[^"\r\n])*', content)
        content = content[header.end() :] if header else content
    return set(MARK.findall(content))


def text_of(value: str) -> bytes:
    return base64.b64decode(value.removeprefix(BYTES)) if value.startswith(BYTES) else value.encode()


def check(pipeline: Pipeline, delivered: dict[str, bytes]) -> dict[str, int]:
    """Nothing is lost; returns how many of the damaged files ended in each way."""
    ledger = pipeline.table("ops.files").where("state <> 'planned'").select("path", "state", "rows").collect()
    ends = {r["path"]: (r["state"], r["rows"] or 0) for r in ledger if r["path"] in delivered}
    assert set(ends) == set(delivered)
    bronze: dict[str, list[bytes]] = {path: [] for path in delivered}
    balance: dict[str, list[int]] = {path: [0, 0] for path in delivered}
    for format_ in ("csv", "json", "parquet"):
        if not pipeline.path(f"bronze.own_{format_}").exists():
            continue
        rows = pipeline.table(f"bronze.own_{format_}").select("id", "name", "_rescued", "_corrupt", "_source.file")
        for *values, path in rows.collect():
            if path in bronze:
                bronze[path].append(b" ".join(text_of(v) for v in values if v is not None))
    for side, (table, file) in enumerate(
        (("staged.customers", "_sequence.file"), ("quarantine.customers", "_source.file"))
    ):
        counted = pipeline.table(table).groupBy(F.col(file).alias("file")).count().collect()
        for r in counted:
            if r["file"] in balance:
                balance[r["file"]][side] = r["count"]
    for path, content in delivered.items():
        state, rows = ends[path]
        accepted, quarantined = balance[path]
        assert len(bronze[path]) == rows == accepted + quarantined, path
        if "/good-" in path:
            assert (state, accepted, quarantined) == ("loaded", ROWS, 0), path
        elif state == "loaded" and not path.startswith("parquet"):
            lost = marks_of(path, content) - set(MARK.findall(b" ".join(bronze[path])))
            assert not lost, (path, sorted(lost)[:3], content[:200])
    found = [ends[path][0] for path in delivered if "/bad-" in path]
    return {state: found.count(state) for state in sorted(set(found))}


@pytest.mark.parametrize(
    ("seed", "rounds", "number"),
    [(1, 1, 150), pytest.param(2, 20, 500, marks=pytest.mark.long)],
    ids=["a few", "ten thousand"],
)
def test_whatever_is_damaged(spark: SparkSession, tmp_path: Path, seed: int, rounds: int, number: int) -> None:
    pipeline, chance = shop(spark, tmp_path), random.Random(seed)
    for n in range(rounds):
        delivered = deliver(pipeline, chance, number, n * 100_000)
        pipeline.run("ingest")
        pipeline.run("validate")
        ends = check(pipeline, delivered)
        print(f"round {n + 1}: {ends}")
        assert ends.keys() <= {"loaded", "set aside"}
        assert min(ends.values()) > number / 10
        for path in delivered:
            (pipeline.landing / path).unlink()
