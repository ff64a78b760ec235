"""The last lines of the log, for those who have no other way to it: administrators over HTTP, and the command line.

Holds what would be written, and at which level that is, is the log's own setting (``logs.py``).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncGenerator
from itertools import islice
from typing import Any

import trio

from amqp_broker.logs import LOGGER

LINES_MAX = 1_000
LOOK_EVERY_S = 0.5  # while somebody follows: lines come from any thread, and must cost nothing else


class LogLines(logging.Handler):
    """Keeps the last lines, from ``attach`` to ``detach``."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[tuple[int, logging.LogRecord]] = deque(maxlen=LINES_MAX)
        self._count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self._count += 1
        self.lines.append((self._count, record))

    def attach(self) -> None:
        """Keep what comes from now on."""
        if self not in LOGGER.handlers:
            LOGGER.addHandler(self)

    def detach(self) -> None:
        """Keep nothing more."""
        LOGGER.removeHandler(self)

    async def shown(self, count: int, *, is_followed: bool) -> AsyncGenerator[list[dict[str, Any]], None]:
        """The last lines, as they stand in the log.

        Args:
            count: how many at most.
            is_followed: whether those to come follow, for ever; a list is empty where none came.
        """
        seen = self._count - count
        while True:
            came = self._count - seen
            some = list(self.lines)
            seen = self._count
            yield [{"line": _as_written(record)} for _, record in islice(some, max(0, len(some) - came), None)]
            if not is_followed:
                return
            await trio.sleep(LOOK_EVERY_S)


def _as_written(record: logging.LogRecord) -> str:
    """A line in the form of the log, whichever that is."""
    for handler in LOGGER.handlers:
        if handler.formatter is not None:
            return handler.format(record)
    from amqp_broker.logs import TextFormatter

    return TextFormatter().format(record)
