"""The task that goes on with what takes the broker long, a few milliseconds at a time.

What there is to do, and what a slice of it is, the domain knows (``broker/works.py``).
"""

from __future__ import annotations

import time

import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.logs import log_internal_error
from amqp_broker.network.wake_up import WakeUp

# In a round of the event loop; as long as all the busy clients together are read (``turns.py``).
TURN_S = 0.002


async def go_on_with_works(broker: Broker, unfinished_work: WakeUp) -> None:
    """Do what is unfinished, whenever something is; never returns, ends by cancellation.

    Args:
        unfinished_work: set when there is some.
    """
    while True:
        await trio.lowlevel.checkpoint()
        if not broker.is_unfinished:
            await unfinished_work.wait()
            continue
        try:
            _take_a_turn(broker)
        except (Exception, SystemExit) as error:
            log_internal_error("work", error)


def _take_a_turn(broker: Broker) -> None:
    end_s = time.perf_counter() + TURN_S
    while broker.is_unfinished:
        broker.go_on()
        if time.perf_counter() > end_s:
            return
