"""The topology of a virtual host, as a graph with its rates: exchanges, queues, bindings and dead-lettering.

A graph that nobody can see at once is of no use, so there is an end to it; ``focus`` shows what is around one thing,
and ``name`` what has a text in its name. Holds no layout.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.names import PREDECLARED_EXCHANGES
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.virtual_host import VirtualHost
from amqp_broker.management.api.queue_problems import rate_in, rate_out
from amqp_broker.management.http.authentication import may_look_into
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, answer_json, no_such_object, not_authorised
from amqp_broker.management.http.router import Access, Endpoint
from amqp_broker.management.samples import Samples
from amqp_broker.management.slices import Slices
from amqp_broker.management.things import exchange_key

NODES_MAX = 150
KEYS_SHOWN = 5
HUB = 20  # what is joined to more than so many does not join them with all else

Node = Exchange | Queue
Edge = tuple[Node, Node, str]  # from, to, kind: binding, alternate, dead-letter


def _id(node: Node) -> str:
    return f"{'e' if isinstance(node, Exchange) else 'q'}:{node.name}"


def _describe(samples: Samples, host: VirtualHost, node: Node) -> dict[str, Any]:
    if isinstance(node, Exchange):
        key = exchange_key(host.name, node.name)
        rates = {"in": round(samples.rate(key, "publish_in"), 1), "out": round(samples.rate(key, "publish_out"), 1)}
        return {"id": _id(node), "kind": "exchange", "name": node.name, "type": node.type_name, **rates}
    return {
        "id": _id(node),
        "kind": "queue",
        "name": node.name,
        "type": node.arguments.queue_type,
        "consumers": len(node.consumers),
        "messages_ready": node.ready_count,
        "messages_unacknowledged": node.unacknowledged_count,
        "in": round(rate_in(samples, node), 1),
        "out": round(rate_out(samples, node), 1),
    }


async def _edges(host: VirtualHost, slices: Slices) -> dict[Edge, list[str]]:
    """What leads where, with some of the routing keys."""
    edges: dict[Edge, list[str]] = {}
    for exchange in list(host.exchanges.values()):
        for binding in list(exchange.bindings.values()):
            edges.setdefault((exchange, binding.destination, "binding"), []).append(binding.routing_key)
            await slices.take_turn()
        alternate = None if exchange.alternate is None else host.exchanges.get(exchange.alternate)
        if alternate is not None:
            edges[exchange, alternate, "alternate"] = []
    for queue in list(host.queues.values()):
        name = queue.arguments.dead_letter_exchange
        target: Node | None = None
        if name == "" and queue.arguments.dead_letter_routing_key is not None:
            target = host.queues.get(queue.arguments.dead_letter_routing_key)
        elif name:
            target = host.exchanges.get(name)
        if target is not None:
            edges[queue, target, "dead-letter"] = []
        await slices.take_turn()
    return edges


def _around(start: list[Node], edges: dict[Edge, list[str]]) -> dict[Node, None]:
    """What is joined to some things, the nearest first, and not by way of a hub: to that nearly everything is near."""
    neighbours: dict[Node, list[Node]] = {}
    for source, destination, _ in edges:
        neighbours.setdefault(source, []).append(destination)
        neighbours.setdefault(destination, []).append(source)
    found: dict[Node, None] = dict.fromkeys(start)
    waiting = deque(start)
    while waiting and len(found) < NODES_MAX:
        node = waiting.popleft()
        beside = neighbours.get(node, [])
        if len(beside) > HUB and node not in start:
            continue
        for one in beside:
            if one not in found:
                found[one] = None
                waiting.append(one)
    return found


def _chosen(call: Call, host: VirtualHost, edges: dict[Edge, list[str]]) -> dict[Node, None]:
    query = call.request.query
    focus, name = query.get("focus", ""), query.get("name", "").lower()
    every: list[Node] = [*host.exchanges.values(), *host.queues.values()]
    if focus:
        return _around([one for one in every if _id(one) == focus], edges)
    if name:
        return _around([one for one in every if name in one.name.lower()][:NODES_MAX], edges)
    joined = dict.fromkeys(end for edge in edges for end in edge[:2])
    alone = (one for one in every if isinstance(one, Queue) or one.name not in PREDECLARED_EXCHANGES)
    return joined | dict.fromkeys(alone)


async def show_topology(call: Call) -> Answer:
    """The graph of the virtual host that the query's ``vhost`` names."""
    host = call.broker.virtual_hosts.get(call.request.query.get("vhost", "/"))
    if host is None:
        raise no_such_object()
    if not may_look_into(call.user, host.name):
        raise not_authorised("User not authorised to access virtual host")
    edges, samples = await _edges(host, Slices()), call.management.samples
    chosen = _chosen(call, host, edges)
    nodes = list(chosen)[:NODES_MAX]
    shown = set(nodes)
    lines = [
        {"from": _id(source), "to": _id(destination), "kind": kind, "keys": keys[:KEYS_SHOWN], "count": len(keys)}
        for (source, destination, kind), keys in edges.items()
        if source in shown and destination in shown
    ]
    return answer_json(
        {
            "vhost": host.name,
            "nodes": [_describe(samples, host, node) for node in nodes],
            "edges": lines,
            "left_out": len(chosen) - len(nodes),
        }
    )


ENDPOINTS = (Endpoint("/api/x/topology", {"GET": (Access.MANAGEMENT, show_topology)}),)
