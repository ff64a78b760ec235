"""Messages of STOMP as they are in the queues, and those of the queues in STOMP (docs/stomp.md has the table).

Header and body travel in the encoding of AMQP 0-9-1. Most messages of a publisher are alike in all but their bodies, so
what a set of headers becomes is remembered, in both directions; how much is remembered is bounded.
"""

from __future__ import annotations

from typing import Final

from amqp_broker.broker.message import Digest, digest_of
from amqp_broker.protocols.stomp.destinations import KNOWN_PREFIXES, REPLY_QUEUE_PREFIX
from amqp_broker.protocols.stomp.errors import StompError
from amqp_broker.protocols.stomp.frames import Frame, encode_header
from amqp_broker.wire.content import Properties, decode_properties, encode_content_header
from amqp_broker.wire.errors import WireError
from amqp_broker.wire.table import FieldValue, Table, plain_name

PERSISTENT: Final = 2
REMEMBERED_MAX: Final = 256
REMEMBERED_BYTES_MAX: Final = 4_096  # what is longer is not remembered
SIZE_OFFSET: Final = 4  # of the body's size in a content header
FLAGS_OFFSET: Final = 12

TEXTS: Final = {  # headers that are properties, with the property's name
    "content-type": "content_type",
    "content-encoding": "content_encoding",
    "correlation-id": "correlation_id",
    "reply-to": "reply_to",
    "expiration": "expiration",
    "amqp-message-id": "message_id",
    "type": "type",
    "user-id": "user_id",
    "app-id": "app_id",
}
NUMBERS: Final = {"priority": "priority", "timestamp": "timestamp"}
PERSISTENT_HEADER: Final = "persistent"
ABOUT_THE_FRAME: Final = ("destination", "content-length", "receipt", "transaction")  # and not about the message
OF_MESSAGE: Final = frozenset(  # what MESSAGE says of itself; of two headers of one name not all clients take the first
    ("ack", "content-length", "destination", "message-id", "redelivered", "subscription")
)
OUT_ORDER: Final = (
    "app-id", "user-id", "type", "timestamp", "amqp-message-id", "expiration", "reply-to", "correlation-id", "priority",
    PERSISTENT_HEADER, "content-encoding", "content-type",
)  # fmt: skip

Key = tuple[tuple[str, str], ...]


class Translations:
    """Remembers what one connection has translated lately."""

    def __init__(self) -> None:
        self._headers: dict[Key, tuple[bytes, Digest]] = {}
        self._lines: dict[bytes, bytes] = {}

    def header(self, frame: Frame) -> tuple[bytes, Digest]:
        """The content header of a message that is sent, and what the broker needs of it.

        Raises:
            StompError: a header does not fit.
            AmqpError: it claims something that cannot be.
        """
        key: Key = tuple([item for item in frame.headers.items() if item[0] not in ABOUT_THE_FRAME])
        known = self._headers.get(key)
        if known is None:
            known = encode_properties(frame)
            if len(self._headers) >= REMEMBERED_MAX:
                self._headers.clear()
            if len(known[0]) <= REMEMBERED_BYTES_MAX:
                self._headers[key] = known
        header, digest = known
        return header[:SIZE_OFFSET] + len(frame.body).to_bytes(8, "big") + header[FLAGS_OFFSET:], digest

    def lines(self, header: bytes) -> bytes:
        """The header lines of MESSAGE that say what a content header says."""
        key = header[FLAGS_OFFSET:]
        known = self._lines.get(key)
        if known is None:
            known = encode_lines(decode_properties(header))
            if len(self._lines) >= REMEMBERED_MAX:
                self._lines.clear()
            if len(key) <= REMEMBERED_BYTES_MAX:
                self._lines[key] = known
        return known


def encode_properties(frame: Frame) -> tuple[bytes, Digest]:
    """The content header of an empty body, and what the broker needs of it; raises as ``Translations.header``."""
    fields = Properties()
    headers: Table = {}
    for name, value in frame.headers.items():
        if name in TEXTS:
            setattr(fields, TEXTS[name], value)
        elif name in NUMBERS:
            setattr(fields, NUMBERS[name], frame.number(name))
        elif name == PERSISTENT_HEADER:
            fields.delivery_mode = PERSISTENT if frame.is_true(name) else None
        elif name not in ABOUT_THE_FRAME:
            headers[name] = value
    fields.headers = headers or None
    try:
        header = encode_content_header(0, fields)
        return header, digest_of(header)
    except WireError as error:
        raise StompError("Invalid header", f"{error}\n") from error


def encode_lines(fields: Properties) -> bytes:
    """The header lines of MESSAGE: the message's own headers, then its properties in RabbitMQ's order.

    What STOMP cannot say is left out: a client that cannot read a frame ends, and gets the same again.
    """
    lines: list[bytes] = []
    for name, value in (fields.headers or {}).items():
        plain, said = plain_name(name), _as_text(value)
        if said is not None and plain and plain not in OF_MESSAGE and can_be_said(plain) and can_be_said(said):
            lines.append(encode_header(plain, said))
    for name in OUT_ORDER:
        said = _property(fields, name)
        if said is not None and can_be_said(said):
            lines.append(encode_header(name, said))
    return b"".join(lines)


def can_be_said(text: str) -> bool:
    """Whether a text of another protocol can stand in a header, which is UTF-8 (STOMP 1.2, "Value Encoding")."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _property(fields: Properties, name: str) -> str | None:
    """What a header says of a property; None where it is absent."""
    if name == PERSISTENT_HEADER:
        return {None: None, PERSISTENT: "true"}.get(fields.delivery_mode, str(fields.delivery_mode))
    value = getattr(fields, TEXTS[name] if name in TEXTS else NUMBERS[name])
    if name == "reply-to" and value is not None and not value.startswith(KNOWN_PREFIXES):
        return f"{REPLY_QUEUE_PREFIX}{value}"
    return None if value is None else str(value)


def _as_text(value: FieldValue) -> str | None:
    """A value of a header as text; None for what cannot be said as text."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else None
