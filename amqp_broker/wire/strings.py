"""AMQP's two kinds of string: a short one with one length byte, a long one with four (AMQP 0-9-1 section 4.2.5.3).

Both are ``str`` here, by UTF-8 with surrogateescape, so that any bytes come out as they went in.
"""

from __future__ import annotations

import struct

from amqp_broker.errors import NO_METHOD, AmqpError, ReplyCode
from amqp_broker.wire.errors import WireError

SHORTSTR_BYTES_MAX = 255

_LENGTH = struct.Struct(">I")


def decode_shortstr(data: bytes, offset: int) -> tuple[str, int]:
    """Read a short string.

    Args:
        data: the bytes it stands in.
        offset: where its length byte is.

    Returns:
        The string, and the offset behind it.

    Raises:
        WireError: the data ends before the string does.
    """
    start = offset + 1
    if start > len(data):
        raise WireError("the data ends before a short string")
    end = start + data[offset]
    if end > len(data):
        raise WireError("the data ends within a short string")
    return data[start:end].decode("utf-8", "surrogateescape"), end


def decode_utf8_shortstr(data: bytes, offset: int) -> tuple[str, int]:
    """Read a short string that has to be UTF-8, as RabbitMQ wants it in all methods but those that carry content.

    Raises:
        WireError: the data ends before the string does.
        AmqpError: 501, it is not UTF-8.
    """
    text, end = decode_shortstr(data, offset)
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise AmqpError(ReplyCode.FRAME_ERROR, "Malformed UTF-8 in shortstr", blamed=NO_METHOD) from None
    return text, end


def encode_shortstr(text: str) -> bytes:
    """Write a short string with its length byte.

    Raises:
        WireError: it is longer than 255 bytes.
    """
    encoded = encode_text(text)
    if len(encoded) > SHORTSTR_BYTES_MAX:
        raise WireError(f"{len(encoded)} bytes do not fit into a short string")
    return bytes((len(encoded),)) + encoded


def decode_longstr(data: bytes, offset: int) -> tuple[str, int]:
    """Read a long string.

    Args:
        data: the bytes it stands in.
        offset: where its four length bytes begin.

    Returns:
        The string, and the offset behind it.

    Raises:
        WireError: the data ends before the string does.
    """
    start = offset + 4
    end = start + int.from_bytes(data[offset:start], "big")
    if end > len(data):
        raise WireError("the data ends within a long string")
    return data[start:end].decode("utf-8", "surrogateescape"), end


def encode_longstr(text: str) -> bytes:
    """Write a long string with its four length bytes."""
    encoded = encode_text(text)
    return _LENGTH.pack(len(encoded)) + encoded


def encode_text(text: str) -> bytes:
    """The bytes of a string, without a length.

    Raises:
        WireError: the string holds a surrogate that surrogateescape did not make.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise WireError(f"a string has no encoding: {error.reason}") from None
