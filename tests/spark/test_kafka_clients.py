"""What is asked of Kafka without rows: what is new, by either client, and by whatever settings a broker wants."""

from __future__ import annotations

import dataclasses
import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, pkcs12
from kafka_broker import KafkaBroker
from lakehouse.errors import ConfigurationError, ServiceUnavailable
from lakehouse.ingestion import stage as ingestion
from lakehouse.ingestion.jvm_topics import JvmTopics
from lakehouse.ingestion.librdkafka import properties
from lakehouse.ingestion.topics import Topics, client_properties, pattern
from lakehouse.instants import instant
from lakehouse.tables import Warehouse
from messages import Topic
from pyspark.errors import IllegalArgumentException
from pyspark.sql import SparkSession
from support import an_input
from topics_of_a_test import INTERACTIONS, Events, named

PASSWORD = "a-password-of-the-test"


def no_spark() -> SparkSession:
    raise AssertionError("Spark has been asked for")


def test_where_nothing_is_new_spark_is_not_started(events: Events) -> None:
    def ingest() -> None:
        context = events.context("ingest", only=[INTERACTIONS])
        cold = Warehouse(no_spark, str(events.warehouse_path), context.report)
        ingestion.run(dataclasses.replace(context, warehouse=cold), events.options("ingest", kafka=events.client))

    # No topic, and one without a message.
    ingest()
    topic = events.topics["interactions"].create(2)
    ingest()
    topic.send(named("a"), partition=1)
    with pytest.raises(AssertionError, match="Spark has been asked for"):
        ingest()
    events.ingest(INTERACTIONS)
    ingest()
    # A loss is told without Spark, too, and what comes after it is read.
    events.set(INTERACTIONS, on_loss="continue")
    topic.send(named("b"), partition=1).forget(before=2, partition=1)
    ingest()
    assert events.bronze() == [(topic.name, 1, 0, "a")]
    topic.send(named("c"), partition=1)
    events.ingest(INTERACTIONS)
    assert [(o, i) for *_, o, i in events.bronze()] == [(0, "a"), (2, "c")]


def test_librdkafka_and_the_jvms_client_tell_the_same(events: Events) -> None:
    topic = events.topics["interactions"].create(3)
    noon = int(instant("2026-03-01T12:00:00").timestamp() * 1000)
    for n in range(4):
        topic.send(named(f"{n}"), partition=n % 2, timestamp=noon + 1000 * n)
    topic.forget(before=1)
    open_ = Producer(
        {"bootstrap.servers": client_properties(events.client)["bootstrap.servers"], "transactional.id": topic.name}
    )
    open_.init_transactions(30)
    open_.begin_transaction()
    open_.produce(topic.name, "{}", partition=0, timestamp=noon + 9000)
    assert open_.flush(30) == 0
    (source,) = [i for i in events.context("ingest").inputs if i.name == INTERACTIONS]
    later = instant("2026-03-01T12:00:02")
    for committed in (False, True):
        settings = client_properties(events.client) | ({"isolation.level": "read_committed"} if committed else {})
        ours, theirs = Topics(settings, no_spark), JvmTopics(events.spark, settings)
        found = ours.partitions(source)
        assert found == theirs.partitions(pattern(source))
        assert found == (
            {topic.name: {"0": 1, "1": 0, "2": 0}},
            {topic.name: {"0": 2 if committed else 3, "1": 2, "2": 0}},
        )
        at = ours.at(source, later)
        assert at == theirs.at(pattern(source), int(later.timestamp() * 1000)) == {topic.name: {"0": 1, "1": 1}}
    open_.abort_transaction(30)


def test_a_properties_file_is_read_by_javas_rules(spark: SparkSession) -> None:
    chance, jvm = random.Random(7), spark._jvm
    assert jvm is not None

    def javas(text: str) -> dict[str, str] | None:
        loaded = jvm.java.util.Properties()
        try:
            loaded.load(jvm.java.io.StringReader(text))
        except IllegalArgumentException:
            return None
        return {str(name): str(loaded.getProperty(name)) for name in loaded.stringPropertyNames()}

    def ours(text: str) -> dict[str, str] | None:
        try:
            return properties(text)
        except ValueError:
            return None

    parts = [
        "a",
        "key",
        "=",
        ":",
        " ",
        "\t",
        "\f",
        "\n",
        "\r\n",
        "\r",
        "\\",
        "\\\\",
        "#",
        "!",
        "\\u00e9",
        "\\u12",
        "\\t",
        "é",
        "\x0b",
        "\u2028",
    ]
    seen = set()
    for _ in range(1500):
        text = "".join(chance.choices(parts, k=chance.randint(1, 14)))
        expected = javas(text)
        assert ours(text) == expected, repr(text)
        seen.add(None if expected is None else len(expected))
    assert seen >= {None, 0, 1, 2, 3}


