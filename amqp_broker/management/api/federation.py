"""Federation links, as RabbitMQ's plugin for them tells (rabbitmq_federation_management)."""

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
from amqp_broker.server.federation.supervisor import LinkInfo, federation_of


async def list_links(call: Call) -> Answer:
    """All of them, or those of a virtual host."""
    return await _listed(call, lambda one: True)


async def list_links_that_are_down(call: Call) -> Answer:
    """Those that do not run, and are not about to."""
    return await _listed(call, lambda one: one["state"] not in ("running", "starting"))


async def _listed(call: Call, is_wanted: Any) -> Answer:
    names = [call.virtual_host().name] if "vhost" in call.variables else visible_hosts(call)
    rows = [one for one in federation_of(call.broker).all() if one["vhost"] in names and is_wanted(one)]
    return await Listing(
        call, rows, partial(_described, call.management.node), lambda one: one["name"], has_pages=False
    ).answer()


def _described(node: str, one: LinkInfo) -> Mapping[str, Any]:
    since = time.gmtime(one["since_ms"] / 1000)
    told: dict[str, Any] = {
        "node": node,
        one["kind"]: one["name"],
        f"upstream_{one['kind']}": one["upstream_name"],
        "type": one["kind"],
        "vhost": one["vhost"],
        "upstream": one["upstream"],
        "id": one["id"],
        "status": one["state"],
        "uri": one["uri"],
        "messages_forwarded": one["forwarded"],
        "timestamp": time.strftime(f"%Y-%m-%d {since.tm_hour}:%M:%S", since),
    }
    if one["kind"] == "queue":
        told["consumer_tag"] = one["consumer_tag"]
    if one["state"] == "running":
        told["local_connection"] = one["connection"]
    return {**told, "error": one["reason"]} if one["reason"] else told


async def restart_link(call: Call) -> Answer:
    """Have one connect anew."""
    call.virtual_host()
    try:
        federation_of(call.broker).restart(call.variables["id"])
    except NotThere as error:
        raise no_such_object() from error
    return Answer(204)


ENDPOINTS = [
    Endpoint("/api/federation-links", {"GET": (Access.MONITORING, list_links)}),
    Endpoint("/api/federation-links/state/down", {"GET": (Access.MONITORING, list_links_that_are_down)}),
    Endpoint("/api/federation-links/{vhost}", {"GET": (Access.MONITORING, list_links)}),
    Endpoint("/api/federation-links/{vhost}/state/down", {"GET": (Access.MONITORING, list_links_that_are_down)}),
    Endpoint("/api/federation-links/vhost/{vhost}/{id}/{node}/restart", {"DELETE": (Access.MONITORING, restart_link)}),
]
