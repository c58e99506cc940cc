"""The names by which an Airflow may be called."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from lakehouse_plugin import trusted_hosts

OPEN = {
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
    "AIRFLOW__API__BASE_URL": "http://127.0.0.1:8080",
    "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": "http://airflow-api:8080/execution/",
}


async def ask(host: bytes | None, path: str) -> int:
    """The status that a request gets; 200 is that of the application behind it."""
    statuses: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: dict[str, Any]) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    headers = [] if host is None else [(b"host", host)]
    await trusted_hosts(app)({"type": "http", "path": path, "headers": headers, "method": "GET"}, None, send)
    return statuses[0]


@pytest.mark.parametrize(
    ("settings", "host", "status"),
    [
        (OPEN, b"127.0.0.1:8080", 200),
        (OPEN, b"localhost:8080", 200),
        (OPEN, b"LocalHost", 200),
        (OPEN, b"[::1]:8080", 200),
        (OPEN, b"airflow-api:8080", 200),
        (OPEN, b"evil.example:8080", 400),
        (OPEN, b"127.0.0.1.evil.example", 400),
        (OPEN, b"evil.example@127.0.0.1", 400),
        (OPEN, b"www.localhost", 400),
        (OPEN, b"", 400),
        (OPEN, None, 400),
        (OPEN | {"LAKEHOUSE_HOSTS": "shop.example, 10.0.0.1"}, b"shop.example", 200),
        (OPEN | {"LAKEHOUSE_HOSTS": "shop.example, 10.0.0.1"}, b"10.0.0.1:8080", 200),
        (OPEN | {"LAKEHOUSE_HOSTS": "shop.example"}, b"localhost", 400),
        # Where people log in, a deployment may have any name, unless it says which.
        (OPEN | {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False"}, b"shop.example", 200),
        (
            OPEN | {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False", "LAKEHOUSE_HOSTS": "localhost"},
            b"shop.example",
            400,
        ),
    ],
)
def test_who_is_answered(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], host: bytes | None, status: int
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert asyncio.run(ask(host, "/api/v2/dags")) == status
