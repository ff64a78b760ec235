"""The operation of a process that serves: limits, listeners and the log, changed for as long as it runs.

What is changed here is in force at once, and the next start has what the settings say. The command line asks for it by
the control socket. Holds no way there, and nothing of the broker.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, get_args

from amqp_broker.broker.problems import AdministrationError
from amqp_broker.logs import LOGGER, log_event
from amqp_broker.network.listeners import CannotListen
from amqp_broker.server.log_lines import LINES_MAX, LogLines
from amqp_broker.server.reception import Reception
from amqp_broker.server.resources import ResourceLimits
from amqp_broker.settings import LogLevel

Arguments = Mapping[str, Any]
SILENT = logging.CRITICAL + 1


class Operations:
    """The operation of one process by whoever runs it.

    Args:
        limits: on memory and disk.
        reception: where clients come in.
        log_lines: the last ones.
    """

    def __init__(self, limits: ResourceLimits, reception: Reception, log_lines: LogLines) -> None:
        self._limits = limits
        self._reception = reception
        self._log_lines = log_lines
        self.commands: Mapping[str, Callable[[str, Arguments], Any]] = {
            "limits.memory": self._limit_memory,
            "limits.disk": self._limit_disk,
            "listeners.suspend": self._suspend,
            "listeners.resume": self._resume,
            "log.level": self._set_level,
        }
        self.streams: Mapping[str, Callable[[Arguments], AsyncGenerator[list[dict[str, Any]], None]]] = {
            "log.show": self._show_log
        }

    def _limit_memory(self, who: str, arguments: Arguments) -> int:
        """Hold publishers back above so many bytes, or above a part of the memory that there is; returns the bytes."""
        limits = self._limits
        size_bytes = _size_bytes(arguments, limits.memory_bytes)
        before, limits.memory_high_water_bytes = limits.memory_high_water_bytes, size_bytes
        _note("memory limit set", who, before, size_bytes)
        limits.tell()
        return size_bytes

    def _limit_disk(self, who: str, arguments: Arguments) -> int:
        """The same where less space than that is free on the disk; a part is one of the memory."""
        limits = self._limits
        size_bytes = _size_bytes(arguments, limits.memory_bytes)
        before, limits.disk_free_limit_bytes = limits.disk_free_limit_bytes, size_bytes
        _note("disk limit set", who, before, size_bytes)
        limits.tell()
        return size_bytes

    def _suspend(self, who: str, arguments: Arguments) -> None:
        """Let no new clients connect; administrators may."""
        self._reception.suspend()
        log_event(logging.WARNING, "listeners suspended", by=who)

    def _resume(self, who: str, arguments: Arguments) -> None:
        """Let them connect again."""
        try:
            self._reception.resume()
        except CannotListen as error:
            raise AdministrationError(str(error)) from error
        log_event(logging.WARNING, "listeners resumed", by=who)

    def _set_level(self, who: str, arguments: Arguments) -> None:
        """Write lines of this level and above; nothing with ``none``."""
        level = arguments.get("level")
        if level != "none" and level not in get_args(LogLevel):
            raise AdministrationError(f"there is no log level {level!r}: one of {', '.join(get_args(LogLevel))}, none")
        log_event(logging.WARNING, "log level set", by=who, level=str(level))
        LOGGER.setLevel(SILENT if level == "none" else str(level).upper())

    def _show_log(self, arguments: Arguments) -> AsyncGenerator[list[dict[str, Any]], None]:
        count = arguments.get("count", LINES_MAX)
        if not isinstance(count, int) or count < 0:
            raise AdministrationError("count must be a number of lines")
        return self._log_lines.shown(count, is_followed=arguments.get("follow") is True)


def _size_bytes(arguments: Arguments, memory_bytes: int) -> int:
    size_bytes, part = arguments.get("bytes"), arguments.get("part_of_memory")
    if isinstance(part, int | float) and part >= 0:
        return int(part * memory_bytes)
    if isinstance(size_bytes, int) and size_bytes >= 0:
        return size_bytes
    raise AdministrationError("a limit is a number of bytes, or a part of the memory")


def _note(event: str, who: str, before: int, after: int) -> None:
    log_event(logging.WARNING, event, by=who, before=before, after=after)
