"""Properties files and settings of Java's Kafka clients, as librdkafka takes them. The rules of java.util.Properties themselves
are asked in tests/spark/test_kafka.py."""

from __future__ import annotations

import pytest
from confluent_kafka.admin import AdminClient
from lakehouse.errors import ConfigurationError
from lakehouse.ingestion.librdkafka import properties, translated
from lakehouse.ingestion.topics import client_properties

BASE = {"bootstrap.servers": "a:1,b:2"}
PLAIN = 'org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="p=;, w";'
SCRAM = 'org.apache.kafka.common.security.scram.ScramLoginModule required\n  password="p"\n  username="u" ;'


def test_a_properties_file() -> None:
    text = "# a comment \\\n! another\nbootstrap.servers = a:1,\\\n    b:2\nclient.id:x y \nempty\n\\ key\\==\\u00e9\\t!\nclient.id z\n"
    assert properties(text) == {
        "bootstrap.servers": "a:1,b:2",
        "client.id": "z",
        "empty": "",
        " key=": "é\t!",
    }
    with pytest.raises(ValueError, match="malformed"):
        properties("a=\\u12")


@pytest.mark.parametrize(
    ("java", "expected"),
    [
        ({}, {}),
        ({"client.id": "x", "request.timeout.ms": "9000"}, {"client.id": "x", "socket.timeout.ms": "9000"}),
        ({"fetch.max.bytes": "1", "max.poll.records": "2", "default.api.timeout.ms": "3", "isolation.level": "read_committed"}, {}),
        # What is not used is not looked at.
        ({"sasl.jaas.config": "?", "ssl.truststore.location": "x.jks"}, {}),
        (
            {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.jaas.config": PLAIN},
            {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "u", "sasl.password": "p=;, w"},
        ),
        (
            {"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512", "sasl.jaas.config": SCRAM,
             "ssl.truststore.type": "PEM", "ssl.truststore.location": "/ca.pem"},
            {"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "u", "sasl.password": "p",
             "ssl.ca.location": "/ca.pem", "ssl.endpoint.identification.algorithm": "https"},
        ),
        (
            {"security.protocol": "SSL", "ssl.endpoint.identification.algorithm": "", "ssl.keystore.type": "PEM",
             "ssl.keystore.location": "/me.pem", "ssl.key.password": "k"},
            {"security.protocol": "SSL", "ssl.endpoint.identification.algorithm": "none", "ssl.key.location": "/me.pem",
             "ssl.certificate.location": "/me.pem", "ssl.key.password": "k"},
        ),
        (
            {"security.protocol": "SSL", "ssl.truststore.type": "PEM", "ssl.truststore.certificates": "C"},
            {"security.protocol": "SSL", "ssl.endpoint.identification.algorithm": "https", "ssl.ca.pem": "C"},
        ),
    ],
)  # fmt: skip
def test_what_has_an_equal(java: dict[str, str], expected: dict[str, str]) -> None:
    made = translated(BASE | java)
    assert made == BASE | expected
    if "/" not in str(expected) and "ssl.ca.pem" not in expected:
        # librdkafka knows every one of them.
        AdminClient({**made, "log_level": 0})


@pytest.mark.parametrize(
    "java",
    [
        {"security.protocol": "SOMETHING"},
        {"security.providers": "x"},
        {"dns.of.somebody": "x"},
        {"security.protocol": "SSL", "ssl.truststore.location": "/t.jks"},
        {"security.protocol": "SSL", "ssl.truststore.location": "/t.p12", "ssl.truststore.type": "PKCS12"},
        {"security.protocol": "SSL", "ssl.keystore.location": "/t.jks", "ssl.keystore.password": "p"},
        {"security.protocol": "SSL", "ssl.truststore.type": "PEM", "ssl.truststore.location": "/t.pem", "ssl.truststore.password": "p"},
        {"security.protocol": "SSL", "ssl.cipher.suites": "x"},
        {"security.protocol": "SSL", "ssl.endpoint.identification.algorithm": "ldaps"},
        {"security.protocol": "SASL_SSL", "sasl.jaas.config": PLAIN},
        {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"},
        {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.jaas.config": SCRAM},
        {"security.protocol": "SASL_SSL", "sasl.mechanism": "GSSAPI", "sasl.jaas.config": PLAIN},
        {"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER", "sasl.login.callback.handler.class": "x"},
        {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.jaas.config": PLAIN, "sasl.client.callback.handler.class": "x"},
        {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.jaas.config": PLAIN.replace("p=", "p\\\\=")},
        {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.jaas.config": PLAIN.replace(' username="u"', "")},
        {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.jaas.config": PLAIN.replace("required", 'required username="v"')},
        {"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-256", "sasl.jaas.config": SCRAM.replace(" ;", ' tokenauth="true";')},
        {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.jaas.config": PLAIN + PLAIN},
    ],
)  # fmt: skip
def test_what_has_none_is_not_guessed(java: dict[str, str]) -> None:
    assert translated(BASE | java) is None


def test_kafka_is_not_read_through_spark_connect(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "client.properties"
    file.write_text("bootstrap.servers=127.0.0.1:1\n")
    assert client_properties(str(file)) == {"bootstrap.servers": "127.0.0.1:1"}
    monkeypatch.setenv("SPARK_REMOTE", "sc://localhost")
    with pytest.raises(ConfigurationError, match="not through Spark Connect"):
        client_properties(str(file))
