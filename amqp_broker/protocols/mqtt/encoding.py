"""The types of MQTT's fields: integers, strings, binary data (MQTT 5.0, 1.5).

A ``Reader`` walks over the body of one packet and never past its end. Holds no packets.
"""

from __future__ import annotations

from typing import Final

from amqp_broker.protocols.mqtt.reasons import malformed

VARIABLE_INTEGER_MAX: Final = 268_435_455
VARIABLE_INTEGER_BYTES_MAX: Final = 4
STRING_BYTES_MAX: Final = 65_535


class Reader:
    """Reads the fields of a packet's body, one after the other.

    Args:
        data: the body.
        offset: where to begin.
    """

    __slots__ = ("_data", "offset")

    def __init__(self, data: bytes, offset: int = 0) -> None:
        self._data = data
        self.offset = offset

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self.offset

    def byte(self) -> int:
        """One byte.

        Raises:
            MqttError: 0x81, the packet ends before it; so do all the others.
        """
        return self.raw(1)[0]

    def two_bytes(self) -> int:
        """An integer of two bytes."""
        return int.from_bytes(self.raw(2), "big")

    def four_bytes(self) -> int:
        """An integer of four bytes."""
        return int.from_bytes(self.raw(4), "big")

    def variable_integer(self) -> int:
        """A variable byte integer; one that is longer than it need be is malformed (MQTT 5.0, 1.5.5)."""
        value = shift = 0
        for _ in range(VARIABLE_INTEGER_BYTES_MAX):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                if byte == 0 and shift > 7:
                    raise malformed("a variable byte integer is longer than it need be")
                return value
        raise malformed("a variable byte integer has more than four bytes")

    def binary(self) -> bytes:
        """Binary data: its length in two bytes, and the bytes."""
        return self.raw(self.two_bytes())

    def string(self) -> str:
        """A UTF-8 string; neither surrogates nor U+0000 may be in it (MQTT 5.0, 1.5.4)."""
        return decode_string(self.binary())

    def raw(self, size: int) -> bytes:
        """So many bytes."""
        end = self.offset + size
        if end > len(self._data):
            raise malformed("the packet ends in the middle of a field")
        part = self._data[self.offset : end]
        self.offset = end
        return part

    def rest(self) -> bytes:
        """All that is left."""
        return self.raw(self.left)

    def end(self) -> None:
        """There must be nothing left."""
        if self.left:
            raise malformed(f"{self.left} bytes too many")


def decode_string(data: bytes) -> str:
    """The text of a string's bytes.

    Raises:
        MqttError: 0x81, it is none.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise malformed("a string is no UTF-8") from error
    if "\0" in text:
        raise malformed("a string holds U+0000")
    return text


def is_string(text: str) -> bool:
    """Whether a text of another protocol can be a string of MQTT: it may be no UTF-8, and longer."""
    try:
        return len(text.encode("utf-8")) <= STRING_BYTES_MAX and "\0" not in text
    except UnicodeEncodeError:
        return False


def encode_variable_integer(value: int) -> bytes:
    """A variable byte integer (MQTT 5.0, 1.5.5)."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode_binary(data: bytes) -> bytes:
    """Binary data; it must not be longer than ``STRING_BYTES_MAX``."""
    return len(data).to_bytes(2, "big") + data


def encode_string(text: str) -> bytes:
    """A UTF-8 string; encoded it must not be longer than ``STRING_BYTES_MAX``."""
    return encode_binary(text.encode("utf-8"))
