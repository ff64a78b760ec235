"""TLS as stock pika sees it: certificates of the broker and of clients, EXTERNAL, reload, and who knocks at the wrong
port. Certificates are made anew for each run.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import pika.exceptions
import pytest
import trustme

from tests.end_to_end.conftest import REPOSITORY, Program

AUTHORITY = trustme.CA()


class TlsBroker:
    """A broker with TLS in a process of its own."""

    def __init__(self, folder: Path, *options: str, settings: str = "") -> None:
        self.folder = folder
        self.write_certificate(AUTHORITY)
        AUTHORITY.cert_pem.write_to_path(str(folder / "ca.pem"))
        (folder / "settings.toml").write_text(settings)
        self.program = Program(
            [
                sys.executable, "-m", "amqp_broker", "serve", "--port", "0", "--tls-port", "0",
                "--data-dir", str(folder / "data"), "--config", str(folder / "settings.toml"),
                "--tls-certificate", str(folder / "server.pem"), *options,
                *(["--tls-ca", str(folder / "ca.pem")] if "--tls-client-certificate" in options else []),
            ],
            {},
            REPOSITORY,
        )  # fmt: skip
        self.port = self._port("amqp://")
        self.tls_port = self._port("amqps://")
        self.program.expect("ready after")

    def _port(self, scheme: str) -> int:
        found = re.search(rf"{scheme}\S*?:(\d+)", self.program.expect(scheme))
        assert found is not None
        return int(found.group(1))

    def write_certificate(self, authority: trustme.CA) -> None:
        """Put a new certificate in the old one's place."""
        issued = authority.issue_cert("localhost")
        issued.private_key_and_cert_chain_pem.write_to_path(str(self.folder / "server.pem"))

    def parameters(
        self, *, user: str = "guest", certificate: trustme.LeafCert | None = None, authority: trustme.CA = AUTHORITY
    ) -> pika.ConnectionParameters:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        credentials: Any = pika.PlainCredentials(user, "guest")
        if certificate is not None:
            certificate.configure_cert(context)
            credentials = pika.credentials.ExternalCredentials()
        return pika.ConnectionParameters(
            "localhost", self.tls_port, credentials=credentials, ssl_options=pika.SSLOptions(context, "localhost")
        )

    def control(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "amqp_broker", *arguments, "--data-dir", str(self.folder / "data")]
        Program(command, {}, REPOSITORY).finish()


StartBroker = Callable[..., TlsBroker]


@pytest.fixture
def start_broker(tmp_path: Path) -> Iterator[StartBroker]:
    """Starts a broker with TLS; it is killed after the test."""
    started: list[TlsBroker] = []

    def start(*options: str, settings: str = "") -> TlsBroker:
        started.append(TlsBroker(tmp_path, *options, settings=settings))
        return started[-1]

    yield start
    for broker in started:
        broker.program.kill()


def round_trip(connection: pika.BlockingConnection, body: bytes) -> bytes:
    """Publish a message with a confirm and get it back."""
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("tls")
    channel.basic_publish("", "tls", body)
    _, _, received = channel.basic_get("tls", auto_ack=True)
    channel.close()
    assert isinstance(received, bytes)
    return received


def test_messages_over_tls_reload_and_wrong_ports(start_broker: StartBroker) -> None:
    """In one, because each broker takes a while to start."""
    broker = start_broker()
    with pika.BlockingConnection(broker.parameters()) as connection:
        for body in (b"", b"a message", os.urandom(3_000_000)):
            assert round_trip(connection, body) == body

        # A certificate of another authority; who is connected notices nothing
        other = trustme.CA()
        broker.write_certificate(other)
        broker.program.signal(signal.SIGHUP)
        broker.program.expect("certificates reloaded")
        assert round_trip(connection, b"still here") == b"still here"
        with pika.BlockingConnection(broker.parameters(authority=other)) as newcomer:
            assert round_trip(newcomer, b"new") == b"new"
        with pytest.raises(ssl.SSLCertVerificationError):
            pika.BlockingConnection(broker.parameters())
        broker.program.expect("TLS handshake failed")

        # One that cannot be used: the one before stays
        (broker.folder / "server.pem").write_text("no certificate")
        broker.program.signal(signal.SIGHUP)
        broker.program.expect("certificates not reloaded")
        with pika.BlockingConnection(broker.parameters(authority=other)) as newcomer:
            assert round_trip(newcomer, b"newer") == b"newer"

        with socket.create_connection(("127.0.0.1", broker.tls_port)) as plain:
            plain.sendall(b"AMQP\0\0\x09\x01")
            assert plain.recv(100) == b""
        assert "a client without TLS on the TLS port" in broker.program.expect("connection failed")
        with socket.create_connection(("127.0.0.1", broker.port)) as wrong, pytest.raises(ssl.SSLError):
            ssl.create_default_context().wrap_socket(wrong, server_hostname="localhost")
        assert "a TLS client on a port without TLS" in broker.program.expect("connection failed")

        context = ssl.create_default_context()
        other.configure_trust(context)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        raw = socket.create_connection(("127.0.0.1", broker.tls_port))
        with context.wrap_socket(raw, server_hostname="localhost") as old:
            assert old.version() == "TLSv1.2"
            old.sendall(b"AMQP\0\0\x09\x01")
            assert old.recv(1) == b"\x01"


