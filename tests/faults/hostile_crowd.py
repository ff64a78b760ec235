"""A crowd of hostile clients beside honest ones: what each does, and what the honest ones see.

``python -m tests.faults.hostile_crowd --port N --hostile 200 --seconds 60 --device-port mqtt=N`` is the hostile crowd,
a process of its own, so that it does not take the honest clients' time. ``Honest`` is one honest client.
``test_hostile_crowd.py`` puts them together.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio
from pamqp import base, body, commands, frame, header

from tests.faults import hostile_devices, hostile_http

PROTOCOL_HEADER = b"AMQP\0\0\x09\x01"
START_OK = commands.Connection.StartOk({"capabilities": {}}, "PLAIN", "\0guest\0guest", "en_US")
HANDSHAKE = (
    PROTOCOL_HEADER
    + frame.marshal(START_OK, 0)
    + frame.marshal(commands.Connection.TuneOk(2047, 131072, 0), 0)
    + frame.marshal(commands.Connection.Open("/"), 0)
)
FRAME_HEADER = struct.Struct(">BHI")


def method(one: base.Frame, channel: int = 1) -> bytes:
    """A method's frame."""
    return frame.marshal(one, channel)


def publication(queue: str, content: bytes) -> bytes:
    """The frames of a publish to a queue."""
    properties = header.ContentHeader(0, len(content), commands.Basic.Properties())
    return (
        method(commands.Basic.Publish(exchange="", routing_key=queue))
        + frame.marshal(properties, 1)
        + frame.marshal(body.ContentBody(content), 1)
    )


# --- hostile


async def garbage(stream: trio.SocketStream) -> None:
    await stream.send_all(os.urandom(10_000))
    await stream.receive_some(1000)


async def garbage_behind_the_handshake(stream: trio.SocketStream) -> None:
    await stream.send_all(HANDSHAKE + method(commands.Channel.Open()))
    await stream.send_all(os.urandom(10_000))
    await stream.receive_some(1000)


async def truncated(stream: trio.SocketStream) -> None:
    data = HANDSHAKE + method(commands.Channel.Open()) + publication("nowhere", b"x" * 1000)
    await stream.send_all(data[: random.randrange(len(data))])


async def endless_headers(stream: trio.SocketStream) -> None:
    await stream.send_all(HANDSHAKE + method(commands.Channel.Open()))
    table = b"".join(b"\x04k%03dS\0\0\0\x64" % number + b"v" * 100 for number in range(1000))
    payload = struct.pack(">HHQHI", 60, 0, 1, 0x2000, len(table)) + table
    headers = FRAME_HEADER.pack(2, 1, len(payload)) + payload + b"\xce"
    publish = method(commands.Basic.Publish(exchange="amq.headers", routing_key=""))
    while True:
        await stream.send_all(publish + headers)


async def huge_sizes(stream: trio.SocketStream) -> None:
    await stream.send_all(HANDSHAKE + method(commands.Channel.Open()))
    if random.random() < 0.5:
        await stream.send_all(FRAME_HEADER.pack(3, 1, 0xFFFF_FFF0) + b"x" * 100_000)
    else:
        payload = struct.pack(">HHQH", 60, 0, 2**62, 0)
        publish = method(commands.Basic.Publish(exchange="", routing_key="nowhere"))
        await stream.send_all(publish + FRAME_HEADER.pack(2, 1, len(payload)) + payload + b"\xce")
    await stream.receive_some(1000)


async def channel_flood(stream: trio.SocketStream) -> None:
    await stream.send_all(HANDSHAKE)
    await stream.send_all(b"".join(method(commands.Channel.Open(), number) for number in range(1, 3000)))
    while await stream.receive_some(65536):
        pass


async def publish_flood(stream: trio.SocketStream) -> None:
    name = f"flood-{random.random()}"
    declare = commands.Queue.Declare(queue=name, exclusive=True, arguments={"x-max-length": 1000})
    await stream.send_all(HANDSHAKE + method(commands.Channel.Open()) + method(declare))
    flood = publication(name, b"x" * 1000) * 50
    while True:
        await stream.send_all(flood)


async def never_reading_consumer(stream: trio.SocketStream) -> None:
    name = f"unread-{random.random()}"
    declare = commands.Queue.Declare(queue=name, exclusive=True, arguments={"x-max-length": 1000})
    consume = commands.Basic.Consume(queue=name, no_ack=True)
    await stream.send_all(HANDSHAKE + method(commands.Channel.Open()) + method(declare) + method(consume))
    flood = publication(name, b"x" * 10_000)
    for _ in range(2000):
        await stream.send_all(flood)
    await trio.sleep_forever()


async def abrupt_reset(stream: trio.SocketStream) -> None:
    await stream.send_all(HANDSHAKE + method(commands.Channel.Open()) + publication("nowhere", b"x" * 1000)[:-100])
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def slow_bytes(stream: trio.SocketStream) -> None:
    for at in range(len(HANDSHAKE)):
        await stream.send_all(HANDSHAKE[at : at + 1])
        await trio.sleep(0.2)


