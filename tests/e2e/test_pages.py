"""The Lakehouse pages in a real Airflow: who sees what, what is escaped, and how they look and work in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow_server import Airflow
from small_warehouse import RUDE_ID, add, fill
from support import ROOT, airflow_environment

PEOPLE = {"ann": "admin", "vic": "viewer"}
RUDE = urllib.parse.urlencode({"entity": "clicks", "rule": "[red]rude[/red]"})
WHO = urllib.parse.urlencode({"customer": RUDE_ID})
PAGES = (
    *("", "tables", "tables/bronze.clicks", "tables/silver.interactions", "tables/quarantine.broken", "quality"),
    *(f"quality?{RUDE}", "features", f"features?{WHO}", "stream"),
    *("report?dag=medallion_batch&run=r1&task=validate", "report?dag=medallion_batch&run=r1&task=none"),
)

REPORT = {
    "status": "failed", "exit_code": 65, "error": "validate: <b>too many</b>", "started_at": "2026-03-01T00:00:00+00:00", "warnings": ["a <i>"],
    "tables": {"staged.clicks": {"rows_in": 12345, "rows_accepted": 12340, "version_written": 3}}, "rules": {"clicks": {"late": 5}},
    "steps": {"publish clicks": 3.0, "total": 4.0},
}  # fmt: skip


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


@dataclass
class Site:
    """An Airflow whose warehouse has a broken table."""

    url: str
    tokens: dict[str, str]
    warehouse: Path
    contracts: Path

    def get(self, path: str, person: str | None) -> tuple[int, str, str]:
        """(status, text, address it leads to) of a page of the section, as somebody or as nobody."""
        headers = {"Cookie": f"_token={self.tokens[person]}"} if person else {}
        request = urllib.request.Request(f"{self.url}/lakehouse/{path}", headers=headers)
        try:
            with urllib.request.build_opener(NoRedirect).open(request, timeout=30) as answer:
                return answer.status, answer.read().decode(), ""
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(), error.headers.get("Location", "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    fill(folder / "warehouse")
    now = datetime.now(UTC)
    beats = ((now - timedelta(minutes=1), 50, 3), (now, 57, 5))
    rude = ("r", "<b>orders</b>", "running", None, 0)
    add(folder / "warehouse", "ops.stream", *[(at, *rude, n, 2.5, 6, 0.1, now, now, bad) for at, n, bad in beats])
    broken = folder / "warehouse/quarantine/broken/_delta_log"
    broken.mkdir(parents=True)
    (broken / "00000000000000000000.json").write_text("{")
    report = folder / "reports/medallion_batch/r1/validate.json"
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps(REPORT))
    shutil.copytree(ROOT / "contracts", folder / "contracts")
    passwords = folder / "passwords.json"
    passwords.write_text(json.dumps({name: f"secret of {name}" for name in PEOPLE}))
    settings = airflow_environment(
        folder,
        LAKEHOUSE_CONTRACTS=str(folder / "contracts"),
        AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS="False",
        AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS=",".join(f"{name}:{role}" for name, role in PEOPLE.items()),
        AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE=str(passwords),
    )
    with Airflow(folder / "airflow", settings) as airflow:
        tokens = {name: log_in(airflow.url, name) for name in PEOPLE}
        yield Site(airflow.url, tokens, folder / "warehouse", folder / "contracts")


def log_in(url: str, name: str) -> str:
    body = json.dumps({"username": name, "password": f"secret of {name}"}).encode()
    request = urllib.request.Request(f"{url}/auth/token", body, {"Content-Type": "application/json"})
    deadline = time.monotonic() + 180
    while True:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)["access_token"]
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


@pytest.mark.parametrize("path", [*PAGES, "tables/no.such"])
def test_who_has_not_logged_in_is_sent_there_and_sees_nothing(site: Site, path: str) -> None:
    status, text, to = site.get(path, None)
    assert (status, text) == (302, "")
    assert "/auth/login" in to
    assert urllib.parse.parse_qs(urllib.parse.urlsplit(to).query)["next"] == [f"/lakehouse/{path.split('?')[0]}"]


@pytest.mark.parametrize("path", PAGES)
def test_who_may_see_the_dags_sees_the_pages(site: Site, path: str) -> None:
    status, text, _ = site.get(path, "vic")
    assert status == 200
    assert "<main" in text


def test_an_unknown_table_is_told(site: Site) -> None:
    assert site.get("tables/bronze.none", "ann")[0] == 404


def test_rows_are_shown_to_those_alone_who_may_replay_them(site: Site) -> None:
    seen, hidden = site.get(f"quality?{RUDE}", "ann")[1], site.get(f"quality?{RUDE}", "vic")[1]
    assert "q2" in seen
    assert "q1" not in seen, "it has another reason"
    assert "q2" not in hidden
    assert "onerror" not in hidden
    assert "taken" not in hidden
    assert ("<form" in seen, "<form" in hidden) == (True, False)


def test_a_customers_features_and_events_are_shown_to_those_alone_who_may_see_persons(site: Site) -> None:
    seen, hidden = (site.get(f"features?{WHO}", person)[1] for person in ("ann", "vic"))
    for words in ("<td>Cancelled</td>", "7.50", "/&lt;b&gt;page&lt;/b&gt;", "c&#39;1&lt;script&gt;"):
        assert words in seen
        assert words not in hidden
    assert "Sum of purchase amounts" in hidden
    assert "Nobody is known by this id" in site.get("features?customer=nobody", "ann")[1]


def test_a_tasks_report_is_tables(site: Site) -> None:
    shown = site.get("report?dag=medallion_batch&run=r1&task=validate", "vic")[1]
    for words in ("exit code 65", "&lt;b&gt;too many", "<li>a &lt;i&gt;</li>", "12,345", "late", "publish clicks"):
        assert words in shown
    assert "There is no run report" in site.get("report?dag=medallion_batch&run=../..&task=passwords", "ann")[1]


@pytest.mark.parametrize(
    "ids",
    [
        # A whole address takes the place of the folder that it is joined to.
        {"dag": "/", "run": "{folder}", "task": "secret"}, {"dag": "{folder}", "run": "reports", "task": "secret"},
        {"dag": "medallion_batch", "run": "..", "task": "secret"}, {"dag": "..", "run": "reports", "task": "../../secret"},
        {"dag": "medallion_batch", "run": "a" * 5000, "task": "x"}, {"dag": "\0", "run": "\0", "task": "\0"},
        {"dag": "medallion_batch", "run": "r1/validate.json", "task": "x"}, {"dag": "", "run": "", "task": ""}, {"dag": "ü", "run": "%", "task": "\n"},
    ],
)  # fmt: skip
def test_no_id_leads_to_a_file_that_is_no_report(site: Site, ids: dict[str, str]) -> None:
    folder = site.warehouse.parent
    secret = json.dumps(REPORT | {"error": "the secret of another folder"})
    for place in (folder / "secret.json", folder / "reports/secret.json"):
        place.write_text(secret)
    asked = {name: value.format(folder=str(folder)) for name, value in ids.items()}
    status, text, _ = site.get(f"report?{urllib.parse.urlencode(asked)}", "vic")
    assert status == 200
    assert "There is no run report" in text
    assert "secret of another" not in text


@pytest.mark.parametrize(
    "path",
    [
        "tables/..", "tables/%2e%2e%2fops", "tables/%00", f"tables/{'a' * 3000}", "tables/bronze.clicks%00", "tables/../ops.runs",
        f"quality?{RUDE}&first=9223372036854775808", f"quality?{RUDE}&first=-1", f"quality?{RUDE}&first=1000000000", "quality?entity=%00&rule=%27",
        "quality?entity=../clicks&rule=late", "features?customer=%00", "features?customer=%ED%A0%80", f"features?customer={'%27' * 2000}",
    ],
)  # fmt: skip
def test_odd_names_and_numbers_are_no_failure(site: Site, path: str) -> None:
    assert site.get(path, "ann")[0] in (200, 404, 422)


def test_the_figures_are_there(site: Site) -> None:
    overview = site.get("", "vic")[1]
    for words in ("all of it is bad", "validate: the reason", "no [broker]", "late data"):
        assert words in overview
    assert "half of it is bad" not in overview, "that batch has been tried again"
    assert "quarantine.broken cannot be read" in overview
    # Of the other input nothing was heard for long.
    assert "6 wait in Kafka" in overview
    assert '<strong class="bad">silent</strong>' in overview
    assert re.search(r'<strong class="bad">late</strong> interactions: \d+ d ago', overview)
    tables = site.get("tables", "vic")[1]
    assert "bronze.clicks" in tables
    assert "100% of its files not clustered" not in tables, "there is one file of each"
    interactions = site.get("tables/silver.interactions", "vic")[1]
    assert "sorted by customer_id" in interactions
    assert "one of " in interactions
    stream = site.get("stream", "vic")[1]
    assert "&lt;b&gt;orders" in stream
    rows = re.findall(
        r'<th scope="row">([a-z ]+).*?</th><td class="number">(.*?)</td>\s*<td class="number">(.*?)</td>', stream
    )
    assert ("messages a second", "2.5", "2.5") in rows
    assert ("rows quarantined", "2", "2") in rows


@pytest.mark.parametrize("path", ["", "tables", "quality", "features", "stream"])
def test_before_the_first_batch_a_page_says_what_to_do(site: Site, path: str) -> None:
    aside = site.warehouse.with_name("aside")
    site.warehouse.rename(aside)
    try:
        status, text, _ = site.get(path, "vic")
    finally:
        aside.rename(site.warehouse)
    assert status == 200
    assert "Trigger the DAG <code>medallion_batch</code>" in text


def test_a_wrong_contract_is_told_with_its_place(site: Site) -> None:
    contract = site.contracts / "products.odcs.yaml"
    right = contract.read_text()
    contract.write_text(right.replace("primaryKey: true", "primaryKey: false"))
    try:
        status, text, _ = site.get("features", "vic")
    finally:
        contract.write_text(right)
    assert status == 500
    assert "products.odcs.yaml: products: no column has primaryKey: true" in text
    assert site.get("features", "vic")[0] == 200


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_pages_are_accessible_and_run_nothing_of_the_data(
    site: Site, browser, path: str, theme: str, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(color_scheme=theme, viewport={"width": 1280, "height": 900})
    context.add_cookies([{"name": "_token", "value": site.tokens["ann"], "url": site.url}])
    page, told = context.new_page(), []
    page.on("console", lambda message: told.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: told.append(str(error)))
    page.goto(f"{site.url}/lakehouse/{path}")
    page.screenshot(path=str(tmp_path / "page.png"), full_page=True)
    assert told == []
    assert page.title().endswith("· Lakehouse")
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    violations = Axe().run(page).response["violations"]
    assert [v["id"] for v in violations if v["impact"] in ("serious", "critical")] == []
    context.close()


def api(site: Site, path: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {site.tokens['ann']}"}
    with urllib.request.urlopen(
        urllib.request.Request(f"{site.url}/api/v2/{path}", headers=headers), timeout=30
    ) as answer:
        return json.load(answer)


def wait_for_dag(site: Site, dag: str) -> None:
    """Until Airflow has read the DAG's file."""
    deadline = time.monotonic() + 120
    while True:
        try:
            api(site, f"dags/{dag}")
            return
        except urllib.error.HTTPError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def test_a_button_starts_a_run_with_its_parameters(site: Site, browser) -> None:  # type: ignore[no-untyped-def]
    context = browser.new_context()
    context.add_cookies([{"name": "_token", "value": site.tokens["ann"], "url": site.url}])
    page = context.new_page()
    wait_for_dag(site, "quarantine_replay")
    page.goto(f"{site.url}/lakehouse/quality?{RUDE}")
    told = page.get_by_role("status")
    page.get_by_role("button", name="Discard").click()
    assert told.inner_text() == "Say why they are given up."
    page.get_by_role("textbox").fill("not ours")
    page.get_by_role("button", name="Discard").click()
    told.get_by_role("link").wait_for(timeout=30_000)
    page.get_by_role("button", name="Dry run").click()
    page.get_by_text("dry-run begun").wait_for(timeout=30_000)
    context.close()
    asked = [run["conf"] for run in api(site, "dags/quarantine_replay/dagRuns")["dag_runs"]]
    of = {"entity": "clicks", "rule": "[red]rude[/red]"}
    discarded = of | {"action": "discard", "by": "ann", "reason": "not ours"}
    assert sorted(asked, key=lambda c: c["action"]) == [discarded, of | {"action": "dry-run"}]


def test_the_section_is_in_the_navigation_and_follows_the_theme_around_it(site: Site, browser, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    context = browser.new_context(color_scheme="light", viewport={"width": 1280, "height": 900})
    context.add_cookies([{"name": "_token", "value": site.tokens["ann"], "url": site.url}])
    page = context.new_page()
    page.goto(f"{site.url}/plugin/lakehouse")
    inside = page.frame_locator("iframe")
    inside.get_by_role("heading", name="Overview").wait_for(timeout=60_000)
    # By the keyboard alone: past the link that skips, to the second page.
    inside.get_by_role("link", name="Tables").focus()
    page.keyboard.press("Enter")
    inside.get_by_role("link", name="bronze.clicks").wait_for(timeout=30_000)
    page.evaluate("document.documentElement.classList.replace('light', 'dark')")
    page.wait_for_timeout(500)
    page.screenshot(path=str(tmp_path / "framed.png"))
    assert inside.locator("html").get_attribute("data-theme") == "dark"
    context.close()
