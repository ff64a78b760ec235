"""A quorum queue on one machine: what it does otherwise than a classic queue.

It counts deliveries, shows the count to consumers as ``x-delivery-count``, and gives up on a message after
``x-delivery-limit`` returns. What is returned is delivered before everything else, in the order of its return.
(RabbitMQ docs, "Quorum Queues", as of 3.10.)
"""

from __future__ import annotations

from dataclasses import replace

from amqp_broker.broker.dead_letter import DeathReason
from amqp_broker.broker.message import Message
from amqp_broker.broker.queue import Queue
from amqp_broker.broker.ready import ReadyMessages, ReturnedFirst
from amqp_broker.errors import AmqpError, ReplyCode, not_implemented
from amqp_broker.wire.content import decode_properties, encode_content_header


class QuorumQueue(Queue):
    """A queue declared with ``x-queue-type`` quorum."""

    def _make_ready(self) -> ReadyMessages:
        return ReturnedFirst()

    def header_to_deliver(self, message: Message) -> bytes:
        """The published content header, and from the second time on the number of earlier deliveries."""
        return self.header_to_get(message) if message.delivery_count else message.header

    def header_to_get(self, message: Message) -> bytes:
        """The published content header with the number of earlier deliveries in ``x-delivery-count``, even 0."""
        properties = decode_properties(message.header)
        headers = dict(sorted({**(properties.headers or {}), "x-delivery-count": message.delivery_count}.items()))
        return encode_content_header(len(message.body), replace(properties, headers=headers))

    def check_channel_prefetch(self) -> None:
        raise not_implemented(f"{self} does not support global qos")

    def check_get(self) -> None:
        if self.arguments.has_single_active_consumer:
            raise AmqpError(
                ReplyCode.RESOURCE_LOCKED,
                f"cannot obtain access to locked {self}. basic.get operations are not supported by quorum queues with "
                "single active consumer",
            )

    def _returned(self, messages: list[Message]) -> list[Message]:
        limit = self.arguments.delivery_limit
        again: list[Message] = []
        poison: list[Message] = []
        for message in messages:
            message.redelivered = True
            message.delivery_count += 1
            self.virtual_host.durability.note_returned(message)
            (poison if limit is not None and message.delivery_count > limit else again).append(message)
        if poison:
            self._discard(poison, DeathReason.DELIVERY_LIMIT)
        return again
