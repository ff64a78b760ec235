"""A message as a queue holds it, and what is known of it without decoding it again.

The content header and the body travel as the bytes that came; ``Address`` keeps the exchange and routing key in both
forms, because every delivery repeats them on the wire. A message belongs to one queue: a publish that reaches ten
queues makes ten messages, which share address, header and body. Holds no routing and no queue.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from amqp_broker.broker.delayed.header import delay_ms_of
from amqp_broker.errors import precondition_failed
from amqp_broker.wire.content import Properties, body_size, decode_properties, encode_content_header
from amqp_broker.wire.table import FieldValue, type_name

DELIVERY_MODE_PERSISTENT = 2
DELIVERY_MODES = (None, 1, DELIVERY_MODE_PERSISTENT)
EXPIRATION_MS_MAX = 315_360_000_000  # RabbitMQ's limit of a TTL: ten years of 365 days
ROUTING_KEY_BYTES_MAX: Final = 255  # in AMQP


def carried_key(routing_key: str) -> str:
    """What a message carries of its routing key: all of it, or as many characters as AMQP has room for.

    It is routed by the whole key; MQTT's topics and dead-letter routing keys may be longer.
    """
    encoded = routing_key.encode("utf-8", "surrogateescape")
    end = ROUTING_KEY_BYTES_MAX
    if len(encoded) <= end:
        return routing_key
    while encoded[end] & 0xC0 == 0x80 and end > ROUTING_KEY_BYTES_MAX - 3:  # in the middle of a character
        end -= 1
    return encoded[:end].decode("utf-8", "surrogateescape")


class Address:
    """The address that a message was published to.

    Args:
        exchange: the exchange's name, empty for the default exchange.
        routing_key: the routing key of the publish.
        encoded: both as two short strings, as publish, deliver, get-ok and return carry them.
        extra_routing_keys: the keys of the CC and BCC headers.
        is_dead_letter: the broker published it, so that its ``x-death`` is the broker's own; retained messages of MQTT
            that are sent for a new subscription are told by that as well.
    """

    __slots__ = ("encoded", "exchange", "extra_routing_keys", "is_dead_letter", "routing_key")

    def __init__(
        self,
        exchange: str,
        routing_key: str,
        encoded: bytes,
        extra_routing_keys: tuple[str, ...] = (),
        is_dead_letter: bool = False,
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.encoded = encoded
        self.extra_routing_keys = extra_routing_keys
        self.is_dead_letter = is_dead_letter

    @property
    def routing_keys(self) -> tuple[str, ...]:
        """All the keys that route the message, the published one first."""
        return (self.routing_key, *self.extra_routing_keys)


class Message:
    """One message in one queue.

    ``position`` orders the messages of a queue and is kept when a message is requeued; ``expires_at_ms`` is in the
    broker's monotonic milliseconds, None for never; ``reference`` is where the journal holds it, 0 for nowhere.
    """

    __slots__ = (
        "address",
        "body",
        "delivery_count",
        "expires_at_ms",
        "header",
        "is_persistent",
        "position",
        "priority",
        "redelivered",
        "reference",
    )

    def __init__(self, address: Address, header: bytes, body: bytes, is_persistent: bool, priority: int) -> None:
        self.address = address
        self.header = header
        self.body = body
        self.is_persistent = is_persistent
        self.priority = priority
        self.position = 0
        self.expires_at_ms: int | None = None
        self.redelivered = False
        self.delivery_count = 0
        self.reference = 0


@dataclass(frozen=True, slots=True)
class Digest:
    """The properties of a content header that the broker itself needs."""

    is_persistent: bool
    priority: int
    expiration_ms: int | None
    user_id: str | None
    reply_to: str | None
    headers: dict[str, FieldValue] | None
    extra_routing_keys: tuple[str, ...]
    has_blind_copies: bool
    delay_ms: int = 0  # by which exchanges that hold messages back do so


def digest_of(header: bytes) -> Digest:
    """Decode a content header as far as the broker itself needs it.

    Raises:
        AmqpError: 406 for an expiration that is no number of milliseconds, or CC/BCC headers that are no array of
        long strings. WireError: the header's bytes are malformed.
    """
    return digest_of_properties(decode_properties(header))


def digest_of_properties(properties: Properties) -> Digest:
    """The same of properties that are decoded already; raises 406 as ``digest_of`` does."""
    headers = properties.headers
    expiration_ms = _expiration_ms(properties)
    extra_routing_keys = () if headers is None else (*_copies(headers, "CC"), *_copies(headers, "BCC"))
    if properties.delivery_mode not in DELIVERY_MODES:
        raise precondition_failed(f"invalid message: {{delivery_mode_unknown,{properties.delivery_mode}}}")
    return Digest(
        is_persistent=properties.delivery_mode == DELIVERY_MODE_PERSISTENT,
        priority=properties.priority or 0,
        expiration_ms=expiration_ms,
        user_id=properties.user_id,
        reply_to=properties.reply_to,
        headers=headers,
        extra_routing_keys=extra_routing_keys,
        has_blind_copies=headers is not None and "BCC" in headers,
        delay_ms=0 if headers is None else delay_ms_of(headers),
    )


def digest_of_copy(headers: dict[str, FieldValue]) -> Digest:
    """What there is to know of a message that the broker makes: transient, and nothing but headers that say nothing to
    the broker itself; what was just encoded need not be decoded.
    """
    return Digest(
        is_persistent=False,
        priority=0,
        expiration_ms=None,
        user_id=None,
        reply_to=None,
        headers=headers,
        extra_routing_keys=(),
        has_blind_copies=False,
    )


def _expiration_ms(properties: Properties) -> int | None:
    """The per-message TTL, read as RabbitMQ reads it: decimal digits with an optional sign, nothing after them."""
    text = properties.expiration
    if text is None:
        return None
    sign_length = 1 if text[:1] in ("+", "-") else 0
    digits_end = sign_length
    while digits_end < len(text) and text[digits_end] in "0123456789":
        digits_end += 1
    if digits_end == sign_length:
        raise precondition_failed(f"invalid expiration '{text}': no_integer")
    if digits_end < len(text):
        raise precondition_failed(f"invalid expiration '{text}': {{leftover_string,\"{text[digits_end:]}\"}}")
    value = int(text)
    if value < 0:
        raise precondition_failed(f"invalid expiration '{text}': {{value_negative,{value}}}")
    if value > EXPIRATION_MS_MAX:
        raise precondition_failed(f"invalid expiration '{text}': {{value_too_large,{value}}}")
    return value


def _copies(headers: dict[str, FieldValue], name: str) -> tuple[str, ...]:
    """The extra routing keys that one of the headers CC and BCC names (RabbitMQ's sender-selected distribution)."""
    if name not in headers:
        return ()
    value = headers[name]
    if not isinstance(value, list):
        raise precondition_failed(f'invalid message: {{unacceptable_type_in_header,"{name}",{type_name(value)}}}')
    return tuple(key for key in value if isinstance(key, str))


def without_blind_copies(header: bytes) -> bytes:
    """The content header as consumers may see it: BCC is nobody's business."""
    properties = decode_properties(header)
    headers = dict(properties.headers or {})
    headers.pop("BCC", None)
    return encode_content_header(body_size(header), replace(properties, headers=headers))
