"""Ingest: landing files and Kafka topics to bronze, each file and each message exactly once."""

from __future__ import annotations

from lakehouse import cli, options


def build_parser():  # type: ignore[no-untyped-def]
    p = cli.parser("ingest", __doc__ or "")
    p.add_argument("--landing", metavar="LOCATION", help="folder or URI that holds one folder per source")
    p.add_argument(
        "--kafka", metavar="PATH", help="properties file of Kafka's clients, for the sources that are topics"
    )
    p.add_argument("--retry", action="store_true", help="try files again that have been set aside and have not changed")
    p.add_argument("--auto-loader", action="store_true", help="on Databricks: let Auto Loader find and read the files")
    p.add_argument("--state", metavar="LOCATION", help="with --auto-loader: folder for its checkpoints and schemas")
    return p


def run(context: cli.Context, chosen: options.Ingest) -> None:
    from lakehouse.errors import UsageError
    from lakehouse.ingestion import auto_loader, stage
    from lakehouse.sources import select_inputs

    files = [i for i in select_inputs(context.inputs, context.only) if not i.is_stream]
    if files and not chosen.landing:
        raise UsageError("--landing is missing", todo="Name the folder that holds the sources' files.")
    if chosen.auto_loader:
        auto_loader.run(context, chosen)
    else:
        stage.run(context, chosen)


if __name__ == "__main__":
    cli.leave(cli.run_stage("ingest", build_parser(), options.Ingest, run))
