"""Validate: new bronze rows to staged (typed, accepted) and quarantine (rejected, with reasons)."""

from __future__ import annotations

from lakehouse import cli, options


def build_parser():  # type: ignore[no-untyped-def]
    p = cli.parser("validate", __doc__ or "")
    p.add_argument(
        "--release", metavar="BATCH,...", help="refused batches to validate again without the limit on bad rows"
    )
    p.add_argument("--discard", metavar="BATCH,...", help="refused batches to give up for good")
    p.add_argument("--by", metavar="NAME", help="who decides to discard")
    p.add_argument("--reason", metavar="TEXT", help="why they are discarded")
    return p


def run(context: cli.Context, chosen: options.Validate) -> None:
    from lakehouse.validation import stage

    stage.run(context, chosen)


if __name__ == "__main__":
    cli.leave(cli.run_stage("validate", build_parser(), options.Validate, run))
