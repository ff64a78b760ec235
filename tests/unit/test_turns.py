"""Whose turn it is: busy connections share a round of the event loop, and wait in the order in which they came."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from amqp_broker.network.turns import ROUND_S_MAX, Turns
from tests.unit.in_trio import in_trio

LONG_S = ROUND_S_MAX
SHORT_S = ROUND_S_MAX / 100


class SteadyClock:
    """Each time that it is looked at, as much has passed as a round takes."""

    def __init__(self, round_s: float) -> None:
        self._round_s = round_s
        self._now_s = 0.0

    def __call__(self) -> float:
        self._now_s += self._round_s
        return self._now_s


class Line:
    """Busy connections that note when they are read, and how many rounds the loop has made."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.rounds = 0
        self.read: list[str] = []

    async def count_rounds(self) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            self.rounds += 1

    async def be_busy(self, name: str, took_s: float, times: int) -> None:
        for _ in range(times):
            await self.turns.take(took_s)
            self.read.append(name)
            await trio.lowlevel.checkpoint()


@asynccontextmanager
async def line(round_s: float = 0) -> AsyncIterator[tuple[Line, trio.Nursery]]:
    rounds_take = SteadyClock(round_s)
    turns = Turns(rounds_take)
    one = Line(turns)
    async with trio.open_nursery() as helpers:
        helpers.start_soon(turns.run)
        helpers.start_soon(one.count_rounds)
        async with trio.open_nursery() as nursery:
            yield one, nursery
        helpers.cancel_scope.cancel()


@in_trio
async def test_few_that_take_long_are_read_in_one_round() -> None:
    async with line() as (one, nursery):
        for name in "abcdefghij":
            nursery.start_soon(one.be_busy, name, LONG_S, 5)
    assert len(one.read) == 50
    assert one.rounds >= 45


@in_trio
async def test_nobody_is_passed_over() -> None:
    async with line() as (one, nursery):
        for name in "abcde":
            nursery.start_soon(one.be_busy, name, LONG_S, 20)
    for at in range(0, 80, 5):
        counts = [one.read[: at + 20].count(name) for name in "abcde"]
        assert max(counts) - min(counts) <= 2


@in_trio
async def test_many_that_take_little_share_a_round() -> None:
    async with line() as (one, nursery):
        for number in range(50):
            nursery.start_soon(one.be_busy, str(number), SHORT_S, 10)
    assert len(one.read) == 500
    assert one.rounds <= 50


@in_trio
async def test_in_rounds_that_are_long_they_get_half() -> None:
    async with line(6 * ROUND_S_MAX) as (one, nursery):
        for name in "abcdefghij":
            nursery.start_soon(one.be_busy, name, LONG_S, 10)
    assert len(one.read) == 100
    assert 20 <= one.rounds <= 60


@in_trio
async def test_who_is_cancelled_in_the_line_holds_nobody_up() -> None:
    async with line() as (one, nursery):
        nursery.start_soon(one.be_busy, "stays", LONG_S, 30)
        for _ in range(20):
            scope = trio.CancelScope()

            async def leave(scope: trio.CancelScope = scope) -> None:
                with scope:
                    await one.be_busy("leaves", LONG_S, 1000)

            nursery.start_soon(leave)
            await trio.lowlevel.checkpoint()
            scope.cancel()
    assert one.read.count("stays") == 30
