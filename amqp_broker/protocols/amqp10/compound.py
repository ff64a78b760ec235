"""AMQP 1.0's types as Python's (AMQP 1.0, part 1), and those values that hold others: maps, arrays, described ones.

What was decoded is encoded to the same meaning again: an integer remembers its width, a symbol is told from a string.
Holds no performatives and no sections; those are described lists and maps. ``decoding.py`` reads their bytes,
``encoding.py`` writes them.

| type | value |
|---|---|
| null, boolean, string, binary | None, bool, str, bytes |
| long, double | int, float |
| the other numbers, timestamp, char, symbol | a class of their own in ``typed.py`` |
| uuid, decimals | ``Uuid``, ``Decimal``: their bytes |
| list, map, array | list, ``Map``, ``Array`` |
| described | ``Described`` |
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

Value: TypeAlias = Any  # of the types above

DESCRIBED: Final = 0x00
# How many bytes a value of a fixed width has, by the upper half of its constructor.
WIDTHS: Final = {0x4: 0, 0x5: 1, 0x6: 2, 0x7: 4, 0x8: 8, 0x9: 16}


class Map:
    """A map: pairs in their order, for a key may be of any type.

    Args:
        pairs: keys and values.
    """

    __slots__ = ("pairs",)

    def __init__(self, pairs: list[tuple[Any, Any]]) -> None:
        self.pairs = pairs

    def get(self, key: str) -> Any:
        """The value of a string or a symbol; None where there is none."""
        for one, value in self.pairs:
            if isinstance(one, str) and one == key:
                return value
        return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Map) and other.pairs == self.pairs

    def __hash__(self) -> int:
        return len(self.pairs)

    def __repr__(self) -> str:
        return f"Map({self.pairs!r})"


class Array:
    """An array: items of one type.

    Args:
        constructor: the bytes that say which, with a descriptor if there is one.
        items: they.
    """

    __slots__ = ("constructor", "items")

    def __init__(self, constructor: bytes, items: list[Any]) -> None:
        self.constructor = constructor
        self.items = items

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Array) and other.items == self.items

    def __hash__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        return f"Array({self.items!r})"


class Described:
    """A value with a descriptor.

    Args:
        descriptor: most often a number (``ULong``) or a ``Symbol``.
        value: what is described.
    """

    __slots__ = ("descriptor", "value")

    def __init__(self, descriptor: Any, value: Any) -> None:
        self.descriptor = descriptor
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Described) and (other.descriptor, other.value) == (self.descriptor, self.value)

    def __hash__(self) -> int:
        return 1

    def __repr__(self) -> str:
        return f"Described({self.descriptor!r}, {self.value!r})"
