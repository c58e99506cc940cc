#!/usr/bin/env python3
"""What `spark-submit` is in the project's virtual environment: Spark's own, with a JVM that starts sooner, or not at all.

Set-up links it to where pip has put Spark's own, on the path and within pyspark, so that it is what a hand, Airflow, and a
Python that starts its own JVM call:

* a stage's script is begun by Python, which calls this once more for the JVM when there is something to do (decision 0059);
* everything else becomes Spark's own spark-submit, with the archive of classes that set-up has made (`bin/class-archive`), where
  there is one. Java takes none while a folder with something in it is on the class path, so the settings of ``conf/`` come by their
  names instead. And with the compilers that suit the amount of work, if the environment tells it (decision 0050).
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
SPARK = (ROOT / "var/venv/lib/python3.11/site-packages/pyspark").resolve()
FOLDER = (ROOT / "var/jvm").resolve()
ARCHIVE, MADE, EMPTY = FOLDER / "classes.jsa", FOLDER / "made", FOLDER / "conf"

QUICK = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m"
"""No optimizing compiler, whose work pays after a minute or so; and as much room for code as with it, which a stage needs."""
PATIENT = (
    "-XX:Tier4InvocationThreshold=100000 -XX:Tier4MinInvocationThreshold=12000 "
    "-XX:Tier4CompileThreshold=300000 -XX:Tier4BackEdgeThreshold=800000"
)
"""The optimizing compiler for what is run twenty times as often as Java asks: for rows, and not for the plans of some minutes."""
COMPILERS = {"little": QUICK, "much": PATIENT}
SWITCHES = {"--verbose", "-v", "--supervise", "--help", "-h", "--version", "--usage-error", "--load-spark-defaults"}
"""Options of spark-submit without a value."""
NEED_A_JVM = {
    "--class", "--deploy-mode", "--remote", "--proxy-user", "--py-files", "--kill", "--status", "--help", "-h", "--version", "--usage-error",
}  # fmt: skip
"""Options with which Python cannot come first: the script runs elsewhere, or not at all, or needs more than its own folder."""
SETTINGS_THAT_DO = ("spark.pyspark.", "spark.submit.", "spark.remote", "spark.api.mode")
"""So do settings that begin in this way."""
FOUND_BY_FOLDER = ("*-site.xml", "spark-env.sh", "java-opts", "metrics.properties", "fairscheduler.xml")
"""What Spark and Hadoop look for in the folder of settings itself."""


def prepared(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """The arguments and the environment with which Spark's own spark-submit is to be started."""
    # As Spark's own script sets it, which this one takes the place of.
    env = {**environment, "SPARK_HOME": environment.get("SPARK_HOME") or str(SPARK), "PYTHONHASHSEED": "0"}
    options, _, _ = _parts(arguments)
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
    extra += _of_s3(environment)
    if (work := environment.get("LAKEHOUSE_WORK")) in COMPILERS:
        added.append(COMPILERS[work])
    # What is given comes last, and so it counts.
    env["SPARK_SUBMIT_OPTS"] = " ".join([*added, given]).strip()
    return [*extra, *arguments], env


def by_python(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[list[str], dict[str, str]] | None:
    """The command and the environment by which a stage's script starts its JVM itself; None if Spark must start first."""
    options, application, own = _parts(arguments)
    if {option.partition("=")[0] for option in options} & NEED_A_JVM:
        return None
    if any(option.removeprefix("--conf=").startswith(SETTINGS_THAT_DO) for option in options):
        return None
    if (Path(environment.get("SPARK_CONF_DIR") or CONF) / "spark-env.sh").exists() or (CONF / "spark-env.sh").exists():
        # Spark's own script has what it exports.
        return None
    if Path(application).suffix != ".py" or Path(application).resolve().parent != ROOT / "spark_jobs":
        return None
    another = Path(environment.get("SPARK_HOME") or SPARK).resolve() != SPARK
    if another or environment.keys() & {"SPARK_REMOTE", "PYSPARK_SUBMIT_ARGS"}:
        return None
    python = environment.get("PYSPARK_DRIVER_PYTHON") or environment.get("PYSPARK_PYTHON") or sys.executable
    # As Spark's own sets it, so that a log has each line at once.
    env = {**environment, "PYTHONUNBUFFERED": "YES", "PYTHONHASHSEED": "0"}
    env["PYSPARK_SUBMIT_ARGS"] = shlex.join([*options, "pyspark-shell"])
    return [python, application, *own], env


def _of_s3(environment: Mapping[str, str]) -> list[str]:
    """What the variables of AWS say, of which Hadoop knows the credentials alone. ``lakehouse/storage.py`` has the same for the others."""
    endpoint = (environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or "").rstrip("/")
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or ("us-east-1" if endpoint else "")
    settings = {
        "endpoint": endpoint,
        "path.style.access": "true" if endpoint else "",
        "endpoint.region": region,
    }
    return [
        text for name, value in settings.items() if value for text in ("--conf", f"spark.hadoop.fs.s3a.{name}={value}")
    ]


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


def main() -> None:
    if found := by_python(sys.argv[1:], os.environ):
        command, environment = found
        os.execvpe(command[0], command, environment)
    arguments, environment = prepared(sys.argv[1:], os.environ)
    spark_class = f"{environment['SPARK_HOME']}/bin/spark-class"
    sys.stdout.flush()
    os.execve(spark_class, [spark_class, "org.apache.spark.deploy.SparkSubmit", *arguments], environment)


if __name__ == "__main__":
    main()
