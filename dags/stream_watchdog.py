"""# stream_watchdog: does the stream run, and does it keep up?

Reads the stream's heartbeat (`ops.stream`), without Spark, and fails with what is wrong; the notifier tells
somebody (`LAKEHOUSE_NOTIFIER`).

**When.** Every five minutes, or on the cron expression in `LAKEHOUSE_WATCHDOG_SCHEDULE`, once it is unpaused.

**Needs.** A warehouse in a folder or an object store that the workers can read. The stream itself is
supervised outside Airflow, see `docs/operations.md`.

**Parameters**

| name | meaning |
|---|---|
| `silence` | minutes without a heartbeat, after which the stream is taken for stalled or gone |
| `lag` | messages of one input that may wait in Kafka |
| `delay` | minutes that a message may take from bronze to silver |
| `starts` | how often the application may be started in an hour |
| `restart` | after silence, run `LAKEHOUSE_STREAM_RESTART`, such as `supervisorctl restart stream`; the run fails nevertheless, so that somebody knows |
| `places` | where the run works, by the settings; fixed, and not in the form |

**When it fails.** The task's last line is what to look at.

| it says | what to do |
|---|---|
| no heartbeat | `supervisorctl status stream`, and the stream's log; start it |
| ... is down: ... | what follows says why; mend that, then restart the stream |
| ... is pausing: ... | nothing, unless it lasts: it tries again by itself |
| ... messages behind | more cores, or a larger `maxOffsetsPerTrigger`; see whether a long batch holds it up |
| has reached bronze, but not silver | a batch holds the lease, or validate or merge fails: the stream's log |
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Param, task
from lakehouse_dags.parameters import places
from lakehouse_dags.settings import settings
from lakehouse_dags.stages import ONE_RUN_AT_A_TIME, default_args

SETTINGS = settings()

with DAG(
    dag_id="stream_watchdog",
    description="Whether the stream runs and keeps up",
    doc_md=__doc__,
    schedule=SETTINGS.watchdog_schedule,
    **ONE_RUN_AT_A_TIME,
    default_args=default_args(SETTINGS) | {"retries": 0, "execution_timeout": timedelta(minutes=5)},
    tags=["lakehouse", "stream"],
    params={
        "silence": Param(default=5, type="number", exclusiveMinimum=0, title="Silence (minutes)"),
        "lag": Param(default=1_000_000, type="integer", minimum=0, title="Lag (messages)"),
        "delay": Param(default=30, type="number", exclusiveMinimum=0, title="Delay (minutes)"),
        "starts": Param(default=5, type="integer", minimum=1, title="Starts in an hour"),
        "restart": Param(
            default=False,
            type="boolean",
            title="Restart",
            description="After silence, run the command of LAKEHOUSE_STREAM_RESTART.",
        ),
        **places(SETTINGS),
    },
) as dag:

    @task(task_id="look")
    def look(restart_command: str, params: dict | None = None) -> list[str]:
        """Fail with what is wrong."""
        import shlex
        import subprocess

        from airflow.sdk.exceptions import AirflowFailException
        from lakehouse_airflow import stream

        assert params is not None
        now = datetime.now(UTC)
        limits = stream.Limits(
            silence=timedelta(minutes=params["silence"]),
            lag=params["lag"],
            delay=timedelta(minutes=params["delay"]),
            starts=params["starts"],
        )
        try:
            found = stream.troubles(stream.heartbeats(params["places"]["warehouse"], now), now, limits)
        except FileNotFoundError as error:
            raise AirflowFailException(str(error)) from None
        if params["restart"] and restart_command and any(line.startswith(stream.SILENT) for line in found):
            done = subprocess.run(shlex.split(restart_command), capture_output=True, text=True, timeout=120)
            found.append(
                f"'{restart_command}' ended with {done.returncode}: {(done.stdout + done.stderr).strip()[-300:]}"
            )
        if found:
            raise AirflowFailException("; ".join(found))
        return found

    look(SETTINGS.stream_restart)
