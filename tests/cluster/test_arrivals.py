"""A client whose conversation begins at one broker and goes on at another notices nothing, in any protocol."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio.testing
from pamqp import commands, frame

from amqp_broker.access.passwords import SHA256
from amqp_broker.broker.broker import Broker
from amqp_broker.network.listeners import AMQP, MQTT, STOMP, STREAMS
from amqp_broker.protocols.amqp10.frames import AMQP_HEADER
from amqp_broker.protocols.stream.connection import BEAT
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.server.sharding import arrivals
from amqp_broker.server.sharding.arrivals import Arrival, Continued, Entrance, Heard, settings_of_entrance
from amqp_broker.settings import Settings
from amqp_broker.wire.frames import HEARTBEAT_FRAME
from tests.support.amqp10_client import Amqp10Client
from tests.support.client import LOOPBACK, PROTOCOL_HEADER
from tests.support.memory_broker import MemoryBroker
from tests.support.served import QUIET, TrioClock, on_a_jumping_clock
from tests.support.stream_client import StreamClient

HOST = "a"
PAUSE_S = 0.6  # where a script says nothing: time for a heartbeat
Script = Sequence[bytes]


def with_host(broker: Broker) -> Broker:
    broker.administration.change_password("guest", "guest", algorithm=SHA256)  # verified at once, without a thread
    broker.administration.add_virtual_host(HOST)
    broker.administration.set_permission("guest", HOST, ".*", ".*", ".*")
    return broker


class RecordedStreamClient(StreamClient):
    """Keeps what it writes."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        super().__init__(with_host(MemoryBroker()), logs_in=False)

    def write(self, data: bytes) -> None:
        self.written.append(data)
        super().write(data)


