"""Damage to a journal, at every place that matters: what it may come to, and what repair must save.

Holds what the tests on a journal made for the purpose and those on one of a real process have in common.
"""

from __future__ import annotations

import contextlib
from random import Random

from amqp_broker.journal.blocks import BLOCK_BYTES_MAX, BLOCK_HEADER_BYTES
from amqp_broker.journal.check import check
from amqp_broker.journal.dump import dump
from amqp_broker.journal.failures import JournalDamaged
from amqp_broker.journal.memory_files import MemoryFiles
from amqp_broker.journal.port import LiveRecord
from amqp_broker.journal.records import DROPS_KIND, record_fields
from amqp_broker.journal.repair import repair
from amqp_broker.journal.segments import SEGMENT_HEADER_BYTES, BadBlock, SegmentReader
from tests.unit.journal_helpers import opened


def copy_of(files: MemoryFiles) -> MemoryFiles:
    copy = MemoryFiles()
    for name in files.names():
        copy.set_content(name, files.content(name))
    return copy


def states(files: MemoryFiles) -> list[dict[int, LiveRecord]]:
    """What may be found after damage that was taken for a torn tail: the journal as of a batch of its last segment."""
    last = files.names()[-1]
    content = files.content(last)
    reader = SegmentReader(files, last)
    ends = [64]
    with contextlib.suppress(BadBlock):
        while True:
            ends.append(reader.block(ends[-1]).end)
    result = []
    for end in ends:
        copy = copy_of(files)
        copy.set_content(last, content[:end])
        result.append(by_reference(opened(copy)[1]))
    return result


def by_reference(found: list[LiveRecord]) -> dict[int, LiveRecord]:
    return {record[0]: (*record[:3], list(record[3])) for record in found}


def places(files: MemoryFiles, name: str, random_count: int) -> list[int]:
    """Offsets at and around every boundary of a block or a record, and random ones."""
    size = len(files.content(name).rstrip(b"\0"))
    boundaries = {0, 8, 12, 60, 64, size}
    reader = SegmentReader(files, name)
    offset = 64
    while offset < size:
        block = reader.block(offset)
        boundaries |= {offset, offset + 8, offset + 44, block.end}
        offset = block.end
    boundaries |= {int(line.split()[0]) for line in dump(one_file(files, name)) if line.startswith("  ")}
    nearby = {boundary + step for boundary in boundaries for step in (-1, 0)}
    random = Random(name)
    nearby |= {random.randrange(size) for _ in range(random_count)}
    return sorted(place for place in nearby if 0 <= place < size)


def one_file(files: MemoryFiles, name: str) -> MemoryFiles:
    copy = MemoryFiles()
    copy.set_content(name, files.content(name))
    return copy


def assert_names_the_place(error: JournalDamaged, files: MemoryFiles, name: str) -> None:
    assert error.file == f"memory/{name}"
    assert 0 <= error.offset <= len(files.content(name))


def damaged(content: bytes, place: int, kind: str) -> bytes:
    start, end = extent(content, place, kind)
    if kind == "cut":
        return content[:place]
    result = bytearray(content)
    if kind == "flip":
        result[place] ^= 1 << place % 8
    else:
        result[start:end] = bytes(end - start)
    return bytes(result)


def extent(content: bytes, place: int, kind: str) -> tuple[int, int]:
    """Where the damage begins and ends."""
    if kind == "flip":
        return place, place + 1
    if kind == "cut":
        return place, len(content)
    start = place // 512 * 512
    return start, min(start + 512, len(content))


def hit(files: MemoryFiles, name: str, start: int, end: int) -> set[int]:
    """The references of the records of a segment that lie in a damage, wholly or in part."""
    reader = SegmentReader(files, name)
    found: set[int] = set()
    offset = SEGMENT_HEADER_BYTES
    with contextlib.suppress(BadBlock):
        while offset < end:
            block = reader.block(offset)
            base = block.offset + BLOCK_HEADER_BYTES
            for record_offset, size, reference, _, kind in record_fields(block.payload):
                record_start = base + record_offset
                record_end = max(record_start + size, block.end if size > BLOCK_BYTES_MAX else 0)
                if kind != DROPS_KIND and record_start < end and start < record_end:
                    found.add(reference)
            offset = block.end
    return found


def assert_repaired(
    files: MemoryFiles, original: MemoryFiles, name: str, place: int, kind: str, whole: dict[int, LiveRecord]
) -> None:
    """Repair damaged files; every record that the damage did not hit must be there afterwards, as it was."""
    assert not check(files).is_intact
    content = files.content(name)
    report = repair(files)
    assert report.damages
    assert len(report.kept_aside) == 1
    assert files.content(f"{name}.damaged") == content
    assert check(files).is_intact
    repaired = by_reference(opened(files)[1])
    lost = whole.keys() - repaired.keys()
    assert lost <= hit(original, name, *extent(original.content(name), place, kind))
    for reference, record in whole.items():
        if reference in repaired:
            assert repaired[reference][1:3] == record[1:3]
            assert set(record[3]) <= set(repaired[reference][3])
    if kind == "flip":
        assert len(lost) <= 1, "one flipped bit costs at most one record"
        assert not lost or report.lost_bytes > 0
