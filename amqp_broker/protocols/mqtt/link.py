"""A connection as its parts see it: who the client is, what it has asked for, how to reach the others.

``connection.py`` derives from it, and handles what comes in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from amqp_broker.access.client import Peer
from amqp_broker.broker.client_session import ClientSession
from amqp_broker.broker.counters import MQTT
from amqp_broker.broker.observer import Channel
from amqp_broker.broker.queues.consumers import Consumer, Deliveries
from amqp_broker.protocols.mqtt.messages import Translations
from amqp_broker.session.one_channel import OneChannelConnection

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker


class Link(OneChannelConnection):
    """A connection, as its parts see it; arguments as of ``ClientConnection``."""

    def __init__(self, broker: Broker, peer: Peer, on_output: Callable[[], None]) -> None:
        super().__init__(broker, peer, on_output)
        self.level = 0  # of the protocol; 0 before CONNECT
        self.client_id = ""
        self.is_bridge = False  # another broker, which has its own topics marked by itself
        self.keep_alive_s = 0
        self.client_packet_bytes_max = 0  # 0 for no limit
        self.client_topic_aliases_max = 0
        self.has_resumed = False  # a session that was there
        self.receive_maximum = 0  # of deliveries that wait for their acknowledgement
        self.translations = Translations()
        self._session: ClientSession | None = None

    @property
    def session(self) -> ClientSession:
        """What is remembered of the client."""
        assert self._session is not None
        return self._session

    @property
    def counted_as(self) -> str:
        return MQTT[self.level]

    # --- the other parts

    @property
    def channel(self) -> Channel:
        """What stands for the connection's channel, for those who look on."""
        raise NotImplementedError

    def deliveries(self, *, at_most_once: bool) -> Deliveries:
        """Where the messages of the client's queues go."""
        raise NotImplementedError

    def not_local(self, topic: str) -> frozenset[str]:
        """Those of the client's queues that do not want what it publishes itself to this topic."""
        raise NotImplementedError

    def hold_deliveries(self) -> None:
        """The client gets no message before it was told of one of its own."""
        raise NotImplementedError

    def go_on_delivering(self) -> None:
        """It is told at the end of the chunk, if it need not wait for the journal: after that it gets messages."""
        raise NotImplementedError

    def queue_has_gone(self, consumer: Consumer) -> None:
        """Somebody has deleted one of the client's queues."""
        raise NotImplementedError
