"""The view that parts of a stream connection have of it: what was agreed on, and how to send."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from amqp_broker.access.client import Peer
from amqp_broker.broker.counters import STREAM
from amqp_broker.broker.queues.stream import StreamQueue
from amqp_broker.protocols.stream import codes
from amqp_broker.protocols.stream.errors import RequestRefused
from amqp_broker.session.one_channel import OneChannelConnection

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker


class Link(OneChannelConnection):
    """A connection, as its parts see it; arguments as of ``ClientConnection``."""

    def __init__(self, broker: Broker, peer: Peer, on_output: Callable[[], None]) -> None:
        super().__init__(broker, peer, on_output)
        self.client_properties: dict[str, str] = {}
        self.mechanism = ""
        self.heartbeat_s = broker.settings.heartbeat_s
        self.frame_bytes_max = broker.settings.stream_frame_bytes_max
        self.deliver_version = 1

    @property
    def counted_as(self) -> str:
        return STREAM

    def count_refusal(self, code: int) -> None:
        """Count a command that is answered with a code, for the metrics."""
        counts = self.broker.refused_commands
        counts[codes.PROTOCOL, code] = counts.get((codes.PROTOCOL, code), 0) + 1

    def stream(self, name: str) -> StreamQueue:
        """A stream of the virtual host.

        Raises:
            RequestRefused: there is none of that name.
        """
        queue = self.virtual_host.queues.get(name)
        if not isinstance(queue, StreamQueue):
            raise RequestRefused(codes.STREAM_DOES_NOT_EXIST)
        return queue
