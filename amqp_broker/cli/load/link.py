"""One connection to a broker with one channel: calls that wait for their answer, then frames without waiting.

pamqp does the encoding of what happens once; frames of messages are taken apart by hand.
"""

from __future__ import annotations

import socket
import ssl
from collections import deque
from collections.abc import Iterator
from typing import Any

from pamqp import commands
from pamqp.body import ContentBody
from pamqp.frame import marshal, unmarshal
from pamqp.header import ContentHeader, ProtocolHeader

from amqp_broker.cli.load.address import Address

CHANNEL = 1
FRAME_BYTES_MAX = 131_072
RECEIVE_BYTES = 262_144
CONNECT_TIMEOUT_S = 10.0
METHOD_FRAME, HEADER_FRAME, BODY_FRAME = 1, 2, 3
CONNECTION_CLOSE, CHANNEL_CLOSE = 10 << 16 | 50, 20 << 16 | 40
HEAD_BYTES, OVERHEAD_BYTES = 7, 8


class BrokerRefused(Exception):
    """The broker has closed the connection or the channel, or cannot be reached; the text says why."""


class Link:
    """A connection, without heartbeats.

    Args:
        address: the broker.

    Raises:
        BrokerRefused: nobody answers, or the login is refused.
    """

    def __init__(self, address: Address) -> None:
        self._received = bytearray()
        self._unsent: deque[memoryview] = deque()
        try:
            self.socket = self._connect(address)
            self.socket.sendall(ProtocolHeader(0, 9, 1).marshal())
            self._answer()
            response = f"\0{address.user}\0{address.password}"
            capabilities: Any = {
                "capabilities": {"consumer_cancel_notify": True, "authentication_failure_close": True},
                "connection_name": "amqp-broker bench",
            }
            self.call(commands.Connection.StartOk(capabilities, "PLAIN", response, "en_US"), 0)
            self.socket.sendall(marshal(commands.Connection.TuneOk(2047, FRAME_BYTES_MAX, 0), 0))
            self.call(commands.Connection.Open(address.virtual_host), 0)
            self.call(commands.Channel.Open())
        except OSError as error:
            raise BrokerRefused(f"cannot connect to {address}: {error.strerror or error}") from error

    @staticmethod
    def _connect(address: Address) -> socket.socket:
        connected = socket.create_connection((address.host, address.port), CONNECT_TIMEOUT_S)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not address.is_tls:
            return connected
        return ssl.create_default_context().wrap_socket(connected, server_hostname=address.host)

    def call(self, method: Any, channel: int = CHANNEL) -> Any:
        """Send a method and wait for the answer.

        Raises:
            BrokerRefused: the answer is an end.
        """
        self.socket.sendall(marshal(method, channel))
        return self._answer()

    def _answer(self) -> Any:
        while True:
            if len(self._received) >= HEAD_BYTES:
                size = int.from_bytes(self._received[3:7], "big") + OVERHEAD_BYTES
                if len(self._received) >= size:
                    _, _, method = unmarshal(bytes(self._received[:size]))
                    del self._received[:size]
                    if isinstance(method, commands.Connection.Close | commands.Channel.Close):
                        raise BrokerRefused(f"the broker refused: {method.reply_code} {method.reply_text}")
                    return method
            data = self.socket.recv(RECEIVE_BYTES)
            if not data:
                raise BrokerRefused("the broker closed the connection")
            self._received += data

    def declare(self, queue: str, *, durable: bool, arguments: dict[str, Any]) -> None:
        """See that there is such a queue.

        Raises:
            BrokerRefused: there is another one of that name. So it is below, for other reasons.
        """
        self.call(commands.Queue.Declare(queue=queue, durable=durable, arguments=arguments))

    def delete(self, queue: str) -> None:
        """Delete a queue."""
        self.call(commands.Queue.Delete(queue=queue))

    def select_confirms(self) -> None:
        """Have all that is published confirmed."""
        self.call(commands.Confirm.Select())

    def consume(self, queue: str, *, no_ack: bool, prefetch: int) -> None:
        """Start a consumer; deliveries may follow at once."""
        if prefetch and not no_ack:
            self.call(commands.Basic.Qos(prefetch_count=prefetch))
        self.call(commands.Basic.Consume(queue=queue, no_ack=no_ack))

    def do_not_wait(self) -> None:
        """From now on nothing waits; there are no more calls."""
        self.socket.setblocking(False)

    def close(self) -> None:
        """Leave without a word."""
        self.socket.close()

    # --- without waiting

    @property
    def has_unsent(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._unsent)

    def send(self, data: bytes | bytearray) -> None:
        """Send what the system takes; the rest waits for ``send_rest``."""
        self._unsent.append(memoryview(data))
        self.send_rest()

    def send_rest(self) -> None:
        """Send more of what waits."""
        while self._unsent:
            try:
                sent_bytes = self.socket.send(self._unsent[0])
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return
            except OSError as error:
                raise BrokerRefused(f"the connection has ended: {error.strerror or error}") from error
            if sent_bytes == len(self._unsent[0]):
                self._unsent.popleft()
            else:
                self._unsent[0] = self._unsent[0][sent_bytes:]

    def frames(self) -> Iterator[tuple[int, memoryview]]:
        """Read what is there; the type and the payload of each whole frame.

        Raises:
            BrokerRefused: the broker ends the connection or the channel.
        """
        try:
            data = self.socket.recv(RECEIVE_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError as error:
            raise BrokerRefused(f"the connection has ended: {error.strerror or error}") from error
        if not data:
            raise BrokerRefused("the broker closed the connection")
        self._received += data
        whole, position, end = bytes(self._received), 0, len(self._received)
        view = memoryview(whole)
        while end - position >= HEAD_BYTES:
            start = position + HEAD_BYTES
            stop = start + int.from_bytes(whole[position + 3 : start], "big")
            if stop >= end:
                break
            kind = whole[position]
            if kind == METHOD_FRAME:
                _check_goes_on(whole[start:stop])
            yield kind, view[start:stop]
            position = stop + 1
        self._received = bytearray(view[position:])


def message_frames(routing_key: str, size_bytes: int, *, is_persistent: bool) -> tuple[bytes, int]:
    """A message to the default exchange, and where in it its body begins."""
    method = marshal(commands.Basic.Publish(routing_key=routing_key), CHANNEL)
    properties = commands.Basic.Properties(delivery_mode=2 if is_persistent else 1)
    header = marshal(ContentHeader(body_size=size_bytes, properties=properties), CHANNEL)
    body, content = b"x" * size_bytes, b""
    piece_bytes = FRAME_BYTES_MAX - OVERHEAD_BYTES
    for start in range(0, len(body), piece_bytes):
        content += marshal(ContentBody(body[start : start + piece_bytes]), CHANNEL)
    return method + header + content, len(method) + len(header) + HEAD_BYTES


def _check_goes_on(method: bytes) -> None:
    if int.from_bytes(method[:4], "big") in (CONNECTION_CLOSE, CHANNEL_CLOSE):
        code, length = int.from_bytes(method[4:6], "big"), method[6]
        raise BrokerRefused(f"the broker refused: {code} {method[7 : 7 + length].decode('utf-8', 'replace')}")
