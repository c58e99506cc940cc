"""Replay: quarantined rows back through validate, after a contract changed or with corrected values.

Without --action it replays; --action dry-run only tells what would pass; --action discard gives rows up
for good. A patch is a CSV file with a header and the columns id, column and value: the id of the row in
the quarantine, the column's name in the received file, and its corrected value.
"""

from __future__ import annotations

import argparse

from lakehouse import cli, options


def build_parser() -> argparse.ArgumentParser:
    p = cli.parser("replay", __doc__ or "")
    p.add_argument("--action", choices=("dry-run", "replay", "discard"), default="replay", help="default: replay")
    p.add_argument("--rule", metavar="NAME", help="only rows with this reason, such as cast:amount")
    p.add_argument("--ids", metavar="ID,...", help="only these rows of the quarantine")
    p.add_argument("--since", metavar="INSTANT", help="only rows quarantined at or after it")
    p.add_argument("--until", metavar="INSTANT", help="only rows quarantined before it")
    p.add_argument("--patch", metavar="PATH", help="corrected values; only the rows it names are replayed")
    p.add_argument("--by", metavar="NAME", help="who decides; needed to discard")
    p.add_argument("--reason", metavar="TEXT", help="why; needed to discard")
    return p


def run(context: cli.Context, chosen: options.Replay) -> None:
    from lakehouse.validation import decisions

    decisions.run(context, chosen)


if __name__ == "__main__":
    cli.leave(cli.run_stage("replay", build_parser(), options.Replay, run))
