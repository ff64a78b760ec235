"""The commands that change a broker for as long as it runs: limits on memory and disk, listeners, the log's level.

The next start has what the settings say, as with RabbitMQ.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from amqp_broker.cli.rabbitmqctl.call import Call
from amqp_broker.cli.rabbitmqctl.commands import Command, Commands
from amqp_broker.cli.rabbitmqctl.node import CONFIGURATION, NODES
from amqp_broker.cli.rabbitmqctl.outcome import Code, Failed, Result, WrongUse
from amqp_broker.cli.rabbitmqctl.values import size_bytes

UPGRADE = "Upgrade"
LEVELS = {"debug": "debug", "info": "info", "notice": "info", "warning": "warning", "error": "error"}
LEVELS |= {"critical": "error", "alert": "error", "emergency": "error", "none": "none"}
REASON = "The node is being put under maintenance"


def _bad_argument(text: str = "Bad argument.") -> WrongUse:
    return WrongUse(text, Code.DATA)


def _size_bytes(written: str) -> int:
    found = size_bytes(written)
    if found is None:
        raise _bad_argument()
    return found


def _part(written: str, most: float | None) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", written):
        raise _bad_argument()
    if most is not None and float(written) > most:
        raise _bad_argument(f"Bad argument: The threshold should be a fraction between 0.0 and {most}")
    return float(written)


def set_memory_limit(call: Call) -> Result:
    """Hold publishers back above so much memory."""
    first, *rest = call.words
    if first == "absolute":
        if not rest:
            raise WrongUse("not enough arguments.")
        limit: dict[str, Any] = {"bytes": _size_bytes(rest[0])}
        about = f"{rest[0]} bytes"
    elif rest:
        raise WrongUse("too many arguments.")
    else:
        limit, about = {"part_of_memory": _part(first, 1.0)}, first
    call.say(f"Setting memory threshold on {call.node} to {about} ...")
    call.ask("limits.memory", **limit)
    return None


def set_disk_limit(call: Call) -> Result:
    """Hold publishers back while less than that is free on the disk."""
    first, *rest = call.words
    if first == "mem_relative":
        if not rest:
            raise WrongUse("not enough arguments.")
        limit: dict[str, Any] = {"part_of_memory": _part(rest[0], None)}
        about = f"{rest[0]} times the total RAM"
    elif rest:
        raise WrongUse("too many arguments.")
    else:
        limit, about = {"bytes": _size_bytes(first)}, f"{first} bytes"
    call.say(f"Setting disk free limit on {call.node} to {about} ...")
    call.ask("limits.disk", **limit)
    return None


def set_log_level(call: Call) -> Result:
    """Write lines of this level and above; here there are no categories."""
    level = call.words[-1]
    if level not in LEVELS:
        raise Failed(Code.UNAVAILABLE, f"level {level} is not supported. Try one of {', '.join(LEVELS)}")
    category = f'"{call.words[0]}" category' if len(call.words) > 1 else "default category"
    call.say(f'Setting log level to "{level}" for {category} on node {call.node} ...')
    call.ask("log.level", level=LEVELS[level])
    return None


def suspend_listeners(call: Call) -> Result:
    """Let no new clients connect; those that are here stay."""
    call.say(
        f"Will suspend client connection listeners on node {call.node}. No new client connections will be accepted."
    )
    call.ask("listeners.suspend")
    return None


def resume_listeners(call: Call) -> Result:
    """Let them connect again."""
    call.say(f"Will resume client connection listeners on node {call.node}. New client connections will be accepted.")
    call.ask("listeners.resume")
    return None


def drain(call: Call) -> Result:
    """Let no new clients connect, and have those that are here go elsewhere."""
    call.say(f"Will put node {call.node} into maintenance mode. The node will no longer serve any client traffic!")
    call.ask("listeners.suspend")
    call.ask("connections.close-many", reason=REASON, limit=0)
    return None


def revive(call: Call) -> Result:
    """The opposite."""
    about = "The node will again serve client traffic and host primary queue replicas."
    call.say(f"Will put node {call.node} back into regular operating mode. {about}")
    call.ask("listeners.resume")
    return None


_configuration = partial(Command, CONFIGURATION)

COMMANDS: Commands = {
    "resume_listeners": Command(NODES, "", "Lets clients connect again", resume_listeners),
    "set_disk_free_limit": _configuration(
        "<disk_limit> | mem_relative <fraction>",
        "Sets how much disk must be free, until the broker ends",
        set_disk_limit,
        (1, 2),
    ),
    "set_log_level": _configuration(
        "[<category>] <log_level>", "Sets the least level that is logged, until the broker ends", set_log_level, (1, 2)
    ),
    "set_vm_memory_high_watermark": _configuration(
        "<fraction> | absolute <value>",
        "Sets how much memory may be used, until the broker ends",
        set_memory_limit,
        (1, 2),
    ),
    "suspend_listeners": Command(NODES, "", "Lets no new clients connect", suspend_listeners),
}
UPGRADE_COMMANDS: Commands = {
    "drain": Command(UPGRADE, "[--timeout <timeout>]", "Lets no clients connect, and closes their connections", drain),
    "revive": Command(UPGRADE, "[--timeout <timeout>]", "Lets clients connect again", revive),
}
