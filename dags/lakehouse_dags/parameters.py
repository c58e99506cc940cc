"""Parameters that DAGs share: what a run works on, texts that may be empty, and files and folders below configured ones.

The form of Airflow sends all of a DAG's parameters, so that they are part of the run from the moment it is made.
Whoever may trigger a run may choose among what the settings name, and nothing else: Airflow checks a parameter when
the run is made, and again with the settings of the worker when a task begins.
"""

from __future__ import annotations

import re
from typing import Any

from airflow.sdk import Param

from lakehouse_dags.settings import Settings

NAME = "[A-Za-z0-9_][A-Za-z0-9._-]*"
"""A part of a file's name. None begins with a dot, so that none leads elsewhere."""


def places(settings: Settings) -> dict[str, Param]:
    """The parameter ``places``: where a run works. It has one value, that of the settings; the form does not show it.

    A run that was made for other places is refused by a worker with these settings.
    """
    return {
        "places": Param(
            default=settings.places,
            type="object",
            const=settings.places,
            title="Places",
            description="Where the run works, by the settings of this Airflow. It cannot be chosen.",
        )
    }


def text(title: str, description: str, **schema: Any) -> Param:
    """A text that may be left empty: None, or "" from programs that call the API."""
    return Param(default=None, type=["null", "string"], title=title, description=description, **schema)


def texts(title: str, description: str, **item: Any) -> Param:
    """Texts, one a line; may be none."""
    items = {"type": "string", **item}
    return Param(default=[], type=["null", "array"], items=items, title=title, description=description)


def file(title: str, description: str, suffix: str) -> Param:
    """The name of a file below the folder ``exchange``; may be left empty."""
    return text(title, description, pattern=f"^(({NAME}/)*{NAME}{escaped(suffix)})?$")


def folder(default: str, title: str, description: str) -> Param:
    """A folder, or one below it."""
    pattern = f"^{escaped(default.rstrip('/'))}(/[^/.][^/]*)*/?$"
    return Param(default=default, type="string", pattern=pattern, title=title, description=description)


def below_exchange(name: str) -> str:
    """A template of the address of the file that a parameter names; empty when it is empty."""
    return f"{{{{ params.{name} and params.places.exchange ~ '/' ~ params.{name} or '' }}}}"


def escaped(plain: str) -> str:
    """A text as a regular expression, for Python and for browsers, which know fewer escapes."""
    return re.sub(r"[.^$*+?()\[\]{}|\\]", r"\\\g<0>", plain)
