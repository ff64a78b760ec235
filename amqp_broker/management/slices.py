"""Lets others have their turn while much is looked at: a slice takes two milliseconds."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import TypeVar

import trio

from amqp_broker.broker.connections import Connections, OpenConnection

SLICE_S = 0.002

Item = TypeVar("Item")


class Slices:
    """The slices of one task."""

    def __init__(self) -> None:
        self._end_s = time.perf_counter() + SLICE_S

    async def take_turn(self) -> None:
        """Return when this task may go on: at once, as long as its slice lasts."""
        if time.perf_counter() > self._end_s:
            await trio.lowlevel.checkpoint()
            self._end_s = time.perf_counter() + SLICE_S


async def in_slices(items: Iterable[Item]) -> AsyncGenerator[Item, None]:
    """One after the other; what each costs the caller counts as well."""
    slices = Slices()
    for item in items:
        yield item
        await slices.take_turn()


async def open_in_slices(every: Connections, some: Iterable[OpenConnection]) -> AsyncIterator[OpenConnection]:
    """Some connections, one after the other, without those that have gone since: they can say nothing of themselves."""
    async for connection in in_slices(some):
        if connection in every:
            yield connection
