"""Training set: features as of cut-offs, with labels from the time after them, as gold.training_<name>."""

from __future__ import annotations

from lakehouse import cli, options


def build_parser():  # type: ignore[no-untyped-def]
    p = cli.parser("training_set", __doc__ or "")
    p.add_argument("--name", metavar="NAME", help="name of the set: the table is gold.training_NAME")
    p.add_argument("--cut-offs", metavar="INSTANT,...", help="instants up to which features know events")
    p.add_argument("--horizon", metavar="DAYS", help="days after a cut-off that labels look at (default: 30)")
    p.add_argument(
        "--known-by",
        metavar="cut-off|now|INSTANT",
        help="features know nothing that was delivered later: than the cut-off (default), than an instant, or whatever "
        "is there now (for history that was delivered afterwards)",
    )
    p.add_argument("--manifest", metavar="PATH", help="write the manifest to a file, too")
    p.add_argument("--from-manifest", metavar="PATH", help="build the set of a manifest again, from the same versions")
    return p


def run(context: cli.Context, chosen: options.TrainingSet) -> None:
    from lakehouse.features import training

    training.run(context, chosen)


if __name__ == "__main__":
    cli.leave(cli.run_stage("training_set", build_parser(), options.TrainingSet, run))
