"""The last lines of the log, for those who have no other way to it: from the first administrator's connection on.

Holds what would be written, and at which level that is, is the log's own setting (``logs.py``). Holds no endpoint.
"""

from __future__ import annotations

import logging
from collections import deque

import trio

from amqp_broker.logs import LOGGER

LINES_MAX = 1_000


class LogLines(logging.Handler):
    """Keeps the last lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[tuple[int, logging.LogRecord]] = deque(maxlen=LINES_MAX)
        self._count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self._count += 1
        self.lines.append((self._count, record))

    async def keep(self) -> None:
        """Keep what comes, until cancelled."""
        LOGGER.addHandler(self)
        try:
            await trio.sleep_forever()
        finally:
            LOGGER.removeHandler(self)
