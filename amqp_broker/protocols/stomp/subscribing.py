"""SUBSCRIBE, UNSUBSCRIBE, ACK, NACK: destinations to queues, bindings and consumers; temporary queues for replies.

For those who look on, this is the connection's only channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.descriptions import ChannelInfo
from amqp_broker.broker.names import generated_name, without_line_breaks
from amqp_broker.broker.observer import Settlement
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.queues.unacknowledged import Unacknowledged
from amqp_broker.errors import AmqpError
from amqp_broker.protocols.stomp.destinations import (
    NAME_BYTES_MAX,
    QUEUE,
    TEMP_QUEUE,
    TEMP_QUEUE_PREFIX,
    Destination,
    durable_queue_name,
    parse_destination,
)
from amqp_broker.protocols.stomp.errors import StompError
from amqp_broker.protocols.stomp.frames import Frame
from amqp_broker.protocols.stomp.queues import Queues, consumer_arguments, is_durable
from amqp_broker.protocols.stomp.subscriptions import AUTO, MODES, Subscription
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.protocols.stomp.link import Link

OWN_QUEUE_PREFIX: Final = "stomp-subscription"
SUBSCRIBE_EFFORT: Final = 30  # about; see ``ClientConnection.has_cost``
PREFETCH_MAX: Final = 65_535
NUMBER_DIGITS_MAX: Final = 18


class Settled:
    """The settlement that an ACK or a NACK asks for, and the delivery that it names.

    Args:
        number: of the delivery that it names.
    """

    __slots__ = ("number", "settlement", "subscription")

    def __init__(self, subscription: Subscription, settlement: Settlement, number: int) -> None:
        self.subscription = subscription
        self.settlement = settlement
        self.number = number


class Subscribing:
    """The subscriptions of a connection that is open."""

    number = 1

    def __init__(self, connection: Link, queues: Queues) -> None:
        self._queues = queues
        self.connection = connection
        self._host = connection.virtual_host
        self._client = connection.client
        self._subscriptions: dict[str, Subscription] = {}  # by the tag of their consumer
        self._ended: dict[str, Subscription] = {}  # those with deliveries that can still be acknowledged
        self._reply_queues: dict[str, str] = {}  # names, by what the client calls them

    # --- SUBSCRIBE

    def subscribe(self, frame: Frame) -> None:
        """Handle a SUBSCRIBE.

        Raises:
            StompError, AmqpError: it cannot be, or is not allowed.
        """
        self.connection.has_cost(SUBSCRIBE_EFFORT)
        path = frame.headers.get("destination")
        if path is None:
            raise StompError("Missing destination", "\"SUBSCRIBE\" must include a 'destination' header\n")
        destination = parse_destination(path)
        subscription = self._made(frame, path, destination)
        prefetch_count = frame.number("prefetch-count") or 0
        if not 0 <= prefetch_count <= PREFETCH_MAX:
            raise StompError("Invalid header", f"'prefetch-count' takes a number from 0 to {PREFETCH_MAX}.\n")
        arguments = consumer_arguments(frame)
        if destination.has_queue_of_its_own:
            self._host.exchange(destination.exchange)  # others may have to be asked of it, before there is a queue
            self._host.check_source(self._client, destination.exchange, destination.routing_key)
        name = self._queue_name(frame, destination)
        is_new = name not in self._host.queues
        queue = self._declared(frame, destination, name)
        try:
            if destination.has_queue_of_its_own:
                self._host.bind(self._client, destination.exchange, "queue", queue.name, destination.routing_key, {})
            self._consume(subscription, queue, prefetch_count, arguments)
        except AmqpError:
            if destination.has_queue_of_its_own and is_new:
                self._host.remove_queue(queue, self._client.user_name)
            raise
        connection = self.connection
        connection.output.hold_until(connection.broker.durability.last_change)

    def _queue_name(self, frame: Frame, destination: Destination) -> str:
        """The name of the queue that a SUBSCRIBE is about."""
        if not destination.has_queue_of_its_own:
            return destination.routing_key
        name = without_line_breaks(frame.headers.get("x-queue-name", ""))
        if len(name.encode("utf-8", "surrogateescape")) > NAME_BYTES_MAX:
            raise StompError("Invalid header", f"'x-queue-name' takes at most {NAME_BYTES_MAX} bytes.\n")
        if not name and is_durable(frame):
            return durable_queue_name(destination.routing_key, frame.headers["id"])
        return name or self._client.made_up(generated_name(OWN_QUEUE_PREFIX))

    def _made(self, frame: Frame, path: str, destination: Destination) -> Subscription:
        """The subscription that a frame is about, without a consumer."""
        mode = frame.headers.get("ack", AUTO)
        if mode not in MODES:
            raise StompError("Invalid header", f"'ack' takes {', '.join(MODES)}, not '{mode[:50]}'.\n")
        tag, description = _tag_of(frame)
        subscription_id = frame.headers.get("id")
        is_temporary = subscription_id is not None and subscription_id.startswith(TEMP_QUEUE_PREFIX)
        if destination.kind == TEMP_QUEUE or is_temporary:
            said = path if destination.kind == TEMP_QUEUE else subscription_id
            raise StompError("Invalid destination", f"'{said}' is not a valid destination for 'SUBSCRIBE'\n")
        if destination.has_queue_of_its_own and is_durable(frame) and subscription_id is None:
            raise StompError("Missing Header", "Header 'id' is required for durable subscriptions")
        if tag in self._subscriptions:
            raise StompError(
                "Duplicated subscription identifier",
                f"A subscription identified by '{tag}' already exists.",
                closes=True,
            )
        if len(tag.encode("utf-8", "surrogateescape")) > NAME_BYTES_MAX:
            raise StompError("Invalid header", f"'id' takes at most {NAME_BYTES_MAX - 2} bytes.\n")
        return self._new(tag, subscription_id, mode, description, destination.kind)

    def _new(self, tag: str, subscription_id: str | None, mode: str, description: str, kind: str) -> Subscription:
        subscription = Subscription(self.connection, tag, subscription_id, mode, description)
        subscription.destination_kind = kind
        return subscription

    def _declared(self, frame: Frame, destination: Destination, name: str) -> Queue:
        """The queue to consume, declared where the destination asks for that."""
        if destination.has_queue_of_its_own or destination.kind == QUEUE:
            return self._queues.declare(destination, name, frame)
        return self._host.accessible_queue(self._client, name)

    def _consume(self, subscription: Subscription, queue: Queue, prefetch_count: int, arguments: Table) -> None:
        self._client.check_read("queue", queue.name)
        subscription.consumer = queue.add_consumer(
            subscription.tag,
            subscription,
            no_ack=subscription.mode == AUTO,
            exclusive=False,
            prefetch_count=0 if subscription.mode == AUTO else prefetch_count,
            has_channel_prefetch=False,
            arguments=arguments,
        )
        self._subscriptions[subscription.tag] = subscription
        subscription.watch()

    def reply_queue(self, name: str) -> str:
        """The queue for replies that the client calls by this name; at its first use it is declared and consumed.

        Raises:
            AmqpError: the client may not.
        """
        known = self._reply_queues.get(name)
        if known is not None:
            return known
        queue = self._host.declare_queue(
            self._client, "", durable=False, exclusive=True, auto_delete=True, arguments={}
        )
        subscription_id = f"{TEMP_QUEUE_PREFIX}{name}"
        subscription = self._new(f"T_{subscription_id}", subscription_id, AUTO, f"id='{subscription_id}'", TEMP_QUEUE)
        self._consume(subscription, queue, 0, {})
        self._reply_queues[name] = queue.name
        return queue.name

    # --- UNSUBSCRIBE

    def unsubscribe(self, frame: Frame) -> None:
        """Handle an UNSUBSCRIBE; one that says ``durable`` deletes the durable subscription's queue.

        Raises:
            StompError, AmqpError: it cannot be, or is not allowed.
            QueueBusy: that cannot be done yet.
        """
        self.connection.has_cost(SUBSCRIBE_EFFORT)
        if "id" not in frame.headers and "destination" not in frame.headers:
            raise StompError("Missing destination or id", "UNSUBSCRIBE must include a 'destination' or 'id' header")
        tag, description = _tag_of(frame)
        subscription = self._subscriptions.get(tag)
        if subscription is None or subscription.consumer is None:
            raise StompError(
                "No subscription found",
                f'UNSUBSCRIBE must refer to an existing subscription.\nSubscription to "{description}" not found.\n',
            )
        queue = subscription.consumer.queue
        deletes = is_durable(frame) and subscription.destination_kind not in (QUEUE, TEMP_QUEUE)
        if deletes:
            queue.check_dead_letters_left()
        queue.catch_up()  # it gets what acknowledgements just before have made room for
        self._forget(subscription)
        if deletes and not queue.is_deleted:
            self._host.delete_queue(self._client, queue.name, if_unused=False, if_empty=False)
        connection = self.connection
        connection.output.hold_until(connection.broker.durability.last_change)

    def _forget(self, subscription: Subscription) -> None:
        self._subscriptions.pop(subscription.tag, None)
        subscription.stop()
        if subscription.unacknowledged:
            earlier = self._ended.get(subscription.tag)
            if earlier is not None:
                subscription.take_over(earlier)
            self._ended[subscription.tag] = subscription

    def cancelled(self, tag: str) -> None:
        """The queue of a subscription has gone: the client is told."""
        subscription = self._subscriptions.pop(tag, None)
        if subscription is None:
            return
        subscription.consumer = None
        subscription.stop()
        detail = (
            "The server has canceled a subscription.\n"
            f'No more messages will be delivered for "{subscription.description}".\n'
        )
        said_id = subscription.id if subscription.id is not None else subscription.tag[2:]
        self.connection.say(StompError("Server cancelled subscription", detail), {"subscription": said_id})

    # --- ACK and NACK

    def named(self, frame: Frame) -> Settled:
        """The deliveries that an ACK or a NACK is about.

        Raises:
            StompError, AmqpError: there are none such.
        """
        command = frame.command
        name = "id" if self.connection.version == "1.2" else "message-id"
        value = frame.headers.get(name)
        if value is None:
            raise StompError("Missing header", f'"{command}" must include the "{name}" header\n')
        parts = value.rsplit("@@", 2)
        if len(parts) != 3 or not _is_number(parts[2]):
            raise StompError("Invalid header", f'"{command}" must include a valid "{name}" header\n')
        tag, number = parts[0], int(parts[2])
        subscription = self._subscriptions.get(tag)
        ended = self._ended.get(tag)
        if ended is not None and number in ended.unacknowledged:
            subscription = ended
        if subscription is None:
            raise StompError("Subscription not found", f"There is no current subscription with tag '{tag}'.")
        settlement = Settlement.ACKNOWLEDGED
        if command == "NACK":
            requeue = frame.is_true("requeue") if "requeue" in frame.headers else True
            settlement = Settlement.REQUEUED if requeue else Settlement.REJECTED
        subscription.check(number)
        return Settled(subscription, settlement, number)

    def settle(self, settled: Settled) -> Iterator[None]:
        """Do what an ACK or a NACK says, a slice at a time; nothing where it was done by another one meanwhile."""
        subscription = settled.subscription
        numbers = subscription.named(settled.number)
        self.connection.has_cost(len(numbers))
        yield from subscription.settle(settled.settlement, numbers)
        if not subscription.unacknowledged and self._ended.get(subscription.tag) is subscription:
            del self._ended[subscription.tag]
            subscription.stop()

    # --- for those who look on

    @property
    def consumer_count(self) -> int:
        """How many queues are consumed."""
        return len(self._subscriptions)

    @property
    def unacknowledged(self) -> list[Unacknowledged]:
        """The deliveries that wait for their acknowledgement."""
        return [delivery for one in self._all() for delivery in one.unacknowledged.values()]

    def inspect(self) -> ChannelInfo:
        """Describe the connection as a channel."""
        return self.connection.inspect_channel()

    def _all(self) -> list[Subscription]:
        return [*self._ended.values(), *self._subscriptions.values()]

    # --- room, and the end

    def update_room(self) -> None:
        """The client takes what is sent, or does not."""
        for subscription in list(self._subscriptions.values()):
            subscription.update_room()

    def stop(self) -> Iterator[None]:
        """The connection ends; returns what is to be done to give back what the client has not acknowledged."""
        everything = self._all()
        self._subscriptions = {}
        self._ended = {}
        for subscription in everything:
            subscription.stop()
        return chain.from_iterable([subscription.give_back() for subscription in everything])


def _tag_of(frame: Frame) -> tuple[str, str]:
    """The tag of the consumer that a frame is about, and how errors speak of it."""
    subscription_id = frame.headers.get("id")
    if subscription_id is not None:
        return f"T_{subscription_id}", f"id='{subscription_id}'"
    path = frame.headers.get("destination", "")
    return f"Q_{path}", f"destination='{path}'"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= NUMBER_DIGITS_MAX
