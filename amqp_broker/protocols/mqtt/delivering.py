"""Messages on their way out: PUBLISH to the client, its acknowledgements, redelivery.

What a client has subscribed to with QoS 0 comes by one queue without acknowledgements (``DeliveringAtMostOnce``), the
rest by queues that keep a message until the client has it (``Delivering``), of which so many may be on the way as the
client can receive.

Theory of operation of QoS 2. Before a PUBLISH leaves, the session remembers which message has its identifier, in the
journal, so that the message keeps it through reconnects and restarts and the client knows it again. PUBREC takes the
message out of its queue and has the identifier remembered as released, in one batch, and PUBREL waits for that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.client_sessions import filter_of_shared_queue
from amqp_broker.broker.counters import Counts
from amqp_broker.broker.descriptions import ChannelInfo
from amqp_broker.broker.message import Message
from amqp_broker.broker.observer import Settlement
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.queues.consumers import Consumer, Deliveries
from amqp_broker.broker.queues.unacknowledged import Unacknowledged
from amqp_broker.protocols.mqtt.messages import Content, Translations
from amqp_broker.protocols.mqtt.packet_writing import encode_answer, join_publish
from amqp_broker.protocols.mqtt.packets import AT_LEAST_ONCE, EXACTLY_ONCE, MQTT_5, Acknowledgement, PacketType
from amqp_broker.protocols.mqtt.properties import Properties, Property, encode_properties
from amqp_broker.protocols.mqtt.publishing import Publishing
from amqp_broker.protocols.mqtt.reasons import Reason, protocol_error
from amqp_broker.protocols.mqtt.subscribing import Subscribing, Wanted
from amqp_broker.protocols.mqtt.topics import is_shared
from amqp_broker.session.settling import Settling, count_settled

if TYPE_CHECKING:
    from amqp_broker.protocols.mqtt.link import Link

PACKET_IDS: Final = 65_535
_ANSWERS: Final = (PacketType.PUBACK, PacketType.PUBACK, PacketType.PUBREC)  # what is waited for first, by QoS
RETAIN: Final = 1  # flags of PUBLISH
DUPLICATE: Final = 8
NO_TOPIC: Final = b"\0\0"  # an alias stands for it
TOPIC_ALIASES_MAX: Final = 256  # for each client, where it allows as many


class DeliveringAtMostOnce(Deliveries):
    """The receiver of the messages of a client's queue for QoS 0."""

    def __init__(self, connection: Link, subscribing: Subscribing, composer: Composer) -> None:
        self._connection = connection
        self._subscribing = subscribing
        self._composer = composer
        self.has_room = True
        self.is_held = False
        self.update_room()

    def deliver(self, consumer: Consumer, message: Message, header: bytes) -> None:
        """Send a message (called by its queue)."""
        connection = self._connection
        content = connection.translations.content(header, message.address)
        wanted = self._subscribing.wanted(consumer.tag, message.address.routing_key, content)
        if wanted is None:
            return
        packet = self._composer.compose(message, content, wanted, 0, 0)
        if packet:
            connection.counts.delivered_no_ack += 1
            consumer.counts.delivered_no_ack += 1
            connection.output.send(packet)
            if connection.broker.observers.present:
                channel = connection.channel
                connection.broker.observers.delivered(channel, consumer.queue, message, consumer, no_ack=True)

    def consumer_cancelled(self, consumer: Consumer) -> None:
        """The queue has gone."""
        self._connection.queue_has_gone(consumer)

    def inspect(self) -> ChannelInfo:
        """Describe the connection as a channel, for those who look in."""
        return self._connection.inspect_channel()

    def counts_in(self, queue: Queue) -> Counts:
        return queue.counts.of(self._connection.counted_as)

    def update_room(self) -> None:
        """Whether the client takes what is sent may have changed; returns nothing, consumers are resumed elsewhere."""
        connection = self._connection
        is_held = connection.virtual_host.are_deliveries_held or self.is_held
        self.has_room = not (is_held or connection.output.is_congested)


