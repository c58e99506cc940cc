"""Settings of the environment, and what they do to the DAGs."""

from __future__ import annotations

import pytest
from airflow.dag_processing.dagbag import DagBag
from support import ROOT


def test_event_log_and_history_server_reach_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_EVENT_LOG", "/data/events")
    monkeypatch.setenv("LAKEHOUSE_HISTORY_SERVER", "http://history:18080")
    merge = DagBag(str(ROOT / "dags/medallion_batch.py")).dags["medallion_batch"].get_task("merge")
    assert merge.conf == {"spark.eventLog.enabled": "true", "spark.eventLog.dir": "/data/events"}
    assert merge.history_server == "http://history:18080"


def test_the_event_log_reaches_a_runs_own_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_EVENT_LOG", "/data/events")
    monkeypatch.setenv("LAKEHOUSE_BACKEND", "session")
    dag = DagBag(str(ROOT / "dags/medallion_batch.py")).dags["medallion_batch"]
    # A stage that starts it anew starts the same.
    assert dag.get_task("start_spark").conf == dag.get_task("merge").conf
    assert dag.get_task("merge").conf == {"spark.eventLog.enabled": "true", "spark.eventLog.dir": "/data/events"}


@pytest.mark.parametrize("jar", ["", "/opt/openlineage-spark.jar"])
def test_with_a_jar_sparks_listener_is_told_the_tasks_run(monkeypatch: pytest.MonkeyPatch, jar: str) -> None:
    monkeypatch.setenv("LAKEHOUSE_OPENLINEAGE_JAR", jar)
    merge = DagBag(str(ROOT / "dags/medallion_batch.py")).dags["medallion_batch"].get_task("merge")
    listener = {"spark.jars": jar, "spark.extraListeners": "io.openlineage.spark.agent.OpenLineageSparkListener"}
    assert merge.conf == (listener if jar else {})
    assert merge._openlineage_inject_parent_job_info is bool(jar)
    # A transport may hold a key, and what is injected is in the argv.
    assert not merge._openlineage_inject_transport_info


def test_settings_follow_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from lakehouse_dags.settings import settings

    monkeypatch.setenv("LAKEHOUSE_WAREHOUSE", "/data/w")
    monkeypatch.setenv("LAKEHOUSE_SCHEDULE", "@daily")
    assert (settings().warehouse, settings().schedule) == ("/data/w", "@daily")
    monkeypatch.delenv("LAKEHOUSE_SCHEDULE")
    assert settings().schedule is None
    assert settings().maintenance_schedule == "0 3 * * *"
    monkeypatch.setenv("LAKEHOUSE_MAINTENANCE_SCHEDULE", "none")
    assert settings().maintenance_schedule is None


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (
            "BACKEND",
            "yarn",
            "LAKEHOUSE_BACKEND is 'yarn'; it must be one of local, session, connect, cluster, databricks",
        ),
        ("DATABRICKS_COMPUTE", "big", "LAKEHOUSE_DATABRICKS_COMPUTE must be a JSON object"),
        ("DATABRICKS_COMPUTE", '{"num_workers": 3}', "LAKEHOUSE_DATABRICKS_COMPUTE must have either"),
        ("NOTIFIER_ARGUMENTS", "[]", "LAKEHOUSE_NOTIFIER_ARGUMENTS must be a JSON object"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str) -> None:
    from lakehouse_dags.settings import settings

    monkeypatch.setenv(f"LAKEHOUSE_{name}", value)
    with pytest.raises(ValueError, match=words):
        settings()
