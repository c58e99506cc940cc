"""What the project's spark-submit hands to Spark's own: with which settings, which archive, and which compiler."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import spark_submit
from spark_submit import COMPILERS, by_python, prepared


@pytest.fixture
def set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout after set-up, as far as spark-submit looks at it; returns its folder."""
    for folder in ("conf", "spark/conf", "jvm/conf"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "jvm/classes.jsa").write_bytes(b"12345")
    (tmp_path / "jvm/made").write_text("1 2 5\n")
    monkeypatch.setattr(spark_submit, "CONF", tmp_path / "conf")
    monkeypatch.setattr(spark_submit, "SPARK", tmp_path / "spark")
    monkeypatch.setattr(spark_submit, "ARCHIVE", tmp_path / "jvm/classes.jsa")
    monkeypatch.setattr(spark_submit, "MADE", tmp_path / "jvm/made")
    monkeypatch.setattr(spark_submit, "EMPTY", tmp_path / "jvm/conf")
    return tmp_path


def test_the_settings_come_by_name_and_the_archive_with_them(set_up: Path) -> None:
    arguments, environment = prepared(["--master", "local[2]", "a.py", "--x"], {"HOME": "/home/me"})
    assert arguments == ["--properties-file", str(set_up / "conf/spark-defaults.conf"), "--master", "local[2]", "a.py", "--x"]  # fmt: skip
    assert environment["SPARK_CONF_DIR"] == str(set_up / "jvm/conf")
    assert environment["HOME"] == "/home/me"
    options = environment["SPARK_SUBMIT_OPTS"]
    assert f'"-XX:SharedArchiveFile={set_up}/jvm/classes.jsa"' in options
    assert f'"-Dlog4j2.configurationFile=file://{set_up}/conf/log4j2.properties"' in options


@pytest.mark.parametrize("work", ["little", "much"])
def test_what_the_caller_says_of_the_jvm_comes_last(set_up: Path, work: str) -> None:
    _, environment = prepared(["a.py"], {"SPARK_SUBMIT_OPTS": "-Xshare:off", "LAKEHOUSE_WORK": work})
    assert environment["SPARK_SUBMIT_OPTS"].endswith(f" {COMPILERS[work]} -Xshare:off")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, []),
        ({"AWS_DEFAULT_REGION": "eu-west-1", "AWS_SECRET_ACCESS_KEY": "secret"}, ["endpoint.region=eu-west-1"]),
        (
            {"AWS_ENDPOINT_URL": "http://a:1/", "AWS_ENDPOINT_URL_S3": "http://b:2/"},
            ["endpoint=http://b:2", "path.style.access=true", "endpoint.region=us-east-1"],
        ),
    ],
)
def test_hadoop_is_told_where_s3_is_and_no_secret(
    set_up: Path, environment: dict[str, str], expected: list[str]
) -> None:
    arguments, _ = prepared(["a.py"], environment)
    settings = [text for value in expected for text in ("--conf", f"spark.hadoop.fs.s3a.{value}")]
    assert arguments == ["--properties-file", str(set_up / "conf/spark-defaults.conf"), *settings, "a.py"]


