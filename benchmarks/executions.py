"""What a small day costs: Spark SQL executions, jobs and CPU of each stage, for a first load, a next day, and nothing new.

Run it with: `. bin/env && python benchmarks/executions.py [--rows 20000] [--checkout FOLDER ...] [--session] [--rounds 3] [--detail]`

A shop of thirty days is loaded but for the last three; then these are delivered; then the stages run once more. Executions and
jobs are counted in Spark's event logs, and are the same on every machine. By turns with the suite runs the floor, plain Spark that
makes the same tables without any bookkeeping (``contenders/floor.py``): what a stage takes beyond it is what its records cost. Both
must make the same gold. ``--checkout`` names other checkouts of the project, whose stages run on the same files, too. ``--session`` adds the
stages on a Spark of each run's own (``LAKEHOUSE_BACKEND=session``), whose start and end count; its executions and CPU are not told.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table
from runs import ROOT, STAGES, Floor, Run, Spark, Stages, StagesOfARun

sys.path.insert(0, str(ROOT / "tests"))
import oracle

START, DAYS, HELD = date(2026, 3, 1), 30, 3
END = START + timedelta(days=DAYS)
SESSION = "session"
STEPS = ("first load", "next day", "nothing new")
CONSOLE = Console(width=170)


def generate(folder: Path, rows: int) -> Path:
    """The files of a shop; returns their landing folder."""
    stages = Stages(Spark(folder / "generator"), folder)
    stages.run(
        "generate", "--landing", str(stages.landing), "--rows", str(rows), "--days", str(DAYS), "--start", f"{START}"
    )
    return stages.landing


def steps(files: Path, stages: Stages | Floor, folder: Path) -> Iterable[tuple[str, list[Run]]]:
    """Each step's name and the runs of its stages; the floor has no step in which nothing is new."""
    first_held = START + timedelta(days=DAYS - HELD)
    held = folder / "held"
    for day in sorted(files.glob("shop/*/*")):
        late = day.name >= f"{first_held}" and day.parent.name[0] != "_"
        target = (held if late else stages.landing) / day.relative_to(files)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(day, target) if day.is_dir() else shutil.copy2(day, target)
    yield STEPS[0], stages.batch(f"{first_held}")
    for day in held.glob("shop/*/*"):
        day.rename(stages.landing / day.relative_to(held))
    for step in STEPS[1:] if isinstance(stages, Stages) else STEPS[1:2]:
        yield step, stages.batch(f"{END}")


def contenders(roots: Iterable[Path], session: bool) -> dict[str, Callable[[Path], Stages | Floor]]:
    """By name, what makes the stages of one that works in a folder: other checkouts, this one, perhaps on a Spark of a run, and the floor."""

    def of_checkout(root: Path) -> Callable[[Path], Stages | Floor]:
        return lambda folder: Stages(Spark(folder / "spark", root=root), folder)

    def floor(folder: Path) -> Floor:
        return Floor(Spark(folder / "spark"), folder / "landing", folder / "warehouse")

    of_a_run = {SESSION: StagesOfARun} if session else {}
    return {root.name: of_checkout(root) for root in roots} | of_a_run | {"floor": floor}


def differences(warehouse: Path, floor: Path) -> dict[str, list[str]]:
    """In what the gold of a warehouse differs from the floor's as of the next day."""
    ours, theirs = (oracle.connect(folder, ["gold"]) for folder in (warehouse, floor))
    for db in (ours, theirs):
        db.sql(f"CREATE MACRO t() AS TIMESTAMPTZ '{END} 00:00:00+00'")
    for table in oracle.KEYS:
        ours.register(f"want_{table}", theirs.sql(oracle.as_of(theirs, table)).to_arrow_table())
    return oracle.compared(ours)


def table_of(found: dict[str, list[dict[str, list[Run]]]]) -> Table:
    """A row for each step and stage, and their sum; of each contender the executions, jobs, and the medians of seconds and CPU seconds."""
    table = Table(title="Executions, jobs, seconds and CPU seconds of a stage", title_justify="left")
    table.add_column("step"), table.add_column("stage")
    for name in found:
        for column in ("executions", "jobs", "s", "CPU s"):
            table.add_column(f"{name}\n{column}", justify="right")
    for step in STEPS:
        for stage in (*STAGES, "all"):
            cells = []
            for name, rounds in found.items():
                done = [[r for r in steps[step] if stage in (r.name, "all")] for steps in rounds if step in steps]
                if not done:
                    cells += [""] * 4
                    continue
                executions, jobs = sum(r.executions for r in done[0]), sum(r.jobs for r in done[0])
                seconds = median(sum(r.seconds for r in runs) for runs in done)
                cpu = median(sum(r.cpu for r in runs) for runs in done)
                told = [f"{executions}", f"{jobs}", f"{seconds:.1f}", f"{cpu:.1f}"]
                cells += ["", "", told[2], ""] if name == SESSION else told
            table.add_row(step if stage == STAGES[0] else "", stage, *cells)
        table.add_section()
    return table


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", type=int, default=20_000)
    p.add_argument("--rounds", type=int, default=1)
    p.add_argument(
        "--checkout", metavar="FOLDER", action="append", default=[], help="another checkout, to compare with"
    )
    p.add_argument("--session", action="store_true", help="also with a Spark of each run's own")
    p.add_argument("--detail", action="store_true", help="also list what the executions of the next day were")
    options = p.parse_args()
    roots = [*(Path(c).resolve() for c in options.checkout), ROOT]
    found: dict[str, list[dict[str, list[Run]]]] = {}
    same = True
    with tempfile.TemporaryDirectory() as folder:
        files = generate(Path(folder) / "shop", options.rows)
        for n in range(options.rounds):
            for name, make in contenders(roots, options.session).items():
                done: dict[str, list[Run]] = {}
                work = Path(folder) / f"{name}-{n}"
                for step, runs in steps(files, make(work), work):
                    done[step] = runs
                    told = ", ".join(
                        f"{r.name} {r.executions} executions, {r.seconds:.1f} s, CPU {r.cpu:.1f} s" for r in runs
                    )
                    CONSOLE.print(f"{name}, {step}: {told}")
                found.setdefault(name, []).append(done)
            differ = differences(Path(folder) / f"{ROOT.name}-{n}" / "warehouse", work / "warehouse")
            CONSOLE.print(f"[red]gold is not the floor's: {differ}" if differ else "gold is the floor's")
            same = same and not differ
    CONSOLE.print(table_of(found))
    for name in (ROOT.name, "floor") if options.detail else ():
        for run in found[name][0][STEPS[1]]:
            CONSOLE.print(f"\n{name}: {run.name}")
            for description, number in Counter(run.descriptions).most_common():
                CONSOLE.print(f"{number:4} {description}", highlight=False, markup=False)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
