"""A server on this machine that speaks S3."""

from __future__ import annotations

import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from loopback import free_port, listens
from support import clean_environment

SECRET = "not-to-be-seen-anywhere"
REQUEST = re.compile(r'"(?:\x1b\[\d+m)*(GET|HEAD|PUT|POST|DELETE) (\S+) HTTP')


class S3Server:
    """It keeps everything in memory; ``environment`` is what a client needs, in the variables of AWS."""

    def __init__(self, folder: Path) -> None:
        self._log, self.port = folder / "s3.log", free_port()
        self.environment = {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self.port}",
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @contextmanager
    def running(self) -> Iterator[S3Server]:
        with self._log.open("w") as log:
            command = ["moto_server", "-H", "127.0.0.1", "-p", str(self.port)]
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=clean_environment())
            try:
                deadline = time.monotonic() + 60
                while not listens(self.port):
                    assert process.poll() is None, self._log.read_text()
                    assert time.monotonic() < deadline, "the server does not come up"
                    time.sleep(0.1)
                yield self
            finally:
                process.terminate()
                process.wait(10)

    @property
    def client(self) -> Any:
        return boto3.client(
            "s3", endpoint_url=self.environment["AWS_ENDPOINT_URL_S3"], region_name="eu-central-1",
            aws_access_key_id="key", aws_secret_access_key=SECRET,
        )  # fmt: skip

    def bucket(self, name: str) -> str:
        self.client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        return name

    def upload(self, folder: Path, bucket: str, prefix: str) -> None:
        for file in sorted(f for f in folder.rglob("*") if f.is_file()):
            self.client.put_object(Bucket=bucket, Key=f"{prefix}/{file.relative_to(folder)}", Body=file.read_bytes())

    def download(self, bucket: str, prefix: str, folder: Path) -> None:
        for key, content in self.objects(bucket, prefix):
            if not key.endswith("/"):
                (folder / key).parent.mkdir(parents=True, exist_ok=True)
                (folder / key).write_bytes(content)

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", ())]

    def objects(self, bucket: str, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """(key, content) of each object below a prefix."""
        for key in self.keys(bucket, prefix):
            yield key, self.client.get_object(Bucket=bucket, Key=key)["Body"].read()

    def requests(self) -> Counter[str]:
        """How many requests there have been: of each method, and LIST for listings."""
        found: Counter[str] = Counter()
        for method, address in REQUEST.findall(self._log.read_text()):
            found["LIST" if method == "GET" and "list-type=" in address else method] += 1
        return found


def since(before: Mapping[str, int], now: Counter[str]) -> dict[str, int]:
    return {method: number - before.get(method, 0) for method, number in now.items() if number > before.get(method, 0)}
