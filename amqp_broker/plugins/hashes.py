"""A hash of texts that is the same in every process: messages must go where they went before a restart."""

from __future__ import annotations

import zlib


def stable_hash(text: str) -> int:
    """32 bits, well mixed."""
    value = zlib.crc32(text.encode("utf-8", "surrogateescape"))
    # CRC-32 is linear: texts that differ in a digit differ in the same bits. Multiplying spreads them.
    value = ((value ^ (value >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    value = ((value ^ (value >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return value ^ (value >> 16)
