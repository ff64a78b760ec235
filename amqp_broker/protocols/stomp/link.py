"""The view that parts of a STOMP connection have of it: what was agreed on, how to answer, and how to reach the others.

``connection.py`` derives from it, and handles what comes in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from amqp_broker.access.client import Peer
from amqp_broker.broker.counters import STOMP
from amqp_broker.broker.observer import Channel
from amqp_broker.errors import AmqpError
from amqp_broker.protocols.stomp.errors import StompError
from amqp_broker.protocols.stomp.frames import Headers
from amqp_broker.protocols.stomp.messages import Translations
from amqp_broker.session.one_channel import OneChannelConnection

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker


class Link(OneChannelConnection):
    """A connection, as its parts see it; arguments as of ``ClientConnection``."""

    def __init__(self, broker: Broker, peer: Peer, on_output: Callable[[], None]) -> None:
        super().__init__(broker, peer, on_output)
        self.version = ""  # empty before CONNECT was accepted
        self.session_id = ""
        self.heart_beat_s = (0, 0)  # of ours, and of the client's
        self.translations = Translations()
        self._delivery_number = 0

    def next_delivery(self) -> int:
        """The number of the next MESSAGE."""
        self._delivery_number += 1
        return self._delivery_number

    @property
    def counted_as(self) -> str:
        return STOMP

    # --- what the connection does for its parts

    @property
    def channel(self) -> Channel:
        """What stands for the connection's channel, for those who look on."""
        raise NotImplementedError

    def reply_queue(self, name: str) -> str:
        """The queue for replies that the client calls by this name; at its first use it is declared and consumed."""
        raise NotImplementedError

    def subscription_cancelled(self, tag: str) -> None:
        """The queue of a subscription has gone.

        Args:
            tag: of its consumer.
        """
        raise NotImplementedError

    def say(self, error: StompError, extra: Headers | None = None) -> None:
        """Send an ERROR."""
        raise NotImplementedError

    def fail_with(self, error: AmqpError, receipt: str | None = None) -> None:
        """End the connection because of an error of the domain.

        Args:
            receipt: that the frame has asked for which is wrong.
        """
        raise NotImplementedError
