"""Migrate: bring the tables of a warehouse that an earlier release has made over to the layout of this one, once."""

from __future__ import annotations

from lakehouse import cli, options


def build_parser():  # type: ignore[no-untyped-def]
    return cli.parser("migrate", __doc__ or "")


def run(context: cli.Context, chosen: options.Migrate) -> None:
    from lakehouse.features import migration

    migration.run(context)


if __name__ == "__main__":
    cli.leave(cli.run_stage("migrate", build_parser(), options.Migrate, run))
