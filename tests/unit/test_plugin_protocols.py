"""Protocols that packages bring: the setting, the listener, what a connection may do. The package is examples/plugins.

As a wheel, with the other kinds of plugins: ``tests/testing/test_example_project.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from amqp_broker.access.client import Peer
from amqp_broker.broker.observer import Onlooker
from amqp_broker.network.listeners import CannotListen
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.server.plugin_protocols import PluginListener, plugin_connections, plugin_listeners
from amqp_broker.settings import Settings
from tests.support.client import Client
from tests.support.memory_broker import MemoryBroker
from tests.support.served import on_a_jumping_clock, serving, until

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "plugins"
LINES = "example_plugins.line_protocol:LineConnection"
FAR_AWAY = Peer.at("192.0.2.1", 50_000, "192.0.2.2", 7000)
LOOPBACK = Peer.at("127.0.0.1", 50_000, "127.0.0.1", 7000)


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example as it is when it is installed, and one that cannot be used."""
    metadata = tmp_path / "example_plugins-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: example-plugins\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        f"[amqp_broker.protocols]\nlines = {LINES}\nmissing = no_such_module:Connection\nwrong = builtins:int\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(EXAMPLE))


class LineClient:
    """A client without a socket."""

    def __init__(self, broker: MemoryBroker, peer: Peer = LOOPBACK) -> None:
        make = plugin_connections(Settings(plugin_protocols=("lines:0",)))["lines"]
        self.connection: Any = make(broker, peer, lambda: None)

    def says(self, data: bytes) -> bytes:
        self.connection.receive(data)
        return self.heard()

    def heard(self) -> bytes:
        data = b"".join(self.connection.take_output())
        self.connection.output_sent(len(data))
        return data


@pytest.fixture
def client(broker: MemoryBroker) -> LineClient:
    """A client who has logged in."""
    client = LineClient(broker)
    assert client.says(b"login guest guest\n") == b"ok\n"
    return client


def test_a_message_goes_in_and_out(broker: MemoryBroker, client: LineClient) -> None:
    Client(broker).open().channel().declare("q")
    assert client.says(b"put q one\nput q tw") == b"ok\n"
    assert client.says(b"o\nget q\nget q\nget q\n") == b"ok\nitem one\nitem two\nnone\n"
    assert client.says(b"put nowhere one\nsing\n\n").startswith(b"ok\nno there is no sing: ")
    info = client.connection.inspect()
    assert (info["protocol"], info["user"], info["state"]) == ("lines", "guest", "running")
    (channel,) = client.connection.inspect_channels()
    assert channel["message_stats"]["publish"] == 3
    assert channel["message_stats"]["get_no_ack"] == 2
    assert client.says(b"bye\nput q three\n") == b""
    assert client.connection.finished
    assert client.connection not in broker.open_connections


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"put q x\n", b"no log in first\n"),
        (b"login guest wrong\n", b"no access refused\n"),
        (b"x" * 70_000, b"no the line is too long\n"),
    ],
)
def test_who_may_not_is_told_why_and_leaves(broker: MemoryBroker, said: bytes, answer: bytes) -> None:
    client = LineClient(broker)
    assert client.says(said) == answer
    assert client.connection.finished


def test_a_user_of_this_machine_alone_stays_there(broker: MemoryBroker) -> None:
    assert LineClient(broker, FAR_AWAY).says(b"login guest guest\n").startswith(b"no ")


def test_a_queue_that_is_not_there_ends_the_connection(broker: MemoryBroker, client: LineClient) -> None:
    assert client.says(b"get nowhere\n") == b"no no queue 'nowhere' in vhost '/'\n"
    assert client.connection.finished
    client.connection.lost("the client has left")
    client.connection.detach()


