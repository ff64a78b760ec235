"""Small writes into reserved space: they fill more of it with zeros, and nothing that was written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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
