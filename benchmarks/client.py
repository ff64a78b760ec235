"""A small AMQP client on a blocking socket, for what happens before the clock runs: connecting, declaring, filling.

While the clock runs, only its socket is used. pamqp does the encoding.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from pamqp import commands
from pamqp.frame import marshal, unmarshal
from pamqp.header import ProtocolHeader

from benchmarks.frames import FRAME_SIZE_BYTES_MAX, Batch, publish
from interop.brokers import Address

CONSUMER_TAG = "consumer-{:05}"
FILL_TIMEOUT_S = 60.0
_FILL_BYTES = 1_048_576


class Client:
    """One connection without heartbeats.

    Args:
        address: the broker.
        channels: how many are opened, from 1 on.
    """

    def __init__(self, address: Address, channels: int = 1) -> None:
        self.socket = socket.create_connection((address.host, address.port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""
        self.socket.sendall(ProtocolHeader(0, 9, 1).marshal())
        self._receive()
        self._shake_hands(address)
        for channel in range(1, channels + 1):
            self.call(commands.Channel.Open(), channel)
        self.socket.settimeout(None)

    def _shake_hands(self, address: Address) -> None:
        response = f"\0{address.user}\0{address.password}"
        capabilities: Any = {"capabilities": {"consumer_cancel_notify": True}}
        self.call(commands.Connection.StartOk(capabilities, "PLAIN", response, "en_US"), 0)
        self.socket.sendall(marshal(commands.Connection.TuneOk(2047, FRAME_SIZE_BYTES_MAX, 0), 0))
        self.call(commands.Connection.Open(address.vhost), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def call(self, method: Any, channel: int = 1) -> Any:
        """Send a method and return the answer; an answer that closes is an error."""
        self.socket.sendall(marshal(method, channel))
        return self._receive()

    def _receive(self) -> Any:
        while True:
            if len(self.rest) >= 7 and len(self.rest) >= int.from_bytes(self.rest[3:7], "big") + 8:
                used, _, value = unmarshal(self.rest)
                self.rest = self.rest[used:]
                if isinstance(value, commands.Channel.Close | commands.Connection.Close):
                    raise RuntimeError(f"the broker refused: {value.reply_code} {value.reply_text}")
                return value
            data = self.socket.recv(65_536)
            if not data:
                raise RuntimeError("the broker closed the connection")
            self.rest += data

    # --- what cells need

    def declare(self, queue: str, *, durable: bool = False, **arguments: Any) -> None:
        """Declare a queue that is empty and has no bindings."""
        self.delete([queue])
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        self.call(commands.Queue.Declare(queue=queue, durable=durable, arguments=named))

    def declare_exchange(self, exchange: str, exchange_type: str) -> None:
        """Declare an exchange without bindings."""
        self.call(commands.Exchange.Delete(exchange=exchange))
        self.call(commands.Exchange.Declare(exchange=exchange, exchange_type=exchange_type, durable=True))

    def bind(self, queue: str, exchange: str, routing_keys: Iterable[str], arguments: Any = None) -> None:
        """Bind a queue by each of the keys; the last one's answer is awaited."""
        frames = [
            marshal(commands.Queue.Bind(0, queue, exchange, key, nowait=True, arguments=arguments or {}), 1)
            for key in routing_keys
        ]
        self.socket.sendall(b"".join(frames))
        self.ready_count(queue)

    def delete(self, queues: Iterable[str]) -> None:
        """Delete queues, whether they exist or not."""
        for queue in queues:
            self.call(commands.Queue.Delete(queue=queue))

    def ready_count(self, queue: str) -> int:
        """How many messages are ready."""
        return int(self.call(commands.Queue.Declare(queue=queue, passive=True)).message_count)

    def consume(self, queue: str, number: int, *, channel: int = 1, no_ack: bool, prefetch: int = 0) -> None:
        """Start a consumer whose tag has always the same length; deliveries may follow at once."""
        if prefetch:
            self.call(commands.Basic.Qos(prefetch_count=prefetch), channel)
        tag = CONSUMER_TAG.format(number)
        self.socket.sendall(marshal(commands.Basic.Consume(0, queue, tag, no_ack=no_ack, nowait=True), channel))

    def fill(self, queue: str, count: int, body: bytes = b"x" * 12, *, persistent: bool = False) -> None:
        """Publish so many messages more, and return when they are in the queue."""
        wanted = self.ready_count(queue) + count
        message = publish("", queue, body, persistent=persistent).frames
        batch = Batch(message * (_FILL_BYTES // len(message)), _FILL_BYTES // len(message))
        whole, rest = divmod(count, batch.count)
        for _ in range(whole):
            self.socket.sendall(batch.frames)
        self.socket.sendall(message * rest)
        deadline_s = time.monotonic() + FILL_TIMEOUT_S
        while (found := self.ready_count(queue)) < wanted:  # RabbitMQ counts before the last ones have arrived
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"only {found} of {wanted} messages arrived in {queue}")
            time.sleep(0.05)
