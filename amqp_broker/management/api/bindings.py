"""Bindings: listed, made and removed. In a path one is named by its properties: its routing key and its arguments."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus, unquote

from amqp_broker.broker.descriptions import BindingInfo
from amqp_broker.broker.exchanges.binding import Binding
from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.inspection import default_binding
from amqp_broker.broker.json_values import json_ready_table
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.virtual_host import VirtualHost
from amqp_broker.management.api.exchanges import DEFAULT_EXCHANGE, find
from amqp_broker.management.api.fields import short, table, text
from amqp_broker.management.api.lists import Listing
from amqp_broker.management.api.queues import hosts_of
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, HttpError, answer_json, bad_request, no_such_object
from amqp_broker.management.http.router import Access, Endpoint
from amqp_broker.wire.table import Table, encode_table

KINDS = {"q": "queue", "e": "exchange"}
HASH_BYTES = 4


def properties_key(routing_key: str, arguments: Table) -> str:
    """How a binding is named in a path, beside its source and its destination."""
    if not routing_key and not arguments:
        return "~"
    key = quote_plus(routing_key, errors="surrogateescape").replace("~", "%7E")
    if not arguments:
        return key
    digest = hashlib.blake2b(encode_table(dict(sorted(arguments.items()))), digest_size=HASH_BYTES).digest()
    return f"{key}~{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def _describe(host: VirtualHost, binding: Binding | Queue) -> dict[str, Any] | None:
    """A row; a queue stands for its binding to the default exchange."""
    if isinstance(binding, Queue):
        default: BindingInfo = default_binding(binding)
        return None if binding.is_deleted else {**default, "properties_key": properties_key(binding.name, {})}
    if binding.identity not in binding.source.bindings:
        return None
    return {
        "source": binding.source.name,
        "vhost": host.name,
        "destination": binding.destination.name,
        "destination_type": "queue" if binding.is_to_queue else "exchange",
        "routing_key": binding.routing_key,
        "arguments": json_ready_table(binding.arguments),
        "properties_key": properties_key(binding.routing_key, binding.arguments),
    }


Found = tuple[VirtualHost, Binding | Queue]


def _all(hosts: Iterable[VirtualHost]) -> Iterator[Found]:
    for host in hosts:
        for queue in sorted(host.queues.values(), key=lambda queue: queue.name):
            yield host, queue
        for exchange in sorted(host.exchanges.values(), key=lambda exchange: exchange.name):
            yield from ((host, binding) for binding in _in_order(exchange.bindings.values()))


def _in_order(bindings: Iterable[Binding]) -> list[Binding]:
    return sorted(bindings, key=lambda one: (one.destination.name, one.routing_key))


async def _listed(call: Call, found: Iterable[Found]) -> Answer:
    return await Listing(call, found, lambda one: _describe(*one), _destination_of).answer()


def _destination_of(found: Found) -> str:
    binding = found[1]
    return binding.name if isinstance(binding, Queue) else binding.destination.name


async def list_bindings(call: Call) -> Answer:
    """All of them, those of the default exchange as well."""
    return await _listed(call, _all(hosts_of(call)))


async def list_from_exchange(call: Call) -> Answer:
    """Those from an exchange."""
    host, exchange = find(call)
    if not exchange.name:
        queues = sorted(host.queues.values(), key=lambda queue: queue.name)
        return await _listed(call, ((host, queue) for queue in queues))
    return await _listed(call, ((host, binding) for binding in _in_order(exchange.bindings.values())))


async def list_to_exchange(call: Call) -> Answer:
    """Those to an exchange."""
    host, exchange = find(call)
    return await _listed(call, ((host, binding) for binding in _leading_to(host, exchange)))


async def list_to_queue(call: Call) -> Answer:
    """Those to a queue."""
    host = call.virtual_host()
    queue = host.queues.get(call.variables["queue"])
    if queue is None:
        raise no_such_object()
    found: list[Found] = [(host, queue)]
    return await _listed(call, [*found, *((host, binding) for binding in _leading_to(host, queue))])


def _leading_to(host: VirtualHost, destination: Exchange | Queue) -> Iterator[Binding]:
    for exchange in sorted(host.exchanges.values(), key=lambda exchange: exchange.name):
        if exchange.bindings.lead_to(destination):
            yield from _in_order(one for one in exchange.bindings.values() if one.destination is destination)


def _between(call: Call) -> tuple[VirtualHost, str, str, str]:
    """The virtual host, the source's name, the kind and the name of the destination."""
    kind = KINDS.get(call.variables["kind"])
    if kind is None:
        raise bad_request(f"a binding leads to q or e, not to {call.variables['kind']}")
    names = ["" if name == DEFAULT_EXCHANGE else name for name in (call.variables["source"], call.variables["to"])]
    return call.virtual_host(), names[0], kind, names[1]


