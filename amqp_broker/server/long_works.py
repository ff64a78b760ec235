"""The task that goes on with what takes the broker long, a few milliseconds at a time.

What there is to do, and what a slice of it is, the domain knows (``broker/works.py``).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.logs import log_internal_error
from amqp_broker.network.pump import Outbox
from amqp_broker.network.wake_up import WakeUp

# In a round of the event loop: half as long as all the busy clients together are read (``turns.py``), because what is
# done here is mostly for those who have asked for very much, and the others wait for their round meanwhile.
TURN_S = 0.001


async def go_on_with_works(
    broker: Broker, unfinished_work: WakeUp, outbox: Outbox, tell_what_is_kept: Callable[[], None]
) -> None:
    """Do what is unfinished, whenever something is; never returns, ends by cancellation.

    Args:
        unfinished_work: set when there is some.
        outbox: sends what clients are told in a turn when it ends.
        tell_what_is_kept: tells those who wait for the disk, if it is done: called between turns.
    """
    while True:
        await trio.lowlevel.checkpoint()
        if not broker.is_unfinished:
            await unfinished_work.wait()
            continue
        outbox.handle(_take_a_turn, broker)
        tell_what_is_kept()


def finish_what_is_held(broker: Broker) -> None:
    """Finish what holds the journal, because the journal is to be closed: it shall not keep half of a transaction."""
    while broker.durability.is_held and broker.works.unfinished:
        _go_on(broker)


def _take_a_turn(broker: Broker) -> None:
    end_s = time.perf_counter() + TURN_S
    while broker.is_unfinished:
        is_well = _go_on(broker)
        if not is_well or broker.awaiting_commit or time.perf_counter() > end_s:
            return  # who waits for the disk is told in the next round


def _go_on(broker: Broker) -> bool:
    """Do one slice; returns whether that went well."""
    try:
        broker.go_on()
    except (Exception, SystemExit) as error:
        log_internal_error("work", error)
        return False
    return True
