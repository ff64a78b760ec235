"""Ends connections whose client takes nothing of what waits for it: it hangs, or it wants to hold our memory.

Looks at all connections now and then, because a timer for each write would cost more than the write. Does not hold
heartbeats, which find clients that say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import trio

from amqp_broker.logs import log_internal_error
from amqp_broker.server.protocols import ClientConnection

LOOKS_PER_TIMEOUT = 8


async def shed_stalled(connections: Callable[[], Iterable[ClientConnection]], timeout_ms: int) -> None:
    """Look again and again, until cancelled.

    Args:
        connections: those there are.
        timeout_ms: how long a client may take nothing; an eighth of it may be added. 0: for ever.
    """
    watch = StallWatch()
    while timeout_ms:
        await trio.sleep(timeout_ms / 1000 / LOOKS_PER_TIMEOUT)
        for connection in watch.look(connections(), trio.current_time() * 1000, timeout_ms):
            try:
                connection.lost(f"the client has taken nothing for {timeout_ms} ms")
            except (Exception, SystemExit) as error:  # the others are looked after all the same
                log_internal_error("stalled connection", error)


class StallWatch:
    """Remembers when each client has taken something last."""

    def __init__(self) -> None:
        self._seen: dict[ClientConnection, tuple[int, float]] = {}  # bytes sent until then, and since when no more

    def look(self, connections: Iterable[ClientConnection], now_ms: float, timeout_ms: int) -> list[ClientConnection]:
        """Who has taken nothing for so long, although something waits."""
        before, self._seen = self._seen, {}
        stalled = []
        for connection in connections:
            sent_bytes, since_ms = before.get(connection, (-1, now_ms))
            if not connection.waiting_bytes or connection.sent_bytes != sent_bytes:
                sent_bytes, since_ms = connection.sent_bytes, now_ms
            self._seen[connection] = sent_bytes, since_ms
            if now_ms - since_ms >= timeout_ms:
                stalled.append(connection)
        return stalled
