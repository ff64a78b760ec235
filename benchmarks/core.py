"""The synchronous core under a load of its own: no socket, no event loop, no thread.

    python -m benchmarks.core WAY MESSAGES CHUNKS

A publisher's connection is handed so many chunks of so many messages of 12 bytes, and what it and a consumer are to be
sent is taken. In the persistent ways the journal is written behind each chunk and its acknowledgements, as it is where
a client is quick: next to nothing of what is acknowledged is left to be written. Nothing is measured here: that is what
``instructions.py`` runs it for.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pamqp import commands
from pamqp.frame import marshal

from amqp_broker.broker.broker import Broker
from amqp_broker.journal.journal import SegmentJournal
from amqp_broker.journal.real_files import RealFiles
from amqp_broker.server.clock import SystemClock
from amqp_broker.settings import Settings
from benchmarks.frames import AckFrames, publish

PERSISTENT = ("persistent-confirms", "persistent-acks")
WAYS = ("publish", "confirms", "auto-ack", "single-acks", "get", *PERSISTENT)
QUEUE = "benchmark"
PREFETCH = 1_000
WARM_UP_CHUNKS = 20


class Core:
    """A broker with a publisher and a consumer.

    Args:
        way: one of ``WAYS``; acks are single ones and come with confirms, as does all that is persistent; a message is
            got by its publisher.
        folder: the journal's.
    """

    def __init__(self, way: str, folder: Path) -> None:
        self._broker: Any = Broker(Settings(), SystemClock())
        self._journal: Any = SegmentJournal(RealFiles(folder)) if way in PERSISTENT else None
        if self._journal is not None:
            self._broker.open(self._journal)
        elif hasattr(self._broker, "open"):
            self._broker.open()
        self._publisher = self._connection()
        self._consumer = self._connection()
        self._is_got = way == "get"
        self._is_consumed = way in ("auto-ack", "single-acks", "persistent-acks")
        self._acks = AckFrames() if way.endswith("-acks") else None
        assert len(self._broker.open_connections) == 2, "the clients could not log in"
        self._tell(self._publisher, commands.Queue.Declare(queue=QUEUE, durable=way in PERSISTENT))
        self._keep()
        if way == "confirms" or self._acks is not None or way in PERSISTENT:
            self._tell(self._publisher, commands.Confirm.Select())
        if self._acks is not None:
            self._tell(self._consumer, commands.Basic.Qos(prefetch_count=PREFETCH))
        if self._is_consumed:
            self._tell(self._consumer, commands.Basic.Consume(queue=QUEUE, no_ack=self._acks is None))

    def run(self, messages: int, chunks: int) -> None:
        """Put so many chunks of so many messages through."""
        message = publish("", QUEUE, b"x" * 12, persistent=self._journal is not None).frames
        if self._is_got:
            message += marshal(commands.Basic.Get(queue=QUEUE, no_ack=True), 1)
        chunk = message * messages
        tag = 0
        for _ in range(chunks):
            self._hear(self._publisher, chunk)
            if self._is_consumed:
                _take(self._consumer)
            if self._acks is not None:
                self._hear(self._consumer, self._acks.of(tag + 1, tag + messages))
                tag += messages
            self._keep()

    def _keep(self) -> None:
        """Have the journal written, and tell those who wait for that."""
        if self._journal is None:
            return
        batch = self._broker.durability.take_batch()
        if batch is not None:
            self._journal.write(batch)
            self._journal.committed(batch)
        self._broker.committed()
        _take(self._publisher)

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
    with TemporaryDirectory() as folder:
        core = Core(way, Path(folder) / "journal")
        core.run(messages, WARM_UP_CHUNKS + chunks)


if __name__ == "__main__":
    main(sys.argv[1:])
