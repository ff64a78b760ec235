"""A client in memory: it talks to a ``Connection`` of the session floor in bytes only, through pamqp's codec.

Pamqp on this side, so that the broker's own codec is not tested against itself. Bytes are delivered as ``Cut`` says:
whole, one by one, or in random pieces. What the broker sends waits in the connection until somebody here asks for
frames: a client that never asks is one that does not read.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

from pamqp import base, body, commands, frame, header, heartbeat
from pamqp.common import FieldTable

from amqp_broker.access.client import Peer
from amqp_broker.protocols.amqp091.connection import Connection
from tests.support.memory_broker import MemoryBroker

LOOPBACK = Peer("127.0.0.1", 40000, True)
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
CAPABILITIES: FieldTable = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "publisher_confirms": True,
}

Cut = Callable[[bytes], Iterator[bytes]]
Sendable = base.Frame | header.ContentHeader | body.ContentBody | heartbeat.Heartbeat | header.ProtocolHeader
MethodT = TypeVar("MethodT", bound=base.Frame)


def whole(data: bytes) -> Iterator[bytes]:
    """All at once."""
    yield data


def byte_by_byte(data: bytes) -> Iterator[bytes]:
    """One byte at a time."""
    for position in range(len(data)):
        yield data[position : position + 1]


def random_pieces(seed: int, longest_bytes: int = 40) -> Cut:
    """In pieces of random lengths, the same for the same seed."""
    source = random.Random(seed)

    def cut(data: bytes) -> Iterator[bytes]:
        start = 0
        while start < len(data):
            end = start + source.randint(1, longest_bytes)
            yield data[start:end]
            start = end

    return cut


class Received(NamedTuple):
    """A method that came, with its content where it has one."""

    method: base.Frame
    properties: commands.Basic.Properties | None = None
    body: bytes = b""

    def expect(self, method_class: type[MethodT]) -> MethodT:
        """The method, which must be one of this class."""
        assert isinstance(self.method, method_class), f"{self.method!r} {dict(self.method)} is no {method_class.name}"
        return self.method

    @property
    def headers(self) -> dict[str, Any]:
        """The content's headers."""
        assert self.properties is not None
        return dict(self.properties.headers or {})


class RawFrame(NamedTuple):
    """A frame that came, before it was decoded."""

    kind: int
    channel: int
    payload: bytes


def split(data: bytes) -> Iterator[RawFrame]:
    """Cut what the broker sent into frames; nothing may be left over."""
    offset = 0
    while offset < len(data):
        kind, channel, size_bytes = struct.unpack_from(">BHI", data, offset)
        end = offset + 7 + size_bytes
        assert end < len(data), "the broker sent half a frame"
        assert data[end] == 0xCE, "a frame has a wrong end"
        assert kind in (1, 2, 3, 8)
        yield RawFrame(kind, channel, data[offset + 7 : end])
        offset = end + 1


