"""# table_maintenance

Compacts and clusters the tables that need it, and deletes the files that no recent version of a table needs.

**When.** Daily at 03:00 UTC, or on the cron expression in `LAKEHOUSE_MAINTENANCE_SCHEDULE` (`none`: only by
hand). `medallion_batch` compacts as well, but it never deletes files.

**Needs.** What `medallion_batch` needs. It takes turns with it: both use the pool `lakehouse`.

**Parameters**

| name | meaning |
|---|---|
| `tables` | tables (`silver.customers`) or names in all layers (`customers`); empty: all |
| `dry_run` | only tell what each table would get |
| `vacuum` | delete the files that no version of the last `retain_hours` needs |
| `retain_hours` | how far back readers may still look; a week at least |
| `budget` | minutes after which no further table is begun; the worst come first |
| `places` | where the run works, by the settings; fixed, and not in the form |

**When it fails.** The task's last line says what is wrong and what to do. Running it again is always safe: it
changes how rows are stored, never which rows there are.

| exit code | meaning | what to do |
|---|---|---|
| 64 | a parameter is wrong | mend what the message names |
| 69, 75 | service unreachable, concurrent writer | nothing: the task is tried again |
| 70 | a bug | report it, with the task's log |
| 78 | wrong configuration or contract | mend the file that the message names |
"""

from __future__ import annotations

from airflow.sdk import DAG, Param
from lakehouse_dags.parameters import places, texts
from lakehouse_dags.settings import settings
from lakehouse_dags.stages import ONE_RUN_AT_A_TIME, default_args, spark_of_run, stage_task

SETTINGS = settings()

with DAG(
    dag_id="table_maintenance",
    description="Compact, cluster and vacuum the tables that need it",
    doc_md=__doc__,
    schedule=SETTINGS.maintenance_schedule,
    **ONE_RUN_AT_A_TIME,
    default_args=default_args(SETTINGS),
    tags=["lakehouse", "maintenance"],
    params={
        "tables": texts(
            "Tables",
            "Such as silver.customers, or customers for all layers, one a line. Empty: all.",
            pattern=r"^([a-z]+\.)?[A-Za-z_][A-Za-z0-9_]*$",
        ),
        "dry_run": Param(
            default=False, type="boolean", title="Dry run", description="Only tell what each table would get."
        ),
        "vacuum": Param(
            default=True,
            type="boolean",
            title="Delete files",
            description="Delete the files that no version of the time below needs.",
        ),
        "retain_hours": Param(
            default=168,
            type="integer",
            minimum=168,
            title="Keep versions for (hours)",
            description="Readers may look back so far; a week at least.",
        ),
        "budget": Param(
            default=120,
            type="number",
            exclusiveMinimum=0,
            title="Budget (minutes)",
            description="No further table is begun after so long; the worst come first, the rest is left for the next run.",
        ),
        **places(SETTINGS),
    },
) as dag:
    with spark_of_run(SETTINGS):
        stage_task(
            "optimize",
            SETTINGS,
            *("--only", "{{ (params.tables or []) | join(',') }}"),
            "{{ '--dry-run' if params.dry_run else '--no-dry-run' }}",
            "{{ '--vacuum' if params.vacuum else '--no-vacuum' }}",
            *("--retain-hours", "{{ params.retain_hours }}"),
            *("--budget", "{{ params.budget }}"),
        )
