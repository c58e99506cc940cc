"""What Kafka tells of topics: their partitions, and from which offset to which there are messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from py4j.java_gateway import JavaPackage
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from lakehouse.errors import ConfigurationError, ServiceUnavailable
from lakehouse.runtime.payloads import Offsets
from lakehouse.sources import Input

SECONDS = 20
NOT_LET_IN = ("ConfigException", "SaslAuthenticationException", "SslAuthenticationException")
BYTES = "org.apache.kafka.common.serialization.ByteArrayDeserializer"


def pattern(source: Input) -> str:
    """The regular expression of an input's topics: of names too, so that a topic may be made later."""
    return source.topic_pattern or "|".join(f"^{re.escape(topic)}$" for topic in source.topics)


def client_properties(spark: SparkSession, file: str | None) -> dict[str, str]:
    """The settings of Kafka's clients (bootstrap.servers, security.protocol, ...) from a properties file.

    Raises:
        ConfigurationError: there is no such file, it lacks bootstrap.servers, or the session is a remote one.
    """
    if not file:
        raise ConfigurationError(
            "--kafka is missing", todo="Name the properties file of Kafka's clients; it holds bootstrap.servers."
        )
    jvm = _jvm(spark)
    loaded = jvm.java.util.Properties()
    try:
        loaded.load(jvm.java.io.StringReader(Path(file).read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, Py4JJavaError) as error:
        # Without what is in it: it holds secrets.
        raise ConfigurationError(f"cannot be read: {type(error).__name__}", where=file) from None
    properties = {str(name): str(loaded.getProperty(name)) for name in loaded.stringPropertyNames()}
    if "bootstrap.servers" not in properties:
        raise ConfigurationError("lacks bootstrap.servers", where=file, todo="Add it: host:port,...")
    return properties


class Topics:
    """A client that asks, and reads no message."""

    def __init__(self, spark: SparkSession, properties: dict[str, str]) -> None:
        self._jvm, self._properties = _jvm(spark), properties
        self._kafka = self._jvm.org.apache.kafka
        if isinstance(self._kafka.clients.consumer.KafkaConsumer, JavaPackage):
            # Databricks has Kafka's client under a name of its own.
            self._kafka = self._jvm.kafkashaded.org.apache.kafka

    def partitions(self, source: Input) -> tuple[Offsets, Offsets]:
        """Of each partition of an input's topics: its first offset, and the one after its last.

        Raises:
            ServiceUnavailable: Kafka does not answer.
        """
        with self._client() as client:
            partitions = self._partitions(client, source)
            return _offsets(client.beginningOffsets(partitions)), _offsets(client.endOffsets(partitions))

    def at(self, source: Input, instant: datetime) -> Offsets:
        """Of each partition with a message of an instant or later: the offset of the first one."""
        with self._client() as client:
            wanted = self._jvm.java.util.HashMap()
            for partition in self._partitions(client, source):
                wanted.put(partition, int(instant.timestamp() * 1000))
            found: Offsets = {}
            for partition, there in client.offsetsForTimes(wanted).items():
                if there is not None:
                    found.setdefault(partition.topic(), {})[str(partition.partition())] = there.offset()
            return found

    def _partitions(self, client: Any, source: Input) -> Any:
        found = self._jvm.java.util.ArrayList()
        for topic, partitions in client.listTopics().items():
            # Java's rules and Python's are the same for what people call topics; Spark goes by a whole match, too.
            if re.fullmatch(pattern(source), topic):
                for p in partitions:
                    found.add(self._kafka.common.TopicPartition(topic, p.partition()))
        return found

    @contextmanager
    def _client(self) -> Iterator[Any]:
        properties = self._jvm.java.util.Properties()
        ours = {"key.deserializer": BYTES, "value.deserializer": BYTES, "allow.auto.create.topics": "false"}
        for name, value in ({"default.api.timeout.ms": str(SECONDS * 1000)} | self._properties | ours).items():
            properties.setProperty(name, value)
        maker = self._kafka.clients.consumer.KafkaConsumer
        if isinstance(maker, JavaPackage):
            raise ConfigurationError(
                "Spark lacks Kafka's connector", todo="Run set-up again, or add it as docs/operations.md says."
            )
        try:
            client = maker(properties)
            try:
                yield client
            finally:
                client.close()
        except Py4JJavaError as error:
            causes = [error.java_exception]
            while causes[-1].getCause() is not None:
                causes.append(causes[-1].getCause())
            kinds = [cause.getClass().getSimpleName() for cause in causes]
            kind, text = kinds[-1], str(causes[-1].getMessage())
            if any(k in NOT_LET_IN or "Authoriz" in k or "LoginException" in k for k in kinds):
                raise ConfigurationError(
                    f"Kafka's client is not let in, or its settings are wrong ({kind}: {text})",
                    todo="Mend the file that --kafka names.",
                ) from None
            raise ServiceUnavailable(
                f"Kafka does not answer ({kind}: {text})", todo="Run it again when it is there."
            ) from None


def _offsets(found: Any) -> Offsets:
    offsets: Offsets = {}
    for partition, offset in found.items():
        offsets.setdefault(partition.topic(), {})[str(partition.partition())] = int(offset)
    return offsets


def _jvm(spark: SparkSession) -> Any:
    try:
        return spark._jvm
    except Exception as error:
        raise ConfigurationError(
            "Kafka is read by a Spark of its own, not through Spark Connect", todo="Unset SPARK_REMOTE."
        ) from error
