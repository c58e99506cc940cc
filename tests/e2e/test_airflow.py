"""The demo: the DAG in a real Airflow (scheduler, DAG processor, API server), triggered through its REST API."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import oracle
from support import ROOT, clean_environment


def processes_with(text: str) -> list[str]:
    """Command lines of running processes whose environment or arguments mention a text."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (folder / "environ").read_bytes() and int(folder.name) != os.getpid():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def test_the_demo_runs_the_dag_through_airflow_and_leaves_nothing_running(tmp_path: Path) -> None:
    state, home = tmp_path / "state", tmp_path / "airflow"
    done = subprocess.run(
        ["bash", "-c", f". bin/env && exec python bin/demo.py --rows 2000 --state '{state}'"],
        cwd=ROOT,
        env=clean_environment(AIRFLOW_HOME=str(home)),
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for stage in ("ingest", "validate", "merge", "featurize", "optimize"):
        assert f"{stage}: success" in done.stdout
        (report,) = (state / "reports").glob(f"medallion_batch/*/{stage}.json")
        assert json.loads(report.read_text())["status"] == "done"
    # The tables come from the XComs, so the reports came back to Airflow.
    assert "silver.transactions" in done.stdout
    assert "cast:amount" in done.stdout
    assert oracle.differences(oracle.connect(state / "warehouse"), "2026-03-31") == {}
    assert processes_with(str(home)) == []
