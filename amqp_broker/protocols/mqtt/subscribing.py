"""SUBSCRIBE and UNSUBSCRIBE: filters to queues, bindings and consumers, and which of them a message is for.

A client has two queues at most, one for its subscriptions of QoS 0 and one for the rest, each bound with the routing
keys of its filters and consumed by the connection; those who share a subscription share a queue. The names are
RabbitMQ's. That of QoS 0 lives as long as the connection; the other one as long as the session; one that is shared as
long as any session is subscribed to it, whoever was the first. An argument marks these queues.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.arguments import (
    DEFAULT_QUEUE_TYPE,
    OWN_SUBSCRIPTION,
    QUEUE_TYPE,
    SHARED_SUBSCRIPTION,
    SUBSCRIPTION_ARGUMENT,
)
from amqp_broker.broker.client_sessions import shared_queue_name
from amqp_broker.broker.message import Message
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.queues.consumers import Consumer
from amqp_broker.broker.retained_message import RetainedMessage
from amqp_broker.broker.works import SLICE_MESSAGES, Unfinished, Work
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
    has_line_break,
    is_deep,
    is_shared,
    is_topic_name,
    matches,
    routing_key_of,
    shared_filter,
    topic_of,
)
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.protocols.mqtt.link import Link

QUEUE_PREFIX: Final = "mqtt-subscription-"
NAME_BYTES_MAX: Final = 255
WANTED_MAX: Final = 1_024  # topics for which a connection remembers which subscriptions match
RETAINED_EFFORT: Final = 10  # to put a retained message into a queue, beside looking for it
FILTER_EFFORT: Final = 10  # to bind or unbind one, about; see ``ClientConnection.has_cost``
FAILURE: Final = 0x80  # in SUBACK of MQTT 3
NEW_ONLY: Final = 1  # retain handling: send retained messages if the subscription is new
NEVER: Final = 2

LOW: Final = "qos0"  # the tags of the consumers
HIGH: Final = "qos1"


class Options:
    """The options that a client has chosen for one subscription, and the queue by which it comes.

    One that had QoS 1 or 2 comes by the queue for these as long as there is a subscription to its filter, whatever is
    chosen later: what waits there is not to be lost (MQTT 5.0, 3.8.4).
    """

    __slots__ = ("identifier", "no_local", "qos", "retain_as_published", "tag")

    def __init__(self, tag: str, qos: int, no_local: bool, retain_as_published: bool, identifier: int) -> None:
        self.tag = tag  # of the consumer
        self.qos = qos
        self.no_local = no_local
        self.retain_as_published = retain_as_published
        self.identifier = identifier  # 0 for none

    def table(self) -> Table:
        """The same, to be kept."""
        return {
            "tag": self.tag,
            "qos": self.qos,
            "no_local": self.no_local,
            "retain_as_published": self.retain_as_published,
            "identifier": self.identifier,
        }


def _options_of(topic_filter: str, table: Table) -> Options:
    qos, identifier, tag = table.get("qos"), table.get("identifier"), table.get("tag")
    wanted_qos = int(qos) if isinstance(qos, int) else 0
    return Options(
        tag if isinstance(tag, str) else _tag_of(topic_filter, wanted_qos),
        wanted_qos,
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
        self._filters_of: dict[str, set[str]] = {}  # by binding key: filters with dots or stars, which it does not tell
        self._consumers: dict[str, Consumer] = {}  # by tag: LOW, HIGH, or a shared filter
        self._wanted: dict[tuple[str, str, str | None, bool], Wanted | None] = {}
        # What has come of the packet that is being handled: it goes on from there where it had to wait for somebody
        # else to say what the client may.
        self._codes: list[int] = []
        self._wanting_retained: dict[str, None] = {}  # filters
        self._to_resume: list[str] | None = None  # filters

    # --- which queue

    def queue_name(self, tag: str) -> str:
        """The name of the queue that a consumer's tag stands for."""
        if is_shared(tag):
            return shared_queue_name(tag)
        return f"{QUEUE_PREFIX}{self._session.client_id}{tag}"

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

    def wanted_again(self, tag: str, routing_key: str, content: Content) -> Wanted:
        """How the client wants a message that was on its way to it before.

        It gets it although it has unsubscribed meanwhile (MQTT 5.0, 3.10.4).
        """
        wanted = self.wanted(tag, routing_key, content)
        if wanted is None:
            topic = content.topic if content.topic is not None else topic_of(routing_key)
            wanted = Wanted([Options(tag, EXACTLY_ONCE, False, False, 0)], topic)
        return wanted

    def _find_wanted(self, tag: str, routing_key: str, content: Content) -> Wanted | None:
        topic = content.topic if content.topic is not None else topic_of(routing_key)
        shared = shared_filter(tag)
        if shared is None:
            found = self._matching(tag, topic, is_exact=content.is_from_mqtt)
        else:
            options = self._options.get(tag)
            is_match = _matches(shared.topic_filter, topic, is_exact=content.is_from_mqtt)
            found = [options] if options is not None and is_match else []
        return Wanted(found, topic) if found else None

    def _matching(self, tag: str, topic: str, *, is_exact: bool) -> list[Options]:
        """The subscriptions that a message is for which has come by one of the client's own queues."""
        return [
            options
            for topic_filter, options in self._options.items()
            if options.tag == tag and _matches(topic_filter, topic, is_exact=is_exact)
        ]

    def not_local(self, topic: str) -> frozenset[str]:
        """Those of the client's queues that do not want what it publishes itself to this topic."""
        if not any(options.no_local for options in self._options.values()):
            return frozenset()
        left_out = set()
        for tag in (LOW, HIGH):
            found = self._matching(tag, topic, is_exact=True)
            if found and all(options.no_local for options in found):
                left_out.add(self.queue_name(tag))
        return frozenset(left_out)

    # --- SUBSCRIBE

    def subscribe(self, packet: Subscribe) -> Work | None:
        """Handle a SUBSCRIBE: subscribe, answer, and send what is retained; returns that work, where it is wanted.

        Raises:
            MqttError: the client may not ask for that.
            Unfinished: there are more filters than are subscribed to in one turn.
        """
        connection = self._connection
        identifier = number(packet.properties, Property.SUBSCRIPTION_IDENTIFIER, 0)
        codes, wanting = self._codes, self._wanting_retained
        for subscription in packet.subscriptions[len(codes) :]:
            self._let_others()
            topic_filter = subscription.topic_filter
            is_new = topic_filter not in self._session.subscriptions
            try:
                self._subscribe(subscription, identifier)
            except MqttError as error:
                if error.reason == Reason.PROTOCOL_ERROR:
                    raise
                codes.append(error.reason if connection.level == MQTT_5 else FAILURE)
                continue
            codes.append(subscription.qos)
            if self._wants_retained(subscription, is_new):
                wanting[topic_filter] = None
        self._changed()
        self._codes, self._wanting_retained = [], {}
        connection.output.send(encode_suback(connection.level, packet.packet_id, codes))
        return connection.broker.works.begin(self._send_retained(wanting)) if wanting else None

    def _let_others(self) -> None:
        """Where there are many filters, go on with the next one when others had their turn."""
        connection = self._connection
        if connection.effort > SLICE_MESSAGES:
            raise Unfinished(connection.turn(), is_again=True)
        connection.has_cost(FILTER_EFFORT)

    @staticmethod
    def _wants_retained(subscription: Subscription, is_new: bool) -> bool:
        if is_shared(subscription.topic_filter) or subscription.retain_handling == NEVER:
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
        before = self._options.get(topic_filter)
        stays = before is not None and before.tag == HIGH
        tag = HIGH if stays else _tag_of(topic_filter, subscription.qos)
        options = Options(tag, subscription.qos, no_local, as_published, identifier)
        is_there = self.queue_name(tag) in self._host.queues
        try:
            self._bind(tag, bound_filter)
            if before is not None and before.tag != tag:
                self._unbind(before.tag, bound_filter)
            self._options[topic_filter] = options
            self._wanted.clear()
            self._consume(tag)
        except AmqpError as error:
            if before is None:
                self._options.pop(topic_filter, None)
            if is_shared(tag) and not is_there:
                self._host.client_sessions.remove_unused(tag)
            is_refused = error.code is ReplyCode.ACCESS_REFUSED
            reason = Reason.NOT_AUTHORIZED if is_refused else Reason.QUOTA_EXCEEDED
            raise MqttError(reason, str(error)) from error
        self._host.client_sessions.subscribe(self._session, topic_filter, options.table())

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
        if has_line_break(topic_filter):
            raise MqttError(Reason.TOPIC_FILTER_INVALID, "a line break in what names a shared subscription's queue")
        if len(self.queue_name(topic_filter).encode()) > NAME_BYTES_MAX:
            text = f"the name of a shared subscription's queue has more than {NAME_BYTES_MAX} bytes"
            raise MqttError(Reason.TOPIC_FILTER_INVALID, text)
        return shared.topic_filter

    def _bind(self, tag: str, topic_filter: str) -> None:
        queue, routing_key = self._declared(tag), routing_key_of(topic_filter)
        self._host.bind(self._client, EXCHANGE, "queue", queue.name, routing_key, {})
        if topic_of(routing_key) != topic_filter and not is_shared(tag):
            self._filters_of.setdefault(routing_key, set()).add(topic_filter)

    def _unbind(self, tag: str, topic_filter: str) -> None:
        """Undo what ``_bind`` has done, unless another filter of the same queue has the same key."""
        routing_key = routing_key_of(topic_filter)
        for other in {topic_of(routing_key), *self._filters_of.get(routing_key, ())} - {topic_filter}:
            options = self._options.get(other)
            if options is not None and options.tag == tag:
                return
        self._host.unbind(self._client, EXCHANGE, "queue", self.queue_name(tag), routing_key, {})

    def _forget_key_of(self, topic_filter: str) -> None:
        routing_key = routing_key_of(topic_filter)
        filters = self._filters_of.get(routing_key)
        if filters is not None:
            filters.discard(topic_filter)
            if not filters:
                del self._filters_of[routing_key]

    def _declared(self, tag: str) -> Queue:
        """The queue of a tag, declared if it is not there."""
        name = self.queue_name(tag)
        queue = self._host.queues.get(name)
        if queue is not None:
            queue.check_access(self._client)
            self._adopt(tag, queue)
            return queue
        session = self._session
        is_everybodys = is_shared(tag)
        is_lasting = session.is_durable and tag != LOW and not is_everybodys
        whose = SHARED_SUBSCRIPTION if is_everybodys else OWN_SUBSCRIPTION
        queue = self._host.declare_queue(
            self._client,
            name,
            durable=is_lasting or is_everybodys,
            exclusive=not (is_lasting or is_everybodys),
            auto_delete=False,
            arguments={SUBSCRIPTION_ARGUMENT: whose, QUEUE_TYPE: DEFAULT_QUEUE_TYPE},  # whatever is the default here
        )
        if is_lasting:
            self._host.client_sessions.own(session, name)
        return queue

    def _adopt(self, tag: str, queue: Queue) -> None:
        """A queue that was there before the session, as an import makes one, is the session's own from now on."""
        is_own = queue.durable and queue.table.get(SUBSCRIPTION_ARGUMENT) == OWN_SUBSCRIPTION
        if is_own and tag == HIGH and self._session.is_durable:
            self._host.client_sessions.own(self._session, queue.name)

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

    def _send_retained(self, filters: Iterable[str]) -> Iterator[None]:
        """Put retained messages into the client's queues, a slice at a time, and those of one filter after the other.

        A filter that stands in a packet twice has them once.
        """
        effort = 0
        for topic_filter in filters:
            for message in self._host.retained.matching(topic_filter):
                effort += 1
                options = self._options.get(topic_filter)
                if message is not None and options is not None:
                    self._put_retained(topic_filter, options, message)
                    effort += RETAINED_EFFORT
                if effort >= SLICE_MESSAGES:
                    effort = 0
                    yield
                    if self._host.client_sessions.get(self._session.client_id) is not self._session:
                        return  # it has ended meanwhile: queues of these names are those of another

    def _put_retained(self, topic_filter: str, options: Options, message: RetainedMessage) -> None:
        queue = self._host.queues.get(self.queue_name(options.tag))
        if queue is None:
            return
        expiration_ms = None
        if message.expires_wall_ms:
            expiration_ms = max(1, message.expires_wall_ms - self._host.clock.wall_ms())
        header, digest = self._connection.translations.retained(message.header, topic_filter, expiration_ms)
        self._host.ingress.put((queue,), retained_address(message.topic), header, message.body, digest)

    # --- UNSUBSCRIBE

    def unsubscribe(self, packet: Unsubscribe) -> None:
        """Handle an UNSUBSCRIBE.

        Raises:
            Unfinished: there are more filters than in one turn.
        """
        connection = self._connection
        codes = self._codes
        for topic_filter in packet.topic_filters[len(codes) :]:
            self._let_others()
            codes.append(self._unsubscribe(topic_filter))
        self._changed()
        self._codes = []
        connection.output.send(encode_unsuback(connection.level, packet.packet_id, codes))

    def _unsubscribe(self, topic_filter: str) -> int:
        options = self._options.get(topic_filter)
        if options is None:
            return Reason.NO_SUBSCRIPTION_EXISTED
        tag = options.tag
        try:
            if is_shared(tag):
                consumer = self._consumers.pop(tag)
                consumer.queue.remove_consumer(consumer)
            else:
                self._unbind(tag, topic_filter)
        except AmqpError:
            return Reason.NOT_AUTHORIZED
        del self._options[topic_filter]
        self._forget_key_of(topic_filter)
        self._host.client_sessions.unsubscribe(self._session, topic_filter)
        self._wanted.clear()
        return Reason.SUCCESS

    def _changed(self) -> None:
        """What the session has subscribed to is other than before: the answer waits until that is kept."""
        connection = self._connection
        self._publishing.forget_targets()
        connection.output.hold_until(connection.broker.durability.last_change)

    # --- a session that was there

    def resume(self) -> None:
        """Consume again what the session has subscribed to; what is not there any more is made anew.

        To be called again where it had to wait for others: it goes on from there.

        Raises:
            AmqpError: the client may not have it any more.
            Unfinished: there are more filters than in one turn.
        """
        if self._to_resume is None:
            self._options = {name: _options_of(name, one.options) for name, one in self._session.subscriptions.items()}
            self._to_resume = list(reversed(self._options))
        left = self._to_resume
        while left:
            self._let_others()
            topic_filter = left[-1]
            shared = shared_filter(topic_filter)
            self._bind(self._options[topic_filter].tag, shared.topic_filter if shared is not None else topic_filter)
            left.pop()
        for tag in dict.fromkeys([options.tag for options in self._options.values()]):
            self._consume(tag)
        if self.queue_name(HIGH) in self._host.queues:  # what is on its way comes although nothing is subscribed to
            with suppress(AmqpError):  # who may not read any more is no worse off with nothing subscribed
                self._consume(HIGH)

    def came_back(self) -> Iterator[Message]:
        """The messages in the client's own queue that it has had before: they wait in front of all others."""
        queue = self._host.queues.get(self.queue_name(HIGH))
        for message in queue.messages() if queue is not None else ():
            if not message.redelivered:
                return
            yield message

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


def _tag_of(topic_filter: str, qos: int) -> str:
    """The tag of the consumer by whose queue a new subscription comes."""
    if is_shared(topic_filter):
        return topic_filter
    return HIGH if qos else LOW


def _matches(topic_filter: str, topic: str, *, is_exact: bool) -> bool:
    """Whether a filter matches; what AMQP's clients publish is looked at by its routing key."""
    return matches(topic_filter if is_exact else topic_of(routing_key_of(topic_filter)), topic)
