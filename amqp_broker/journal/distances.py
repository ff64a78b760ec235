"""Numbers that do not fall as the distances between them, which take little memory once they are compressed.

Of an index of many that are alike, or come in steps that are, next to nothing is left; of those whose distances are at
random, about as many bytes as these have. Knows not what the numbers mean, nor how many are packed together.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from itertools import accumulate
from typing import Final

_LEVEL: Final = 1
_WINDOW: Final = -12  # 4 KiB, and no header; larger ones take longer to set up than they save
_MEMORY: Final = 5


def planes_of_distances(numbers: array[int], planes_max: int = 8) -> list[bytes]:
    """The distances from each number to the next one, the lowest bytes of all, then the next higher ones: what is alike
    is together.

    Args:
        numbers: they do not fall, so none is taken from its neighbour where all are subtracted as one large number.
        planes_max: so many bytes hold each distance, or as many as a number has.
    """
    width, data = numbers.itemsize, numbers.tobytes()
    distance = int.from_bytes(data[width:], sys.byteorder) - int.from_bytes(data[:-width], sys.byteorder)
    data = distance.to_bytes(len(data) - width, sys.byteorder)
    return [data[place::width] for place in _places(width)[:planes_max]]


def grown(typecode: str, first: int, planes: bytes, count: int) -> array[int]:
    """The numbers that have so many distances, and the first one before them. The highest planes may be left out where
    they are zeros."""
    distances = array(typecode)
    width = distances.itemsize
    data = bytearray(width * count)
    for start, place in zip(range(0, len(planes), max(count, 1)), _places(width), strict=False):
        data[place::width] = planes[start : start + count]
    distances.frombytes(data)
    return array(typecode, accumulate(distances, initial=first))


def _places(width: int) -> range:
    """The bytes of a number as they lie in memory, the lowest one first."""
    return range(width) if sys.byteorder == "little" else range(width - 1, -1, -1)


def compressed(content: bytes) -> bytes:
    """The same in fewer bytes."""
    packing = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW, _MEMORY)
    return packing.compress(content) + packing.flush()


def decompressed(data: bytes) -> bytes:
    """What was compressed."""
    return zlib.decompress(data, _WINDOW)
