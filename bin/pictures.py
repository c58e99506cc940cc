"""Pictures of the pages for the documentation, from a running Airflow: `make pictures`, after `make demo`; it needs Chromium."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import urllib.parse
from pathlib import Path

from airflow_server import CONSOLE, Airflow
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "plugins"))

from lakehouse_airflow import lake  # noqa: E402


def pages(warehouse: str, reports: Path) -> dict[str, tuple[str, str]]:
    """(address below Airflow's, a heading that is there when it is ready) by the picture's name, of what the warehouse has."""
    tables = lake.Lake(warehouse)
    found = tables.state()
    shown = {
        "tables": ("lakehouse/tables", "Tables"),
        "table": ("lakehouse/tables/silver.transactions", "silver.transactions"),
    }
    if found.reasons:
        # The one with the fewest rows, so that the buttons below them are in the picture.
        reason = urllib.parse.urlencode({k: found.reasons[-1][k] for k in ("entity", "rule")})
        shown["quality"] = (f"lakehouse/quality?{reason}", "Quality")
    if found.snapshots:
        best = "SELECT customer_id FROM t ORDER BY as_of DESC, total_spend DESC LIMIT 1"
        (row,) = tables.select(best, "gold.customer_features")
        shown["customer"] = (
            f"lakehouse/features?{urllib.parse.urlencode({'customer': row['customer_id']})}",
            "Features",
        )
        shown["features"] = ("lakehouse/features", "Features")
    if found.stream:
        shown["stream"] = ("lakehouse/stream", "Stream")
    runs = sorted(reports.glob("medallion_batch/*/validate.json"))
    if runs:
        address = urllib.parse.urlencode({"dag": "medallion_batch", "run": runs[-1].parent.name, "task": "validate"})
        shown["report"] = (f"lakehouse/report?{address}", "validate")
    return shown


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--state", default=str(ROOT / "var/demo/shop"), help="the folder of warehouse, landing and reports")
    p.add_argument("--out", default=str(ROOT / "docs/pictures"))
    p.add_argument("--only", metavar="NAME,...", help="these pictures")
    options = p.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("pictures: no chromium is on the path. Install it (Debian: apt install chromium).")
    state, out = Path(options.state).resolve(), Path(options.out)
    if not (state / "warehouse").is_dir():
        sys.exit(f"pictures: {state} has no warehouse. Run `make demo` first.")
    out.mkdir(parents=True, exist_ok=True)
    wanted = pages(str(state / "warehouse"), state / "reports")
    # Airflow's own page is around the first one.
    wanted = {"overview": ("plugin/lakehouse", "Overview")} | wanted
    if options.only:
        wanted = {name: wanted[name] for name in options.only.split(",")}
    with tempfile.TemporaryDirectory(prefix="lakehouse-pictures-") as home:
        folders = {n.upper(): str(state / n) for n in ("warehouse", "landing", "reports")}
        environment = os.environ | {f"LAKEHOUSE_{n}": folder for n, folder in folders.items()} | {"AIRFLOW_HOME": home}
        with Airflow(Path(home), environment) as airflow, sync_playwright() as playwright:
            airflow.wait_for("medallion_batch")
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1280, "height": 860}, color_scheme="light")
            page.goto(f"{airflow.url}/lakehouse/")
            page.get_by_role("heading", name="Overview").wait_for(timeout=120_000)
            for name, (address, heading) in wanted.items():
                page.goto(f"{airflow.url}/{address}")
                inside = page.frame_locator("iframe") if address.startswith("plugin") else page
                inside.get_by_role("heading", name=heading, exact=True).wait_for(timeout=120_000)
                if name == "quality":
                    inside.locator("form.decide").scroll_into_view_if_needed()
                page.screenshot(path=str(out / f"{name}.png"))
                CONSOLE.print(f"{out / name}.png")
            browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
