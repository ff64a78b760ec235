"""The performatives of connections, sessions and links, and of SASL (AMQP 1.0, parts 2, 3 and 5).

Those that come in are read as lists of fields, each asked for by its place and type; those that go out are made here.
"""

from __future__ import annotations

from itertools import product
from typing import Any, Final

from amqp_broker.protocols.amqp10.compound import Array, Described, Map
from amqp_broker.protocols.amqp10.decoding import decode, descriptor_number
from amqp_broker.protocols.amqp10.encoding import encode, encode_list, symbols
from amqp_broker.protocols.amqp10.errors import ProtocolError, decode_error
from amqp_broker.protocols.amqp10.typed import Symbol, UByte, UInt, ULong, UShort
from amqp_broker.protocols.amqp10.values import readable
from amqp_broker.wire.errors import WireError

OPEN: Final = 0x10
BEGIN: Final = 0x11
ATTACH: Final = 0x12
FLOW: Final = 0x13
TRANSFER: Final = 0x14
DISPOSITION: Final = 0x15
DETACH: Final = 0x16
END: Final = 0x17
CLOSE: Final = 0x18
ERROR: Final = 0x1D
RECEIVED: Final = 0x23
ACCEPTED: Final = 0x24
REJECTED: Final = 0x25
RELEASED: Final = 0x26
MODIFIED: Final = 0x27
SOURCE: Final = 0x28
TARGET: Final = 0x29
COORDINATOR: Final = 0x30
SASL_MECHANISMS: Final = 0x40
SASL_INIT: Final = 0x41
SASL_CHALLENGE: Final = 0x42
SASL_RESPONSE: Final = 0x43
SASL_OUTCOME: Final = 0x44

NAMES: Final = {
    OPEN: "open", BEGIN: "begin", ATTACH: "attach", FLOW: "flow", TRANSFER: "transfer", DISPOSITION: "disposition",
    DETACH: "detach", END: "end", CLOSE: "close",
}  # fmt: skip

SENDER: Final = False  # roles
RECEIVER: Final = True
SETTLED: Final = 1  # snd-settle-mode
SECOND: Final = 1  # rcv-settle-mode
UINT_MAX: Final = 0xFFFF_FFFF
ULONG_MAX: Final = 0xFFFF_FFFF_FFFF_FFFF

# How a transfer and a disposition begin; the list behind it has a byte of size, and one of count.
PLAIN_DISPOSITION: Final = b"\0\x53\x15\xc0"
PLAIN_TRANSFER: Final = b"\0\x53\x14\xc0"
# What may stand behind the tag of a transfer that is all of an unsettled delivery, and how many fields that is: format
# 0 or none, and false or nothing for settled and more.
_USUAL_FIELDS: Final = ((b"\x43", b"\x40", b"\x52\0"), (b"\x42", b"\x40"), (b"\x42", b"\x40"))
_UNSETTLED_AND_WHOLE: Final = {
    b"".join(fields): count for count in range(4) for fields in product(*_USUAL_FIELDS[:count])
}
_WHOLE_BYTES_MIN: Final = 16  # then each byte that is looked at is there
_SETTLED_ACCEPTED: Final = b"\x41\0\x53\x24\x45"
_PLAIN_FIELDS_OFFSET: Final = 6
_EMPTY: Final[dict[int, Any]] = {0x40: None, 0x41: True, 0x42: False, 0x43: 0}
ACCEPTED_STATE: Final = Described(ULong(ACCEPTED), [])


