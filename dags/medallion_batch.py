"""# medallion_batch: landing files to feature tables

`ingest >> validate >> merge >> featurize >> optimize`, each a spark-submit of `spark_jobs/<stage>.py`, or what
`LAKEHOUSE_BACKEND` says (`docs/deployment.md`). With `session`, `start_spark` and `stop_spark` are around them.

**When.** By hand, or on the cron expression in `LAKEHOUSE_SCHEDULE` (`@hourly`, `@daily`);
with one, backfills are possible, too. Runs never overlap.

**Needs.** The connection `lakehouse_spark` (type `spark`, a master as host) and the pool `lakehouse` with
one slot (`airflow pools set lakehouse 1 "One stage at a time on one warehouse" --include-deferred`).

**Parameters**

| name | meaning |
|---|---|
| `as_of` | instant up to which events count in gold; empty: that of the run, which for a run of a date is its midnight |
| `sources` | names of sources to ingest and validate; empty: all |
| `landing` | folder that holds one folder per source: that of the settings, or one below it |
| `places` | where the run works: warehouse, reports, contracts, sources, exchange. The form does not show it: it has the one value that the settings give it, and a run that was made for other places is refused |

**When it fails.** The task's last line says what is wrong and what to do. Running the DAG again, or
clearing the failed task, is always safe: each file, row and batch counts once, and a run with nothing
new changes nothing.

| exit code | meaning | what to do |
|---|---|---|
| 64 | wrong arguments | mend the parameter or the setting that the message names |
| 65 | a batch was refused: too many bad rows, or columns that a source with `schema_mode: fail` forbids | look at the reasons in the report; mend the contract or the source, then `validate.py --release BATCH` |
| 69, 75 | service unreachable, concurrent writer | nothing: the task is tried again |
| 70 | a bug | report it, with the task's log |
| 78 | wrong configuration or contract | mend the file that the message names |

Each task's XCom is its run report: rows in, accepted, quarantined, merged; table versions; seconds per step.
"""

from __future__ import annotations

from airflow.sdk import DAG
from lakehouse_dags.alerts import deadline
from lakehouse_dags.parameters import folder, places, text, texts
from lakehouse_dags.settings import settings
from lakehouse_dags.stages import ONE_RUN_AT_A_TIME, default_args, spark_of_run, stage_task

SETTINGS = settings()

with DAG(
    dag_id="medallion_batch",
    description="Landing files to bronze, silver and gold",
    doc_md=__doc__,
    schedule=SETTINGS.schedule,
    **ONE_RUN_AT_A_TIME,
    deadline=deadline(SETTINGS),
    default_args=default_args(SETTINGS),
    tags=["lakehouse", "batch"],
    params={
        "as_of": text(
            "As of",
            "Instant up to which events count, such as 2026-03-31 or 2026-03-31T12:00:00+00:00. "
            "Empty: the instant of the run.",
        ),
        "sources": texts("Sources", "Sources to ingest and validate, one a line. Empty: all."),
        "landing": folder(
            SETTINGS.landing,
            "Landing folder",
            "Folder or URI that holds one folder per source: that of the settings, or one below it.",
        ),
        **places(SETTINGS),
    },
) as dag:
    only = "{{ (params.sources or []) | join(',') }}"
    as_of = "{{ params.as_of or (dag_run.data_interval_end or dag_run.run_after).isoformat() }}"

    with spark_of_run(SETTINGS):
        ingest = stage_task("ingest", SETTINGS, "--landing", "{{ params.landing }}", "--only", only)
        validate = stage_task("validate", SETTINGS, "--only", only, after="ingest")
        merge = stage_task("merge", SETTINGS, after="validate")
        featurize = stage_task("featurize", SETTINGS, "--as-of", as_of, after="merge")
        optimize = stage_task("optimize", SETTINGS, after="featurize")

        ingest >> validate >> merge >> featurize >> optimize
