"""Stream: messages and new files to silver as they come, until it is told to stop (SIGTERM)."""

from __future__ import annotations

from lakehouse import cli, options


def build_parser():  # type: ignore[no-untyped-def]
    p = cli.parser("stream", __doc__ or "")
    p.add_argument(
        "--kafka", metavar="PATH", help="properties file of Kafka's clients, for the sources that are topics"
    )
    p.add_argument(
        "--landing", metavar="LOCATION", help="folder that holds one folder per source, for those that are files"
    )
    p.add_argument("--leases", metavar="DIR", help="folder of the leases by which batches and the stream take turns")
    p.add_argument("--metrics", metavar="HOST:PORT", help="where Prometheus finds the stream's gauges")
    p.add_argument("--beat", metavar="SECONDS", help="time between two rows an input in ops.stream (default: 30)")
    p.add_argument("--poll", metavar="SECONDS", help="time between two looks for new files (default: 5)")
    p.add_argument(
        "--tidy", metavar="SECONDS", help="time between two compactions of the records of batches (default: 600)"
    )
    p.add_argument(
        "--most-failures",
        metavar="N",
        help="failures in an hour after which an input stays down (default: 8)",
    )
    return p


def run(context: cli.Context, chosen: options.Stream) -> None:
    from lakehouse.errors import UsageError
    from lakehouse.sources import select_inputs
    from lakehouse.streaming import stage

    inputs = select_inputs(context.inputs, context.only or [i.name for i in context.inputs if i.is_stream])
    if any(not i.is_stream for i in inputs) and not chosen.landing:
        raise UsageError("--landing is missing", todo="Name the folder that holds the sources' files.")
    stage.run(context, chosen, inputs)


if __name__ == "__main__":
    cli.leave(cli.run_stage("stream", build_parser(), options.Stream, run))
