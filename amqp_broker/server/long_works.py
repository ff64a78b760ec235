"""The task that goes on with what takes the broker long, a few milliseconds at a time.

What there is to do, and what a slice of it is, the domain knows (``broker/works.py``).
"""

from __future__ import annotations

import math
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

# Who waited for the disk a moment ago most likely will again, and is to be heard soon: a turn is one slice meanwhile.
AWAITED_S = 0.010


async def go_on_with_works(
    broker: Broker, unfinished_work: WakeUp, outbox: Outbox, tell_what_is_kept: Callable[[], None]
) -> None:
    """Do what is unfinished, whenever something is; never returns, ends by cancellation.

    Args:
        unfinished_work: set when there is some.
        outbox: sends what clients are told in a turn when it ends.
        tell_what_is_kept: tells those who wait for the disk, if it is done: called between turns.
    """
    turns = WorkTurns()
    while True:
        await trio.lowlevel.checkpoint()
        if not broker.is_unfinished:
            await unfinished_work.wait()
            continue
        outbox.handle(turns.take, broker)
        tell_what_is_kept()


def finish_what_is_held(broker: Broker) -> None:
    """Finish what holds the journal, because the journal is to be closed: it shall not keep half of a transaction."""
    while broker.durability.is_held and broker.works.unfinished:
        _go_on(broker)


class WorkTurns:
    """The turns of what is unfinished.

    Args:
        seconds: tells the time that passes.
    """

    def __init__(self, seconds: Callable[[], float] = time.perf_counter) -> None:
        self._seconds = seconds
        self._awaited_s = -math.inf  # when somebody was last seen to wait for the disk

    def take(self, broker: Broker) -> None:
        """Take one."""
        end_s = self._seconds() + TURN_S
        while broker.is_unfinished:
            is_well = _go_on(broker)
            now_s = self._seconds()
            if broker.awaiting_commit:
                self._awaited_s = now_s
            if not is_well or now_s - self._awaited_s < AWAITED_S or now_s > end_s:
                return


def _go_on(broker: Broker) -> bool:
    """Do one slice; returns whether that went well."""
    try:
        broker.go_on()
    except (Exception, SystemExit) as error:
        log_internal_error("work", error)
        return False
    return True
