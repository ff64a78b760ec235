"""The commands of rabbitmq-streams, and those of rabbitmqctl that its plugin brings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from amqp_broker.cli.rabbitmqctl.call import Call
from amqp_broker.cli.rabbitmqctl.commands import Command, Commands
from amqp_broker.cli.rabbitmqctl.lists import CONNECTIONS, chosen_columns, shown
from amqp_broker.cli.rabbitmqctl.outcome import Code, Failed, Report, Result, Table, WrongUse
from amqp_broker.cli.rabbitmqctl.refused import OF_STREAMS, commands_of
from amqp_broker.cli.rabbitmqctl.stream_clients import COMMANDS as OF_CLIENTS
from amqp_broker.cli.rabbitmqctl.stream_clients import STREAMS
from amqp_broker.cli.rabbitmqctl.values import size_bytes

PROTOCOL = "stream"
PARTITIONS = "3"
STATUS_COLUMNS = ("role", "node", "epoch", "offset", "committed_offset", "first_offset", "readers", "segments")
EPOCH = 1  # as chunks have it: one node has written all of them
STREAM_CONNECTIONS = {**CONNECTIONS, "conn_name": CONNECTIONS["name"]}  # as RabbitMQ calls it here
LEADER_LOCATORS = ("client-local", "balanced", "least-leaders", "random")
AGE_UNITS = ("Y", "M", "D", "h", "m", "s")
DURATION = re.compile(r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?", re.ASCII)
DURATION_UNITS_S = (31_536_000, 2_592_000, 604_800, 86_400, 3_600, 60, 1)


def add_super_stream(call: Call) -> Result:
    """An exchange with a stream for each partition."""
    from amqp_broker.cli.streams import PARTITIONS_MAX, definitions_of

    name, options = call.words[0], call.options
    if "partitions" in options and ("binding-keys" in options or "routing-keys" in options):
        raise WrongUse("Specify --partitions or --binding-keys, not both.")
    written = options.get("binding-keys", options.get("routing-keys"))
    if written is None:
        count = _number(options, "partitions", PARTITIONS)
        if not count:
            raise WrongUse("The partition number must be greater than 0")
        keys = list(map(str, range(count)))
    else:
        keys = [key.strip() for key in written.split(",")]
    if not 0 < len(keys) <= PARTITIONS_MAX or len(set(keys)) < len(keys):
        raise WrongUse(f"There can be 1 to {PARTITIONS_MAX} partitions, each with another key")
    arguments = _arguments(options)
    call.say("Adding a super stream...")
    there = call.ask_list("exchanges.list", vhost=call.virtual_host)
    if any(row["name"] == name for row in there):
        raise Failed(Code.SOFTWARE, f"there is already an exchange named {name}")
    definitions = definitions_of(name, keys, arguments)
    call.ask("definitions.import", definitions=definitions, vhost=call.virtual_host)
    return Report([f"Super stream {name} has been created"])


def _number(options: Mapping[str, str], option: str, default: str) -> int:
    written = options.get(option, default)
    if not written.isdecimal():
        raise WrongUse(f"Invalid options for this command:\n--{option} : {written}")
    return int(written)


def _arguments(options: Mapping[str, str]) -> dict[str, Any]:
    """Those of each partition; where its leader shall be means nothing here, and is checked all the same."""
    arguments: dict[str, Any] = {"x-queue-type": "stream"}
    if "max-age" in options:
        arguments["x-max-age"] = _age(options["max-age"])
    for option, argument in (
        ("max-length-bytes", "x-max-length-bytes"),
        ("stream-max-segment-size-bytes", "x-stream-max-segment-size-bytes"),
    ):
        if option in options:
            size = size_bytes(options[option])
            if size is None:
                raise WrongUse(f"Invalid value for --{option}, valid example values: 100gb, 50mb")
            arguments[argument] = size
    if options.get("leader-locator", LEADER_LOCATORS[0]) not in LEADER_LOCATORS:
        raise WrongUse(f"Invalid value for --leader-locator, valid values are {', '.join(LEADER_LOCATORS)}.")
    _number(options, "initial-cluster-size", "1")
    return arguments


def _age(written: str) -> str:
    """An age as ``x-max-age`` has it, of a duration of ISO 8601 or of what is one already.

    Raises:
        WrongUse: it is neither.
    """
    if re.fullmatch(f"[0-9]+[{''.join(AGE_UNITS)}]", written):
        return written
    found = DURATION.fullmatch(written)
    if found is None or not any(found.groups()):
        raise WrongUse(
            "Invalid value for --max-age, the value must be an ISO 8601 duration, "
            "e.g. PT10M30S for 10 minutes 30 seconds, P5DT8H for 5 days 8 hours, or as 12h."
        )
    return f"{sum(int(count or 0) * unit_s for count, unit_s in zip(found.groups(), DURATION_UNITS_S, strict=True))}s"


def delete_super_stream(call: Call) -> Result:
    """The exchange, and the partitions with all that is in them."""
    name = call.words[0]
    call.say("Deleting a super stream...")
    missing = Failed(Code.SOFTWARE, "stream_not_found")
    call.ask("streams.delete-super-stream", vhost=call.virtual_host, name=name, missing=missing)
    return None


def list_stream_connections(call: Call) -> Result:
    """The connections of the stream protocol."""
    names = chosen_columns(call, STREAM_CONNECTIONS, ("name", "user", "vhost", "state"))
    call.say("Listing stream connections ...")
    rows = [row for row in call.ask_list("connections.list") if row["protocol"].startswith(PROTOCOL)]
    return shown(rows, names, STREAM_CONNECTIONS)


def stream_status(call: Call) -> Result:
    """Where a stream is, and its entries."""
    name = call.words[0]
    call.say(f"Status of stream {name} on node {call.node} ...")
    found = call.ask("queues.show", vhost=call.virtual_host, name=name, missing=call.not_found())
    if "end_offset" not in found:
        raise Failed(Code.UNAVAILABLE, f"Cannot get stream status of a {found['type']} queue")
    last = found["end_offset"] - 1
    values = ("writer", call.node, EPOCH, last, last, found["first_offset"], found["consumers"], None)
    columns = [name for name in STATUS_COLUMNS if name != "epoch" or not call.is_of_3_10()]
    return Table(columns, [dict(zip(STATUS_COLUMNS, values, strict=True))], is_stream=True, is_drawn=True)


_HOST = "[--vhost <vhost>]"

COMMANDS: Commands = {
    "add_super_stream": Command(
        STREAMS,
        f"<name> {_HOST} [--partitions <partitions>] [--binding-keys <keys>] [--max-age <age>] "
        "[--max-length-bytes <bytes>]",
        "Adds an exchange with a stream for each partition",
        add_super_stream,
        (1, 1),
        {
            **dict.fromkeys(("partitions", "binding-keys", "routing-keys", "max-age", "max-length-bytes"), True),
            **dict.fromkeys(("stream-max-segment-size-bytes", "leader-locator", "initial-cluster-size"), True),
        },
    ),
    "delete_super_stream": Command(
        STREAMS, f"<name> {_HOST}", "Deletes it with all that is in it", delete_super_stream, (1, 1)
    ),
    "list_stream_connections": Command(
        STREAMS,
        "[<column> ...]",
        "Lists the connections of the stream protocol",
        list_stream_connections,
        (0, None),
        columns=tuple(STREAM_CONNECTIONS),
    ),
    "stream_status": Command(
        STREAMS, f"{_HOST} <stream>", "Shows where a stream is", stream_status, (1, 1), {"tracking": False}
    ),
    **OF_CLIENTS,
    **commands_of(OF_STREAMS),
}
