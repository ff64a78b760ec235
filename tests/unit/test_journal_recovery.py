"""What a journal does with what it finds at the start: torn tails, other formats, files that a crash left."""

from __future__ import annotations

from typing import cast

import pytest

from amqp_broker.journal.failures import FormatNotSupported, JournalDamaged, JournalFailed
from amqp_broker.journal.files import File
from amqp_broker.journal.journal import SegmentJournal
from amqp_broker.journal.memory_files import MemoryFiles, PowerLoss
from amqp_broker.journal.recovery import drops_in, find_end
from amqp_broker.journal.segments import SegmentHeader, SegmentReader, segment_name
from tests.unit.journal_helpers import SEGMENT_BYTES, commit, live_payloads, opened, reclaim_all


def journal_of(*batches: list[bytes]) -> MemoryFiles:
    """The disk of a journal whose process was killed after these batches."""
    files = MemoryFiles()
    journal, _ = opened(files)
    for batch in batches:
        for payload in batch:
            journal.put(1, payload)
        commit(journal)
    return files


def changed(files: MemoryFiles, name: str, offset: int, data: bytes) -> None:
    content = bytearray(files.content(name))
    content[offset : offset + len(data)] = data
    files.set_content(name, bytes(content))


FIRST = segment_name(1, 1)


def test_a_torn_tail_is_cut_with_a_warning_that_counts_its_bytes() -> None:
    files = journal_of([b"one"], [b"two"], [b"three" * 10])
    data = files.content(FIRST).rstrip(b"\0")
    files.set_content(FIRST, data[:-10])
    journal, found = opened(files)
    assert live_payloads(found) == [b"one", b"two"]
    assert journal.torn_tail is not None
    torn_bytes = len(data) - 10 - journal.torn_tail.offset
    assert journal.torn_tail.cut_bytes == torn_bytes
    assert str(journal.torn_tail) == (
        f"memory/{FIRST}: {torn_bytes} bytes of an unfinished write cut off at byte {journal.torn_tail.offset}"
    )
    journal, found = opened(files)
    assert live_payloads(found) == [b"one", b"two"]
    assert journal.torn_tail is None


def test_damage_before_a_durable_batch_refuses_and_names_the_place() -> None:
    files = journal_of([b"one"], [b"two"], [b"three"])
    offset = files.content(FIRST).index(b"two")
    changed(files, FIRST, offset, b"tvo")
    with pytest.raises(JournalDamaged) as caught:
        opened(files)
    assert caught.value.file == f"memory/{FIRST}"
    assert 0 < offset - caught.value.offset < 100
    assert FIRST in str(caught.value)
    assert str(caught.value.offset) in str(caught.value)


def test_a_hole_in_what_was_never_synced_is_a_torn_tail() -> None:
    files = MemoryFiles()
    journal, _ = opened(files)
    for payload in (b"synced", b"lost by the disk", b"kept by the disk"):
        journal.put(1, payload)
        commit(journal, sync=payload == b"synced")
    changed(files, FIRST, files.content(FIRST).index(b"lost by"), bytes(10))
    journal, found = opened(files)
    assert live_payloads(found) == [b"synced"]
    assert journal.torn_tail is not None


def test_a_closed_journal_notices_damage_in_its_last_batch() -> None:
    files = MemoryFiles()
    journal, _ = opened(files)
    journal.put(1, b"the last one")
    journal.close()
    changed(files, FIRST, files.content(FIRST).index(b"the last one"), b"X")
    with pytest.raises(JournalDamaged):
        opened(files)


def test_a_newer_format_is_refused_in_clear_words() -> None:
    files = journal_of([b"one"])
    header = SegmentHeader(2, 0, 1, 1, 1, 1, 0).encode()
    changed(files, FIRST, 0, header)
    before = files.content(FIRST)
    with pytest.raises(FormatNotSupported, match=r"is written in version 2 .*; this release reads version 1"):
        opened(files)
    assert files.content(FIRST) == before


def test_a_missing_end_of_an_older_segment_refuses() -> None:
    files = journal_of([bytes(3000)], [bytes(3000)], [bytes(3000)])
    content = files.content(FIRST)
    for size in (0, 30, 64, len(content) - 44, len(content) - 1):
        files.set_content(FIRST, content[:size])
        with pytest.raises(JournalDamaged) as caught:
            opened(files)
        assert caught.value.file == f"memory/{FIRST}"


def test_a_file_under_another_name_is_refused() -> None:
    files = journal_of([b"one"])
    files.rename(FIRST, segment_name(7, 7))
    with pytest.raises(JournalDamaged, match="name is not that of its header"):
        opened(files)


def test_files_that_a_crash_left_are_removed() -> None:
    files = journal_of([b"one", bytes(3000)], [b"two", bytes(3000)], [bytes(3000)])
    journal, found = opened(files)
    journal.drop_many([found[1][0], found[3][0]])
    commit(journal)
    replaced = files.content(FIRST)
    assert reclaim_all(journal) == 1
    merged = segment_name(1, 2)
    assert merged in files.names()
    files.set_content(FIRST, replaced)
    files.set_content(segment_name(9, 9) + ".new", b"half made")
    _, found = opened(files)
    assert live_payloads(found) == [b"one", b"two", bytes(3000)]
    assert files.names()[0] == merged
    assert FIRST not in files.names()
    assert segment_name(9, 9) + ".new" not in files.names()