def test_java_knows_the_options_of_both_amounts_of_work() -> None:
    for options in COMPILERS.values():
        done = subprocess.run(["java", *options.split(), "-version"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "options",
    [["--properties-file", "mine.conf"], ["--properties-file=mine.conf"], ["--load-spark-defaults"]],
)
def test_settings_of_ones_own_are_left_alone(set_up: Path, options: list[str]) -> None:
    arguments, environment = prepared([*options, "a.py"], {})
    assert arguments == [*options, "a.py"]
    assert "SPARK_CONF_DIR" not in environment


def test_an_argument_of_the_application_is_no_option_of_spark(set_up: Path) -> None:
    arguments, _ = prepared(["--verbose", "--conf", "a=b", "a.py", "--properties-file", "x"], {})
    assert arguments[:2] == ["--properties-file", str(set_up / "conf/spark-defaults.conf")]


def test_another_spark_is_started_as_it_is(set_up: Path) -> None:
    given = {"SPARK_HOME": str(set_up), "LAKEHOUSE_WORK": "little"}
    assert prepared(["a.py"], given) == (["a.py"], given | {"PYTHONHASHSEED": "0"})


def test_another_folder_of_settings_is_used(set_up: Path) -> None:
    arguments, environment = prepared(["a.py"], {"SPARK_CONF_DIR": str(set_up / "mine")})
    assert (arguments, environment["SPARK_CONF_DIR"]) == (["a.py"], str(set_up / "mine"))


def test_a_spark_submit_within_another_ones_environment_is_like_the_first(set_up: Path) -> None:
    _, environment = prepared(["a.py"], {})
    environment.pop("SPARK_SUBMIT_OPTS")
    assert prepared(["a.py"], environment)[0][0] == "--properties-file"


@pytest.mark.parametrize("missing", ["jvm/classes.jsa", "jvm/made", "jvm/conf"])
def test_without_an_archive_spark_finds_its_folder_as_ever(set_up: Path, missing: str) -> None:
    (set_up / missing).rename(set_up / "gone")
    arguments, environment = prepared(["a.py"], {})
    assert (arguments, environment["SPARK_SUBMIT_OPTS"]) == (["a.py"], "")


def test_an_archive_that_is_cut_short_is_not_used(set_up: Path) -> None:
    (set_up / "jvm/classes.jsa").write_bytes(b"1234")
    assert prepared(["a.py"], {})[0] == ["a.py"]


@pytest.mark.parametrize("name", ["hive-site.xml", "spark-env.sh", "metrics.properties"])
def test_files_that_are_found_by_their_folder_keep_it_on_the_class_path(set_up: Path, name: str) -> None:
    (set_up / "conf" / name).touch()
    arguments, environment = prepared(["a.py"], {})
    assert (arguments, environment["SPARK_SUBMIT_OPTS"]) == (["a.py"], "")


def test_a_run_that_makes_an_archive_has_the_same_class_path_and_uses_none(set_up: Path) -> None:
    (set_up / "jvm/classes.jsa").unlink()
    arguments, environment = prepared(["a.py"], {"SPARK_SUBMIT_OPTS": "-XX:ArchiveClassesAtExit=x"})
    assert arguments[0] == "--properties-file"
    assert "SharedArchiveFile" not in environment["SPARK_SUBMIT_OPTS"]


class TestByPython:
    """A stage's script starts its own JVM, by what spark-submit was told."""

    OPTIONS = ("--master", "spark://m:7077", "--conf", "spark.x=a b", "--driver-memory", "4g")
    SCRIPT = str(spark_submit.ROOT / "spark_jobs/merge.py")

    def test_the_options_are_handed_on_as_they_are(self) -> None:
        found = by_python([*self.OPTIONS, self.SCRIPT, "--warehouse", "/lake house"], {"HOME": "/home/me"})
        assert found is not None
        command, environment = found
        assert command == [sys.executable, self.SCRIPT, "--warehouse", "/lake house"]
        assert shlex.split(environment["PYSPARK_SUBMIT_ARGS"]) == [*self.OPTIONS, "pyspark-shell"]
        assert environment["HOME"] == "/home/me"

    def test_the_python_is_the_one_that_spark_is_told_of(self) -> None:
        found = by_python([self.SCRIPT], {"PYSPARK_PYTHON": "p", "PYSPARK_DRIVER_PYTHON": "d"})
        assert found is not None
        assert found[0][0] == "d"

    @pytest.mark.parametrize(
        "arguments",
        [
            ["--deploy-mode", "cluster", SCRIPT],
            ["--deploy-mode=cluster", SCRIPT],
            ["--py-files", "a.zip", SCRIPT],
            ["--conf", "spark.pyspark.python=p", SCRIPT],
            ["--conf=spark.submit.deployMode=cluster", SCRIPT],
            ["--remote", "sc://host", SCRIPT],
            ["--version"],
            ["--master", "local[2]", "pyspark-shell"],
            ["--class", "A", "a.jar"],
            ["/elsewhere/merge.py"],
            [],
        ],
    )
    def test_everything_else_is_begun_by_spark(self, arguments: list[str]) -> None:
        assert by_python(arguments, {}) is None

    @pytest.mark.parametrize(
        "environment", [{"SPARK_REMOTE": "sc://"}, {"PYSPARK_SUBMIT_ARGS": "x"}, {"SPARK_HOME": "/opt/spark"}]
    )
    def test_so_is_what_is_for_another_spark(self, environment: dict[str, str]) -> None:
        assert by_python([self.SCRIPT], environment) is None

    def test_what_spark_env_sh_exports_is_sparks_own_to_read(self, tmp_path: Path) -> None:
        assert by_python([self.SCRIPT], {"SPARK_CONF_DIR": str(tmp_path)}) is not None
        (tmp_path / "spark-env.sh").touch()
        assert by_python([self.SCRIPT], {"SPARK_CONF_DIR": str(tmp_path)}) is None
