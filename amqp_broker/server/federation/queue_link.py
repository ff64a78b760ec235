"""A link to an upstream queue: messages that wait there come here while consumers here have nothing to do.

It consumes there with a lower priority than others do, and only as long as the queue here is empty and has a consumer
with room, whose own priority is not below 0 (for that is another link's).
"""

from __future__ import annotations

from functools import partial

import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.queues.base import Queue
from amqp_broker.client.connection import AmqpClient
from amqp_broker.client.conversation import Message
from amqp_broker.client.failures import RefusedByBroker
from amqp_broker.client.forwarding import Forwarding, Outgoing
from amqp_broker.client.uri import AmqpUri
from amqp_broker.errors import ReplyCode
from amqp_broker.server.ends import Ends
from amqp_broker.server.federation.definition import Upstream
from amqp_broker.server.federation.headers import from_queue, header_of
from amqp_broker.server.federation.link import Link
from amqp_broker.server.federation.link_name import LinkName
from amqp_broker.wire import methods
from amqp_broker.wire.methods import Basic


class QueueLink(Link):
    """A link of a federated queue.

    Args:
        queue: the one here.
    """

    def __init__(
        self, broker: Broker, ends: Ends, name: LinkName, upstream: Upstream, policy: str, queue: Queue
    ) -> None:
        super().__init__(broker, ends, name, upstream, policy, queue)
        self._queue = queue
        self._is_consuming = False

    async def serve(self, there: AmqpClient, here: AmqpClient, uri: AmqpUri) -> None:
        await self._ensure_queue(there)
        self._is_consuming = False
        forwarding = Forwarding(
            there, here, self._outgoing, mode=self.upstream.mode, progress=partial(self.counted, self.state.forwarded)
        )

        async def begin() -> None:
            self.running()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow_consumers, there, forwarding.no_ack)
            await forwarding.run(self.upstream.prefetch_count, begin)

    async def _ensure_queue(self, there: AmqpClient) -> None:
        """Declare the queue there as it is here, if it is not there."""
        name, queue = self.name.upstream_name, self._queue
        try:
            await there.call(methods.Queue.Declare, queue=name, passive=True)
        except RefusedByBroker as error:
            if error.code != ReplyCode.NOT_FOUND:
                raise
            await there.reopen_channel()
            await there.call(
                methods.Queue.Declare, queue=name, durable=queue.durable, auto_delete=queue.auto_delete,
                arguments=queue.table,
            )  # fmt: skip

    # --- when it consumes

    def is_short(self) -> bool:
        """Whether consumers here wait for messages."""
        queue = self._queue
        if queue.is_deleted or queue.ready_count:
            return False
        return any(consumer.priority >= 0 and consumer.is_ready for consumer in queue.consumers)

    def look_at_consumers(self) -> None:
        """Consume, or consume no more, if that has changed."""
        if self.is_short() != self._is_consuming:
            self.look.set()

    async def _follow_consumers(self, there: AmqpClient, no_ack: bool) -> None:
        tag = self.upstream.consumer_tag
        while True:
            is_short = self.is_short()
            if is_short and not self._is_consuming:
                await there.call(
                    Basic.Consume, queue=self.name.upstream_name, consumer_tag=tag, no_ack=no_ack,
                    arguments={"x-priority": -1},
                )  # fmt: skip
            elif self._is_consuming and not is_short:
                await there.call(Basic.Cancel, consumer_tag=tag)
            self._is_consuming = is_short
            await self.look.wait()
            await trio.lowlevel.checkpoint()

    # --- messages

    def _outgoing(self, message: Message) -> Outgoing:
        method = message.method
        assert isinstance(method, Basic.Deliver)
        place = {**self.place(), "redelivered": bool(method.redelivered)}
        headers = from_queue(message.properties.headers or {}, place, method.exchange or "", method.routing_key or "")
        header = header_of(message, headers, keeps_user_id=self.upstream.trusts_user_ids)
        self.look_at_consumers()
        return Outgoing("", self.name.name, header)
