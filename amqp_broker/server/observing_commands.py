"""Commands of the control socket about where messages go: what was dropped, traces, routes explained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import trio

from amqp_broker.server.control_commands import Arguments, BadRequest, Command, Controlled, List

if TYPE_CHECKING:
    from amqp_broker.broker.message_traces import TraceStatus


def _drops(controlled: Controlled, arguments: Arguments) -> Iterator[Mapping[str, Any]]:
    virtual_host = arguments.get("vhost")
    return controlled.broker.drops.rows(virtual_host if isinstance(virtual_host, str) else None)


async def count_drops(controlled: Controlled, arguments: Arguments) -> dict[str, int]:
    """How many messages went nowhere, by the reason."""
    return controlled.broker.drops.totals()


def _traces(controlled: Controlled, arguments: Arguments) -> Iterator[Mapping[str, Any]]:
    names = {name: arguments.get(name) for name in ("message_id", "correlation_id")}
    return controlled.broker.message_traces.traces(**names)


async def start_trace(controlled: Controlled, arguments: Arguments) -> TraceStatus:
    """Trace the messages that the arguments describe."""
    from amqp_broker.broker.traced_messages import wanted_of

    traces = controlled.broker.message_traces
    traces.start(wanted_of(arguments, controlled.broker.virtual_hosts), controlled.who)
    return traces.status()


async def stop_trace(controlled: Controlled, arguments: Arguments) -> TraceStatus:
    """Trace nothing more."""
    controlled.broker.message_traces.stop(controlled.who)
    return controlled.broker.message_traces.status()


async def show_trace(controlled: Controlled, arguments: Arguments) -> TraceStatus:
    """What is traced."""
    return controlled.broker.message_traces.status()


async def explain_route(controlled: Controlled, arguments: Arguments) -> dict[str, object]:
    """Why a message would go where it would."""
    from amqp_broker.broker.exchanges.explanation import explanation_of

    explanation = explanation_of(controlled.broker, arguments)
    for _ in explanation.slices():
        await trio.lowlevel.checkpoint()
    return explanation.answer()


# --- traces to files


def _file_traces(controlled: Controlled, arguments: Arguments) -> Iterator[Mapping[str, Any]]:
    virtual_host = arguments.get("vhost")
    for trace in controlled.broker.file_traces.all(virtual_host if isinstance(virtual_host, str) else None):
        yield trace.describe()


async def add_file_trace(controlled: Controlled, arguments: Arguments) -> Mapping[str, object]:
    """Begin a trace to a file."""
    host = controlled.broker.existing_virtual_host(_text(arguments, "vhost"))
    trace = controlled.broker.file_traces.add(host, _text(arguments, "name"), arguments, controlled.who)
    return trace.describe()


async def remove_file_trace(controlled: Controlled, arguments: Arguments) -> None:
    """End a trace to a file."""
    controlled.broker.file_traces.remove(_text(arguments, "vhost"), _text(arguments, "name"), controlled.who)


def _text(arguments: Arguments, name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str):
        raise BadRequest(f"{name} must be a text")
    return value


LISTS: dict[str, List] = {"drops.list": _drops, "trace.show": _traces, "traces.list": _file_traces}

COMMANDS: dict[str, Command] = {
    "drops.count": count_drops,
    "trace.start": start_trace,
    "trace.stop": stop_trace,
    "trace.status": show_trace,
    "explain.route": explain_route,
    "traces.add": add_file_trace,
    "traces.remove": remove_file_trace,
}
