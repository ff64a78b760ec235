"""The protocols that a listener may speak, by name, and how the connection of a new client is made for each.

A protocol that not everybody uses is registered with a function that imports it when its first client comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from amqp_broker.access.client import Peer
from amqp_broker.broker.broker import Broker
from amqp_broker.network.listeners import AMQP, MQTT, STOMP, STREAMS
from amqp_broker.network.pump import Conversation
from amqp_broker.protocols.amqp091.connection import Connection


class ClientConnection(Conversation, Protocol):
    """The members that the server asks of a protocol's connection, beside what the pump does (docs/architecture.md)."""

    @property
    def virtual_host_name(self) -> str:
        """The virtual host's name, empty before the client was let in."""
        ...

    @property
    def waiting_bytes(self) -> int:
        """What is to be sent and has not left."""

    @property
    def sent_bytes(self) -> int:
        """What has left."""

    def shut_down(self, reason: str) -> None:
        """End the connection, with the protocol's own words for that where it has some."""

    def detach(self) -> None:
        """Let go of all parts: it was lost, and nothing more is asked of it."""


MakeConnection = Callable[[Broker, Peer, Callable[[], None]], ClientConnection]  # the last is ``on_output``


def mqtt_connection(broker: Broker, peer: Peer, on_output: Callable[[], None]) -> ClientConnection:
    """The connection of an MQTT client."""
    from amqp_broker.protocols.mqtt.connection import Connection

    return Connection(broker, peer, on_output)


def stomp_connection(broker: Broker, peer: Peer, on_output: Callable[[], None]) -> ClientConnection:
    """The connection of a STOMP client."""
    from amqp_broker.protocols.stomp.connection import Connection

    return Connection(broker, peer, on_output)


def stream_connection(broker: Broker, peer: Peer, on_output: Callable[[], None]) -> ClientConnection:
    """The connection of a client of RabbitMQ's stream protocol."""
    from amqp_broker.protocols.stream.connection import Connection

    return Connection(broker, peer, on_output)


def amqp10_connection(broker: Broker, peer: Peer, on_output: Callable[[], None]) -> ClientConnection:
    """The connection of a client of AMQP 1.0, which comes to AMQP's own listeners: its first bytes say so."""
    from amqp_broker.protocols.amqp10.connection import Connection

    return Connection(broker, peer, on_output)


OTHERS: Final[Mapping[str, MakeConnection]] = {
    MQTT: mqtt_connection,
    STOMP: stomp_connection,
    STREAMS: stream_connection,
}
PROTOCOLS: Final[Mapping[str, MakeConnection]] = {AMQP: Connection, **OTHERS}
