"""The agenda: order, cancelling, and timers that make and cancel timers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from amqp_broker.broker.ports import PassiveDriver
from amqp_broker.broker.timers import LOOKED_THROUGH_AT, Timer, Timers
from tests.support.manual_clock import ManualClock


class Sleeper(PassiveDriver):
    """Somebody who would sleep until the next deadline."""

    def __init__(self) -> None:
        self.timers: Timers | None = None
        self.told: list[int | None] = []

    def deadline_came_forward(self) -> None:
        assert self.timers is not None
        self.told.append(self.timers.next_deadline_ms())


class Agenda:
    """Timers on a clock of their own, and a diary of what ran."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.sleeper = Sleeper()
        self.timers = self.sleeper.timers = Timers(self.clock, self.sleeper)
        self.ran: list[object] = []

    def after(self, delay_ms: int, name: object) -> Timer:
        return self.timers.after(delay_ms, lambda: self.ran.append(name))

    def advance(self, duration_ms: int) -> int:
        self.clock.advance(duration_ms)
        return self.timers.run_due()


def test_what_is_due_runs_once() -> None:
    agenda = Agenda()
    timer = agenda.after(10, "a")
    assert agenda.advance(9) == 0
    assert agenda.advance(1) == 1
    assert agenda.advance(100) == 0
    assert agenda.ran == ["a"]
    assert timer.is_cancelled


def test_what_was_cancelled_is_not_kept_until_its_time() -> None:
    agenda = Agenda()
    for number in range(3 * LOOKED_THROUGH_AT):
        timer = agenda.after(10**9 + number, number)
        if number % LOOKED_THROUGH_AT:
            timer.cancel()
    assert len(agenda.timers._agenda) <= LOOKED_THROUGH_AT
    agenda.advance(2 * 10**9)
    assert agenda.ran == [0, LOOKED_THROUGH_AT, 2 * LOOKED_THROUGH_AT]


def test_deadlines_of_one_moment_keep_the_order_they_were_made_in() -> None:
    agenda = Agenda()
    for name in "abc":
        agenda.after(5, name)
    agenda.advance(5)
    assert agenda.ran == ["a", "b", "c"]


def test_next_deadline() -> None:
    agenda = Agenda()
    assert agenda.timers.next_deadline_ms() is None
    now_ms = agenda.clock.monotonic_ms()
    agenda.after(20, "late")
    early = agenda.after(10, "early")
    assert agenda.timers.next_deadline_ms() == now_ms + 10
    early.cancel()
    assert agenda.timers.next_deadline_ms() == now_ms + 20


def test_an_earlier_deadline_is_told() -> None:
    agenda = Agenda()
    now_ms = agenda.clock.monotonic_ms()
    for delay_ms in (50, 60, 40, 40, 0):
        agenda.after(delay_ms, delay_ms)
    assert agenda.sleeper.told == [now_ms + 50, now_ms + 40, now_ms]


def test_a_timer_may_make_another_that_is_due_already() -> None:
    agenda = Agenda()

    def first() -> None:
        agenda.after(0, "second")

    agenda.timers.after(5, first)
    assert agenda.advance(5) == 2
    assert agenda.ran == ["second"]


def test_a_timer_may_cancel_one_that_is_due_as_well() -> None:
    agenda = Agenda()
    agenda.timers.after(5, lambda: second.cancel())
    second = agenda.after(5, "second")
    agenda.advance(5)
    assert agenda.ran == []


def test_a_timer_may_cancel_itself_and_run_the_agenda() -> None:
    agenda = Agenda()

    def run_all() -> None:
        timer.cancel()
        agenda.timers.run_due()

    timer = agenda.timers.after(5, run_all)
    agenda.after(5, "other")
    agenda.advance(5)
    assert agenda.ran == ["other"]


def test_far_beyond_32_bits() -> None:
    agenda = Agenda()
    ten_years_ms = 315_360_000_000
    agenda.after(ten_years_ms, "late")
    assert agenda.advance(ten_years_ms - 1) == 0
    assert agenda.advance(1) == 1


@given(
    st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=40),
    st.lists(st.integers(0, 30), max_size=8),
)
def test_any_agenda(appointments: list[tuple[int, bool]], steps_ms: list[int]) -> None:
    agenda = Agenda()
    timers = [agenda.after(delay_ms, index) for index, (delay_ms, _) in enumerate(appointments)]
    for timer, (_, is_cancelled) in zip(timers, appointments, strict=True):
        if is_cancelled:
            timer.cancel()
    passed_ms = 0
    for step_ms in [0, *steps_ms]:
        agenda.advance(step_ms)
        passed_ms += step_ms
        wanted = sorted(
            (delay_ms, index)
            for index, (delay_ms, is_cancelled) in enumerate(appointments)
            if not is_cancelled and delay_ms <= passed_ms
        )
        # Within one step they run by deadline; an earlier step's come before.
        assert sorted(agenda.ran, key=lambda index: int(str(index))) == sorted(index for _, index in wanted)
    order = [appointments[int(str(index))][0] for index in agenda.ran]
    assert order == sorted(order)
