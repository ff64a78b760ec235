"""Messages of AMQP 1.0 as they are in the queues, and those of the queues in AMQP 1.0 (docs/amqp10.md has a table).

In the queues header and body travel in the encoding of AMQP 0-9-1, as those of all protocols do. What that cannot say
(types, subject, footer ...) is kept beside it: the sections, as they came, in one header of the message, from which
they are taken when it goes to a client of AMQP 1.0. Most messages of a publisher are alike in all but their bodies, so
what their sections become is remembered by their bytes, both ways; how much is remembered is bounded.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

from amqp_broker.broker.message import EXPIRATION_MS_MAX, Address, Digest, Message, digest_of_properties
from amqp_broker.protocols.amqp10 import sections
from amqp_broker.protocols.amqp10.compound import Array, Described, Map
from amqp_broker.protocols.amqp10.decoding import Malformed, decode, descriptor_code
from amqp_broker.protocols.amqp10.encoding import encode
from amqp_broker.protocols.amqp10.sections import Sections, encode_data, split_sections
from amqp_broker.protocols.amqp10.typed import Symbol, UByte, UInt, ULong, Uuid
from amqp_broker.protocols.amqp10.typed import Timestamp as Milliseconds
from amqp_broker.protocols.amqp10.values import from_field, to_field
from amqp_broker.wire.content import Properties, decode_properties, encode_content_header
from amqp_broker.wire.table import Table, plain_name

SECTIONS_HEADER: Final = "x-amqp-1.0-sections"
TYPE: Final = "amqp-1.0"  # of a message whose body is encoded in AMQP 1.0
MESSAGE_ID_HEADER: Final = "x-message-id"
CORRELATION_ID_HEADER: Final = "x-correlation-id"
DEATHS_HEADER: Final = "x-death"
OFFSET_ANNOTATION: Final = "x-stream-offset"
DELIVERY_COUNT_ANNOTATION: Final = "x-delivery-count"
FAILED_HEADER: Final = "x-amqp-1.0-delivery-count"  # of a message whose delivery has failed, as a client said
FAILED_MAX: Final = 0xFFFF_FFFF
INTERNAL_HEADERS: Final = frozenset(
    {SECTIONS_HEADER, FAILED_HEADER, DEATHS_HEADER, MESSAGE_ID_HEADER, CORRELATION_ID_HEADER}
)
INTERNAL_ANNOTATIONS: Final = INTERNAL_HEADERS | {"x-exchange", "x-routing-key", "x-opt-deaths"}
SHORT_STRING_BYTES_MAX: Final = 255
PERSISTENT: Final = 2
REMEMBERED_MAX: Final = 256
REMEMBERED_BYTES_MAX: Final = 4_096
SIZE_OFFSET: Final = 4  # of the body's size in a content header
FLAGS_OFFSET: Final = 12
TIMESTAMP_MAX: Final = 0x7FFF_FFFF_FFFF_FFFF
DIGITS_MAX: Final = 20  # of a number that somebody else has written
UUID_URN: Final = "urn:uuid:"
REPLY_QUEUES: Final = "/queues/"

# Where the fields of the properties section stand.
MESSAGE_ID, USER_ID, TO, SUBJECT, REPLY_TO, CORRELATION_ID, CONTENT_TYPE, CONTENT_ENCODING = range(8)
CREATION_TIME: Final = 9
GROUP_ID: Final = 10


class Content:
    """The content header that a published message gets, and what else is read from its sections.

    Args:
        header: the content header, of an empty body.
        digest: what the broker needs of it.
        to: the address that the message names.
        subject: that it names.
    """

    __slots__ = ("_before_size", "_behind_size", "digest", "header", "subject", "to")

    def __init__(self, header: bytes, digest: Digest, to: str | None, subject: str | None) -> None:
        self.header = header
        self._before_size = header[:SIZE_OFFSET]
        self._behind_size = header[FLAGS_OFFSET:]
        self.digest = digest
        self.to = to
        self.subject = subject

    def header_for(self, body: bytes) -> bytes:
        """The content header of a body."""
        return self._before_size + len(body).to_bytes(8, "big") + self._behind_size


class Outgoing:
    """The sections that messages with one content header and address get for a client of AMQP 1.0.

    Args:
        fields: durable, priority and ttl of the header section.
        is_first: whether nobody has had it before, as far as its headers say.
        failed_count: how often a client has said that it could not be delivered.
        annotations: of the message.
        bare: the sections between these and the body.
        is_data: whether the body goes into data sections; else it is sections.
        data_sizes: of each of these, where there is more than one.
        footer: the section behind them.
    """

    __slots__ = ("_again", "_annotations", "_bare", "_first", "data_sizes", "footer", "is_data", "prefix")

    def __init__(
        self,
        fields: list[Any],
        is_first: bool,
        failed_count: int,
        annotations: Map,
        bare: bytes,
        is_data: bool,
        data_sizes: list[int],
        footer: bytes,
    ) -> None:
        self._first = _header_section(fields, is_first, failed_count)
        self._again = _header_section(fields, False, failed_count)
        self._annotations = annotations
        self._bare = bare
        self.prefix = self._prefix(annotations)
        self.is_data = is_data
        self.data_sizes = data_sizes
        self.footer = footer

    def _prefix(self, annotations: Map) -> bytes:
        return encode(Described(ULong(sections.MESSAGE_ANNOTATIONS), annotations)) + self._bare

    def _with(self, name: str, number: int) -> bytes:
        """The sections before the body with one annotation more, which each message has of its own."""
        pairs = [pair for pair in self._annotations.pairs if pair[0] != name]
        return self._prefix(Map([*pairs, (Symbol(name), number)]))

    def encode(self, message: Message, *, has_offset: bool = False) -> bytes:
        """The whole message.

        Args:
            has_offset: whether its place is told, as that of an entry of a stream.
        """
        prefix = self._with(OFFSET_ANNOTATION, message.position) if has_offset else self.prefix
        if message.delivery_count:
            prefix = self._with(DELIVERY_COUNT_ANNOTATION, message.delivery_count)
        head = self._again if message.redelivered else self._first
        body = message.body
        if not self.is_data:
            return head + prefix + body
        if not self.data_sizes:
            return b"%b%b%b%b%b" % (head, prefix, encode_data(body), body, self.footer)
        parts = [head, prefix]
        start = 0
        for size in self.data_sizes:
            part = body[start : start + size]
            start += size
            parts += (encode_data(part), part)
        return b"".join([*parts, self.footer])


def _header_section(fields: list[Any], is_first: bool, delivery_count: int) -> bytes:
    return encode(Described(ULong(sections.HEADER), [*fields, is_first, UInt(delivery_count)]))


class Translations:
    """Remembers what one connection has translated lately."""

    def __init__(self) -> None:
        self._contents: dict[tuple[bytes, bytes, bytes, bytes, int], Content] = {}
        self._outgoing: dict[tuple[bytes, bytes], Outgoing] = {}

    def content(self, found: Sections) -> Content:
        """What a message that is published becomes.

        Raises:
            Malformed: a section makes no sense.
            AmqpError: it claims something that cannot be.
        """
        if found.footer or found.data_sizes:
            return content_of(found)
        key = (found.header, found.annotations, found.properties, found.application_properties, found.body_kind)
        known = self._contents.get(key)
        if known is None:
            known = content_of(found)
            if len(self._contents) >= REMEMBERED_MAX:
                self._contents.clear()
            if sum(map(len, key[:4])) <= REMEMBERED_BYTES_MAX:
                self._contents[key] = known
        return known

    def outgoing(self, message: Message) -> Outgoing:
        """What a message of a queue becomes."""
        key = (message.header[FLAGS_OFFSET:], message.address.encoded)
        known = self._outgoing.get(key)
        if known is None:
            known = outgoing_of(message.header, message.address)
            if len(self._outgoing) >= REMEMBERED_MAX:
                self._outgoing.clear()
            if len(key[0]) <= REMEMBERED_BYTES_MAX:
                self._outgoing[key] = known
        return known


# --- in


def content_of(found: Sections) -> Content:
    """What the sections of a message become; raises as ``Translations.content`` does."""
    fields = Properties()
    headers: Table = {}
    annotations = _map_of(found.annotations)
    _read_header(fields, found.header, annotations)
    named = _list_of(found.properties)
    _read_properties(fields, headers, named)
    for key, value in _map_of(found.application_properties).pairs:
        if type(key) is str and _is_short(key):
            headers[key] = to_field(value)
    _read_annotations(headers, annotations)
    if found.body_kind == sections.DATA:
        kind = annotations.get("x-basic-type")
        fields.type = kind if isinstance(kind, str) and _is_short(kind) else None
    else:
        fields.type = TYPE
    kept = _kept(found)
    if kept:
        headers[SECTIONS_HEADER] = kept
    fields.headers = headers or None
    header = encode_content_header(0, fields)
    to, subject = _field(named, TO), _field(named, SUBJECT)
    return Content(
        header,
        digest_of_properties(fields),
        to if isinstance(to, str) else None,
        subject if isinstance(subject, str) else None,
    )


def _kept(found: Sections) -> bytes:
    """The sections that are kept as they came; the sizes of several data sections stand behind them."""
    kept = found.annotations + found.properties + found.application_properties + found.footer
    return kept + encode([UInt(size) for size in found.data_sizes]) if found.data_sizes else kept


def _described(section: bytes) -> Any:
    """What a section describes; None where it is not there."""
    if not section:
        return None
    value, _ = decode(section, 0)
    return value.value


def _map_of(section: bytes) -> Map:
    value = _described(section)
    if value is None:
        return Map([])
    if not isinstance(value, Map):
        raise Malformed("a section that is a map is none")
    return value


def _list_of(section: bytes) -> list[Any]:
    value = _described(section)
    if value is None:
        return []
    if not isinstance(value, list):
        raise Malformed("a section that is a list is none")
    return value


def _field(items: list[Any], place: int) -> Any:
    return items[place] if place < len(items) else None


def _read_header(fields: Properties, section: bytes, annotations: Map) -> None:
    items = _list_of(section)
    durable, priority, ttl_ms = _field(items, 0), _field(items, 1), _field(items, 2)
    if durable is None:
        durable = annotations.get("x-basic-delivery-mode") != 1
    fields.delivery_mode = PERSISTENT if durable is True else None
    if priority is None:
        priority = annotations.get("x-basic-priority")
    if isinstance(priority, int) and 0 <= priority <= 255:
        fields.priority = int(priority)
    if isinstance(ttl_ms, int) and ttl_ms >= 0:
        fields.expiration = str(min(int(ttl_ms), EXPIRATION_MS_MAX))
    elif ttl_ms is None:
        expiration = annotations.get("x-basic-expiration")
        if isinstance(expiration, str) and expiration.isascii() and expiration.isdigit():
            fields.expiration = str(min(int(expiration[:DIGITS_MAX]), EXPIRATION_MS_MAX))


def _read_properties(fields: Properties, headers: Table, items: list[Any]) -> None:
    if not items:
        return
    fields.message_id = _read_id(headers, MESSAGE_ID_HEADER, _field(items, MESSAGE_ID))
    fields.correlation_id = _read_id(headers, CORRELATION_ID_HEADER, _field(items, CORRELATION_ID))
    user_id = _field(items, USER_ID)
    if isinstance(user_id, bytes) and len(user_id) <= SHORT_STRING_BYTES_MAX:
        fields.user_id = user_id.decode("utf-8", "surrogateescape")
    reply_to = _short(_field(items, REPLY_TO))
    if reply_to is not None and reply_to.startswith(REPLY_QUEUES):
        reply_to = _reply_queue(reply_to)
    fields.reply_to = reply_to
    fields.content_type = _short(_field(items, CONTENT_TYPE))
    fields.content_encoding = _short(_field(items, CONTENT_ENCODING))
    created_ms = _field(items, CREATION_TIME)
    if isinstance(created_ms, Milliseconds) and created_ms >= 0:
        fields.timestamp = int(created_ms) // 1000
    fields.app_id = _short(_field(items, GROUP_ID))


def _reply_queue(address: str) -> str:
    """The queue that an address of version 2 names, as clients of AMQP 0-9-1 reply to it."""
    from urllib.parse import unquote

    return unquote(address[len(REPLY_QUEUES) :])


def _short(value: Any) -> str | None:
    return "".join((value, "")) if isinstance(value, str) and _is_short(value) else None


def _is_short(text: str) -> bool:
    return len(text) <= SHORT_STRING_BYTES_MAX and len(text.encode()) <= SHORT_STRING_BYTES_MAX


def _read_id(headers: Table, name: str, value: Any) -> str | None:
    """A message id as text, or in a header where it is none."""
    if isinstance(value, Uuid):
        return f"{UUID_URN}{uuid.UUID(bytes=bytes(value))}"
    if isinstance(value, ULong):
        return str(int(value))
    if isinstance(value, str):
        if _is_short(value):
            return "".join((value, ""))
        headers[name] = "".join((value, ""))
    elif isinstance(value, bytes):
        headers[name] = bytes(value)
    return None


def _read_annotations(headers: Table, annotations: Map) -> None:
    for key, value in annotations.pairs:
        if not (isinstance(key, Symbol) and key.startswith("x-") and _is_short(key)):
            continue
        if key == "x-cc":
            copies = to_field(value)
            if isinstance(copies, list):
                headers["CC"] = copies
        elif key not in INTERNAL_ANNOTATIONS and not key.startswith("x-basic-"):
            headers["".join((key, ""))] = to_field(value)


# --- out


def outgoing_of(header: bytes, address: Address) -> Outgoing:
    """What a message with this content header and address becomes."""
    fields = decode_properties(header)
    headers: Table = fields.headers or {}
    kept = headers.get(SECTIONS_HEADER)
    ttl_ms = int(fields.expiration) if fields.expiration is not None and fields.expiration.isdigit() else None
    head = [
        fields.delivery_mode == PERSISTENT,
        None if fields.priority is None else UByte(fields.priority),
        None if ttl_ms is None else UInt(min(ttl_ms, 0xFFFFFFFF)),
    ]
    if isinstance(kept, bytes):
        found = _unkept(kept)
        annotations, bare = _map_of(found.annotations), found.properties + found.application_properties
        sizes, footer = found.data_sizes, found.footer
    else:
        annotations, bare, sizes, footer = _new_annotations(fields), _new_bare(fields), [], b""
    said = _with_ours(annotations, headers, address)
    failed = headers.get(FAILED_HEADER)
    failed_count = int(failed) if isinstance(failed, int) and 0 <= failed <= FAILED_MAX else 0
    is_first = not failed_count and DEATHS_HEADER not in headers
    is_data = fields.type != TYPE
    return Outgoing(head, is_first, failed_count, said, bare, is_data, sizes, footer)


def annotated(header: bytes, body_bytes: int, annotations: Map, *, has_failed: bool) -> bytes:
    """The content header of a message that a client gives back, having said something of it (the outcome modified).

    Args:
        header: what it had.
        annotations: that take the place of those of the same name, or come to them.
        has_failed: whether that counts as a delivery that has failed.
    """
    fields = decode_properties(header)
    headers: Table = dict(fields.headers or {})
    if has_failed:
        before = headers.get(FAILED_HEADER)
        headers[FAILED_HEADER] = min(int(before), FAILED_MAX - 1) + 1 if isinstance(before, int) else 1
    pairs = [pair for pair in annotations.pairs if isinstance(pair[0], Symbol) and pair[0].startswith("x-")]
    kept = headers.get(SECTIONS_HEADER)
    if isinstance(kept, bytes) and pairs:
        found = _unkept(kept)
        names = {name for name, _ in pairs}
        said = [
            (name, value)
            for name, value in _map_of(found.annotations).pairs
            if not isinstance(name, str) or name not in names
        ]
        found.annotations = encode(Described(ULong(sections.MESSAGE_ANNOTATIONS), Map(said + pairs)))
        headers[SECTIONS_HEADER] = _kept(found)
    _read_annotations(headers, Map(pairs))
    fields.headers = headers or None
    return encode_content_header(body_bytes, fields)


def _unkept(kept: bytes) -> Sections:
    """What was kept of the sections; nothing of it where it is not what it should be."""
    found = Sections()
    offset = 0
    try:
        while offset < len(kept):
            value, behind = decode(kept, offset)
            if isinstance(value, list):
                found.data_sizes = [int(size) for size in value if isinstance(size, int)]
                break
            code = descriptor_code(kept, offset)
            part = kept[offset:behind]
            if code == sections.MESSAGE_ANNOTATIONS:
                found.annotations = part
            elif code == sections.PROPERTIES:
                found.properties = part
            elif code == sections.APPLICATION_PROPERTIES:
                found.application_properties = part
            elif code == sections.FOOTER:
                found.footer = part
            offset = behind
        _map_of(found.annotations)
    except Malformed:  # a client of another protocol has made it up
        return Sections()
    return found


def _new_annotations(fields: Properties) -> Map:
    pairs: list[tuple[Any, Any]] = []
    for name, value in (fields.headers or {}).items():
        said = plain_name(name)
        if said.startswith("x-") and said not in INTERNAL_HEADERS and said.isascii():
            pairs.append((Symbol(said), from_field(value)))
        elif said == "CC" and isinstance(value, list):
            pairs.append((Symbol("x-cc"), from_field(value)))
    if fields.type is not None and fields.type != TYPE:
        pairs.append((Symbol("x-basic-type"), from_field(fields.type)))
    return Map(pairs)


def _new_bare(fields: Properties) -> bytes:
    """The sections of properties and application properties of a message that another protocol has brought."""
    headers: Table = fields.headers or {}
    items: list[Any] = [
        _new_id(fields.message_id, headers.get(MESSAGE_ID_HEADER)),
        None if fields.user_id is None else fields.user_id.encode("utf-8", "surrogateescape"),
        None,
        None,
        _text(fields.reply_to),
        _new_id(fields.correlation_id, headers.get(CORRELATION_ID_HEADER)),
        _symbol(fields.content_type),
        _symbol(fields.content_encoding),
        None,
        None if fields.timestamp is None else Milliseconds(min(fields.timestamp * 1000, TIMESTAMP_MAX)),
        _text(fields.app_id),
    ]
    while items and items[-1] is None:
        items.pop()
    encoded = encode(Described(ULong(sections.PROPERTIES), items)) if items else b""
    pairs: list[tuple[Any, Any]] = []
    for name, value in headers.items():
        said = plain_name(name)
        if not said.startswith("x-") and not isinstance(value, (list, dict)) and _text(said) is not None:
            pairs.append((said, from_field(value)))
    if pairs:
        encoded += encode(Described(ULong(sections.APPLICATION_PROPERTIES), Map(pairs)))
    return encoded


def _text(value: str | None) -> str | None:
    """A string; None for what is no text in UTF-8."""
    if value is None:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def _symbol(value: str | None) -> Symbol | None:
    return Symbol(value) if value is not None and value.isascii() else None


def _new_id(value: str | None, long_one: Any) -> Any:
    if value is None:
        return _text(long_one) if isinstance(long_one, str) else long_one if isinstance(long_one, bytes) else None
    if value.startswith(UUID_URN):
        try:
            return Uuid(uuid.UUID(value[len(UUID_URN) :]).bytes)
        except ValueError:
            pass
    return _text(value)


def _with_ours(annotations: Map, headers: Table, address: Address) -> Map:
    """The annotations with those that the broker makes: where the message was published to, and where it has died."""
    ours: dict[str, Any] = {
        "x-exchange": from_field(address.exchange),
        "x-routing-key": from_field(address.routing_key),
    }
    for name, value in headers.items():
        if name.startswith(("x-first-death-", "x-last-death-")) and name.isascii():
            ours[plain_name(name)] = from_field(value)
    deaths = headers.get(DEATHS_HEADER)
    if isinstance(deaths, list):
        maps = [_death(one) for one in deaths if isinstance(one, dict)]
        if maps:
            ours["x-opt-deaths"] = Array(b"\xd1", maps)
    pairs = [(key, value) for key, value in annotations.pairs if not (isinstance(key, Symbol) and key in ours)]
    return Map(pairs + [(Symbol(key), value) for key, value in ours.items()])


def _death(entry: Table) -> Map:
    """One entry of ``x-death``, which may be any client's own."""
    time_s, reason, count = entry.get("time"), entry.get("reason"), entry.get("count")
    when = Milliseconds(min(max(time_s, 0) * 1000, TIMESTAMP_MAX) if isinstance(time_s, int) else 0)
    keys = entry.get("routing-keys")
    texts = [_readable(key) for key in keys if isinstance(key, str)] if isinstance(keys, list) else []
    pairs: list[tuple[Any, Any]] = [
        (Symbol("queue"), from_field(entry.get("queue"))),
        (Symbol("reason"), _symbol(reason) if isinstance(reason, str) else None),
        (Symbol("count"), ULong(count if isinstance(count, int) and count >= 0 else 0)),
        (Symbol("first-time"), when),
        (Symbol("last-time"), when),
        (Symbol("exchange"), from_field(entry.get("exchange"))),
        (Symbol("routing-keys"), Array(b"\xb1", texts)),
    ]
    expiration = entry.get("original-expiration")
    if isinstance(expiration, str) and expiration.isascii() and expiration.isdigit() and len(expiration) <= DIGITS_MAX:
        pairs.append((Symbol("ttl"), UInt(min(int(expiration), 0xFFFFFFFF))))
    return Map(pairs)


def _readable(text: str) -> str:
    """A string for an array of those; what is no UTF-8 in it is replaced."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def split_message(payload: bytes) -> Sections:
    """Cut a message that has come into its sections; raises ``Malformed``."""
    return split_sections(payload)