def test_two_files_for_one_place_are_refused() -> None:
    files = journal_of([b"one"])
    files.set_content(segment_name(1, 3), b"")
    files.set_content(segment_name(2, 5), b"")
    with pytest.raises(JournalDamaged, match="it overlaps"):
        opened(files)


def test_starting_again_and_again_without_writing_changes_nothing() -> None:
    files = journal_of([b"one"])
    opened(files)
    before = {name: files.content(name) for name in files.names()}
    for _ in range(3):
        opened(files)
    assert {name: files.content(name) for name in files.names()} == before


def test_progress_ends_at_all_there_is() -> None:
    files = journal_of([bytes(SEGMENT_BYTES)], [b"x"], [bytes(3000)])
    seen: list[tuple[int, int]] = []
    journal, _ = opened(files)
    journal.close()
    list(SegmentJournal(files, SEGMENT_BYTES).recover(lambda done, total: seen.append((done, total))))
    assert seen == sorted(seen)
    assert seen[-1] == (files.used_bytes, files.used_bytes)


@pytest.mark.parametrize("seed", range(30))
def test_a_torn_first_batch_of_a_segment_is_a_torn_tail(seed: int) -> None:
    files = MemoryFiles(seed)
    journal, _ = opened(files)
    journal.put(1, b"one")
    commit(journal)
    journal.put(1, bytes(range(256)) * 1500)
    batch = journal.take_batch()
    assert batch is not None
    files.fail_at_step = files.steps + 10
    files.fails_by_power_loss = True
    with pytest.raises(PowerLoss):
        journal.write(batch)
    assert segment_name(2, 2) in files.names()
    files.lose_power()
    _, found = opened(files)
    assert live_payloads(found)[:1] == [b"one"]


@pytest.mark.parametrize("seed", range(10))
def test_what_a_failed_sync_left_only_in_memory_is_written_again(seed: int) -> None:
    files = MemoryFiles(seed)
    journal, _ = opened(files)
    journal.put(1, b"one")
    commit(journal)
    journal.put(1, b"two" * 400)
    batch = journal.take_batch()
    assert batch is not None
    files.fail_at_step = files.steps + 2
    journal.write(batch)
    with pytest.raises(JournalFailed):
        journal.committed(batch)
    _, found = opened(files)
    assert live_payloads(found) == [b"one", b"two" * 400]
    files.lose_power()
    _, found = opened(files)
    assert live_payloads(found) == [b"one", b"two" * 400]


class CountingFile:
    """A file that says how much of it was read, under any name."""

    is_read_soon = False

    def __init__(self, file: File) -> None:
        self._file = file
        self.read_bytes = 0

    def open(self, name: str) -> File:
        return cast(File, self)

    def full_name(self, name: str) -> str:
        return name

    def read_at(self, offset: int, size: int) -> bytes:
        data = self._file.read_at(offset, size)
        self.read_bytes += len(data)
        return data

    def size(self) -> int:
        return self._file.size()

    def restore(self, offset: int = 0) -> bool:
        return False


def test_what_large_blocks_hold_is_not_read_to_find_drops() -> None:
    files = MemoryFiles()
    journal, _ = opened(files, 8 * 1024 * 1024)
    references = []
    for _ in range(20):
        references.append(journal.put(1, bytes(200_000)))
        commit(journal)
    journal.drop_many(references[:2])
    commit(journal)
    found, read_bytes = [], 0
    for name in files.names():
        file = CountingFile(files.open(name))
        reader = SegmentReader(file, name)
        end = find_end(reader).offset
        read_bytes -= file.read_bytes
        found += [list(drops_in(block)) for block in reader.drops(end)]
        read_bytes += file.read_bytes
    assert found == [[(reference, 1) for reference in references[:2]]]
    assert read_bytes < 100_000, "of four millions"


@pytest.mark.parametrize("place", [0, -1])
def test_what_was_verified_is_not_checked_again_but_for_the_last_segment(place: int) -> None:
    files = journal_of(*([bytes([number]) * 1500] for number in range(1, 10)))
    name = sorted(files.names())[place]
    body = b"\1\1\1" if place == 0 else b"\x09\x09\x09"
    changed(files, name, files.content(name).index(body), b"?")
    verified = frozenset(files.names())
    journal = SegmentJournal(files, SEGMENT_BYTES, verified=verified)
    found = [record for records in journal.recover() for record in records]
    assert len(found) == (9 if place == 0 else 8), "a torn tail is cut"
    if place == 0:
        with pytest.raises(JournalDamaged, match="checksum"):
            opened(files)


@pytest.mark.parametrize("place", [64, 1_000_000, 1_048_640, 2_500_000, 2_600_000 - 1])
def test_what_lies_far_behind_the_end_is_found(place: int) -> None:
    files = journal_of()
    files.set_content(FIRST, SegmentHeader(1, 0, 1, 1, 1, 1, 0).encode().ljust(2_600_000, b"\0"))
    reader = SegmentReader(files, FIRST)
    assert reader.last_nonzero_byte(64) == 64
    changed(files, FIRST, place, b"x")
    reader = SegmentReader(files, FIRST)
    assert reader.last_nonzero_byte(64) == place + 1
    assert reader.last_nonzero_byte(place + 1) == place + 1
