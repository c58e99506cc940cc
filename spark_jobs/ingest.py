"""Ingest: landing files to bronze, each file exactly once."""

from __future__ import annotations

from lakehouse import cli


def build_parser():  # type: ignore[no-untyped-def]
    p = cli.parser("ingest", __doc__ or "")
    p.add_argument("--landing", metavar="LOCATION", help="folder or URI that holds one folder per source")
    p.add_argument("--retry", action="store_true", help="try files again that have been set aside and have not changed")
    return p


def run(context: cli.Context) -> None:
    from lakehouse.errors import UsageError
    from lakehouse.ingestion import stage

    if not context.args.landing:
        raise UsageError("--landing is missing", todo="Name the folder that holds the sources' files.")
    stage.run(context)


if __name__ == "__main__":
    cli.leave(cli.run_stage("ingest", build_parser(), run))
