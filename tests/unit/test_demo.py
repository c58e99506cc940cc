"""What the demo tells at its end."""

from __future__ import annotations

import json
from pathlib import Path

import demo
import pyarrow as pa
import pytest
from deltalake import write_deltalake


def test_what_waits_what_was_remarked_and_what_was_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def why(*rules: str) -> list[dict[str, str]]:
        return [{"rule": rule, "message": f"[bold]{rule}"} for rule in rules]

    rows = [
        {"status": status, "reasons": why(*rules)}
        for status, rules in (
            *(("open", ["late"]), ("open", ["late", "cast:price"]), ("replayed", ["late"])),
            *(("discarded", ["done with"]), ("open", ["enum:kind"])),
        )
    ]
    write_deltalake(str(tmp_path / "quarantine/products"), pa.Table.from_pylist(rows))
    staged = [{"_warnings": rules} for rules in (["default:price", "rare"], ["default:price"], [], ["default:price"])]
    write_deltalake(str(tmp_path / "staged/products"), pa.Table.from_pylist(staged))
    demo.show_quality(tmp_path, {"merge": {"warnings": ["[2] keys"]}, "ingest": {"warnings": []}, "optimize": {}})
    told = [[cell.strip() for cell in line.split("│")] for line in capsys.readouterr().out.splitlines()]
    cells = [line[1:-1] for line in told if len(line) > 3]
    assert cells == [
        ["products", "late", "2", "[bold]late"],
        ["products", "cast:price", "1", "[bold]cast:price"],
        ["products", "enum:kind", "1", "[bold]enum:kind"],
        ["products", "default:price", "3"],
        ["products", "rare", "1"],
    ]
    assert told[-1] == ["merge: [2] keys"]


def test_with_nothing_in_quarantine_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo.show_quality(tmp_path, {})
    assert capsys.readouterr().out == "Nothing in quarantine waits for a decision.\n"


def test_a_failed_run_is_told_by_the_line_of_its_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for stage, error in (("ingest", None), ("validate", "validate: batch [bold]: too many bad rows")):
        (tmp_path / f"{stage}.json").write_text(json.dumps({"error": error}))
    demo.show_failure(tmp_path, tmp_path, "failed")
    told = capsys.readouterr().out
    assert told.splitlines()[0] == "validate: batch [bold]: too many bad rows"
    assert "The run ended as: failed." in told
    demo.show_failure(tmp_path / "none", tmp_path, "timed out")
    assert "No stage has left a report: the task's log says why." in capsys.readouterr().out
