"""Featurize: gold tables from silver, as of an instant (--as-of), or of several (--start, --end)."""

from __future__ import annotations

from lakehouse import cli, options


def build_parser():  # type: ignore[no-untyped-def]
    p = cli.parser("featurize", __doc__ or "")
    p.add_argument("--start", metavar="INSTANT", help="instead of --as-of: the first instant of a range")
    p.add_argument("--end", metavar="INSTANT", help="the last one")
    p.add_argument(
        "--every",
        metavar="DAYS",
        help="make a snapshot every so many days of the range (default: renew its stale snapshots, and those of older definitions)",
    )
    p.add_argument(
        "--recompute",
        choices=("auto", "changed", "all"),
        default="auto",
        help="all: compute every customer's features from events, even if the snapshot is up to date; changed: carry over "
        "those without changed events from the last snapshot; auto: whichever is likely to be faster",
    )
    return p


def run(context: cli.Context, chosen: options.Featurize) -> None:
    from lakehouse.features import stage

    stage.run(context, chosen)


if __name__ == "__main__":
    cli.leave(cli.run_stage("featurize", build_parser(), options.Featurize, run))
