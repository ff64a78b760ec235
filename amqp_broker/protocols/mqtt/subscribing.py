"""SUBSCRIBE and UNSUBSCRIBE: filters to queues, bindings and consumers, and which of them a message is for.

A client has two queues at most, one for its subscriptions of QoS 0 and one for the rest, each bound with the routing
keys of its filters and consumed by the connection; those who share a subscription share a queue. The names are
RabbitMQ's. That of QoS 0 lives as long as the connection; the other one as long as the session; one that is shared as
long as any session is subscribed to it, whoever was the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.client_sessions import SHARED_QUEUE_PREFIX, shared_queue_name
from amqp_broker.broker.exchanges.topic import SUBSCRIPTION_QUEUES
from amqp_broker.broker.message import EXPIRATION_MS_MAX
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.queues.consumers import Consumer
from amqp_broker.broker.retained_message import RetainedMessage
from amqp_broker.errors import AmqpError, ReplyCode
from amqp_broker.protocols.mqtt.encoding import encode_string, is_string
from amqp_broker.protocols.mqtt.messages import Content
from amqp_broker.protocols.mqtt.packet_writing import encode_suback, encode_unsuback
from amqp_broker.protocols.mqtt.packets import EXACTLY_ONCE, MQTT_5, Subscribe, Subscription, Unsubscribe
from amqp_broker.protocols.mqtt.properties import Property, number
from amqp_broker.protocols.mqtt.publishing import EXCHANGE, Publishing, retained_address
from amqp_broker.protocols.mqtt.reasons import MqttError, Reason, protocol_error
from amqp_broker.protocols.mqtt.topics import (
    SEPARATORS_MAX,
    SHARED_PREFIX,
    is_deep,
    is_topic_name,
    matches,
    routing_key_of,
    shared_filter,
    topic_of,
)
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.protocols.mqtt.link import Link

QUEUE_PREFIX: Final = SUBSCRIPTION_QUEUES[0]
NAME_BYTES_MAX: Final = 255
WANTED_MAX: Final = 1_024  # topics for which a connection remembers which subscriptions match
RETAINED_IN_SLICE: Final = 100
FAILURE: Final = 0x80  # in SUBACK of MQTT 3
NEW_ONLY: Final = 1  # retain handling: send retained messages if the subscription is new
NEVER: Final = 2

LOW: Final = "qos0"  # the tags of the consumers
HIGH: Final = "qos1"


class Options:
    """The options that a client has chosen for one subscription."""

    __slots__ = ("identifier", "no_local", "qos", "retain_as_published")

    def __init__(self, qos: int, no_local: bool, retain_as_published: bool, identifier: int) -> None:
        self.qos = qos
        self.no_local = no_local
        self.retain_as_published = retain_as_published
        self.identifier = identifier  # 0 for none

    def table(self) -> Table:
        """The same, to be kept."""
        return {
            "qos": self.qos,
            "no_local": self.no_local,
            "retain_as_published": self.retain_as_published,
            "identifier": self.identifier,
        }


def _options_of(table: Table) -> Options:
    qos, identifier = table.get("qos"), table.get("identifier")
    return Options(
        int(qos) if isinstance(qos, int) else 0,
        table.get("no_local") is True,
        table.get("retain_as_published") is True,
        int(identifier) if isinstance(identifier, int) else 0,
    )


class Wanted:
    """The options for a message of a topic, of all the subscriptions together that it matches."""

    __slots__ = ("encoded_topic", "identifiers", "qos", "retain_as_published", "topic")

    def __init__(self, options: Sequence[Options], topic: str) -> None:
        self.topic = topic
        # Nothing where it can be no topic of a PUBLISH: AMQP's clients may publish with any routing key.
        self.encoded_topic = encode_string(topic) if is_topic_name(topic) and is_string(topic) else b""
        self.qos = max(one.qos for one in options)
        self.retain_as_published = any(one.retain_as_published for one in options)
        self.identifiers = [one.identifier for one in options if one.identifier]


class Subscribing:
    """The subscriptions of a connection that is open."""

    def __init__(self, connection: Link, publishing: Publishing) -> None:
        self._connection = connection
        self._publishing = publishing
        self._host = connection.virtual_host
        self._client = connection.client
        self._session = connection.session
        self._options: dict[str, Options] = {}  # by filter; shared ones with their prefix
        self._consumers: dict[str, Consumer] = {}  # by tag: LOW, HIGH, or a shared filter
        self._wanted: dict[tuple[str, str, str | None, bool], Wanted | None] = {}

    # --- which queue

    def queue_name(self, tag: str) -> str:
        """The name of the queue that a consumer's tag stands for."""
        shared = shared_filter(tag)
        if shared is not None:
            return shared_queue_name(tag)
        return f"{QUEUE_PREFIX}{self._session.client_id}{tag}"

    def _tag_of(self, topic_filter: str, qos: int) -> str:
        if topic_filter.startswith(SHARED_PREFIX):
            return topic_filter
        return HIGH if qos else LOW

    # --- what a message is for

    def wanted(self, tag: str, routing_key: str, content: Content) -> Wanted | None:
        """How the client wants a message that has come by one of its queues; None if it does not."""
        if content.retained_for is not None:
            options = self._options.get(content.retained_for)
            topic = content.topic if content.topic is not None else topic_of(routing_key)
            return Wanted([options], topic) if options is not None else None
        key = (tag, routing_key, content.topic, content.is_from_mqtt)
        wanted = self._wanted.get(key)
        if wanted is None and key not in self._wanted:
            if len(self._wanted) >= WANTED_MAX:
                self._wanted.clear()
            wanted = self._wanted[key] = self._find_wanted(tag, routing_key, content)
        return wanted

    def wanted_again(self, queue: Queue, routing_key: str, content: Content) -> Wanted:
        """How the client wants a message that was on its way to it before, from a queue that clients share.

        It gets it although it has unsubscribed meanwhile (MQTT 5.0, 3.10.4).
        """
        wanted = self.wanted(SHARED_PREFIX + queue.name[len(SHARED_QUEUE_PREFIX) :], routing_key, content)
        if wanted is None:
            topic = content.topic if content.topic is not None else topic_of(routing_key)
            wanted = Wanted([Options(EXACTLY_ONCE, False, False, 0)], topic)
        return wanted

    def _find_wanted(self, tag: str, routing_key: str, content: Content) -> Wanted | None:
        topic = content.topic if content.topic is not None else topic_of(routing_key)
        shared = shared_filter(tag)
        if shared is None:
            found = self._matching(topic, has_qos=tag == HIGH, is_exact=content.is_from_mqtt)
        else:
            options = self._options.get(tag)
            is_match = _matches(shared.topic_filter, topic, is_exact=content.is_from_mqtt)
            found = [options] if options is not None and is_match else []
        return Wanted(found, topic) if found else None

    def _matching(self, topic: str, *, has_qos: bool, is_exact: bool) -> list[Options]:
        """The subscriptions that a message is for."""
        return [
            options
            for topic_filter, options in self._options.items()
            if (options.qos > 0) == has_qos
            and not topic_filter.startswith(SHARED_PREFIX)
            and _matches(topic_filter, topic, is_exact=is_exact)
        ]

    def not_local(self, topic: str) -> frozenset[str]:
        """Those of the client's queues that do not want what it publishes itself to this topic."""
        if not any(options.no_local for options in self._options.values()):
            return frozenset()
        left_out = set()
        for tag in (LOW, HIGH):
            found = self._matching(topic, has_qos=tag == HIGH, is_exact=True)
            if found and all(options.no_local for options in found):
                left_out.add(self.queue_name(tag))
        return frozenset(left_out)

    # --- SUBSCRIBE

    def subscribe(self, packet: Subscribe) -> None:
        """Handle a SUBSCRIBE: subscribe, answer, and send what is retained."""
        connection = self._connection
        identifier = number(packet.properties, Property.SUBSCRIPTION_IDENTIFIER, 0)
        codes: list[int] = []
        retained: list[tuple[str, RetainedMessage]] = []
        for subscription in packet.subscriptions:
            topic_filter = subscription.topic_filter
            is_new = topic_filter not in self._options
            try:
                self._subscribe(subscription, identifier)
            except MqttError as error:
                if error.reason == Reason.PROTOCOL_ERROR:
                    raise
                codes.append(error.reason if connection.level == MQTT_5 else FAILURE)
                continue
            codes.append(subscription.qos)
            if self._wants_retained(subscription, is_new):
                retained += [(topic_filter, message) for message in self._host.retained.matching(topic_filter)]
        self._changed()
        connection.output.send(encode_suback(connection.level, packet.packet_id, codes))
        if retained:
            connection.broker.works.begin(self._send_retained(retained))

    @staticmethod
    def _wants_retained(subscription: Subscription, is_new: bool) -> bool:
        if subscription.topic_filter.startswith(SHARED_PREFIX) or subscription.retain_handling == NEVER:
            return False
        return is_new or subscription.retain_handling != NEW_ONLY

    def _subscribe(self, subscription: Subscription, identifier: int) -> None:
        """Subscribe to one filter.

        Raises:
            MqttError: why not.
        """
        topic_filter = subscription.topic_filter
        bound_filter = self._checked(subscription)
        is_bridge = self._connection.is_bridge
        no_local, as_published = subscription.no_local or is_bridge, subscription.retain_as_published or is_bridge
        options = Options(subscription.qos, no_local, as_published, identifier)
        tag = self._tag_of(topic_filter, options.qos)
        before = self._options.get(topic_filter)
        is_there = self.queue_name(tag) in self._host.queues
        try:
            self._bind(tag, bound_filter)
            if before is not None and self._tag_of(topic_filter, before.qos) != tag:
                self._unbind(self._tag_of(topic_filter, before.qos), bound_filter)
            self._options[topic_filter] = options
            self._wanted.clear()
            self._consume(tag)
        except AmqpError as error:
            if before is None:
                self._options.pop(topic_filter, None)
            if tag == topic_filter and not is_there:
                self._host.client_sessions.remove_unused(tag)
            is_refused = error.code is ReplyCode.ACCESS_REFUSED
            reason = Reason.NOT_AUTHORIZED if is_refused else Reason.QUOTA_EXCEEDED
            raise MqttError(reason, str(error)) from error
        self._session.subscriptions[topic_filter] = options.table()

    def _checked(self, subscription: Subscription) -> str:
        """The filter that is to be bound.

        Raises:
            MqttError: 0x8F, it cannot be; 0x82, nobody may ask for that.
        """
        topic_filter = subscription.topic_filter
        if is_deep(topic_filter):
            text = f"a topic filter of more than {SEPARATORS_MAX} levels below the first"
            raise MqttError(Reason.TOPIC_FILTER_INVALID, text)
        try:
            shared = shared_filter(topic_filter)
        except ValueError as error:
            raise MqttError(Reason.TOPIC_FILTER_INVALID, str(error)) from error
        if shared is not None and subscription.no_local:
            raise protocol_error("a shared subscription with No Local")
        if shared is None:
            return topic_filter
        if len(self.queue_name(topic_filter).encode()) > NAME_BYTES_MAX:
            text = f"the name of a shared subscription's queue has more than {NAME_BYTES_MAX} bytes"
            raise MqttError(Reason.TOPIC_FILTER_INVALID, text)
        return shared.topic_filter

    def _bind(self, tag: str, topic_filter: str) -> None:
        queue = self._declared(tag)
        self._host.bind(self._client, EXCHANGE, "queue", queue.name, routing_key_of(topic_filter), {})

    def _unbind(self, tag: str, topic_filter: str) -> None:
        name = self.queue_name(tag)
        self._host.unbind(self._client, EXCHANGE, "queue", name, routing_key_of(topic_filter), {})

    def _declared(self, tag: str) -> Queue:
        """The queue of a tag, declared if it is not there."""
        name = self.queue_name(tag)
        queue = self._host.queues.get(name)
        if queue is not None:
            queue.check_access(self._client)
            return queue
        session = self._session
        is_shared = tag.startswith(SHARED_PREFIX)
        is_lasting = session.is_durable and tag != LOW and not is_shared
        arguments: Table = {"x-expires": queue_expiry_ms(session.expiry_s)} if is_lasting else {}
        queue = self._host.declare_queue(
            self._client,
            name,
            durable=is_lasting or is_shared,
            exclusive=not (is_lasting or is_shared),
            auto_delete=False,
            arguments=arguments,
        )
        if is_lasting:
            session.queue_names = [name]
        return queue

    def _consume(self, tag: str) -> None:
        if tag in self._consumers:
            return
        queue = self._declared(tag)
        self._client.check_read("queue", queue.name)
        is_low = tag == LOW
        self._consumers[tag] = queue.add_consumer(
            tag,
            self._connection.deliveries(at_most_once=is_low),
            no_ack=is_low,
            exclusive=False,
            prefetch_count=0 if is_low else self._connection.receive_maximum,
            has_channel_prefetch=False,
            arguments={},
        )

    def _send_retained(self, retained: list[tuple[str, RetainedMessage]]) -> Iterator[None]:
        """Put retained messages into the client's queues, a slice at a time."""
        for count, (topic_filter, message) in enumerate(retained, 1):
            options = self._options.get(topic_filter)
            if options is not None:
                self._put_retained(topic_filter, options, message)
            if count % RETAINED_IN_SLICE == 0:
                yield

    def _put_retained(self, topic_filter: str, options: Options, message: RetainedMessage) -> None:
        queue = self._host.queues.get(self.queue_name(self._tag_of(topic_filter, options.qos)))
        if queue is None:
            return
        expiration_ms = None
        if message.expires_wall_ms:
            expiration_ms = max(1, message.expires_wall_ms - self._host.clock.wall_ms())
        header, digest = self._connection.translations.retained(message.header, topic_filter, expiration_ms)
        self._host.ingress.put((queue,), retained_address(message.topic), header, message.body, digest)

    # --- UNSUBSCRIBE

    def unsubscribe(self, packet: Unsubscribe) -> None:
        """Handle an UNSUBSCRIBE."""
        connection = self._connection
        codes = [self._unsubscribe(topic_filter) for topic_filter in packet.topic_filters]
        self._changed()
        connection.output.send(encode_unsuback(connection.level, packet.packet_id, codes))

    def _unsubscribe(self, topic_filter: str) -> int:
        options = self._options.get(topic_filter)
        if options is None:
            return Reason.NO_SUBSCRIPTION_EXISTED
        tag = self._tag_of(topic_filter, options.qos)
        try:
            if tag == topic_filter:
                self._leave_shared(tag)
            else:
                self._unbind(tag, topic_filter)
        except AmqpError:
            return Reason.NOT_AUTHORIZED
        del self._options[topic_filter]
        self._session.subscriptions.pop(topic_filter, None)
        self._wanted.clear()
        return Reason.SUCCESS

    def _leave_shared(self, tag: str) -> None:
        consumer = self._consumers.pop(tag)
        consumer.queue.remove_consumer(consumer)
        self._session.subscriptions.pop(tag, None)
        self._host.client_sessions.remove_unused(tag)

    def _changed(self) -> None:
        """What the session has subscribed to is other than before: the answer waits until that is kept."""
        connection = self._connection
        self._host.client_sessions.keep(self._session)
        self._publishing.forget_targets()
        connection.output.hold_until(connection.broker.durability.last_change)

    # --- a session that was there

    def resume(self) -> None:
        """Consume again what the session has subscribed to; what is not there any more is made anew."""
        self._options = {name: _options_of(table) for name, table in self._session.subscriptions.items()}
        self.apply_expiry()
        tags: dict[str, None] = {}
        for topic_filter, options in self._options.items():
            tag = self._tag_of(topic_filter, options.qos)
            shared = shared_filter(topic_filter)
            self._bind(tag, shared.topic_filter if shared is not None else topic_filter)
            tags[tag] = None
        for tag in tags:
            self._consume(tag)

    def apply_expiry(self) -> None:
        """The session may end later or earlier than its queue was declared for."""
        expires_ms = queue_expiry_ms(self._session.expiry_s)
        for name in self._session.queue_names:
            queue = self._host.queues.get(name)
            if queue is not None and expires_ms and queue.arguments.expires_ms != expires_ms:
                queue.apply(replace(queue.arguments, expires_ms=expires_ms))

    # --- consumers

    @property
    def consumer_count(self) -> int:
        """How many queues are consumed."""
        return len(self._consumers)

    def resume_consumers(self) -> None:
        """There is room: let those go on that were held back."""
        for consumer in list(self._consumers.values()):
            if consumer.is_parked:
                consumer.queue.resume(consumer)

    def consumer_has_gone(self, consumer: Consumer) -> None:
        """Its queue has gone."""
        self._consumers.pop(consumer.tag, None)

    def stop(self) -> None:
        """The connection ends."""
        consumers, self._consumers = self._consumers, {}
        for consumer in consumers.values():
            consumer.queue.remove_consumer(consumer)


def is_shared_queue(queue: Queue) -> bool:
    """Whether a queue is one that clients share."""
    return queue.name.startswith(SHARED_QUEUE_PREFIX)


def _matches(topic_filter: str, topic: str, *, is_exact: bool) -> bool:
    """Whether a filter matches; what AMQP's clients publish is looked at by its routing key."""
    return matches(topic_filter if is_exact else topic_of(routing_key_of(topic_filter)), topic)


def queue_expiry_ms(session_expiry_s: int) -> int:
    """How long a queue of a session is kept, at most ten years: RabbitMQ's limit for a queue."""
    return min(session_expiry_s * 1000, EXPIRATION_MS_MAX)
