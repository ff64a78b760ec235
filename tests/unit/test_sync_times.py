"""The histogram of the journal's syncs: each time in its bucket, and what fails in none."""

from __future__ import annotations

import pytest

from amqp_broker.server.sync_times import BOUNDS_S, SyncTimes


def test_each_time_is_in_its_bucket_and_those_above() -> None:
    times = SyncTimes()
    for took_s in (0.0001, BOUNDS_S[2], 100.0):
        times.note(took_s)
    counts = [count for _, count in times.buckets()]
    assert counts[:4] == [1, 1, 2, 2]
    assert counts[-2:] == [2, 3]
    assert times.sum_s == pytest.approx(100.0026)
    assert times.buckets()[-1][0] == float("inf")


def test_what_fails_is_not_counted() -> None:
    times = SyncTimes()

    def fail() -> None:
        raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"):
        times.measured(fail)
    times.measured(lambda: None)
    assert times.buckets()[-1][1] == 1
