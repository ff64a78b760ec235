"""The commands of rabbitmq-streams about clients: publishers, consumers, groups of these, and what streams remember."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amqp_broker.cli.rabbitmqctl.call import Call
from amqp_broker.cli.rabbitmqctl.commands import Command, Commands
from amqp_broker.cli.rabbitmqctl.lists import Columns, chosen_columns, shown
from amqp_broker.cli.rabbitmqctl.outcome import Code, Failed, Result, Table, WrongUse

STREAMS = "Streams"


def _same(*names: str) -> Columns:
    return {name: lambda row, name=name: row[name] for name in names}  # type: ignore[misc]


_CONNECTION: Columns = {"connection_pid": lambda row: row["connection"], "node": lambda row: row["node"]}
PUBLISHERS: Columns = {
    **_CONNECTION,
    **_same("publisher_id", "stream", "reference"),
    "messages_published": lambda row: row["published"],
    "messages_confirmed": lambda row: row["confirmed"],
    "messages_errored": lambda row: row["errored"],
}
CONSUMERS: Columns = {
    **_CONNECTION,
    **_same("subscription_id", "stream"),
    "messages_consumed": lambda row: row["consumed"],
    **_same("offset", "offset_lag", "credits", "active", "activity_status", "properties"),
}
GROUPS = _same("stream", "reference", "partition_index", "consumers")
MEMBERS = _same("subscription_id", "connection_name", "state")
TRACKED = ("type", "name", "tracking_value")
KINDS = ("all", "offset", "writer")


def _listing(command: str, banner: str, columns: Columns) -> Callable[[Call], Result]:
    """What lists all there is of something in a virtual host."""
    default = [name for name in columns if name not in _CONNECTION]

    def run(call: Call) -> Result:
        names = chosen_columns(call, columns, list(columns) if "verbose" in call.options else default)
        call.say(f"Listing {banner} ...")
        rows = call.ask_list(command, vhost=call.virtual_host)
        return _drawn([{**row, "node": call.node} for row in rows], names, columns)

    return run


def _drawn(rows: list[dict[str, Any]], names: list[str], columns: Columns) -> Result:
    """A table; nothing at all where there is nothing in it."""
    table = shown(rows, names, columns)
    return Table(table.columns, table.rows, is_stream=True, is_drawn=True) if rows else None


def list_group_consumers(call: Call) -> Result:
    """The consumers of a group."""
    stream, reference = call.options.get("stream"), call.options.get("reference")
    if stream is None or reference is None:
        raise WrongUse("not enough arguments.")
    names = chosen_columns(call, MEMBERS, list(MEMBERS))
    call.say("Listing group consumers ...")
    missing = Failed(Code.UNAVAILABLE, "The group does not exist")
    asked = {"vhost": call.virtual_host, "name": stream, "reference": reference}
    return _drawn(call.ask_list("streams.group-members", missing=missing, **asked), names, MEMBERS)


def list_tracking(call: Call) -> Result:
    """How far consumers are that had it stored, and what publishers with a name have published last."""
    chosen = [kind for kind in KINDS if kind in call.options]
    if len(chosen) > 1:
        raise WrongUse("Specify only one of --all, --offset, --writer.")
    name = call.words[0]
    call.say(f"Listing tracking information for stream {name} ...")
    missing = Failed(Code.UNAVAILABLE, "The stream does not exist.")
    rows = call.ask_list("streams.tracked", missing=missing, vhost=call.virtual_host, name=name)
    rows = [row for row in rows if chosen in ([], ["all"], [row["type"]])]
    return Table(TRACKED, rows, is_stream=True, is_drawn=True) if rows else None


def _list(summary: str, run: Callable[[Call], Result], columns: Columns, arguments: str = "") -> Command:
    options = {"verbose": False} | dict.fromkeys(("stream", "reference"), True) if arguments else {"verbose": False}
    usage = f"{arguments}[--vhost <vhost>] [<column> ...]"
    return Command(STREAMS, usage, summary, run, (0, None), options, {"V": "verbose"}, tuple(columns))


COMMANDS: Commands = {
    "list_stream_consumers": _list(
        "Lists the consumers of the stream protocol",
        _listing("streams.consumers", "stream consumers", CONSUMERS),
        CONSUMERS,
    ),
    "list_stream_publishers": _list(
        "Lists the publishers of the stream protocol",
        _listing("streams.publishers", "stream publishers", PUBLISHERS),
        PUBLISHERS,
    ),
    "list_stream_consumer_groups": _list(
        "Lists groups of consumers of which one is served",
        _listing("streams.groups", "stream consumer groups", GROUPS),
        GROUPS,
    ),
    "list_stream_group_consumers": _list(
        "Lists the consumers of such a group",
        list_group_consumers,
        MEMBERS,
        "--stream <stream> --reference <reference> ",
    ),
    "list_stream_tracking": Command(
        STREAMS,
        "<stream> [--all | --offset | --writer] [--vhost <vhost>]",
        "Lists what a stream remembers of clients",
        list_tracking,
        (1, 1),
        dict.fromkeys(KINDS, False),
    ),
}
