"""# quarantine_replay

What is in quarantine goes back through validate, or is given up: by hand, with parameters.

**When.** After a contract was mended, after corrected values came as a patch file, or when somebody
decides that rows are not worth mending. Begin with the action `dry-run`: it tells how many rows would
pass and what the others still break, and changes nothing.

**Needs.** What `medallion_batch` needs. It takes turns with it: both use the pool `lakehouse`.

**Parameters**

| name | meaning |
|---|---|
| `entity` | whose quarantine; empty: all of them |
| `action` | `dry-run`, `replay` or `discard` |
| `rule` | only rows with this reason, such as `cast:amount`; empty: any |
| `ids` | only these rows, by the `id` they have in the quarantine; empty: any |
| `since`, `until` | only rows quarantined in this time, `until` excluded; empty: any |
| `patch` | name of a CSV file below the exchange folder (`LAKEHOUSE_EXCHANGE`), with the columns `id`, `column` (as the source calls it) and `value`; needs an entity; empty: no corrections |
| `by`, `reason` | who decides, and why; needed to discard, remembered with the rows in any case |
| `places` | where the run works, by the settings; fixed, and not in the form |

**After it.** The replayed rows are merged into silver at once, with whatever else validate has accepted and
merge has not taken yet; after a dry run or a discard, merge is skipped. Gold has them with the next
`medallion_batch`, or as soon as its `featurize` is run for the instant that matters.

**When it fails.** The task's last line says what is wrong and what to do. Running it again is always
safe: a row that was replayed or discarded is not open any more, and an interrupted replay is undone first.

| exit code | meaning | what to do |
|---|---|---|
| 64 | a parameter is wrong, or the patch names a row or column that is not there | mend what the message names |
| 69, 75 | service unreachable, concurrent writer | nothing: the task is tried again |
| 70 | a bug | report it, with the task's log |
| 78 | wrong configuration or contract | mend the file that the message names |
"""

from __future__ import annotations

from airflow.sdk import DAG, Param, task
from lakehouse_dags.parameters import below_exchange, file, places, text, texts
from lakehouse_dags.settings import settings
from lakehouse_dags.stages import ONE_RUN_AT_A_TIME, default_args, spark_of_run, stage_task

SETTINGS = settings()


with DAG(
    dag_id="quarantine_replay",
    description="Quarantined rows back through validate, or given up",
    doc_md=__doc__,
    schedule=None,
    **ONE_RUN_AT_A_TIME,
    # It runs only when somebody asks for it; a paused one would let them wait without a word.
    is_paused_upon_creation=False,
    default_args=default_args(SETTINGS),
    tags=["lakehouse", "quality"],
    params={
        "entity": text(
            "Entity",
            "Whose quarantine; empty: all of them.",
            examples=["customers", "products", "transactions", "interactions"],
        ),
        "action": Param(
            default="dry-run",
            type="string",
            enum=["dry-run", "replay", "discard"],
            title="Action",
            description="A dry run changes nothing.",
        ),
        "rule": text("Rule", "Only rows with this reason, such as cast:amount. Empty: any."),
        "ids": texts("Rows", "Only these rows of the quarantine, one id a line. Empty: any."),
        "since": text("Since", "Only rows quarantined at or after this instant, such as 2026-03-31. Empty: any."),
        "until": text("Until", "Only rows quarantined before this instant. Empty: any."),
        "patch": file(
            "Patch file",
            "Name of a file below the exchange folder: CSV with the columns id, column and value. Empty: no corrections.",
            ".csv",
        ),
        "by": text("Decided by", "Your name; needed to discard."),
        "reason": text("Reason", "Why; needed to discard."),
        **places(SETTINGS),
    },
) as dag:

    @task.short_circuit(pool=SETTINGS.pool)
    def rows_came_back(params: dict | None = None) -> bool:
        """Whether there may be something to merge."""
        return params is not None and params["action"] == "replay"

    with spark_of_run(SETTINGS):
        replay = stage_task(
            "replay",
            SETTINGS,
            *("--only", "{{ params.entity or '' }}"),
            *("--action", "{{ params.action }}"),
            *("--rule", "{{ params.rule or '' }}"),
            *("--ids", "{{ (params.ids or []) | join(',') }}"),
            *("--since", "{{ params.since or '' }}"),
            *("--until", "{{ params.until or '' }}"),
            *("--patch", below_exchange("patch")),
            *("--by", "{{ params.by or '' }}"),
            *("--reason", "{{ params.reason or '' }}"),
        )
        merge = stage_task("merge", SETTINGS, "--only", "{{ params.entity or '' }}", after="replay")

        replay >> rows_came_back() >> merge
