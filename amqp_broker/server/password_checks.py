"""Slow password hashes are computed in threads, few at a time, so that logins never stop the event loop.

Whoever waits waits in line. A check whose client has gone meanwhile, or whose answer another client's check has found,
costs nothing when its turn comes: a storm of logins with one password is one computation.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from amqp_broker.access.passwords import NotVerifiedYet
from amqp_broker.broker.broker import Broker
from amqp_broker.logs import log_internal_error

AT_ONCE_MAX = 2


class PasswordChecks:
    """The line of checks of one broker.

    Args:
        broker: whose.
        nursery: where they are waited for.
    """

    def __init__(self, broker: Broker, nursery: trio.Nursery) -> None:
        self._broker = broker
        self._nursery = nursery
        self._limiter = trio.CapacityLimiter(AT_ONCE_MAX)

    def begin(self, check: NotVerifiedYet, go_on: Callable[[], None], is_wanted: Callable[[], bool]) -> None:
        """Take a check into the line."""
        self._nursery.start_soon(self._run, check, go_on, is_wanted)

    async def _run(self, check: NotVerifiedYet, go_on: Callable[[], None], is_wanted: Callable[[], bool]) -> None:
        async with self._limiter:
            if not is_wanted():
                return
            if not check.is_known():
                check.remember(await _verified(check))
        try:
            self._broker.handle(go_on)
        except (Exception, SystemExit) as error:
            log_internal_error("login", error)


async def _verified(check: NotVerifiedYet) -> bool:
    """Whether the password is right; where that cannot be found out, it is not."""
    try:
        # A limiter of its own: trio's is shared with the journal's flusher.
        return await trio.to_thread.run_sync(check.verify, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1))
    except Exception as error:  # parameters in an imported hash that the library refuses, or too little memory
        log_internal_error("login", error)
        return False
