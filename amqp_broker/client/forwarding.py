"""Messages that are delivered on one connection are published on another, and acknowledged when that is safe.

Nothing is lost on the way: a message is acknowledged at its source when the destination has confirmed it
(``ON_CONFIRM``); when a connection ends before that, it is there again, and may then arrive twice. Order is kept. The
other two ways of acknowledging are faster and promise less, as RabbitMQ has them (RabbitMQ docs, "Shovel Plugin").

Holds neither where messages come from nor where they go: whoever's errand it is consumes, and says of each message how
it is to be published (``carrying.py`` for shovels).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import trio

from amqp_broker.client.connection import AmqpClient
from amqp_broker.client.conversation import Event, Message, Said
from amqp_broker.client.failures import BrokerUnreachable, told_as_one
from amqp_broker.wire.methods import Basic, Confirm

BLOCKED_PAUSE_S: Final = 0.05


class AckMode(StrEnum):
    """The mode of acknowledgement: when a message is acknowledged at its source."""

    ON_CONFIRM = "on-confirm"
    ON_PUBLISH = "on-publish"
    NO_ACK = "no-ack"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The exchange, the routing key and the header that a message is published with.

    Args:
        header: its content header.
    """

    exchange: str
    routing_key: str
    header: bytes


class Forwarding:
    """From one connection to another.

    Args:
        source: where messages are consumed.
        destination: where they are published.
        outgoing: how one is published; None where it is acknowledged and goes nowhere.
        mode: when they are acknowledged.
        limit: how many to carry; None for all that ever come.
        progress: called when more have arrived, with how many.
    """

    def __init__(
        self,
        source: AmqpClient,
        destination: AmqpClient,
        outgoing: Callable[[Message], Outgoing | None],
        *,
        mode: AckMode = AckMode.ON_CONFIRM,
        limit: int | None = None,
        progress: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._source = source
        self._destination = destination
        self._outgoing = outgoing
        self._mode = mode
        self._limit = limit
        self._progress = progress
        self._published = 0  # on this connection, as confirms count
        self._arrived = 0
        self._unconfirmed: deque[tuple[int, int]] = deque()  # publishing numbers and delivery tags

    @property
    def no_ack(self) -> bool:
        """Whether the source is consumed without acknowledgements; with a limit what is beyond it would be lost."""
        return self._mode is AckMode.NO_ACK and self._limit is None

    async def run(self, prefetch_count: int, consume: Callable[[], Awaitable[object]]) -> int:
        """Carry until the limit is reached; returns how many have arrived.

        Args:
            prefetch_count: how many may be on the way at once.
            consume: has the source deliver.

        Raises:
            BrokerUnreachable: one of the connections has ended, or was refused something.
        """
        if not self.no_ack:
            await self._source.call(Basic.Qos, prefetch_count=prefetch_count)
        if self._mode is AckMode.ON_CONFIRM:
            await self._destination.call(Confirm.Select)
        with told_as_one():
            async with trio.open_nursery() as nursery:
                if self._mode is AckMode.ON_CONFIRM:
                    nursery.start_soon(self._take_confirms, nursery.cancel_scope)
                else:
                    nursery.start_soon(self._watch_destination)
                await consume()
                await self._carry(nursery.cancel_scope)
        return self._arrived

    # --- there

    async def _carry(self, until: trio.CancelScope) -> None:
        while True:
            event = await self._source.next_event()
            if isinstance(event, Said):
                if isinstance(event.method, Basic.Cancel):
                    raise BrokerUnreachable("the queue that messages come from was deleted")
            elif self._limit is None or self._arrived + len(self._unconfirmed) < self._limit:
                while self._destination.is_blocked:  # noqa: ASYNC110  # the broker says it in the midst of events
                    await trio.sleep(BLOCKED_PAUSE_S)
                self._publish(event)
            # What is beyond the limit goes back when the connection ends.
            if self._source.has_events:
                continue
            await self._destination.flush()
            await self._source.flush()
            if self._mode is not AckMode.ON_CONFIRM:
                self._progress(self._arrived)
                if self._arrived == self._limit:
                    until.cancel()

    def _publish(self, message: Message) -> None:
        outgoing = self._outgoing(message)
        if outgoing is None:
            if not self.no_ack:
                self._source.conversation.say(Basic.Ack, delivery_tag=message.delivery_tag)
            return
        self._destination.conversation.publish(outgoing.exchange, outgoing.routing_key, outgoing.header, message.body)
        self._published += 1
        if self._mode is AckMode.ON_CONFIRM:
            self._unconfirmed.append((self._published, message.delivery_tag))
            return
        self._arrived += 1
        if not self.no_ack:
            self._source.conversation.say(Basic.Ack, delivery_tag=message.delivery_tag)

    # --- and back

    async def _watch_destination(self) -> None:
        while True:
            await self._destination.next_event()

    async def _take_confirms(self, until: trio.CancelScope) -> None:
        while True:
            self._take_confirm(await self._destination.next_event())
            if self._destination.has_events:
                continue
            await self._source.flush()
            self._progress(self._arrived)
            if self._limit is not None and self._arrived >= self._limit:
                until.cancel()

    def _take_confirm(self, event: Event) -> None:
        method = event.method
        if not isinstance(method, Basic.Ack | Basic.Nack):
            return
        tags = self._confirmed(int(method.delivery_tag or 0), bool(method.multiple))
        if isinstance(method, Basic.Nack):
            for tag in tags:
                self._source.conversation.say(Basic.Nack, delivery_tag=tag, requeue=True)
        elif tags:
            self._arrived += len(tags)
            is_all_before = not self._unconfirmed or tags[-1] < self._unconfirmed[0][1]
            for tag in tags[-1:] if is_all_before else tags:
                self._source.conversation.say(Basic.Ack, delivery_tag=tag, multiple=is_all_before)

    def _confirmed(self, number: int, is_multiple: bool) -> Sequence[int]:
        """The delivery tags of what a confirm is for, the oldest first."""
        unconfirmed, tags = self._unconfirmed, []
        if is_multiple or (unconfirmed and unconfirmed[0][0] == number):
            while unconfirmed and unconfirmed[0][0] <= number:
                tags.append(unconfirmed.popleft()[1])
            return tags
        for pair in unconfirmed:
            if pair[0] == number:
                unconfirmed.remove(pair)
                return [pair[1]]
        return []
