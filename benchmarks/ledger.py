"""Finding what is new among 101,000 files, of which the ledger knows none, or 100,000.

Run it with: `. bin/env && spark-submit benchmarks/ledger.py`

Each figure is the median of several runs in one warm session; the machine is noisy, the ratio counts.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "spark_jobs"))

from lakehouse.context import Context  # noqa: E402
from lakehouse.ingestion.discovery import look  # noqa: E402
from lakehouse.ingestion.landing import Landing  # noqa: E402
from lakehouse.ingestion.ledger import LOADED, PLANNED, Entry, Ledger  # noqa: E402
from lakehouse.odcs import load_contracts  # noqa: E402
from lakehouse.report import RunReport  # noqa: E402
from lakehouse.runtime.progress import Batch  # noqa: E402
from lakehouse.session import build_session  # noqa: E402
from lakehouse.sources import load_sources  # noqa: E402
from lakehouse.tables import Warehouse  # noqa: E402

KNOWN, NEW, BATCHES, RUNS = 100_000, 1_000, 20, 5
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def main() -> None:
    console = Console()
    spark = build_session("ledger benchmark")
    contracts = load_contracts(ROOT / "contracts")
    source = next(i for i in load_sources(ROOT / "sources", contracts) if i.name == "shop_products")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "landing"
        for n in range(KNOWN + NEW):
            day = root / source.path / f"day={n // 1000:03}"
            if n % 1000 == 0:
                day.mkdir(parents=True)
            (day / f"part-{n:06}.csv").write_bytes(b"a\n")
        landing = Landing(str(root))
        files = landing.find(source) or []
        seconds: dict[str, list[float]] = {}
        found: dict[str, int] = {}
        ledgers = {}
        for name, known in (("empty", 0), ("known", KNOWN)):
            report = RunReport("ingest", name, NOW)
            warehouse = Warehouse(lambda: spark, f"{folder}/{name}", report)
            ledger = Ledger(warehouse, name, NOW)
            # Every input has entries for other files, so that both ledgers are tables.
            other = [(Batch("ingest", "otto", 1), Entry(files[0], LOADED))]
            ledger.record(other)
            for batch in range(BATCHES):
                part = files[:known][batch::BATCHES]
                for state in (PLANNED, LOADED):
                    ledger.record((Batch("ingest", source.name, batch + 1), Entry(f, state)) for f in part)
            ledgers[name] = (Context(warehouse, {}, {}, [source], [], name, NOW, None, report), ledger)
        for run in range(RUNS + 1):
            for name, (context, ledger) in ledgers.items():
                begin = time.perf_counter()
                found[name] = len(look(context, landing, ledger, source, landing.find(source), retry=False).new)
                if run:
                    seconds.setdefault(name, []).append(time.perf_counter() - begin)
    assert found == {"empty": KNOWN + NEW, "known": NEW}
    middle = {name: statistics.median(s) for name, s in seconds.items()}
    table = Table("ledger", "new files found", "seconds", title=f"{KNOWN + NEW:,} files in the landing folder")
    for name, value in middle.items():
        table.add_row(name, f"{found[name]:,}", f"{value:.2f}")
    console.print(table)
    console.print(f"ratio {middle['known'] / middle['empty']:.2f}")


if __name__ == "__main__":
    main()
