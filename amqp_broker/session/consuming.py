"""Messages on their way to a client: consumers, prefetch, deliveries, and what the client says of them.

A delivery that wants an acknowledgement is kept under its delivery tag until it is settled: acknowledged, rejected,
or returned when the channel ends. Tags only grow, so ``multiple`` walks from the lowest that may still be there.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

from amqp_broker.broker.consumer import Consumer
from amqp_broker.broker.message import Address, Message
from amqp_broker.broker.queue import Queue
from amqp_broker.broker.virtual_host import generated_name
from amqp_broker.errors import not_allowed, not_implemented, precondition_failed
from amqp_broker.session.consumer_timeout import ConsumerTimeout
from amqp_broker.wire import hot, methods
from amqp_broker.wire.methods import Method, arguments_of, build
from amqp_broker.wire.strings import encode_shortstr

if TYPE_CHECKING:
    from amqp_broker.session.channel import Channel

REPLY_TO = "amq.rabbitmq.reply-to"
SENT_IN_PARTS_BYTES_MIN = 4096


class Settlement(Enum):
    """What becomes of a delivery."""

    ACKNOWLEDGED = auto()
    REJECTED = auto()
    REQUEUED = auto()
    ABANDONED = auto()  # its channel ended before the client said anything


class Unacknowledged(NamedTuple):
    """A delivery that waits for its settlement."""

    message: Message
    queue: Queue
    consumer: Consumer | None  # None for basic.get
    delivered_ms: int


class Consuming:
    """The consumer's side of a channel; the domain delivers to it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.has_room = not channel.connection.is_congested
        self.consumers: dict[str, Consumer] = {}
        self.unacknowledged: dict[int, Unacknowledged] = {}
        self._lowest_tag = 1
        self._next_tag = 1
        self._prefetch_count = 0  # for each consumer that starts from now on
        self._channel_prefetch_count = 0  # for all consumers together; 0 for no limit
        self._unacknowledged_max = channel.connection.broker.settings.unacknowledged_per_channel_max
        self._is_limited = self._unacknowledged_max > 0  # by one of these two
        self._consumers_unacknowledged = 0
        self._is_released = False
        self._reply_tag = ""
        self._reply_key = ""
        self._held_notices: list[Method] | None = None
        self._timeout = ConsumerTimeout(channel)
        self._monotonic_ms = channel.connection.broker.clock.monotonic_ms

    # --- deliveries

    def deliver(self, consumer: Consumer, message: Message, header: bytes) -> None:
        """Send a message to one of the channel's consumers (called by its queue)."""
        tag = self._next_tag
        self._next_tag = tag + 1
        channel = self._channel
        if not consumer.no_ack:
            self.unacknowledged[tag] = Unacknowledged(message, consumer.queue, consumer, self._monotonic_ms())
            consumer.unacknowledged_count += 1
            self._consumers_unacknowledged += 1
            if self._is_limited:
                self._update_room()
        connection = channel.connection
        if len(message.body) >= SENT_IN_PARTS_BYTES_MIN:
            self._deliver_in_parts(consumer, tag, message, header)
            return
        connection.send(
            hot.encode_delivery(
                channel.number,
                consumer.encoded_tag,
                tag,
                message.redelivered,
                message.address.encoded,
                header,
                message.body,
                connection.frame_size_bytes_max,
            )
        )

    def _deliver_in_parts(self, consumer: Consumer, tag: int, message: Message, header: bytes) -> None:
        """Send a message whose body is too large to be copied without need."""
        connection, number = self._channel.connection, self._channel.number
        address = message.address.encoded
        connection.send(hot.encode_deliver(number, consumer.encoded_tag, tag, message.redelivered, address))
        for part in hot.content_parts(number, header, message.body, connection.frame_size_bytes_max):
            connection.send(part)

    def consumer_cancelled(self, consumer: Consumer) -> None:
        """The consumer's queue has gone: tell the client, if it wants to know."""
        self.consumers.pop(consumer.tag, None)
        if "consumer_cancel_notify" in self._channel.connection.client_capabilities:
            notice = build(methods.Basic.Cancel, consumer_tag=consumer.tag, nowait=True)
            if self._held_notices is None:
                self._channel.reply(notice)
            else:
                self._held_notices.append(notice)

    def cancel_refused(self) -> None:
        """Cancel the consumers of queues that the user may not read any more."""
        client = self._channel.connection.client
        for consumer in list(self.consumers.values()):
            if not client.may_read("queue", consumer.queue.name):
                consumer.queue.remove_consumer(consumer)
                self.consumer_cancelled(consumer)

    @contextmanager
    def cancel_notices_held(self) -> Iterator[None]:
        """Within it, notices of cancelled consumers wait: a channel that deletes a queue which it consumes itself gets
        the answer first, as from RabbitMQ. (kombu fails when the notice overtakes it.)
        """
        self._held_notices = []
        try:
            yield
        finally:
            held, self._held_notices = self._held_notices, None
            for notice in held:
                self._channel.reply(notice)

    def update_room(self) -> None:
        """The socket's congestion may have changed: let the consumers know."""
        had_room = self.has_room
        self._update_room()
        if self.has_room and not had_room:
            self._resume_consumers()

    def _update_room(self) -> None:
        limit = self._channel_prefetch_count
        is_full = (limit and self._consumers_unacknowledged >= limit) or self._is_unacknowledged_max_reached()
        self.has_room = not (is_full or self._channel.connection.is_congested or self._is_released)

    def _is_unacknowledged_max_reached(self) -> bool:
        return 0 < self._unacknowledged_max <= len(self.unacknowledged)

    def _resume_consumers(self) -> None:
        for consumer in self.consumers.values():
            if consumer.is_parked:
                consumer.queue.resume(consumer)

    # --- consumers

    def qos(self, method: methods.Basic.Qos) -> None:
        """basic.qos: for consumers to come, or (global) for the whole channel."""
        if method.prefetch_size:
            raise not_implemented(f"prefetch_size!=0 ({method.prefetch_size})")
        if method.global_:
            self._channel_prefetch_count = method.prefetch_count
        else:
            self._prefetch_count = method.prefetch_count
            self._channel_prefetch_count = 0
        self._is_limited = self._channel_prefetch_count > 0 or self._unacknowledged_max > 0
        self.update_room()
        self._channel.reply(methods.Basic.QosOk())

    def consume(self, method: methods.Basic.Consume) -> None:
        """basic.consume."""
        channel = self._channel
        name = channel.named_queue(method.queue)
        tag = method.consumer_tag
        if tag in self.consumers:
            raise not_allowed(f"attempt to reuse consumer tag '{tag}'")
        if name == REPLY_TO:
            self._consume_replies(tag, method)
            return
        limit = channel.connection.broker.settings.consumers_per_channel_max
        if limit and len(self.consumers) >= limit:
            raise not_allowed(f"reached maximum ({limit}) of consumers per channel")
        client = channel.connection.client
        client.check_read("queue", name)
        queue = channel.connection.virtual_host.accessible_queue(client, name)
        tag = tag or generated_name("amq.ctag")
        consumer = queue.add_consumer(
            tag,
            self,
            no_ack=method.no_ack,
            exclusive=method.exclusive,
            prefetch_count=self._prefetch_count,
            has_channel_prefetch=self._channel_prefetch_count > 0,
            arguments=arguments_of(method),
        )
        self.consumers[tag] = consumer
        if not method.no_ack:
            self._timeout.watch()
        if not method.nowait:
            channel.reply(build(methods.Basic.ConsumeOk, consumer_tag=tag))

    def cancel(self, method: methods.Basic.Cancel) -> None:
        """basic.cancel; a tag that nobody has is cancelled already."""
        tag = method.consumer_tag or ""
        consumer = self.consumers.pop(tag, None)
        if not method.nowait:
            self._channel.reply(build(methods.Basic.CancelOk, consumer_tag=tag))
        if consumer is not None:
            consumer.queue.remove_consumer(consumer)
        elif tag and tag == self._reply_tag:
            self._stop_replies()

    def get(self, method: methods.Basic.Get) -> None:
        """basic.get."""
        channel = self._channel
        connection = channel.connection
        name = channel.named_queue(method.queue)
        connection.client.check_read("queue", name)
        queue = connection.virtual_host.accessible_queue(connection.client, name)
        if not method.no_ack and self._is_unacknowledged_max_reached():
            limit = self._unacknowledged_max
            raise precondition_failed(f"reached maximum ({limit}) of unacknowledged deliveries per channel")
        message = queue.get(method.no_ack)
        if message is None:
            channel.reply(build(methods.Basic.GetEmpty))
            return
        tag = self._next_tag
        self._next_tag = tag + 1
        if not method.no_ack:
            self.unacknowledged[tag] = Unacknowledged(message, queue, None, self._monotonic_ms())
            self._timeout.watch()
            self._update_room()
        header = queue.header_to_get(message)
        connection.send(
            hot.encode_get_ok(channel.number, tag, message.redelivered, message.address.encoded, queue.ready_count)
            + hot.encode_content(channel.number, header, message.body, connection.frame_size_bytes_max)
        )

    # --- settlement

    def ack(self, payload: bytes) -> None:
        """basic.ack."""
        tag, multiple = hot.decode_ack(payload)
        if not multiple and self._channel.transaction is None:
            delivery = self.unacknowledged.pop(tag, None)
            if delivery is None:
                raise precondition_failed(f"unknown delivery tag {tag}")
            delivery.queue.acknowledge(delivery.message)
            self._make_room(delivery)
        else:
            self._settle(Settlement.ACKNOWLEDGED, tag, multiple)

    def nack(self, payload: bytes) -> None:
        """basic.nack."""
        tag, multiple, requeue = hot.decode_nack(payload)
        self._settle(Settlement.REQUEUED if requeue else Settlement.REJECTED, tag, multiple)

    def reject(self, payload: bytes) -> None:
        """basic.reject."""
        tag, requeue = hot.decode_reject(payload)
        self._settle(Settlement.REQUEUED if requeue else Settlement.REJECTED, tag, False)

    def recover(self, method: methods.Basic.Recover | methods.Basic.RecoverAsync) -> None:
        """basic.recover: all that is unacknowledged goes back to its queue."""
        if not method.requeue:
            raise not_implemented("requeue=false")
        self._settle_all(Settlement.REQUEUED)
        if isinstance(method, methods.Basic.Recover):
            self._channel.reply(methods.Basic.RecoverOk())

    def _settle(self, settlement: Settlement, tag: int, multiple: bool) -> None:
        deliveries = self._collect(tag, multiple)
        if self._channel.transaction is not None:
            self._channel.transaction.settle(settlement, deliveries)
        else:
            self.settle(settlement, list(deliveries.values()))

    def _collect(self, tag: int, multiple: bool) -> dict[int, Unacknowledged]:
        """Take the deliveries that a settlement names, the oldest first.

        Raises:
            AmqpError: 406, there is no such delivery.
        """
        unacknowledged = self.unacknowledged
        if tag == 0 and multiple:
            last = self._next_tag - 1
        elif tag not in unacknowledged:
            raise precondition_failed(f"unknown delivery tag {tag}")
        else:
            last = tag
        if not multiple:
            return {tag: unacknowledged.pop(tag)}
        # Most often all tags from the lowest on are there; after many that wanted no acknowledgement few are.
        tags: Sequence[int] = range(self._lowest_tag, last + 1)
        if len(tags) > 4 * len(unacknowledged):
            tags = sorted(number for number in unacknowledged if number <= last)
        collected = {number: unacknowledged.pop(number) for number in tags if number in unacknowledged}
        self._lowest_tag = last + 1
        return collected

    def restore(self, deliveries: dict[int, Unacknowledged]) -> None:
        """What a transaction settled is unacknowledged again."""
        self.unacknowledged.update(deliveries)
        self._lowest_tag = min((self._lowest_tag, *deliveries))
        self._timeout.watch()

    def settle(self, settlement: Settlement, deliveries: list[Unacknowledged]) -> None:
        """Tell the queues what became of deliveries, the oldest first.

        Where several consumers are concerned, each is done with before the next, and filled up again, as in RabbitMQ.
        """
        if settlement is Settlement.ABANDONED or len(self.consumers) < 2:
            self._settle_together(settlement, deliveries)
            return
        for group in _by_consumer(deliveries):
            self._settle_together(settlement, group)
            group[0].queue.catch_up()

    def _settle_together(self, settlement: Settlement, deliveries: list[Unacknowledged]) -> None:
        if settlement is Settlement.ACKNOWLEDGED:
            for delivery in deliveries:
                delivery.queue.acknowledge(delivery.message)
        else:
            for queue, messages in _by_queue(deliveries).items():
                if settlement is Settlement.REQUEUED:
                    queue.requeue(messages)
                elif settlement is Settlement.REJECTED:
                    queue.reject(messages)
                else:
                    queue.take_back(messages)
        for delivery in deliveries:
            self._make_room(delivery)

    def _make_room(self, delivery: Unacknowledged) -> None:
        """One delivery less counts against the prefetch windows."""
        consumer = delivery.consumer
        if consumer is not None:
            consumer.unacknowledged_count -= 1
            self._consumers_unacknowledged -= 1
        if self._is_limited and not self.has_room:
            self.update_room()
        if consumer is not None and consumer.is_parked:
            consumer.queue.resume(consumer)

    def _settle_all(self, settlement: Settlement) -> None:
        deliveries = [self.unacknowledged[tag] for tag in sorted(self.unacknowledged)]
        self.unacknowledged.clear()
        self._lowest_tag = self._next_tag
        self.settle(settlement, deliveries)

    # --- direct reply-to

    def _consume_replies(self, tag: str, method: methods.Basic.Consume) -> None:
        if not method.no_ack:
            raise precondition_failed("reply consumer cannot acknowledge")
        if self._reply_tag:
            raise precondition_failed("reply consumer already set")
        self._reply_tag = tag or generated_name("amq.ctag")
        self._reply_key = f"{REPLY_TO}.{secrets.token_urlsafe(24)}"
        self._channel.connection.broker.reply_consumers[self._reply_key] = self._deliver_reply
        if not method.nowait:
            self._channel.reply(build(methods.Basic.ConsumeOk, consumer_tag=self._reply_tag))

    def reply_to(self) -> str:
        """The address that replies to this channel's requests go to.

        Raises:
            AmqpError: 406, the channel does not wait for replies.
        """
        if not self._reply_key:
            raise precondition_failed("fast reply consumer does not exist")
        return self._reply_key

    def _deliver_reply(self, address: Address, header: bytes, body: bytes) -> None:
        channel = self._channel
        tag = encode_shortstr(self._reply_tag)
        channel.connection.send(
            hot.encode_deliver(channel.number, tag, self._next_tag, False, address.encoded)
            + hot.encode_content(channel.number, header, body, channel.connection.frame_size_bytes_max)
        )

    def _stop_replies(self) -> None:
        self._channel.connection.broker.reply_consumers.pop(self._reply_key, None)
        self._reply_tag = self._reply_key = ""

    # --- the end

    def release(self) -> None:
        """The channel ends: its consumers go, what it had unacknowledged is delivered to others."""
        if self._is_released:
            return
        self._is_released = True
        self.has_room = False
        self._timeout.stop()
        self._stop_replies()
        consumers, self.consumers = self.consumers, {}
        for consumer in consumers.values():
            consumer.queue.remove_consumer(consumer)
        self._settle_all(Settlement.ABANDONED)


def _by_consumer(deliveries: list[Unacknowledged]) -> list[list[Unacknowledged]]:
    """Deliveries by queue and consumer, in the order of their names; what basic.get took comes first."""
    groups: dict[tuple[str, str], list[Unacknowledged]] = {}
    for delivery in deliveries:
        tag = delivery.consumer.tag if delivery.consumer is not None else ""
        groups.setdefault((delivery.queue.name, tag), []).append(delivery)
    return [groups[key] for key in sorted(groups)]


def _by_queue(deliveries: list[Unacknowledged]) -> dict[Queue, list[Message]]:
    messages: dict[Queue, list[Message]] = {}
    for delivery in deliveries:
        messages.setdefault(delivery.queue, []).append(delivery.message)
    return messages
