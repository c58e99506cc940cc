"""A real Kafka broker on the loopback address, without Docker: `bin/setup-kafka` fetches it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from loopback import free_port, listens

JARS = Path(__file__).resolve().parents[1] / "var/kafka"


class KafkaBroker:
    """One broker that is its own controller, for as long as the ``with`` block lasts."""

    def __init__(self, folder: Path, settings: dict[str, str] | None = None, protocol: str | None = None) -> None:
        """``protocol``, such as SASL_SSL, is that of another listener, which ``settings`` say more of."""
        self.folder, self._port = folder, free_port()
        self.secured_servers = f"127.0.0.1:{free_port()}"
        secured = f",{protocol}://{self.secured_servers}" if protocol else ""
        self.servers = f"127.0.0.1:{self._port}"
        self.client_properties = folder / "client.properties"
        controller = free_port()
        self._settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://{self.servers},CONTROLLER://127.0.0.1:{controller}{secured}",
            "advertised.listeners": f"PLAINTEXT://{self.servers}{secured}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(folder / "logs"),
            # By default a message is deleted a week after its timestamp, which replayed events have long behind them.
            "log.retention.ms": "-1",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "num.partitions": "3",
            "auto.create.topics.enable": "false",
        } | (settings or {})
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> KafkaBroker:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write("server.properties", self._settings)
        self._write("client.properties", {"bootstrap.servers": self.servers})
        format_ = ["format", "-t", "bGFrZWhvdXNlLWJyb2tlcg", "-c", str(self.folder / "server.properties")]
        done = subprocess.run(self._java("kafka.tools.StorageTool", *format_), capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"the broker's folder cannot be made:\n{done.stdout}{done.stderr}")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self, seconds: float = 60) -> None:
        """Start, or start again after ``kill``; returns when it listens."""
        with (self.folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", str(self.folder / "server.properties")),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._process.poll() is None:
            if listens(self._port):
                return
            time.sleep(0.1)
        self.kill()
        raise TimeoutError(f"the broker did not start:\n{(self.folder / 'broker.log').read_text()[-3000:]}")

    def kill(self) -> None:
        """kill -9; what it has acknowledged is on disk."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _write(self, name: str, settings: dict[str, str]) -> None:
        (self.folder / name).write_text("".join(f"{key}={value}\n" for key, value in settings.items()))

    def _java(self, class_name: str, *arguments: str) -> list[str]:
        home = os.environ.get("JAVA_HOME")
        java = str(Path(home) / "bin/java") if home else "java"
        return [java, "-Xmx384m", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/*", class_name, *arguments]
