"""The view that parts of a stream connection have of it: what was agreed on, and how to send."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from amqp_broker.access.client import Peer
from amqp_broker.broker.counters import ChannelCounts
from amqp_broker.broker.queues.stream import StreamQueue
from amqp_broker.protocols.stream import codes
from amqp_broker.protocols.stream.errors import RequestRefused
from amqp_broker.session.connection import ClientConnection

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker
    from amqp_broker.broker.descriptions import ChannelInfo


class Link(ClientConnection):
    """A connection, as its parts see it; arguments as of ``ClientConnection``."""

    def __init__(self, broker: Broker, peer: Peer, on_output: Callable[[], None]) -> None:
        super().__init__(broker, peer, on_output)
        self.client_properties: dict[str, str] = {}
        self.mechanism = ""
        self.heartbeat_s = broker.settings.heartbeat_s
        self.frame_bytes_max = broker.settings.stream_frame_bytes_max
        self.deliver_version = 1
        self.counts = ChannelCounts()
        self._is_closed = False
        self._is_open = False

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    @property
    def channel_count(self) -> int:
        """A connection stands for a channel."""
        return int(self._is_open)

    @property
    def state_name(self) -> str:
        """How it is, in the words of RabbitMQ's lists."""
        if self._is_open:
            return "blocked" if self.throttle.is_blocked else "running"
        return "closed" if self._is_closed else "starting"

    def stream(self, name: str) -> StreamQueue:
        """A stream of the virtual host.

        Raises:
            RequestRefused: there is none of that name.
        """
        queue = self.virtual_host.queues.get(name)
        if not isinstance(queue, StreamQueue):
            raise RequestRefused(codes.STREAM_DOES_NOT_EXIST)
        return queue

    def inspect_channel(self) -> ChannelInfo:
        """Describe it as a channel."""
        raise NotImplementedError
