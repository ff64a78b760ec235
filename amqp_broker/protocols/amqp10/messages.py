"""Messages of AMQP 1.0 as they are in the queues, and those of the queues in AMQP 1.0 (docs/amqp10.md has a table).

In the queues header and body travel in the encoding of AMQP 0-9-1, as those of all protocols do. What that cannot say
(types, subject, footer ...) is kept beside it: the sections, as they came, in one header of the message, from which
they are taken when it goes to a client of AMQP 1.0, but for what somebody has changed meanwhile (``changes.py``). Most
messages of a publisher are alike in all but their bodies, so what their sections become is remembered by their bytes,
both ways; how much is remembered is bounded.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from amqp_broker.broker.message import Address, Message
from amqp_broker.protocols.amqp10 import sections
from amqp_broker.protocols.amqp10.changes import (
    OF_DEATHS,
    TIMESTAMP_MAX,
    changed,
    new_annotations,
    new_bare,
    symbol_or_none,
)
from amqp_broker.protocols.amqp10.compound import Array, Described, Map
from amqp_broker.protocols.amqp10.contents import (
    DEATHS_HEADER,
    DIGITS_MAX,
    FAILED_HEADER,
    FLAGS_OFFSET,
    PERSISTENT,
    REMEMBERED_BYTES_MAX,
    REMEMBERED_HEADER_BYTES_MAX,
    SECTIONS_ENTRY,
    SECTIONS_HEADER,
    SIZE_OFFSET,
    TYPE,
    Alike,
    Content,
    content_of,
    kept_of,
    list_of,
    map_of,
    read_annotations,
)
from amqp_broker.protocols.amqp10.decoding import Malformed, decode, descriptor_code
from amqp_broker.protocols.amqp10.encoding import encode
from amqp_broker.protocols.amqp10.likeness import Common, Cut, cut_header, own_of
from amqp_broker.protocols.amqp10.sections import BODY_SECTIONS_MAX, Sections, encode_data
from amqp_broker.protocols.amqp10.typed import Symbol, UByte, UInt, ULong
from amqp_broker.protocols.amqp10.typed import Timestamp as Milliseconds
from amqp_broker.protocols.amqp10.values import from_field, readable
from amqp_broker.wire.content import decode_properties, encode_content_header
from amqp_broker.wire.table import Table, encode_table, plain_name

OFFSET_ANNOTATION: Final = "x-stream-offset"
DELIVERY_COUNT_ANNOTATION: Final = "x-delivery-count"
FAILED_MAX: Final = 0xFFFF_FFFF
REMEMBERED_MAX: Final = 256

# The header section, annotations, and properties without what a message has of its own; of which kind its body is.
Key: TypeAlias = tuple[bytes, bytes, bytes, int]


class Outgoing:
    """The sections that messages with one content header and address get for a client of AMQP 1.0.

    Args:
        first: the header section of one that nobody has had before.
        again: of one that somebody had.
        annotations: of the message.
        said: their section.
        bare: the sections between these and the body.
        is_data: whether the body goes into data sections; else it is sections.
        data_sizes: of each of these, where there is more than one.
        footer: the section behind them.
    """

    __slots__ = (
        "_again",
        "_annotations",
        "_data_bytes",
        "_first",
        "_said",
        "bare",
        "data_sizes",
        "footer",
        "is_data",
        "prefix",
    )

    def __init__(
        self,
        first: bytes,
        again: bytes,
        annotations: Map,
        said: bytes,
        bare: bytes,
        is_data: bool,
        data_sizes: list[int],
        footer: bytes,
    ) -> None:
        self._first = first
        self._again = again
        self._annotations = annotations
        self._said = said
        self.bare = bare
        self.prefix = said + bare
        self.is_data = is_data
        self.data_sizes = data_sizes
        self._data_bytes = sum(data_sizes) if data_sizes else -1
        self.footer = footer

    def alike(self, bare: bytes) -> Outgoing:
        """What another message gets that differs in these sections only."""
        first, again, annotations, said = self._first, self._again, self._annotations, self._said
        return Outgoing(first, again, annotations, said, bare, self.is_data, self.data_sizes, self.footer)

    def _with(self, name: str, number: int) -> bytes:
        """The sections before the body with one annotation more, which each message has of its own."""
        pairs = [pair for pair in self._annotations.pairs if pair[0] != name]
        return _annotations_section(Map([*pairs, (Symbol(name), number)])) + self.bare

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
        if self._data_bytes != len(body):  # it is one section, or somebody has put another body behind their sizes
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


def _annotations_section(annotations: Map) -> bytes:
    return encode(Described(ULong(sections.MESSAGE_ANNOTATIONS), annotations))


class Like:
    """A message of a queue with fields of its own, by which the next one is known.

    Args:
        header: its content header.
        address: it was published to.
        cut: its header without them.
        outgoing: what those that are alike become.
    """

    __slots__ = ("_address", "_common", "cut", "outgoing")

    def __init__(self, header: bytes, address: Address, cut: Cut, outgoing: Outgoing) -> None:
        self._common = Common(header, [(SIZE_OFFSET, FLAGS_OFFSET), *cut.gaps])
        self._address = address.encoded
        self.cut = cut
        self.outgoing = outgoing

    def has_like(self, header: bytes, address: Address) -> bool:
        """Whether a message is like it, and has its own fields at the same places."""
        common = self._common
        is_like = len(header) == common.size and common.is_in(header, 0) and address.encoded == self._address
        return is_like and self.cut.is_own_twice(header)


class Translations:
    """Remembers what one connection has translated lately."""

    def __init__(self) -> None:
        self._bare: dict[tuple[bytes, int], Content] = {}
        self._alike: dict[Key, Alike | None] = {}  # None: there was one such message
        self._outgoing: dict[tuple[bytes, ...], Outgoing] = {}
        self._like: Like | None = None  # the last that went out with fields of its own

    def content(self, found: Sections) -> Content:
        """What a message that is published becomes.

        Raises:
            Malformed: a section makes no sense.
            AmqpError: it claims something that cannot be.
        """
        if found.footer or found.data_sizes or len(found.application_properties) > REMEMBERED_BYTES_MAX:
            return content_of(found)
        if not (found.annotations or found.properties or found.application_properties):
            return self._content_bare(found)
        own = own_of(found.properties)
        shape = found.properties if own is None else own.shape
        key = (found.header, found.annotations, shape, found.body_kind)
        alike = self._alike.get(key)
        if alike is not None:
            return alike.content(found, own)
        content = content_of(found)
        is_small = len(content.header) <= REMEMBERED_HEADER_BYTES_MAX
        if is_small and sum(map(len, key[:3])) <= REMEMBERED_BYTES_MAX:
            is_second = key in self._alike  # of most of those that differ in more there never is one
            if len(self._alike) >= REMEMBERED_MAX:
                self._alike.clear()
            self._alike[key] = Alike(found) if is_second else None
        return content

    def _content_bare(self, found: Sections) -> Content:
        """The same of one that has nothing but a header section and a body."""
        key = (found.header, found.body_kind)
        known = self._bare.get(key)
        if known is None:
            known = content_of(found)
            if len(self._bare) >= REMEMBERED_MAX:
                self._bare.clear()
            if len(found.header) <= REMEMBERED_BYTES_MAX:
                self._bare[key] = known
        return known

    def outgoing(self, message: Message) -> Outgoing:
        """What a message of a queue becomes."""
        header, address = message.header, message.address
        like = self._like
        if like is not None and like.has_like(header, address):
            return like.outgoing.alike(like.cut.bare(header))
        key: tuple[bytes, ...] = (header[FLAGS_OFFSET:], address.encoded)
        known = self._outgoing.get(key)
        if known is not None:
            return known
        cut = cut_header(header, SECTIONS_ENTRY)
        if cut is not None:
            known = self._outgoing.get((*cut.shape, address.encoded))
            if known is not None:
                known = known.alike(cut.bare(header))
                if cut.gaps:
                    self._like = Like(header, address, cut, known)
                else:  # what has nothing of its own is often sent again
                    self._remember(key, known, header)
                return known
        known = outgoing_of(header, address)
        if cut is not None and _is_unchanged(cut, header, known):
            key = (*cut.shape, address.encoded)
        self._remember(key, known, header)
        return known

    def _remember(self, key: tuple[bytes, ...], outgoing: Outgoing, header: bytes) -> None:
        if len(self._outgoing) >= REMEMBERED_MAX:
            self._outgoing.clear()
        if len(header) <= REMEMBERED_BYTES_MAX:
            self._outgoing[key] = outgoing


# --- out


def _is_unchanged(cut: Cut, header: bytes, outgoing: Outgoing) -> bool:
    """Whether no client of AMQP 0-9-1 has changed a message, nor any that has the same left when it is cut."""
    if cut.bare(header) != outgoing.bare:
        return False
    others = cut.headers_of_annotations
    if others is None:
        return True
    try:
        annotations = map_of(cut.annotations)
    except Malformed:  # a client of another protocol has made it up
        return False
    headers: Table = {}
    read_annotations(headers, annotations)
    return encode_table(headers)[4:] == others


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
        annotations, bare = changed(found, fields)
        sizes, footer = found.data_sizes, found.footer
    else:
        annotations, bare, sizes, footer = new_annotations(fields), new_bare(fields), [], b""
    said = _with_ours(annotations, headers, address)
    failed = headers.get(FAILED_HEADER)
    failed_count = int(failed) if isinstance(failed, int) and 0 <= failed <= FAILED_MAX else 0
    is_first = not failed_count and DEATHS_HEADER not in headers
    first = _header_section(head, is_first, failed_count)
    again = _header_section(head, False, failed_count)
    is_data = fields.type != TYPE
    return Outgoing(first, again, said, _annotations_section(said), bare, is_data, sizes, footer)


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
            for name, value in map_of(found.annotations).pairs
            if not isinstance(name, str) or name not in names
        ]
        found.annotations = encode(Described(ULong(sections.MESSAGE_ANNOTATIONS), Map(said + pairs)))
        headers[SECTIONS_HEADER] = kept_of(found)
    read_annotations(headers, Map(pairs))
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
                found.data_sizes = [int(size) for size in value[:BODY_SECTIONS_MAX] if type(size) is UInt]
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
        map_of(found.annotations)
        list_of(found.properties)
        map_of(found.application_properties)
    except Malformed:  # a client of another protocol has made it up
        return Sections()
    return found


def _with_ours(annotations: Map, headers: Table, address: Address) -> Map:
    """The annotations with those that the broker makes: where the message was published to, and where it has died."""
    ours: dict[str, Any] = {
        "x-exchange": from_field(address.exchange),
        "x-routing-key": from_field(address.routing_key),
    }
    for name, value in headers.items():
        if name.startswith(OF_DEATHS) and name.isascii():
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
    texts = [readable(key) for key in keys if isinstance(key, str)] if isinstance(keys, list) else []
    pairs: list[tuple[Any, Any]] = [
        (Symbol("queue"), from_field(entry.get("queue"))),
        (Symbol("reason"), symbol_or_none(reason) if isinstance(reason, str) else None),
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
