"""Registers the lakehouse with Airflow: its pages, in the navigation."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin


class Pages:
    """The pages as an ASGI application, made when the first request comes: every process of Airflow loads its plugins."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._app is None:
            from lakehouse_airflow.pages import build

            self._app = build()
        await self._app(scope, receive, send)


def trusted_hosts(app: Any) -> Any:
    """Answer only those who call this Airflow by a name of its own, where everybody who reaches it is let in."""
    from lakehouse_airflow.hosts import allowed
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    names = allowed()
    return TrustedHostMiddleware(app, allowed_hosts=names, www_redirect=False) if names else app


class LakehousePlugin(AirflowPlugin):
    """Its operators are imported from ``lakehouse_airflow`` by the DAGs."""

    name = "lakehouse"
    fastapi_apps = [{"app": Pages(), "url_prefix": "/lakehouse", "name": "Lakehouse"}]  # noqa: RUF012
    fastapi_root_middlewares = [{"middleware": trusted_hosts, "name": "Trusted hosts"}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        {
            "name": "Lakehouse",
            "href": "/lakehouse/",
            "destination": "nav",
            "category": "browse",
            "url_route": "lakehouse",
        },
        {
            "name": "Run report",
            "href": "/lakehouse/report?dag={DAG_ID}&run={RUN_ID}&task={TASK_ID}",
            "destination": "task_instance",
            "url_route": "run-report",
        },
    ]