class Fields:
    """The fields of one described list.

    Args:
        code: what describes it.
        items: its fields; those at the end may be left out.
    """

    __slots__ = ("code", "items")

    def __init__(self, code: int, items: list[Any]) -> None:
        self.code = code
        self.items = items

    def value(self, place: int) -> Any:
        """A field; None where it is not there."""
        return self.items[place] if place < len(self.items) else None

    def number(self, place: int, largest: int = UINT_MAX) -> int | None:
        """A field that takes a number; None where it is not there.

        Args:
            place: which.
            largest: that its type takes: what is answered has the number again.

        Raises:
            ProtocolError: it is something else, as for all of these.
        """
        value = self.value(place)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= largest:
            return int(value)
        raise self._wrong(place)

    def needed(self, place: int) -> int:
        """A number that must be there."""
        value = self.number(place)
        if value is None:
            raise self._wrong(place)
        return value

    def text(self, place: int) -> str | None:
        """A string or a symbol."""
        value = self.value(place)
        if value is None or isinstance(value, str):
            return value
        raise self._wrong(place)

    def binary(self, place: int) -> bytes | None:
        """Bytes."""
        value = self.value(place)
        if value is None or isinstance(value, bytes):
            return value
        raise self._wrong(place)

    def flag(self, place: int, default: bool = False) -> bool:
        """A boolean."""
        value = self.value(place)
        if value is None:
            return default
        if isinstance(value, bool):
            return value
        raise self._wrong(place)

    def map(self, place: int) -> Map:
        """A map; an empty one where it is not there."""
        value = self.value(place)
        if value is None:
            return Map([])
        if isinstance(value, Map):
            return value
        raise self._wrong(place)

    def composite(self, place: int) -> Fields | None:
        """A described list."""
        value = self.value(place)
        if value is None:
            return None
        if isinstance(value, Described):
            return fields_of(value)
        raise self._wrong(place)

    def _wrong(self, place: int) -> ProtocolError:
        name = NAMES.get(self.code, f"{self.code:#04x}")
        return decode_error(f"field {place} of {name} is missing, or of another type")


def fields_of(described: Described) -> Fields:
    """The fields of a described list.

    Raises:
        ProtocolError: it is none.
    """
    if not isinstance(described.value, list):
        raise decode_error("a described list is none")
    try:
        return Fields(descriptor_number(described.descriptor), described.value)
    except WireError as error:
        raise decode_error(str(error)) from None


def read_performative(body: bytes) -> tuple[Fields, int]:
    """The performative of a frame, and the offset behind it, where a transfer has its payload.

    Raises:
        ProtocolError: there is none.
    """
    if body.startswith(PLAIN_TRANSFER):
        found = _plain_transfer(body)
        if found is not None:
            return found
    try:
        value, offset = decode(body, 0)
    except WireError as error:
        raise decode_error(str(error)) from None
    if not isinstance(value, Described):
        raise decode_error("a frame begins with no performative")
    return fields_of(value), offset


def _plain_transfer(body: bytes) -> tuple[Fields, int] | None:
    """A transfer as all clients write them: small numbers, bytes and booleans. None for one that has something else.

    There is one for each message, and what reads any value takes four times as long.
    """
    size = len(body)
    if size < _PLAIN_FIELDS_OFFSET:
        return None
    end = _PLAIN_FIELDS_OFFSET - 1 + body[_PLAIN_FIELDS_OFFSET - 2]
    count = body[_PLAIN_FIELDS_OFFSET - 1]
    offset = _PLAIN_FIELDS_OFFSET
    items: list[Any] = []
    while offset < end <= size and len(items) < count:
        code = body[offset]
        offset += 1
        if code in _EMPTY:
            items.append(_EMPTY[code])
        elif offset >= end:
            return None
        elif code == 0x52:  # a number of one byte
            items.append(body[offset])
            offset += 1
        elif code == 0x70:  # of four
            items.append(int.from_bytes(body[offset : offset + 4], "big"))
            offset += 4
        elif code == 0xA0:  # bytes
            behind = offset + 1 + body[offset]
            items.append(body[offset + 1 : behind])
            offset = behind
        else:
            return None
    if offset != end or len(items) != count:
        return None
    return Fields(TRANSFER, items), end


def whole_transfer(body: bytes) -> tuple[int, int, int] | None:
    """The link's handle and the delivery's number of a transfer that is all of an unsettled delivery, and the offset of
    its payload. None for another one, and for one that is not written as most clients write it.

    Args:
        body: begins with ``PLAIN_TRANSFER``.
    """
    if len(body) < _WHOLE_BYTES_MIN:
        return None
    end = _PLAIN_FIELDS_OFFSET - 1 + body[4]
    left = body[5] - 3  # fields behind the tag
    kind = body[6]
    if kind == 0x43:
        handle, offset = 0, 7
    elif kind == 0x52:
        handle, offset = body[7], 8
    else:
        return None
    kind = body[offset]
    if kind == 0x70:
        number = int.from_bytes(body[offset + 1 : offset + 5], "big")
        offset += 5
    elif kind == 0x52:
        number = body[offset + 1]
        offset += 2
    elif kind == 0x43:
        number = 0
        offset += 1
    else:
        return None
    if body[offset] != 0xA0:
        return None
    offset += 2 + body[offset + 1]
    if not offset <= end <= len(body) or _UNSETTLED_AND_WHOLE.get(body[offset:end]) != left:
        return None
    return handle, number, end


