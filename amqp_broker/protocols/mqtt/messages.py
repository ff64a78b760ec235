"""Messages of MQTT as they are in the queues, and those of the queues in MQTT (docs/mqtt.md has the table).

Header and body travel in the encoding of AMQP 0-9-1. Most messages of a publisher are alike in all but their bodies, so
what a set of properties becomes is remembered by the bytes it has, in both directions; how much is remembered is
bounded.
"""

from __future__ import annotations

from typing import Final

from amqp_broker.broker.exchanges.readings import TOPIC_HEADER
from amqp_broker.broker.message import EXPIRATION_MS_MAX, Address, Digest, carried_key, digest_of
from amqp_broker.protocols.mqtt.encoding import STRING_BYTES_MAX, is_string
from amqp_broker.protocols.mqtt.packets import AT_LEAST_ONCE, EXACTLY_ONCE
from amqp_broker.protocols.mqtt.properties import (
    Properties,
    Property,
    Value,
    encode_properties,
    number,
    text,
    user_properties,
)
from amqp_broker.protocols.mqtt.topics import is_topic_name, routing_key_of, topic_of
from amqp_broker.wire import content
from amqp_broker.wire.content import decode_properties, encode_content_header
from amqp_broker.wire.table import FieldValue, RepeatedName, Table, UnsignedByte, plain_name

QOS_HEADER: Final = "x-mqtt-publish-qos"
RETAIN_HEADER: Final = "x-mqtt-retain"  # it was published as one to be retained
RETAINED_FOR_HEADER: Final = "x-mqtt-retained-for"  # the filter of the new subscription that it is sent for
FORMAT_HEADER: Final = "x-mqtt-payload-format"
CORRELATION_HEADER: Final = "x-correlation-id"
REPLY_HEADER: Final = "x-reply-to-topic"
DEATHS_HEADER: Final = "x-death"
RESPONSE_TOPIC_HEADER: Final = "x-mqtt-response-topic"  # as TOPIC_HEADER is beside the routing key
OWN_HEADERS: Final = frozenset(
    (
        QOS_HEADER,
        TOPIC_HEADER,
        RETAIN_HEADER,
        RETAINED_FOR_HEADER,
        FORMAT_HEADER,
        CORRELATION_HEADER,
        REPLY_HEADER,
        RESPONSE_TOPIC_HEADER,
    )
)
RESERVED_HEADERS: Final = OWN_HEADERS | {"CC", "BCC"}  # the last two are routing keys to AMQP
USER_PREFIX: Final = "x-mqtt-user-"  # of the header of a user property that has a reserved name, or this prefix
SHORT_STRING_BYTES_MAX: Final = 255
TRANSIENT: Final = 1
PERSISTENT: Final = 2
REMEMBERED_MAX: Final = 256
REMEMBERED_BYTES_MAX: Final = 4_096  # a header that is longer is not remembered
FLAGS_OFFSET: Final = 12  # of a content header: behind the body's size


class Content:
    """The properties of a message, and how it was published, in the terms of MQTT.

    Args:
        qos: that it was published with.
        topic: that it was published to; None where the routing key tells it.
        is_from_mqtt: whether that was done with MQTT, so that the topic is exactly what it was published to.
        is_retain: whether it was to be retained.
        retained_for: the filter of the subscription that a retained message is sent for; None for one just published.
        properties: MQTT 5's, without topic alias, subscription identifiers and what is left of its time.
    """

    __slots__ = ("encoded_properties", "is_from_mqtt", "is_retain", "properties", "qos", "retained_for", "topic")

    def __init__(
        self,
        qos: int,
        topic: str | None,
        is_from_mqtt: bool,
        is_retain: bool,
        retained_for: str | None,
        properties: Properties,
    ) -> None:
        self.qos = qos
        self.topic = topic
        self.is_from_mqtt = is_from_mqtt
        self.is_retain = is_retain
        self.retained_for = retained_for
        self.properties = properties
        self.encoded_properties = encode_properties(properties)

    def at(self, address: Address) -> Content:
        """The same without what does not hold of a message of this address.

        A topic belongs to the routing key that it was published with, and not to that of a dead letter or of what was
        published anew. What is sent for a subscription was put into the queue by the broker, whatever a publisher says.
        """
        topic, retained_for, is_from_mqtt = self.topic, self.retained_for, self.is_from_mqtt
        if topic is not None and carried_key(routing_key_of(topic)) != address.routing_key:
            topic, is_from_mqtt = None, False
        if not address.is_dead_letter:
            retained_for = None
        if topic == self.topic and retained_for == self.retained_for:
            return self
        return Content(self.qos, topic, is_from_mqtt, self.is_retain, retained_for, self.properties)


