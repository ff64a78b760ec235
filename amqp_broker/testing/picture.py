"""A virtual host in a few lines of text, for the report of a test that failed.

Holds the layout only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.inspection import queue_info
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.virtual_host import VirtualHost
from amqp_broker.session.connection import ClientConnection
from amqp_broker.session.one_channel import OneChannelConnection
from amqp_broker.testing.records import Published
from amqp_broker.testing.watch import SpaceWatch

MESSAGES_SHOWN_MAX = 10
LINES_SHOWN_MAX = 20
BODY_BYTES_SHOWN_MAX = 40


def draw(virtual_host: VirtualHost, connections: Sequence[ClientConnection], space: SpaceWatch) -> str:
    """Draw a virtual host.

    Args:
        connections: the clients that are connected to it.
        space: what is remembered of it.
    """
    lines = [f"virtual host '{virtual_host.name}'"]
    lines += _section("exchanges", map(_exchange, filter(_is_worth_a_line, virtual_host.exchanges.values())))
    lines += _section("queues", map(_queue, virtual_host.queues.values()))
    lines += _section("connections", map(_connection, connections))
    remembered = list(space.remembered)
    title = f"the last {MESSAGES_SHOWN_MAX} of {len(remembered)} messages"
    if len(remembered) <= MESSAGES_SHOWN_MAX:
        title = "messages"
    lines += _section(title, map(_message, remembered[-MESSAGES_SHOWN_MAX:]))
    errors = list(space.errors)
    if errors:
        lines += _section("errors", errors[-MESSAGES_SHOWN_MAX:])
    return "\n".join(lines)


def _section(title: str, entries: Iterable[str]) -> Iterator[str]:
    shown = list(entries)
    if not shown:
        yield f"  {title}: none"
        return
    yield f"  {title}:"
    for entry in shown[:LINES_SHOWN_MAX]:
        yield from (f"    {line}" for line in entry.splitlines())
    if len(shown) > LINES_SHOWN_MAX:
        yield f"    and {len(shown) - LINES_SHOWN_MAX} more"


def _is_worth_a_line(exchange: Exchange) -> bool:
    return bool(exchange.bindings) or not (exchange.name == "" or exchange.name.startswith("amq."))


def _exchange(exchange: Exchange) -> str:
    lines = [f"{exchange.name} ({exchange.type_name})"]
    bindings = list(exchange.bindings.values())
    for binding in bindings[:LINES_SHOWN_MAX]:
        kind = "queue" if binding.is_to_queue else "exchange"
        by = f"'{binding.routing_key}'" + (f" {dict(binding.arguments)}" if binding.arguments else "")
        lines.append(f"  {by} -> {kind} {binding.destination.name}")
    if len(bindings) > LINES_SHOWN_MAX:
        lines.append(f"  and {len(bindings) - LINES_SHOWN_MAX} more")
    return "\n".join(lines)


def _queue(queue: Queue) -> str:
    consumers = ", ".join(consumer.tag for consumer in queue.consumers) or "none"
    info = queue_info(queue)
    ready, unacknowledged = info["messages_ready"], info["messages_unacknowledged"]
    text = f"{info['name']}: {ready} ready, {unacknowledged} unacknowledged, consumers: {consumers}"
    arguments = ", ".join(f"{name}={value!r}" for name, value in info["arguments"].items())
    return text + (f" ({arguments})" if arguments else "")


def _connection(connection: ClientConnection) -> str:
    by = f"{connection.user_name} from {connection.peer}"
    if isinstance(connection, OneChannelConnection):
        return f"{by}, {connection.inspect()['protocol']}"
    return f"{by}, channels: {', '.join(str(info['number']) for info in connection.inspect_channels()) or 'none'}"


def _message(entry: Published) -> str:
    shown: str = repr(entry.body[:BODY_BYTES_SHOWN_MAX])
    more = f" and {len(entry.body) - BODY_BYTES_SHOWN_MAX} bytes more" if len(entry.body) > BODY_BYTES_SHOWN_MAX else ""
    came = f"{entry.death_reason} in {entry.died_in}, " if entry.died_in is not None else ""
    where = ", ".join(entry.queues) or "nowhere"
    why = f" ({entry.reason})" if entry.reason else ""
    return f"{shown}{more}: {came}to '{entry.exchange}' with '{entry.routing_key}' -> {where}{why}"
