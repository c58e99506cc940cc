"""Named errors, each with the exit code a scheduler decides on (sysexits numbers)."""

from __future__ import annotations

import re


class LakehouseError(Exception):
    """Base of every error a person is meant to read.

    ``str(error)`` is one line: what is wrong, where, and what to do next.
    """

    exit_code = 70

    def __init__(self, what: str, *, where: str = "", todo: str = "") -> None:
        self.what, self.where, self.todo = what, where, todo
        parts = [f"{where}: {what}" if where else what]
        if todo:
            parts.append(todo)
        super().__init__(" ".join(" ".join(parts).split()))


class UsageError(LakehouseError):
    """The arguments are wrong (an unknown name, a folder that is not there)."""

    exit_code = 64


class DataRefused(LakehouseError):
    """A batch has more bad rows than its contract allows, or a file columns that its source forbids."""

    exit_code = 65


class ServiceUnavailable(LakehouseError):
    """Something the stage talks to cannot be reached; worth another try."""

    exit_code = 69


class InternalError(LakehouseError):
    """A law of the system is broken (rows do not balance): a bug, not the data's fault."""

    exit_code = 70


class TryAgain(LakehouseError):
    """A concurrent writer won; the same run will succeed later."""

    exit_code = 75


class ConfigurationError(LakehouseError):
    """A contract, a source or a setting is not valid."""

    exit_code = 78


QUOTED = re.compile(r"""(?<!\w)'[^'\n]*'|(?<!message: )(?<!\w)"[^"\n]*\"""")
"""What stands in quotes in an error's text: values of rows, which may read like anything. Rust quotes what the machine says, as a message."""
CONDITION = re.compile(r"\[[A-Z][A-Z0-9_.]+\].*?(?=SQLSTATE|\w+Exception\b|$)", re.MULTILINE)
"""What Spark says of a condition of its own: values, and addresses of files."""
REFUSED = re.compile(r"Permission denied|Mkdirs failed|No space left on device|Not a directory")
"""What the machine says when a file cannot be written."""


NO_ACCESS = re.compile(
    r"AccessDeniedException: s3a?://|NoAuthWithAWSException|Unable to load credentials|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken"
    r"|ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|The operation lacked the necessary privileges|no credentials found in chain"
)
NO_BUCKET = re.compile(r"UnknownStoreException|NoSuchBucket|NO_SUCH_BUCKET")
AWAY = re.compile(
    r"Generic (S3|GCS|MicrosoftAzure) error|Unable to execute HTTP request|AWSClientIOException|AWSServiceThrottledException"
    r"|AWSStatus500Exception|AWS Error (NETWORK_CONNECTION|SLOW_DOWN|SERVICE_UNAVAILABLE)"
)
REFUSES = re.compile(r"non-2xx status code (30\d|501|4(?!08|29)\d\d)|redirect without LOCATION")
STORE = re.compile("|".join(p.pattern for p in (NO_ACCESS, NO_BUCKET, AWAY)))
ANSWER = re.compile(r"(<\?xml|<Error>).*?(</Error>|$)", re.DOTALL)
"""What S3 answers: it may quote a token or a key."""


def named(error: BaseException) -> LakehouseError | None:
    """The named error that something raised by Spark, Py4J or a socket amounts to; None for a bug."""
    if isinstance(error, LakehouseError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return TryAgain("interrupted", todo="Run it again: it goes on where this run stopped.")
    text = QUOTED.sub("", str(error))
    said = CONDITION.sub("", text)
    # Delta's conflicts reach Python as errors of the JVM, with their condition in brackets.
    conflict = re.search(r"\[(DELTA_CONCURRENT\w*|DELTA_METADATA_CHANGED|DELTA_PROTOCOL_CHANGED)", text)
    if conflict:
        return TryAgain(f"a concurrent writer won ({conflict[1]})", todo="Run it again.")
    if type(error).__name__ == "CommitFailedError":
        return TryAgain(f"a concurrent writer won ({first_line(error)})", todo="Run it again.")
    if type(error).__name__ in ("Py4JNetworkError", "ConnectionRefusedError", "ConnectionResetError"):
        return ServiceUnavailable(f"the connection to Spark is gone ({first_line(error)})", todo="Run it again.")
    if re.search(r"stopped SparkContext|SparkContext (was shut down|has been shutdown)", said):
        return ServiceUnavailable(
            "Spark is gone: the cluster's master does not answer, or has ended the application",
            todo="Look at the master; run it again when it is there.",
        )
    if "[JAVA_GATEWAY_EXITED]" in str(error):
        return ConfigurationError(
            "Spark did not start, or was killed; the lines above say why",
            todo="Java 17 must be on the PATH or in JAVA_HOME, the options of spark-submit right, and memory there.",
        )
    if "[RETRIES_EXCEEDED]" in text or "StatusCode.UNAVAILABLE" in said:
        return ServiceUnavailable("the Spark Connect server does not answer", todo="Run it again when it is there.")
    if "ClassNotFoundException: Class org.apache.hadoop.fs.s3a" in str(error):
        return ConfigurationError(
            "Spark lacks what reads and writes S3",
            todo="Run make setup WITH=s3, or add hadoop-aws and the AWS SDK to Spark's jars.",
        )
    if store := of_a_store(said):
        return store
    if isinstance(error, PermissionError):
        return ConfigurationError(f"not allowed: {error}", todo="Check the folder's owner and permissions.")
    for line, bare in zip(str(error).splitlines(), said.splitlines(), strict=False):
        if REFUSED.search(bare):
            return ConfigurationError(
                f"a file cannot be written: {line.strip()[:300]}",
                todo="Check the warehouse's address, owner and space.",
            )
    return None


def without_answer(said: str) -> str:
    """What a library says of a store, with nothing of the store's answer but its code, and none of the colours."""

    def code(answer: re.Match[str]) -> str:
        found = re.search(r"<Code>(\w+)</Code>", answer[0])
        return found[1] if found else ""

    # deltalake draws a tree of causes, in colours.
    return " ".join(re.sub(r"\x1b\[\d*m|\u21b3", " ", ANSWER.sub(code, said)).split())


def of_a_store(said: str) -> LakehouseError | None:
    """What an object store says by way of Hadoop, deltalake, obstore or Arrow, but for the quoted parts; None if it is none of these."""
    found = STORE.search(said)
    if found is None:
        return None
    words = without_answer(said)
    words = words[found.start() if (found := STORE.search(words)) else 0 :][:300]
    if NO_ACCESS.search(said):
        todo = "Check the credentials, whether they have expired, and their rights there."
        return ConfigurationError(f"the object store refuses access: {words}", todo=todo)
    if NO_BUCKET.search(said):
        return ConfigurationError(f"there is no such bucket: {words}", todo="Make it, or mend the address.")
    if REFUSES.search(said):
        return ConfigurationError(
            f"the object store refuses a request: {words}",
            todo="Check the address, the region, and that it knows conditional puts.",
        )
    todo = "Run it again: it goes on where this run stopped. If it stays away, check the address."
    return ServiceUnavailable(f"the object store does not answer: {words}", todo=todo)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, cut off where it is long."""
    return (str(error).strip().splitlines() or [""])[0][:500]
