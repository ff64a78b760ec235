"""Turns of connections to be read, when more arrives than can be handled at once.

A client with little to say is read as soon as it has said it. One that fills what is read at once, or whose last chunk
took long, is busy: in each round of the event loop only so many of the busy ones are read as fit into ``ROUND_S_MAX``,
in the order in which they came back, so that a crowd of them makes nobody else wait for the whole crowd. Where a round
takes long because of all the others, the busy ones get up to half of it, so that they are not starved either.

Connections that end take their turns as well: a crowd may leave in the same moment, for instance when a network fails.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import trio

from amqp_broker.network.wake_up import WakeUp

# How long busy connections are handled in one round of the event loop, all together; more in rounds that are long.
ROUND_S_MAX = 0.002
LONG_ROUND_S_MAX = 0.010


class Turns:
    """The line of the busy connections of one server.

    Args:
        seconds: tells the time that passes.
    """

    def __init__(self, seconds: Callable[[], float] = time.perf_counter) -> None:
        self._seconds = seconds
        self._line: deque[tuple[WakeUp, float]] = deque()
        self._left_s = ROUND_S_MAX  # of this round
        self._is_wanted = WakeUp()

    async def take(self, took_s: float) -> None:
        """Return when a busy connection may be read again.

        Args:
            took_s: how long its last chunk took; the next is expected to take as long.
        """
        self._is_wanted.set()
        if self._left_s > 0 and not self._line:
            self._left_s -= took_s
            return
        my_turn = WakeUp()
        self._line.append((my_turn, took_s))
        await my_turn.wait()

    async def run(self) -> None:
        """Begin a round in each round of the event loop in which somebody is busy; ends by cancellation."""
        began_s = self._seconds()
        while True:
            await self._is_wanted.wait()
            last_began_s, began_s = began_s, self._seconds()
            self._left_s = max(ROUND_S_MAX, min((began_s - last_began_s) / 2, LONG_ROUND_S_MAX))
            while self._line and self._left_s > 0:
                turn, took_s = self._line.popleft()
                self._left_s -= took_s
                turn.set()
            if self._line:
                self._is_wanted.set()
            await trio.lowlevel.checkpoint()
