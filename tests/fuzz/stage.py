"""A broker on which nobody has left anything, an honest client, and connections that mean no good.

Shared by the targets that run a whole broker (``targets.py``, ``other_protocols.py``).
"""

from __future__ import annotations

from typing import ClassVar, Self

from amqp_broker.protocols.amqp091.connection import Connection
from tests.support.client import LOOPBACK, PROTOCOL_HEADER, Client
from tests.support.conversation import HANDSHAKE
from tests.support.memory_broker import MemoryBroker

CONNECTIONS = 3


class Stage:
    """A broker and an honest client. To make them takes longer than most inputs, so one is used again and again, as
    long as an input leaves nothing in it.
    """

    kept: ClassVar[Stage | None] = None

    def __init__(self) -> None:
        self.broker = MemoryBroker(message_size_bytes_max=100_000)
        self.honest = Client(self.broker).open()
        self.channel = self.honest.channel()
        self.channel.declare("honest")
        self._furniture = self._names()

    @classmethod
    def ready(cls) -> Stage:
        """One on which nobody has left anything."""
        stage, cls.kept = cls.kept or Stage(), None
        return stage

    def give_back(self) -> None:
        """Keep this one for the next input, if it can be."""
        del self.broker.connections[1:]
        if self._names() == self._furniture and self.broker.timers.next_deadline_ms() is None:
            Stage.kept = self

    def _names(self) -> list[object]:
        host = self.broker.virtual_host
        bindings = sum(len(exchange.bindings) for exchange in host.exchanges.values())
        return [sorted(host.queues), sorted(host.exchanges), bindings, self.honest.is_finished()]


class Scene:
    """A stage, and connections that mean no good."""

    greeting = PROTOCOL_HEADER + b"".join(HANDSHAKE)

    def __init__(self) -> None:
        self._stage = Stage.ready()
        self.broker = self._stage.broker
        self.connections = [Connection(self.broker, LOOPBACK, lambda: None) for _ in range(CONNECTIONS)]
        self.broker.connections.extend(self.connections)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is not None:
            return
        self.broker.check_invariants()
        for connection in self.connections:
            connection.take_output()
            connection.lost("the input is over")
            assert connection.finished
        self.broker.check_invariants()
        honest, channel = self._stage.honest, self._stage.channel
        assert list(self.broker.open_connections) == [honest.connection]
        if "honest" not in self.broker.virtual_host.queues:  # they may do with it what they like, as with any queue
            channel.declare("honest")
        channel.drain("honest")
        channel.publish("", "honest", b"a message")
        assert channel.drain("honest") == [b"a message"]
        self._stage.give_back()