def accepted_delivery(body: bytes) -> int:
    """The number of the one delivery that a disposition says the client has accepted and settled; -1 for one that is
    not written as all clients write that, or says something else.

    Args:
        body: begins with ``PLAIN_DISPOSITION``.
    """
    size = len(body)
    if size < _PLAIN_FIELDS_OFFSET + 8 or not body.endswith(_SETTLED_ACCEPTED) or body[4] != size - 5:
        return -1
    if body[5] != 5 or body[6] != 0x41:  # five fields, of which the first is the role of a receiver
        return -1
    kind = body[7]
    if kind == 0x70:
        number, offset = int.from_bytes(body[8:12], "big"), 12
    elif kind == 0x52:
        number, offset = body[8], 9
    else:
        return -1
    last = body[offset:-5]
    return number if last in (b"\x40", body[7:offset]) else -1


def performative(code: int, fields: list[Any]) -> bytes:
    """The bytes of a performative; fields at the end that are None are left out."""
    while fields and fields[-1] is None:
        fields.pop()
    return bytes((0, 0x53, code)) + encode_list([encode(field) for field in fields])


def composite(code: int, fields: list[Any]) -> Described:
    """A described list within a performative."""
    return Described(ULong(code), fields)


def error_value(condition: str, description: str) -> Described:
    """An error, as close, end, detach and rejected have it."""
    return composite(ERROR, [Symbol(condition), readable(description)])


def _error_of(error: ProtocolError | None) -> Described | None:
    return None if error is None else error_value(error.condition, error.description)


# --- SASL


def sasl_mechanisms(names: tuple[str, ...]) -> bytes:
    """Which mechanisms there are."""
    return performative(SASL_MECHANISMS, [symbols(*names)])


def sasl_outcome(code: int) -> bytes:
    """How it went: 0 well, 1 the login was refused, 2 to 4 something failed."""
    return performative(SASL_OUTCOME, [UByte(code)])


# --- connections


def open_performative(
    container: str, frame_bytes_max: int, channel_max: int, idle_ms: int, capabilities: Array, properties: Map
) -> bytes:
    """Our ``open``."""
    fields = [container, None, UInt(frame_bytes_max), UShort(channel_max), UInt(idle_ms) if idle_ms else None]
    return performative(OPEN, [*fields, None, None, capabilities, None, properties])


def close_performative(error: ProtocolError | None) -> bytes:
    """``close``."""
    return performative(CLOSE, [_error_of(error)])


# --- sessions


def begin_performative(remote_channel: int, next_outgoing_id: int, window: int, handle_max: int) -> bytes:
    """Our answer to ``begin``."""
    fields = [UShort(remote_channel), UInt(next_outgoing_id), UInt(window), UInt(0xFFFFFFFF), UInt(handle_max)]
    return performative(BEGIN, fields)


def end_performative(error: ProtocolError | None) -> bytes:
    """``end``."""
    return performative(END, [_error_of(error)])


def detach_performative(handle: int, *, closed: bool, error: ProtocolError | None) -> bytes:
    """``detach``."""
    return performative(DETACH, [UInt(handle), closed or None, _error_of(error)])


def disposition_performative(role: bool, first: int, last: int, state: Described | None) -> bytes:
    """A ``disposition`` that settles."""
    return performative(DISPOSITION, [role, UInt(first), UInt(last) if last != first else None, True, state])


def transfer_performative(handle: int, delivery_id: int, *, settled: bool, more: bool) -> bytes:
    """The first ``transfer`` of a delivery, whose tag are the bytes of its number.

    There is one for each message, and what encodes any value takes five times as long.
    """
    number = delivery_id.to_bytes(4, "big")
    link = bytes((0x52, handle))
    is_settled = 0x41 if settled else 0x42
    has_more = 0x41 if more else 0x42
    return b"\0\x53\x14\xc0\x11\6%b\x70%b\xa0\4%b\x43%c%c" % (link, number, number, is_settled, has_more)


def further_transfer_performative(handle: int, *, settled: bool, more: bool) -> bytes:
    """A ``transfer`` that goes on with the delivery of the one before."""
    return performative(TRANSFER, [UInt(handle), None, None, None, settled, more])
