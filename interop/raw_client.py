"""A small blocking AMQP client that shows a test the exact frames, in their order, and keeps a transcript.

    client = broker.connect()                       # header, start, tune, open
    ch = client.channel()                           # channel.open
    ch.call(Queue.Declare, queue=q)                 # sends, returns the reply
    ch.publish("", q, b"body", headers={"n": T("l", 5)})
    message = ch.get(q)                             # a Received, or None
    ch.send(Queue.Declare, queue=q, durable=True)
    ch.expect_close(406, "inequivalent arg 'durable' for queue ...")

`expect` takes the very next thing that came on the channel and fails when it is something else; `take` takes the first
of that method and leaves what came before it. A wait that runs out fails with the transcript so far.

The transcript is a list of plain tuples `(direction, channel, what, details)`; `normalise` makes those of two brokers
comparable.

Not here: bytes of fields and tables (codec.py), starting brokers (brokers.py).
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pamqp.commands import Basic, Channel, Confirm, Connection, Exchange, Queue, Tx

from interop import codec
from interop.codec import MethodType, T, plain
from interop.waiting import PATIENCE_S, STEP_S

__all__ = [
    "ANY_CAUSE", "NO_CAUSE", "Basic", "Channel", "ChannelUnderTest", "Client", "Confirm", "Connection", "Exchange",
    "Queue", "Received", "T", "Tx", "normalise", "transcript_text",
]  # fmt: skip

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_END = b"\xce"
# RabbitMQ 4.0.5, as it runs here, answers nobody for 5.0 s after every fifty or so connections; why is not known.
REPLY_TIMEOUT_S = PATIENCE_S
# After close-ok the socket ends at once; where it ends after the 30 s for clients that answer nothing, that is seen.
END_TIMEOUT_S = 25.0

REPLY_NAMES = {
    200: "",
    311: "CONTENT_TOO_LARGE", 312: "NO_ROUTE", 313: "NO_CONSUMERS", 320: "CONNECTION_FORCED", 402: "INVALID_PATH",
    403: "ACCESS_REFUSED", 404: "NOT_FOUND", 405: "RESOURCE_LOCKED", 406: "PRECONDITION_FAILED", 501: "FRAME_ERROR",
    502: "SYNTAX_ERROR", 503: "COMMAND_INVALID", 504: "CHANNEL_ERROR", 505: "UNEXPECTED_FRAME", 506: "RESOURCE_ERROR",
    530: "NOT_ALLOWED", 540: "NOT_IMPLEMENTED", 541: "INTERNAL_ERROR",
}  # fmt: skip

# What clients like pika tell about themselves; a test that needs a client without one passes its own capabilities.
CAPABILITIES = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "publisher_confirms": True,
}

Entry = tuple[str, int, str, Any]

CONFIRMS = (Basic.Ack, Basic.Nack)

ANY_CAUSE = "any"
NO_CAUSE = "none"
Cause = MethodType | str
"""What a close must blame: a method, NO_CAUSE (class and method 0) or ANY_CAUSE."""


@dataclass
class Received:
    """A method that came, with its content where it has one. Its fields read as attributes, tables without their types;
    `typed` has the fields, and `typed_properties` the properties, with the types of table values kept."""

    method: MethodType
    channel: int
    typed: dict[str, Any]
    typed_properties: dict[str, Any] | None = None
    body: bytes = b""

    def __getattr__(self, name: str) -> Any:
        try:
            return plain(self.typed[name])
        except KeyError:
            raise AttributeError(f"{self.method.name} has no {name}") from None

    @property
    def name(self) -> str:
        return str(self.method.name)

    @property
    def properties(self) -> dict[str, Any]:
        """The properties that came, as plain values; {} when there is no content."""
        return {name: plain(value) for name, value in (self.typed_properties or {}).items()}

    @property
    def headers(self) -> dict[str, Any]:
        """The headers as plain values; {} where there are none."""
        headers: dict[str, Any] = self.properties.get("headers", {})
        return headers

    @property
    def typed_headers(self) -> dict[str, T]:
        headers: dict[str, T] = (self.typed_properties or {}).get("headers", {})
        return headers

    def as_entry(self) -> Entry:
        details: dict[str, Any] = dict(self.typed)
        if self.typed_properties is not None:
            details |= {"properties": self.typed_properties, "body": self.body}
        return ("<", self.channel, self.name, details)

    def __str__(self) -> str:
        return _entry_text(self.as_entry())


@dataclass
class _Incoming:
    """A message whose content has not all come yet."""

    received: Received
    left_bytes: int = 0
    pieces: list[bytes] = field(default_factory=list)


class Client:
    """One connection. Everything that is sent and received stands in `transcript`."""

    def __init__(
        self, host: str, port: int, *, timeout_s: float = REPLY_TIMEOUT_S, tls: ssl.SSLContext | None = None
    ) -> None:
        self.timeout_s = timeout_s
        self.transcript: list[Entry] = []
        self.server_properties: dict[str, Any] = {}
        self.start: Received | None = None
        self.tune: Received | None = None
        self.frame_max_bytes = 131072
        self.channels: dict[int, ChannelUnderTest] = {}
        self.is_open = False
        self.ended = False
        self._queues: dict[int, deque[Received]] = {}
        self._incoming: dict[int, _Incoming] = {}
        self._buffer = bytearray()
        self._held_back: list[bytes] | None = None
        plain_socket = socket.create_connection((host, port), timeout=timeout_s)
        plain_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = tls.wrap_socket(plain_socket, server_hostname=host) if tls else plain_socket

    # The handshake, a step a method

    def send_header(self, header: bytes = PROTOCOL_HEADER) -> None:
        """The eight bytes that open a connection."""
        self.send_bytes(header)

    def begin(self) -> Received:
        """Protocol header and the connection.start that answers it."""
        self.send_header()
        self.start = self.expect(Connection.Start)
        self.server_properties = self.start.server_properties
        return self.start

    def send_start_ok(
        self,
        user: str = "guest",
        password: str = "guest",
        *,
        mechanism: str = "PLAIN",
        response: bytes | None = None,
        capabilities: Mapping[str, Any] | None = None,
        client_properties: Mapping[str, Any] | None = None,
        locale: str = "en_US",
    ) -> None:
        """connection.start-ok; the response is made for PLAIN and AMQPLAIN unless it is given."""
        if response is None and mechanism == "AMQPLAIN":
            response = codec.encode_table({"LOGIN": user, "PASSWORD": password})[4:]
        elif response is None:
            response = f"\0{user}\0{password}".encode()
        properties = {"product": "interop", "capabilities": CAPABILITIES if capabilities is None else capabilities}
        self.send(
            Connection.StartOk,
            client_properties=properties if client_properties is None else client_properties,
            mechanism=mechanism,
            response=response,
            locale=locale,
        )

    def expect_tune(self) -> Received:
        self.tune = self.expect(Connection.Tune)
        return self.tune

    def send_tune_ok(self, *, channel_max: int | None = None, frame_max: int | None = None, heartbeat: int = 0) -> None:
        """connection.tune-ok; what is None is taken over from the broker's tune."""
        assert self.tune is not None
        self.frame_max_bytes = self.tune.frame_max if frame_max is None else frame_max
        self.send(
            Connection.TuneOk,
            channel_max=self.tune.channel_max if channel_max is None else channel_max,
            frame_max=self.frame_max_bytes,
            heartbeat=heartbeat,
        )

    def open(self, vhost: str = "/") -> Received:
        reply = self.call(Connection.Open, virtual_host=vhost)
        self.is_open = True
        return reply

    def close(self) -> None:
        """Closes politely where that is still possible, and the socket in any case. Never fails."""
        try:
            if self.is_open and not self.ended:
                self.send(Connection.Close, reply_code=200, reply_text="bye")
                self.timeout_s = min(self.timeout_s, 2.0)
                self.take(Connection.CloseOk)
        except (AssertionError, OSError):
            pass
        self.abort()

    def abort(self) -> None:
        """Closes the socket and says nothing, as a process does that dies."""
        self.ended = True
        self.is_open = False
        self.socket.close()

    # Sending

    def channel(self, number: int | None = None, *, opened: bool = True) -> ChannelUnderTest:
        """A channel, by default the next free number; with opened=False nothing is sent."""
        if number is None:
            number = max(self.channels, default=0) + 1
        channel = self.channels[number] = ChannelUnderTest(self, number)
        if opened:
            channel.call(Channel.Open)
        return channel

    def send_bytes(self, raw: bytes) -> None:
        """Bytes as they are."""
        self.transcript.append((">", -1, "bytes", raw))
        self._write(raw)

    def send_frame(self, kind: int, channel: int, payload: bytes, *, end: bytes = FRAME_END) -> None:
        """A frame of any kind, right or wrong."""
        self.transcript.append((">", channel, f"frame {kind}", payload))
        self._write(struct.pack(">BHI", kind, channel, len(payload)) + payload + end)

    def send_heartbeat(self, channel: int = 0) -> None:
        self.send_frame(HEARTBEAT, channel, b"")

    def send(
        self,
        method: MethodType,
        *,
        channel: int = 0,
        properties: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        **fields: Any,
    ) -> None:
        """A method, with content when there are properties or a body (split by frame_max)."""
        details: dict[str, Any] = dict(fields)
        frames = [(METHOD, codec.encode_method(method, fields))]
        if properties is not None or body is not None:
            content, properties = body or b"", properties or {}
            details |= {"properties": dict(properties), "body": content}
            frames.append((HEADER, codec.encode_content_header(len(content), properties)))
            step = (self.frame_max_bytes or 2**31) - 8
            frames += [(BODY, content[start : start + step]) for start in range(0, len(content), step)]
        self.transcript.append((">", channel, str(method.name), details))
        self._write(
            b"".join(struct.pack(">BHI", kind, channel, len(piece)) + piece + FRAME_END for kind, piece in frames)
        )

    @contextmanager
    def in_one_write(self) -> Iterator[None]:
        """What is sent within it goes out at its end, in one piece, as from a client that gathers what it sends."""
        self._held_back = []
        yield
        held_back, self._held_back = self._held_back, None
        self._write(b"".join(held_back))

    def _write(self, raw: bytes) -> None:
        if self._held_back is not None:
            self._held_back.append(raw)
            return
        try:
            self.socket.settimeout(self.timeout_s)
            self.socket.sendall(raw)
        except TimeoutError:
            self._fail(f"the broker did not take {len(raw)} bytes within {self.timeout_s} s")
        except OSError as error:  # what the broker still has to say may be in our receive buffer
            self.transcript.append((">", -1, "write failed", type(error).__name__))

    # Receiving

    def call(self, method: MethodType, *, channel: int = 0, **fields: Any) -> Received:
        """Sends a method and returns its reply; other methods that come before the reply stay to be expected later."""
        self.send(method, channel=channel, **fields)
        replies = method.valid_responses
        return self._take(channel, lambda found: found.name in replies, " or ".join(replies))

    def expect(self, method: MethodType, *, channel: int = 0) -> Received:
        """The next thing on this channel, which must be this method. A confirm and a delivery have no order (RabbitMQ's
        confirms gather, its deliveries come from the queue's process): each is overlooked where the other is due."""
        overlooked = CONFIRMS if method is Basic.Deliver else (Basic.Deliver,) if method in CONFIRMS else ()
        received = self._take(channel, lambda found: found.method not in overlooked, method.name)
        if received.method is not method:
            self._fail(f"expected {method.name} on channel {channel}, the next thing is {received}")
        return received

    def take(self, method: MethodType, *, channel: int = 0) -> Received:
        """The first such method on this channel; what came before it stays to be expected."""
        return self._take(channel, lambda found: found.method is method, method.name)

    def next(self, *, channel: int = 0, wanted: str = "anything") -> Received:
        """Whatever comes next on this channel."""
        return self._take(channel, lambda _: True, wanted)

    def _take(self, channel: int, matches: Any, wanted: str) -> Received:
        deadline = time.monotonic() + self.timeout_s
        queue = self._queues.setdefault(channel, deque())
        looked_at = 0
        while True:
            while looked_at < len(queue):
                received = queue[looked_at]
                if matches(received):
                    del queue[looked_at]
                    return received
                if received.method in (Channel.Close, Connection.Close):
                    self._fail(f"wanted {wanted} on channel {channel}, there came {received}")
                looked_at += 1
            closed = next((found for found in self._queues.get(0, ()) if found.method is Connection.Close), None)
            if closed is not None and channel != 0:
                self._fail(f"wanted {wanted} on channel {channel}, there came {closed}")
            if self.ended:
                self._fail(f"wanted {wanted} on channel {channel}, the broker closed the socket")
            if not self._read(deadline):
                self._fail(f"wanted {wanted} on channel {channel}, nothing came within {self.timeout_s} s")

    def closes_instead(self, method: MethodType, *, channel: int) -> bool:
        """Whether the broker closes the channel or the connection, and does not send this method; what comes stays to
        be expected."""
        deadline = time.monotonic() + self.timeout_s
        while not any(found.method is method for found in self._queues.get(channel, ())):
            closes = (*self._queues.get(0, ()), *self._queues.get(channel, ()))
            if any(found.method in (Channel.Close, Connection.Close) for found in closes):
                return True
            if self.ended or not self._read(deadline):
                self._fail(f"wanted {method.name} on channel {channel}, or a close")
        return False

    def expect_connection_close(
        self, code: int, text: str | re.Pattern[str], *, cause: Cause = ANY_CAUSE, then: str = "end"
    ) -> Received:
        """connection.close with this code and text (without the code's name), caused by this method.

        Answers it and, unless `then` says "stay", waits until the broker has closed the socket.
        """
        received = self.take(Connection.Close)
        self._check_close(received, code, text, cause)
        self.is_open = False
        if then == "end":
            self.send(Connection.CloseOk)
            self.expect_end(within_s=END_TIMEOUT_S)
        return received

    def expect_end(self, *, within_s: float | None = None) -> None:
        """The broker closes the socket; nothing else comes on channel 0 before that."""
        limit_s = self.timeout_s if within_s is None else within_s
        deadline = time.monotonic() + limit_s
        while not self.ended:
            if not self._read(deadline):
                self._fail(f"the broker did not close the socket within {limit_s} s")
        if self._queues.get(0):
            self._fail(f"before the end of the connection there came {self._queues[0][0]}")
        self.is_open = False

    def expect_bytes(self, raw: bytes) -> None:
        """Exactly these bytes, outside any frame (an answer to a wrong protocol header)."""
        deadline = time.monotonic() + self.timeout_s
        while len(self._buffer) < len(raw) and not self.ended:
            if not self._read(deadline, parse=False):
                self._fail(f"wanted {raw!r}, there came {bytes(self._buffer)!r}")
        got = bytes(self._buffer[: len(raw)])
        del self._buffer[: len(raw)]
        self.transcript.append(("<", -1, "bytes", got))
        assert got == raw, f"wanted {raw!r}, there came {got!r}"

    def nothing_within(self, seconds: float) -> None:
        """Nothing comes for this long. It costs the time: ChannelUnderTest.expect_nothing often proves the same."""
        deadline = time.monotonic() + seconds
        while self._read(deadline):
            self._fail_if_anything(f"within {seconds} s")
        self._fail_if_anything(f"within {seconds} s")

    def _fail_if_anything(self, when: str) -> None:
        for queue in self._queues.values():
            for received in queue:
                self._fail(f"nothing should come {when}, there came {received}")
        if self.ended:
            self._fail(f"nothing should come {when}, the broker closed the socket")

    def _check_close(self, received: Received, code: int, text: str | re.Pattern[str], cause: Cause) -> None:
        if isinstance(text, str):
            expected = f"{REPLY_NAMES[code]} - {text}" if REPLY_NAMES[code] else text
            matches = received.reply_text == expected
        else:
            expected = f"{REPLY_NAMES[code]} - {text.pattern}"
            matches = re.fullmatch(expected, received.reply_text) is not None
        if received.reply_code != code or not matches:
            came = f"there came {received.reply_code} {received.reply_text!r}"
            self._fail(f"expected {received.name} {code} {expected!r}\n{came}")
        blamed = (received.class_id, received.method_id)
        if cause == ANY_CAUSE:
            return
        expected_blame = (0, 0) if isinstance(cause, str) else (cause.index >> 16, cause.index & 0xFFFF)
        if blamed != expected_blame:
            self._fail(f"expected {received.name} to blame {expected_blame}, it blames class and method {blamed}")

    def _read(self, deadline: float, *, parse: bool = True) -> bool:
        """Reads once; False when the deadline passed before anything came."""
        left_s = deadline - time.monotonic()
        if left_s <= 0 or self.ended:
            return False
        self.socket.settimeout(left_s)
        try:
            data = self.socket.recv(262144)
        except TimeoutError:
            return False
        except OSError:
            data = b""
        if not data:
            self.ended = True
            self.transcript.append(("<", -1, "end", None))
        self._buffer += data
        if parse:
            self._split()
        return True

    def _split(self) -> None:
        while len(self._buffer) >= 7:
            kind, channel, size = struct.unpack_from(">BHI", self._buffer)
            if len(self._buffer) < size + 8:
                return
            payload, end = bytes(self._buffer[7 : 7 + size]), self._buffer[7 + size]
            del self._buffer[: size + 8]
            assert end == FRAME_END[0], f"a frame of the broker ends with {end:#x}"
            assert not self.frame_max_bytes or size + 8 <= self.frame_max_bytes, (
                f"a frame of {size + 8} bytes is over frame_max"
            )
            self._handle(kind, channel, payload)

    def _handle(self, kind: int, channel: int, payload: bytes) -> None:
        if kind == METHOD:
            method, fields = codec.decode_method(payload)
            received = Received(method, channel, fields)
            if method in (Basic.Deliver, Basic.GetOk, Basic.Return):
                self._incoming[channel] = _Incoming(received)
            else:
                self._came(received)
            return
        if kind == HEARTBEAT:
            self.transcript.append(("<", channel, "Heartbeat", None))
            return
        incoming = self._incoming[channel]
        if kind == HEADER:
            incoming.left_bytes, incoming.received.typed_properties = codec.decode_content_header(payload)
        else:
            incoming.pieces.append(payload)
            incoming.left_bytes -= len(payload)
        if incoming.left_bytes == 0:
            del self._incoming[channel]
            incoming.received.body = b"".join(incoming.pieces)
            self._came(incoming.received)

    def _came(self, received: Received) -> None:
        self.transcript.append(received.as_entry())
        self._queues.setdefault(received.channel, deque()).append(received)

    def _fail(self, why: str) -> NoReturn:
        raise AssertionError(f"{why}\n\n{transcript_text(self.transcript)}")


