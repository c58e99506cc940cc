"""Featurize: gold tables from silver, as of an instant (--as-of)."""

from __future__ import annotations

from lakehouse import cli


def build_parser():  # type: ignore[no-untyped-def]
    return cli.parser("featurize", __doc__ or "")


def run(context: cli.Context) -> None:
    from lakehouse.features import stage

    stage.run(context)


if __name__ == "__main__":
    cli.leave(cli.run_stage("featurize", build_parser(), run))
