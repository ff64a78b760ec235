"""Virtual hosts: listed, looked at, added and deleted."""

from __future__ import annotations

from typing import Any

from amqp_broker.broker.inspection import counts_of_virtual_host, disk_counts_of_virtual_host
from amqp_broker.broker.virtual_host import VirtualHost
from amqp_broker.broker.virtual_host_properties import Metadata
from amqp_broker.management.api.fields import boolean, names, text
from amqp_broker.management.api.lists import Listing, answer_one
from amqp_broker.management.api.overview import visible_hosts
from amqp_broker.management.api.rates import BYTES_RANGE, LENGTHS_RANGE, MESSAGES_RANGE, with_rates
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, bad_request, no_such_object
from amqp_broker.management.http.router import Access, Endpoint
from amqp_broker.management.slices import open_in_slices
from amqp_broker.management.things import BYTES, LENGTHS, message_stats


async def _octets(call: Call, hosts: list[VirtualHost]) -> dict[str, dict[str, int]]:
    """How many bytes have come and gone on the connections that are open, by virtual host."""
    octets = {host.name: dict.fromkeys(BYTES, 0) for host in hosts}
    for host in hosts:
        every = call.broker.open_connections
        async for connection in open_in_slices(every, every.in_virtual_host(host.name)):
            info = connection.inspect()
            octets[host.name]["recv_oct"] += info["recv_oct"]
            octets[host.name]["send_oct"] += info["send_oct"]
    return octets


def describe(call: Call, host: VirtualHost, octets: dict[str, int]) -> dict[str, Any] | None:
    """A row of the list; None when the virtual host has gone."""
    if call.broker.virtual_hosts.get(host.name) is not host:
        return None
    lengths = dict.fromkeys(LENGTHS, 0)
    for queue in host.queues.values():
        lengths["messages_ready"] += queue.ready_count
        lengths["messages_unacknowledged"] += queue.unacknowledged_count
    lengths["messages"] = lengths["messages_ready"] + lengths["messages_unacknowledged"]
    key, metadata = ("vhost", host.name), host.metadata
    stats = message_stats(counts_of_virtual_host(call.broker, host), disk_counts_of_virtual_host(host))
    return {
        "name": host.name,
        "description": metadata.description,
        "tags": list(metadata.tags),
        "default_queue_type": metadata.default_queue_type or "undefined",
        "metadata": {"description": metadata.description, "tags": list(metadata.tags)},
        "protected_from_deletion": metadata.is_protected,
        "tracing": call.broker.firehose.is_on(host.name),
        "cluster_state": dict.fromkeys(call.management.nodes, "running"),
        **with_rates(call, key, octets, BYTES_RANGE),
        **with_rates(call, key, lengths, LENGTHS_RANGE),
        "message_stats": with_rates(call, key, stats, MESSAGES_RANGE),
    }


async def list_virtual_hosts(call: Call) -> Answer:
    """The virtual hosts that the user sees, by name."""
    hosts = [call.broker.virtual_hosts[name] for name in visible_hosts(call)]
    octets = await _octets(call, hosts)
    return await Listing(call, hosts, lambda one: describe(call, one, octets[one.name]), lambda one: one.name).answer()


async def show_virtual_host(call: Call) -> Answer:
    """A virtual host."""
    host = call.virtual_host()
    row = describe(call, host, (await _octets(call, [host]))[host.name])
    if row is None:
        raise no_such_object()
    return await answer_one(call, row)


async def put_virtual_host(call: Call) -> Answer:
    """Add a virtual host, or say something else of it; who adds it may do everything there, as in RabbitMQ."""
    name = call.variables["vhost"]
    body = call.body()
    host = call.broker.virtual_hosts.get(name)
    metadata = _metadata(body, is_protected=host is not None and host.metadata.is_protected)
    is_traced = boolean(body, "tracing") if "tracing" in body else None

    def trace() -> None:
        if is_traced is not None:
            call.administration.set_tracing(name, is_on=is_traced)

    def add() -> None:
        call.administration.add_virtual_host(name, metadata)
        call.administration.set_permission(call.user.name, name, ".*", ".*", ".*")
        trace()

    def change() -> None:
        call.administration.set_metadata(name, metadata)
        trace()

    if name in call.broker.virtual_hosts:
        await call.change(change)
        return Answer(204)
    await call.change(add)
    return Answer(201)


def _metadata(body: dict[str, Any], *, is_protected: bool) -> Metadata:
    """What is said of a virtual host.

    Args:
        is_protected: whether it is protected from deletion where the body does not say so.
    """
    default = text(body, "default_queue_type", "undefined")
    return Metadata(
        text(body, "description", ""),
        names(body.get("tags", "")),
        None if default == "undefined" else default,
        boolean(body, "protected_from_deletion", is_protected),
    )


async def delete_virtual_host(call: Call) -> Answer:
    """Delete a virtual host with all that is in it."""
    name = call.virtual_host().name
    await call.change(lambda: call.administration.delete_virtual_host(name))
    return Answer(204)


async def protect_virtual_host(call: Call) -> Answer:
    """Have a virtual host not be deleted until that is taken back (since RabbitMQ 4.1)."""
    return await _set_protection(call, is_on=True)


async def unprotect_virtual_host(call: Call) -> Answer:
    """Let a virtual host be deleted again."""
    return await _set_protection(call, is_on=False)


async def _set_protection(call: Call, *, is_on: bool) -> Answer:
    name = call.virtual_host().name
    await call.change(lambda: call.administration.set_protection(name, is_on=is_on))
    return Answer(204)


async def start_virtual_host(call: Call) -> Answer:
    """Start a virtual host on a node; here all run always."""
    call.virtual_host()
    node = call.variables["node"]
    if node not in call.management.nodes:
        raise bad_request(f"Request to node {node} failed with nodedown")
    return Answer(204)


ENDPOINTS = (
    Endpoint("/api/vhosts", {"GET": (Access.MANAGEMENT, list_virtual_hosts)}),
    Endpoint(
        "/api/vhosts/{vhost}",
        {
            "GET": (Access.ADMINISTRATOR, show_virtual_host),
            "PUT": (Access.ADMINISTRATOR, put_virtual_host),
            "DELETE": (Access.ADMINISTRATOR, delete_virtual_host),
        },
    ),
    Endpoint(
        "/api/vhosts/{vhost}/deletion/protection",
        {
            "POST": (Access.ADMINISTRATOR, protect_virtual_host),
            "DELETE": (Access.ADMINISTRATOR, unprotect_virtual_host),
        },
    ),
    Endpoint("/api/vhosts/{vhost}/start/{node}", {"POST": (Access.ADMINISTRATOR, start_virtual_host)}),
)
