"""The view that parts of a connection and of its channels have of it: who is there, what was agreed on, how to answer.

``connection.py`` and ``channel.py`` derive from these two, and handle what comes in.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from amqp_broker.access.client import Client, Peer
from amqp_broker.broker.counters import AMQP091, ChannelCounts
from amqp_broker.broker.works import Unfinished, Work
from amqp_broker.compilation import mypyc_attr
from amqp_broker.errors import AmqpError, ReplyCode
from amqp_broker.protocols.amqp091.remembered import Remembered
from amqp_broker.protocols.amqp091.states import ConnectionState
from amqp_broker.protocols.amqp091.transaction import Transaction
from amqp_broker.session.connection import ClientConnection
from amqp_broker.wire.frames import METHOD, FrameSplitter, encode_frame
from amqp_broker.wire.methods import Method, encode_method
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker
    from amqp_broker.broker.descriptions import ChannelInfo
    from amqp_broker.broker.virtual_host import VirtualHost

HANDSHAKE_FRAME_SIZE_BYTES_MAX = 8192  # until both have agreed on another; a token may be longer than 4096 bytes
OPEN: Final = ConnectionState.OPEN


@mypyc_attr(allow_interpreted_subclasses=True)
class Link(ClientConnection):
    """A connection, as its parts see it; arguments as of ``ClientConnection``."""

    def __init__(self, broker: Broker, peer: Peer, on_output: Callable[[], None]) -> None:
        super().__init__(broker, peer, on_output)
        self.state = ConnectionState.HANDSHAKE
        self.frame_size_bytes_max = HANDSHAKE_FRAME_SIZE_BYTES_MAX
        self.splitter = FrameSplitter(HANDSHAKE_FRAME_SIZE_BYTES_MAX)
        self.channels_max = 0
        self.heartbeat_s = 0
        self.auth_mechanism = ""
        self.client_properties: Table = {}
        self.client_capabilities: frozenset[str] = frozenset()
        self.last_served = 0  # the channel that took the last of the room for deliveries
        self.remembered = Remembered()
        self.counts_of_ended = ChannelCounts()  # by channels that are gone

    @property
    def state_name(self) -> str:
        """How it is, in the words of RabbitMQ's lists: starting, running, blocked, closing, closed."""
        if self.state is OPEN:
            return "blocked" if self.throttle.is_blocked else "running"
        if self.state is ConnectionState.HANDSHAKE:
            return "starting"
        return "closing" if self.state is ConnectionState.CLOSING else "closed"

    @property
    def counted_as(self) -> str:
        return AMQP091

    def send_method(self, channel: int, method: Method) -> None:
        """Queue one method frame for the client."""
        self.output.send(encode_frame(METHOD, channel, encode_method(method)))

    # --- what the connection does for its parts

    def tuned(self, frame_size_bytes_max: int, channels_max: int, heartbeat_s: int) -> None:
        """What client and broker have agreed on."""
        raise NotImplementedError

    def opened(self, client: Client, virtual_host: VirtualHost) -> None:
        """The handshake is done."""
        raise NotImplementedError

    def fail(self, number: int, error: AmqpError, method_ids: tuple[int, int]) -> None:
        """Tell the client of an error: close the channel or, for a hard error or one on channel 0, the connection."""
        raise NotImplementedError

    def forget(self, channel: ChannelLink) -> None:
        """A channel has ended: its number is free again."""
        raise NotImplementedError

    def forget_later(self, channel: ChannelLink) -> None:
        """A channel was closed by the client: behind this chunk its number is free again."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class ChannelLink:
    """A channel, as its parts see it.

    Args:
        connection: whose.
        number: from 1.
    """

    def __init__(self, connection: Link, number: int) -> None:
        self.connection = connection
        self.number = number
        self.last_declared_queue = ""
        self.transaction: Transaction | None = None
        self.counted = ChannelCounts()  # what its parts have counted; ask ``counts`` of the channel
        self._held_notices: list[Method] | None = None

    def inspect(self) -> ChannelInfo:
        """Describe it, for those who look in."""
        raise NotImplementedError

    def detach(self) -> None:
        """Let go of its parts."""
        raise NotImplementedError

    def reply(self, method: Method) -> None:
        """Send a method on this channel."""
        self.connection.send_method(self.number, method)

    def notify(self, notice: Method) -> None:
        """Send what the client has not asked for; it waits from ``hold_notices`` to ``send_notices``."""
        if self._held_notices is None:
            self.reply(notice)
        else:
            self._held_notices.append(notice)

    def hold_notices(self) -> None:
        """Notices of cancelled consumers wait from now on: a channel that deletes a queue which it consumes itself gets
        the answer first, as from RabbitMQ. (kombu fails when the notice overtakes it.)
        """
        self._held_notices = []

    def send_notices(self) -> None:
        """The answer is given: those that wait go out, and no others will wait."""
        held, self._held_notices = self._held_notices or [], None
        for notice in held:
            self.reply(notice)

    def wait_for(self, work: Work) -> None:
        """Hear nothing more from the client before something long is done.

        Raises:
            Unfinished: it is not done yet.
        """
        if not work.is_done:
            raise Unfinished(work)

    def reply_when(self, work: Work, method: Method) -> None:
        """Send a method when something long is done, and hear nothing more from the client before.

        Raises:
            Unfinished: it is not done yet.
        """
        work.when_done(partial(self.reply, method))
        self.wait_for(work)

    def named_queue(self, name: str) -> str:
        """A queue's name, where an empty one means the queue that was declared last on this channel.

        Raises:
            AmqpError: 404, there is no such queue.
        """
        if name:
            return name
        if not self.last_declared_queue:
            raise AmqpError(ReplyCode.NOT_FOUND, "no previously declared queue")
        return self.last_declared_queue
