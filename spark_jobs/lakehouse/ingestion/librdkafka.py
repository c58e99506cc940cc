"""The settings of Java's Kafka clients, for librdkafka: what has an equal there, and nothing that would be a guess.

The file that ``--kafka`` names is one of Java's clients, because Spark reads topics by Java's. To ask how far topics
reach needs no JVM, if librdkafka can be told to connect in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

SAME = {
    *("bootstrap.servers", "client.id", "client.dns.lookup", "metadata.max.age.ms"),
    *("connections.max.idle.ms", "reconnect.backoff.ms", "reconnect.backoff.max.ms", "retry.backoff.ms"),
    *("retry.backoff.max.ms", "security.protocol", "socket.connection.setup.timeout.ms", "enable.metrics.push"),
}
RENAMED = {
    "request.timeout.ms": "socket.timeout.ms",
    "receive.buffer.bytes": "socket.receive.buffer.bytes",
    "send.buffer.bytes": "socket.send.buffer.bytes",
}
ABOUT_MESSAGES = re.compile(
    r"fetch\..*|max\.(poll|partition)\..*|check\.crcs|client\.rack|group\.id|session\.timeout\.ms|heartbeat\.interval\.ms"
    r"|isolation\.level|default\.api\.timeout\.ms|metrics?\..*"
)
"""Settings that only matter to who reads messages; and two that librdkafka is told with each question."""
LOGINS = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
}
LOGIN = re.compile(r'\s*([\w.$]+)\s+required((?:\s+\w+\s*=\s*"[^"\\\r\n]*")*)\s*;\s*', re.ASCII)
OPTION = re.compile(r'(\w+)\s*=\s*"([^"]*)"', re.ASCII)


def properties(text: str) -> dict[str, str]:
    """What a properties file holds, by the rules of ``java.util.Properties``.

    Raises:
        ValueError: a ``\\u`` is not followed by four hexadecimal digits.
    """
    found = {}
    for line in _lines(text):
        split = re.fullmatch(r"((?:\\.|[^\\=: \t\f])*)[ \t\f]*[=:]?[ \t\f]*(.*)", line, re.DOTALL)
        assert split is not None
        found[_plain(split[1])] = _plain(split[2])
    return found


def _lines(text: str) -> Iterator[str]:
    """Lines without comments and empty ones; one that ends in a backslash is joined with the next."""
    line, naturals = "", [part.lstrip(" \t\f") for part in re.split(r"\r\n|\r|\n", text)]
    # Java takes no notice of a line break of one character at the very end.
    last = len(naturals) - (naturals[-1] == "" and not text.endswith("\r\n"))
    for number, natural in enumerate(naturals, 1):
        if not line and natural[:1] in ("#", "!"):
            continue
        line += natural
        if (len(natural) - len(natural.rstrip("\\"))) % 2:
            line = line[:-1]
            if number < last:
                continue
            # Of the last line, a backslash alone is an empty key.
            yield line
        elif line:
            yield line
        line = ""
    if line:
        yield line


def _plain(text: str) -> str:
    """A key or a value without its escapes."""

    def plain(match: re.Match[str]) -> str:
        if match[1] != "u":
            return {"t": "\t", "r": "\r", "n": "\n", "f": "\f"}.get(match[1], match[1])
        if match[2] is None:
            raise ValueError("malformed \\uxxxx")
        return chr(int(match[2], 16))

    unescaped = re.sub(r"\\(u(?=([0-9A-Fa-f]{4})?)|.)(?(2)\2)", plain, text, flags=re.DOTALL)
    # Java's characters are halves of those beyond the first 65,536.
    return unescaped.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def translated(java: Mapping[str, str]) -> dict[str, str] | None:
    """The same connection in librdkafka's settings; None if one of them has no equal that is sure."""
    protocol = java.get("security.protocol", "PLAINTEXT").upper()
    encrypted, login = protocol.endswith("SSL"), protocol.startswith("SASL_")
    if protocol not in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"):
        return None
    made: dict[str, str] = {}
    for name, value in java.items():
        if name in SAME:
            made[name] = value
        elif name in RENAMED:
            made[RENAMED[name]] = value
        elif not name.startswith(("ssl.", "sasl.")) and not ABOUT_MESSAGES.fullmatch(name):
            return None
    for needed, prefix, of in ((encrypted, "ssl.", _encryption), (login, "sasl.", _login)):
        if needed:
            settings = of({name: value for name, value in java.items() if name.startswith(prefix)})
            if settings is None:
                return None
            made |= settings
    return made


def _encryption(java: dict[str, str]) -> dict[str, str] | None:
    """Whom to trust, and who we are, where both are told as PEM. Without the first, it is whom the system trusts."""
    made: dict[str, str] = {}
    check = java.pop("ssl.endpoint.identification.algorithm", "https").lower()
    if check not in ("", "https"):
        return None
    made["ssl.endpoint.identification.algorithm"] = check or "none"
    for store in ("truststore", "keystore"):
        if java.pop(f"ssl.{store}.type", "").upper() != "PEM" and any(n.startswith(f"ssl.{store}.") for n in java):
            return None
    names = {
        "ssl.truststore.location": ("ssl.ca.location",),
        "ssl.truststore.certificates": ("ssl.ca.pem",),
        # Java wants the key and its certificates in one file.
        "ssl.keystore.location": ("ssl.key.location", "ssl.certificate.location"),
        "ssl.keystore.key": ("ssl.key.pem",),
        "ssl.keystore.certificate.chain": ("ssl.certificate.pem",),
        "ssl.key.password": ("ssl.key.password",),
    }
    for name, value in java.items():
        if name not in names:
            return None
        made |= dict.fromkeys(names[name], value)
    return made


def _login(java: dict[str, str]) -> dict[str, str] | None:
    """A name and a password."""
    mechanism = java.pop("sasl.mechanism", "GSSAPI")
    told = LOGIN.fullmatch(java.pop("sasl.jaas.config", ""))
    if java or told is None or LOGINS.get(mechanism) != told[1]:
        return None
    options = OPTION.findall(told[2])
    if sorted(name for name, _ in options) != ["password", "username"]:
        return None
    return {"sasl.mechanism": mechanism} | {f"sasl.{name}": value for name, value in options}
