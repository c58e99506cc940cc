"""Optimize: compact and cluster the tables that need it, and remove files no version needs any more."""

from __future__ import annotations

from argparse import BooleanOptionalAction

from lakehouse import cli


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


def run(context: cli.Context) -> None:
    from lakehouse.errors import UsageError
    from lakehouse.maintenance import stage

    if context.args.retain_hours < 168:
        raise UsageError(
            f"--retain-hours {context.args.retain_hours}", todo="Readers may need files for a week: use 168 or more."
        )
    stage.run(context)


if __name__ == "__main__":
    cli.leave(cli.run_stage("optimize", build_parser(), run))
