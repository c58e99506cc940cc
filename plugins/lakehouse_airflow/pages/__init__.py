"""The Lakehouse section of Airflow: pages behind its authentication, made from logs and records of the tables without Spark."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates

from lakehouse_airflow import day_of_stream, features, lake, reports, wording
from lakehouse_airflow.health import Freshness, Health, freshness
from lakehouse_airflow.stream import QUIET, heard
from lakehouse_airflow.suite import ConfigurationError, Contracts

HERE = Path(__file__).resolve().parent
BATCH, REPLAY = "medallion_batch", "quarantine_replay"
"""Who may see the batch's DAG may see the pages; who may run a replay, personal data too."""
PAGE_ROWS, MAX_ROWS = 20, 1_000_000_000
"""How many rows a page shows, and how far anybody turns them."""


def build(warehouse: str | None = None) -> FastAPI:
    """The application; the warehouse is that of the DAGs unless another one is named."""
    contracts = Contracts(Path(os.environ.get("LAKEHOUSE_CONTRACTS") or HERE.parents[2] / "contracts"))
    reports_folder = Path(os.environ.get("LAKEHOUSE_REPORTS") or HERE.parents[2] / "var/reports")
    location = warehouse or os.environ.get("LAKEHOUSE_WAREHOUSE") or "var/warehouse"
    shown = location.removeprefix(f"{HERE.parents[2]}/")
    tables, templates = lake.Lake(location), Jinja2Templates(HERE / "templates")
    health = Health(tables, contracts)
    templates.env.filters |= {
        "bars": bars,
        "heights": heights,
        "ago": wording.ago,
        "size": wording.size,
        "number": lambda n: f"{n:,}",
    }
    app = FastAPI(
        title="Lakehouse", docs_url=None, redoc_url=None, openapi_url=None,
        dependencies=[Depends(requires_access_dag("GET", param_dag_id=BATCH))],
    )  # fmt: skip
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")

    def page(request: Request, name: str, status: int = 200, **facts: Any) -> HTMLResponse:
        now = datetime.now(UTC)
        known = {"now": now, "warehouse": shown, "page": name, **facts}
        return templates.TemplateResponse(request, name, known, status)

    @app.exception_handler(lake.NoTables)
    def nothing_yet(request: Request, error: lake.NoTables) -> Response:
        return page(request, "empty.html")

    @app.exception_handler(ConfigurationError)
    def wrong_contract(request: Request, error: ConfigurationError) -> Response:
        return page(request, "wrong.html", 500, error=error)

    @app.exception_handler(401)
    def to_the_login(request: Request, error: HTTPException) -> Response:
        root = request.scope.get("root_path", "")
        back = quote(f"{root}{request.url.path.removeprefix(root)}")
        return RedirectResponse(f"{get_auth_manager().get_url_login()}?next={back}", 302)

    @app.get("/", response_class=HTMLResponse)
    def overview(request: Request) -> HTMLResponse:
        found = tables.state()
        now = datetime.now(UTC)
        done = tables.since(now.replace(hour=0, minute=0, second=0, microsecond=0))
        promises, beats = freshness(found, contracts.read()), heard(found.stream, now)
        return page(
            request, "overview.html", state=found, flow=flow(found, done, promises, beats, now), promises=promises, beats=beats,
            runs=runs(found),
        )  # fmt: skip

    @app.get("/tables", response_class=HTMLResponse)
    def all_tables(request: Request) -> HTMLResponse:
        found = tables.state()
        with ThreadPoolExecutor(lake.WORKERS) as pool:
            sound = [t for t in found.tables.values() if not t.error]
            needs = dict(zip((t.name for t in sound), pool.map(health.need, sound), strict=True))
        return page(request, "tables.html", state=found, layers=lake.LAYERS, needs=needs)

    @app.get("/tables/{name}", response_class=HTMLResponse)
    def one_table(request: Request, name: str) -> HTMLResponse:
        if name not in tables.names():
            raise HTTPException(404, f"no table {name}")
        table = tables.table(name)
        if table.error:
            return page(request, "table.html", table=table)
        contract = contracts.of(name)
        return page(
            request, "table.html", table=table, columns=tables.columns(name), history=tables.history(name), contract=contract,
            promised={c.name: c for c in contract.columns} if contract else {}, need=health.need(table),
        )  # fmt: skip

    @app.get("/quality", response_class=HTMLResponse)
    def quality(
        request: Request,
        user: GetUserDep,
        entity: str = "",
        rule: str = "",
        first: Annotated[int, Query(ge=0, le=MAX_ROWS)] = 0,
    ) -> HTMLResponse:
        found = tables.state()
        trusted = may_see_persons(user)
        chosen = next((r for r in found.reasons if (r["entity"], r["rule"]) == (entity, rule)), None)
        rows = tables.quarantined(entity, rule, first, PAGE_ROWS) if chosen and trusted else []
        return page(
            request, "quality.html", state=found, chosen=chosen, rows=rows, first=first, most=PAGE_ROWS, trusted=trusted,
            passing=tables.passing(), warned=tables.warned(), person=user.get_name(), replay=REPLAY,
        )  # fmt: skip

    @app.get("/features", response_class=HTMLResponse)
    def features_(request: Request, user: GetUserDep, customer: str = "") -> HTMLResponse:
        found = tables.state()
        instants = [s["as_of"] for s in found.snapshots if s["state"] != "expired"]
        if not instants or features.TABLE not in found.tables or found.tables[features.TABLE].error:
            return page(request, "features.html", as_of=None)
        trusted, known, as_of = may_see_persons(user), features.described(contracts.of(features.TABLE)), instants[0]
        before = instants[1] if len(instants) > 1 else None
        customer_id = customer.strip() if trusted else ""
        return page(
            request, "features.html", as_of=as_of, before=before, features=known, trusted=trusted, replay=REPLAY,
            now_=features.figures(tables, known, as_of), earlier=features.figures(tables, known, before) if before else {},
            customer_id=customer_id, row=features.customer(tables, customer_id, as_of) if customer_id else None,
            events=features.timeline(tables, customer_id) if customer_id else [],
        )  # fmt: skip

    @app.get("/stream", response_class=HTMLResponse)
    def stream(request: Request) -> HTMLResponse:
        found = tables.state()
        now = datetime.now(UTC)
        beats = {b["input"]: b for b in heard(found.stream, now)}
        return page(request, "stream.html", beats=beats, figures=day_of_stream.day(tables, now))

    @app.get("/report", response_class=HTMLResponse)
    def report_(request: Request, user: GetUserDep, dag: str, run: str, task: str) -> HTMLResponse:
        allowed = get_auth_manager().is_authorized_dag(
            method="GET", access_entity=DagAccessEntity.TASK_INSTANCE, details=DagDetails(id=dag), user=user
        )
        if not allowed:
            raise HTTPException(403, "Forbidden")
        report = reports.find(reports_folder, dag, run, task)
        return page(
            request, "report.html", task=task, report=report,
            columns=reports.columns(report) if report else [], steps=reports.steps(report) if report else [],
        )  # fmt: skip

    return app


