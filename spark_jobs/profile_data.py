"""Profile: files or a table, and what follows from them, for a person to edit.

Of an entity that is new: <out>/contracts/<entity>.odcs.yaml and, for files, <out>/sources/<entity>/ with the
source that reads them and the SELECT from their columns to the contract's.
With --source, of entities that have a contract: <out>/sources/<source>/ with a SELECT for each of them, in
which the received columns are those of the contract that they look like.
"""

from __future__ import annotations

import argparse
import uuid
from datetime import UTC, datetime
from pathlib import Path

from lakehouse import cli
from lakehouse.contracts import Contract, entities
from lakehouse.errors import UsageError
from lakehouse.odcs import IDENTIFIER, load_contracts
from lakehouse.report import RunReport


def build_parser() -> argparse.ArgumentParser:
    p = cli.bare_parser("profile_data", __doc__ or "")
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument("--files", metavar="LOCATION", help="a file, or a folder of files with the same columns")
    what.add_argument("--table", metavar="NAME", help="a table of the catalog, or the folder of a Delta table")
    p.add_argument(
        "--entity",
        metavar="NAME",
        required=True,
        help="what one row is, in the plural: lower-case letters; with --source, NAME,... of all that the files tell of",
    )
    p.add_argument("--source", metavar="NAME", help="a new source, of which the entities' contracts are there already")
    p.add_argument(
        "--contracts", metavar="DIR", help="folder of *.odcs.yaml files, for --source (default: the project's)"
    )
    p.add_argument("--out", metavar="DIR", required=True, help="folder to write the proposal into")
    p.add_argument("--format", choices=("csv", "json", "parquet"), help="of the files (default: by their names)")
    p.add_argument("--sep", metavar="CHARACTER", help="of CSV files (default: a comma)")
    p.add_argument("--encoding", metavar="NAME", help="of CSV and JSON files (default: utf-8)")
    p.add_argument("--key", metavar="COLUMN", help="the received column that is the key (default: the likeliest)")
    p.add_argument("--limit", type=int, default=0, metavar="ROWS", help="look at so many rows (default: all)")
    p.add_argument("--report", metavar="PATH", help="where to write the run report, as JSON")
    return p


def main(args: argparse.Namespace, report: RunReport) -> None:
    for option, name in (("--source", args.source), ("--entity", None if args.source else args.entity)):
        if name and not IDENTIFIER.fullmatch(name):
            raise UsageError(f"{option} {name}: no name of a table", todo="Use lower-case letters, digits and _.")
    if args.source and args.table:
        raise UsageError("--source reads files", todo="Name them with --files.")
    contracts = _contracts(args) if args.source else []
    if args.limit < 0:
        raise UsageError(f"--limit {args.limit}: below 0")

    from lakehouse.profiling import stage
    from lakehouse.session import build_session, prepare

    spark = build_session("lakehouse profile")
    prepare(spark)
    out = Path(args.out)
    if args.table:
        rows = stage.profile_table(spark, args.table, args.limit)
        stage.propose(rows, args.entity, args.key, out, report)
        return
    options = {k: v for k, v in (("sep", args.sep), ("encoding", args.encoding)) if v}
    rows, origin = stage.profile_files(spark, args.files, args.format, options, args.limit, report)
    if args.source:
        stage.propose_source(rows, args.source, contracts, args.key, out, report, origin)
    else:
        stage.propose(rows, args.entity, args.key, out, report, origin)


def _contracts(args: argparse.Namespace) -> list[Contract]:
    """Those of the named entities, parents first."""
    known = entities(load_contracts(args.contracts))
    asked = [name.strip() for name in args.entity.split(",")]
    for name in asked:
        if name not in known:
            raise UsageError(
                f"--entity {name}: has no contract",
                todo=f"Leave out --source to have one proposed. There are: {', '.join(known)}.",
            )
    return [contract for name, contract in known.items() if name in asked]


if __name__ == "__main__":
    new = RunReport("profile", f"manual-{uuid.uuid4().hex[:12]}", datetime.now(UTC))
    cli.leave(cli.guard(new, build_parser(), main))
