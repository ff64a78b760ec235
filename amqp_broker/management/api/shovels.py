"""Shovels, as RabbitMQ's plugin for them tells (rabbitmq_shovel_management)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from amqp_broker.broker.problems import NotThere
from amqp_broker.management.api.lists import Listing
from amqp_broker.management.api.overview import visible_hosts
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, no_such_object
from amqp_broker.management.http.router import Access, Endpoint
from amqp_broker.server.shovels.supervisor import ShovelInfo, shovels_of


async def list_shovels(call: Call) -> Answer:
    """All of them, or those of a virtual host."""
    names = [call.virtual_host().name] if "vhost" in call.variables else visible_hosts(call)
    rows = [one for one in shovels_of(call.broker).all() if one["vhost"] in names]
    return await Listing(
        call, rows, partial(_described, call.management.node), lambda one: one["name"], has_pages=False
    ).answer()


def _described(node: str, one: ShovelInfo) -> Mapping[str, Any]:
    since = time.gmtime(one["since_ms"] / 1000)
    told: dict[str, Any] = {
        "node": node,
        "timestamp": time.strftime("%Y-%m-%d %H:%M:%S", since),
        "name": one["name"],
        "vhost": one["vhost"],
        "type": "dynamic",
        "state": one["state"],
        "src_uri": one["source_uri"],
        "src_protocol": "amqp091",
        "dest_uri": one["destination_uri"],
        "dest_protocol": "amqp091",
        "blocked_status": "running",
        "messages_carried": one["carried"],
    }
    for prefix, end in (("src", one["source"]), ("dest", one["destination"])):
        kind, _, name = end.partition(" ")
        if kind in ("queue", "exchange"):
            told[f"{prefix}_{kind}"] = name
    return {**told, "reason": one["reason"]} if one["reason"] else told


async def restart_shovel(call: Call) -> Answer:
    """Have one connect anew."""
    try:
        shovels_of(call.broker).restart(call.virtual_host().name, call.variables["name"])
    except NotThere as error:
        raise no_such_object() from error
    return Answer(204)


ENDPOINTS = [
    Endpoint("/api/shovels", {"GET": (Access.MONITORING, list_shovels)}),
    Endpoint("/api/shovels/{vhost}", {"GET": (Access.MONITORING, list_shovels)}),
    Endpoint("/api/shovels/vhost/{vhost}/{name}/restart", {"DELETE": (Access.MONITORING, restart_shovel)}),
]