def may_see_persons(user: Any) -> bool:
    """Whether somebody may run a replay, for which one must see what was received."""
    return get_auth_manager().is_authorized_dag(
        method="POST", access_entity=DagAccessEntity.RUN, details=DagDetails(id=REPLAY), user=user
    )


def bars(shares: list[float]) -> list[tuple[int, float]]:
    """(place, height) of a bar for each share that does not pass, on a scale up to the highest of them; of 100 in height."""
    failing = [1 - s for s in shares]
    highest = max(failing, default=0)
    return [(n, round(100 * f / highest, 1) if highest else 0.0) for n, f in enumerate(failing)]


def heights(values: list[float | None]) -> list[tuple[int, float]]:
    """(place, height) of a bar for each value that there is, on a scale from nothing to the highest of them; of 100 in height."""
    highest = max((v for v in values if v is not None), default=0)
    return [(n, round(100 * v / highest, 1) if highest else 0.0) for n, v in enumerate(values) if v is not None]


@dataclass(frozen=True)
class Step:
    """A step of the flow, for the picture.

    Attributes:
        figure, what: all there is, and what it counts.
        today: what has been done since midnight.
        stage: which stage fills it.
        late: the tables that are older than they may be, and since when.
        fresh: whether there is a promise, and none is late.
    """

    name: str
    figure: int
    what: str
    today: list[str]
    stage: str = ""
    late: list[str] = field(default_factory=list)
    fresh: bool = False