class Translations:
    """Remembers what one connection has translated lately."""

    def __init__(self) -> None:
        self._headers: dict[int, tuple[bytes, Digest]] = {}  # of messages without properties, by QoS, retain and size
        self._contents: dict[bytes, Content] = {}
        self._retained: dict[tuple[bytes, str], tuple[bytes, Digest]] = {}

    def header(
        self, own_name: str, qos: int, retain: bool, properties: Properties, body_bytes: int
    ) -> tuple[bytes, Digest]:
        """The content header of a message that is published, and what the broker needs of it.

        Args:
            own_name: the topic where its routing key does not tell it (``topics.own_name``), or nothing.

        Raises:
            AmqpError: it claims something that cannot be.
            WireError: a property does not fit.
        """
        if properties or own_name:
            return encode_header(own_name, qos, retain, properties, body_bytes)
        key = body_bytes << 3 | qos << 1 | retain
        known = self._headers.get(key)
        if known is None:
            if len(self._headers) >= REMEMBERED_MAX:
                self._headers.clear()
            known = self._headers[key] = encode_header("", qos, retain, properties, body_bytes)
        return known

    def content(self, header: bytes, address: Address) -> Content:
        """What the content header of a delivery means for a message of this address."""
        key = header[FLAGS_OFFSET:]
        known = self._contents.get(key)
        if known is None:
            known = decode_header(header)
            if len(self._contents) >= REMEMBERED_MAX:
                self._contents.clear()
            if len(key) <= REMEMBERED_BYTES_MAX:
                self._contents[key] = known
        return known if known.topic is None and known.retained_for is None else known.at(address)

    def retained(self, header: bytes, topic_filter: str, expiration_ms: int | None) -> tuple[bytes, Digest]:
        """What ``retained_header`` says; most of those that a filter finds are alike."""
        if expiration_ms is not None or len(header) > REMEMBERED_BYTES_MAX:
            return retained_header(header, topic_filter, expiration_ms)
        key = (header, topic_filter)
        known = self._retained.get(key)
        if known is None:
            if len(self._retained) >= REMEMBERED_MAX:
                self._retained.clear()
            known = self._retained[key] = retained_header(header, topic_filter, None)
        return known


def encode_header(
    own_name: str, qos: int, retain: bool, properties: Properties, body_bytes: int
) -> tuple[bytes, Digest]:
    """The content header of a message, and what the broker needs of it; as ``Translations.header``."""
    headers: Table = {QOS_HEADER: UnsignedByte(qos)}
    if retain:
        headers[RETAIN_HEADER] = True
    if own_name:
        headers[TOPIC_HEADER] = own_name
    fields = content.Properties(headers=headers, delivery_mode=PERSISTENT if qos else TRANSIENT)
    if properties:
        _encode_properties(fields, headers, properties)
    header = encode_content_header(body_bytes, fields)
    return header, digest_of(header)


def _encode_properties(fields: content.Properties, headers: Table, properties: Properties) -> None:
    content_type = text(properties, Property.CONTENT_TYPE)
    if content_type is not None and content_type.isascii() and len(content_type) <= SHORT_STRING_BYTES_MAX:
        fields.content_type = content_type
    correlation = properties.get(Property.CORRELATION_DATA)
    if isinstance(correlation, bytes):
        _encode_correlation(fields, headers, correlation)
    response_topic = text(properties, Property.RESPONSE_TOPIC)
    if response_topic is not None:
        headers[REPLY_HEADER] = routing_key_of(response_topic)
        if "." in response_topic or "*" in response_topic:
            headers[RESPONSE_TOPIC_HEADER] = response_topic
    expiry_s = number(properties, Property.MESSAGE_EXPIRY_INTERVAL, -1)
    if expiry_s >= 0:
        fields.expiration = str(min(expiry_s * 1000, EXPIRATION_MS_MAX))
    payload_format = number(properties, Property.PAYLOAD_FORMAT_INDICATOR, -1)
    if payload_format >= 0:
        headers[FORMAT_HEADER] = UnsignedByte(payload_format)
    for name, value in user_properties(properties):
        carried = USER_PREFIX + name if name in RESERVED_HEADERS or name.startswith(USER_PREFIX) else name
        if len(carried.encode()) <= SHORT_STRING_BYTES_MAX:
            headers[RepeatedName(carried) if carried in headers else carried] = value


