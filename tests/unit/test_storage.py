"""Addresses, and what each library is told of a store."""

from __future__ import annotations

from pathlib import Path

import pytest
from lakehouse import storage

ENDPOINT = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9/", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("s3a://lake/a/", "s3://lake/a"),
        ("S3N://lake", "s3://lake"),
        ("s3://lake/a b", "s3://lake/a b"),
        ("/data/", "/data"),
        ("/", "/"),
        ("/data/../other", "/other"),
        ("abfss://box@account.dfs.core.windows.net/a/", "abfss://box@account.dfs.core.windows.net/a"),
        ("gs://lake/a", "gs://lake/a"),
        ("file:///data/", "file:///data"),
        ("dbfs:/data/", "dbfs:/data"),
    ],
)
def test_everyone_gets_one_form_of_an_address(given: str, expected: str) -> None:
    assert storage.canonical(given) == expected


def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.canonical("lake/") == f"{tmp_path}/lake"


@pytest.mark.parametrize(
    ("location", "reported"),
    [
        ("s3://lake/a", "s3://lake/a/x.csv"),
        ("s3://lake/a b", "s3://lake/a%20b/x.csv"),
        ("abfss://box@account.dfs.core.windows.net/a", "abfss://box@account.dfs.core.windows.net/a/x.csv"),
        ("/a", "file:///a/x.csv"),
        ("file:///a", "file:///a/x.csv"),
        ("dbfs:/a", "dbfs:/a/x.csv"),
    ],
)
def test_a_files_path_is_found_in_the_address_that_spark_reports(location: str, reported: str) -> None:
    from urllib.parse import unquote

    assert unquote(reported).partition(storage.below(location))[2] == "/x.csv"


def test_another_server_that_speaks_s3_is_told_to_all_and_no_secret_is() -> None:
    told = storage.options("s3://lake/a", ENDPOINT)
    assert told == {
        "aws_conditional_put": "etag", "aws_region": "us-east-1", "aws_endpoint": "http://127.0.0.1:9",
        "aws_allow_http": "true",
    }  # fmt: skip
    assert "secret" not in str(told)


def test_of_amazons_own_only_the_region_is_told() -> None:
    environment = {"AWS_DEFAULT_REGION": "eu-west-1"}
    assert storage.options("s3://lake/a", environment) == {"aws_conditional_put": "etag", "aws_region": "eu-west-1"}


@pytest.mark.parametrize("location", ["/data", "file:///data", "hdfs://name/data"])
def test_what_needs_no_options_gets_none(location: str) -> None:
    assert storage.options(location, ENDPOINT) == {}


def test_a_text_is_written_in_one_go(tmp_path: Path) -> None:
    for target in (str(tmp_path / "a/b.json"), (tmp_path / "a/c d.json").as_uri()):
        storage.write_text(target, "one")
        storage.write_text(target, "two")
    assert {f.name: f.read_text() for f in (tmp_path / "a").iterdir()} == {"b.json": "two", "c d.json": "two"}
