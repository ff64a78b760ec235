"""A whole server on real sockets, in a loop whose clock jumps ahead when nobody has anything to do."""

from __future__ import annotations

import functools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, ParamSpec

import trio
import trio.testing
from pamqp import commands, frame

from amqp_broker.broker.broker import Broker
from amqp_broker.network.socket_stream import SocketStream
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.settings import Settings
from tests.support.client import PROTOCOL_HEADER
from tests.support.conversation import HANDSHAKE

AUTOJUMP_S = 0.03  # real; long enough for what was sent to arrive
Arguments = ParamSpec("Arguments")


class TrioClock:
    """The broker's time is that of the loop it runs in."""

    is_running = True

    def monotonic_ms(self) -> int:
        return int(trio.current_time() * 1000)

    wall_ms = monotonic_ms


def on_a_jumping_clock(test: Callable[Arguments, Awaitable[None]]) -> Callable[Arguments, None]:
    """Make a test that pytest can call out of one that must be awaited."""

    @functools.wraps(test)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        clock = trio.testing.MockClock(autojump_threshold=AUTOJUMP_S)
        trio.run(functools.partial(test, *args, **kwargs), clock=clock)

    return run


class Served:
    """A server and who is connected to it."""

    def __init__(self, server: BrokerServer, ports: list[int]) -> None:
        self.server = server
        self.ports = ports

    @property
    def broker(self) -> Broker:
        return self.server.broker

    async def connect(self, receive_buffer_bytes: int = 0, port: int | None = None) -> SocketStream:
        connected = socket.socket()
        if receive_buffer_bytes:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        connected.connect(("127.0.0.1", port or self.ports[0]))
        return SocketStream(connected)

    async def opened(self, heartbeat_s: int = 0, receive_buffer_bytes: int = 0) -> SocketStream:
        """A connection with a channel that has read nothing yet."""
        before = len(self.broker.open_connections)
        client = await self.connect(receive_buffer_bytes)
        tune_ok = frame.marshal(commands.Connection.TuneOk(2047, 131072, heartbeat_s), 0)
        await client.send_all(PROTOCOL_HEADER + HANDSHAKE[0] + tune_ok + b"".join(HANDSHAKE[2:]))
        await until(lambda: len(self.broker.open_connections) > before)
        return client


# Settings of a server that does nothing by itself.
QUIET: dict[str, Any] = {
    "host": ("127.0.0.1",),
    "port": 0,
    "resource_check_ms": 100_000_000,
    "shutdown_grace_ms": 0,
}


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Served]:
    server = BrokerServer(Settings(**(QUIET | settings)), TrioClock())
    async with trio.open_nursery() as nursery:
        endpoints = await nursery.start(server.run)
        yield Served(server, [endpoint.port for endpoint in endpoints])
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """Let time pass until something is so."""
    while not condition():  # noqa: ASYNC110  # nobody could tell us
        await trio.sleep(1)


async def seconds_until_the_end(client: SocketStream) -> float:
    """Read until there is no more, and say how long that took."""
    began_s = trio.current_time()
    try:
        while await client.receive_some():
            pass
    except trio.BrokenResourceError:
        pass
    return trio.current_time() - began_s
