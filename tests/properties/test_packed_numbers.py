"""Packed numbers against a list: each is where it was, and is found, whatever the distances are."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqp_broker.broker.queues import packed_numbers
from amqp_broker.broker.queues.packed_numbers import PackedNumbers

BLOCK_NUMBERS = 4
DISTANCES = st.lists(st.sampled_from([0, 1, 1, 2, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**60]), max_size=15)


@given(st.sampled_from([0, 1, 2**40, 2**62]), DISTANCES, st.booleans())
def test_the_numbers_are_the_list(first: int, distances: list[int], is_closed: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_numbers, "BLOCK_NUMBERS", BLOCK_NUMBERS)
        packed, numbers = PackedNumbers(), list(accumulate(distances, initial=first))
        for number in numbers:
            packed.append(number)
        if is_closed:
            packed.close()
        assert len(packed) == len(numbers)
        assert [packed[place] for place in range(len(numbers))] == numbers
        for start in range(len(numbers) + 1):
            for end in (start, start + 1, start + 3, len(numbers), len(numbers) + 9):
                assert list(packed.between(start, end)) == numbers[start:end]
        for number in numbers:
            for other in (number - 1, number, number + 1):
                assert packed.place_behind(other) == bisect_right(numbers, other)
            assert packed.place_behind(number - 1) == bisect_left(numbers, number)


def test_numbers_that_are_alike_take_next_to_nothing() -> None:
    packed = PackedNumbers()
    count = 3 * packed_numbers.BLOCK_NUMBERS
    for number in range(0, 1000 * count, 1000):
        packed.append(number)
    packed.close()
    first, second, third = packed._blocks
    assert first is second is third
    assert len(first) < 50
    assert packed[count - 1] == 1000 * (count - 1)
