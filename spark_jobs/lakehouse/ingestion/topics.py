"""What Kafka tells of topics: their partitions, and from which offset to which there are messages.

It is asked by librdkafka, which needs no JVM. Only where the client's settings have no equal there, or librdkafka is not
let in, the JVM's client is asked, as it is the one that reads the messages.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lakehouse.engine import Engine, engine
from lakehouse.errors import ConfigurationError, ServiceUnavailable
from lakehouse.ingestion.librdkafka import properties, translated
from lakehouse.runtime.payloads import Offsets
from lakehouse.sources import Input

if TYPE_CHECKING:
    from confluent_kafka import TopicPartition
    from pyspark.sql import SparkSession

TIMEOUT, SECONDS = "default.api.timeout.ms", 20


class AskTheJvm(Exception):
    """librdkafka cannot say: it is not there, cannot be told how to connect, or is not let in."""


def pattern(source: Input) -> str:
    """The regular expression of an input's topics: of names too, so that a topic may be made later."""
    return source.topic_pattern or "|".join(f"^{re.escape(topic)}$" for topic in source.topics)


def client_properties(file: str | None) -> dict[str, str]:
    """The settings of Kafka's clients (bootstrap.servers, security.protocol, ...) from a properties file.

    Raises:
        ConfigurationError: there is no such file, it lacks bootstrap.servers, or Spark is a remote one.
    """
    if not file:
        raise ConfigurationError(
            "--kafka is missing", todo="Name the properties file of Kafka's clients; it holds bootstrap.servers."
        )
    if engine() is Engine.CONNECT:
        raise ConfigurationError(
            "Kafka is read by a Spark of its own, not through Spark Connect", todo="Unset SPARK_REMOTE."
        )
    try:
        found = properties(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        # Without what is in it: it holds secrets.
        raise ConfigurationError(f"cannot be read: {type(error).__name__}", where=file) from None
    if "bootstrap.servers" not in found:
        raise ConfigurationError("lacks bootstrap.servers", where=file, todo="Add it: host:port,...")
    return found


class Topics:
    """A client that asks, and reads no message.

    Args:
        properties: as ``client_properties`` has them.
        spark: gives the session by whose JVM Kafka is asked where it must be.
    """

    def __init__(self, properties: dict[str, str], spark: Callable[[], SparkSession]) -> None:
        self._properties, self._spark = {TIMEOUT: str(SECONDS * 1000)} | properties, spark

    def partitions(self, source: Input) -> tuple[Offsets, Offsets]:
        """Of each partition of an input's topics: its first offset, and the one after its last.

        Raises:
            ServiceUnavailable: Kafka does not answer.
            ConfigurationError: the client is not let in, or its settings are wrong.
        """
        try:
            client = _Client(self._properties)
            found = client.partitions(pattern(source))
            return client.offsets(found, "earliest"), client.offsets(found, "latest")
        except AskTheJvm:
            return self._jvm().partitions(pattern(source))

    def at(self, source: Input, instant: datetime) -> Offsets:
        """Of each partition with a message of an instant or later: the offset of the first one; raises as ``partitions``."""
        milliseconds = max(0, int(instant.timestamp() * 1000))
        try:
            client = _Client(self._properties)
            return client.offsets(client.partitions(pattern(source)), milliseconds)
        except AskTheJvm:
            return self._jvm().at(pattern(source), milliseconds)

    def _jvm(self) -> Any:
        from lakehouse.ingestion.jvm_topics import JvmTopics

        return JvmTopics(self._spark(), self._properties)


class _Client:
    """librdkafka's client for one question. All of it raises AskTheJvm, or ServiceUnavailable when Kafka does not answer."""

    def __init__(self, java: dict[str, str]) -> None:
        settings = translated(java)
        if settings is None or not java[TIMEOUT].isdecimal():
            raise AskTheJvm
        try:
            from confluent_kafka import IsolationLevel, KafkaException
            from confluent_kafka.admin import AdminClient
        except ImportError:
            raise AskTheJvm from None
        self._until, self._errors = time.monotonic() + int(java[TIMEOUT]) / 1000, list[Any]()
        # By Java's default, messages of open transactions count.
        committed = java.get("isolation.level", "read_uncommitted") == "read_committed"
        self._isolation = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        try:
            # It would write to standard error what is told by an error below.
            self._admin = AdminClient({**settings, "log_level": 0, "error_cb": self._errors.append})  # type: ignore[dict-item]
        except KafkaException:
            # A value that it refuses: the JVM's client says so without quoting it.
            raise AskTheJvm from None

    def partitions(self, wanted: str) -> list[TopicPartition]:
        """The partitions of the topics whose whole name a regular expression matches, which is how Spark goes by it."""
        from confluent_kafka import KafkaError, KafkaException, TopicPartition

        # Java's rules and Python's are the same for what people call topics.
        while True:
            try:
                known = self._admin.list_topics(timeout=min(1.0, self._left())).topics
            except KafkaException as error:
                self._look(error.args[0])
                continue
            topics = {name: topic for name, topic in known.items() if re.fullmatch(wanted, name)}
            broken = [t.error for t in topics.values() if t.error]
            if not [e for e in broken if e.code() != KafkaError.UNKNOWN_TOPIC_OR_PART]:
                return [TopicPartition(name, p) for name, topic in topics.items() for p in topic.partitions]
            # A topic that is being made has no leader yet.
            self._look(broken[0])
            time.sleep(0.1)

    def offsets(self, partitions: Iterable[TopicPartition], at: Literal["earliest", "latest"] | int) -> Offsets:
        """Of each partition: its first offset, the one after its last, or that of the first message since so many milliseconds."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import OffsetSpec

        specs = {"earliest": OffsetSpec.earliest, "latest": OffsetSpec.latest}
        asked = dict.fromkeys(partitions, OffsetSpec.for_timestamp(at) if isinstance(at, int) else specs[at]())
        if not asked:
            return {}
        answers = self._admin.list_offsets(asked, isolation_level=self._isolation, request_timeout=self._left())
        found: Offsets = {}
        for partition, answer in answers.items():
            try:
                offset = answer.result().offset
            except KafkaException as error:
                self._refuse(error.args[0])
            # Of an instant after the last message there is none.
            if offset >= 0:
                found.setdefault(partition.topic, {})[str(partition.partition)] = offset
        return found

    def _left(self) -> float:
        return max(0.1, self._until - time.monotonic())

    def _look(self, error: Any) -> None:
        """Give up when the client is not let in, or the time is over."""
        self._admin.poll(0)
        if time.monotonic() > self._until or _not_let_in(error) or any(map(_not_let_in, self._errors)):
            self._refuse(error)

    def _refuse(self, error: Any) -> None:
        self._admin.poll(0)
        told = [*self._errors, error]
        if any(map(_not_let_in, told)):
            raise AskTheJvm
        # The first says more: it names a broker.
        raise ServiceUnavailable(
            f"Kafka does not answer ({told[0].name().strip('_')}: {told[0].str()})",
            todo="Run it again when it is there.",
        )


def _not_let_in(error: Any) -> bool:
    return error.name() == "_SSL" or "AUTH" in error.name() or "SASL" in error.name()
