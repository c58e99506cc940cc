"""The end of an Airflow of our own, with processes that stand for its parts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psutil
from airflow_server import Airflow


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
