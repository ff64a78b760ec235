"""The types of AMQP 1.0 that Python has not: numbers that know their width, symbols, and the like.

A file of its own because they derive from what a compiled class cannot derive from.
"""

from __future__ import annotations


def plain(value: int) -> int:
    """The same number without a type of these. Compiled code takes an `int` of a large number for the number itself."""
    return int(value)


class Flag(int):
    """A boolean that is written in two bytes, as some clients want it; read, it is a bool."""


class UByte(int):
    """An unsigned number of 8 bits."""


class UShort(int):
    """An unsigned number of 16 bits."""


class UInt(int):
    """An unsigned number of 32 bits."""


class ULong(int):
    """An unsigned number of 64 bits."""


class Byte(int):
    """A signed number of 8 bits."""


class Short(int):
    """A signed number of 16 bits."""


class Int(int):
    """A signed number of 32 bits."""


class Timestamp(int):
    """Milliseconds since 1970 in UTC."""


class Float(float):
    """A floating point number of 32 bits."""


class Char(str):
    """One character."""


class Symbol(str):
    """A name from a constrained domain, in ASCII."""


class Uuid(bytes):
    """The 16 bytes of a UUID."""


class Decimal(bytes):
    """The 4, 8 or 16 bytes of a decimal number."""