async def wrong_passwords(stream: trio.SocketStream) -> None:
    response = f"\0guest\0{random.random()}"
    await stream.send_all(PROTOCOL_HEADER + method(commands.Connection.StartOk({}, "PLAIN", response, "en_US"), 0))
    await trio.sleep(0.05)


KINDS: list[Callable[[trio.SocketStream], Awaitable[None]]] = [
    garbage, garbage_behind_the_handshake, truncated, endless_headers, huge_sizes, channel_flood, publish_flood,
    never_reading_consumer, abrupt_reset, slow_bytes, wrong_passwords,
]  # fmt: skip


async def be_hostile(port: int | None, kind: Callable[[trio.SocketStream], Awaitable[None]]) -> None:
    """Do harm again and again, until cancelled."""
    while True:
        with suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            async with await trio.open_tcp_stream("127.0.0.1", port or 0) as stream:
                with trio.move_on_after(20):
                    await kind(stream)
        await trio.sleep(0.01)


async def hostile_crowd(
    port: int, count: int, seconds: float, http_port: int | None, http_count: int, device_ports: dict[str, int]
) -> None:
    """So many hostile clients, of AMQP and of the HTTP API, for so long; and one of each kind of other protocols."""
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for number in range(count):
                nursery.start_soon(be_hostile, port, KINDS[number % len(KINDS)])
            for number in range(http_count if http_port is not None else 0):
                nursery.start_soon(be_hostile, http_port, hostile_http.KINDS[number % len(hostile_http.KINDS)])
            for protocol, device_port in device_ports.items():
                for kind in hostile_devices.KINDS[protocol]:
                    nursery.start_soon(be_hostile, device_port, kind)


# --- honest


class Honest:
    """A client that publishes numbered messages to a queue of its own and consumes them.

    Args:
        port: the broker's.
        name: its queue.
    """

    def __init__(self, port: int, name: str) -> None:
        self._port = port
        self._name = name
        self.published = 0
        self.delivered = 0
        self.out_of_order = 0
        self.latencies_s: list[float] = []
        self._is_done = trio.Event()
        self._buffer = bytearray()

    async def run(
        self, messages_per_s: float, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Go on until ``finish``, and until the last message has come."""
        async with await trio.open_tcp_stream("127.0.0.1", self._port) as stream:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await stream.send_all(
                HANDSHAKE
                + method(commands.Channel.Open())
                + method(commands.Queue.Declare(queue=self._name, exclusive=True))
                + method(commands.Basic.Consume(queue=self._name, no_ack=True))
            )
            async with trio.open_nursery() as nursery:
                ready = trio.Event()
                nursery.start_soon(self._consume, stream, ready, nursery.cancel_scope)
                await ready.wait()
                task_status.started()
                while not self._is_done.is_set():
                    self.published += 1
                    await stream.send_all(publication(self._name, struct.pack(">Qd", self.published, time.monotonic())))
                    await trio.sleep(1 / messages_per_s)

    def finish(self) -> None:
        """Publish no more."""
        self._is_done.set()

    async def _consume(self, stream: trio.SocketStream, ready: trio.Event, scope: trio.CancelScope) -> None:
        while True:
            if self._is_done.is_set() and self.delivered == self.published:
                scope.cancel()
            with trio.move_on_after(1):
                data = await stream.receive_some(65536)
                assert data, "the broker closed an honest client's connection"
                self._buffer += data
                self._take_frames(ready)

    def _take_frames(self, ready: trio.Event) -> None:
        while len(self._buffer) >= FRAME_HEADER.size:
            kind, _, size_bytes = FRAME_HEADER.unpack_from(self._buffer)
            end = FRAME_HEADER.size + size_bytes + 1
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[FRAME_HEADER.size : end - 1])
            del self._buffer[:end]
            if kind == 1 and payload[:4] == struct.pack(">HH", 60, 21):  # basic.consume-ok
                ready.set()
            if kind == 3:
                number, sent_s = struct.unpack(">Qd", payload)
                self.delivered += 1
                self.out_of_order += number != self.delivered
                self.latencies_s.append(time.monotonic() - sent_s)


def percentile(values: list[float], share: float) -> float:
    """The value below which this share of all lies."""
    return sorted(values)[max(0, math.ceil(len(values) * share) - 1)]


def main() -> None:
    """Be the hostile crowd."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--hostile", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--http-port", type=int)
    parser.add_argument("--hostile-http", type=int, default=60)
    parser.add_argument("--device-port", action="append", default=[], metavar="PROTOCOL=PORT")
    options = parser.parse_args()
    named = [one.partition("=") for one in options.device_port]
    device_ports = {protocol: int(device_port) for protocol, _, device_port in named}
    numbers = (options.port, options.hostile, options.seconds, options.http_port, options.hostile_http)
    trio.run(hostile_crowd, *numbers, device_ports)


if __name__ == "__main__":
    main()
