"""The log of a stream against a list: whatever comes and goes, each entry is where it was, and is found by its time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqp_broker.broker.queues import packed_numbers, stream_log_chunk
from amqp_broker.broker.queues.stream_log import StreamLog
from amqp_broker.broker.queues.stream_log_chunk import PART_BYTES_MAX, PART_DURATION_MS_MAX, PAUSE_MS, PAUSE_OFFSETS_MIN

CHUNK_ENTRIES = 12
PART_ENTRIES = 3
BLOCK_NUMBERS = 4

ENTRIES = st.tuples(
    st.sampled_from([0, 1, 50, 150, 999, 1000, 1001, 100_000, 2**32]),  # ms after the one before
    st.sampled_from([0, 0, 1, 3, 70]),  # records of a block; 0 for what is none
    st.sampled_from([1, 1, 1, 1, 1, 2, 3]),  # further in the journal
    st.sampled_from([0, 1, 100, 400_000, 2_000_000]),  # bytes
)
LIMITS = st.tuples(st.none() | st.integers(0, 5_000_000), st.none() | st.sampled_from([0, 500, 2_000, 200_000]))


@dataclass
class Entry:
    offset: int
    records: int
    reference: int
    body_bytes: int
    wall_ms: int


class Model:
    """What the log should be: lists of those that came close together."""

    def __init__(self) -> None:
        self.parts: list[list[Entry]] = []
        self.end_offset = 0
        self.wall_ms = 1_800_000_000_000
        self._in_chunk = CHUNK_ENTRIES
        self.taken: list[int] = []

    def append(self, entry: Entry) -> None:
        is_full = self._in_chunk == CHUNK_ENTRIES
        part = self.parts[-1] if self.parts and not is_full else []
        if part:
            offsets = part[-1].offset + part[-1].records - part[0].offset
            is_paused = offsets >= PAUSE_OFFSETS_MIN and entry.wall_ms - part[-1].wall_ms >= PAUSE_MS
            is_full_part = len(part) == PART_ENTRIES or sum(one.body_bytes for one in part) >= PART_BYTES_MAX
            if is_full_part or is_paused or entry.wall_ms - part[0].wall_ms >= PART_DURATION_MS_MAX:
                part = []
        if is_full:
            self._in_chunk = 0
        if not part:
            self.parts.append(part)
        part.append(entry)
        self._in_chunk += 1
        self.end_offset = entry.offset + entry.records

    @property
    def entries(self) -> list[Entry]:
        return [entry for part in self.parts for entry in part]

    @property
    def body_bytes(self) -> int:
        return sum(entry.body_bytes for entry in self.entries)

    def limit(self, bytes_max: int | None, wall_ms_min: int | None) -> None:
        while len(self.parts) > 1:
            is_too_much = bytes_max is not None and self.body_bytes > bytes_max
            if not is_too_much and (wall_ms_min is None or self.parts[0][-1].wall_ms >= wall_ms_min):
                return
            self.taken += [entry.reference for entry in self.parts.pop(0)]

    def offset_at(self, wall_ms: int) -> int:
        found = [part[0].offset for part in self.parts if part[-1].wall_ms >= wall_ms]
        return found[0] if found else self.end_offset


def agree(log: StreamLog, model: Model) -> None:
    entries = model.entries
    assert (log.first_offset, log.end_offset) == (entries[0].offset if entries else model.end_offset, model.end_offset)
    assert log.body_bytes == model.body_bytes
    assert [one for _, some in log.parts(log.first_offset, len(log)) for one in some] == [
        entry.reference for entry in entries
    ]
    for part in model.parts:
        for entry in part:
            for offset in (entry.offset, entry.offset + entry.records - 1):
                assert log.wall_ms_of(offset) == part[0].wall_ms
            extent = log.extent(entry.offset, CHUNK_ENTRIES)
            assert extent.first_offset_of(0) == entry.offset
            rest = entries[entries.index(entry) :]
            assert list(extent.references) == [one.reference for one in rest[: len(extent.references)]] != []
            assert sum(one.body_bytes for one in rest[: len(extent.references)]) < 2 * PART_BYTES_MAX + 2_000_000
            assert [log.offset_at(entry.wall_ms + more) for more in (-1, 0, 1)] == [
                model.offset_at(entry.wall_ms + more) for more in (-1, 0, 1)
            ]


@given(st.lists(ENTRIES | LIMITS, max_size=40))
def test_the_log_is_the_list(steps: list[tuple[Any, ...]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_log_chunk, "CHUNK_ENTRIES_MAX", CHUNK_ENTRIES)
        patch.setattr(stream_log_chunk, "PART_ENTRIES_MAX", PART_ENTRIES)
        patch.setattr(packed_numbers, "BLOCK_NUMBERS", BLOCK_NUMBERS)
        log, model = StreamLog(has_journal=True), Model()
        reference, taken = 0, list[int]()
        for step in steps:
            if len(step) == 4:
                later_ms, records, further, body_bytes = step
                model.wall_ms += later_ms
                reference += further
                model.append(Entry(model.end_offset, records or 1, reference, body_bytes, model.wall_ms))
                if records:
                    log.append_stored_block(reference, body_bytes, (1, records), model.wall_ms)
                else:
                    log.append_stored(reference, body_bytes, model.wall_ms)
            else:
                bytes_max, age_ms_max = step
                wall_ms_min = None if age_ms_max is None else model.wall_ms - age_ms_max
                model.limit(bytes_max, wall_ms_min)
                some = log.take_surplus(bytes_max, wall_ms_min)
                for each in some:
                    while len(each):
                        taken += each.next_references(2)
                assert not some or some[-1].first_offset == log.first_offset
                oldest = model.parts[0][-1].wall_ms if len(model.parts) > 1 else None
                assert log.oldest_wall_ms == oldest
            agree(log, model)
        assert taken == model.taken
