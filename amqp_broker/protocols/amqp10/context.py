"""A connection as its parts know it, and a session as its links do: what was agreed on, and what it does for them.

``connection.py`` and ``session.py`` derive from these, and handle what comes in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from amqp_broker.access.client import Peer
from amqp_broker.broker.counters import AMQP10, ChannelCounts
from amqp_broker.broker.descriptions import ChannelInfo
from amqp_broker.broker.observer import Channel
from amqp_broker.broker.queues.unacknowledged import Unacknowledged
from amqp_broker.protocols.amqp10.compound import Map
from amqp_broker.protocols.amqp10.errors import ProtocolError
from amqp_broker.protocols.amqp10.frames import FRAME_BYTES_MIN_MAX
from amqp_broker.protocols.amqp10.messages import Translations
from amqp_broker.session.connection import ClientConnection

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker

SERIAL_MASK: Final = 0xFFFF_FFFF  # serial numbers of 32 bits (RFC 1982)


def behind(first: int, second: int) -> int:
    """By how much the first serial number comes behind the second; less than 0 where it comes before it."""
    distance = (first - second) & SERIAL_MASK
    return distance if distance < 0x8000_0000 else distance - 0x1_0000_0000


class ConnectionContext(ClientConnection):
    """A connection, as its parts see it; arguments as of ``ClientConnection``."""

    def __init__(self, broker: Broker, peer: Peer, on_output: Callable[[], None]) -> None:
        super().__init__(broker, peer, on_output)
        self.container = ""  # the client's name for itself
        self.mechanism = ""  # it has logged in with
        self.client_properties = Map([])
        self.frame_bytes_max = FRAME_BYTES_MIN_MAX  # that the client takes
        self.channel_max = 0
        self.idle_ms = 0  # after which the client must have heard something; 0 for never
        self.translations = Translations()
        settings = broker.settings
        self.message_bytes_max = settings.message_size_bytes_max or broker.behaviour.message_size_bytes_max

    @property
    def state_name(self) -> str:
        """How it is, in the words of RabbitMQ's lists."""
        raise NotImplementedError

    @property
    def counted_as(self) -> str:
        return AMQP10

    def fail(self, error: ProtocolError) -> None:
        """Tell the client what is wrong, and end the connection."""
        raise NotImplementedError

    def fail_session(self, channel: int, error: ProtocolError) -> None:
        """Tell the client what is wrong, and end the session on this channel."""
        raise NotImplementedError


class SessionContext:
    """A session, as its links see it. To those who look on it is a channel.

    Args:
        connection: whose it is.
        number: of the channel that the client sends on; ours is the same.
    """

    def __init__(self, connection: ConnectionContext, number: int) -> None:
        self.connection = connection
        self.channel_number = number
        self.number = number + 1  # among the channels, which count from 1
        self.counts = ChannelCounts()
        self.unsettled: dict[int, Unacknowledged] = {}  # what has gone out, by delivery id, the oldest first
        self.window = 0  # how many transfers the client takes yet
        self.has_room = False  # whether links may deliver

    @property
    def channel(self) -> Channel:
        """What stands for the session, for those who look on."""
        raise NotImplementedError

    def inspect(self) -> ChannelInfo:
        """Describe it as a channel."""
        raise NotImplementedError

    @property
    def has_waiting(self) -> bool:
        """Whether transfers wait for the client: for its window, or for it to take what was sent before."""
        raise NotImplementedError

    def send(self, body: bytes) -> None:
        """Send a frame without a payload."""
        raise NotImplementedError

    def next_delivery_id(self) -> int:
        """The number of the next delivery."""
        raise NotImplementedError

    def send_transfer(self, handle: int, delivery_id: int, settled: bool, payload: bytes) -> None:
        """Send a delivery, in as many frames as it takes, and when the client's window allows it."""
        raise NotImplementedError

    def send_flow(
        self, handle: int, delivery_count: int, credit: int, *, available: int | None = None, drain: bool = False
    ) -> None:
        """Send the state of a link, and with it that of the session."""
        raise NotImplementedError

    def confirm_later(self, delivery_id: int, link: object, outcome: int) -> None:
        """Settle a delivery of the client when the journal has kept what it must."""
        raise NotImplementedError

    def detach_link(self, handle: int, error: ProtocolError) -> None:
        """End one of its links with an error."""
        raise NotImplementedError

    def fail(self, error: ProtocolError) -> None:
        """End it with an error, if it has not ended."""
        raise NotImplementedError
