"""Landing, warehouse and reports on S3: the same shop as in folders, row for row, and no secret in what is left behind."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import oracle
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from http_proxy import Proxy
from lakehouse import storage
from lakehouse_airflow.lake import Lake
from loopback import free_port
from s3_server import SECRET, S3Server, since
from shell import Shell
from support import ROOT, clean_environment

AS_OF = "2026-03-06"
GOLD = ("customer_features", "product_features", "category_preferences", "product_affinity", "customer_days")
RUNS = {
    "ingest": ("--only", "shop"), "validate": ("--only", "shop"), "merge": (), "featurize": ("--as-of", AS_OF),
}  # fmt: skip
REQUESTS = {"ingest": 110, "validate": 50, "merge": 50, "featurize": 100, "pages": 450, "pages again": 120}
"""At most so many requests of the stages where nothing is new, and of the pages' first and second look."""
SILVER = ("customers", "products", "transactions", "interactions")

pytestmark = pytest.mark.skipif(
    not list((ROOT / "var/jars").glob("hadoop-aws-*.jar")), reason="Spark cannot reach S3 here: make setup WITH=s3"
)


class S3Shell(Shell):
    """Stages whose landing folder, warehouse and reports are all in one bucket."""

    def __init__(self, folder: Path, server: S3Server, bucket: str) -> None:
        super().__init__(folder, **server.environment)
        self.server, self.bucket = server, bucket
        self.address = f"s3a://{bucket}"

    def argv(self, stage: str, *args: str) -> list[str]:
        local = super().argv(stage, *args)
        places = {
            str(self.warehouse): f"{self.address}/warehouse",
            str(self.landing): f"{self.address}/landing",
            str(self.folder / f"{stage}.json"): f"{self.address}/reports/{stage}.json",
        }
        return [places.get(argument, argument) for argument in local]

    def report(self, stage: str) -> dict[str, object]:
        ((_, content),) = self.server.objects(self.bucket, f"reports/{stage}.json")
        return json.loads(content)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("server")).running() as running:
        yield running


def run_all(shell: Shell) -> None:
    for stage, arguments in RUNS.items():
        shell.ok(stage, *arguments)


def rows(warehouse: Path, table: str) -> list[str]:
    """The rows of a table, without the columns that tell of the run."""
    of_the_run = [f.name for f in DeltaTable(str(warehouse / table)).schema().fields if f.name.startswith("_")]
    return sorted(map(str, oracle.rows(warehouse / table, but=of_the_run).to_pylist()))


def deliver(local: Shell, server: S3Server, bucket: str) -> None:
    """The shop's files, in a folder and in a bucket, some by names that people give."""
    local.folder.mkdir()
    local.ok("generate", "--landing", str(local.landing), "--rows", "2000", "--days", "5", "--start", "2026-03-01")
    odd = local.landing / "shop/products/2026 [März]+%20#1"
    odd.mkdir()
    min((local.landing / "shop/products").rglob("part-*")).rename(odd / "part=0 ü.csv")
    server.bucket(bucket)
    server.upload(local.landing, bucket, "landing")
    # What a console makes of a folder.
    server.client.put_object(Bucket=bucket, Key="landing/shop/products/empty/", Body=b"")


def conserved(local: Shell, copy: Path) -> bool:
    """Whether each line of the files is in staged or in quarantine, once."""
    files = [f for f in (local.landing / "shop").rglob("part*") if "_dirt" not in f.parts]
    lines = sum(len(f.read_text().splitlines()) - (f.suffix == ".csv") for f in files)
    tables = [copy / layer / e for layer in ("staged", "quarantine") for e in SILVER]
    return sum(oracle.count(table) for table in tables if table.exists()) == lines


