"""The synchronous core under a load of its own, in memory: no socket, no event loop, no journal.

    python -m benchmarks.core WAY MESSAGES CHUNKS

A publisher's connection is handed so many chunks of so many messages of 12 bytes, transient, and what it and a consumer
are to be sent is taken. Nothing is measured here: that is what ``instructions.py`` runs it for.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from typing import Any

from pamqp import commands
from pamqp.frame import marshal

from amqp_broker.broker.broker import Broker
from amqp_broker.server.clock import SystemClock
from amqp_broker.settings import Settings
from benchmarks.frames import AckFrames, publish

WAYS = ("publish", "confirms", "auto-ack", "single-acks")
QUEUE = "benchmark"
PREFETCH = 1_000
WARM_UP_CHUNKS = 20


class Core:
    """A broker with a publisher and a consumer.

    Args:
        way: one of ``WAYS``; single acks come with confirms.
    """

    def __init__(self, way: str) -> None:
        self._broker: Any = Broker(Settings(), SystemClock())
        if hasattr(self._broker, "open"):
            self._broker.open()
        self._publisher = self._connection()
        self._consumer = self._connection()
        self._is_consumed = way in ("auto-ack", "single-acks")
        self._acks = AckFrames() if way == "single-acks" else None
        assert len(self._broker.open_connections) == 2, "the clients could not log in"
        self._tell(self._publisher, commands.Queue.Declare(queue=QUEUE))
        if way in ("confirms", "single-acks"):
            self._tell(self._publisher, commands.Confirm.Select())
        if self._acks is not None:
            self._tell(self._consumer, commands.Basic.Qos(prefetch_count=PREFETCH))
        if self._is_consumed:
            self._tell(self._consumer, commands.Basic.Consume(queue=QUEUE, no_ack=self._acks is None))

    def run(self, messages: int, chunks: int) -> None:
        """Put so many chunks of so many messages through."""
        chunk = publish("", QUEUE, b"x" * 12).frames * messages
        tag = 0
        for _ in range(chunks):
            self._hear(self._publisher, chunk)
            if self._is_consumed:
                _take(self._consumer)
            if self._acks is not None:
                self._hear(self._consumer, self._acks.of(tag + 1, tag + messages))
                tag += messages

    def _connection(self) -> Any:
        """A client that has logged in and opened a channel."""
        connection = _made(self._broker)
        connection.receive(b"AMQP\x00\x00\x09\x01")
        self._tell(connection, commands.Connection.StartOk({}, "PLAIN", "\0guest\0guest", "en_US"), channel=0)
        self._tell(connection, commands.Connection.TuneOk(2047, 131_072, 0), channel=0)
        self._tell(connection, commands.Connection.Open("/"), channel=0)
        self._tell(connection, commands.Channel.Open())
        return connection

    def _tell(self, connection: Any, method: Any, channel: int = 1) -> None:
        self._hear(connection, marshal(method, channel))

    def _hear(self, connection: Any, data: bytes) -> None:
        connection.receive(data)
        _take(connection)


def _take(connection: Any) -> None:
    while output := connection.take_output():
        connection.output_sent(sum(map(len, output)))


def _made(broker: Any) -> Any:
    """A connection, of this tree or of one from before the protocols had a folder each."""
    try:
        from amqp_broker.access.client import Peer
        from amqp_broker.protocols.amqp091.connection import Connection
    except ImportError:
        from amqp_broker.session.client import Peer  # type: ignore[import-not-found, no-redef]

        from amqp_broker.session.connection import Connection  # type: ignore[attr-defined, no-redef]

    return Connection(broker, Peer("127.0.0.1", 40_000, True), lambda: None)


def main(arguments: Sequence[str]) -> None:
    """Warm up, and run."""
    way, messages, chunks = arguments[0], int(arguments[1]), int(arguments[2])
    gc.disable()
    core = Core(way)
    core.run(messages, WARM_UP_CHUNKS + chunks)


if __name__ == "__main__":
    main(sys.argv[1:])
