"""The load of ``amqp-broker bench``: its times, its addresses, and what confirms mean to a publisher."""

from __future__ import annotations

import json
from multiprocessing import Pipe
from multiprocessing.sharedctypes import RawArray

import pytest

from amqp_broker.cli.load.address import Address, BadAddress, parse_address
from amqp_broker.cli.load.crew import may_begin
from amqp_broker.cli.load.figures import (
    BUCKETS,
    CONFIRMED,
    CONFIRMS,
    CONSUMED,
    DELIVERIES,
    PUBLISHED,
    Figures,
    bucket_of,
    percentile_ms,
    upper_end_ns,
)
from amqp_broker.cli.load.report import Picture, line, summary, summary_lines


@pytest.mark.parametrize("time_ns", [0, 1, 15, 16, 31, 32, 33, 1000, 1_000_000, 123_456_789, 5_000_000_000])
def test_a_bucket_is_right_to_a_sixteenth(time_ns: int) -> None:
    end_ns = upper_end_ns(bucket_of(time_ns))
    assert time_ns <= end_ns <= time_ns * 17 / 16 + 1


def test_buckets_follow_one_another() -> None:
    ends = [upper_end_ns(bucket) for bucket in range(BUCKETS)]
    assert ends == sorted(set(ends))
    assert all(bucket_of(end) == bucket and bucket_of(end + 1) > bucket for bucket, end in enumerate(ends[:-1]))


def test_percentiles() -> None:
    figures = Figures(RawArray("Q", len(Figures().cells)))
    for time_ms in range(1, 101):
        figures.took(DELIVERIES, time_ms * 1_000_000)
    times = figures.times(DELIVERIES)
    assert percentile_ms(times, 0.5) == pytest.approx(50, rel=0.07)
    assert percentile_ms(times, 1) == pytest.approx(100, rel=0.07)
    assert percentile_ms(figures.times(CONFIRMS), 0.5) is None


def test_what_is_said() -> None:
    publishers, consumers = Figures(), Figures()
    before = Picture.of(0.0, publishers, consumers)
    publishers.add(PUBLISHED, 1000)
    publishers.add(CONFIRMED, 900)
    consumers.add(CONSUMED, 800)
    consumers.took(DELIVERIES, 2_000_000, 800)
    now = Picture.of(2.0, publishers, consumers)
    said = line(now, before, confirms=True)
    assert said == "    2 s  published 500/s  confirmed 450/s  consumed 400/s  2.03 ms, p99 2.03 ms"
    assert len(said) <= 80
    result = summary(now, 1.0)
    assert (result["published_per_s"], result["consumed_per_s"], result["confirm_ms"]) == (1000.0, 400.0, {})
    assert json.loads(json.dumps(result)) == result
    assert summary_lines(result)[0].split() == ["published", "1,000", "1,000/s"]


def test_a_crew_that_waits_to_begin_ends_when_nobody_will_tell_it() -> None:
    here, there = Pipe()
    here.close()
    assert not may_begin(there)
    here, there = Pipe()
    here.send(None)
    assert may_begin(there)
    assert here.recv() == ""


def test_addresses() -> None:
    assert parse_address("amqp://localhost") == Address("localhost", 5672, "guest", "guest", "/", False)
    assert parse_address("amqps://a%40b:p%2F@host:1/v%2Fw") == Address("host", 1, "a@b", "p/", "v/w", True)
    assert parse_address("amqp://[::1]:5/").host == "::1"
    for wrong in ("http://x", "localhost", "amqp://", "amqp://x:port"):
        with pytest.raises(BadAddress, match="no address of a broker"):
            parse_address(wrong)
