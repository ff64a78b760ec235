"""Large pieces on the disk: whatever is aligned and whatever is not, the file holds what was written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from amqp_broker.journal.direct_writes import ALIGNED_BYTES, DIRECT_BYTES_MIN, DirectWriter
from amqp_broker.journal.real_files import RealFiles
from amqp_broker.journal.records import Part

BUFFER_BYTES = 524_288
FILE_BYTES = 4 * BUFFER_BYTES


class Files:
    """Files, and how much was written to them past the page cache."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files = RealFiles(folder)
        self.files._direct_writer = DirectWriter(buffer_bytes=BUFFER_BYTES)
        self.direct_bytes = 0
        self.refuses = False
        self._direct_descriptors: set[int] = set()
        self._open, self._pwrite = os.open, os.pwrite
        monkeypatch.setattr(os, "open", self._opened)
        monkeypatch.setattr(os, "pwrite", self._written)

    def _opened(self, path: str | Path, flags: int, *arguments: int) -> int:
        descriptor = self._open(path, flags, *arguments)
        if flags & os.O_DIRECT:
            self._direct_descriptors.add(descriptor)
        return descriptor

    def _written(self, descriptor: int, data: memoryview, offset: int) -> int:
        if descriptor not in self._direct_descriptors:
            return self._pwrite(descriptor, data, offset)
        if self.refuses:
            raise OSError(errno.EINVAL, "direct writes are refused")
        assert (offset % ALIGNED_BYTES, len(data) % ALIGNED_BYTES) == (0, 0)
        self.direct_bytes += len(data)
        return self._pwrite(descriptor, data, offset)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    if not hasattr(os, "O_DIRECT"):
        pytest.skip("this system has no direct writes")
    files = Files(tmp_path / "journal", monkeypatch)
    probe = os.open(tmp_path / "journal" / "probe", os.O_CREAT | os.O_WRONLY)
    try:
        os.close(os.open(f"/proc/self/fd/{probe}", os.O_WRONLY | os.O_DIRECT))
    except OSError:
        pytest.skip("this file system has no direct writes")
    finally:
        os.close(probe)
    return files


