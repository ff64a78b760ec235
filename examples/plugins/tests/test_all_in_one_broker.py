"""All of the plugins in one broker that serves, as its clients see them."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pika
import pika.exceptions
import pytest


class Serving:
    """``amqp-broker serve`` in a folder of its own, with everything switched on."""

    def __init__(self, folder: Path) -> None:
        (folder / "guests").write_text("ada secret\n")
        settings = {
            "AMQP_BROKER_AUTH_BACKENDS": "internal,guest-list",
            "AMQP_BROKER_PLUGIN_PROTOCOLS": "lines:0",
            "AMQP_BROKER_MANAGEMENT_PORT": "-1",
            "AMQP_BROKER_METRICS_PORT": "-1",
            "AMQP_BROKER_HOST": "127.0.0.1",
            "GUEST_LIST": str(folder / "guests"),
        }
        environment = {**os.environ, **settings}
        command = [sys.executable, "-m", "amqp_broker"]
        for name in ("tenant", "audit"):
            subprocess.run([*command, "plugins", "enable", name, "--data-dir", folder / "data"], check=True)
        self.log = folder / "log"
        with self.log.open("wb") as log:
            serve = [*command, "serve", "--port", "0", "--data-dir", str(folder / "data")]
            self.process = subprocess.Popen(serve, env=environment, stdout=log, stderr=log)

    def port(self, protocol: str) -> int:
        """The port that the log says."""
        while self.process.poll() is None:
            found = re.search(rf"\b{protocol}://127\.0\.0\.1:(\d+)", self.log.read_text())
            if found:
                return int(found[1])
        raise AssertionError(self.log.read_text())

    def connect(self, user: str, password: str) -> pika.BlockingConnection:
        """A client of AMQP."""
        credentials = pika.PlainCredentials(user, password)
        return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", self.port("amqp"), "/", credentials))


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    broker = Serving(tmp_path)
    yield broker
    broker.process.terminate()
    broker.process.wait(30)


def test_each_does_its_part(serving: Serving) -> None:
    with serving.connect("guest", "guest") as connection:
        connection.channel().queue_declare("ada.inbox", durable=True)
    assert "guest declared the queue ada.inbox" in serving.log.read_text()

    with socket.create_connection(("127.0.0.1", serving.port("lines"))) as client, client.makefile("rwb", 0) as lines:
        lines.write(b"login ada secret\nput ada.inbox hello\nget ada.inbox\nget ada.inbox\nput ada.inbox more\n")
        assert [lines.readline() for _ in range(5)] == [b"ok\n", b"ok\n", b"item hello\n", b"none\n", b"ok\n"]
        lines.write(b"get bob.inbox\n")
        assert lines.readline().startswith(b"no read access to queue 'bob.inbox'")
        assert lines.readline() == b""

    with serving.connect("ada", "secret") as connection:
        _, properties, body = connection.channel().basic_get("ada.inbox", auto_ack=True)
        assert (properties.headers, body) == ({"tenant": "ada"}, b"more")
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        serving.connect("ada", "wrong")
