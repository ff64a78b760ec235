"""How numbers were: kept at each change, ten minutes by five seconds and an hour by minutes, and never made up."""

from __future__ import annotations

import random

from amqp_broker.management.samples import ALL, PACES_OF_EACH, Samples
from amqp_broker.management.series import Numbers, Series
from amqp_broker.management.things import FIELDS
from tests.unit.in_trio import in_trio

START_MS = 1_000_000_000


def test_what_was_at_each_moment_is_what_was_seen_then() -> None:
    chance = random.Random(14)
    seen: dict[int, Numbers] = {START_MS: (0, 5)}
    series = Series(START_MS, (0, 5), PACES_OF_EACH)
    numbers, last_ms = (0, 5), START_MS + 5_000_000
    for moment_ms in range(START_MS + 5_000, last_ms + 1, 5_000):
        if chance.random() < 0.3:
            numbers = (numbers[0] + chance.choice((1, 2**31)), numbers[1] + chance.choice((0, 0, 0, -1, 1)) % 7)
        seen[moment_ms] = numbers
        series.note(moment_ms, numbers)
    for age_ms in (0, 5_000, 300_000, 600_000):
        assert at(series, last_ms - age_ms) == seen[last_ms - age_ms]
    for age_min in range(11, 60):
        minute_ms = (last_ms - age_min * 60_000) // 60_000 * 60_000
        first_ms = next(moment_ms for moment_ms in sorted(seen) if moment_ms >= minute_ms)
        assert at(series, first_ms) == seen[first_ms]
    assert series.spot(last_ms - 3_700_000) is None, "an hour is kept, and no more"
    before = seen[last_ms - 5_000]
    assert series.growth((0,)) == (numbers[0] - before[0]) / 5
    assert series.growth((0, 1)) == (sum(numbers) - sum(before)) / 5


def at(series: Series, moment_ms: int) -> Numbers:
    spot = series.spot(moment_ms)
    assert spot is not None
    return tuple(spot[0].number(spot[1], (place,)) for place in range(2))


def test_what_does_not_change_takes_no_memory_again() -> None:
    series = Series(START_MS, (7,), PACES_OF_EACH)
    for step in range(1, 1_000):
        series.note(START_MS + step * 5_000, (7,))
    assert [len(track._moments_ms) for track in series._tracks()] == [1]
    series.note(START_MS + 5_000_000, (8,))
    for step in range(1_001, 2_000):
        series.note(START_MS + step * 5_000, (8,))
    assert [len(track._moments_ms) for track in series._tracks()] == [1, 1]
    assert series.changed_ms == START_MS + 5_000_000


@in_trio
async def test_a_moment_that_nobody_has_seen_is_left_out_and_not_shown_as_nought() -> None:
    there, clock = [(("queue", "/", "q"), (4, 1, *[0] * 12))], [START_MS]
    samples = Samples(lambda: there, FIELDS, lambda: clock[-1])
    for age_ms in range(0, 30_001, 5_000):
        clock.append(START_MS + age_ms)
        await samples.look()
    found = samples.past(("queue", "/", "q"), 600, 5).history("messages", 5)
    assert found["samples"] == [
        {"sample": 5, "timestamp": now_ms} for now_ms in range(START_MS + 30_000, START_MS - 1, -5_000)
    ]
    assert (found["avg"], found["avg_rate"]) == (5.0, 0.0)
    assert samples.past(("queue", "/", "other"), 600, 5).history("messages", 3)["samples"] == [
        {"sample": 3, "timestamp": START_MS + 30_000}
    ]


@in_trio
async def test_the_brokers_own_numbers_reach_a_day_back() -> None:
    clock_s = [0]
    samples = Samples(lambda: [(ALL, (clock_s[-1],))], {"all": {"publish": (0,)}}, lambda: clock_s[-1] * 1000)
    for passed_s in range(0, 86_401, 60):
        clock_s.append(passed_s)
        await samples.look()
    for age_s, step_s in ((600, 60), (3_600, 60), (28_800, 600), (86_400, 1_800)):
        found = samples.past(ALL, age_s, step_s).history("publish", clock_s[-1])
        values = [sample["sample"] for sample in found["samples"]]  # type: ignore[attr-defined]
        assert values == list(range(86_400, 86_400 - age_s - 1, -step_s))
        assert found["avg_rate"] == 1.0
