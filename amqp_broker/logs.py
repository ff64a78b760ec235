"""The broker's log for its administrator: structured lines on standard error, through the standard logging module.

A line is an event with fields, written as ``key=value`` or as a JSON object. Every value is quoted so that nothing a
client sends can begin a line of its own or pass for another field. Passwords and message bodies are never handed in.
Does not hold which events there are; who sees them happen logs them.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import time
from typing import Final, TextIO

from amqp_broker.settings import LogFormat, LogLevel

LOGGER = logging.getLogger("amqp_broker")
LOGGER.addHandler(logging.NullHandler())  # nothing is written until somebody says where to

FieldValue = str | int | float | bool | None

REPEATED_EVERY_S: Final = 60.0
REPEATED_MAX: Final = 20  # different lines in that time

_NEEDS_NO_QUOTES = re.compile(r"[A-Za-z0-9_.:/@%+*,\[\]-]+")


def log_event(severity: int, event: str, **fields: FieldValue) -> None:
    """Write one line; fields that are None are left out.

    Args:
        severity: a level of the standard logging module.
        event: what happened, always the same words for the same event.
        fields: the particulars.
    """
    if LOGGER.isEnabledFor(severity):
        given = {key: value for key, value in fields.items() if value is not None}
        LOGGER.log(severity, event, extra={"fields": given})


class RepeatedLines:
    """Lines that may come many times a second: each is written at once, then once a minute with how often it came.

    Strangers may be the cause of ever new ones: when there are too many in a minute, the rest counts as one.
    """

    def __init__(self) -> None:
        self._lines: dict[tuple[str, tuple[FieldValue, ...]], tuple[float, int]] = {}  # when written; how often since

    def log_event(self, now_s: float, severity: int, event: str, **fields: FieldValue) -> None:
        """Write one line (``log_event``), or count it; ``times`` is how often it came since it was written last.

        Args:
            now_s: on a clock that does not go back.
            severity: a level of the standard logging module.
            event: what happened.
            fields: the particulars; a line with others is another line.
        """
        line = (event, tuple(fields.values()))
        if line not in self._lines and len(self._lines) >= REPEATED_MAX:
            self._forget_before(now_s - REPEATED_EVERY_S)
            if len(self._lines) >= REPEATED_MAX:
                line = (event, ())
        written_s, times = self._lines.get(line, (-math.inf, 0))
        times += 1
        if now_s - written_s >= REPEATED_EVERY_S:
            log_event(severity, event, **fields, times=times if times > 1 else None)
            written_s, times = now_s, 0
        self._lines[line] = written_s, times

    def _forget_before(self, then_s: float) -> None:
        for line in [line for line, (written_s, _) in self._lines.items() if written_s <= then_s]:
            del self._lines[line]


class Waiting:
    """Lines while something is waited for: one at once, one a minute, and one when it is there, with how long it took.

    Args:
        event: that it is waited for.
        end_event: that it is there.
    """

    def __init__(self, event: str, end_event: str) -> None:
        self._event = event
        self._end_event = end_event
        self._began_s: float | None = None
        self._said_s = 0.0

    def go_on(self, now_s: float, reason: str) -> None:
        """It is still not there.

        Args:
            now_s: on a clock that does not go back.
            reason: why, as far as is known.
        """
        if self._began_s is None:
            self._began_s = now_s
        elif now_s - self._said_s < REPEATED_EVERY_S:
            return
        self._said_s = now_s
        log_event(logging.WARNING, self._event, reason=reason, seconds=round(now_s - self._began_s) or None)

    def end(self, now_s: float) -> None:
        """It is there; nothing is said where it was not waited for."""
        if self._began_s is not None:
            log_event(logging.WARNING, self._end_event, seconds=round(now_s - self._began_s, 1))
            self._began_s = None


def log_internal_error(where: str, error: BaseException, **fields: FieldValue) -> None:
    """Write one line about a defect of the broker itself; with its traceback when debug is on."""
    log_event(logging.ERROR, "internal error", where=where, error=f"{type(error).__name__}: {error}", **fields)
    LOGGER.debug("traceback of the internal error in %s", where, exc_info=error)


def set_up_logs(level: LogLevel, log_format: LogFormat, stream: TextIO | None = None) -> None:
    """Send the broker's log lines to a stream from now on.

    Args:
        level: the least severity that is written.
        log_format: how a line is written.
        stream: where to; standard error when left out.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    LOGGER.handlers[:] = [handler]
    LOGGER.propagate = False
    LOGGER.setLevel(level.upper())


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_fields_of(record))


class TextFormatter(logging.Formatter):
    """``key=value`` pairs, quoted as in JSON where a value holds more than plain characters."""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{key}={_quoted(value)}" for key, value in _fields_of(record).items())


def _fields_of(record: logging.LogRecord) -> dict[str, FieldValue]:
    fields: dict[str, FieldValue] = {
        "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
        "level": record.levelname.lower(),
        "event": record.getMessage(),
    }
    fields.update(getattr(record, "fields", {}))
    if record.exc_info:
        fields["traceback"] = logging.Formatter().formatException(record.exc_info)
    return fields


def _quoted(value: FieldValue) -> str:
    if isinstance(value, str) and not _NEEDS_NO_QUOTES.fullmatch(value):
        return json.dumps(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
