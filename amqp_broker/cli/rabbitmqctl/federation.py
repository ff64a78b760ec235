"""The commands about federation links."""

from __future__ import annotations

import time
from typing import Any

from amqp_broker.cli.rabbitmqctl.call import Call
from amqp_broker.cli.rabbitmqctl.commands import Command, Commands
from amqp_broker.cli.rabbitmqctl.outcome import Code, Failed, Result, Table

FEDERATION = "Federation"
COLUMNS = (
    "id", "type", "vhost", "exchange", "queue", "upstream", "upstream_exchange", "upstream_queue", "status", "error",
    "uri", "local_connection", "last_changed",
)  # fmt: skip


def federation_status(call: Call) -> Result:
    """How the links are."""
    is_only_down = "only-down" in call.options
    which = " which are down" if is_only_down else ""
    call.say(f"Listing federation links{which} on node {call.node}...")
    rows = [
        _described(row)
        for row in call.ask_list("federation.list")
        if not is_only_down or row["state"] not in ("running", "starting")
    ]
    return Table(COLUMNS, rows, is_stream=True)


def _described(row: dict[str, Any]) -> dict[str, Any]:
    empty = dict.fromkeys(("exchange", "queue", "upstream_exchange", "upstream_queue"), "")
    return {
        **empty,
        "id": row["id"],
        "type": row["kind"],
        "vhost": row["vhost"],
        row["kind"]: row["name"],
        "upstream": row["upstream"],
        f"upstream_{row['kind']}": row["upstream_name"],
        "status": row["state"],
        "error": row["reason"],
        "uri": row["uri"],
        "local_connection": row["connection"] if row["state"] == "running" else "",
        "last_changed": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(row["since_ms"] / 1000)),
    }


def restart_federation_link(call: Call) -> Result:
    """Have a link connect anew."""
    identity = call.words[0]
    call.say(f"Restarting federation link {identity} on node {call.node}")
    missing = Failed(Code.UNAVAILABLE, "Link with the given ID was not found")
    call.ask("federation.restart", id=identity, missing=missing)
    return None


COMMANDS: Commands = {
    "federation_status": Command(
        FEDERATION, "[--only-down]", "Displays federation link status", federation_status, (0, 0), {"only-down": False}
    ),
    "restart_federation_link": Command(
        FEDERATION, "<link_id>", "Restarts a running federation link", restart_federation_link, (1, 1)
    ),
}
