"""The end of an Airflow of our own, with processes that stand for its parts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from airflow_server import Airflow, claim
from support import ROOT


def test_what_has_a_process_group_of_its_own_ends_with_it(tmp_path: Path) -> None:
    airflow = Airflow(tmp_path, {})
    # With job control, a shell gives each job a process group, as Airflow gives one to each reader of DAG files.
    command = ["bash", "-c", "set -m; sleep 300 & echo $!; wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as leader:
        assert leader.stdout is not None
        job = psutil.Process(int(leader.stdout.readline()))
        assert os.getpgid(job.pid) == job.pid
        airflow._process = leader
        airflow.__exit__()
    assert not job.is_running() or job.status() == psutil.STATUS_ZOMBIE


HOLDER = """
import subprocess, sys
from pathlib import Path
from airflow_server import claim
handle = claim(Path(sys.argv[1]))
child = subprocess.Popen(["sleep", "300"], pass_fds=(handle,))
print(child.pid, flush=True)
child.wait()
"""


def test_a_second_airflow_on_one_state_is_refused_until_the_last_process_of_the_first_is_gone(tmp_path: Path) -> None:
    home = tmp_path / "airflow"
    command = [sys.executable, "-c", HOLDER, str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT / "bin") as holder:
        assert holder.stdout is not None
        child = psutil.Process(int(holder.stdout.readline()))
        try:
            for process in (holder, child):
                with pytest.raises(SystemExit) as told:
                    claim(home)
                assert str(home) in str(told.value)
                assert f"process {holder.pid}" in str(told.value)
                assert "\n" not in str(told.value)
                process.kill()
                process.wait()
        finally:
            for process in (holder, child):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
    # Neither the killed ones nor one that has closed its handle are in the way.
    os.close(claim(home))
    os.close(claim(home))


def test_the_browsers_airflow_is_refused_in_one_line(tmp_path: Path) -> None:
    handle = claim(tmp_path)
    begin = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = f"export AIRFLOW_HOME='{tmp_path}' AIRFLOW__API__PORT={taken.getsockname()[1]}; . bin/env && exec python bin/ui.py"
        done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)
        os.close(handle)
        # Nothing else holds it up then but the port.
        again = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"An Airflow is running on {tmp_path} already, as process {os.getpid()}")
    assert len(done.stderr.splitlines()) == 1
    assert again.stderr.startswith("Something else listens on port")
    assert time.monotonic() - begin < 30