class Client:
    """One client's end of a connection.

    Args:
        broker: the broker it talks to.
        cut: how its bytes are delivered.
        peer: who the broker thinks it is.
    """

    def __init__(self, broker: MemoryBroker, *, cut: Cut = whole, peer: Peer = LOOPBACK) -> None:
        self.broker = broker
        self.cut = cut
        self.output_calls = 0
        self.heartbeats = 0
        self.frame_size_bytes_max = 131_072
        self.largest_frame_bytes = 0
        self.connection = Connection(broker, peer, self._note_output)
        broker.connections.append(self.connection)
        self._inboxes: dict[int, list[Received]] = {}
        self._unfinished: dict[int, tuple[base.Frame, header.ContentHeader | None, bytearray]] = {}

    def _note_output(self) -> None:
        self.output_calls += 1

    # --- out

    def send_bytes(self, data: bytes) -> None:
        """Let the broker read these bytes."""
        for piece in self.cut(data):
            self.connection.receive(piece)

    def send(self, *frames: Sendable, channel: int = 0) -> None:
        """Send frames in one go."""
        self.send_bytes(b"".join(frame.marshal(one, channel) for one in frames))

    # --- in

    def take_bytes(self) -> bytes:
        """Read all that the broker has sent, as it comes off the wire."""
        parts = []
        while output := self.connection.take_output():
            data = b"".join(output)
            parts.append(data)
            self.connection.output_sent(len(data))
        return b"".join(parts)

    def read(self) -> None:
        """Read all that the broker has sent, and put it into the channels' inboxes."""
        for raw in split(self.take_bytes()):
            size_bytes = len(raw.payload) + 8
            self.largest_frame_bytes = max(self.largest_frame_bytes, size_bytes)
            assert size_bytes <= self.frame_size_bytes_max
            if raw.kind == 8:
                assert raw.payload == b""
                assert raw.channel == 0
                self.heartbeats += 1
            elif raw.kind == 3:
                self._content_body(raw.channel, raw.payload)
            else:
                self._decoded(raw)

    def _decoded(self, raw: RawFrame) -> None:
        packed = struct.pack(">BHI", raw.kind, raw.channel, len(raw.payload)) + raw.payload + b"\xce"
        decoded = frame.unmarshal(packed)[2]
        if isinstance(decoded, header.ContentHeader):
            method, before, _ = self._unfinished[raw.channel]
            assert before is None
            self._unfinished[raw.channel] = (method, decoded, bytearray())
            self._finish_content(raw.channel)
            return
        assert isinstance(decoded, base.Frame)
        assert raw.channel not in self._unfinished, "a method came between the frames of a content"
        if isinstance(decoded, commands.Basic.Deliver | commands.Basic.GetOk | commands.Basic.Return):
            self._unfinished[raw.channel] = (decoded, None, bytearray())
        else:
            self._inbox(raw.channel).append(Received(decoded))

    def _content_body(self, channel: int, payload: bytes) -> None:
        assert payload
        _, content_header, content = self._unfinished[channel]
        assert content_header is not None
        content += payload
        self._finish_content(channel)

    def _finish_content(self, channel: int) -> None:
        method, content_header, content = self._unfinished[channel]
        assert content_header is not None
        assert content_header.body_size is not None
        assert len(content) <= content_header.body_size
        if len(content) == content_header.body_size:
            del self._unfinished[channel]
            self._inbox(channel).append(Received(method, content_header.properties, bytes(content)))

    def _inbox(self, channel: int) -> list[Received]:
        return self._inboxes.setdefault(channel, [])

    def received(self, channel: int = 0) -> list[Received]:
        """All that has come on a channel and nobody has looked at yet."""
        self.read()
        return self._inboxes.pop(channel, [])

    def one(self, method_class: type[MethodT], channel: int = 0) -> MethodT:
        """The one method that has come on a channel."""
        received = self.received(channel)
        assert len(received) == 1, f"expected {method_class.name}: {[one.method.name for one in received]}"
        return received[0].expect(method_class)

    # --- the usual conversations

    def start_ok(
        self,
        *,
        user: str = "guest",
        password: str = "guest",
        mechanism: str = "PLAIN",
        response: str | None = None,
        capabilities: FieldTable | None = None,
        properties: FieldTable | None = None,
    ) -> commands.Connection.StartOk:
        """The answer to connection.start."""
        client_properties: FieldTable = {
            "product": "test",
            "capabilities": CAPABILITIES if capabilities is None else capabilities,
            **(properties or {}),
        }
        return commands.Connection.StartOk(
            client_properties, mechanism, f"\0{user}\0{password}" if response is None else response, "en_US"
        )

    def start(self, **start_ok: Any) -> commands.Connection.Tune:
        """Go as far as connection.tune."""
        self.send_bytes(PROTOCOL_HEADER)
        self.one(commands.Connection.Start)
        self.send(self.start_ok(**start_ok))
        return self.one(commands.Connection.Tune)

    def tune_ok(self, *, channel_max: int = 2047, frame_max: int = 131_072, heartbeat_s: int = 0) -> None:
        """Answer connection.tune."""
        self.send(commands.Connection.TuneOk(channel_max, frame_max, heartbeat_s))
        self.frame_size_bytes_max = frame_max

    def open(
        self,
        *,
        channel_max: int = 2047,
        frame_max: int = 131_072,
        heartbeat_s: int = 0,
        virtual_host: str = "/",
        **start_ok: Any,
    ) -> Client:
        """Go through the whole handshake."""
        self.start(**start_ok)
        self.tune_ok(channel_max=channel_max, frame_max=frame_max, heartbeat_s=heartbeat_s)
        self.send(commands.Connection.Open(virtual_host))
        self.one(commands.Connection.OpenOk)
        return self

    def channel(self, number: int = 1) -> ClientChannel:
        """Open a channel."""
        channel = ClientChannel(self, number)
        channel.call(commands.Channel.Open())
        return channel

    def is_finished(self) -> bool:
        """Whether the broker has done with the connection."""
        return self.connection.finished

    def closed_with(self) -> commands.Connection.Close:
        """The connection.close that has come."""
        return self.received()[-1].expect(commands.Connection.Close)


