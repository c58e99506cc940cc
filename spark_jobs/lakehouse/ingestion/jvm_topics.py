"""The same questions to Kafka as of ``topics``, by the JVM's client: it understands every setting of the client's file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from py4j.java_gateway import JavaPackage
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from lakehouse.errors import ConfigurationError, ServiceUnavailable
from lakehouse.runtime.payloads import Offsets

NOT_LET_IN = ("ConfigException", "SaslAuthenticationException", "SslAuthenticationException")
BYTES = "org.apache.kafka.common.serialization.ByteArrayDeserializer"


class JvmTopics:
    """Topics are named by a regular expression, which matches the whole of a name. Errors are those of ``Topics``."""

    def __init__(self, spark: SparkSession, properties: dict[str, str]) -> None:
        self._jvm, self._properties = _jvm(spark), properties
        self._kafka = self._jvm.org.apache.kafka
        if isinstance(self._kafka.clients.consumer.KafkaConsumer, JavaPackage):
            # Databricks has Kafka's client under a name of its own.
            self._kafka = self._jvm.kafkashaded.org.apache.kafka

    def partitions(self, wanted: str) -> tuple[Offsets, Offsets]:
        """Of each partition: its first offset, and the one after its last."""
        with self._client() as client:
            partitions = self._partitions(client, wanted)
            return _offsets(client.beginningOffsets(partitions)), _offsets(client.endOffsets(partitions))

    def at(self, wanted: str, milliseconds: int) -> Offsets:
        """Of each partition with a message of an instant or later: the offset of the first one."""
        with self._client() as client:
            asked = self._jvm.java.util.HashMap()
            for partition in self._partitions(client, wanted):
                asked.put(partition, milliseconds)
            found: Offsets = {}
            for partition, there in client.offsetsForTimes(asked).items():
                if there is not None:
                    found.setdefault(partition.topic(), {})[str(partition.partition())] = there.offset()
            return found

    def _partitions(self, client: Any, wanted: str) -> Any:
        found = self._jvm.java.util.ArrayList()
        for topic, partitions in client.listTopics().items():
            if re.fullmatch(wanted, topic):
                for p in partitions:
                    found.add(self._kafka.common.TopicPartition(topic, p.partition()))
        return found

    @contextmanager
    def _client(self) -> Iterator[Any]:
        properties = self._jvm.java.util.Properties()
        ours = {"key.deserializer": BYTES, "value.deserializer": BYTES, "allow.auto.create.topics": "false"}
        for name, value in (self._properties | ours).items():
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
