"""The one task that wakes the broker when something is due. What is due, and what then happens, the domain knows."""

from __future__ import annotations

import math

import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.logs import log_internal_error
from amqp_broker.network.wake_up import WakeUp

# After a failure the deadline that failed may still stand; without a pause the loop would spin on it.
PAUSE_AFTER_FAILURE_S = 0.1
WAIT_MS_MAX = 86_400_000  # then it looks again: a number of milliseconds may have more digits than a time has room for


async def run_timers(broker: Broker, earlier_deadline: WakeUp) -> None:
    """Do what the broker's agenda holds when it is due; never returns, ends by cancellation.

    Args:
        earlier_deadline: set when a deadline comes forward, or the clock was moved.
    """
    while True:
        await _sleep_until_due(broker, earlier_deadline)
        try:
            broker.run_due()
        except (Exception, SystemExit) as error:
            log_internal_error("timer", error)
            await trio.sleep(PAUSE_AFTER_FAILURE_S)


async def _sleep_until_due(broker: Broker, earlier_deadline: WakeUp) -> None:
    await trio.lowlevel.checkpoint()
    while True:
        deadline_ms = broker.timers.next_deadline_ms()
        if deadline_ms is None:
            await earlier_deadline.wait()
            continue
        wait_ms = deadline_ms - broker.clock.monotonic_ms()
        if wait_ms <= 0:
            return
        with trio.move_on_after(min(wait_ms, WAIT_MS_MAX) / 1000 if broker.clock.is_running else math.inf):
            await earlier_deadline.wait()
