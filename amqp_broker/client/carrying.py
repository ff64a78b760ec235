"""Messages are carried from a queue or an exchange of one broker to another broker, or to the same one.

Nothing is lost on the way: a message is acknowledged at its source when the destination has confirmed it
(``ON_CONFIRM``); when a connection ends before that, it is there again, and may then arrive twice. Order is kept. The
other two ways of acknowledging are faster and promise less, as RabbitMQ's shovels have them (RabbitMQ docs, "Shovel
Plugin").
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

import trio

from amqp_broker.client.connection import AmqpClient
from amqp_broker.client.conversation import Event, Message, Said
from amqp_broker.client.failures import BrokerUnreachable, RefusedByBroker, told_as_one
from amqp_broker.errors import ReplyCode
from amqp_broker.wire.content import encode_content_header
from amqp_broker.wire.methods import Basic, Confirm, Queue
from amqp_broker.wire.table import Table

BLOCKED_PAUSE_S: Final = 0.05
CONSUMER_TAG: Final = "carrying"


class AckMode(StrEnum):
    """When a message is acknowledged at its source."""

    ON_CONFIRM = "on-confirm"
    ON_PUBLISH = "on-publish"
    NO_ACK = "no-ack"


@dataclass(frozen=True, slots=True)
class Source:
    """Where messages come from: a queue, or an exchange that a queue is bound to for this purpose.

    Args:
        queue: declared, durable, if it is not there; empty for the exchange.
        routing_key: of the binding.
        arguments: of the queue, if it is declared.
    """

    queue: str = ""
    exchange: str = ""
    routing_key: str = ""
    arguments: Table = field(default_factory=dict)
    prefetch_count: int = 1000


@dataclass(frozen=True, slots=True)
class Destination:
    """Where they go: a queue, or an exchange; without either to the exchange that they were published to.

    Args:
        queue: declared, durable, if it is not there.
        exchange: None for that of the message.
        routing_key: None for that of the message.
        headers: added to each message; several ``x-shovelled`` stand in a list, the newest first.
    """

    queue: str = ""
    exchange: str | None = None
    routing_key: str | None = None
    arguments: Table = field(default_factory=dict)
    headers: Table = field(default_factory=dict)


class Carrying:
    """One errand.

    Args:
        source: a connection to where messages are.
        destination: a connection to where they are to be.
        mode: when they are acknowledged.
        limit: how many to carry; None for all that ever come.
        progress: called when more have arrived, with how many.
    """

    def __init__(
        self,
        source: AmqpClient,
        destination: AmqpClient,
        taken_from: Source,
        put_to: Destination,
        *,
        mode: AckMode = AckMode.ON_CONFIRM,
        limit: int | None = None,
        progress: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._source = source
        self._destination = destination
        self._from = taken_from
        self._to = put_to
        self._mode = mode
        self._limit = limit
        self._progress = progress
        self._published = 0  # on this connection, as confirms count
        self._arrived = 0
        self._unconfirmed: deque[tuple[int, int]] = deque()  # publishing numbers and delivery tags

    async def run(self) -> int:
        """Carry until the limit is reached; returns how many have arrived.

        Raises:
            BrokerUnreachable: one of the connections has ended, or was refused something.
        """
        queue = await self._prepare()
        if self._limit == 0:
            return 0
        with told_as_one():
            async with trio.open_nursery() as nursery:
                if self._mode is AckMode.ON_CONFIRM:
                    nursery.start_soon(self._take_confirms, nursery.cancel_scope)
                else:
                    nursery.start_soon(self._watch_destination)
                no_ack = self._mode is AckMode.NO_ACK
                await self._source.call(Basic.Consume, queue=queue, consumer_tag=CONSUMER_TAG, no_ack=no_ack)
                await self._carry(nursery.cancel_scope)
        return self._arrived

    async def ready_count(self) -> int:
        """How many messages wait in the source queue now."""
        declared = await self._source.call(Queue.Declare, queue=self._from.queue, passive=True)
        assert isinstance(declared, Queue.DeclareOk)
        return int(declared.message_count or 0)

    async def _prepare(self) -> str:
        """What both sides need; returns the name of the queue to consume from."""
        taken_from, put_to = self._from, self._to
        if taken_from.queue:
            await ensure_queue(self._source, taken_from.queue, taken_from.arguments)
            queue = taken_from.queue
        else:
            declared = await self._source.call(Queue.Declare, exclusive=True, auto_delete=True)
            assert isinstance(declared, Queue.DeclareOk)
            queue = str(declared.queue)
            await self._source.call(
                Queue.Bind, queue=queue, exchange=taken_from.exchange, routing_key=taken_from.routing_key
            )
        if put_to.queue:
            await ensure_queue(self._destination, put_to.queue, put_to.arguments)
        if self._mode is not AckMode.NO_ACK:
            await self._source.call(Basic.Qos, prefetch_count=taken_from.prefetch_count)
        if self._mode is AckMode.ON_CONFIRM:
            await self._destination.call(Confirm.Select)
        return queue

    # --- there

    async def _carry(self, until: trio.CancelScope) -> None:
        async for event in self._source.events():
            if isinstance(event, Said):
                if isinstance(event.method, Basic.Cancel):
                    raise BrokerUnreachable("the queue that messages come from was deleted")
                continue
            if self._limit is not None and self._arrived + len(self._unconfirmed) >= self._limit:
                continue  # it goes back when the connection ends
            while self._destination.is_blocked:  # noqa: ASYNC110  # the broker says it in the midst of events
                await trio.sleep(BLOCKED_PAUSE_S)
            self._publish(event)
            if self._source.has_events:
                continue
            await self._destination.flush()
            if self._mode is not AckMode.ON_CONFIRM:
                await self._source.flush()
                self._progress(self._arrived)
                if self._arrived == self._limit:
                    until.cancel()

    def _publish(self, message: Message) -> None:
        method, to = message.method, self._to
        assert isinstance(method, Basic.Deliver)
        if to.queue:
            exchange, routing_key = "", to.queue
        else:
            exchange = (method.exchange or "") if to.exchange is None else to.exchange
            routing_key = (method.routing_key or "") if to.routing_key is None else to.routing_key
        header = with_headers(message, to.headers) if to.headers else message.header
        self._destination.conversation.publish(exchange, routing_key, header, message.body)
        self._published += 1
        if self._mode is AckMode.ON_CONFIRM:
            self._unconfirmed.append((self._published, message.delivery_tag))
            return
        self._arrived += 1
        if self._mode is AckMode.ON_PUBLISH:
            self._source.conversation.say(Basic.Ack, delivery_tag=message.delivery_tag)

    # --- and back

    async def _watch_destination(self) -> None:
        async for _ in self._destination.events():
            pass

    async def _take_confirms(self, until: trio.CancelScope) -> None:
        async for event in self._destination.events():
            self._take_confirm(event)
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


async def ensure_queue(client: AmqpClient, name: str, arguments: Table) -> None:
    """Declare a queue, durable, if it is not there.

    Raises:
        BrokerUnreachable: that was refused.
    """
    try:
        await client.call(Queue.Declare, queue=name, passive=True)
    except RefusedByBroker as error:
        if error.code != ReplyCode.NOT_FOUND:
            raise
        await client.reopen_channel()
        await client.call(Queue.Declare, queue=name, durable=True, arguments=arguments)


def with_headers(message: Message, more: Table) -> bytes:
    """A message's content header with more headers; what stands in a list comes before what is in that list already."""
    properties = message.properties
    headers = dict(properties.headers or {})
    for name, value in more.items():
        before = headers.get(name)
        headers[name] = [*value, *before] if isinstance(value, list) and isinstance(before, list) else value
    return encode_content_header(len(message.body), replace(properties, headers=headers))
