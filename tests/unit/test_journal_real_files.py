"""Small writes into reserved space: they fill more of it with zeros, and nothing that was written. Large ones through
the page cache: the disk begins with them at once.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import pytest

from amqp_broker.journal import begun_writes
from amqp_broker.journal.real_files import FILLED_AHEAD_BYTES, SMALL_WRITE_BYTES_MAX, RealFiles

RESERVED_BYTES = 4 * FILLED_AHEAD_BYTES


@pytest.mark.skipif(not hasattr(os, "SEEK_HOLE"), reason="this system does not tell what was written")
@pytest.mark.parametrize(
    ("writes", "filled_bytes"),
    [
        ([(0, 64)], FILLED_AHEAD_BYTES),
        ([(0, 64), (64, 100), (164, 5)], FILLED_AHEAD_BYTES),
        ([(0, 64), (64, FILLED_AHEAD_BYTES - 64)], FILLED_AHEAD_BYTES),  # just full
        ([(0, 64), (FILLED_AHEAD_BYTES - 9, 10)], 2 * FILLED_AHEAD_BYTES),
        ([(0, SMALL_WRITE_BYTES_MAX + 1), (SMALL_WRITE_BYTES_MAX + 1, 5)], FILLED_AHEAD_BYTES),
        ([(0, 2 * FILLED_AHEAD_BYTES), (5, 8)], 2 * FILLED_AHEAD_BYTES),  # large, and then into it
        ([(0, RESERVED_BYTES - 8192), (RESERVED_BYTES - 8192, 64)], RESERVED_BYTES),
        ([(0, RESERVED_BYTES - 8), (RESERVED_BYTES - 8, 8)], RESERVED_BYTES),
    ],
)
def test_a_small_write_fills_what_comes_behind_it(
    tmp_path: Path, writes: list[tuple[int, int]], filled_bytes: int
) -> None:
    file = RealFiles(tmp_path).create("file", RESERVED_BYTES)
    expected = bytearray(RESERVED_BYTES)
    with (tmp_path / "file").open("rb") as opened:
        if os.lseek(opened.fileno(), 0, os.SEEK_HOLE):
            pytest.skip("this file system does not tell what was written")
        for number, (offset, size) in enumerate(writes, 1):
            file.write_at(offset, bytes([number]) * size)
            expected[offset : offset + size] = bytes([number]) * size
        file.sync()
        assert os.lseek(opened.fileno(), 0, os.SEEK_HOLE) == filled_bytes
    assert (tmp_path / "file").read_bytes() == expected


def test_nothing_is_filled_behind_the_end_of_a_file(tmp_path: Path) -> None:
    file = RealFiles(tmp_path).create("file", RESERVED_BYTES)
    file.write_at(0, b"beginning")
    file.truncate(4)
    file.write_at(4, b"end")
    assert (tmp_path / "file").read_bytes() == b"begiend"
    unreserved = RealFiles(tmp_path).create("unreserved", 0)
    unreserved.write_at(0, b"all")
    assert (tmp_path / "unreserved").read_bytes() == b"all"


class SyncFileRange:
    """The system's function, which notes what it was called with."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, int]] = []
        self.argtypes: object = None

    def __call__(self, descriptor: int, offset: int, size: int, flags: int) -> int:
        self.begun.append((offset, size))
        return 0


class System:
    """The C library."""

    def __init__(self, function: SyncFileRange) -> None:
        self.sync_file_range = function


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has such a function")
def test_the_disk_begins_with_what_is_large_while_the_rest_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = SyncFileRange()
    begun_writes._sync_file_range.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: System(function))
    try:
        file = RealFiles(tmp_path).create("file", 0)
        file.is_read_soon = True
        parts = [bytes([number]) * 300_000 for number in range(9)]
        file.write_at(100, *parts, b"end")
        assert function.begun == [(100, 1_200_000), (1_200_100, 1_200_000), (2_400_100, 300_003)]
        assert file.read_at(100, 3_000_000) == b"".join(parts) + b"end"
        file.write_at(0, bytes(100_000))
        assert len(function.begun) == 3, "what is small is synced soon"
    finally:
        begun_writes._sync_file_range.cache_clear()
