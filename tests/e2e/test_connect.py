"""Every script through a real Spark Connect server, with Python alone: the way serverless runs it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oracle
import pytest
from connect_server import ConnectServer
from databricks_stand_in import process_environment
from deltalake import DeltaTable
from support import ROOT

pytestmark = pytest.mark.long

AS_OF = "2026-03-05"


class Remote:
    """Scripts whose Spark is somewhere else."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.warehouse, self._url = folder, folder / "warehouse", url

    def run(self, stage: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / f"spark_jobs/{stage}.py"), "--report", str(self.folder / "report.json")]
        # At the repository's root, as contracts and sources are found from there.
        return subprocess.run(
            [*command, *arguments], cwd=ROOT, env=process_environment(self._url), capture_output=True, text=True
        )

    def ok(self, stage: str, *arguments: str) -> dict[str, Any]:
        done = self.run(stage, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads((self.folder / "report.json").read_text())

    def on_tables(self, stage: str, *arguments: str) -> dict[str, Any]:
        return self.ok(stage, "--warehouse", str(self.warehouse), *arguments)


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    folder = tmp_path_factory.mktemp("connect")
    with ConnectServer(folder / "spark") as server:
        yield Remote(folder, server.url)


def test_every_script(remote: Remote) -> None:
    landing = remote.folder / "landing"
    remote.ok("generate", "--landing", str(landing), "--rows", "2000", "--days", "4", "--start", "2026-03-01")
    held = remote.folder / "held"
    for day in sorted((landing / "shop").glob("*/2026-03-04")):
        target = held / day.relative_to(landing)
        target.parent.mkdir(parents=True)
        day.rename(target)
    assert len(list(held.glob("shop/*/*"))) == 4
    # A proposal for one of the inputs, made from its files.
    remote.ok(
        "profile_data",
        *("--files", str(landing / "shop/products"), "--entity", "goods", "--out", str(remote.folder / "proposal")),
    )
    assert list((remote.folder / "proposal").rglob("*.yaml"))
    remote.on_tables("ingest", "--landing", str(landing), "--only", "shop")
    validated = [remote.on_tables("validate", "--only", "shop")]
    remote.on_tables("merge")
    remote.on_tables("featurize", "--as-of", "2026-03-04")
    shutil.copytree(held, landing, dirs_exist_ok=True)
    remote.on_tables("ingest", "--landing", str(landing), "--only", "shop")
    validated.append(remote.on_tables("validate", "--only", "shop"))
    assert sum(report["tables"]["staged.transactions"]["rows_quarantined"] for report in validated) > 0
    merged = remote.on_tables("merge")["tables"]["silver.transactions"]
    assert min(merged["inserted"], merged["updated"]) > 0
    carried = remote.on_tables("featurize", "--as-of", AS_OF, "--recompute", "changed")["tables"]
    assert carried["gold.customer_features"]["customers_recomputed"] < carried["gold.customer_features"]["rows_written"]
    assert oracle.differences(oracle.connect(remote.warehouse), AS_OF) == {}
    remote.on_tables("optimize", "--vacuum")
    assert oracle.differences(oracle.connect(remote.warehouse), AS_OF) == {}

    quarantine = DeltaTable(str(remote.warehouse / "quarantine/transactions"))
    row = quarantine.to_pyarrow_table(filters=[("status", "=", "open")]).to_pylist()[0]
    remote.on_tables("replay", "--only", "transactions", "--action", "dry-run")
    decided = ("--action", "discard", "--ids", row["id"], "--by", "somebody", "--reason", "a test")
    replayed = remote.on_tables("replay", "--only", "transactions", *decided)
    assert replayed["tables"]["quarantine.transactions"]["rows_discarded"] == 1
    again = remote.on_tables("replay", "--only", "transactions")
    assert again["tables"]["quarantine.transactions"]["rows_selected"] > 0

    # Of the first days, the labels of which are there.
    sets = ("--name", "early", "--cut-offs", "2026-03-02,2026-03-03", "--horizon", "1", "--known-by", "now")
    remote.on_tables("training_set", *sets, "--manifest", str(remote.folder / "manifest.json"))
    made = DeltaTable(str(remote.warehouse / "gold/training_early")).to_pyarrow_table()
    assert made.num_rows > 0
    remote.on_tables("training_set", "--from-manifest", str(remote.folder / "manifest.json"))
    rebuilt = DeltaTable(str(remote.warehouse / "gold/training_early")).to_pyarrow_table()
    by = [(c, "ascending") for c in ("as_of", "customer_id")]
    assert rebuilt.sort_by(by).equals(made.sort_by(by))


def test_what_a_remote_spark_cannot_do_says_so(remote: Remote, tmp_path: Path) -> None:
    client = tmp_path / "client.properties"
    client.write_text("bootstrap.servers=127.0.0.1:1\n")
    arguments = ("--warehouse", str(tmp_path), "--kafka", str(client))
    for stage in ("stream", "ingest"):
        done = remote.run(
            stage, *arguments, "--only", "shop_events", *(["--landing", str(tmp_path)] * (stage == "ingest"))
        )
        assert done.returncode == 78, done.stdout + done.stderr
        assert "not through Spark Connect" in done.stdout + done.stderr