QUESTIONS_MAX = 100  # how often a queue is asked at most, see ChannelUnderTest.depth
QUESTIONS_MORE = 4  # than there are messages


class ChannelUnderTest:
    """One channel of a client."""

    def __init__(self, client: Client, number: int) -> None:
        self.client = client
        self.number = number
        self._published = 0  # since the last question how deep a queue is

    def send(self, method: MethodType, **fields: Any) -> None:
        """A method on this channel; see Client.send."""
        self._published += method is Basic.Publish
        self.client.send(method, channel=self.number, **fields)

    def call(self, method: MethodType, **fields: Any) -> Received:
        """A method and its reply; see Client.call."""
        return self.client.call(method, channel=self.number, **fields)

    def expect(self, method: MethodType) -> Received:
        """The next thing on this channel, which must be this method."""
        return self.client.expect(method, channel=self.number)

    def take(self, method: MethodType) -> Received:
        """The first such method on this channel; what came before stays to be expected."""
        return self.client.take(method, channel=self.number)

    def next(self) -> Received:
        """Whatever comes next."""
        return self.client.next(channel=self.number)

    def take_all(self, method: MethodType) -> list[Received]:
        """All such methods that have come already; a round trip before makes sure of what is due."""
        waiting = self.client._queues.setdefault(self.number, deque())
        taken = [received for received in waiting if received.method is method]
        for received in taken:
            waiting.remove(received)
        return taken

    def expect_close(
        self, code: int, text: str | re.Pattern[str], *, cause: Cause = ANY_CAUSE, reply: bool = True
    ) -> Received:
        """channel.close with this code and text (without the code's name; a pattern must match it whole), caused by
        this method; answers it, so that the number can be opened again."""
        received = self.take(Channel.Close)
        self.client._check_close(received, code, text, cause)
        if reply:
            self.send(Channel.CloseOk)
        return received

    def reopen(self) -> ChannelUnderTest:
        """Opens the number again after it was closed."""
        self.call(Channel.Open)
        return self

    # The commonest operations, with short arguments

    def declare(self, queue: str = "", **fields: Any) -> Received:
        """queue.declare; `arguments` may hold typed values."""
        return self.call(Queue.Declare, queue=queue, **fields)

    def declare_exchange(self, exchange: str, kind: str = "direct", **fields: Any) -> Received:
        return self.call(Exchange.Declare, exchange=exchange, exchange_type=kind, **fields)

    def bind(self, queue: str, exchange: str, key: str | bytes = "", **arguments: Any) -> Received:
        return self.call(
            Queue.Bind, queue=queue, exchange=exchange, routing_key=key, arguments=arguments.pop("arguments", arguments)
        )

    def publish(
        self,
        exchange: str = "",
        key: str | bytes = "",
        body: bytes = b"",
        *,
        mandatory: bool = False,
        immediate: bool = False,
        **properties: Any,
    ) -> None:
        """basic.publish with these properties (pamqp's names: headers, delivery_mode, message_type, ...)."""
        self.send(
            Basic.Publish,
            exchange=exchange,
            routing_key=key,
            mandatory=mandatory,
            immediate=immediate,
            properties=properties,
            body=body,
        )

    def publish_all(self, queue: str, bodies: Iterable[bytes], **properties: Any) -> None:
        """One message for each body, to the queue by the default exchange."""
        for body in bodies:
            self.publish("", queue, body, **properties)

    def get(self, queue: str = "", *, no_ack: bool = True) -> Received | None:
        """A message (acknowledged unless no_ack is False), or None when the queue is empty."""
        reply = self.call(Basic.Get, queue=queue, no_ack=no_ack)
        return None if reply.method is Basic.GetEmpty else reply

    def get_one(self, queue: str = "", *, no_ack: bool = True) -> Received:
        """A message that must be there, or come within the time for replies.

        RabbitMQ orders nothing between channels: this question may overtake what another channel published before it.
        """
        deadline = time.monotonic() + self.client.timeout_s
        while (message := self.get(queue, no_ack=no_ack)) is None:
            if time.monotonic() > deadline:
                self.client._fail(f"queue {queue!r} is empty")
            time.sleep(STEP_S)
        return message

    def drain(self, queue: str) -> list[bytes]:
        """The bodies of all that is ready, taken out of the queue."""
        bodies = []
        while (message := self.get(queue)) is not None:
            bodies.append(message.body)
        return bodies

    def consume(self, queue: str = "", **fields: Any) -> str:
        """basic.consume; returns the consumer tag."""
        tag: str = self.call(Basic.Consume, queue=queue, **fields).consumer_tag
        return tag

    def deliveries(self, count: int) -> list[Received]:
        """This many deliveries, which must be the next things on the channel."""
        return [self.expect(Basic.Deliver) for _ in range(count)]

    def ack(self, delivery_tag: int, *, multiple: bool = False) -> None:
        self.send(Basic.Ack, delivery_tag=delivery_tag, multiple=multiple)

    def nack(self, delivery_tag: int, *, multiple: bool = False, requeue: bool = True) -> None:
        self.send(Basic.Nack, delivery_tag=delivery_tag, multiple=multiple, requeue=requeue)

    def reject(self, delivery_tag: int, *, requeue: bool = True) -> None:
        self.send(Basic.Reject, delivery_tag=delivery_tag, requeue=requeue)

    def qos(self, prefetch_count: int, *, globally: bool = False) -> None:
        self.call(Basic.Qos, prefetch_count=prefetch_count, global_=globally)

    def confirm(self) -> None:
        """confirm.select."""
        self.call(Confirm.Select)

    def await_confirms(self, up_to: int) -> list[tuple[int, bool]]:
        """Reads acks and nacks until all publishes up to this number are settled: (number, is an ack), ascending.
        Anything else that comes stays to be expected."""
        settled: dict[int, bool] = {}
        while len(settled) < up_to:
            received = self.client._take(self.number, lambda found: found.method in CONFIRMS, "a confirm")
            first = 1 if received.multiple else received.delivery_tag
            for number in range(first, received.delivery_tag + 1):
                settled.setdefault(number, received.method is Basic.Ack)
        return sorted(settled.items())

    def depth(self, queue: str) -> tuple[int, int]:
        """Messages ready and consumers, by passive declares.

        In RabbitMQ the question overtakes what was sent to the queue just before it (a queue's process answers it
        first), and between two questions at least one message is handled, but where the process happens to stand still
        right then. So the answer to the question after some more than there were messages counts them all.
        """
        for _ in range(QUESTIONS_MORE + min(self._published, QUESTIONS_MAX)):
            self.call(Queue.Declare, queue=queue, passive=True)
        self._published = 0
        reply = self.call(Queue.Declare, queue=queue, passive=True)
        return reply.message_count, reply.consumer_count

    def are_empty(self, *queues: str) -> bool:
        """Whether nothing is in these queues, nor goes round among them as dead letters do, which are between two of
        them now and then: twenty looks would find it."""
        return not any(self.depth(queue)[0] for _ in range(20) for queue in queues)

    def sync(self) -> None:
        """A round trip that changes nothing: all that was sent before has been handled by the channel."""
        self.call(Channel.Flow, active=True)

    def expect_nothing(self, *queues: str) -> None:
        """Nothing is there for this channel now. The queues are asked first, so that what they deliver is here."""
        for queue in queues:
            self.depth(queue)
        self.sync()
        for received in self.client._queues.get(self.number, ()):
            self.client._fail(f"nothing should be on channel {self.number}, there came {received}")