def certificate(folder: Path, name: str) -> Path:
    """Make a key, and return its certificate; the key is in NAME.p12."""
    options = ["-keystore", f"{folder}/{name}.p12", "-storepass", PASSWORD, "-storetype", "PKCS12", "-alias", name]
    key = ["-genkeypair", "-keyalg", "RSA", "-dname", f"CN={name}", "-ext", "SAN=IP:127.0.0.1", "-validity", "2"]
    for arguments in (key, ["-exportcert", "-rfc", "-file", f"{folder}/{name}.pem"]):
        subprocess.run(["keytool", *arguments, *options], check=True, capture_output=True)
    return folder / f"{name}.pem"


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[KafkaBroker]:
    """A broker that also listens with TLS, to those who know the password."""
    certificate(tmp_path, "broker")
    login = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_shop="{PASSWORD}";'
    settings = {
        "ssl.keystore.location": str(tmp_path / "broker.p12"),
        "ssl.keystore.password": PASSWORD,
        "ssl.keystore.type": "PKCS12",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": login,
    }
    with KafkaBroker(tmp_path / "secured", settings, protocol="SASL_SSL") as running:
        yield running


def test_a_broker_with_tls_and_a_password(
    spark: SparkSession, tmp_path: Path, secured: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.ingestion.topics.SECONDS", 5)
    events = Events(spark, tmp_path, secured)
    events.topics["interactions"].create().send(named("a", "b"))

    def client(password: str, **more: str) -> None:
        login = (
            f'org.apache.kafka.common.security.plain.PlainLoginModule required username="shop" password="{password}";'
        )
        settings = {
            "bootstrap.servers": secured.secured_servers,
            "security.protocol": "SASL_SSL",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(tmp_path / "broker.pem"),
            "sasl.mechanism": "PLAIN",
            "sasl.jaas.config": login,
        }
        file = tmp_path / "secured.properties"
        file.write_text("".join(f"{name}={value}\n" for name, value in (settings | more).items()))
        events.client = str(file)

    client("wrong-password")
    with pytest.raises(ConfigurationError, match="not let in") as told:
        events.ingest(INTERACTIONS)
    assert "wrong-password" not in str(told.value)
    client(PASSWORD, **{"ssl.truststore.location": str(certificate(tmp_path, "other"))})
    with pytest.raises(ConfigurationError, match="not let in"):
        events.ingest(INTERACTIONS)
    client(PASSWORD)
    source = next(i for i in events.context("ingest").inputs if i.name == INTERACTIONS)
    ends = {events.topics["interactions"].name: {"0": 2}}
    assert Topics(client_properties(events.client), no_spark).partitions(source)[1] == ends
    # A kind of file that librdkafka cannot read: the JVM is asked.
    trusted = {"ssl.truststore.type": "PKCS12", "ssl.truststore.location": str(tmp_path / "broker.p12")}
    client(PASSWORD, **trusted, **{"ssl.truststore.password": PASSWORD})
    with pytest.raises(AssertionError, match="Spark has been asked for"):
        Topics(client_properties(events.client), no_spark).partitions(source)
    assert Topics(client_properties(events.client), lambda: spark).partitions(source)[1] == ends
    client(PASSWORD)
    report = events.ingest(INTERACTIONS)
    assert [i for *_, i in events.bronze()] == ["a", "b"]
    assert PASSWORD not in json.dumps(report.as_dict(), default=str)


def test_a_broker_that_wants_a_certificate(tmp_path: Path) -> None:
    certificate(tmp_path, "broker")
    trusted = certificate(tmp_path, "client")
    password = PASSWORD.encode()
    key, own, _ = pkcs12.load_key_and_certificates((tmp_path / "client.p12").read_bytes(), password)
    assert key is not None
    assert own is not None
    (tmp_path / "me.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))
        + own.public_bytes(Encoding.PEM)
    )
    settings = {
        "ssl.keystore.location": str(tmp_path / "broker.p12"),
        "ssl.keystore.password": PASSWORD,
        "ssl.keystore.type": "PKCS12",
        "ssl.client.auth": "required",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(trusted),
    }
    with KafkaBroker(tmp_path / "broker", settings, protocol="SSL") as broker:
        topic = Topic(broker, "certified").create().send(named("a"))
        java = {
            "bootstrap.servers": broker.secured_servers,
            "security.protocol": "SSL",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(tmp_path / "broker.pem"),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(tmp_path / "me.pem"),
            "ssl.key.password": PASSWORD,
        }
        source = an_input(topics=(topic.name,))
        assert Topics(java, no_spark).partitions(source) == ({topic.name: {"0": 0}}, {topic.name: {"0": 1}})


def test_a_broker_that_does_not_answer_is_worth_another_try(
    events: Events, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.ingestion.topics.SECONDS", 2)
    nobody = tmp_path / "nobody.properties"
    nobody.write_text("bootstrap.servers=127.0.0.1:1\nsasl.jaas.config=a secret\n")
    events.client = str(nobody)
    with pytest.raises(ServiceUnavailable, match="Kafka does not answer") as told:
        events.ingest(INTERACTIONS)
    assert "secret" not in str(told.value)
    for text, message in ((None, "cannot be read"), ("a=b", "lacks bootstrap.servers")):
        file = tmp_path / "other.properties"
        if text:
            file.write_text(text)
        events.client = str(file)
        with pytest.raises(ConfigurationError, match=message):
            events.ingest(INTERACTIONS)
