"""Kafka topics, of a real broker, to bronze and on."""

from __future__ import annotations

import base64
import json
import shutil
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import messages
import pytest
from kafka_broker import KafkaBroker
from lakehouse.errors import ConfigurationError, DataRefused
from lakehouse.ingestion import kafka
from lakehouse.instants import instant
from lakehouse.report import RunReport
from lakehouse.runtime.progress import Progress
from lakehouse.runtime.retention import prune
from lakehouse.synthetic.shop import Scale
from lakehouse.synthetic.stage import generate
from messages import Topic
from pipeline import GOLD, SILVER, Pipeline, rows_of
from pyspark.sql import SparkSession
from topics_of_a_test import INTERACTIONS, NUMBERS, Events, named


def test_messages_are_kept_as_they_came(events: Events) -> None:
    sent = 1772366400123
    values = [
        (
            "1",
            '{"InteractionID": "1", "Page": " p ", "Metadata": {"a": [1, 2.50]}, "CustomerID": 12345678901234567890.10, "Source": null}',
        ),
        ("2", '{"InteractionID": "2", "color": "red", "n": 17, "nothing": null}'),
        ("3", '{"InteractionID": "3", "Page":'),
        ("4", '["no", "object"]'),
        ("5", b'{"InteractionID": "\xff"}'),
        (b"\xfe", None),
        (None, "{}"),
        ("8", ""),
        ("9", '{"InteractionID": "9", "InteractionID": "10"}'),
    ]
    topic = events.topics["interactions"].create()
    topic.send(values, timestamp=sent, headers={"origin": b"\x01"})
    begin = datetime.now(UTC)
    report = events.ingest(INTERACTIONS)
    end = datetime.now(UTC)
    rows = events.table(f"bronze.{INTERACTIONS}").orderBy("_source.offset").collect()
    columns = ["InteractionID", "CustomerID", "InteractionType", "Timestamp", "Page", "Source", "Metadata"]
    assert list(rows[0].__fields__) == [*columns, "_rescued", "_corrupt", "_source", "_ingested_at", "_batch_id"]
    nothing = (None,) * 7
    bad = base64.b64encode(b'{"InteractionID": "\xff"}').decode()
    assert [tuple(r)[:9] for r in rows] == [
        ("1", "12345678901234567890.1", None, None, " p ", None, '{"a":[1,2.5]}', None, None),
        ("2", None, None, None, None, None, None, '{"color":"red","n":"17"}', None),
        (*nothing, None, '{"InteractionID": "3", "Page":'),
        (*nothing, None, '["no", "object"]'),
        (*nothing, None, f"base64:{bad}"),
        (*nothing, None, None),
        (*nothing, None, None),
        (*nothing, None, ""),
        (*nothing, None, '{"InteractionID": "9", "InteractionID": "10"}'),
    ]
    places = [r["_source"] for r in rows]
    assert [(p["topic"], p["partition"], p["offset"]) for p in places] == [(topic.name, 0, n) for n in range(9)]
    assert [p["key"] for p in places] == ["1", "2", "3", "4", "5", "base64:/g==", None, "8", "9"]
    assert [p["tombstone"] for p in places] == [False] * 5 + [True, False, False, False]
    assert [[(h["key"], bytes(h["value"])) for h in p["headers"]] for p in places] == [[("origin", b"\x01")]] * 9
    assert {p["timestamp"] for p in places} == {datetime(2026, 3, 1, 12, 0, 0, 123000)}
    assert begin <= rows[0]["_ingested_at"].replace(tzinfo=UTC) <= end
    assert report.tables[f"bronze.{INTERACTIONS}"]["rows_in"] == 9
    assert report.tables[f"bronze.{INTERACTIONS}"]["rows_corrupt"] == 5