def _encode_correlation(fields: content.Properties, headers: Table, correlation: bytes) -> None:
    try:
        as_text = correlation.decode()
    except UnicodeDecodeError:
        headers[CORRELATION_HEADER] = correlation
        return
    if len(correlation) <= SHORT_STRING_BYTES_MAX:
        fields.correlation_id = as_text
    else:
        headers[CORRELATION_HEADER] = correlation


def decode_header(header: bytes) -> Content:
    """What a content header means in MQTT, whatever protocol it came by."""
    fields = decode_properties(header)
    headers: Table = fields.headers or {}
    properties: Properties = {}
    if headers.get(FORMAT_HEADER) == 1:
        properties[Property.PAYLOAD_FORMAT_INDICATOR] = 1
    if fields.content_type is not None and is_string(fields.content_type):
        properties[Property.CONTENT_TYPE] = fields.content_type
    reply_topic, response_topic = headers.get(REPLY_HEADER), headers.get(RESPONSE_TOPIC_HEADER)
    if isinstance(response_topic, str) and _is_topic(response_topic):
        properties[Property.RESPONSE_TOPIC] = response_topic
    elif isinstance(reply_topic, str) and _is_topic(topic_of(reply_topic)):
        properties[Property.RESPONSE_TOPIC] = topic_of(reply_topic)
    correlation = headers.get(CORRELATION_HEADER)
    if fields.correlation_id is not None:
        properties[Property.CORRELATION_DATA] = fields.correlation_id.encode("utf-8", "surrogateescape")
    elif isinstance(correlation, (bytes, str)):
        data = correlation if isinstance(correlation, bytes) else correlation.encode("utf-8", "surrogateescape")
        if len(data) <= STRING_BYTES_MAX:
            properties[Property.CORRELATION_DATA] = data
    pairs: list[tuple[str, str]] = []
    for name, value in headers.items():
        plain = plain_name(name)
        said = None if plain in OWN_HEADERS else _as_text(value)
        if said is not None and is_string(plain):
            pairs.append((plain.removeprefix(USER_PREFIX), said))
    if pairs:
        told: Value = pairs
        properties[Property.USER_PROPERTY] = told
    published_qos = headers.get(QOS_HEADER)
    if isinstance(published_qos, int) and 0 <= published_qos <= EXACTLY_ONCE:
        qos = int(published_qos)
    else:
        qos = AT_LEAST_ONCE if fields.delivery_mode == PERSISTENT else 0
    topic, retained_for = headers.get(TOPIC_HEADER), headers.get(RETAINED_FOR_HEADER)
    has_topic = isinstance(topic, str) and _is_topic(topic)
    is_dead_letter = isinstance(headers.get(DEATHS_HEADER), list)  # its routing key may be another than it had
    return Content(
        qos,
        topic if isinstance(topic, str) and has_topic else None,
        has_topic or (QOS_HEADER in headers and not is_dead_letter),
        headers.get(RETAIN_HEADER) is True,
        retained_for if isinstance(retained_for, str) and not is_dead_letter else None,
        properties,
    )


def retained_header(header: bytes, topic_filter: str, expiration_ms: int | None) -> tuple[bytes, Digest]:
    """The content header of a retained message on its way to a new subscription.

    Args:
        header: that it was published with.
        topic_filter: of the subscription.
        expiration_ms: what is left of its time.
    """
    fields = decode_properties(header)
    fields.headers = {**(fields.headers or {}), RETAINED_FOR_HEADER: topic_filter}
    fields.expiration = None if expiration_ms is None else str(expiration_ms)
    encoded = encode_content_header(content.body_size(header), fields)
    return encoded, digest_of(encoded)


def _is_topic(topic: str) -> bool:
    return is_topic_name(topic) and is_string(topic)


def _as_text(value: FieldValue) -> str | None:
    """A value of a header as a user property says it; None for what cannot be said as text."""
    if isinstance(value, str):
        return value if is_string(value) else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    return None
