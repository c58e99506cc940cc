"""# training_set

A labelled set for training, as the table `gold.training_<name>`: a customer's features as of a cut-off and as
known by then, and what the customer did within a horizon after it (`churned`, `future_spend`, `next_category`).

**When.** By hand, when a model is to be trained.

**Needs.** What `medallion_batch` needs. It takes turns with it: both use the pool `lakehouse`.

**Parameters**

| name | meaning |
|---|---|
| `name` | the table is `gold.training_<name>`; a set of this name is replaced |
| `cut_offs` | instants up to which features know events; the set has a row for each customer and cut-off |
| `horizon` | days after a cut-off that labels look at |
| `known_by` | `cut-off`: features know nothing that was delivered later; `now`: whatever is there, for history that was delivered afterwards; or an instant |
| `from_manifest` | name of a file that `manifest` was written to: the same set again, all else is ignored; empty: a new set |
| `manifest` | name of a file below the exchange folder (`LAKEHOUSE_EXCHANGE`) to write the manifest to; empty: none. It is in `ops.training_sets` in any case |
| `places` | where the run works, by the settings; fixed, and not in the form |

**When it fails.** The task's last line says what is wrong and what to do. Running it again is always safe: the
table is replaced in one commit.

| exit code | meaning | what to do |
|---|---|---|
| 64 | a parameter is wrong; a horizon has not passed; nothing was known by a cut-off | mend what the message names |
| 69, 75 | service unreachable, concurrent writer | nothing: the task is tried again |
| 70 | a bug | report it, with the task's log |
| 78 | wrong configuration or contract, or the manifest is of other definitions | mend the file that the message names |
"""

from __future__ import annotations

from airflow.sdk import DAG, Param
from lakehouse_dags.parameters import below_exchange, file, places, texts
from lakehouse_dags.settings import settings
from lakehouse_dags.stages import ONE_RUN_AT_A_TIME, default_args, spark_of_run, stage_task

SETTINGS = settings()

with DAG(
    dag_id="training_set",
    description="Features as of cut-offs, with labels",
    doc_md=__doc__,
    schedule=None,
    **ONE_RUN_AT_A_TIME,
    default_args=default_args(SETTINGS),
    tags=["lakehouse", "features"],
    params={
        "name": Param(
            default="churn",
            type="string",
            pattern="^[a-z][a-z0-9_]*$",
            title="Name",
            description="The table is gold.training_<name>; a set of this name is replaced.",
        ),
        "cut_offs": texts(
            "Cut-offs",
            "Instants up to which features know events, one a line, such as 2026-03-01. Empty: with a manifest only.",
        ),
        "horizon": Param(
            default=30,
            type="integer",
            minimum=1,
            maximum=3650,
            title="Horizon",
            description="Days after a cut-off that labels look at.",
        ),
        "known_by": Param(
            default="cut-off",
            type="string",
            minLength=3,
            title="Known by",
            description="cut-off, now, or an instant: features know nothing that was delivered later.",
        ),
        "from_manifest": file(
            "From manifest",
            "Name of a manifest's file below the exchange folder: the same set again. Empty: a new set.",
            ".json",
        ),
        "manifest": file(
            "Manifest",
            "Name of a file below the exchange folder to write the manifest to, such as churn.json. Empty: none.",
            ".json",
        ),
        **places(SETTINGS),
    },
) as dag:
    with spark_of_run(SETTINGS):
        stage_task(
            "training_set",
            SETTINGS,
            *("--name", "{{ params.name }}"),
            *("--cut-offs", "{{ (params.cut_offs or []) | join(',') }}"),
            *("--horizon", "{{ params.horizon }}"),
            *("--known-by", "{{ params.known_by }}"),
            *("--from-manifest", below_exchange("from_manifest")),
            *("--manifest", below_exchange("manifest")),
        )
