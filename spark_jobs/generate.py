"""Generate: a made-up shop as landing files by day, with a stated share of dirt and a list of it.

The same arguments always give the same files. What is dirty, and which rule must find it, is
listed in <landing>/shop/_dirt.
"""

from __future__ import annotations

import argparse
import uuid
from datetime import UTC, datetime

from lakehouse import cli
from lakehouse.errors import UsageError
from lakehouse.report import RunReport


def build_parser() -> argparse.ArgumentParser:
    p = cli.bare_parser("generate", __doc__ or "")
    p.add_argument("--landing", metavar="LOCATION", required=True, help="folder to write <LOCATION>/shop into")
    p.add_argument(
        "--rows", type=int, default=10_000, help="about how many rows in all, 1,000 to 100,000,000 (default: 10,000)"
    )
    p.add_argument("--days", type=int, default=30, help="length of the period (default: 30)")
    p.add_argument("--start", metavar="DATE", default="2026-03-01", help="first day (default: 2026-03-01)")
    p.add_argument("--seed", type=int, default=1, help="another seed gives another shop (default: 1)")
    p.add_argument(
        "--dirt", type=float, default=1.0, help="multiplies the share of dirty rows; 0 is clean (default: 1)"
    )
    p.add_argument("--report", metavar="PATH", help="where to write the run report, as JSON")
    return p


def main(args: argparse.Namespace, report: RunReport) -> None:
    if not 1_000 <= args.rows <= 100_000_000:
        raise UsageError(f"--rows {args.rows}: out of range", todo="Use 1,000 to 100,000,000.")
    if not 1 <= args.days <= 3650 or not 0 <= args.dirt <= 5:
        raise UsageError("--days must be 1 to 3650 and --dirt 0 to 5")
    start = cli.instant(args.start).date()

    from lakehouse.session import build_session, prepare
    from lakehouse.synthetic.shop import Scale
    from lakehouse.synthetic.stage import generate

    spark = build_session("lakehouse generate")
    prepare(spark, args.rows)
    generate(spark, args.landing.rstrip("/"), Scale(args.rows, args.days, start), args.seed, args.dirt, report)


if __name__ == "__main__":
    new = RunReport("generate", f"manual-{uuid.uuid4().hex[:12]}", datetime.now(UTC))
    cli.leave(cli.guard(new, build_parser(), main))
