"""# rebuild_features

Gold from silver over a range of instants: renews the snapshots that late data have made stale, or makes one
every so many days.

**When.** After a run of `medallion_batch` has warned of stale snapshots; after a definition was changed or
added; to make snapshots of a time from before the lakehouse ran.

**Needs.** What `medallion_batch` needs. It takes turns with it: both use the pool `lakehouse`.

**Parameters**

| name | meaning |
|---|---|
| `start`, `end` | the first and the last instant, both included |
| `every` | make a snapshot every so many days; 0: renew the stale ones in the range, and those of older definitions |
| `from_events` | compute every customer from events, even where a snapshot is up to date |
| `places` | where the run works, by the settings; fixed, and not in the form |

**When it fails.** The task's last line says what is wrong and what to do. Running it again is always safe:
snapshots that are done are not made again, and one that was left half made is.

| exit code | meaning | what to do |
|---|---|---|
| 64 | a parameter is wrong | mend what the message names |
| 69, 75 | service unreachable, concurrent writer | nothing: the task is tried again |
| 70 | a bug | report it, with the task's log |
| 78 | wrong configuration or contract | mend the file that the message names |
"""

from __future__ import annotations

from airflow.sdk import DAG, Param
from lakehouse_dags.parameters import places
from lakehouse_dags.settings import settings
from lakehouse_dags.stages import ONE_RUN_AT_A_TIME, default_args, spark_of_run, stage_task

SETTINGS = settings()

with DAG(
    dag_id="rebuild_features",
    description="Snapshots of gold over a range of instants",
    doc_md=__doc__,
    schedule=None,
    **ONE_RUN_AT_A_TIME,
    default_args=default_args(SETTINGS),
    tags=["lakehouse", "features"],
    params={
        "start": Param(
            default="2000-01-01",
            type="string",
            minLength=10,
            title="Start",
            description="The first instant, such as 2026-03-01 or 2026-03-01T12:00:00+00:00.",
        ),
        "end": Param(
            default="2100-01-01", type="string", minLength=10, title="End", description="The last instant, included."
        ),
        "every": Param(
            default=0,
            type="integer",
            minimum=0,
            maximum=366,
            title="Every so many days",
            description="0: renew the stale snapshots in the range, and those of older definitions.",
        ),
        "from_events": Param(
            default=False,
            type="boolean",
            title="From events",
            description="Compute every customer from events, even where a snapshot is up to date.",
        ),
        **places(SETTINGS),
    },
) as dag:
    with spark_of_run(SETTINGS):
        stage_task(
            "featurize",
            SETTINGS,
            *("--start", "{{ params.start }}"),
            *("--end", "{{ params.end }}"),
            *("--every", "{{ params.every or '' }}"),
            *("--recompute", "{{ 'all' if params.from_events else 'auto' }}"),
        )
