"""What the notifier says, of a task that failed and of a run that is late."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.triggers.callback import CallbackTrigger
from lakehouse_airflow.alerts import LogNotifier, described


def test_a_failed_task_is_told_with_its_reason_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    context: dict[str, Any] = {
        "dag_run": SimpleNamespace(dag_id="medallion_batch", run_id="manual__1"),
        "ti": SimpleNamespace(task_id="validate"),
        "exception": ValueError("exit code 65 (data refused):\n validate: too many bad rows"),
    }
    assert described(context) == (
        "medallion_batch.validate: run manual__1 has failed: exit code 65 (data refused): validate: too many bad rows"
    )
    LogNotifier()(context)
    assert "LAKEHOUSE ALERT medallion_batch.validate: run manual__1" in capsys.readouterr().out


@pytest.mark.anyio
async def test_a_late_run_is_told_by_the_triggerer(capsys: pytest.CaptureFixture[str]) -> None:
    context = {"dag_run": {"dag_id": "medallion_batch", "dag_run_id": "manual__1"}, "deadline": {"id": "d"}}
    trigger = CallbackTrigger("lakehouse_airflow.alerts.LogNotifier", {"context": context})
    events = [event async for event in trigger.run()]
    assert events[-1].payload["state"] == "success", events
    assert "LAKEHOUSE ALERT medallion_batch: run manual__1 has missed its deadline" in capsys.readouterr().out


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
