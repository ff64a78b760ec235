"""How much may wait for a disk: what it takes in two seconds, of large records alone, and where there is room."""

from __future__ import annotations

import pytest

from amqp_broker.server.disk_backlog import DiskBacklog

MIB = 1_048_576
Batch = tuple[int, int, float, bool]
A_SECOND_FOR_100_MIB: Batch = (100 * MIB, 100, 1.0, True)


@pytest.mark.parametrize(
    ("batches", "expected"),
    [
        ([], 16),
        ([A_SECOND_FOR_100_MIB], 200),
        ([(100 * MIB, 100, 0.1, True)], 512),  # no more than there may be
        ([(1 * MIB, 1, 0.01, True)], 16),  # too little to tell
        ([(2 * MIB, 2, 0.04, True), (2 * MIB, 2, 0.01, True)], 160),  # but not all together
        ([(60 * MIB, 60, 0.1, False), (40 * MIB, 40, 0.9, True)], 200),  # what was not synced was not on the disk
        ([A_SECOND_FOR_100_MIB, (100 * MIB, 100, 2.0, True)], 175),  # slower once
        ([A_SECOND_FOR_100_MIB, (100 * MIB, 100, 0.5, True)], 400),
        ([A_SECOND_FOR_100_MIB, (100 * MIB, 100_000, 1.0, True)], 16),  # small records
        ([A_SECOND_FOR_100_MIB, (100, 2, 0.0, True)], 200),
        ([(100 * MIB, 100, 0.0, True)], 16),
    ],
)
def test_as_much_may_wait_as_the_disk_takes_in_two_seconds(batches: list[Batch], expected: int) -> None:
    backlog = DiskBacklog(16 * MIB, 512 * MIB)
    backlog.room_bytes = 1024 * MIB
    for size_bytes, records, took_s, is_synced in batches:
        backlog.note_batch(size_bytes, records, took_s, is_synced=is_synced)
    assert backlog.bytes_max(0.0) == expected * MIB


@pytest.mark.parametrize(("room", "expected"), [(100, 100), (10, 16), (-1, 16)])
def test_no_more_may_wait_than_there_is_room_for(room: int, expected: int) -> None:
    backlog = DiskBacklog(16 * MIB, 512 * MIB)
    backlog.note_batch(*A_SECOND_FOR_100_MIB[:3], is_synced=True)
    assert backlog.bytes_max(0.0) == 16 * MIB, "nobody has said how much room there is"
    backlog.room_bytes = room * MIB
    assert backlog.bytes_max(0.0) == expected * MIB


def test_who_had_to_wait_for_much_does_not_have_to_again_a_moment_later() -> None:
    backlog = DiskBacklog(16 * MIB, 512 * MIB)
    backlog.room_bytes = 1024 * MIB
    backlog.note_batch(*A_SECOND_FOR_100_MIB[:3], is_synced=True)
    backlog.note_wait(10.0, 8 * MIB)
    assert backlog.bytes_max(10.0) == 200 * MIB
    backlog.note_wait(10.0, 9 * MIB)
    assert backlog.bytes_max(10.9) == 16 * MIB
    assert backlog.bytes_max(11.0) == 200 * MIB