def test_a_shop_on_s3(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = Shell(tmp_path / "local")
    deliver(local, server, "lake")
    shell = S3Shell(tmp_path / "s3", server, "lake")
    run_all(shell)
    server.download("lake", "warehouse", tmp_path / "copy")
    copy = tmp_path / "copy/warehouse"
    assert oracle.differences(oracle.connect(copy), AS_OF) == {}
    assert conserved(local, copy)

    made = dict[str, dict[str, int]]()
    for stage, arguments in RUNS.items():
        before = server.requests()
        report = shell.ok(stage, *arguments)
        assert report["application_id"] is None, "a run with nothing new starts no Spark"
        made[stage] = since(before, server.requests())

    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    before, lake = server.requests(), Lake(f"{shell.address}/warehouse/")
    shown = {t.name: t.rows for t in lake.state().tables.values() if not t.error}
    made["pages"], before = since(before, server.requests()), server.requests()
    assert {name: oracle.count(copy / name.replace(".", "/")) for name in shown} == shown
    assert {f"silver.{e}" for e in SILVER} < shown.keys()
    lake.state()
    made["pages again"] = since(before, server.requests())
    # What it takes does not depend on how much there has been: see decision 0061.
    assert {what: sum(made[what].values()) <= most for what, most in REQUESTS.items()} == dict.fromkeys(made, True), (
        made
    )

    for key, content in server.objects("lake"):
        assert SECRET.encode() not in content, key


@pytest.mark.long
def test_killed_and_cut_off_it_ends_as_if_never_killed(server: S3Server, tmp_path: Path) -> None:
    """Each stage is killed between the commit of its rows and the record of its batch, over a network that loses requests."""
    local = Shell(tmp_path / "local")
    deliver(local, server, "killed")
    numbers = itertools.count(1)

    def faults(method: str, address: str) -> int | None:
        number = next(numbers)
        if number % 41 == 0:
            raise ConnectionError
        return 503 if number % 29 == 0 else None

    with Proxy(server.port, faults).running() as proxy:
        shell = S3Shell(tmp_path / "s3", server, "killed")
        shell.environment |= {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{proxy.port}"}
        for stage, (table, arguments) in {
            "ingest": ("bronze/shop_transactions", RUNS["ingest"]),
            "validate": ("staged/transactions", RUNS["validate"]),
            "merge": ("silver/transactions", RUNS["merge"]),
            "featurize": ("gold/product_affinity", RUNS["featurize"]),
        }.items():

            def committed(folder: str = f"warehouse/{table}/_delta_log/0") -> bool:
                # The table is made by the first commit, and has rows by the second.
                time.sleep(0.1)
                return len([k for k in server.keys("killed", folder) if k.endswith(".json")]) > 1

            assert shell.kill_when(stage, committed, *arguments), f"{stage} has ended before it was killed"
            shell.ok(stage, *arguments)
    server.download("killed", "warehouse", tmp_path / "copy")
    copy = tmp_path / "copy/warehouse"
    assert oracle.differences(oracle.connect(copy), AS_OF) == {}
    for entity in SILVER:
        found = oracle.rows(copy / f"bronze/shop_{entity}")["_source"].to_pylist()
        places = [(s["file"], s["block"], s["row"]) for s in found]
        assert len(set(places)) == len(places), "a row was loaded twice"
    assert conserved(local, copy)


def test_a_store_that_is_away_is_worth_another_try_and_one_without_a_bucket_is_not(
    server: S3Server, tmp_path: Path
) -> None:
    shell = S3Shell(tmp_path, server, server.bucket("away"))
    shell.environment |= {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{free_port()}"}
    for stage in ("ingest", "validate"):
        done = shell.run(stage)
        assert (done.returncode, SECRET in done.stdout) == (69, False), done.stdout
    nowhere = S3Shell(tmp_path, server, "nowhere")
    assert nowhere.run("validate").returncode == 78


DRIVER = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
from lakehouse import storage
from lakehouse.report import RunReport
from lakehouse.session import build_session
from lakehouse.tables import Warehouse

name, address, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
spark = build_session(name)

def meet(point):
    (folder / f"{point} {name}").touch()
    while len(list(folder.glob(f"{point} *"))) < 2:
        time.sleep(0.01)

for phase in ("guarded", "bare"):
    if phase == "bare":
        storage.needs_one_writer = lambda location: False
    for n in range(4):
        meet(f"{phase} {n}")
        rows = spark.range(1).selectExpr(f"'{name} {n}' AS written")
        Warehouse(lambda: spark, address, RunReport("test", name, datetime.now(UTC))).append_always(rows, f"silver.{phase}")
        meet(f"{phase} {n} done")
"""


def test_of_two_drivers_at_once_neither_loses_a_commit(server: S3Server, tmp_path: Path) -> None:
    """Between Delta's look at the log and its put, the server takes its time; without the lease of the table, commits are lost."""

    def slowly(method: str, address: str) -> None:
        if method == "PUT" and "/_delta_log/0" in address:
            time.sleep(0.5)

    server.bucket("two")
    (tmp_path / "driver.py").write_text(DRIVER)
    with Proxy(server.port, slowly).running() as proxy:
        behind = server.environment | {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{proxy.port}"}
        address = f"s3://two/{tmp_path.name}"
        for table in ("guarded", "bare"):
            first = pa.table({"written": ["first"]})
            options = storage.options(address, behind) | {
                "aws_access_key_id": "key", "aws_secret_access_key": SECRET,
            }  # fmt: skip
            write_deltalake(f"{address}/silver/{table}", first, storage_options=options)
        environment = clean_environment(**behind, PYTHONPATH=str(ROOT / "spark_jobs"), LAKEHOUSE_WORK="little")
        drivers = [
            subprocess.Popen(
                [sys.executable, "driver.py", name, address, str(tmp_path)], cwd=tmp_path, env=environment,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
            for name in ("a", "b")
        ]  # fmt: skip
        for driver in drivers:
            output, _ = driver.communicate(timeout=300)
            assert driver.returncode == 0, output
    server.download("two", tmp_path.name, tmp_path / "copy")
    copy = tmp_path / "copy" / tmp_path.name / "silver"
    written = {"first", *(f"{name} {n}" for name in "ab" for n in range(4))}
    assert sorted(oracle.rows(copy / "guarded")["written"].to_pylist()) == sorted(written)
    assert set(oracle.rows(copy / "bare")["written"].to_pylist()) < written, "the guard guards against nothing"


@pytest.mark.long
def test_a_shop_on_s3_is_what_it_is_in_folders(server: S3Server, tmp_path: Path) -> None:
    local = Shell(tmp_path / "local")
    deliver(local, server, "both")
    run_all(local)
    run_all(S3Shell(tmp_path / "s3", server, "both"))
    server.download("both", "warehouse", tmp_path / "copy")
    for table in [*(f"silver/{e}" for e in SILVER), *(f"gold/{g}" for g in GOLD)]:
        expected = rows(local.warehouse, table)
        assert expected, table
        assert rows(tmp_path / "copy/warehouse", table) == expected, table
