"""Messages on their way in: PUBLISH, topic aliases, retained messages, exactly once, and what the client is told of it.

Theory of operation of QoS 2. The identifier of a PUBLISH is remembered in the session, in the journal's batch that has
the message, before PUBREC; as long as it is remembered, the same PUBLISH is answered and not routed. PUBREL has it
forgotten, and PUBCOMP waits until that is kept, because from then on the client may use it for another message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from amqp_broker.access.client import Client
from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.exchanges.readings import TOPIC_HEADER
from amqp_broker.broker.last_will import LastWill
from amqp_broker.broker.message import Address, carried_key, digest_of
from amqp_broker.broker.observer import Passage
from amqp_broker.broker.publishing import REFUSED, TAKEN, UNROUTED, Outcome
from amqp_broker.broker.queues.base import Queue
from amqp_broker.errors import AmqpError, ReplyCode
from amqp_broker.protocols.mqtt.messages import Translations, encode_header
from amqp_broker.protocols.mqtt.packet_writing import encode_answer
from amqp_broker.protocols.mqtt.packets import AT_LEAST_ONCE, EXACTLY_ONCE, MQTT_5, PacketType, Publish, Will
from amqp_broker.protocols.mqtt.properties import Property, number, text
from amqp_broker.protocols.mqtt.reasons import MqttError, NotAccepted, Reason, protocol_error
from amqp_broker.protocols.mqtt.topics import (
    SEPARATORS_MAX,
    is_deep,
    is_reserved,
    is_topic_name,
    own_name,
    routing_key_of,
)
from amqp_broker.session.confirms import Confirms
from amqp_broker.wire.errors import WireError
from amqp_broker.wire.hot import encode_address

if TYPE_CHECKING:
    from amqp_broker.protocols.mqtt.link import Link

EXCHANGE: Final = "amq.topic"
PUBACK: Final = PacketType.PUBACK << 4  # the first byte of one
IDS_AT_COST_OF_ONE: Final = 50  # what is written for a message of QoS 2 are all the identifiers that are in use
TARGETS_MAX: Final = 1_024  # topics whose route a connection remembers


class Target:
    """The exchange and queues that the messages of one topic go to."""

    __slots__ = ("address", "exchange", "is_own", "may_be_remembered", "own_name", "queues", "routing_key")

    def __init__(
        self,
        exchange: Exchange,
        address: Address,
        topic: str,
        queues: tuple[Queue, ...],
        may_be_remembered: bool,
        is_own: bool,
    ) -> None:
        self.exchange = exchange
        self.address = address
        self.routing_key = routing_key_of(topic)  # the whole of it
        self.own_name = own_name(topic)
        self.queues = queues
        self.may_be_remembered = may_be_remembered
        self.is_own = is_own  # nobody but the client itself has subscribed, and it does not want its own


class Publishing:
    """The publisher's side of a connection that is open."""

    def __init__(self, connection: Link) -> None:
        broker = connection.broker
        self._connection = connection
        self._host = connection.virtual_host
        self._level = connection.level
        self._translations = Translations()
        self._confirms = Confirms(broker, broker.durability.is_kept, self._tell)
        self._number = 0
        self._unanswered = 0  # messages of QoS 1
        self._answers: dict[int, bytes] = {}  # by the number of what they answer
        self._aliases: dict[int, str] = {}
        self._targets: dict[str, Target] = {}
        self._targets_version = -1
        self._aliases_max = broker.settings.mqtt_topic_aliases_max
        self._receive_maximum = broker.settings.mqtt_unanswered_max
        self._size_bytes_max = broker.settings.message_size_bytes_max or broker.behaviour.message_size_bytes_max

    @property
    def unconfirmed_count(self) -> int:
        """How many of the client's packets wait for their answer."""
        return len(self._answers)

    # --- PUBLISH

    def publish(self, packet: Publish) -> None:
        """Handle a PUBLISH.

        Raises:
            MqttError: it cannot be, or is not allowed.
        """
        connection = self._connection
        topic = self._topic_of(packet)
        session = connection.session
        if packet.qos == EXACTLY_ONCE and packet.packet_id in session.received:
            self._answer(PacketType.PUBREC, packet.packet_id, Reason.SUCCESS, connection.broker.durability.position)
            return
        if len(packet.payload) > self._size_bytes_max:
            raise MqttError(Reason.PACKET_TOO_LARGE, f"a message of more than {self._size_bytes_max} bytes")
        if packet.qos and self._level == MQTT_5 and self._on_the_way() >= self._receive_maximum:
            text = f"more than {self._receive_maximum} messages on their way"
            raise MqttError(Reason.RECEIVE_MAXIMUM_EXCEEDED, text)
        connection.throttle.has_published = True
        if packet.qos == EXACTLY_ONCE:  # PUBREC first, for clients that take a message before it for another one
            connection.hold_deliveries()
        reason, outcome = self._try_put(packet, topic)
        if packet.qos == AT_LEAST_ONCE:
            self._unanswered += 1
            self._answer(PacketType.PUBACK, packet.packet_id, reason, outcome)
        elif packet.qos == EXACTLY_ONCE:
            if reason < Reason.UNSPECIFIED_ERROR:
                session.received[packet.packet_id] = None
                self._host.client_sessions.keep_ids(session)
                connection.has_cost(len(session.received) // IDS_AT_COST_OF_ONE)
                outcome = connection.broker.durability.position if session.is_durable else outcome
            self._answer(PacketType.PUBREC, packet.packet_id, reason, outcome)
            connection.go_on_delivering()

    def _on_the_way(self) -> int:
        """How many of the client's messages are not done with."""
        return len(self._connection.session.received) + self._unanswered

    def _topic_of(self, packet: Publish) -> str:
        """The topic that a PUBLISH names, be it by its alias (MQTT 5.0, 3.3.2.3.4)."""
        topic = packet.topic
        alias = number(packet.properties, Property.TOPIC_ALIAS, 0) if packet.properties else 0
        if alias:
            if alias > self._aliases_max:
                raise MqttError(Reason.TOPIC_ALIAS_INVALID, f"topic alias {alias} is larger than {self._aliases_max}")
            if topic:
                self._aliases[alias] = topic
            else:
                topic = self._aliases.get(alias, "")
                if not topic:
                    raise protocol_error(f"topic alias {alias} stands for nothing yet")
        if packet.properties and Property.SUBSCRIPTION_IDENTIFIER in packet.properties:
            raise protocol_error("a client's PUBLISH with a subscription identifier")
        response_topic = text(packet.properties, Property.RESPONSE_TOPIC) if packet.properties else None
        if response_topic is not None and not is_topic_name(response_topic):
            raise protocol_error("a response topic with wildcards")
        return topic

    def _try_put(self, packet: Publish, topic: str) -> tuple[int, Outcome]:
        """Put a message into its queues; returns what the client is told, and what must be kept before.

        Raises:
            MqttError: the client may not, and there is no other way to say so.
        """
        try:
            outcome = self._put(packet, topic)
        except WireError as error:
            raise MqttError(Reason.IMPLEMENTATION_SPECIFIC_ERROR, str(error)) from error
        except (AmqpError, NotAccepted) as refusal:
            refused = refusal.reason if isinstance(refusal, NotAccepted) else _reason_of(refusal)
            if self._level == MQTT_5 and packet.qos:
                return refused, TAKEN
            raise MqttError(refused, str(refusal)) from refusal
        reason = Reason.SUCCESS
        if outcome == UNROUTED:
            outcome = self._connection.broker.durability.position_of_duplicates
            if packet.qos == AT_LEAST_ONCE:  # PUBREC says nothing of it: others know it at PUBREL only
                reason = Reason.NO_MATCHING_SUBSCRIBERS
        if packet.retain:
            self._retain(packet, topic)
            if outcome != REFUSED:  # of all, for somebody else may just have taken away what is to go
                outcome = self._connection.broker.durability.position_of_all
        return (Reason.QUOTA_EXCEEDED, TAKEN) if outcome == REFUSED else (reason, outcome)

    def _put(self, packet: Publish, topic: str) -> Outcome:
        target = self._target(topic)
        payload = packet.payload
        header, digest = self._translations.header(
            target.own_name, packet.qos, packet.retain, packet.properties, len(payload)
        )
        if self._host.interceptors.present:
            header = self._host.intercepted(target.address, self._connection.user_name, header, payload)
            digest = digest_of(header)
        queues = target.queues
        if digest.extra_routing_keys or not target.may_be_remembered:
            keys = (target.routing_key, *digest.extra_routing_keys)
            queues = self._host.ingress.route(target.exchange, keys, header, payload, digest)
        if len(queues) > 1:
            self._connection.has_cost(len(queues))
        target.exchange.published_in += 1
        target.exchange.published_out += len(queues)
        counts = self._connection.counts
        counts.published += 1
        sizes = self._connection.broker.message_sizes
        if sizes.are_counted:
            sizes.note(self._connection.counted_as, len(payload))
        if queues:
            outcome = self._host.ingress.put(queues, target.address, header, payload, digest)
        elif target.is_own:
            outcome = TAKEN
        else:
            outcome = UNROUTED
            counts.dropped += 1
            self._host.drops.unroutable(self._host.name, target.address, self._connection.user_name)
        observers = self._connection.broker.observers
        if observers.present:
            passage = Passage(self._host, target.address, header, payload, queues, outcome != REFUSED)
            observers.published(self._connection.channel, passage)
        return outcome

    def _target(self, topic: str) -> Target:
        if self._targets_version != self._host.lookup_version:
            self.forget_targets()
            self._targets_version = self._host.lookup_version
        target = self._targets.get(topic)
        if target is None:
            target = self._look_up(topic)
            if len(self._targets) >= TARGETS_MAX:
                self._targets.clear()
            self._targets[topic] = target
        return target

    def _look_up(self, topic: str) -> Target:
        check_topic(topic)
        if is_reserved(topic):
            raise AmqpError(ReplyCode.ACCESS_REFUSED, f"nobody publishes to '{topic}': it is the broker's own")
        routing_key = routing_key_of(topic)
        ingress = self._host.ingress
        exchange = ingress.exchange_for(self._connection.client, EXCHANGE, routing_key)
        address = topic_address(topic)
        name = own_name(topic)
        route = ingress.route_of_all(exchange, routing_key, {TOPIC_HEADER: name} if name else None)
        self._connection.has_cost(1)
        own = self._connection.not_local(topic)
        queues = tuple(queue for queue in route.queues if queue.name not in own) if own else route.queues
        return Target(exchange, address, topic, queues, route.may_be_remembered, bool(route.queues) and not queues)

    def forget_targets(self) -> None:
        """Where topics lead has changed, or which of them the client wants back."""
        self._targets.clear()

    def _retain(self, packet: Publish, topic: str) -> None:
        size_bytes = len(packet.payload)
        header, digest = self._translations.header(own_name(topic), packet.qos, True, packet.properties, size_bytes)
        self._host.retained.replace(topic, header, packet.payload, digest.expiration_ms)

    # --- PUBREL

    def release(self, packet_id: int) -> None:
        """Handle a PUBREL: the client will not send the PUBLISH of this identifier again.

        One that is not known is no error where a session goes on (MQTT 5.0, 3.7.2.1): its PUBCOMP was lost.
        """
        session = self._connection.session
        reason, position = Reason.SUCCESS, TAKEN
        if packet_id in session.received:
            del session.received[packet_id]
            self._host.client_sessions.keep_ids(session)
            position = self._connection.broker.durability.position if session.is_durable else TAKEN
        elif not self._connection.has_resumed:
            reason = Reason.PACKET_IDENTIFIER_NOT_FOUND
        self._answer(PacketType.PUBCOMP, packet_id, reason, position)

    # --- answers

    def _answer(self, kind: PacketType, packet_id: int, reason: int, position: Outcome) -> None:
        """Answer when the journal has kept what it must. A refusal has no answer in MQTT 3: the client sends again."""
        if self._level != MQTT_5 and reason >= Reason.UNSPECIFIED_ERROR and kind is not PacketType.PUBCOMP:
            return
        self.answer_when_kept(encode_answer(kind, packet_id, reason, self._level), position)

    def answer_when_kept(self, data: bytes, position: Outcome) -> None:
        """Send an acknowledgement when the journal has kept what it must, behind those before it."""
        self._number += 1
        self._answers[self._number] = data
        self._confirms.add(self._number, position)

    def _tell(self, first: int, last: int, accepted: bool) -> None:
        answers = [self._answers.pop(one) for one in range(first, last + 1)]
        self._unanswered -= sum(answer[0] == PUBACK for answer in answers)
        self._connection.output.send(b"".join(answers))
        self._connection.counts.confirmed += last - first + 1

    def answer_what_is_kept(self) -> None:
        """Send the answers that need not wait for the journal now, and not at the end of the chunk."""
        self._confirms.finish()

    def stop(self) -> None:
        """The connection ends: what need not wait for the journal is answered, the rest will not be."""
        self.answer_what_is_kept()
        self._confirms.release()
        self._answers.clear()


def check_topic(topic: str) -> None:
    """Refuse a topic that nothing may be published to.

    Raises:
        MqttError: 0x90, it is no topic.
        NotAccepted: 0x90, it is one of too many levels.
    """
    if not is_topic_name(topic):
        raise MqttError(Reason.TOPIC_NAME_INVALID, "a topic is empty or has wildcards")
    if is_deep(topic):
        raise NotAccepted(Reason.TOPIC_NAME_INVALID, f"a topic of more than {SEPARATORS_MAX} levels below the first")


def _reason_of(refusal: AmqpError) -> Reason:
    """What a client is told of a message that the broker does not take."""
    if refusal.code == ReplyCode.ACCESS_REFUSED:
        return Reason.NOT_AUTHORIZED
    return Reason.IMPLEMENTATION_SPECIFIC_ERROR


def topic_address(topic: str) -> Address:
    """Where a message of a topic is said to have been published to."""
    routing_key = carried_key(routing_key_of(topic))
    return Address(EXCHANGE, routing_key, encode_address(EXCHANGE, routing_key))


def retained_address(topic: str) -> Address:
    """The same of a retained message that the broker sends for a new subscription, which no publisher can say."""
    address = topic_address(topic)
    address.is_dead_letter = True
    return address


def last_will(client: Client, will: Will) -> LastWill:
    """A will as its session keeps it.

    Raises:
        MqttError: it cannot be a message.
    """
    try:
        header, _ = encode_header(own_name(will.topic), will.qos, will.retain, will.properties, len(will.payload))
    except (AmqpError, WireError) as error:
        raise MqttError(Reason.IMPLEMENTATION_SPECIFIC_ERROR, str(error)) from error
    delay_s = number(will.properties, Property.WILL_DELAY_INTERVAL, 0)
    topic = will.topic if will.retain else ""
    key = routing_key_of(will.topic)
    return LastWill(client.user_name, EXCHANGE, key, header, will.payload, topic, delay_s, client)
