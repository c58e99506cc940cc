"""What a small day costs: Spark SQL executions, jobs and CPU of each stage, for a first load, a next day, and nothing new.

Run it with: `. bin/env && python benchmarks/executions.py [--rows 20000] [--checkout FOLDER ...] [--detail]`

A shop of thirty days is loaded but for the last three; then these are delivered; then the stages run once more. Executions and
jobs are counted in Spark's event logs, and are the same on every machine. ``--checkout`` names other checkouts of the project,
whose stages run on the same files, by turns.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table
from runs import ROOT, STAGES, Run, Spark, Stages

START, DAYS, HELD = date(2026, 3, 1), 30, 3
STEPS = ("first load", "next day", "nothing new")
CONSOLE = Console(width=110)


def generate(folder: Path, rows: int) -> Path:
    """The files of a shop; returns their landing folder."""
    stages = Stages(Spark(folder / "generator"), folder)
    stages.run(
        "generate", "--landing", str(stages.landing), "--rows", str(rows), "--days", str(DAYS), "--start", f"{START}"
    )
    return stages.landing


def steps(files: Path, folder: Path, root: Path = ROOT) -> Iterable[tuple[str, list[Run]]]:
    """Each step's name and the runs of its stages.

    Args:
        root: the checkout whose stages run.
    """
    stages = Stages(Spark(folder / "spark", root=root), folder)
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
    for step in STEPS[1:]:
        yield step, stages.batch(f"{START + timedelta(days=DAYS)}")


def table_of(found: dict[str, list[dict[str, list[Run]]]]) -> Table:
    """A row for each step and stage; of each checkout the executions, jobs, and the medians of seconds and CPU seconds."""
    table = Table(title="Executions, jobs, seconds and CPU seconds of a stage", title_justify="left")
    table.add_column("step"), table.add_column("stage")
    for name in found:
        for column in ("executions", "jobs", "s", "CPU s"):
            table.add_column(f"{name}\n{column}", justify="right")
    for step in STEPS:
        for n, stage in enumerate(STAGES):
            cells = []
            for rounds in found.values():
                runs = [steps[step][n] for steps in rounds]
                cells += [f"{runs[0].executions}", f"{runs[0].jobs}"]
                cells += [f"{median(run.seconds for run in runs):.1f}", f"{median(run.cpu for run in runs):.1f}"]
            table.add_row(step if not n else "", stage, *cells)
        table.add_section()
    return table


def median(figures: Iterable[float]) -> float:
    ordered = sorted(figures)
    return ordered[len(ordered) // 2]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", type=int, default=20_000)
    p.add_argument("--rounds", type=int, default=1)
    p.add_argument(
        "--checkout", metavar="FOLDER", action="append", default=[], help="another checkout, to compare with"
    )
    p.add_argument("--detail", action="store_true", help="also list what the executions of the next day were")
    options = p.parse_args()
    roots = [*(Path(c).resolve() for c in options.checkout), ROOT]
    found: dict[str, list[dict[str, list[Run]]]] = {root.name: [] for root in roots}
    with tempfile.TemporaryDirectory() as folder:
        files = generate(Path(folder) / "shop", options.rows)
        for n in range(options.rounds):
            for root in roots:
                done: dict[str, list[Run]] = {}
                for step, runs in steps(files, Path(folder) / f"{root.name}-{n}", root):
                    done[step] = runs
                    told = ", ".join(f"{r.name} {r.executions} executions, {r.seconds:.0f} s" for r in runs)
                    CONSOLE.print(f"{root.name}, {step}: {told}")
                found[root.name].append(done)
    CONSOLE.print(table_of(found))
    for run in found[ROOT.name][0][STEPS[1]] if options.detail else ():
        CONSOLE.print(f"\n{run.name}")
        for description, number in Counter(run.descriptions).most_common():
            CONSOLE.print(f"{number:4} {description}", highlight=False, markup=False)


if __name__ == "__main__":
    sys.exit(main())
