"""``amqp-broker queues show``: one queue of a running broker, with who consumes from it and what leads to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from amqp_broker.cli import control, options, tables
from amqp_broker.cli.exit_codes import EPILOG
from amqp_broker.cli.tables import Column, one_line, size_text

TITLE_WIDTH = 15
CONSUMERS = (
    Column("consumer", "consumer_tag", gives_way=True),
    Column("channel", is_whole=True),
    Column("state", "activity_status"),
    Column("prefetch", "prefetch_count", is_number=True),
    Column("unacked", "messages_unacknowledged", is_number=True),
)
COUNTED = {
    "publish": "came in",
    "deliver_get": "delivered",
    "ack": "acknowledged",
    "redeliver": "redelivered",
    "reject": "rejected",
    "requeue": "requeued",
}
BINDINGS = (Column("bound to", "source"), Column("key", "routing_key"), "arguments")


def add_to(application: typer.Typer) -> None:
    """Make this a command of a group."""
    application.command("show", epilog=EPILOG)(show)


def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The queue's name.")],
    vhost: control.VirtualHostName = "/",
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Show a queue: what is in it, what was declared and what policies make of it, its consumers and bindings.

    What is in it is listed by 'queues peek'.

    \b
    amqp-broker queues show orders
    amqp-broker queues show orders --json | jq .consumer_details
    """
    seen = control.ask(data_dir, config, "queues.show", name=name, vhost=vhost)
    if as_json:
        print(json.dumps(seen, indent=2))
        return
    for title, text in _lines(seen):
        print(tables.titled(title, text, TITLE_WIDTH))
    consumers = [{**one, "channel": one["channel"]["name"]} for one in seen["consumer_details"]]
    for rows, columns in ((consumers, CONSUMERS), (seen["bindings"], BINDINGS)):
        if rows:
            print()
            tables.show(rows, columns, False)


def _lines(seen: dict[str, Any]) -> Iterator[tuple[str, str]]:
    flags = [word for word in ("durable", "exclusive") if seen[word]] + ["auto-delete"] * seen["auto_delete"]
    yield "queue", one_line(seen["name"])
    yield "virtual host", one_line(seen["vhost"])
    yield "type", ", ".join([seen["type"], *flags])
    ready, unacknowledged = seen["messages_ready"], seen["messages_unacknowledged"]
    yield "messages", f"{ready} ready ({size_text(seen['message_bytes_ready'])}), {unacknowledged} unacknowledged"
    if "end_offset" in seen:
        yield "offsets", f"from {seen['first_offset']} on, the next is {seen['end_offset']}"
    yield "consumers", str(seen["consumers"])
    if seen["single_active_consumer_tag"]:
        yield "active", one_line(seen["single_active_consumer_tag"])
    yield "arguments", one_line(seen["arguments"])
    policies = [seen[name] for name in ("policy", "operator_policy") if seen[name]]
    if policies:
        yield "policy", f"{one_line(policies)}: {one_line(seen['effective_policy_definition'])}"
    counts = seen["message_stats"]
    counted = [f"{counts[name]} {words}" for name, words in COUNTED.items() if counts[name]]
    yield "so far", ", ".join(counted) or "nothing came or went"
