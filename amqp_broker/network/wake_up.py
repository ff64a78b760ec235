"""A wake-up call for one waiting task, cheaper than an event that must be made anew for every wait."""

from __future__ import annotations

import trio


class WakeUp:
    """Set by anybody, waited for by one task at a time. A call that comes while nobody waits is kept, once.

    ``wait`` is a checkpoint only when it really waits; the loop around it must have another one.
    """

    __slots__ = ("_is_set", "_waiter")

    def __init__(self) -> None:
        self._is_set = False
        self._waiter: trio.lowlevel.Task | None = None

    def set(self) -> None:
        """Wake the waiting task, or let the next ``wait`` return at once."""
        waiter = self._waiter
        if waiter is None:
            self._is_set = True
        else:
            self._waiter = None
            trio.lowlevel.reschedule(waiter)

    async def wait(self) -> None:
        """Return once ``set`` has been called since the last return."""
        if self._is_set:
            self._is_set = False
            return
        self._waiter = trio.lowlevel.current_task()

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            self._waiter = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
