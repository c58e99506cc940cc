"""Optimize: compact and cluster the tables that need it, and remove files no version needs any more."""

from __future__ import annotations

from argparse import BooleanOptionalAction

from lakehouse import cli, options


def build_parser():  # type: ignore[no-untyped-def]
    p = cli.parser("optimize", __doc__ or "")
    p.add_argument("--dry-run", action=BooleanOptionalAction, default=False, help="only tell what would be done")
    p.add_argument(
        "--vacuum", action=BooleanOptionalAction, default=False, help="also delete files that no recent version needs"
    )
    p.add_argument("--retain-hours", type=int, default=168, help="how far back versions stay readable (default: 168)")
    p.add_argument(
        "--budget", type=float, metavar="MINUTES", help="begin no further table after so long; the worst come first"
    )
    return p


def run(context: cli.Context, chosen: options.Optimize) -> None:
    from lakehouse.maintenance import stage

    stage.run(context, chosen)


if __name__ == "__main__":
    cli.leave(cli.run_stage("optimize", build_parser(), options.Optimize, run))
