"""The task that wakes the broker: on time, earlier when a deadline comes forward, and alive after a failure."""

from __future__ import annotations

import pytest
import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.server.driver import ServerDriver
from amqp_broker.server.timers import run_timers
from amqp_broker.settings import Settings
from tests.unit.in_trio import in_trio


class TrioClock:
    """The test's own clock, as the domain asks for it."""

    is_running = True

    def monotonic_ms(self) -> int:
        return round(trio.current_time() * 1000)

    def wall_ms(self) -> int:
        return self.monotonic_ms()


class Agenda:
    """A broker, and when the things that were put on its agenda were done."""

    def __init__(self) -> None:
        self.clock = TrioClock()
        self.driver = ServerDriver()
        self.broker = Broker(Settings(), self.clock, self.driver)
        self.start_ms = self.clock.monotonic_ms()
        self.done_ms: list[int] = []

    async def run(self) -> None:
        await run_timers(self.broker, self.driver.earlier_deadline)

    def note(self) -> None:
        self.done_ms.append(self.clock.monotonic_ms() - self.start_ms)

    def after(self, delay_ms: int) -> None:
        self.broker.timers.after(delay_ms, self.note)


@in_trio
async def test_what_is_due_is_done_at_its_time() -> None:
    agenda = Agenda()
    for delay_ms in (0, 250, 10**400, 60_000, 30_000):  # one of them for ever, which a policy may say
        agenda.after(delay_ms)
    with trio.move_on_after(100):
        await agenda.run()
    assert agenda.done_ms == [0, 250, 30_000, 60_000]


@in_trio
async def test_an_earlier_deadline_wakes_the_task() -> None:
    agenda = Agenda()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(agenda.run)
        await trio.sleep(1)
        agenda.after(60_000)
        await trio.sleep(1)
        agenda.after(10)
        await trio.sleep(1)
        assert agenda.done_ms == [2010]
        await trio.sleep(100)
        assert agenda.done_ms == [2010, 61_000]
        nursery.cancel_scope.cancel()


@in_trio
async def test_a_clock_that_stands_still_is_not_waited_for() -> None:
    agenda = Agenda()
    agenda.clock.is_running = False
    agenda.after(10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(agenda.run)
        await trio.sleep(60)
        assert agenda.done_ms == []
        agenda.driver.deadline_came_forward()  # whoever moved it says so
        await trio.sleep(1)
        assert agenda.done_ms == [60_000]
        nursery.cancel_scope.cancel()


@in_trio
async def test_a_failure_is_logged_and_the_task_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    agenda = Agenda()

    def fail() -> None:
        raise ZeroDivisionError("a defect")

    agenda.broker.timers.after(10, fail)
    agenda.after(20)
    with trio.move_on_after(1):
        await agenda.run()
    assert len(agenda.done_ms) == 1
    assert [record.getMessage() for record in caplog.records] == ["internal error"]