class Composer:
    """Writes the PUBLISH of a delivery.

    Args:
        connection: whose level and limits hold.
    """

    def __init__(self, connection: Link) -> None:
        self._level = connection.level
        self._packet_bytes_max = connection.client_packet_bytes_max
        self._monotonic_ms = connection.broker.clock.monotonic_ms
        self._aliases: dict[str, int] = {}  # of the topics that came first
        self._aliases_max = min(connection.client_topic_aliases_max, TOPIC_ALIASES_MAX)

    def compose(
        self, message: Message, content: Content, wanted: Wanted, qos: int, packet_id: int, *, is_again: bool = False
    ) -> bytes:
        """The packet; nothing where the message's routing key is no topic, or the packet is larger than the client
        takes (MQTT 5.0, 3.1.2.11.4).

        Args:
            is_again: whether the client was sent the message before.
        """
        encoded_topic = wanted.encoded_topic
        if not encoded_topic:
            return b""
        flags = qos << 1
        if content.retained_for is not None or (wanted.retain_as_published and content.is_retain):
            flags |= RETAIN
        if is_again:
            flags |= DUPLICATE
        properties, alias = b"", 0
        if self._level == MQTT_5:
            alias, is_new = self._alias(wanted.topic)
            if alias and not is_new:
                encoded_topic = NO_TOPIC
            properties = content.encoded_properties
            if alias or wanted.identifiers or message.expires_at_ms is not None:
                properties = encode_properties(self._properties(message, content, wanted, alias))
        data = join_publish(flags, encoded_topic, packet_id, properties, message.body)
        if self._packet_bytes_max and len(data) > self._packet_bytes_max:
            return b""
        if alias:
            self._aliases[wanted.topic] = alias
        return data

    def _alias(self, topic: str) -> tuple[int, bool]:
        """The alias of a topic, 0 for none, and whether the client does not know it yet."""
        if not self._aliases_max:
            return 0, False
        alias = self._aliases.get(topic, 0)
        if alias or len(self._aliases) >= self._aliases_max:
            return alias, False
        return len(self._aliases) + 1, True

    def _properties(self, message: Message, content: Content, wanted: Wanted, alias: int) -> Properties:
        properties = dict(content.properties)
        if message.expires_at_ms is not None:
            left_ms = message.expires_at_ms - self._monotonic_ms()
            properties[Property.MESSAGE_EXPIRY_INTERVAL] = max(0, -(-left_ms // 1000))
        if wanted.identifiers:
            properties[Property.SUBSCRIPTION_IDENTIFIER] = list(wanted.identifiers)
        if alias:
            properties[Property.TOPIC_ALIAS] = alias
        return properties


class Delivering(Deliveries):
    """The receiver of the messages that the client acknowledges; for those who look on, the connection's only channel.

    Args:
        connection: whose it is.
        receive_maximum: how many may be on the way.
    """

    number = 1

    def __init__(self, connection: Link, publishing: Publishing, subscribing: Subscribing) -> None:
        broker = connection.broker
        self._publishing = publishing
        self._subscribing = subscribing
        self.connection = connection
        self.has_room = True
        self.receive_maximum = connection.receive_maximum
        self.translations: Translations = connection.translations
        self.unacknowledged: dict[int, Unacknowledged] = {}  # by packet identifier, in the order of the deliveries
        self.composer = Composer(connection)
        self.at_most_once = DeliveringAtMostOnce(connection, subscribing, self.composer)
        self._qos: dict[int, int] = {}  # of the same
        self._session = connection.session
        self._sessions = connection.virtual_host.client_sessions
        self._durability = broker.durability
        self._observers = broker.observers
        self._monotonic_ms = broker.clock.monotonic_ms
        self._last_id = 0
        self._is_stopped = False
        self._is_held = False
        self._will_go_on = False

    # --- out

    def deliver(self, consumer: Consumer, message: Message, header: bytes) -> None:
        """Send a message (called by its queue)."""
        connection, queue = self.connection, consumer.queue
        if message.redelivered and self._is_anothers(consumer, message):
            return
        content = self.translations.content(header, message.address)
        wanted = self._subscribing.wanted(consumer.tag, message.address.routing_key, content)
        qos_before = self._qos_before(consumer, message, content) if message.redelivered else 0
        if qos_before and wanted is None:
            wanted = self._subscribing.wanted_again(consumer.tag, message.address.routing_key, content)
        if wanted is None:  # it matches by AMQP's rules and not by MQTT's, or is not wanted any more
            queue.acknowledge(message)
            return
        qos = max(min(content.qos, wanted.qos), qos_before)
        if qos == 0:
            self._deliver_once(consumer, message, content, wanted)
            return
        is_again = message.redelivered and self._has_had(consumer, message)
        packet_id = self._packet_id_for(message, qos)
        packet = self.composer.compose(message, content, wanted, qos, packet_id, is_again=is_again)
        if not packet:
            self._forget_id(message)
            queue.reject([message])
            return
        self.unacknowledged[packet_id] = Unacknowledged(message, queue, consumer, self._monotonic_ms())
        self._qos[packet_id] = qos
        consumer.unacknowledged_count += 1
        self._count(queue, message)
        self.update_room()
        connection.output.send(packet)
        if self._observers.present:
            self._observers.delivered(self, queue, message, consumer, no_ack=False)

    def _deliver_once(self, consumer: Consumer, message: Message, content: Content, wanted: Wanted) -> None:
        """A message that is worth QoS 0: it is done with when it is sent, and not sent again (MQTT 5.0, 4.3.1).

        What comes again of a shared subscription was another's before, who has not acknowledged it (4.8.2). So that it
        does not come again to this client, the journal has to know that it is done with before it is sent.
        """
        queue, output = consumer.queue, self.connection.output
        is_others, is_kept = is_shared(consumer.tag), message.reference
        packet = b""
        if is_others or not message.redelivered:
            packet = self.composer.compose(message, content, wanted, 0, 0)
        if packet:
            self._count(queue, message)
            if self._observers.present:
                self._observers.delivered(self, queue, message, consumer, no_ack=False)
        self._tell_settled(queue, [message], Settlement.ACKNOWLEDGED)
        queue.acknowledge(message)
        if packet:
            if is_others and is_kept:
                output.hold_until(self._durability.position)
            output.send(packet)

    def _count(self, queue: Queue, message: Message) -> None:
        counts = self.connection.counts
        counts.delivered += 1
        in_queue = self.counts_in(queue)
        in_queue.delivered += 1
        if message.redelivered:
            counts.redelivered += 1
            in_queue.redelivered += 1

    def _packet_id_for(self, message: Message, qos: int) -> int:
        """An identifier that is free, or for QoS 2 the one that the message had before."""
        if qos == AT_LEAST_ONCE:
            return self._free_id()
        sent = self._session.sent
        known = sent.id_of(message)
        if known is not None and known not in self.unacknowledged:
            return known
        packet_id = self._free_id()
        sent.put(message, packet_id)
        if self._session.is_durable and message.reference:
            self._sessions.keep_ids(self._session)
            self.connection.output.hold_until(self._durability.position)
        return packet_id

    def _free_id(self) -> int:
        sent, released = self._session.sent, self._session.released
        packet_id = self._last_id
        for _ in range(PACKET_IDS):
            packet_id = packet_id % PACKET_IDS + 1
            if not (packet_id in self.unacknowledged or packet_id in released or sent.is_used(packet_id)):
                break
        self._last_id = packet_id
        return packet_id

    def _forget_id(self, message: Message) -> None:
        if self._session.sent.forget(message):
            self._sessions.keep_ids(self._session)

    def _qos_before(self, consumer: Consumer, message: Message, content: Content) -> int:
        """The least QoS for a message that comes again, 0 if it was not on its way to this client.

        What was begun is completed, whether the client has unsubscribed meanwhile or asked for less (MQTT 5.0, 3.10.4).
        """
        if self._session.sent.id_of(message) is not None:
            return EXACTLY_ONCE
        return 0 if is_shared(consumer.tag) else min(content.qos, AT_LEAST_ONCE)

    # --- what comes again of a queue that clients share (MQTT 5.0, 4.8.2)

    def _is_anothers(self, consumer: Consumer, message: Message) -> bool:
        """Whether a message was on its way to another client with QoS 2, which gets it instead of this one."""
        queue = consumer.queue
        if not is_shared(consumer.tag) or not self._sessions.is_anothers(self._session, message):
            return False
        self._sessions.hold_for_its_own(Unacknowledged(message, queue, None, self._monotonic_ms()))
        return True

    def _has_had(self, consumer: Consumer, message: Message) -> bool:
        """Whether a message that comes again was sent to this client before."""
        key: object = message.reference or message
        session = self._session
        is_known = key in session.given_back or session.sent.id_of(message) is not None
        return is_known or not is_shared(consumer.tag)

    def _send_held(self) -> None:
        """Send again what was on its way to this client with QoS 2, as much as it can receive."""
        held = self._session.held
        for packet_id in list(held):
            if len(self.unacknowledged) + len(self._session.released) >= self.receive_maximum:
                return
            delivery = held.pop(packet_id)
            message, queue = delivery.message, delivery.queue
            message.redelivered = True
            content = self.translations.content(message.header, message.address)
            tag = filter_of_shared_queue(queue.name)
            wanted = self._subscribing.wanted_again(tag, message.address.routing_key, content)
            packet = self.composer.compose(message, content, wanted, EXACTLY_ONCE, packet_id, is_again=True)
            if not packet:
                self._forget_id(message)
                queue.reject([message])
                continue
            delivery.delivered_ms = self._monotonic_ms()
            self.unacknowledged[packet_id] = delivery
            self._qos[packet_id] = EXACTLY_ONCE
            self._count(queue, message)
            self.connection.output.send(packet)
            if self._observers.present:
                self._observers.delivered(self, queue, message, None, no_ack=False)

    # --- acknowledgements

    def acknowledged(self, packet: Acknowledgement) -> None:
        """Handle a PUBACK, PUBREC or PUBCOMP; one that nothing waits for is passed over.

        Raises:
            MqttError: something else waits for it.
        """
        qos = self._qos.get(packet.packet_id, 0)
        if qos and packet.type is not _ANSWERS[qos]:
            raise protocol_error(f"{packet.type.name} for a message of QoS {qos} that waits for {_ANSWERS[qos].name}")
        if packet.type is PacketType.PUBCOMP:
            self._completed(packet.packet_id)
        elif packet.type is PacketType.PUBACK:
            if packet.packet_id in self._session.released:
                raise protocol_error("PUBACK for a message of QoS 2 that waits for PUBCOMP")
            if qos == AT_LEAST_ONCE:
                self._settle(packet.packet_id, packet.reason)
        elif qos == EXACTLY_ONCE:
            self._received(packet.packet_id, packet.reason)
        elif not self.connection.has_resumed and packet.packet_id not in self._session.released:
            self._send_release(packet.packet_id, Reason.PACKET_IDENTIFIER_NOT_FOUND)
        else:
            self._send_release(packet.packet_id, Reason.SUCCESS)

    def _received(self, packet_id: int, reason: int) -> None:
        """The client has a message of QoS 2, or refuses it."""
        session = self._session
        message = self.unacknowledged[packet_id].message
        session.sent.forget(message)
        if reason < Reason.UNSPECIFIED_ERROR:
            session.released[packet_id] = None
        self._sessions.keep_ids(session)
        self._settle(packet_id, reason)
        if reason < Reason.UNSPECIFIED_ERROR:
            self._send_release(packet_id, Reason.SUCCESS)

    def _settle(self, packet_id: int, reason: int) -> None:
        delivery = self.unacknowledged.pop(packet_id)
        del self._qos[packet_id]
        queue, message = delivery.queue, delivery.message
        if reason >= Reason.UNSPECIFIED_ERROR:
            self._tell_settled(queue, [message], Settlement.REJECTED)
            queue.reject([message])
        else:
            self._tell_settled(queue, [message], Settlement.ACKNOWLEDGED)
            queue.acknowledge(message)
        if delivery.consumer is not None:
            delivery.consumer.unacknowledged_count -= 1
        self.update_room()

    def _send_release(self, packet_id: int, reason: int) -> None:
        position = self._durability.position if self._session.is_durable else 0
        data = encode_answer(PacketType.PUBREL, packet_id, reason, self.connection.level)
        self._publishing.answer_when_kept(data, position)

    def release_again(self) -> None:
        """The client is back: say once more which identifiers were released."""
        for packet_id in self._session.released:
            self._send_release(packet_id, Reason.SUCCESS)

    def _completed(self, packet_id: int) -> None:
        if packet_id in self._session.released:
            del self._session.released[packet_id]
            self._sessions.keep_ids(self._session)
            self.update_room()

    def _tell_settled(self, queue: Queue, messages: list[Message], settlement: Settlement) -> None:
        count_settled(settlement, len(messages), self.connection.counts, self.counts_in(queue))
        if self._observers.present:
            self._observers.settled(self, queue, messages, settlement)

    # --- room

    def update_room(self) -> None:
        """The client may be able to take more, or no more."""
        had_room, connection = self.has_room, self.connection
        if self._session.held and not self._is_stopped:
            self._send_held()
        on_the_way = len(self.unacknowledged) + len(self._session.released)
        is_full = on_the_way >= self.receive_maximum or connection.output.is_congested
        is_held = connection.virtual_host.are_deliveries_held or self._is_held
        self.has_room = not (is_full or is_held or self._is_stopped)
        if self.has_room and not had_room:
            self._subscribing.resume_consumers()

    def congestion_changed(self) -> None:
        """The client takes what is sent, or does not."""
        self.at_most_once.update_room()
        self.update_room()
        if self.at_most_once.has_room:
            self._subscribing.resume_consumers()

    def hold(self) -> None:
        """Deliver nothing more for now."""
        self._is_held = self.at_most_once.is_held = True
        self.has_room = self.at_most_once.has_room = False

    def go_on_when_finished(self) -> None:
        """Deliver again at the end of the chunk, behind the answers that are told there."""
        if not self._will_go_on:
            self._will_go_on = True
            self.connection.broker.to_finish.append(self._go_on)

    def _go_on(self) -> None:
        self._will_go_on = self._is_held = self.at_most_once.is_held = False
        if not self._is_stopped:
            self.congestion_changed()

    # --- for those who look on

    def consumer_cancelled(self, consumer: Consumer) -> None:
        """The queue has gone."""
        self.connection.queue_has_gone(consumer)

    def inspect(self) -> ChannelInfo:
        """Describe the connection as a channel."""
        return self.connection.inspect_channel()

    def counts_in(self, queue: Queue) -> Counts:
        return queue.counts.of(self.connection.counted_as)

    # --- the end

    def stop(self) -> Iterator[None]:
        """The connection ends; returns what is to be done to give back what the client has not acknowledged.

        What is shared and has QoS 2 is not given back: the client gets it when it returns, or nobody.
        """
        self._is_stopped = True
        self.has_room = self.at_most_once.has_room = False
        session = self._session
        session.given_back = set()
        deliveries = []
        for packet_id, delivery in self.unacknowledged.items():
            if delivery.consumer is None or is_shared(delivery.consumer.tag):
                message = delivery.message
                if self._qos[packet_id] == EXACTLY_ONCE:
                    delivery.consumer = None
                    session.held[packet_id] = delivery
                    self._tell_settled(delivery.queue, [message], Settlement.ABANDONED)
                    continue
                key: object = message.reference or message
                session.given_back.add(key)
            deliveries.append(delivery)
        self.unacknowledged.clear()
        self._qos.clear()
        return self._give_back(deliveries)

    def _give_back(self, deliveries: list[Unacknowledged]) -> Iterator[None]:
        settling = Settling(Settlement.ABANDONED, _made_room, self._tell_settled, has_consumers=False, has_room=False)
        slice_messages = self.connection.broker.works.slice_messages
        for start in range(0, len(deliveries), slice_messages):
            if start:
                yield
            settling.add(deliveries[start : start + slice_messages])
        settling.finish()


def _made_room(consumer: Consumer | None, count: int) -> None:
    """Its consumer has gone before."""