def _bindings_between(call: Call) -> tuple[VirtualHost, list[Binding | Queue]]:
    host, source, kind, name = _between(call)
    target = host.queues.get(name) if kind == "queue" else host.exchanges.get(name)
    exchange = host.exchanges.get(source)
    if target is None or exchange is None:
        return host, []
    if not source:
        return host, [target] if isinstance(target, Queue) else []
    return host, [*_in_order(one for one in exchange.bindings.values() if one.destination is target)]


async def list_between(call: Call) -> Answer:
    """Those from one exchange to one destination."""
    host, bindings = _bindings_between(call)
    return await _listed(call, ((host, binding) for binding in bindings))


def _one(call: Call) -> tuple[VirtualHost, Binding | Queue, dict[str, Any]]:
    host, bindings = _bindings_between(call)
    wanted = call.variables["properties"]
    for binding in bindings:
        row = _describe(host, binding)
        # Whoever puts the key into a path may have quoted it once more, or not.
        if row is not None and wanted in (row["properties_key"], unquote(row["properties_key"])):
            return host, binding, row
    raise no_such_object()


async def show_binding(call: Call) -> Answer:
    """One of them."""
    return answer_json(_one(call)[2])


async def bind(call: Call) -> Answer:
    """Make one."""
    host, source, kind, destination = _between(call)
    body = call.body()
    routing_key, arguments = short(text(body, "routing_key", "")), table(body)
    await call.change(lambda: host.bind(call.client(host), source, kind, destination, routing_key, arguments))
    path = f"{quote(destination, safe='')}/{properties_key(routing_key, arguments)}"
    return Answer(201, headers={"location": path})


async def unbind(call: Call) -> Answer:
    """Remove one."""
    host, binding, _ = _one(call)
    _, source, kind, destination = _between(call)
    if isinstance(binding, Queue):
        raise HttpError(401, "not_authorised", "Access refused.")
    routing_key, arguments = binding.routing_key, binding.arguments
    await call.change(lambda: host.unbind(call.client(host), source, kind, destination, routing_key, arguments))
    return Answer(204)


ENDPOINTS = (
    Endpoint("/api/bindings", {"GET": (Access.MANAGEMENT, list_bindings)}),
    Endpoint("/api/bindings/{vhost}", {"GET": (Access.VIRTUAL_HOST, list_bindings)}),
    Endpoint(
        "/api/bindings/{vhost}/e/{source}/{kind}/{to}",
        {"GET": (Access.VIRTUAL_HOST, list_between), "POST": (Access.VIRTUAL_HOST, bind)},
    ),
    Endpoint(
        "/api/bindings/{vhost}/e/{source}/{kind}/{to}/{properties}",
        {"GET": (Access.VIRTUAL_HOST, show_binding), "DELETE": (Access.VIRTUAL_HOST, unbind)},
    ),
    Endpoint("/api/exchanges/{vhost}/{exchange}/bindings/source", {"GET": (Access.VIRTUAL_HOST, list_from_exchange)}),
    Endpoint(
        "/api/exchanges/{vhost}/{exchange}/bindings/destination", {"GET": (Access.VIRTUAL_HOST, list_to_exchange)}
    ),
    Endpoint("/api/queues/{vhost}/{queue}/bindings", {"GET": (Access.VIRTUAL_HOST, list_to_queue)}),
)