@pytest.mark.slow
def test_a_reload_under_traffic(start_broker: StartBroker) -> None:
    broker = start_broker()
    reloads, published = 10, 0
    with pika.BlockingConnection(broker.parameters()) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("traffic")
        for number in range(reloads):
            broker.write_certificate(AUTHORITY)
            broker.program.signal(signal.SIGHUP)
            for _ in range(20):  # while it reads the files, most likely; confirmed one by one
                channel.basic_publish("", "traffic", str(published).encode() * 1000)
                published += 1
            broker.program.expect("certificates reloaded")
            with pika.BlockingConnection(broker.parameters()) as newcomer:
                assert round_trip(newcomer, str(number).encode()) == str(number).encode()
        bodies = [channel.basic_get("traffic", auto_ack=True)[2] for _ in range(published)]
        assert bodies == [str(number).encode() * 1000 for number in range(published)]


def test_external_by_common_name(start_broker: StartBroker) -> None:
    broker = start_broker("--tls-client-certificate", "required")
    broker.control("users", "add", "device-7", "--no-password")
    broker.control("permissions", "set", "device-7", ".*", ".*", ".*")
    certificate = AUTHORITY.issue_cert("device.example", common_name="device-7")
    with pika.BlockingConnection(broker.parameters(certificate=certificate)) as connection:
        assert round_trip(connection, b"mine") == b"mine"
    stranger = AUTHORITY.issue_cert("device.example", common_name="stranger")
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        pika.BlockingConnection(broker.parameters(certificate=stranger))
    for refused in (None, trustme.CA().issue_cert("device.example", common_name="device-7")):
        with pytest.raises(pika.exceptions.AMQPError):
            pika.BlockingConnection(broker.parameters(certificate=refused))


def test_external_by_alternative_name_and_proxy_protocol(start_broker: StartBroker) -> None:
    settings = 'tls_login_from = "san_dns"\nproxy_protocol = "required"\n'
    broker = start_broker("--tls-client-certificate", "optional", settings=settings)
    broker.control("users", "add", "device.example", "--no-password")
    broker.control("permissions", "set", "device.example", ".*", ".*", ".*")
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    AUTHORITY.issue_cert("device.example").configure_cert(context)
    v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack(">H4s4sHH", 12, b"\x0a\0\0\x07", b"\x0a\0\0\x01", 4711, 5671)
    for header in (b"PROXY TCP4 10.0.0.7 10.0.0.1 4711 5671\r\n", v2):
        with socket.create_connection(("127.0.0.1", broker.tls_port)) as raw:
            raw.sendall(header)
            with context.wrap_socket(raw, server_hostname="localhost") as client:
                client.sendall(b"AMQP\0\0\x09\x01")
                assert b"PLAIN AMQPLAIN EXTERNAL" in client.recv(4096)
        assert "peer=10.0.0.7:4711" in broker.program.expect("connection failed")
    with socket.create_connection(("127.0.0.1", broker.port)) as raw:
        raw.sendall(b"AMQP\0\0\x09\x01more")
        assert raw.recv(1) == b""
    assert "no header of the PROXY protocol" in broker.program.expect("connection failed")


def test_a_certificate_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "amqp_broker", "serve", "--port", "0", "--data-dir", str(tmp_path / "data")]
    program = Program([*command, "--tls-certificate", str(tmp_path / "absent.pem")], {}, REPOSITORY)
    line = program.expect("cannot be used for TLS")
    assert "absent.pem" in line
    assert "No such file" in line
    program.finish(exit_code=2)
    assert not (tmp_path / "data").exists()
