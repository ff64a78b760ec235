"""Messages are carried from a queue or an exchange of one broker to another broker, or to the same one.

How nothing is lost on the way is in ``forwarding.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from amqp_broker.client.connection import AmqpClient
from amqp_broker.client.conversation import Message
from amqp_broker.client.failures import RefusedByBroker
from amqp_broker.client.forwarding import AckMode, Forwarding, Outgoing
from amqp_broker.errors import ReplyCode
from amqp_broker.wire.content import encode_content_header
from amqp_broker.wire.methods import Basic, Queue
from amqp_broker.wire.table import Table

CONSUMER_TAG: Final = "carrying"


@dataclass(frozen=True, slots=True)
class Source:
    """The source of messages: a queue, or an exchange that a queue is bound to for this purpose.

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
    """The destination of messages: a queue, or an exchange; without either, the exchange that they were published to.

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
    """One transfer of messages from a source to a destination.

    Args:
        source: a connection to where messages are.
        destination: a connection to where they are to be.
        mode: when they are acknowledged.
        limit: how many to carry; None for all that ever come.
        started: called when both sides have what is needed and messages may come.
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
        started: Callable[[], None] = lambda: None,
        progress: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._source = source
        self._destination = destination
        self._from = taken_from
        self._to = put_to
        self._mode = mode
        self._limit = limit
        self._started = started
        self._progress = progress

    async def run(self) -> int:
        """Carry until the limit is reached; returns how many have arrived.

        Raises:
            BrokerUnreachable: one of the connections has ended, or was refused something.
        """
        queue = await self._prepare()
        if self._limit == 0:
            self._started()
            return 0
        forwarding = Forwarding(
            self._source, self._destination, self._outgoing, mode=self._mode, limit=self._limit, progress=self._progress
        )

        async def consume() -> None:
            await self._source.call(Basic.Consume, queue=queue, consumer_tag=CONSUMER_TAG, no_ack=forwarding.no_ack)
            self._started()

        return await forwarding.run(self._from.prefetch_count, consume)

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
        return queue

    def _outgoing(self, message: Message) -> Outgoing:
        method, to = message.method, self._to
        assert isinstance(method, Basic.Deliver)
        header = with_headers(message, to.headers) if to.headers else message.header
        if to.queue:
            return Outgoing("", to.queue, header)
        exchange = (method.exchange or "") if to.exchange is None else to.exchange
        routing_key = (method.routing_key or "") if to.routing_key is None else to.routing_key
        return Outgoing(exchange, routing_key, header)


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
