"""Where files and tables lie, folders and object stores, and what each library must be told to get there.

An address is the same for everyone: ``s3://bucket/key``, whether Spark, Arrow, deltalake or a person reads it. What a store
needs beyond its address comes from the variables that its own tools know, and from nowhere else, so that no secret is ever
an argument:

* ``AWS_ACCESS_KEY_ID`` and the rest of the default chain (a profile, a web identity, the machine's own role),
* ``AWS_REGION`` or ``AWS_DEFAULT_REGION``,
* ``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL``: another server that speaks S3, whose buckets are part of the path.

Spark gets the same from ``bin/spark_submit.py`` and ``conf/spark-defaults.conf``, on every backend that has a JVM of the project's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from pyarrow import fs

from lakehouse.errors import ConfigurationError, without_answer

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
OF_S3 = ("s3", "s3a", "s3n")
DEFAULT_REGION = "us-east-1"
SILENCE = {"connect": 10.0, "request": 60.0}
"""Seconds without a connection, and without an answer, after which a request is made again."""


class Place(NamedTuple):
    """A location as Arrow knows it: the file system, and the path in it."""

    files: fs.FileSystem
    path: str


def scheme(location: str) -> str:
    """The kind of an address; nothing for a path of this machine."""
    found = SCHEME.match(location)
    return found[1].lower() if found else ""


def is_uri(location: str) -> bool:
    return bool(scheme(location))


def is_object_store(location: str) -> bool:
    """Whether a location is neither a folder of this machine nor the name of a catalog."""
    return scheme(location) not in ("", "file")


def needs_one_writer(location: str) -> bool:
    """Whether of two drivers of Spark that commit to one table at once, one may overwrite the other's commit.

    On S3 they may: Delta looks whether the version is there, and then puts it. Elsewhere the put itself fails.
    """
    return scheme(location) == "s3"


def has_folders(location: str) -> bool:
    """Whether a folder may be there with nothing in it; on S3 there are only names that begin alike."""
    return scheme(location) != "s3"


def canonical(location: str) -> str:
    """A location in the one form in which everyone gets it: absolute, without a slash at its end."""
    if not is_uri(location):
        # Not resolve(): Spark reports a link's address, not what it points to.
        return os.path.abspath(location)  # noqa: PTH100
    kind = scheme(location)
    rest = location[len(kind) :].rstrip("/")
    return ("s3" if kind in OF_S3 else kind) + (rest if rest != ":" else ":///")


def below(location: str) -> str:
    """What stands before a file's path in the addresses that Spark reports, decoded: all but the scheme."""
    return unquote(re.sub(r"^[^:/]+:(//)?", "", location)) if is_uri(location) else location


def place(location: str, environment: Mapping[str, str] = os.environ) -> Place:
    """A canonical location as Arrow knows it; raises OSError or pyarrow.ArrowException."""
    if not is_uri(location):
        return Place(fs.LocalFileSystem(), location)
    if scheme(location) != "s3":
        return Place(*fs.FileSystem.from_uri(location))
    path = location.removeprefix("s3://")
    endpoint, region = _endpoint(environment), _region(environment)
    if not region and not endpoint:
        region = fs.resolve_s3_region(path.partition("/")[0])
    store = fs.S3FileSystem(
        region=region or DEFAULT_REGION,
        endpoint_override=endpoint or None,
        connect_timeout=SILENCE["connect"],
        request_timeout=SILENCE["request"],
    )
    return Place(store, path)


def options(location: str, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What deltalake must be told, beyond what it takes from the environment itself."""
    if scheme(location) != "s3":
        return {}
    endpoint, region = _endpoint(environment), _region(environment)
    # A commit is a put that fails where another one has been before.
    found = {"aws_conditional_put": "etag", "aws_region": region or (DEFAULT_REGION if endpoint else "")}
    if endpoint:
        found |= {"aws_endpoint": endpoint, "aws_allow_http": str(endpoint.startswith("http://")).lower()}
    return {name: value for name, value in found.items() if value}


def objects(location: str, environment: Mapping[str, str] = os.environ) -> tuple[ObjectStore, str]:
    """A canonical location in an object store as obstore knows it: the store, and the key in it."""
    from obstore.store import S3Store, from_url

    kind, rest = location.split("://", 1)
    box, _, key = rest.partition("/")
    if kind != "s3":
        return from_url(f"{kind}://{box}"), key
    config = {name.removeprefix("aws_"): value for name, value in options(location, environment).items()}
    allow_http = config.pop("allow_http", "false") == "true"
    chain: dict[str, Any] = {}
    if "AWS_ACCESS_KEY_ID" not in environment:
        from obstore.auth.boto3 import Boto3CredentialProvider

        try:
            chain["credential_provider"] = Boto3CredentialProvider()
        except ValueError as error:
            todo = "Set AWS_PROFILE, or another of the variables that AWS's tools know."
            raise ConfigurationError("there are no credentials", where=location, todo=todo) from error
    limits = {"connect_timeout": f"{SILENCE['connect']:.0f}s", "timeout": f"{SILENCE['request']:.0f}s"}
    store = S3Store(box, config=config, client_options={"allow_http": allow_http, **limits}, **chain)  # type: ignore[arg-type]
    return store, key


def write_text(location: str, text: str) -> None:
    """Write a file in one go, so that a reader never sees half of one; raises OSError."""
    if is_object_store(location):
        import obstore
        from obstore.exceptions import BaseError

        try:
            store, key = objects(canonical(location))
            obstore.put(store, key, text.encode(), use_multipart=False)
        except (BaseError, ValueError) as error:
            raise OSError(without_answer(str(error))[:300]) from None
        return
    target = Path(below(location))
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(target)


def _endpoint(environment: Mapping[str, str]) -> str:
    return (environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or "").rstrip("/")


def _region(environment: Mapping[str, str]) -> str:
    return environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or ""