def test_one_that_cannot_say_why_it_ends_holds_up_no_administrator(
    broker: MemoryBroker, client: LineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(reason: str) -> None:
        raise RuntimeError("no words")

    monkeypatch.setattr(client.connection, "refused", fails)
    client.connection.close_forcibly("enough")
    assert client.connection.is_closed
    assert client.connection not in broker.open_connections
    with pytest.raises(RuntimeError, match="no words"):
        client.heard()  # as the pump does, which logs it


def test_those_who_look_on_see_it(broker: MemoryBroker) -> None:
    seen: list[str] = []

    class Seen(Onlooker):
        of_messages = True

        def published(self, channel: Any, passage: Any) -> None:
            seen.append(f"published {channel.inspect()['number']} {passage.body!r}")

        def delivered(self, channel: Any, queue: Any, message: Any, consumer: Any, *, no_ack: bool) -> None:
            seen.append(f"delivered {queue.name}")

        def opened(self, connection: Any, channel: Any = None) -> None:
            seen.append(f"opened {connection.user_name}")

        def closed(self, connection: Any, channel: Any, reason: str) -> None:
            seen.append(f"closed {reason}")

    broker.observers.add(Seen(), of_messages=True)
    client = LineClient(broker)
    client.says(b"login guest guest\n")
    Client(broker).open().channel().declare("q")
    client.says(b"put q one\nget q\n")
    client.connection.close_forcibly("enough")
    assert [one for one in seen if "opened" not in one] == ["published 1 b'one'", "delivered q", "closed enough"]
    assert client.heard().endswith(b"no enough\n")


def test_a_setting_gives_it_a_listener() -> None:
    @on_a_jumping_clock
    async def test() -> None:
        async with serving(plugin_protocols=("lines:0",)) as served:
            (port,) = {one.port for one in served.server.endpoints if one.protocol == "lines"}
            stream = await served.connect(port=port)
            await stream.send_all(b"login guest guest\nget q\n")
            said = b""
            while part := bytes(await stream.receive_some(1000)):
                said += part
            assert said == b"ok\nno no queue 'q' in vhost '/'\n"
            await stream.aclose()
            await until(lambda: not served.server.client_count)

    test()


@on_a_jumping_clock
async def test_it_is_spoken_where_another_process_listens_or_a_node_of_a_cluster() -> None:
    server = BrokerServer(Settings(plugin_protocols=("lines:0",)))
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(server.serve_stream, theirs, LOOPBACK, "lines")
        await ours.send_all(b"login guest guest\n")
        assert await ours.receive_some(1000) == b"ok\n"
        nursery.cancel_scope.cancel()


def test_one_that_exits_ends_its_own_connection_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def exits(self: object, item: object) -> None:
        raise SystemExit("enough")

    @on_a_jumping_clock
    async def test() -> None:
        async with serving(plugin_protocols=("lines:0",)) as served:
            (port,) = {one.port for one in served.server.endpoints if one.protocol == "lines"}
            stream = await served.connect(port=port)
            monkeypatch.setattr("example_plugins.line_protocol.LineConnection.handle", exits)
            await stream.send_all(b"login guest guest\n")
            assert await stream.receive_some(1000) == b""
            await stream.aclose()
            await until(lambda: not served.server.client_count)
            monkeypatch.undo()
            stream = await served.connect(port=port)
            await stream.send_all(b"login guest guest\n")
            assert await stream.receive_some(1000) == b"ok\n"
            await stream.aclose()

    test()


def test_the_setting_says_where_it_is_spoken() -> None:
    assert plugin_listeners(Settings()) == []
    assert plugin_listeners(Settings(plugin_protocols=("lines:7000",))) == [PluginListener("lines", 7000, False)]


def refused(make: Callable[[Settings], object], *protocols: str) -> str:
    with pytest.raises(CannotListen) as told:
        make(Settings(plugin_protocols=protocols))
    return str(told.value)


@pytest.mark.parametrize("text", ["lines", ":1", "lines:", "lines:70000", "lines:1:ssl", "lines:1:tls:x", "lines:٣"])
def test_a_mistake_in_the_setting_is_told(text: str) -> None:
    assert refused(plugin_listeners, text) == f"plugin_protocols has {text!r}: write NAME:PORT, or NAME:PORT:tls"


def test_what_cannot_be_had_ends_the_start() -> None:
    assert "TLS is off: name a certificate" in refused(plugin_listeners, "lines:1:tls")
    assert "names 'mqtt', which is no package's" in refused(plugin_listeners, "mqtt:1")
    assert refused(plugin_connections, "linse:1").endswith("which no installed package brings: did you mean lines?")
    assert "protocol 'missing' of example-plugins 1.0 cannot be loaded from no_such_module:Connection" in refused(
        plugin_connections, "missing:1"
    )


def test_one_whose_code_fails_is_named(broker: MemoryBroker, caplog: pytest.LogCaptureFixture) -> None:
    make = plugin_connections(Settings(plugin_protocols=("wrong:1",)))["wrong"]
    with pytest.raises(Exception, match=r"protocol 'wrong' of example-plugins 1.0 could not be made: TypeError"):
        make(broker, LOOPBACK, lambda: None)
    assert caplog.records[0].__dict__["fields"]["type"] == "wrong"
