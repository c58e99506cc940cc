"""Merge: new staged rows to silver, the current state of each key and its history."""

from __future__ import annotations

from lakehouse import cli, options


def build_parser():  # type: ignore[no-untyped-def]
    return cli.parser("merge", __doc__ or "")


def run(context: cli.Context, chosen: options.Merge) -> None:
    from lakehouse.merging import stage

    stage.run(context)


if __name__ == "__main__":
    cli.leave(cli.run_stage("merge", build_parser(), options.Merge, run))
