"""Admission of requests: one begins in a round of the event loop, however many connections ask at the same time.

What a request costs at once is some milliseconds; a crowd of them in one round would make everybody else wait for all.
"""

from __future__ import annotations

import trio


class Admission:
    """Lets requests begin one after the other, in the order of their coming."""

    def __init__(self) -> None:
        self._lock = trio.Lock()

    async def wait(self) -> None:
        """Return when a request may begin: the next one does in a later round."""
        async with self._lock:
            await trio.lowlevel.checkpoint()
