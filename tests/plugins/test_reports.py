"""Run reports as a page shows them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lakehouse_airflow import reports

RUN = "manual__2026-03-31T04:05:00+00:00"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    report = tmp_path / "reports/medallion_batch" / RUN / "merge.json"
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({"stage": "merge"}))
    (tmp_path / "secret.json").write_text("{}")
    (tmp_path / "reports/x").mkdir()
    (tmp_path / "reports/secret.json").write_text("{}")
    (tmp_path / "outside/r").mkdir(parents=True)
    (tmp_path / "outside/r/t.json").write_text("{}")
    (tmp_path / "reports/linked").symlink_to(tmp_path / "outside")
    (tmp_path / "reports/x/file").write_text("")
    (tmp_path / "reports/x/r").mkdir()
    (tmp_path / "reports/x/r/half.json").write_text("{")
    (tmp_path / "reports/x/r/bytes.json").write_bytes(b"\xff")
    (tmp_path / "reports/x/r/list.json").write_text("[]")
    (tmp_path / "reports/x/r/folder.json").mkdir()
    return tmp_path / "reports"


def test_a_report_is_found_by_dag_run_and_task(folder: Path) -> None:
    assert reports.find(folder, "medallion_batch", RUN, "merge") == {"stage": "merge"}
    assert reports.find(folder, "medallion_batch", RUN, "ingest") is None


@pytest.mark.parametrize(
    ("dag", "run", "task"),
    [
        ("..", ".", "secret"), ("x", "..", "secret"), ("x", "../..", "secret"), ("x", "y", "../../../secret"), ("", "", "secret"),
        ("x/..", "..", "secret"), ("/etc", "x", "passwd"), ("x", "/", "secret"), ("/", "tmp", "secret"), ("//", "r", "secret"),
        ("x", ".", "../secret"), ("...", "r", "t"), ("x\\..", "r", "t"), ("linked", "r", "t"),
    ],
)  # fmt: skip
def test_no_name_leads_out_of_the_folder(folder: Path, dag: str, run: str, task: str) -> None:
    assert reports.find(folder, dag, run, task) is None


def test_a_folder_below_which_it_is_asked_for_is_not_chosen_by_a_name(folder: Path) -> None:
    """A name that is a whole address would replace the folder."""
    report = folder.parent / "tmp"
    report.mkdir()
    (report / "x.json").write_text("{}")
    assert reports.find(folder, str(folder.parent), "tmp", "x") is None


@pytest.mark.parametrize(
    ("dag", "run", "task"),
    [
        ("x", "r", "half"), ("x", "r", "bytes"), ("x", "r", "list"), ("x", "r", "folder"), ("x", "file", "t"), ("x", "r", "a" * 5000),
        ("x", "r" * 251, "t"), ("\0", "r", "t"), ("x", "r\n", "t"), ("x", "r", "é" * 200), ("x", "%00", "t"), ("x", "\ud800", "t"),
    ],
)  # fmt: skip
def test_what_is_no_report_or_no_name_is_none(folder: Path, dag: str, run: str, task: str) -> None:
    assert reports.find(folder, dag, run, task) is None


def test_figures_come_in_the_order_of_the_stages_and_versions_last() -> None:
    tables = {
        "a": {"version_read": 1, "inserted": 2, "novel": 3},
        "b": {"rows_in": 4, "bytes_written": 5, "inserted": 6},
    }
    assert reports.columns({"tables": tables}) == ["rows_in", "inserted", "novel", "bytes_written", "version_read"]
    assert reports.columns({"tables": {}}) == []


def test_the_longest_step_comes_first() -> None:
    told = reports.steps({"steps": {"b": 1.0, "total": 8.0, "a": 1.0, "c": 6.0}})
    assert told == [("c", 6.0, 75.0), ("a", 1.0, 12.5), ("b", 1.0, 12.5)]
    assert reports.steps({"steps": {"a": 0.0}}) == [("a", 0.0, 0.0)]
