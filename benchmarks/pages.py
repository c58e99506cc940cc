"""How long the pages take on a warehouse, in a real Airflow: the first answer, and the median of those after it.

Run it with: `. bin/env && python benchmarks/pages.py --warehouse <folder>`, say one that `suite.py --keep` has left.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bin"), str(ROOT / "plugins")]

from airflow_server import Airflow  # noqa: E402
from lakehouse_airflow import lake  # noqa: E402

GOAL = 0.3
CONSOLE = Console()


def addresses(tables: lake.Lake) -> list[str]:
    """Every page, with the largest tables and reasons that the warehouse has."""
    found = tables.state()
    largest = max(found.tables.values(), key=lambda t: t.rows)
    pages = ["", "tables", f"tables/{largest.name}", "quality", "features", "stream"]
    if found.reasons:
        pages.append("quality?" + urllib.parse.urlencode({k: found.reasons[0][k] for k in ("entity", "rule")}))
    if found.snapshots:
        (row,) = tables.select(
            "SELECT customer_id FROM t ORDER BY as_of DESC, total_spend DESC LIMIT 1", "gold.customer_features"
        )
        pages.append("features?" + urllib.parse.urlencode({"customer": row["customer_id"]}))
    return pages


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--warehouse", required=True)
    p.add_argument("--times", type=int, default=9, help="how often each page is asked for")
    options = p.parse_args()
    if options.times < 2:
        p.error("--times: at least 2, of which the first is told by itself")
    tables = lake.Lake(str(Path(options.warehouse).resolve()))
    rows = sum(t.rows for t in tables.state().tables.values())
    table = Table(title=f"{rows:,} rows in all tables", title_justify="left")
    for column in ("page", "first, ms", "median, ms", "slowest of those, ms", "kB"):
        table.add_column(column, justify="left" if column == "page" else "right", no_wrap=True)
    late = []
    with tempfile.TemporaryDirectory(prefix="lakehouse-pages-") as home:
        environment = os.environ | {"AIRFLOW_HOME": home, "LAKEHOUSE_WAREHOUSE": tables.warehouse}
        with Airflow(Path(home), environment) as airflow:
            airflow.wait_for("medallion_batch")
            with urllib.request.urlopen(f"{airflow.url}/auth/token", timeout=30) as answer:
                cookie = {"Cookie": f"_token={json.load(answer)['access_token']}"}
            for page in addresses(tables):
                request = urllib.request.Request(f"{airflow.url}/lakehouse/{page}", headers=cookie)
                times, size = [], 0
                for _ in range(options.times):
                    begin = time.monotonic()
                    with urllib.request.urlopen(request, timeout=120) as answer:
                        size = len(answer.read())
                    times.append(time.monotonic() - begin)
                middle = statistics.median(times[1:])
                figures = [f"{1000 * t:,.0f}" for t in (times[0], middle, max(times[1:]))]
                table.add_row(page.split("=")[0] or "overview", *figures, f"{size / 1000:,.0f}")
                late += [page] if middle > GOAL else []
    CONSOLE.print(table, f"{len(late)} pages take more than {1000 * GOAL:.0f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
