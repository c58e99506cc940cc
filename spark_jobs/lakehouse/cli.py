"""What every stage script does alike: arguments, session, report, exit code.

A setting is taken from its argument, else from the environment (``LAKEHOUSE_WAREHOUSE`` for
``--warehouse``), else from the YAML file named by ``--conf-file``.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import traceback
import uuid
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import yaml

from lakehouse import __version__, lease, options, parallel, storage
from lakehouse.context import Context
from lakehouse.contracts import entities
from lakehouse.errors import ConfigurationError, TryAgain, UsageError, first_line, named
from lakehouse.instants import instant
from lakehouse.odcs import load_contracts
from lakehouse.report import RUNS, Record, RunReport, log

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakehouse.tables import Warehouse

Options = TypeVar("Options")
EXIT_CODES = """exit codes:
  0  done                                  69  a service is unreachable (worth a retry)
  64 wrong arguments                       70  a bug: please report it
  65 data refused: too many bad rows,      75  try again: a concurrent writer won
     or columns that a source forbids      78  wrong configuration or contract"""
ROOT = Path(__file__).resolve().parents[2]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, todo=f"See {self.prog} --help.")


def bare_parser(stage: str, description: str) -> argparse.ArgumentParser:
    """A parser whose mistakes are UsageErrors and whose help tells the exit codes."""
    return _Parser(
        prog=f"{stage}.py",
        description=description,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def parser(stage: str, description: str) -> argparse.ArgumentParser:
    """The arguments that all stages share."""
    p = bare_parser(stage, description)
    p.add_argument("--warehouse", metavar="LOCATION", help="folder or URI of the tables, or catalog:NAME")
    p.add_argument("--warehouse-id", metavar="ID", help="end with 78 unless the warehouse is the one with this id")
    p.add_argument("--contracts", metavar="DIR", help="folder of *.odcs.yaml files (default: the project's)")
    p.add_argument("--sources", metavar="DIR", help="folder of */source.yaml files (default: the project's)")
    p.add_argument("--only", metavar="NAME,...", help="only these entities or sources")
    p.add_argument("--run-id", metavar="ID", help="name of this run in reports and ledgers (default: a new one)")
    p.add_argument("--as-of", metavar="INSTANT", help="ISO 8601 instant; a bare date is midnight UTC")
    p.add_argument("--report", metavar="PATH", help="where to write the run report, as JSON")
    p.add_argument("--lease", metavar="PATH", help="file that lets one run at a time work on what it stands for")
    p.add_argument("--conf-file", metavar="PATH", help="YAML file with settings, named like the arguments")
    return p


def run_stage(
    stage: str,
    p: argparse.ArgumentParser,
    kind: type[Options],
    function: Callable[[Context, Options], None],
    argv: Sequence[str] | None = None,
) -> int:
    """Parse, build the context and the stage's options, call its function, write the report; returns the exit code."""
    now = datetime.now(UTC)
    report = RunReport(stage, f"manual-{uuid.uuid4().hex[:12]}", now)
    built: list[Context] = []

    def work(args: argparse.Namespace, report: RunReport) -> None:
        report.run_id = args.run_id or report.run_id
        path = _checked(args).lease
        chosen = options.parsed(kind, {f.name: getattr(args, f.name) for f in fields(kind)})  # type: ignore[arg-type]
        with lease.hold(path, report.run_id, report.say) if path else nullcontext() as held:
            context = _context(stage, args, report, now, held)
            built.append(context)
            function(context, chosen)

    return guard(report, p, work, argv, lambda: _record_run(built, report))


def guard(
    report: RunReport,
    p: argparse.ArgumentParser,
    work: Callable[[argparse.Namespace, RunReport], None],
    argv: Sequence[str] | None = None,
    before_report: Callable[[], None] = lambda: None,
) -> int:
    """Do the work; whatever goes wrong becomes a report, one line on standard error and an exit code."""
    stage, path = report.stage, None
    before = signal.signal(signal.SIGTERM, _terminate)
    lines = logging.StreamHandler(sys.stderr)
    log.setLevel(logging.INFO)
    log.addHandler(lines)
    try:
        args = _fill(p.parse_args(argv))
        path = args.report
        work(args, report)
        report.finish("done", 0)
    except SystemExit:  # --help
        raise
    except BaseException as error:
        # Once the end has begun, another signal must not cut the report short.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        known = named(error)
        if known is None:
            report.traceback = traceback.format_exc()
        message = f"{stage}: {known}" if known else f"{stage}: a bug: {type(error).__name__}: {first_line(error)}"
        report.finish("failed", known.exit_code if known else 70, message)
    before_report()
    if path:
        try:
            report.write(path)
        except OSError as error:
            report.finish(
                "failed", report.exit_code or 78, report.error or f"{stage}: the report cannot be written: {error}"
            )
    if report.error:
        if report.traceback:
            print(report.traceback, file=sys.stderr)
        print(report.error, file=sys.stderr, flush=True)
    else:
        report.say(f"done, {len(report.warnings)} warnings")
    signal.signal(signal.SIGTERM, before)
    log.removeHandler(lines)
    assert report.exit_code is not None
    return report.exit_code