class RecordedAmqp10Client(Amqp10Client):
    """Likewise."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        super().__init__(with_host(MemoryBroker()))

    def write(self, data: bytes) -> None:
        self.written.append(data)
        super().write(data)


def streams_script() -> Script:
    client = RecordedStreamClient()
    client.log_in(vhost=HOST)
    client.create("s")
    return client.written


def amqp10_script() -> Script:
    client = RecordedAmqp10Client()
    client.open(f"vhost:{HOST}")
    client.begin()
    assert any(AMQP_HEADER in data for data in client.written)
    return client.written


def amqp_script(password: str = "guest", host: str = HOST, heartbeat_s: int = 0) -> Script:
    return [
        PROTOCOL_HEADER,
        frame.marshal(commands.Connection.StartOk({"capabilities": {}}, "PLAIN", f"\0guest\0{password}", "en_US"), 0),
        frame.marshal(commands.Connection.TuneOk(2047, 131072, heartbeat_s), 0),
        *([b"", HEARTBEAT_FRAME] if heartbeat_s else []),
        frame.marshal(commands.Connection.Open(host), 0),
        frame.marshal(commands.Channel.Open(), 1) + frame.marshal(commands.Queue.Declare(queue="q"), 1),
    ]


def mqtt_script(flags: int = 0xC2) -> Script:
    payload = b"".join(len(text).to_bytes(2, "big") + text for text in (b"id", b"a:guest", b"guest"))
    connect = b"\0\4MQTT\4" + bytes((flags,)) + b"\0\0" + payload
    return [bytes((0x10, len(connect))) + connect, b"\xc0\0"]


def stomp_script() -> Script:
    connect = b"CONNECT\naccept-version:1.2\nhost:a\nlogin:guest\npasscode:guest\n\n\0"
    return [connect, b"SEND\ndestination:/queue/q\nreceipt:1\n\nhello\0"]


def streams_script_with_heartbeats() -> Script:
    script = streams_script()
    return [*script[:3], script[3][:-4] + (1).to_bytes(4, "big"), b"", BEAT, *script[4:]]  # the fourth is Tune


SCRIPTS = {
    "AMQP 0-9-1": (AMQP, amqp_script()),
    "AMQP 0-9-1 in one write": (AMQP, [b"".join(amqp_script())]),
    "AMQP 0-9-1 in bytes": (AMQP, [bytes((one,)) for data in amqp_script() for one in data]),
    "AMQP 0-9-1 with heartbeats before it is let in": (AMQP, amqp_script(heartbeat_s=1)),
    "AMQP 1.0": (AMQP, amqp10_script()),
    "AMQP 1.0 in one write": (AMQP, [b"".join(amqp10_script())]),
    "MQTT": (MQTT, mqtt_script()),
    "MQTT, to a session that stays": (MQTT, mqtt_script(0xC0)),
    "STOMP": (STOMP, stomp_script()),
    "stream protocol": (STREAMS, streams_script()),
    "stream protocol with heartbeats before it is let in": (STREAMS, streams_script_with_heartbeats()),
}
REFUSED = {
    "wrong password": (AMQP, amqp_script("wrong")),
    "no such virtual host": (AMQP, amqp_script(host="b")),
    "no AMQP": (AMQP, [b"GET / HTTP/1.1\r\n\r\n"]),
    "wrong passcode": (STOMP, [stomp_script()[0].replace(b"passcode:guest", b"passcode:wrong")]),
}


@asynccontextmanager
async def running(*, is_entrance: bool = False) -> AsyncIterator[BrokerServer]:
    """A server that does not listen."""
    settings = Settings(**QUIET)
    server = BrokerServer(settings_of_entrance(settings) if is_entrance else settings, TrioClock())
    with_host(server.broker)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        yield server
        nursery.cancel_scope.cancel()


async def heard_of(client: trio.abc.Stream, script: Script) -> bytes:
    """All that a client hears that says one thing after the other."""
    heard = bytearray()

    async def listen() -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await client.receive_some(65_536):
                heard.extend(data)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        for data in script:
            if not data:
                await trio.sleep(PAUSE_S)
                continue
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await client.send_all(data)
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    await client.aclose()
    return re.sub(rb"session:[^\n]*", b"session:", heard)  # a word that STOMP has for each connection


async def directly(protocol: str, script: Script) -> bytes:
    """What a client hears of one broker."""
    async with running() as server, trio.open_nursery() as nursery:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(server.serve_stream, theirs, LOOPBACK, protocol)
        heard = await heard_of(ours, script)
        nursery.cancel_scope.cancel()
    return heard


async def by_way_of(protocol: str, script: Script, *, is_carried: bool = True) -> tuple[bytes, Arrival | None]:
    """What it hears when it comes to another one first, and where it wanted to be."""
    arrivals: list[Arrival | None] = []
    async with running(is_entrance=True) as first, running() as server, trio.open_nursery() as nursery:
        entrance = Entrance(first)

        async def receive(stream: trio.abc.Stream) -> None:
            arrival = await entrance.receive(stream, LOOPBACK, protocol)
            arrivals.append(arrival)
            if arrival is not None:
                assert not first.broker.open_connections, "it is still there where nobody asks it any more"
                assert len(first.broker.virtual_hosts[HOST].client_sessions) == 0
                beginning = Heard(arrival, protocol)
                if is_carried:
                    await server.serve_stream(Continued(stream, beginning), LOOPBACK, protocol)
                else:
                    await server.serve_stream(stream, LOOPBACK, protocol, beginning)
            await trio.aclose_forcefully(stream)

        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(receive, theirs)
        heard = await heard_of(ours, script)
        assert not first.broker.virtual_hosts[HOST].queues
        nursery.cancel_scope.cancel()
    return heard, arrivals[0]


@pytest.mark.parametrize(("protocol", "script"), SCRIPTS.values(), ids=SCRIPTS)
@on_a_jumping_clock
async def test_it_hears_the_same(protocol: str, script: Script) -> None:
    expected = await directly(protocol, script)
    for is_carried in (False, True):
        heard, arrival = await by_way_of(protocol, script, is_carried=is_carried)
        assert arrival is not None
        assert arrival.virtual_host == HOST
        assert heard == expected != b""


@pytest.mark.parametrize(("protocol", "script"), REFUSED.values(), ids=REFUSED)
@on_a_jumping_clock
async def test_who_is_refused_hears_the_same_and_comes_nowhere(protocol: str, script: Script) -> None:
    heard, arrival = await by_way_of(protocol, script)
    assert arrival is None
    assert heard == await directly(protocol, script)


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        (AMQP, b"".join([*amqp_script(), frame.marshal(commands.Exchange.Declare(exchange="e", durable=True), 1)])),
        (MQTT, mqtt_script()[0] + b"\x31\7\0\1tbody"),
    ],
    ids=["exchange", "retained message"],
)
@on_a_jumping_clock
async def test_what_it_leaves_where_it_came_to_is_forgotten_there(protocol: str, said: bytes) -> None:
    async with running(is_entrance=True) as first, trio.open_nursery() as nursery:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(Entrance(first).receive, theirs, LOOPBACK, protocol)
        await heard_of(ours, [said])
        host = first.broker.virtual_hosts[HOST]
        assert "e" not in host.exchanges
        assert len(host.retained) == 0
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("protocol", "said"),
    [(AMQP, []), (AMQP, amqp_script()[:1]), (MQTT, []), (STOMP, []), (STREAMS, [])],
    ids=["nothing", "the header", "MQTT", "STOMP", "stream protocol"],
)
@on_a_jumping_clock
async def test_who_says_nothing_has_to_go_after_the_handshakes_time(protocol: str, said: Script) -> None:
    async with running(is_entrance=True) as first:
        ours, theirs = trio.testing.memory_stream_pair()
        for data in said:
            await ours.send_all(data)
        began_s = trio.current_time()
        with trio.fail_after(60):
            assert await Entrance(first).receive(theirs, LOOPBACK, protocol) is None
        timeout_s = first.broker.settings.handshake_timeout_ms / 1000
        assert timeout_s <= trio.current_time() - began_s < timeout_s + 4
        assert not first.broker.open_connections


@on_a_jumping_clock
async def test_who_does_not_listen_has_to_go_as_well() -> None:
    async with running(is_entrance=True) as first:
        ours, theirs = trio.testing.memory_stream_pair()
        theirs.send_stream.send_all_hook = trio.sleep_forever
        await ours.send_all(PROTOCOL_HEADER)
        with trio.fail_after(60):
            assert await Entrance(first).receive(theirs, LOOPBACK, AMQP) is None


@on_a_jumping_clock
async def test_who_never_ends_to_log_in_is_not_heard_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "HEARD_BYTES_MAX", 100)
    async with running(is_entrance=True) as first:
        ours, theirs = trio.testing.memory_stream_pair()
        await ours.send_all(b"\n" * 101)  # they stand between frames of STOMP
        began_s = trio.current_time()
        assert await Entrance(first).receive(theirs, LOOPBACK, STOMP) is None
        assert trio.current_time() - began_s < 1
