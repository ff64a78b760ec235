"""Every AMQP method as an object, except where speed forbids one (``hot.py``): the only module that imports pamqp.

pamqp's classes are the catalogue: their names, ids, and the order and types of their fields. Its codec is not used,
because it forgets the types in tables and refuses names outside an ASCII subset that RabbitMQ takes. Objects made here
skip pamqp's validation; what a name may be is decided by the broker.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any, ClassVar, NamedTuple, TypeVar, cast

from pamqp.base import Frame as Method
from pamqp.commands import Basic, Channel, Confirm, Connection, Exchange, Queue, Tx

from amqp_broker.errors import AmqpError, ReplyCode
from amqp_broker.wire.errors import UnknownMethod, WireError
from amqp_broker.wire.strings import (
    decode_longstr,
    decode_shortstr,
    decode_utf8_shortstr,
    encode_longstr,
    encode_shortstr,
)
from amqp_broker.wire.table import Table, decode_table, encode_table

__all__ = [
    "Access",
    "Basic",
    "Channel",
    "Confirm",
    "Connection",
    "Exchange",
    "Method",
    "Queue",
    "Tx",
    "arguments_of",
    "build",
    "class_and_method_id",
    "decode_method",
    "encode_method",
    "undecodable",
]

MethodT = TypeVar("MethodT", bound=Method)

_INDEX = struct.Struct(">I")


class Access:
    """The access class of AMQP 0-8, which pamqp does not have and old clients still use.

    RabbitMQ answers ``access.request`` with ticket 1 and asks nobody for a ticket.
    """

    class Request(Method):
        """Ask for an access ticket."""

        # In the order of the wire.
        __slots__: ClassVar[list[str]] = ["realm", "exclusive", "passive", "active", "write", "read"]  # noqa: RUF023
        frame_id: ClassVar[int] = 10
        index: ClassVar[int] = 0x001E000A
        name: ClassVar[str] = "Access.Request"
        synchronous: ClassVar[bool] = True
        valid_responses: ClassVar[list[str]] = ["Access.RequestOk"]

        realm: str
        exclusive: bool
        passive: bool
        active: bool
        write: bool
        read: bool

        _realm = "shortstr"
        _exclusive = "bit"
        _passive = "bit"
        _active = "bit"
        _write = "bit"
        _read = "bit"

    class RequestOk(Method):
        """Grant an access ticket."""

        __slots__: ClassVar[list[str]] = ["ticket"]
        frame_id: ClassVar[int] = 11
        index: ClassVar[int] = 0x001E000B
        name: ClassVar[str] = "Access.RequestOk"

        ticket: int

        _ticket = "short"


class _Codec(NamedTuple):
    """The codec of one AMQP type: how a field is read and written, and what it is when nobody gave it a value."""

    decode: Callable[[bytes, int], tuple[Any, int]]
    encode: Callable[[Any], bytes]
    make_default: Callable[[], Any]


def _integer_codec(layout: str) -> _Codec:
    packer = struct.Struct(layout)

    def decode(data: bytes, offset: int) -> tuple[int, int]:
        value: int = packer.unpack_from(data, offset)[0]
        return value, offset + packer.size

    return _Codec(decode, packer.pack, int)


_CODECS = {
    "octet": _integer_codec(">B"),
    "short": _integer_codec(">H"),
    "long": _integer_codec(">I"),
    "longlong": _integer_codec(">Q"),
    "shortstr": _Codec(decode_shortstr, encode_shortstr, str),
    "longstr": _Codec(decode_longstr, encode_longstr, str),
    "table": _Codec(decode_table, encode_table, dict),
}
_UTF8_SHORTSTR = _Codec(decode_utf8_shortstr, encode_shortstr, str)

# RabbitMQ looks at the UTF-8 of no short string in these, because they go by once a message.
_WITH_CONTENT = (Basic.Publish, Basic.Return, Basic.Deliver, Basic.GetOk)


def _bits_codec(names: tuple[str, ...]) -> _Codec:
    """Bits that follow each other share an octet, the first in its lowest bit; no method has more than eight."""

    def decode(data: bytes, offset: int) -> tuple[tuple[bool, ...], int]:
        octet = data[offset]
        return tuple(octet >> position & 1 == 1 for position in range(len(names))), offset + 1

    def encode(values: tuple[bool, ...]) -> bytes:
        return bytes((sum(1 << position for position, value in enumerate(values) if value),))

    return _Codec(decode, encode, bool)


class _Step(NamedTuple):
    """A unit that is read or written in one go: a field, or the bits that share an octet."""

    names: tuple[str, ...]
    is_bits: bool
    codec: _Codec


def _field_codec(method_class: type[Method], name: str) -> _Codec:
    amqp_type = method_class.amqp_type(name)
    if amqp_type == "shortstr" and method_class not in _WITH_CONTENT:
        return _UTF8_SHORTSTR
    return _CODECS[amqp_type]


def _plan(method_class: type[Method]) -> tuple[_Step, ...]:
    def steps() -> Iterator[_Step]:
        for is_bits, group in groupby(method_class.__slots__, lambda name: method_class.amqp_type(name) == "bit"):
            names = tuple(group)
            if is_bits:
                yield _Step(names, True, _bits_codec(names))
            else:
                for name in names:
                    yield _Step((name,), False, _field_codec(method_class, name))

    return tuple(steps())


def _catalogue() -> dict[int, type[Method]]:
    return {
        member.index: member
        for amqp_class in (Connection, Channel, Access, Exchange, Queue, Basic, Confirm, Tx)
        for member in vars(amqp_class).values()
        if isinstance(member, type) and issubclass(member, Method)
    }


METHOD_CLASSES = _catalogue()

_plans: dict[int, tuple[_Step, ...]] = {}


def _plan_of(method_class: type[Method]) -> tuple[_Step, ...]:
    """The steps of a method class, worked out the first time they are asked for."""
    plan = _plans.get(method_class.index)
    if plan is None:
        plan = _plans[method_class.index] = _plan(method_class)
    return plan


def decode_method(payload: bytes) -> Method:
    """Make the method that a method frame carries.

    Args:
        payload: the frame's payload, from the class id on.

    Returns:
        An instance of one of pamqp's classes (or of ``Access``'s), not validated; tables keep their types.

    Raises:
        UnknownMethod: no method has these ids.
        WireError: a field is cut short or malformed, or bytes are left over.
        AmqpError: 501 for a short string that is not UTF-8, but in methods that carry content.
    """
    if len(payload) < _INDEX.size:
        raise WireError("a method frame is too short for its ids")
    index = _INDEX.unpack_from(payload)[0]
    method_class = METHOD_CLASSES.get(index)
    if method_class is None:
        raise UnknownMethod(index >> 16, index & 0xFFFF)
    method = method_class.__new__(method_class)
    offset = _INDEX.size
    try:
        for names, is_bits, codec in _plan_of(method_class):
            value, offset = codec.decode(payload, offset)
            if is_bits:
                for name, bit in zip(names, value, strict=True):
                    setattr(method, name, bit)
            else:
                setattr(method, names[0], value)
    except (struct.error, IndexError):
        raise WireError(f"{method_class.name} is cut short") from None
    if offset != len(payload):
        raise WireError(f"{len(payload) - offset} bytes are left over behind {method_class.name}")
    return method


def encode_method(method: Method) -> bytes:
    """The payload of a method frame: class id, method id, fields.

    Raises:
        WireError: a field has no value, or its value does not fit into its type.
    """
    parts = [_INDEX.pack(method.index)]
    for names, is_bits, codec in _plan_of(type(method)):
        try:
            if is_bits:
                parts.append(codec.encode(tuple(getattr(method, name) for name in names)))
            else:
                parts.append(codec.encode(getattr(method, names[0])))
        except (struct.error, AttributeError, TypeError):
            raise WireError(f"{method.name} cannot be encoded: {'/'.join(names)} has no fitting value") from None
    return b"".join(parts)


def build(method_class: type[MethodT], **fields: Any) -> MethodT:
    """Make a method to be sent, without pamqp's validation, so that names may be any text.

    Args:
        method_class: which method.
        fields: its fields by name; those not given are zero, empty or false.

    Raises:
        TypeError: the method has no such field.
    """
    method = method_class.__new__(method_class)
    for names, _, codec in _plan_of(method_class):
        for name in names:
            setattr(method, name, fields.pop(name) if name in fields else codec.make_default())
    if fields:
        raise TypeError(f"{method_class.name} has no field {', '.join(fields)}")
    return method


def arguments_of(method: Method) -> Table:
    """The table ``arguments`` of a decoded method, under its own type; pamqp declares it as one of pamqp's values.

    Raises:
        AttributeError: the method has no arguments.
    """
    return cast(Table, method.arguments)  # type: ignore[attr-defined]


def class_and_method_id(method: Method | type[Method]) -> tuple[int, int]:
    """The two ids by which ``channel.close`` and ``connection.close`` name the method that failed."""
    return method.index >> 16, method.index & 0xFFFF


def undecodable(payload: bytes) -> AmqpError:
    """The 501 of a method whose fields cannot be read.

    Args:
        payload: the method frame's payload; all its fields are quoted, and the text is cut at its limit.
    """
    fields = ",".join(str(byte) for byte in payload[_INDEX.size :])
    return AmqpError(ReplyCode.FRAME_ERROR, f"cannot decode <<{fields}>>", quotes_peer=True)


def method_name(ids: tuple[int, int]) -> str | None:
    """The name of the method with these class and method ids, as ``queue.declare``; None when there is none."""
    found = METHOD_CLASSES.get(ids[0] << 16 | ids[1])
    return re.sub("(?<=[a-z])(?=[A-Z])", "-", found.name).lower() if found is not None else None
