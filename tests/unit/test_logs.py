"""Log lines: what a client sends can neither forge a field nor begin a line."""

from __future__ import annotations

import io
import json
import logging

import pytest

from amqp_broker.logs import REPEATED_MAX, RepeatedLines, Waiting, log_event, log_internal_error, set_up_logs
from amqp_broker.settings import LogFormat, LogLevel


def logged(log_format: LogFormat = "text", level: LogLevel = "info") -> io.StringIO:
    stream = io.StringIO()
    set_up_logs(level, log_format, stream)
    return stream


def test_a_line_is_time_level_event_and_fields() -> None:
    stream = logged()
    log_event(logging.INFO, "connection opened", peer="[::1]:5", user="guest", vhost="/", nothing=None, duration_s=1.5)
    time, rest = stream.getvalue().split(" ", 1)
    assert time.startswith("time=20")
    assert time.endswith("Z")
    assert rest == 'level=info event="connection opened" peer=[::1]:5 user=guest vhost=/ duration_s=1.5\n'


@pytest.mark.parametrize(
    "hostile", ['x" level=error event="forged', "x\nlevel=error", "x level=error", "\x1b[2J", "", "a=b", "\udc80", "é"]
)
def test_a_hostile_value_stays_one_quoted_value(hostile: str) -> None:
    stream = logged()
    log_event(logging.INFO, "event", user=hostile)
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert line.isascii()
    assert line.isprintable() or line[:-1].isprintable()
    quoted = line.rstrip("\n").split(" user=", 1)[1]
    assert json.loads(quoted) == hostile


def test_json_lines() -> None:
    stream = logged("json")
    log_event(logging.WARNING, "connection failed", user='x"\n', count=3)
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line) == {
        "time": json.loads(line)["time"],
        "level": "warning",
        "event": "connection failed",
        "user": 'x"\n',
        "count": 3,
    }


def test_the_level_decides_what_is_written() -> None:
    stream = logged(level="warning")
    log_event(logging.INFO, "not this")
    log_event(logging.WARNING, "but this")
    assert "not this" not in stream.getvalue()
    assert "but this" in stream.getvalue()


@pytest.mark.parametrize(("level", "lines"), [("info", 1), ("debug", 2)])
def test_an_internal_error_is_one_line_and_its_traceback_is_for_debug(level: LogLevel, lines: int) -> None:
    stream = logged(level=level)
    try:
        raise ZeroDivisionError("by nothing")
    except ZeroDivisionError as error:
        log_internal_error("connection", error, peer="p")
    written = stream.getvalue().splitlines()
    assert len(written) == lines
    assert written[0].endswith(
        'level=error event="internal error" where=connection error="ZeroDivisionError: by nothing" peer=p'
    )
    assert ("test_logs.py" in stream.getvalue()) is (level == "debug")


def test_a_line_that_comes_again_and_again_is_written_once_a_minute_with_how_often_it_came() -> None:
    stream, lines = logged(), RepeatedLines()
    for tenth in range(1205):
        lines.log_event(tenth / 10, logging.ERROR, "link failed", reason="of one")
        if tenth == 3:
            lines.log_event(tenth / 10, logging.ERROR, "link failed", reason="of another")
    written = [line.partition('event="link failed" ')[2] for line in stream.getvalue().splitlines()]
    once = 'reason="of one"'
    assert written == [once, 'reason="of another"', f"{once} times=600", f"{once} times=600"]


def test_strangers_who_cause_ever_new_lines_do_not_fill_the_log() -> None:
    stream, lines = logged(), RepeatedLines()
    for number in range(100 * REPEATED_MAX):
        lines.log_event(number / 1000, logging.ERROR, "link failed", reason=str(number))
    assert len(stream.getvalue().splitlines()) == REPEATED_MAX + 1
    lines.log_event(61.0, logging.ERROR, "link failed", reason="a new one")
    assert len(stream.getvalue().splitlines()) == REPEATED_MAX + 2
    assert len(lines._lines) <= REPEATED_MAX + 1


def test_what_is_waited_for_is_said_at_once_then_once_a_minute_and_in_the_end_with_how_long_it_took() -> None:
    stream, waiting = logged(), Waiting("waiting for etcd", "etcd answers")
    waiting.end(0.0)
    for second in range(130):
        waiting.go_on(100.0 + second, "it is silent" if second % 2 else "it is gone")
    waiting.end(230.5)
    waiting.end(231.0)
    waiting.go_on(300.0, "again")
    written = [line.partition("event=")[2] for line in stream.getvalue().splitlines()]
    assert written == [
        '"waiting for etcd" reason="it is gone"',
        '"waiting for etcd" reason="it is gone" seconds=60',
        '"waiting for etcd" reason="it is gone" seconds=120',
        '"etcd answers" seconds=130.5',
        '"waiting for etcd" reason=again',
    ]