def test_each_message_is_loaded_once_whatever_is_interrupted(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = events.topics["interactions"].create(2)
    topic.send(named("a", "b"), partition=0)
    topic.send(named("c"), partition=1)
    events.ingest(INTERACTIONS)
    versions = events.versions()
    events.ingest(INTERACTIONS)
    assert events.versions() == versions
    first = [(topic.name, 0, 0, "a"), (topic.name, 0, 1, "b"), (topic.name, 1, 0, "c")]
    assert events.bronze() == first

    class Killed(Exception):
        pass

    def kill(*_: object) -> None:
        raise Killed("now")

    # After the plan; after bronze; when the end is noted, but not yet durable.
    places = [(kafka, "decoded", None), (Progress, "finish", None), (Progress, "commit", "_ended")]
    for n, (place, name, only_with) in enumerate(places):
        topic.send(named(f"d{n}"), partition=0)
        with monkeypatch.context() as patch:
            patch.setattr(
                place, name, lambda self, *_, only=only_with, **__: kill() if not only or getattr(self, only) else None
            )
            with pytest.raises(Exception, match="now"):
                events.ingest(INTERACTIONS)
        events.ingest(INTERACTIONS)
    topic.send(named("e"), partition=1)
    events.ingest(INTERACTIONS)
    more = [(topic.name, 0, 2 + n, f"d{n}") for n in range(3)]
    assert events.bronze() == sorted([*first, *more, (topic.name, 1, 1, "e")])
    done = list(Progress(events.context("ingest").warehouse, "ingest", "r", datetime.now(UTC)).finished("ingest"))
    assert sum(f.rows[f"bronze.{INTERACTIONS}"] for f in done) == 7


def test_messages_that_kafka_has_deleted_are_told_with_their_offsets(events: Events) -> None:
    topic = events.topics["interactions"].create()
    topic.send(named("a", "b"))
    events.ingest(INTERACTIONS)
    topic.send(named("c", "d", "e", "f")).forget(before=5)
    with pytest.raises(DataRefused, match=rf"3 messages .* {topic.name}/0 offsets 2 to 4"):
        events.ingest(INTERACTIONS)
    assert [i for *_, i in events.bronze()] == ["a", "b"]
    events.set(INTERACTIONS, on_loss="continue")
    report = events.ingest(INTERACTIONS)
    assert report.tables[f"bronze.{INTERACTIONS}"]["messages_lost"] == 3
    assert [i for *_, i in events.bronze()] == ["a", "b", "f"]
    # Told once, and what is recorded of it is no batch to validate.
    assert "messages_lost" not in events.ingest(INTERACTIONS).tables.get(f"bronze.{INTERACTIONS}", {})
    events.run("validate", only=[INTERACTIONS])
    assert events.table("quarantine.interactions").count() == 3


def test_a_topic_that_was_made_anew_is_refused_until_a_person_says_so(events: Events) -> None:
    topic = events.topics["interactions"].create()
    topic.send(named("a", "b"))
    events.ingest(INTERACTIONS)
    topic.delete()
    topic.create().send(named("c"))
    with pytest.raises(ConfigurationError, match="raise the input's epoch to 1"):
        events.ingest(INTERACTIONS)
    events.set(INTERACTIONS, epoch=1)
    events.ingest(INTERACTIONS)
    events.ingest(INTERACTIONS)
    assert [(o, i) for _, _, o, i in events.bronze()] == [(0, "a"), (0, "c"), (1, "b")]


def test_topics_and_partitions_may_come_later(events: Events, broker: KafkaBroker) -> None:
    prefix = f"later-{next(NUMBERS)}"
    events.set(INTERACTIONS, topics=[], topic_pattern=f"{prefix}-.*")
    events.ingest(INTERACTIONS)
    Topic(broker, f"{prefix}-1").create().send(named("a"))
    events.ingest(INTERACTIONS)
    Topic(broker, f"{prefix}-2").create(2).send(named("b"), partition=1)
    events.ingest(INTERACTIONS)
    assert events.bronze() == [(f"{prefix}-1", 0, 0, "a"), (f"{prefix}-2", 1, 0, "b")]


def test_what_is_forgotten_of_earlier_batches_is_not_loaded_again(events: Events) -> None:
    first, second = (events.topics[e] for e in ("interactions", "transactions"))
    events.set(INTERACTIONS, topics=[first.name, second.name])
    first.create().send(named("a"))
    second.create().send(named("b", "c"))
    for n in range(3):
        events.ingest(INTERACTIONS)
        events.run("validate", only=[INTERACTIONS])
        events.run("merge")
        first.send(named(f"d{n}"))
    # Of a topic that is not there for a while, its offsets are in the last batch, too.
    second.delete()
    events.ingest(INTERACTIONS)
    before = events.table("ops.progress").count()
    assert prune(events.context("optimize").warehouse, kept=1) > 0
    assert events.table("ops.progress").count() < before
    assert prune(events.context("optimize").warehouse, kept=1) == 0
    versions = events.versions()
    events.ingest(INTERACTIONS)
    assert events.versions() == versions
    second.create().send(named("e"))
    with pytest.raises(ConfigurationError, match="has 1 messages in partition 0, but 2 have been loaded"):
        events.ingest(INTERACTIONS)
    second.delete()
    events.run("validate", only=[INTERACTIONS])
    assert events.run("merge").tables == {}
    assert [i for *_, i in events.bronze()] == ["a", "d0", "d1", "d2", "b", "c"]


@pytest.mark.parametrize(("start", "expected"), [("latest", []), ("2026-03-01T12:00:01Z", ["b", "c"])])
def test_where_an_input_begins_is_its_sources_to_say(events: Events, start: str, expected: list[str]) -> None:
    topic = events.topics["interactions"].create()
    noon = int(instant("2026-03-01T12:00:00").timestamp() * 1000)
    for n, name in enumerate("abc"):
        topic.send(named(name), timestamp=noon + 1000 * n)
    events.set(INTERACTIONS, options={"startingOffsets": start})
    events.ingest(INTERACTIONS)
    topic.send(named("d"))
    if start == "latest":
        # Nothing has been loaded yet, so that it is still the end that counts.
        events.ingest(INTERACTIONS)
        assert not events.path(f"bronze.{INTERACTIONS}").exists()
    else:
        events.ingest(INTERACTIONS)
        assert [i for *_, i in events.bronze()] == [*expected, "d"]


def test_what_cannot_be_read_or_breaks_a_rule_goes_to_quarantine_with_its_offset(events: Events) -> None:
    topic = events.topics["transactions"].create()
    whole = {"CustomerID": "c", "ProductID": "p", "Date": "2026-03-01", "Amount": "1.00", "PaymentMethod": "card",
             "TransactionStatus": "Completed", "UpdatedAt": "2026-03-01T00:00:00Z"}  # fmt: skip
    topic.send(
        [
            ("t1", json.dumps(whole | {"TransactionID": "t1"})),
            ("t2", b"\xff"),
            ("t3", json.dumps(whole | {"TransactionID": "t3", "Amount": "x"})),
        ]
    )
    topic.send([("t1", None)])
    events.ingest("shop_event_transactions")
    events.run("validate", only=["shop_events"])
    events.run("merge")
    kept = events.table("quarantine.transactions").orderBy("row_number").collect()
    told = [(r["row_number"], r["raw"], r["reasons"][0]["rule"]) for r in kept]
    assert told == [
        (1, "base64:/w==", "corrupt_record"),
        (2, kept[1]["raw"], "cast:amount"),
    ]
    assert json.loads(kept[1]["raw"])["Amount"] == "x"
    assert kept[0]["reasons"][0]["message"].startswith(f"transactions offset 1 of {topic.name}/0: ")
    # The message without a value has deleted its key.
    assert events.table("silver.transactions").count() == 0
    history = events.table("silver.transactions_history").collect()
    assert [r["transaction_id"] for r in history] == ["t1", "t1"]
    # Replayed like the row of a file: only what is corrected is another value than the message had.
    patch = events.landing / "patch.csv"
    patch.write_text(f"id,column,value\n{kept[1]['id']},Amount,7.50\n")
    events.run("replay", only=["transactions"], patch=str(patch))
    events.run("merge")
    rows = events.table("silver.transactions").select("transaction_id", "customer_id", "amount").collect()
    assert [tuple(r) for r in rows] == [("t3", "c", Decimal("7.50"))]


@pytest.mark.long
def test_the_same_events_as_files_and_as_messages_are_the_same_silver_and_gold(
    spark: SparkSession, tmp_path: Path, broker: KafkaBroker
) -> None:
    files = Pipeline(spark, tmp_path / "files")
    report = RunReport("generate", "g", instant("2026-03-01"))
    generate(spark, str(files.landing), Scale(2_000, 6, instant("2026-03-01").date()), 5, 2.0, report)
    files.batch("shop", "2026-03-07")
    topics = Events(spark, tmp_path / "topics", broker)
    for entity in ("customers", "products"):
        shutil.copytree(files.landing / "shop" / entity, topics.landing / "shop" / entity)
    for entity, topic in topics.topics.items():
        topic.create(3).send(messages.of_files(files.landing, entity))
    topics.run("ingest", only=["shop_customers", "shop_products"])
    topics.ingest()
    topics.run("validate", only=["shop_customers", "shop_products", "shop_events"])
    topics.run("merge")
    topics.run("featurize", as_of="2026-03-07")
    tables = [
        *(f"silver.{e}" for e in SILVER),
        *(f"silver.{e}_history" for e in SILVER[:3]),
        *(f"gold.{g}" for g in GOLD),
    ]
    expected = rows_of(files, tables)
    assert min(map(len, expected.values())) > 0
    assert rows_of(topics, tables) == expected
    kept = ("quarantine.transactions", "quarantine.interactions")
    assert [topics.table(t).count() for t in kept] == [files.table(t).count() for t in kept]
