"""The part that connections of protocols without channels have in common: each is open or not, and stands for one.

Those of MQTT, STOMP and the stream protocol derive from it, and those of packages (``server/plain_connection.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from amqp_broker.access.client import Peer
from amqp_broker.broker.counters import ChannelCounts
from amqp_broker.broker.queues.unacknowledged import Unacknowledged
from amqp_broker.compilation import mypyc_attr
from amqp_broker.session.connection import ClientConnection

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker
    from amqp_broker.broker.descriptions import ChannelInfo


@mypyc_attr(allow_interpreted_subclasses=True)
class OneChannelConnection(ClientConnection):
    """The conversation with one client; arguments as of ``ClientConnection``."""

    def __init__(self, broker: Broker, peer: Peer, on_output: Callable[[], None]) -> None:
        super().__init__(broker, peer, on_output)
        self.counts = ChannelCounts()
        self._is_open = False
        self._is_closed = False

    @property
    def is_open(self) -> bool:
        return self._is_open

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    @property
    def state_name(self) -> str:
        """How it is, in the words of RabbitMQ's lists."""
        if self._is_open:
            return "blocked" if self.throttle.is_blocked else "running"
        return "closed" if self._is_closed else "starting"

    # --- its channel

    @property
    def channel_count(self) -> int:
        """A connection stands for a channel."""
        return int(self._is_open)

    def inspect_channel(self) -> ChannelInfo:
        """Describe it as a channel."""
        raise NotImplementedError

    def inspect_channels(self) -> Iterator[ChannelInfo]:
        """Describe what stands for its channels."""
        return iter([self.inspect_channel()] if self._is_open else [])

    def channel_counts(self) -> Iterator[ChannelCounts]:
        """What was counted."""
        return iter((self.counts,) if self._is_open else ())

    def unacknowledged(self) -> Iterator[tuple[str, list[Unacknowledged]]]:
        """There are none where nothing is acknowledged."""
        return iter(())

    # --- its life

    def let_in(self) -> None:
        """The connection is open from now on."""
        self._is_open = True
        self.broker.churn.channels_opened += 1
        self.join_broker()

    def finish(self) -> None:
        """Nothing more comes in; what waits goes out, then the socket may be closed."""
        if self._is_closed:
            return
        was_open, self._is_open, self._is_closed = self._is_open, False, True
        self.stop_waiting()
        if was_open:
            self.broker.churn.channels_closed += 1
            self.give_back()
        self.finish_when_sent()

    def give_back(self) -> None:
        """Give back what the client had."""
        self.leave_broker()
        self.release()
        # What is stored and answered in the end counts as well.
        self.virtual_host.counts_of_ended.add(self.counted_as, self.counts)
        self.virtual_host.remove_exclusive_queues(self.client)

    def release(self) -> None:
        """Let go of what its parts hold in the broker; there need not be anything."""
