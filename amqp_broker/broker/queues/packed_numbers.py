"""Numbers that never fall, most of them packed: what a stream knows of its entries is mostly such.

Of references, offsets, times, and how many bytes there are up to an entry, the distances between neighbours are kept,
compressed: next to nothing where they are alike, or come again and again, and a byte or two each where they are at
random. Does not know what the numbers mean.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from functools import lru_cache
from typing import Final

from amqp_broker.journal.distances import compressed, decompressed, grown, planes_of_distances

BLOCK_NUMBERS = 2048
_COUNT: Final = struct.Struct("=H")
_BLOCKS_UNPACKED: Final = 128
"""Of those that were looked into last: who reads a stream comes to each again and again, and needs up to four at once.
"""


class PackedNumbers:
    """The numbers, by their places. All but the latest are packed, in blocks of so many each.

    One thread alone may use it, even to look.
    """

    __slots__ = ("_blocks", "_firsts", "_latest", "_packed_count")

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._firsts = array("Q")  # the first number of each block
        self._packed_count = 0
        self._latest = array("Q")

    def __len__(self) -> int:
        return self._packed_count + len(self._latest)

    def append(self, number: int) -> None:
        """One more, that is not smaller than the last one."""
        if len(self._latest) == BLOCK_NUMBERS:
            self.close()
        self._latest.append(number)

    def close(self) -> None:
        """No more come: pack the latest as well."""
        latest, blocks = self._latest, self._blocks
        if len(latest):
            block = _packed(latest)
            if blocks and blocks[-1] == block:
                block = blocks[-1]
            blocks.append(block)
            self._firsts.append(latest[0])
            self._packed_count += len(latest)
            self._latest = array("Q")

    def __getitem__(self, place: int) -> int:
        number, place_in_block = divmod(place, BLOCK_NUMBERS)
        if number == len(self._blocks):
            return self._latest[place_in_block]
        return self._firsts[number] + _unpacked(self._blocks[number])[place_in_block]

    def between(self, start: int, end: int) -> array[int]:
        """Those from one place to another one, which is not among them; none behind the last."""
        numbers = array("Q")
        for block in range(start // BLOCK_NUMBERS, len(self._blocks)):
            block_start = block * BLOCK_NUMBERS
            if block_start >= end:
                return numbers
            first, distances = self._firsts[block], _unpacked(self._blocks[block])
            numbers.extend([first + one for one in distances[max(start - block_start, 0) : end - block_start]])
        latest_start = len(self._blocks) * BLOCK_NUMBERS
        if end > latest_start:
            numbers.extend(self._latest[max(start - latest_start, 0) : end - latest_start])
        return numbers

    def place_behind(self, number: int) -> int:
        """How many of them are not larger than a number."""
        latest = self._latest
        if len(latest) and number >= latest[0]:
            return len(self._blocks) * BLOCK_NUMBERS + bisect_right(latest, number)
        block = bisect_right(self._firsts, number) - 1
        if block < 0:
            return 0
        return block * BLOCK_NUMBERS + bisect_right(_unpacked(self._blocks[block]), number - self._firsts[block])


def _packed(numbers: array[int]) -> bytes:
    """The distances between some numbers."""
    span_bytes = -(-(numbers[-1] - numbers[0]).bit_length() // 8)
    planes = planes_of_distances(numbers, span_bytes)
    while planes and planes[-1] == bytes(len(numbers) - 1):
        del planes[-1]
    return compressed(_COUNT.pack(len(numbers)) + b"".join(planes))


@lru_cache(_BLOCKS_UNPACKED)
def _unpacked(block: bytes) -> array[int]:
    """How much larger than the first of them each number is that was packed; nobody changes what is returned."""
    content = decompressed(block)
    (count,) = _COUNT.unpack_from(content)
    return grown("Q", 0, content[_COUNT.size :], count - 1)
