"""A pipeline that reads topics of its own from a broker of the tests."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import messages
import yaml
from kafka_broker import KafkaBroker
from lakehouse.report import RunReport
from messages import Topic
from pipeline import Pipeline
from pyspark.sql import SparkSession
from support import ROOT

NUMBERS = itertools.count(1)
INTERACTIONS = "shop_event_interactions"


class Events(Pipeline):
    """A pipeline whose source shop_events reads topics of its own."""

    def __init__(self, spark: SparkSession, folder: Path, broker: KafkaBroker) -> None:
        sources = folder / "sources"
        shutil.copytree(ROOT / "sources", sources)
        super().__init__(spark, folder, sources=sources)
        self.client, self._file = str(broker.client_properties), sources / "shop_events/source.yaml"
        number = next(NUMBERS)
        self.topics = {e: Topic(broker, f"{name}-{number}") for e, name in messages.TOPICS.items()}
        for entity, topic in self.topics.items():
            self.set(f"shop_event_{entity}", topics=[topic.name])

    def set(self, name: str, **fields: object) -> None:
        model = yaml.safe_load(self._file.read_text())
        model["inputs"][name].update(fields)
        self._file.write_text(yaml.safe_dump(model))

    def ingest(self, *names: str) -> RunReport:
        return self.run("ingest", only=names or ["shop_events"], kafka=self.client)

    def bronze(self, name: str = INTERACTIONS) -> list[tuple[str, int, int, str | None]]:
        """(topic, partition, offset, the id) of what is in bronze."""
        key = "InteractionID" if name == INTERACTIONS else "TransactionID"
        rows = self.table(f"bronze.{name}").select("_source.topic", "_source.partition", "_source.offset", key)
        return sorted(tuple(r) for r in rows.collect())


def named(*ids: str) -> list[messages.Message]:
    return [(i, json.dumps({"InteractionID": i})) for i in ids]