def flow(
    found: lake.State,
    done: Mapping[str, Counter[str]],
    promises: list[Freshness],
    beats: list[dict[str, Any]],
    now: datetime,
) -> list[Step]:
    """The steps from source to gold: what there is, what today's batches have done, and what is late."""
    # The stream's rounds are no runs: what they have done is on the stream's page.
    said = "today by batches" if beats else "today"

    def today(tables: str, *figures: str) -> str:
        return f"{sum(of[f] for table, of in done.items() if table.startswith(tables) for f in figures):,}"

    def rows(layer: str) -> int:
        # The histories hold the same entities again.
        return sum(t.rows for t in found.tables.values() if t.layer == layer and not t.name.endswith("_history"))

    def promise(layer: str) -> tuple[list[str], bool]:
        promised = [f for f in promises if f.table.startswith(layer)]
        late = [f"{f.table.split('.')[1]}: {wording.ago(f.newest, now)}" for f in promised if f.late(now)]
        return late, bool(promised) and not late

    newest = next((s for s in found.snapshots if s["state"] == "published"), None)
    inputs = [name for name, t in found.tables.items() if t.layer == "bronze"]
    told = [b["lag"] for b in beats if b["state"] != QUIET]
    waiting = [f"{sum(told):,} wait in Kafka"] if told else ["the stream is silent"] if beats else []
    behind = {
        stage: [f"1 batch waits for {stage}" if n == 1 else f"{n:,} batches wait for {stage}"]
        for stage, n in found.waiting.items()
    }
    quarantined = f"{today('staged.', 'rows_quarantined')} quarantined {said}"
    return [
        Step("Sources", len(inputs), "inputs", [f"{today('bronze.', 'files_loaded')} files {said}", *waiting]),
        Step("Bronze", rows("bronze"), "rows as received", [f"{today('bronze.', 'rows_in')} {said}", *behind.get("validate", [])], "ingest"),
        Step(
            "Staged", rows("staged"), "rows that pass",
            [f"{today('staged.', 'rows_accepted')} accepted {said}", quarantined, *behind.get("merge", [])], "validate",
        ),
        Step(
            "Silver", rows("silver"), "keys as they are now",
            [f"{today('silver.', 'inserted', 'updated', 'deleted')} changed {said}"], "merge", *promise("silver."),
        ),
        Step(
            "Gold", newest["customers"] if newest else 0,
            f"customers as of {newest['as_of']:%Y-%m-%d %H:%M}" if newest else "no snapshot",
            [f"{today('gold.customer_features', 'rows_written')} written today"], "featurize", *promise("gold."),
        ),
    ]  # fmt: skip


def runs(found: lake.State) -> list[dict[str, Any]]:
    """Of each stage the newest run, with what it says, in the order of the stages."""
    place = {stage: n for n, stage in enumerate(lake.STAGES)}
    told = []
    for r in sorted(found.runs, key=lambda r: (place.get(r["stage"], len(place)), r["stage"])):
        report = lake.report_of(r)
        told.append(r | {"says": [report["error"]] if report.get("error") else report.get("warnings") or []})
    return told
