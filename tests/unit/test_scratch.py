"""The driver's own folders."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from lakehouse.ingestion.scratch import Scratch


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_a_folder_is_there_until_it_is_removed(temporary):
    scratch = Scratch("clicks")
    (scratch.path / "offsets").mkdir()
    (scratch.path / "offsets/0").write_text("{}")
    assert len(list(temporary.iterdir())) == 1
    scratch.remove()
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_has_left_goes_with_the_next_one_of_its_name(temporary):
    code = (
        "import time; from lakehouse.ingestion.scratch import Scratch; s = Scratch('clicks'); print(s.path, flush=True); "
        "time.sleep(15)"
    )
    path = os.pathsep.join(p for p in sys.path if p)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}
    ) as process:
        assert process.stdout is not None
        theirs = Path(process.stdout.readline().strip())
        own = [Scratch("clicks"), Scratch("orders")]
        assert theirs.is_dir(), "removed while its owner was at work"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert theirs.is_dir()
    other = Scratch("orders")
    assert theirs.is_dir(), "another name's"
    again = Scratch("clicks")
    assert not theirs.exists()
    assert all(s.path.is_dir() for s in [*own, other, again])