def pattern(size: int, seed: int) -> bytes:
    return bytes((seed + number * 7) % 251 for number in range(997)) * (size // 997 + 1)


@pytest.mark.parametrize("offset", [0, 1, 64, ALIGNED_BYTES - 1, ALIGNED_BYTES, ALIGNED_BYTES + 1])
@pytest.mark.parametrize(
    "sizes",
    [
        [DIRECT_BYTES_MIN],
        [DIRECT_BYTES_MIN - 1, 1],
        [44, DIRECT_BYTES_MIN + 4096],
        [44, 262_144, 44, 262_144, 44, 70_000],
        [BUFFER_BYTES],
        [44, 2 * BUFFER_BYTES + 5, 1, 0, 3],
        [10] * 1500 + [BUFFER_BYTES] + [10] * 1500,
    ],
)
def test_what_is_written_is_there_and_nothing_beside_it_is_touched(files: Files, offset: int, sizes: list[int]) -> None:
    parts: list[Part] = [pattern(size, seed)[:size] for seed, size in enumerate(sizes)]
    parts[-1] = memoryview(parts[-1])
    before = pattern(FILE_BYTES, 99)[:FILE_BYTES]
    file = files.files.create("segment", 0)
    for start in range(0, FILE_BYTES, 100_000):
        file.write_at(start, before[start : start + 100_000])
    file.write_at(offset, *parts)
    file.sync()
    written = b"".join(parts)
    assert file.read_at(0, FILE_BYTES) == before[:offset] + written + before[offset + len(written) :]
    assert files.direct_bytes > len(written) - 2 * ALIGNED_BYTES


def test_writes_that_follow_each_other_share_the_places_where_they_meet(files: Files) -> None:
    file = files.files.create("segment", FILE_BYTES)
    written, offset = b"", 0
    for number, size in enumerate((300_001, 17, DIRECT_BYTES_MIN, 1, 4095, 2 * BUFFER_BYTES + 1, 44)):
        data = pattern(size, number)[:size]
        file.write_at(offset, data[:10], data[10:])
        written += data
        offset += size
        assert file.read_at(0, offset) == written
    file.sync()
    assert file.read_at(0, FILE_BYTES) == written.ljust(FILE_BYTES, b"\0")


def test_a_file_that_is_cut_takes_one_descriptor(files: Files) -> None:
    file = files.files.create("segment", FILE_BYTES)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        file.write_at(0, bytes(BUFFER_BYTES))
        assert len(os.listdir("/proc/self/fd")) == before + 1
        file.truncate(10)
        assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_small_goes_through_the_page_cache(files: Files) -> None:
    file = files.files.create("segment", FILE_BYTES)
    data = pattern(DIRECT_BYTES_MIN - 1, 1)[: DIRECT_BYTES_MIN - 1]
    file.write_at(0, data)
    assert file.read_at(0, len(data)) == data
    assert files.direct_bytes == 0


def test_what_is_read_soon_goes_through_the_page_cache_and_is_at_hand_then(files: Files) -> None:
    file = files.files.create("segment", FILE_BYTES)
    data = pattern(BUFFER_BYTES, 1)[:BUFFER_BYTES]
    file.is_read_soon = True
    file.write_at(0, data)
    assert files.direct_bytes == 0
    assert file.read_now(0, len(data)) in (data, None), "some file systems always wait"
    assert file.read_now(FILE_BYTES - 10, 100) is None, "there are not so many"
    file.is_read_soon = False
    file.write_at(0, data)
    assert files.direct_bytes > 0


def test_a_file_system_that_refuses_direct_writes_gets_them_otherwise(files: Files) -> None:
    files.refuses = True
    file = files.files.create("segment", FILE_BYTES)
    data = pattern(BUFFER_BYTES + 77, 1)[: BUFFER_BYTES + 77]
    file.write_at(64, data)
    files.refuses = False
    file.write_at(64 + len(data), data)
    assert file.read_at(64, 2 * len(data)) == data + data
    assert files.direct_bytes == 0, "what was refused once is not asked for again"


def test_where_there_is_no_second_way_into_a_file_it_is_written_otherwise(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = files.files.create("segment", FILE_BYTES)

    def refuse(path: str | Path, flags: int, *arguments: int) -> int:
        raise OSError(errno.EINVAL, "no direct writes here")

    monkeypatch.setattr(os, "open", refuse)
    data = pattern(BUFFER_BYTES, 1)[:BUFFER_BYTES]
    file.write_at(64, data, data)
    assert file.read_at(64, 2 * len(data)) == data + data
    assert files.direct_bytes == 0


def test_a_disk_that_fails_is_no_refusal(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    file = files.files.create("segment", FILE_BYTES)

    def fail(descriptor: int, data: memoryview, offset: int) -> int:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(OSError, match="the disk is broken"):
        file.write_at(0, pattern(BUFFER_BYTES, 1))


def test_a_write_that_stops_early_is_finished(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    file = files.files.create("segment", FILE_BYTES)
    pwrite = os.pwrite

    def write_some(descriptor: int, data: memoryview, offset: int) -> int:
        return pwrite(descriptor, data[: max(len(data) // 2 // ALIGNED_BYTES * ALIGNED_BYTES, 1)], offset)

    monkeypatch.setattr(os, "pwrite", write_some)
    data = pattern(BUFFER_BYTES, 1)[:BUFFER_BYTES]
    file.write_at(100, data)
    assert file.read_at(100, len(data)) == data


def test_closed_files_leave_no_descriptor(files: Files) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(3):
        file = files.files.create(f"segment-{number}", FILE_BYTES)
        file.write_at(0, pattern(BUFFER_BYTES, number))
        del file
    assert len(os.listdir("/proc/self/fd")) == before
