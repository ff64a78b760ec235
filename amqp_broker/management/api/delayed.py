"""Messages that exchanges hold back until due: which do, what they hold, cancelled or let go before their time.

These endpoints are this broker's own, under ``/api/x/``. What is asked for is read in ``server/delayed_requests.py``,
which is loaded with all that concerns delays when somebody asks; what is done is in ``broker/delayed/``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from amqp_broker.broker.problems import AdministrationError
from amqp_broker.errors import AmqpError
from amqp_broker.management.api.exchanges import Found, find
from amqp_broker.management.api.lists import Listing, answer_rows
from amqp_broker.management.api.queue_messages import filter_of_query
from amqp_broker.management.api.queues import hosts_of
from amqp_broker.management.http.call import Call, as_http_error
from amqp_broker.management.http.messages import Answer, answer_json, bad_request
from amqp_broker.management.http.router import Access, Endpoint
from amqp_broker.server.walks import walk

if TYPE_CHECKING:
    from amqp_broker.broker.delayed.holder import Holder


def _delaying(call: Call) -> Iterator[Found]:
    for host in hosts_of(call):
        for name in sorted(host.exchanges):
            exchange = host.exchanges[name]
            if exchange.holder is not None and (exchange.is_delaying or exchange.holder.ready_count):
                yield host, exchange


def describe(found: Found) -> dict[str, Any] | None:
    """A row of the list; None when the exchange has gone."""
    from amqp_broker.broker.delayed.looking import holder_of

    host, exchange = found
    if exchange.is_deleted:
        return None
    holder, clock = holder_of(exchange, host.name), host.clock
    next_due_in_ms = None if holder.next_due_ms is None else holder.next_due_ms - clock.monotonic_ms()
    return {
        "name": exchange.name,
        "vhost": host.name,
        "type": exchange.type_name,
        "delaying": exchange.is_delaying,
        "messages_delayed": holder.ready_count,
        "next_due": None if next_due_in_ms is None else clock.wall_ms() + next_due_in_ms,
        "next_due_in_ms": next_due_in_ms,
    }


async def list_exchanges(call: Call) -> Answer:
    """The exchanges that hold messages back, or still hold some, by name."""
    return await Listing(call, _delaying(call), describe, lambda one: one[1].name).answer()


async def look(call: Call) -> Answer:
    """What an exchange holds, what is due next first."""
    from amqp_broker.server import delayed_requests

    holder = _holder(call, writes=False)
    try:
        wanted = filter_of_query(call.request.query_text)
        seen: dict[str, Any] = {**await delayed_requests.look(call.broker, holder, call.request.query, wanted)}
    except AdministrationError as error:
        raise bad_request(str(error)) from error
    return answer_rows(seen, "messages", seen.pop("messages"))


def _acting(name: str) -> Callable[[Call], Awaitable[Answer]]:
    """What cancels messages, or delivers them now."""

    async def act(call: Call) -> Answer:
        from amqp_broker.broker.delayed.acting import DelayedAction
        from amqp_broker.server import delayed_requests

        holder = _holder(call, writes=True)
        try:
            work = delayed_requests.read_acting(holder, DelayedAction(name), call.body())
        except AdministrationError as error:
            raise bad_request(str(error)) from error
        await walk(call.broker, work.steps(), writes=work.writes)
        return answer_json(work.progress())

    return act


def _holder(call: Call, *, writes: bool) -> Holder:
    """What the exchange that the path names holds, if the user may see it.

    Args:
        writes: whether what it holds is to change: then whoever may publish there may do that.

    Raises:
        HttpError: 401, 404; 400 for an exchange that holds nothing back.
    """
    from amqp_broker.broker.delayed.looking import holder_of

    host, exchange = find(call)
    client = call.client(host)
    try:
        client.check_read("exchange", exchange.name)
        if writes:
            client.check_write("exchange", exchange.name)
        return holder_of(exchange, host.name)
    except AmqpError as error:
        raise as_http_error(error) from error
    except AdministrationError as error:
        raise bad_request(str(error)) from error


ENDPOINTS = (
    Endpoint("/api/x/delayed", {"GET": (Access.MANAGEMENT, list_exchanges)}),
    Endpoint("/api/x/delayed/{vhost}", {"GET": (Access.VIRTUAL_HOST, list_exchanges)}),
    Endpoint(
        "/api/x/delayed/{vhost}/{exchange}",
        {"GET": (Access.VIRTUAL_HOST, look), "DELETE": (Access.VIRTUAL_HOST, _acting("cancel"))},
    ),
    Endpoint("/api/x/delayed/{vhost}/{exchange}/deliver", {"POST": (Access.VIRTUAL_HOST, _acting("deliver"))}),
)
