"""Exchanges: listed, looked at, declared and deleted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.inspection import exchange_info
from amqp_broker.broker.names import PREDECLARED_EXCHANGES
from amqp_broker.broker.virtual_host import VirtualHost
from amqp_broker.management.api.fields import boolean, query_flag, short, table, text
from amqp_broker.management.api.lists import Listing, answer_one
from amqp_broker.management.api.queues import hosts_of
from amqp_broker.management.api.rates import MESSAGES_RANGE, with_rates
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, no_such_object, not_authorised
from amqp_broker.management.http.router import Access, Endpoint
from amqp_broker.management.things import exchange_key, exchange_stats

DEFAULT_EXCHANGE = "amq.default"  # in paths
Found = tuple[VirtualHost, Exchange]


def _exchanges(call: Call) -> Iterator[Found]:
    for host in hosts_of(call):
        for exchange in sorted(host.exchanges.values(), key=lambda exchange: exchange.name):
            yield host, exchange


def describe(call: Call, found: Found) -> dict[str, Any] | None:
    """A row of the list; None when the exchange has gone."""
    host, exchange = found
    if exchange.is_deleted:
        return None
    info = exchange_info(exchange, host.name)
    row: dict[str, Any] = {**info}
    row["user_who_performed_action"] = "rmq-internal" if exchange.name in PREDECLARED_EXCHANGES else ""
    if not call.request.flag("disable_stats"):
        stats = exchange_stats(exchange)
        row["message_stats"] = with_rates(call, exchange_key(host.name, exchange.name), stats, MESSAGES_RANGE)
    return row


def exchange_name(call: Call) -> str:
    """The name that the path holds."""
    name = call.variables["exchange"]
    return "" if name == DEFAULT_EXCHANGE else name


def find(call: Call) -> Found:
    """The exchange that the path names.

    Raises:
        HttpError: 404.
    """
    host = call.virtual_host()
    exchange = host.exchanges.get(exchange_name(call))
    if exchange is None:
        raise no_such_object()
    return host, exchange


async def list_exchanges(call: Call) -> Answer:
    """The exchanges, by name."""
    return await Listing(call, _exchanges(call), lambda one: describe(call, one), lambda one: one[1].name).answer()


async def show_exchange(call: Call) -> Answer:
    """An exchange."""
    row = describe(call, find(call))
    assert row is not None
    return await answer_one(call, row | {"incoming": [], "outgoing": []})


async def declare_exchange(call: Call) -> Answer:
    """Create an exchange, or find that there is one like it."""
    host, name, body = call.virtual_host(), short(exchange_name(call)), call.body()
    type_name = text(body, "type", "direct")
    durable, auto_delete = boolean(body, "durable"), boolean(body, "auto_delete")
    internal, arguments = boolean(body, "internal"), table(body)
    exists = name in host.exchanges
    await call.change(
        lambda: host.declare_exchange(
            call.client(host),
            name,
            type_name,
            durable=durable,
            auto_delete=auto_delete,
            internal=internal,
            arguments=arguments,
        )
    )
    return Answer(204 if exists else 201)


async def delete_exchange(call: Call) -> Answer:
    """Delete an exchange."""
    host, exchange = find(call)
    if_unused = query_flag(call.request.query, "if-unused")
    if not exchange.name:
        raise not_authorised("Access refused.")
    await call.change(lambda: host.delete_exchange(call.client(host), exchange.name, if_unused=if_unused))
    return Answer(204)


ENDPOINTS = (
    Endpoint("/api/exchanges", {"GET": (Access.MANAGEMENT, list_exchanges)}),
    Endpoint("/api/exchanges/{vhost}", {"GET": (Access.VIRTUAL_HOST, list_exchanges)}),
    Endpoint(
        "/api/exchanges/{vhost}/{exchange}",
        {
            "GET": (Access.VIRTUAL_HOST, show_exchange),
            "PUT": (Access.VIRTUAL_HOST, declare_exchange),
            "DELETE": (Access.VIRTUAL_HOST, delete_exchange),
        },
    ),
)
