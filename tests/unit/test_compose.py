"""The compose file: nothing secret in it, every service healthy by a check of its own, ports on the loopback address."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import ROOT, clean_environment

TEXT = (ROOT / "docker-compose.yaml").read_text()
FILE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
ONCE = {"airflow-init"}


def test_nothing_secret_is_in_the_file_or_in_an_environment() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|KEY|CONN(?!_LAKEHOUSE_SPARK)", variable):
                assert value.startswith(("cat /run/secrets/", "/run/secrets/", "/opt/airflow/")) or value == "admin:admin" or value == "False", (name, variable)  # fmt: skip
    assert all(secret["file"].startswith("./var/compose/") for secret in FILE["secrets"].values())


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - ONCE))
def test_every_service_has_a_health_check_and_comes_back(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_ports_are_open_to_this_machine_alone() -> None:
    ports = [p for service in SERVICES.values() for p in service.get("ports", [])]
    assert len(ports) == 5
    assert all(p.startswith("127.0.0.1:") for p in ports)


def test_every_secret_of_the_file_is_made(tmp_path: Path) -> None:
    """Without Docker: a stand-in for its command says that all is well, and starts nothing."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "docker").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "docker").chmod(0o755)
    (tmp_path / "bin/compose").write_text((ROOT / "bin/compose").read_text())
    path = clean_environment()["PATH"]
    command = ["bash", str(tmp_path / "bin/compose"), "up"]
    kept = []
    for _ in range(2):
        environment = clean_environment(PATH=f"{tmp_path}:{path}")
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert run.returncode == 0, run.stderr
        made = {p: p.read_text() for p in (tmp_path / "var/compose").iterdir()}
        assert not any(text in run.stdout + run.stderr for text in made.values())
        kept.append(made)
    assert kept[0] == kept[1], "a second start has made new secrets, which the database does not know"
    assert {f"./{p.relative_to(tmp_path)}" for p in made} >= {s["file"] for s in FILE["secrets"].values()}
    assert {p.stat().st_mode & 0o777 for p in made} == {0o600}
    assert len(set(made.values())) == len(made)
