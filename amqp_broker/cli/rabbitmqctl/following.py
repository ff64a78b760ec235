"""The commands that show the log and events, once or as they come."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from amqp_broker.cli.rabbitmqctl.call import Call
from amqp_broker.cli.rabbitmqctl.commands import Command, Commands
from amqp_broker.cli.rabbitmqctl.node import MONITORING
from amqp_broker.cli.rabbitmqctl.outcome import Code, Report, Result, Table, WrongUse

LINES = "10"  # of log_tail, as RabbitMQ has it


def log_location(call: Call) -> Result:
    """Where the log goes."""
    call.say(f"Log file location(s) on node {call.node} ...")
    call.ask("status")
    return Report(["<stderr>"])


def log_tail(call: Call) -> Result:
    """The last lines of the log."""
    count = _number(call, "number", LINES)
    assert count is not None
    call.say(f"Last {count} log lines on node {call.node} ...")
    lines = [row["line"] for row in call.ask_list("log.show", count=count)]
    if call.formatter == "json":
        return Table(("message",), [{"message": line} for line in lines], is_stream=True)
    return Report(lines)


def log_tail_stream(call: Call) -> Result:
    """The lines of the log that come."""
    for row in _coming(call, "log.show", "Streaming logs", count=0, follow=True):
        print(row["line"], flush=True)
    return None


def consume_event_stream(call: Call) -> Result:
    """The events that come, a line of JSON each."""
    written = call.options.get("pattern", ".*")
    try:
        pattern = re.compile(written)
    except re.error as error:
        raise WrongUse(f"Bad argument: {written} is no regular expression: {error}", Code.DATA) from error
    for event in _coming(call, "events.follow", "Streaming logs"):
        if pattern.search(event["event"]):
            print(json.dumps(event, separators=(",", ":")), flush=True)
    return None


def _coming(call: Call, command: str, banner: str, **arguments: Any) -> Iterator[dict[str, Any]]:
    """What comes, until the time is over, the broker ends, or Ctrl-C."""
    duration_s = _number(call, "duration", None)
    how_long = "" if duration_s is None else f" for {duration_s} seconds"
    if command == "log.show":  # events are lines of JSON, and nothing else stands among them
        call.say(f"{banner} from node {call.node}{how_long} ...")
    end_s = None if duration_s is None else time.monotonic() + duration_s
    try:
        for rows in call.follow(command, **arguments):
            yield from rows
            if end_s is not None and time.monotonic() >= end_s:
                return
    except KeyboardInterrupt:
        return


def _number(call: Call, option: str, default: str | None) -> int | None:
    written = call.options.get(option, default)
    if written is None:
        return None
    if not written.isdecimal():
        raise WrongUse(f"Invalid options for this command:\n--{option} : {written}")
    return int(written)


_command = partial(Command, MONITORING)
_DURATION = "[--duration|-d <seconds>]"

COMMANDS: Commands = {
    "consume_event_stream": _command(
        f"{_DURATION} [--pattern <pattern>]",
        "Shows what happens as it does, but to messages: lines of JSON",
        consume_event_stream,
        options={"duration": True, "pattern": True},
        short={"d": "duration"},
    ),
    "log_location": _command(
        "[--all|-a]", "Says where the log goes", log_location, options={"all": False}, short={"a": "all"}
    ),
    "log_tail": _command(
        "[--number|-N <number>]",
        "Shows the last lines of the log",
        log_tail,
        options={"number": True},
        short={"N": "number"},
    ),
    "log_tail_stream": _command(
        _DURATION,
        "Shows the lines of the log as they come",
        log_tail_stream,
        options={"duration": True},
        short={"d": "duration"},
    ),
}
