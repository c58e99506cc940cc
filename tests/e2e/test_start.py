"""How Spark starts: with the project's settings, from the archive of classes that set-up has made, or without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, clean_environment

ARCHIVE = ROOT / "var/jvm/classes.jsa"
SCRIPT = """
from pyspark.sql import SparkSession

spark = SparkSession.builder.getOrCreate()
print(spark.conf.get("spark.sql.shuffle.partitions"), spark.conf.get("spark.redaction.regex")[:10])
"""


def output(*command: str, **environment: str) -> list[str]:
    """The lines of a command that must end well."""
    done = subprocess.run(
        command, cwd=ROOT, env=clean_environment(TZ="UTC", **environment), text=True, timeout=240,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()


def shared(loaded: Path, name: str) -> bool:
    """Whether a class has come from the archive, by Java's own log of classes."""
    lines = [line for line in loaded.read_text().splitlines() if line.split("] ")[-1].startswith(f"{name} ")]
    assert lines, f"{name} was not loaded"
    return "shared objects file (top)" in lines[0]


@pytest.mark.parametrize("by", [["spark-submit", "--master", "local[1]"], [sys.executable]], ids=["submit", "python"])
def test_a_session_has_the_settings_and_comes_from_the_archive(tmp_path: Path, by: list[str]) -> None:
    (tmp_path / "app.py").write_text(SCRIPT)
    log = tmp_path / "loaded"
    said = output(*by, str(tmp_path / "app.py"), SPARK_SUBMIT_OPTS=f"-Xlog:class+load:file={log}")
    assert "8 (?i)secret" in said
    # Spark's own log4j settings would have it say more.
    assert not [line for line in said if " INFO " in line or " WARN " in line]
    assert shared(log, "org.apache.spark.SparkContext")
    assert shared(log, "io.delta.sql.DeltaSparkSessionExtension")


def version(*options: str, **environment: str) -> list[str]:
    """What the least start of Spark says."""
    return output("spark-submit", *options, "--version", **environment)


def test_an_archive_that_does_not_fit_is_left_aside_without_a_word(tmp_path: Path) -> None:
    expected = version(SPARK_SUBMIT_OPTS="-Xshare:off")
    assert "4.2" in " ".join(expected)
    log = tmp_path / "loaded"
    logged = f"-Xlog:class+load:file={log}"
    assert version(SPARK_SUBMIT_OPTS=logged) == expected
    assert shared(log, "org.apache.spark.deploy.SparkSubmit")

    other = tmp_path / "classes.jsa"
    other.write_bytes(ARCHIVE.read_bytes().replace(b"OpenJDK 64-Bit Server VM (", b"OpenJDK 64-Bit Server VM [", 1))
    assert version(SPARK_SUBMIT_OPTS=f"{logged} -XX:SharedArchiveFile={other}") == expected
    assert not shared(log, "org.apache.spark.deploy.SparkSubmit")

    # Another class path, as it is after a jar was added to Spark.
    (tmp_path / "classes").mkdir()
    assert version("--driver-class-path", str(tmp_path / "classes"), SPARK_SUBMIT_OPTS=logged) == expected
    assert not shared(log, "org.apache.spark.deploy.SparkSubmit")
