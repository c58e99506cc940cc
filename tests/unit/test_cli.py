"""Arguments, settings and exit codes, without Spark."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from lakehouse import cli
from lakehouse.errors import ConfigurationError, DataRefused, ServiceUnavailable, TryAgain, UsageError
from lakehouse.report import RunReport
from support import ROOT, clean_environment

STAGES = (
    "ingest",
    "validate",
    "merge",
    "featurize",
    "optimize",
    "generate",
    "replay",
    "profile_data",
    "training_set",
    "migrate",
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2011-12-10", datetime(2011, 12, 10, tzinfo=UTC)),
        ("2011-12-10T01:30:00+02:00", datetime(2011, 12, 9, 23, 30, tzinfo=UTC)),
        ("2011-12-10T01:30:00Z", datetime(2011, 12, 10, 1, 30, tzinfo=UTC)),
        ("2011-12-10T01:30:00", datetime(2011, 12, 10, 1, 30, tzinfo=UTC)),
    ],
)
def test_instant(text: str, expected: datetime) -> None:
    assert cli.instant(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "10/12/2011",
        "2011-02-30",
        "1323475200",
        "20111210",
        "0001-01-01",
        "1970-01-01T00:00:00+14:00",
        "1969-12-31T23:59:59Z",
        "9999-12-31",
    ],
)
def test_what_is_no_instant(text: str) -> None:
    with pytest.raises(UsageError):
        cli.instant(text)


def test_argument_beats_environment_beats_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = tmp_path / "conf.yaml"
    conf.write_text("warehouse: from-file\nonly: from-file\nrun-id: from-file\n")
    monkeypatch.setenv("LAKEHOUSE_WAREHOUSE", "from-environment")
    monkeypatch.setenv("LAKEHOUSE_ONLY", "from-environment")
    args = cli._fill(cli.parser("x", "").parse_args(["--conf-file", str(conf), "--warehouse", "from-argument"]))
    assert (args.warehouse, args.only, args.run_id) == ("from-argument", "from-environment", "from-file")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"secret:x:0:0:secret:/bin/bash\nkey: [secret", "is no YAML in line 2, column"),
        (b"\tsecret: 1\n", "is no YAML in line 1, column 1"),
        (b"secret: *secret\n", "is no YAML in line 1, column 9"),
        (b"secret: !!python/secret 1\n", "is no YAML in line 1, column 9"),
        (b"secret: \xff\n", "is no YAML"),
        (b"secret: \0\n", "is no YAML"),
        (b"secret\n", "has no settings"),
        (b"- secret\n", "has no settings"),
    ],
)
def test_no_error_quotes_a_file_that_is_not_what_it_should_be(tmp_path: Path, text: bytes, words: str) -> None:
    file = tmp_path / "conf.yaml"
    file.write_bytes(text)
    with pytest.raises(ConfigurationError) as told:
        cli._fill(cli.parser("x", "").parse_args(["--conf-file", str(file)]))
    assert f"{file}: {words}" in str(told.value)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(("there", "expected"), [("w-1", "w-1"), ("w-1", ""), (None, None), (None, "")])
def test_a_warehouse_is_the_one_that_was_expected(there: str | None, expected: str | None) -> None:
    report = RunReport("merge", "r", datetime.now(UTC))
    cli._check_identity(SimpleNamespace(identity=lambda: there, location="/w"), expected, report)  # type: ignore[arg-type]
    assert report.as_dict()["warehouse_id"] == there


@pytest.mark.parametrize("there", ["w-2", None])
def test_another_warehouse_is_a_wrong_configuration(there: str | None) -> None:
    report = RunReport("merge", "r", datetime.now(UTC))
    with pytest.raises(
        ConfigurationError, match=r"/w: another warehouse than the one that this run began with.*is w-1"
    ):
        cli._check_identity(SimpleNamespace(identity=lambda: there, location="/w"), "w-1", report)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 64),
        (DataRefused("x"), 65),
        (ServiceUnavailable("x"), 69),
        (RuntimeError("java.lang.IllegalStateException: Cannot call methods on a stopped SparkContext.\nThis"), 69),
        (RuntimeError("status = StatusCode.UNAVAILABLE\n details = connection refused"), 69),
        # Values and names of files that read like errors of the machine, then the machine itself: Java, Rust and Python.
        (
            RuntimeError(
                "[CAST_INVALID_INPUT] The value 'StatusCode.UNAVAILABLE' of the type \"STRING\" cannot be cast"
            ),
            70,
        ),
        (RuntimeError("[CAST_INVALID_INPUT] The value '[DELTA_CONCURRENT_APPEND]' of the type \"STRING\""), 70),
        (RuntimeError("[CAST_INVALID_INPUT] The value 'it's Permission denied' of the type. SQLSTATE: 22018"), 70),
        (RuntimeError("[CAST_INVALID_INPUT] The value 'stopped SparkContext' of the type \"STRING\""), 70),
        (
            RuntimeError(
                "Job aborted.\n[FAILED_READ_FILE] Encountered error while reading file:/l/Permission denied.csv"
            ),
            70,
        ),
        (
            RuntimeError(
                "[FAILED_READ_FILE] reading file:/l/StatusCode.UNAVAILABLE.parquet. SQLSTATE: KD001\nJob aborted"
            ),
            70,
        ),
        (RuntimeError("[RETRIES_EXCEEDED] The maximum number of retries has been exceeded."), 69),
        (RuntimeError("Job aborted.\nCaused by: java.io.FileNotFoundException: /w/gold (Permission denied)"), 78),
        (RuntimeError("[TASK_WRITE_FAILED] Task failed. java.io.IOException: No space left on device"), 78),
        (RuntimeError("couldn't write\nCaused by: java.io.IOException: No space left on device\ncan't delete"), 78),
        (RuntimeError('LocalFileSystem error: Os { code: 20, kind: NotADirectory, message: "Not a directory" }'), 78),
        (OSError(28, "No space left on device", "/w/gold/x"), 78),
        (ValueError("x"), 70),
        (TryAgain("x"), 75),
        (PermissionError("x"), 78),
        (KeyboardInterrupt(), 75),
    ],
)
def test_an_error_becomes_a_report_and_an_exit_code(tmp_path: Path, error: BaseException, code: int) -> None:
    def work(args: argparse.Namespace, report: RunReport) -> None:
        raise error

    path = tmp_path / "deep" / "report.json"
    report = RunReport("merge", "r", datetime.now(UTC))
    parser = cli.parser("merge", "")
    assert cli.guard(report, parser, work, ["--report", str(path)]) == code
    written = json.loads(path.read_text())
    assert (written["status"], written["exit_code"]) == ("failed", code)
    assert written["error"].startswith("merge: ")
    assert ("traceback" in written) == (code == 70)


def test_a_report_that_cannot_be_written_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    report = RunReport("merge", "r", datetime.now(UTC))
    code = cli.guard(report, cli.parser("merge", ""), lambda a, r: None, ["--report", str(blocker / "r.json")])
    assert code == 78
    assert "the report cannot be written" in capsys.readouterr().err


def script(stage: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / f"spark_jobs/{stage}.py"), *args],
        capture_output=True,
        text=True,
        env=clean_environment(**env),
        timeout=60,
    )


@pytest.mark.parametrize("stage", STAGES)
def test_help_explains_itself(stage: str) -> None:
    done = script(stage, "--help")
    assert done.returncode == 0
    assert stage.partition("_")[0].capitalize() in done.stdout
    assert "exit codes" in done.stdout


@pytest.mark.parametrize(
    ("stage", "args", "code", "words"),
    [
        ("merge", ["--nonsense"], 64, "unrecognized arguments: --nonsense See merge.py --help."),
        ("merge", [], 64, "--warehouse is missing"),
        ("merge", ["--warehouse", ""], 64, "--warehouse is empty"),
        ("featurize", ["--warehouse", "w", "--as-of", ""], 64, "--as-of is empty"),
        ("merge", ["--warehouse", "w", "--contracts", "nowhere"], 64, "--contracts nowhere: no such folder"),
        ("merge", ["--warehouse", "w", "--conf-file", "nowhere.yaml"], 78, "nowhere.yaml: cannot be read"),
        ("generate", ["--landing", "x", "--rows", "3"], 64, "--rows 3: out of range"),
        ("profile_data", ["--files", "f", "--out", "o", "--entity", "No"], 64, "--entity No: no name of a table"),
        (
            "profile_data", ["--files", "f", "--out", "o", "--entity", "customers,none", "--source", "s"], 64,
            "--entity none: has no contract",
        ),
        ("profile_data", ["--table", "t", "--out", "o", "--entity", "customers", "--source", "s"], 64, "--source reads files"),
        ("generate", [], 64, "the following arguments are required: --landing"),
    ],
)  # fmt: skip
def test_wrong_arguments_give_one_line_and_no_stack_trace(stage: str, args: list[str], code: int, words: str) -> None:
    done = script(stage, *args)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_broken_contract_is_told_without_starting_spark(tmp_path: Path) -> None:
    (tmp_path / "products.odcs.yaml").write_text("kind: DataContract\nnonsense: 1\n")
    report = tmp_path / "r.json"
    done = script("merge", "--warehouse", str(tmp_path / "w"), "--contracts", str(tmp_path), "--report", str(report))
    assert done.returncode == 78
    assert done.stderr.strip().splitlines() == [json.loads(report.read_text())["error"]]
    assert "products.odcs.yaml: not a valid data contract: nonsense" in done.stderr


def test_by_spark_submit_java_is_needed_only_where_there_is_work(tmp_path: Path) -> None:
    landing, warehouse = tmp_path / "landing", tmp_path / "warehouse"
    (landing / "shop/customers").mkdir(parents=True)
    arguments = ["--warehouse", str(warehouse), "--landing", str(landing), "--only", "shop_customers"]
    command = ["spark-submit", "--master", "local[1]", str(ROOT / "spark_jobs/ingest.py"), *arguments]

    def submitted() -> tuple[int, str]:
        environment = clean_environment(JAVA_HOME="/nowhere")
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr.strip().splitlines()[-1]

    assert submitted()[0] == 0
    (landing / "shop/customers/a.csv").write_text("CustomerID\nC1\n")
    code, line = submitted()
    assert (code, line.partition(";")[0]) == (78, "ingest: Spark did not start, or was killed")
    assert not warehouse.exists()