class ClientChannel:
    """One channel of a client.

    Args:
        client: whose.
        number: its number.
    """

    def __init__(self, client: Client, number: int) -> None:
        self.client = client
        self.number = number

    def send(self, *frames: Sendable) -> None:
        """Send frames in one go, and look at no answer."""
        self.client.send(*frames, channel=self.number)

    def received(self) -> list[Received]:
        """All that has come and nobody has looked at yet."""
        return self.client.received(self.number)

    def methods(self) -> list[base.Frame]:
        """The same, methods only."""
        return [one.method for one in self.received()]

    def one(self, method_class: type[MethodT]) -> MethodT:
        """The one method that has come."""
        return self.client.one(method_class, self.number)

    def call(self, method: base.Frame) -> base.Frame:
        """Send a method and return its answer, which must be the next that comes, deliveries aside."""
        self.send(method)
        received = self.received()
        answers = [one for one in received if not isinstance(one.method, commands.Basic.Deliver)]
        assert answers, f"no answer to {method.name}"
        answer = answers[0]
        assert answer.method.name in method.valid_responses, f"{answer.method.name} {dict(answer.method)}"
        received.remove(answer)
        self.client._inbox(self.number).extend(received)
        return answer.method

    def declare(self, name: str, arguments: FieldTable | None = None, **flags: bool) -> commands.Queue.DeclareOk:
        """queue.declare."""
        answer = self.call(commands.Queue.Declare(queue=name, arguments=arguments or {}, **flags))
        assert isinstance(answer, commands.Queue.DeclareOk)
        return answer

    def message_count(self, name: str) -> int:
        """How many messages of a queue are ready."""
        count = self.declare(name, passive=True).message_count
        assert count is not None
        return count

    def exchange(self, name: str, kind: str = "direct", arguments: FieldTable | None = None, **flags: bool) -> None:
        """exchange.declare."""
        self.call(commands.Exchange.Declare(exchange=name, exchange_type=kind, arguments=arguments or {}, **flags))

    def bind(self, queue: str, exchange: str, key: str = "", arguments: FieldTable | None = None) -> None:
        """queue.bind."""
        self.call(commands.Queue.Bind(queue=queue, exchange=exchange, routing_key=key, arguments=arguments or {}))

    def publish(
        self, exchange: str, key: str, content: bytes = b"", *, mandatory: bool = False, **properties: Any
    ) -> None:
        """basic.publish with its content, as large frames as may be."""
        self.send(*publish_frames(exchange, key, content, self.client.frame_size_bytes_max, mandatory, **properties))

    def qos(self, count: int, *, of_channel: bool = False) -> None:
        """basic.qos."""
        self.call(commands.Basic.Qos(0, count, of_channel))

    def consume(self, queue: str, tag: str = "", arguments: FieldTable | None = None, **flags: bool) -> str:
        """basic.consume; returns the consumer tag."""
        method = commands.Basic.Consume(queue=queue, consumer_tag=tag, arguments=arguments or {}, **flags)
        answer = self.call(method)
        assert isinstance(answer, commands.Basic.ConsumeOk)
        assert answer.consumer_tag is not None
        return answer.consumer_tag

    def get(self, queue: str, *, no_ack: bool = False) -> Received | None:
        """basic.get; None when the queue is empty."""
        self.send(commands.Basic.Get(queue=queue, no_ack=no_ack))
        received = self.received()
        assert len(received) == 1
        if isinstance(received[0].method, commands.Basic.GetEmpty):
            return None
        received[0].expect(commands.Basic.GetOk)
        return received[0]

    def drain(self, queue: str) -> list[bytes]:
        """The bodies of all that is ready in a queue, taken out for good."""
        bodies = []
        while (message := self.get(queue, no_ack=True)) is not None:
            bodies.append(message.body)
        return bodies

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        """basic.ack."""
        self.send(commands.Basic.Ack(tag, multiple))

    def nack(self, tag: int, *, multiple: bool = False, requeue: bool = True) -> None:
        """basic.nack."""
        self.send(commands.Basic.Nack(tag, multiple, requeue))

    def reject(self, tag: int, *, requeue: bool = True) -> None:
        """basic.reject."""
        self.send(commands.Basic.Reject(tag, requeue))

    def deliveries(self) -> list[Received]:
        """The messages that have been delivered; nothing else may have come."""
        received = self.received()
        for one in received:
            one.expect(commands.Basic.Deliver)
        return received

    def bodies(self) -> list[bytes]:
        """The same, bodies only."""
        return [one.body for one in self.deliveries()]

    def closed_with(self) -> commands.Channel.Close:
        """The channel.close that has come last."""
        return self.received()[-1].expect(commands.Channel.Close)


def publish_frames(
    exchange: str, key: str, content: bytes, frame_size_bytes_max: int, mandatory: bool = False, **properties: Any
) -> list[Sendable]:
    """The frames of one publish."""
    step_bytes = frame_size_bytes_max - 8
    return [
        commands.Basic.Publish(exchange=exchange, routing_key=key, mandatory=mandatory),
        header.ContentHeader(0, len(content), commands.Basic.Properties(**properties)),
        *[body.ContentBody(content[start : start + step_bytes]) for start in range(0, len(content), step_bytes)],
    ]