def leave(code: int) -> None:
    """End the process with an exit code, without waiting for pieces that a signal has left at work.

    Success is the script's own end: Databricks takes even an exit with 0 for a failure.
    """
    if not code:
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if parallel.at_work():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _fill(args: argparse.Namespace) -> argparse.Namespace:
    """Fill what the arguments leave open from the environment, then the file, then the defaults."""
    file = getattr(args, "conf_file", None) or os.environ.get("LAKEHOUSE_CONF_FILE")
    settings: dict[str, Any] = {}
    if file:
        settings = _settings(file)
    defaults = {"contracts": str(ROOT / "contracts"), "sources": str(ROOT / "sources")}
    for name, value in vars(args).items():
        if value is None:
            found = os.environ.get(f"LAKEHOUSE_{name.upper()}") or settings.get(
                name.replace("_", "-"), defaults.get(name)
            )
            setattr(args, name, None if found is None else str(found))
    return args


def _settings(file: str) -> dict[str, Any]:
    """The settings of a YAML file. No error quotes it: it may be any file, and hold secrets."""
    try:
        settings = yaml.load(Path(file).read_text(encoding="utf-8"), Loader=yaml.CSafeLoader) or {}
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", where=file) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigurationError(f"is no YAML{place}", where=file, todo="Write one `name: value` a line.") from None
    if not isinstance(settings, dict):
        raise ConfigurationError("has no settings", where=file, todo="Write one `name: value` a line.")
    return settings


def _checked(args: argparse.Namespace) -> argparse.Namespace:
    """The arguments that all stages share, as far as they can be checked without Spark."""
    for name in ("as_of", "warehouse"):
        if getattr(args, name) == "":
            raise UsageError(f"--{name.replace('_', '-')} is empty", todo="Give it a value or leave it out.")
    if not args.warehouse:
        raise UsageError("--warehouse is missing", todo="Name the folder of the tables.")
    for name in ("contracts", "sources"):
        if not Path(getattr(args, name)).is_dir():
            raise UsageError(f"--{name} {getattr(args, name)}: no such folder")
    return args


def _context(
    stage: str, args: argparse.Namespace, report: RunReport, now: datetime, held: lease.Lease | None
) -> Context:
    contracts = load_contracts(args.contracts)
    report.contracts = {name: c.fingerprint for name, c in contracts.items()}
    silver = entities(contracts)

    from lakehouse.sources import load_sources
    from lakehouse.tables import Warehouse

    inputs = load_sources(args.sources, contracts)
    only = [name.strip() for name in (args.only or "").split(",") if name.strip()]
    as_of = instant(args.as_of) if args.as_of else None
    if not args.warehouse.startswith("catalog:"):
        args.warehouse = storage.canonical(args.warehouse)
    report.warehouse = args.warehouse
    fence = {"fence": held.check} if held else {}

    def start() -> SparkSession:
        if report.work:
            # By it, spark-submit chooses the JVM's compiler.
            os.environ.setdefault("LAKEHOUSE_WORK", report.work)
        # Only where rows are to be read or written: whoever has nothing to do needs no JVM.
        from lakehouse import executors
        from lakehouse.session import application_id, build_session

        with report.step("start Spark"):
            spark = build_session(f"lakehouse {stage}")
        report.application_id = application_id(spark)
        executors.watch(spark, report.warn)
        return spark

    warehouse = Warehouse(start, args.warehouse, report, **fence)
    _check_identity(warehouse, args.warehouse_id, report)
    return Context(warehouse, contracts, silver, inputs, only, report.run_id, now, as_of, report)


def _check_identity(warehouse: Warehouse, expected: str | None, report: RunReport) -> None:
    """Note which warehouse this is; raises ConfigurationError if it is not the expected one."""
    report.warehouse_id = warehouse.identity()
    if expected and report.warehouse_id != expected:
        raise ConfigurationError(
            f"another warehouse than the one that this run began with: its id is {report.warehouse_id or 'not there yet'}, "
            f"that one's is {expected}",
            where=warehouse.location,
            todo="Two schedulers with different settings share one state, or LAKEHOUSE_WAREHOUSE has changed during the run: "
            "mend that, and start a new run.",
        )


def _record_run(built: list[Context], report: RunReport) -> None:
    """Add the run to ops.runs, unless it changed nothing: a run with nothing to do writes no table version."""
    if not built or not report.wrote:
        return
    context = built[0]

    try:
        report.warehouse_id = report.warehouse_id or context.warehouse.identity()
        assert report.exit_code is not None
        row = Record(
            report.run_id, report.stage, report.started_at, report.steps["total"], report.status, report.exit_code,
            __version__, json.dumps(report.as_dict(), default=str),
        )  # fmt: skip
        context.warehouse.journal(RUNS, Record).append([row])
    except Exception as error:
        report.warnings.append(f"the run could not be recorded in ops.runs: {first_line(error)}")


def _terminate(signum: int, frame: object) -> NoReturn:
    raise TryAgain("ended by a signal", todo="Run it again: it goes on where this run stopped.")