# Transcripts

_GENERATED = re.compile(r"amq\.(?:gen|ctag|rabbitmq\.reply-to)[-.][A-Za-z0-9+/=_.-]{8,}")
_TIMES = {"time", "timestamp_in_ms", "opentelemetry-time"}


def normalise(transcript: Iterable[Entry]) -> list[Entry]:
    """The transcript with what may differ between two runs replaced: generated names by numbers in the order they
    appear, time stamps that the broker made, and what it says about itself in connection.start. Types stay."""
    names: dict[str, str] = {}

    def name(match: re.Match[str]) -> str:
        prefix = (
            match.group().split("-")[0]
            if match.group().startswith(("amq.gen", "amq.ctag"))
            else "amq.rabbitmq.reply-to"
        )
        return names.setdefault(match.group(), f"{prefix}-#{len(names) + 1}")

    def clean(value: Any, key: str = "") -> Any:
        if isinstance(value, T):
            return ("T", 0) if value.tag == "T" and key in _TIMES else (value.tag, clean(value.value))
        if isinstance(value, Mapping):
            return {clean(item_key): clean(item, item_key) for item_key, item in value.items()}
        if isinstance(value, list | tuple):
            return [clean(item) for item in value]
        return _GENERATED.sub(name, value) if isinstance(value, str) else value

    entries: list[Entry] = []
    for direction, channel, what, details in transcript:
        if what == "Connection.Start":
            details = {**details, "server_properties": {}}
        if what != "Heartbeat":
            entries.append((direction, channel, what, clean(details)))
    return entries


def _shown(value: Any) -> str:
    if isinstance(value, T):
        return f"{value.tag}:{_shown(value.value)}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_shown, value)) + "]"
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:200]}... ({len(value)} long)"


def _entry_text(entry: Entry) -> str:
    direction, channel, what, details = entry
    where = "" if channel < 0 else f"{channel} "
    if isinstance(details, Mapping):
        return f"{direction} {where}{what} " + " ".join(f"{key}={_shown(value)}" for key, value in details.items())
    return f"{direction} {where}{what}" + ("" if details is None else f" {_shown(details)}")


def transcript_text(transcript: Iterable[Entry]) -> str:
    """The transcript for a reader, a line an entry."""
    return "\n".join(_entry_text(entry) for entry in transcript)
