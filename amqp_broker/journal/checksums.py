"""The CRC-32 of bytes that follow each other, from the CRCs of each: a large part is gone through once, not once for
its record and again for its block.

A CRC is the remainder of a polynomial with coefficients modulo 2. Bytes that follow multiply it by a power of x, and
the powers are remembered. This takes a microsecond or two, as long as going through some KiB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TypeAlias

try:
    from isal.isal_zlib import crc32 as crc32  # the extra "checksums": with the processor's own instructions
except ImportError:
    from zlib import crc32 as crc32

CHECKED_BYTES_MIN = 65_536
"""What is smaller is gone through twice as fast as this is done."""

_POLYNOMIAL = 0xEDB88320  # CRC-32's, the highest power at the lowest bit, as everywhere here
_ONE = 1 << 31
_SIZE_BITS_MAX = 48
_DIGITS = int.from_bytes(b"0" * 32, "big")
_ODD = bytes(ord("01"[count & 1]) for count in range(256))


class CheckedPart:
    """Bytes whose CRC is known.

    Args:
        data: they.
        crc: theirs; None where it is to be found out.
    """

    __slots__ = ("crc", "data")

    def __init__(self, data: memoryview, crc: int | None = None) -> None:
        self.data = data
        self.crc = crc32(data) if crc is None else crc

    def __len__(self) -> int:
        return len(self.data)


Piece: TypeAlias = bytes | memoryview | CheckedPart


def checked(parts: Iterable[Piece], start: int, stride_bytes: int) -> Iterator[Piece]:
    """The same bytes, the large parts gone through, unless their CRC is known.

    Args:
        parts: follow each other.
        start: where the first one begins.
        stride_bytes: at each multiple of it a large part is cut, so that a CRC may be begun anew there.
    """
    for part in parts:
        is_whole = isinstance(part, CheckedPart) and start % stride_bytes + len(part) <= stride_bytes
        if is_whole or len(part) < CHECKED_BYTES_MIN:
            start += len(part)
            yield part
            continue
        rest = memoryview(data_of(part))
        while rest:
            size_bytes = min(len(rest), stride_bytes - start % stride_bytes)
            piece, rest = rest[:size_bytes], rest[size_bytes:]
            start += size_bytes
            yield CheckedPart(piece) if size_bytes >= CHECKED_BYTES_MIN else piece


def crc_behind(crc: int, piece: Piece) -> int:
    """The CRC of bytes, given theirs (0 when there are none), and of a piece behind them."""
    return combined(crc, piece.crc, len(piece)) if isinstance(piece, CheckedPart) else crc32(piece, crc)


def data_of(piece: Piece) -> bytes | memoryview:
    """A piece's bytes."""
    return piece.data if isinstance(piece, CheckedPart) else piece


def combined(crc: int, crc_behind: int, bytes_behind: int) -> int:
    """The CRC of bytes and of what follows.

    Args:
        crc: of the bytes before it; 0 when there are none.
        crc_behind: of what follows.
        bytes_behind: how many these are.
    """
    return _product(_shift(bytes_behind), _spread(crc)) ^ crc_behind if crc else crc_behind


@lru_cache(maxsize=256)
def _shift(size_bytes: int) -> int:
    """x to the power of so many bytes' bits, as a factor."""
    factor = _FACTOR_ONE
    for bit in range(size_bytes.bit_length()):
        if size_bytes >> bit & 1:
            factor = _spread(_product(factor, _POWERS[bit]))
    return factor


def _spread(polynomial: int) -> int:
    """A polynomial with each coefficient in a byte of its own, so that a product of integers does not carry over."""
    return int.from_bytes(format(polynomial, "032b").encode(), "big") - _DIGITS


def _product(factor: int, spread: int) -> int:
    """What is left of a product, and of x to the power of 32, which the CRC of bytes has in it: factors are without."""
    digits = (factor * spread).to_bytes(64, "big").translate(_ODD)
    remainder: int = crc32((int(digits, 2) << 1).to_bytes(8, "little"), 0xFFFF_FFFF)
    return remainder ^ 0xFFFF_FFFF


def _without_32_powers(polynomial: int) -> int:
    for _ in range(32):
        polynomial = ((polynomial ^ _POLYNOMIAL) << 1 | 1) if polynomial & _ONE else polynomial << 1
    return polynomial


def _powers() -> Iterator[int]:
    factor = _spread(_without_32_powers(_ONE >> 8))
    for _ in range(_SIZE_BITS_MAX):
        yield factor
        factor = _spread(_product(factor, factor))


_FACTOR_ONE = _spread(_without_32_powers(_ONE))
_POWERS = tuple(_powers())  # of x, to that of 8 and each twice the one before, as factors
