"""The wake-up call: kept when nobody waits, once, and lost by no cancellation."""

from __future__ import annotations

import trio
import trio.testing

from amqp_broker.network.wake_up import WakeUp
from tests.unit.in_trio import in_trio


@in_trio
async def test_a_call_wakes_who_waits() -> None:
    wake_up, woken = WakeUp(), trio.Event()

    async def wait() -> None:
        await wake_up.wait()
        woken.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert not woken.is_set()
        wake_up.set()
        wake_up.set()  # the second is kept for the next wait
        await woken.wait()
    await wake_up.wait()


@in_trio
async def test_calls_that_nobody_waits_for_are_kept_as_one() -> None:
    wake_up = WakeUp()
    wake_up.set()
    wake_up.set()
    await wake_up.wait()
    with trio.move_on_after(1) as scope:
        await wake_up.wait()
    assert scope.cancelled_caught


@in_trio
async def test_a_call_after_a_cancelled_wait_is_kept() -> None:
    wake_up = WakeUp()
    with trio.move_on_after(1):
        await wake_up.wait()
    wake_up.set()
    await wake_up.wait()
