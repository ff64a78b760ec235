"""Messages on their way to a client: consumers, prefetch, deliveries, and what the client says of them.

A delivery that wants an acknowledgement is kept under its delivery tag until it is settled: acknowledged, rejected,
or returned when the channel ends. Tags only grow, so ``multiple`` walks from the lowest that may still be there. What
that means for the queues is in ``session/settling.py``.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.message import Address, Message
from amqp_broker.broker.names import generated_name
from amqp_broker.broker.observer import Settlement
from amqp_broker.broker.queues.consumers import Consumer, Deliveries, in_turn
from amqp_broker.broker.queues.unacknowledged import Unacknowledged
from amqp_broker.broker.works import Unfinished, Work
from amqp_broker.errors import NO_METHOD, not_allowed, not_implemented, precondition_failed
from amqp_broker.session.delivery_timeout import DeliveryTimeout
from amqp_broker.session.settling import Settling, count_settled
from amqp_broker.wire import hot, methods
from amqp_broker.wire.methods import arguments_of, build
from amqp_broker.wire.strings import encode_shortstr

if TYPE_CHECKING:
    from amqp_broker.broker.descriptions import ChannelInfo
    from amqp_broker.broker.queues.base import Queue
    from amqp_broker.protocols.amqp091.link import ChannelLink

REPLY_TO: Final = "amq.rabbitmq.reply-to"
SENT_IN_PARTS_BYTES_MIN: Final = 4096
GET_EFFORT = 10  # about; see ``Connection.has_cost``


class Consuming(Deliveries):
    """The consumer's side of a channel; the domain delivers to it."""

    def __init__(self, channel: ChannelLink) -> None:
        self._channel = channel
        self._output = channel.connection.output
        self._encoder = hot.DeliveryEncoder(channel.number, channel.connection.frame_size_bytes_max)
        self.has_room = not (self._output.is_congested or channel.connection.virtual_host.are_deliveries_held)
        self.consumers: dict[str, Consumer] = {}
        self.unacknowledged: dict[int, Unacknowledged] = {}
        self._lowest_tag = 1
        self._next_tag = 1
        self.prefetch_count = 0  # for each consumer that starts from now on
        self.channel_prefetch_count = 0  # for all consumers together; 0 for no limit
        self._unacknowledged_max = channel.connection.broker.settings.unacknowledged_per_channel_max
        self._is_limited = self._unacknowledged_max > 0  # by one of these two
        self._consumers_unacknowledged = 0
        self._last_served: str | None = None  # the tag of the consumer that took the last of the room
        self._is_released = False
        self._unfinished: Iterator[None] = iter(())  # what is being settled in slices
        self._reply_tag = ""
        self._reply_key = ""
        self._virtual_host = channel.connection.virtual_host
        self._get_payload = b""  # the last basic.get, if what it asked for may be remembered
        self._get_version = -1  # of the virtual host's lookups, when it was looked up
        self._get_queue: Queue | None = None
        self._get_no_ack = False
        self._timeout = DeliveryTimeout(
            channel.connection.broker, self.unacknowledged, self._has_manual_consumers, self._fail_after_timeout
        )
        self._observers = channel.connection.broker.observers
        self._counts = channel.counted
        self._broker = channel.connection.broker

    # --- deliveries

    def deliver(self, consumer: Consumer, message: Message, header: bytes) -> None:
        """Send a message to one of the channel's consumers (called by its queue)."""
        tag = self._next_tag
        self._next_tag = tag + 1
        channel = self._channel
        if not consumer.no_ack:
            self.unacknowledged[tag] = Unacknowledged(message, consumer.queue, consumer, self._broker.piece_began_ms)
            consumer.unacknowledged_count += 1
            self._consumers_unacknowledged += 1
            if self._is_limited:
                self._update_room()
            consumer.queue.counts.delivered += 1
        else:
            self._counts.delivered_no_ack += 1
            consumer.queue.counts.delivered_no_ack += 1
        if message.redelivered:
            self._counts.redelivered += 1
            consumer.queue.counts.redelivered += 1
        if len(message.body) >= SENT_IN_PARTS_BYTES_MIN:
            self._deliver_in_parts(consumer, tag, message, header)
        else:
            self._output.send(
                self._encoder.encode(
                    consumer.encoded_tag, tag, message.redelivered, message.address.encoded, header, message.body
                )
            )
        if not self.has_room:
            self._last_served = consumer.tag
            channel.connection.last_served = channel.number
        if self._observers.present:
            self._observers.delivered(channel, consumer.queue, message, consumer, no_ack=consumer.no_ack)

    def _deliver_in_parts(self, consumer: Consumer, tag: int, message: Message, header: bytes) -> None:
        """Send a message whose body is too large to be copied without need."""
        connection, number = self._channel.connection, self._channel.number
        address = message.address.encoded
        self._output.send(hot.encode_deliver(number, consumer.encoded_tag, tag, message.redelivered, address))
        for part in hot.content_parts(number, header, message.body, connection.frame_size_bytes_max):
            self._output.send(part)

    def consumer_cancelled(self, consumer: Consumer) -> None:
        """The consumer's queue has gone: tell the client, if it wants to know."""
        self.consumers.pop(consumer.tag, None)
        if "consumer_cancel_notify" in self._channel.connection.client_capabilities:
            notice = build(methods.Basic.Cancel, consumer_tag=consumer.tag, nowait=True)
            self._channel.notify(notice)

    def inspect(self) -> ChannelInfo:
        """Describe the channel, for those who look in."""
        return self._channel.inspect()

    def cancel_refused(self) -> None:
        """Cancel the consumers of queues that the user may not read any more."""
        client = self._channel.connection.client
        for consumer in list(self.consumers.values()):
            if not client.may_read("queue", consumer.queue.name):
                consumer.queue.remove_consumer(consumer)
                self.consumer_cancelled(consumer)

    def update_room(self) -> None:
        """The socket's congestion may have changed: let the consumers know."""
        had_room = self.has_room
        self._update_room()
        if self.has_room and not had_room:
            self._resume_consumers()

    def _update_room(self) -> None:
        limit = self.channel_prefetch_count
        is_full = (limit and self._consumers_unacknowledged >= limit) or self._is_unacknowledged_max_reached()
        is_full = is_full or self._output.is_congested or self._channel.connection.virtual_host.are_deliveries_held
        self.has_room = not (is_full or self._is_released)

    def _is_unacknowledged_max_reached(self) -> bool:
        if self._unacknowledged_max == 0:
            return False
        transaction = self._channel.transaction
        put_off = transaction.settled_count if transaction is not None else 0  # nothing is settled before the commit
        return self._unacknowledged_max <= len(self.unacknowledged) + put_off

    def _resume_consumers(self) -> None:
        for consumer in in_turn(self.consumers, self._last_served):
            if consumer.is_parked:
                consumer.queue.resume(consumer)

    # --- consumers

    def qos(self, method: methods.Basic.Qos) -> None:
        """basic.qos: for consumers to come, or (global) for the whole channel."""
        if method.prefetch_size:
            raise not_implemented(f"prefetch_size!=0 ({method.prefetch_size})")
        if method.global_ and self._channel.connection.broker.behaviour.has_global_prefetch:
            self.channel_prefetch_count = method.prefetch_count
        else:
            self.prefetch_count = method.prefetch_count
            self.channel_prefetch_count = 0
        self._is_limited = self.channel_prefetch_count > 0 or self._unacknowledged_max > 0
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
        queue.catch_up()  # the consumers that it has come first, as far as acknowledgements just before have made room
        tag = tag or generated_name("amq.ctag")
        consumer = queue.add_consumer(
            tag,
            self,
            no_ack=method.no_ack,
            exclusive=method.exclusive,
            prefetch_count=self.prefetch_count,
            has_channel_prefetch=self.channel_prefetch_count > 0,
            arguments=arguments_of(method),
        )
        self.consumers[tag] = consumer
        if not method.no_ack:
            self._timeout.watch()
        if not method.nowait:
            channel.reply(build(methods.Basic.ConsumeOk, consumer_tag=tag))
        queue.catch_up()  # what the client has sent after it, for instance a basic.cancel, comes after the messages

    def cancel(self, method: methods.Basic.Cancel) -> None:
        """basic.cancel; a tag that nobody has is cancelled already."""
        tag = method.consumer_tag or ""
        consumer = self.consumers.pop(tag, None)
        if consumer is not None:
            consumer.queue.catch_up()  # it gets what acknowledgements just before have made room for
        if not method.nowait:
            self._channel.reply(build(methods.Basic.CancelOk, consumer_tag=tag))
        if consumer is not None:
            consumer.queue.remove_consumer(consumer)
        elif tag and tag == self._reply_tag:
            self._stop_replies()

    def get(self, payload: bytes) -> None:
        """basic.get."""
        channel = self._channel
        connection = channel.connection
        connection.has_cost(GET_EFFORT)
        if payload != self._get_payload or self._get_version != self._virtual_host.lookup_version:
            self._look_up(payload)
        queue, no_ack = self._get_queue, self._get_no_ack
        assert queue is not None
        if not no_ack and self._is_unacknowledged_max_reached():
            limit = self._unacknowledged_max
            raise precondition_failed(f"reached maximum ({limit}) of unacknowledged deliveries per channel")
        message = queue.get(no_ack)
        self._count_get(queue, message, no_ack)
        if message is None:
            self._output.send(hot.encode_get_empty(channel.number))
            return
        tag = self._next_tag
        self._next_tag = tag + 1
        if not no_ack:
            self.unacknowledged[tag] = Unacknowledged(message, queue, None, self._broker.piece_began_ms)
            self._timeout.watch()
            self._update_room()
        header = queue.header_to_get(message)
        self._output.send(
            hot.encode_get_ok(channel.number, tag, message.redelivered, message.address.encoded, queue.ready_count)
            + hot.encode_content(channel.number, header, message.body, connection.frame_size_bytes_max)
        )
        if self._observers.present:
            self._observers.delivered(channel, queue, message, None, no_ack=no_ack)

    def _look_up(self, payload: bytes) -> None:
        """Find the queue that a basic.get names; it is remembered, because the next one most often names it as well.

        Raises:
            AmqpError: 403, 404 or 405.
        """
        self._get_payload = b""
        client = self._channel.connection.client
        queue_name, self._get_no_ack = hot.decode_get(payload)
        name = self._channel.named_queue(queue_name)
        client.check_read("queue", name)
        self._get_queue = self._virtual_host.accessible_queue(client, name)
        if queue_name and not client.is_judged:  # else the same bytes may mean another queue, or be refused next time
            self._get_payload, self._get_version = payload, self._virtual_host.lookup_version

    def count(self) -> None:
        """Count what was not counted once a message: deliveries have got all the other tags, and what has become of
        them is all that can.
        """
        counts, transaction = self._counts, self._channel.transaction
        counts.delivered = self._next_tag - 1 - counts.delivered_no_ack - counts.got - counts.got_no_ack
        unsettled = len(self.unacknowledged) + (transaction.settled_count if transaction is not None else 0)
        counts.acknowledged = counts.delivered + counts.got - unsettled - counts.rejected - counts.requeued

    def _count_get(self, queue: Queue, message: Message | None, no_ack: bool) -> None:
        for counts in (self._counts, queue.counts):
            if message is None:
                counts.got_empty += 1
                continue
            if no_ack:
                counts.got_no_ack += 1
            else:
                counts.got += 1
            if message.redelivered:
                counts.redelivered += 1

    # --- settlement

    def tell_settled(self, queue: Queue, messages: Sequence[Message], settlement: Settlement) -> None:
        """Count what becomes of a queue's deliveries, and tell those who look on."""
        count_settled(settlement, len(messages), self._counts, queue.counts)
        if self._observers.present:
            self._observers.settled(self._channel, queue, messages, settlement)

    def ack(self, payload: bytes) -> None:
        """basic.ack."""
        tag, multiple = hot.decode_ack(payload)
        if not multiple and self._channel.transaction is None:
            delivery = self.unacknowledged.pop(tag, None)
            if delivery is None:
                raise precondition_failed(f"unknown delivery tag {tag}")
            queue = delivery.queue
            if self._observers.present:
                self._observers.settled(self._channel, queue, [delivery.message], Settlement.ACKNOWLEDGED)
            queue.counts.acknowledged += 1
            queue.acknowledge(delivery.message)
            self.made_room(delivery.consumer, 1)
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
        """basic.recover: all that is unacknowledged goes back to its queue; the answer comes before the deliveries."""
        if not method.requeue:
            raise not_implemented("requeue=false")
        if isinstance(method, methods.Basic.Recover):
            self._channel.reply(methods.Basic.RecoverOk())
        self._channel.wait_for(self._begin(self._settle_through(Settlement.REQUEUED, self._next_tag - 1)))

    def _settle(self, settlement: Settlement, tag: int, multiple: bool) -> None:
        last = self._last_named(tag, multiple)
        if self._channel.transaction is not None:
            self._channel.transaction.settle(settlement, self._collect(tag, last, multiple))
        elif multiple:
            self._channel.wait_for(self._begin(self._settle_through(settlement, last)))
        else:
            self.settle(settlement, [self.unacknowledged.pop(tag)])

    def _last_named(self, tag: int, multiple: bool) -> int:
        """The last delivery tag that a settlement names.

        Raises:
            AmqpError: 406, there is no such delivery.
        """
        if tag == 0 and multiple:
            return self._next_tag - 1
        if tag not in self.unacknowledged:
            raise precondition_failed(f"unknown delivery tag {tag}")
        return tag

    def _collect(self, tag: int, last: int, multiple: bool) -> dict[int, Unacknowledged]:
        """Take the deliveries that a settlement names, the oldest first."""
        if not multiple:
            return {tag: self.unacknowledged.pop(tag)}
        tags = self._tags_through(last)
        collected = {number: self.unacknowledged.pop(number) for number in tags if number in self.unacknowledged}
        self._lowest_tag = last + 1
        return collected

    def _tags_through(self, last: int) -> Sequence[int]:
        """The tags up to one, those of all deliveries that are there among them."""
        unacknowledged = self.unacknowledged
        # Most often all tags from the lowest on are there; after many that wanted no acknowledgement few are.
        tags = range(self._lowest_tag, last + 1)
        if len(tags) > 4 * len(unacknowledged):
            return sorted(number for number in unacknowledged if number <= last)
        return tags

    def unsettle(self, deliveries: dict[int, Unacknowledged]) -> None:
        """What a transaction settled is unacknowledged again."""
        together = sorted({**self.unacknowledged, **deliveries}.items())
        self.unacknowledged.clear()  # whoever is settling some of them goes on with this dictionary
        self.unacknowledged.update(together)
        self._lowest_tag = min((self._lowest_tag, *deliveries))
        self._timeout.watch()

    def settle(self, settlement: Settlement, deliveries: list[Unacknowledged]) -> None:
        """Tell the queues what became of deliveries, the oldest first, in one go."""
        settling = self._settling(settlement)
        settling.add(deliveries)
        settling.finish()

    def settle_in_slices(self, settlement: Settlement, deliveries: list[Unacknowledged]) -> Iterator[None]:
        """The same in slices."""
        settling = self._settling(settlement)
        slice_messages = self._channel.connection.broker.works.slice_messages
        for start in range(0, len(deliveries), slice_messages):
            if start:
                yield
            settling.add(deliveries[start : start + slice_messages])
        settling.finish()

    def _settling(self, settlement: Settlement) -> Settling:
        has_consumers = len(self.consumers) > 0
        return Settling(
            settlement, self.made_room, self.tell_settled, has_consumers=has_consumers, has_room=self.has_room
        )

    def _begin(self, slices: Iterator[None]) -> Work:
        """Begin to settle; there is one such work at a time, but for the end of the channel, which goes on with it."""
        self._unfinished = slices
        return self._channel.connection.broker.works.begin(slices)

    def _settle_through(self, settlement: Settlement, last: int) -> Iterator[None]:
        """Settle all deliveries up to a tag, the oldest first."""
        unacknowledged, tags = self.unacknowledged, self._tags_through(last)
        self._channel.connection.has_cost(len(tags))
        settling = self._settling(settlement)
        slice_messages = self._channel.connection.broker.works.slice_messages
        for start in range(0, len(tags), slice_messages):
            if start:
                yield
            some = tags[start : start + slice_messages]
            settling.add([unacknowledged.pop(number) for number in some if number in unacknowledged])
            self._lowest_tag = some[-1] + 1
        self._lowest_tag = last + 1
        settling.finish()

    def made_room(self, consumer: Consumer | None, count: int) -> None:
        """So many deliveries less count against the prefetch windows; those of basic.get are no consumer's."""
        if consumer is not None:
            consumer.unacknowledged_count -= count
            self._consumers_unacknowledged -= count
        if self._is_limited and not self.has_room:
            self.update_room()
        if consumer is not None and consumer.is_parked:
            consumer.queue.resume(consumer)

    # --- deliveries that wait for too long

    def _has_manual_consumers(self) -> bool:
        return any(not consumer.no_ack for consumer in self.consumers.values())

    def _fail_after_timeout(self, timeout_ms: int) -> None:
        """The channel is closed with 406."""
        channel = self._channel
        error = precondition_failed(
            f"delivery acknowledgement on channel {channel.number} timed out. Timeout value used: "
            f"{timeout_ms} ms. This timeout value can be configured, see consumers doc guide to learn more"
        )
        with suppress(Unfinished):  # the client asked for nothing, so nothing waits
            channel.connection.fail(channel.number, error, NO_METHOD)

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
        self._output.send(
            hot.encode_deliver(channel.number, tag, self._next_tag, False, address.encoded)
            + hot.encode_content(channel.number, header, body, channel.connection.frame_size_bytes_max)
        )

    def _stop_replies(self) -> None:
        self._channel.connection.broker.reply_consumers.pop(self._reply_key, None)
        self._reply_tag = self._reply_key = ""

    # --- the end

    def catch_up(self) -> None:
        """Deliver what acknowledgements just before have made room for: the end of the consumers comes after it."""
        for consumer in list(self.consumers.values()):
            consumer.queue.catch_up()

    def release(self) -> Iterator[None]:
        """The channel ends: its consumers go at once, and what it had unacknowledged is given back to its queues.

        Returns:
            What is to be done for the latter.
        """
        if self._is_released:
            return iter(())
        self._is_released = True
        self.has_room = False
        self._timeout.stop()
        self._stop_replies()
        consumers, self.consumers = self.consumers, {}
        for consumer in consumers.values():
            consumer.queue.remove_consumer(consumer)
        return chain(self._unfinished, self._settle_rest())

    def _settle_rest(self) -> Iterator[None]:
        """Give all that is unacknowledged back, also what a transaction has unsettled below what was settled last."""
        self._lowest_tag = next(iter(self.unacknowledged), self._next_tag)
        yield from self._settle_through(Settlement.ABANDONED, self._next_tag - 1)
