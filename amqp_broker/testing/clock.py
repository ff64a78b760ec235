"""``broker.clock``: the broker's time, as a test moves it.

It shows real time until a test says otherwise. ``advance`` jumps; ``freeze`` makes it stand, so that nothing becomes
due but by ``advance``. Holds the test's side; the clock itself is ``movable_clock.py``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

from amqp_broker.testing.engine import Engine
from amqp_broker.testing.runners import NurseryRunner, ThreadRunner

IDLE_TIMEOUT_S = 5.0


class _ClockView:
    """The operations that both kinds of clock offer without waiting."""

    def __init__(self, engine: Engine, runner: ThreadRunner | NurseryRunner) -> None:
        self._engine = engine
        self._runner = runner

    @property
    def is_frozen(self) -> bool:
        """Whether it stands still."""
        return self._engine.is_frozen

    def now(self) -> datetime:
        """The time that it shows, in UTC."""
        return datetime.fromtimestamp(self._engine.clock.wall_ms() / 1000, UTC)

    def freeze(self) -> None:
        """Stand still from now on: only ``advance`` moves it."""
        self._runner.look(self._engine.freeze)

    def resume(self) -> None:
        """Go on with real time, from where it stood."""
        self._runner.look(self._engine.resume)


class Clock(_ClockView):
    """The clock of a broker in a thread of its own."""

    _runner: ThreadRunner

    def advance(
        self,
        by: timedelta = timedelta(),
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        milliseconds: float = 0,
        heartbeats: bool = True,
        wait_idle: bool = False,
        timeout_s: float = IDLE_TIMEOUT_S,
    ) -> None:
        """Let time pass, all the given durations together: one deadline after the other, each at its own time.

        When it returns, the deliveries that became due were handed to the sockets.

        Args:
            heartbeats: whether clients count as alive meanwhile. With False their heartbeats fail to come, and those
                that have agreed on some are given up like any that fell silent.
            wait_idle: at each deadline, wait until the consumers have acknowledged what they got.
            timeout_s: how long that may take, in real seconds.

        Raises:
            TimeoutError: with ``wait_idle``, something was still in flight.
            ValueError: the durations are less than nothing, or lead beyond the year 9999.
        """
        units = {"days": days, "hours": hours, "minutes": minutes, "seconds": seconds, "milliseconds": milliseconds}
        self._runner.run(
            partial(
                self._engine.advance,
                _in_ms(by, units),
                heartbeats=heartbeats,
                idle_timeout_s=timeout_s if wait_idle else None,
            )
        )


class AsyncClock(_ClockView):
    """The clock of a broker that an asynchronous program uses."""

    async def advance(
        self,
        by: timedelta = timedelta(),
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        milliseconds: float = 0,
        heartbeats: bool = True,
        wait_idle: bool = False,
        timeout_s: float = IDLE_TIMEOUT_S,
    ) -> None:
        """Let time pass; as ``Clock.advance``."""
        units = {"days": days, "hours": hours, "minutes": minutes, "seconds": seconds, "milliseconds": milliseconds}
        await self._runner.run_async(
            partial(
                self._engine.advance,
                _in_ms(by, units),
                heartbeats=heartbeats,
                idle_timeout_s=timeout_s if wait_idle else None,
            )
        )


def _in_ms(by: timedelta, units: dict[str, float]) -> int:
    if not isinstance(by, timedelta):
        raise TypeError(f"advance({by!r}): of what? Say advance(seconds={by!r}), minutes=, hours=, or give a timedelta")
    try:
        return (by + timedelta(**units)) // timedelta(milliseconds=1)
    except OverflowError:
        raise ValueError("no date tells a time so far away: the year 9999 is the last") from None
