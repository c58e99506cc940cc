"""By which names Airflow may be called: against pages elsewhere whose name is made to lead to this machine (DNS rebinding)."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from airflow.configuration import conf

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def allowed() -> list[str]:
    """The names (hosts, without ports) that a request may have in its Host header; none: any.

    Those of ``LAKEHOUSE_HOSTS``. Else, where everybody is an administrator, the loopback address and the addresses by which
    Airflow calls itself; where people log in, any, because a browser keeps the login for the name it belongs to.
    """
    named = [name.strip() for name in os.environ.get("LAKEHOUSE_HOSTS", "").split(",") if name.strip()]
    if named or not conf.getboolean("core", "simple_auth_manager_all_admins", fallback=False):
        return named
    addresses = (conf.get("api", "base_url", fallback=""), conf.get("core", "execution_api_server_url", fallback=""))
    return sorted({*LOOPBACK, *(host for a in addresses if (host := urlsplit(a or "").hostname))})
