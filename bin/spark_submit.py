#!/usr/bin/env python3
"""What `spark-submit` is in the project's virtual environment: Spark's own, with a JVM that starts sooner.

Set-up links it to where pip has put Spark's own, on the path and within pyspark, so that it is what a hand, Airflow, and a
Python that starts its own JVM call. It adds what follows, and then becomes Spark's own (decision 0050):

* the archive of classes that set-up has made (`bin/class-archive`), where there is one. Java takes none while a folder with
  something in it is on the class path, so the settings of ``conf/`` come by their names instead;
* for a stage that has little to do, a JVM with the quick compiler alone.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
SPARK = (ROOT / "var/venv/lib/python3.11/site-packages/pyspark").resolve()
FOLDER = (ROOT / "var/jvm").resolve()
ARCHIVE, MADE, EMPTY = FOLDER / "classes.jsa", FOLDER / "made", FOLDER / "conf"

QUICK = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m"
"""No optimizing compiler, whose work pays after a minute or so; and as much room for code as with it, which a stage needs."""
LITTLE = 60_000_000
"""Bytes of files up to which it does not pay: some 300,000 rows (decision 0050)."""
WORKS_ON = {
    "ingest.py": "landing",
    "validate.py": "warehouse",
    "merge.py": "warehouse",
    "featurize.py": "warehouse",
    "optimize.py": "warehouse",
    "replay.py": "warehouse",
}
"""The argument that names the files of which a stage's work is a part."""
SWITCHES = {"--verbose", "-v", "--supervise", "--help", "-h", "--version", "--usage-error", "--load-spark-defaults"}
"""Options of spark-submit without a value."""
FOUND_BY_FOLDER = ("*-site.xml", "spark-env.sh", "java-opts", "metrics.properties", "fairscheduler.xml")
"""What Spark and Hadoop look for in the folder of settings itself."""


def prepared(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """The arguments and the environment with which Spark's own spark-submit is to be started."""
    # As Spark's own script sets it, which this one takes the place of.
    env = {**environment, "SPARK_HOME": environment.get("SPARK_HOME") or str(SPARK), "PYTHONHASHSEED": "0"}
    options, application, own = _parts(arguments)
    if Path(env["SPARK_HOME"]).resolve() != SPARK:
        return list(arguments), env
    given = environment.get("SPARK_SUBMIT_OPTS", "")
    added = []
    extra: list[str] = []
    if _may_leave_folder(options, environment):
        env["SPARK_CONF_DIR"] = str(EMPTY)
        extra = ["--properties-file", str(CONF / "spark-defaults.conf")]
        added.append(f'"-Dlog4j2.configurationFile={(CONF / "log4j2.properties").as_uri()}"')
        if "-XX:ArchiveClassesAtExit" not in given:
            # One that does not fit, of another Java or other jars, is left aside, and nothing is said of it.
            added.append(f'"-XX:SharedArchiveFile={ARCHIVE}" -Xshare:auto -Xlog:cds=off -Xlog:cds+dynamic=off')
    if has_little_to_do(application, own, environment):
        added.append(QUICK)
    # What is given comes last, and so it counts.
    env["SPARK_SUBMIT_OPTS"] = " ".join([*added, given]).strip()
    return [*extra, *arguments], env


def has_little_to_do(application: str, arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether the optimizing compiler would not pay: as LAKEHOUSE_WORK says (little, much), or by the files that there are.

    They are all that there are, loaded or not: a stage's work is at most that. What cannot be told is much.
    """
    told = environment.get("LAKEHOUSE_WORK")
    if told:
        return told == "little"
    place = WORKS_ON.get(Path(application).name)
    # Several instants are computed one after the other, and what is in topics is in no folder.
    if place is None or any(a.partition("=")[0] in ("--start", "--kafka") for a in arguments):
        return False
    if environment.get("LAKEHOUSE_KAFKA"):
        return False
    folder = _value(arguments, f"--{place}") or environment.get(f"LAKEHOUSE_{place.upper()}", "")
    if not folder or re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/|catalog:", folder):
        return False
    return not _more_than(LITTLE, folder)


def _may_leave_folder(options: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether Spark may do without the folder of settings on its class path, and with an archive."""
    names = {option.partition("=")[0] for option in options}
    if names & {"--properties-file", "--load-spark-defaults"}:
        return False
    if environment.get("SPARK_CONF_DIR", str(EMPTY)) not in (str(EMPTY), str(SPARK / "conf")):
        return False
    if any(file for pattern in FOUND_BY_FOLDER for file in CONF.glob(pattern)):
        return False
    wanted = _is_whole() or "-XX:ArchiveClassesAtExit" in environment.get("SPARK_SUBMIT_OPTS", "")
    return wanted and EMPTY.is_dir() and not any(EMPTY.iterdir())


def _is_whole() -> bool:
    """Whether there is an archive, of the size that it was made with: Java dies of one that is cut short."""
    try:
        return ARCHIVE.stat().st_size == int(MADE.read_text().split()[-1])
    except (OSError, ValueError, IndexError):
        return False


def _parts(arguments: Sequence[str]) -> tuple[list[str], str, list[str]]:
    """spark-submit's own options, the application, and its arguments."""
    at = 0
    while at < len(arguments) and arguments[at].startswith("-"):
        at += 1 if arguments[at] in SWITCHES or "=" in arguments[at] else 2
    return list(arguments[:at]), "".join(arguments[at : at + 1]), list(arguments[at + 1 :])


def _value(arguments: Sequence[str], name: str) -> str:
    """What the last argument of a name says."""
    found = ""
    for at, argument in enumerate(arguments):
        if argument == name:
            found = "".join(arguments[at + 1 : at + 2])
        elif argument.startswith(f"{name}="):
            found = argument.partition("=")[2]
    return found


def _more_than(limit: int, folder: str) -> bool:
    """Whether the files below a folder have more bytes; it looks at no more of them than it must."""
    total = 0
    for parent, _, files in os.walk(folder):
        for file in files:
            with suppress(OSError):
                total += Path(parent, file).stat().st_size
        if total > limit:
            return True
    return False


def main() -> None:
    arguments, environment = prepared(sys.argv[1:], os.environ)
    spark_class = f"{environment['SPARK_HOME']}/bin/spark-class"
    sys.stdout.flush()
    os.execve(spark_class, [spark_class, "org.apache.spark.deploy.SparkSubmit", *arguments], environment)


if __name__ == "__main__":
    main()
