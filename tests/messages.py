"""Messages for a real broker, and the shop's files as messages."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from kafka_broker import KafkaBroker

TOPICS = {"transactions": "shop.transactions", "interactions": "shop.interactions"}
Message = tuple[str | bytes | None, str | bytes | None]
"""Key and value."""


class Topic:
    """One topic of a broker."""

    def __init__(self, broker: KafkaBroker, name: str) -> None:
        self.name, self._servers = name, {"bootstrap.servers": broker.servers, "log_level": 0}
        self._admin = AdminClient(self._servers)

    def create(self, partitions: int = 1) -> Topic:
        for done in self._admin.create_topics([NewTopic(self.name, partitions, 1)]).values():
            done.result(30)
        return self

    def delete(self) -> None:
        for done in self._admin.delete_topics([self.name]).values():
            done.result(30)

    def send(self, messages: Iterable[Message], **options: object) -> Topic:
        """Send messages and wait until the broker has them; options as of ``Producer.produce``."""
        producer = Producer(self._servers | {"linger.ms": 50, "enable.idempotence": True})
        for key, value in messages:
            producer.produce(self.name, value, key, **options)  # type: ignore[arg-type]
            producer.poll(0)
        assert producer.flush(60) == 0
        return self

    def forget(self, before: int, partition: int = 0) -> None:
        """Delete the messages before an offset, as a topic's retention does."""
        for done in self._admin.delete_records([TopicPartition(self.name, partition, before)]).values():
            done.result(30)


def of_files(landing: Path, entity: str) -> Iterator[Message]:
    """The rows of the shop's files in the order of their days, as messages keyed by their ids."""
    key = {"transactions": "TransactionID", "interactions": "InteractionID"}[entity]
    for file in sorted((landing / "shop" / entity).rglob("part-*"), key=lambda f: (f.parent.name, f.name)):
        with file.open(newline="", encoding="utf-8") as text:
            if entity == "interactions":
                for line in text:
                    yield _key(line, key), line.rstrip("\n")
            else:
                for row in csv.DictReader(text):
                    fields = {name: value for name, value in row.items() if value not in (None, "")}
                    yield row[key], json.dumps(fields)


def _key(line: str, name: str) -> str | None:
    try:
        return json.loads(line).get(name)
    except ValueError:
        return None
