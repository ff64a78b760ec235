"""The control socket: how the command line looks into a broker that runs, and changes it.

A Unix socket in the data folder, for the broker's own user only (mode 0600): who may open it could read the journal as
well, so it asks for no password. A request is one line of JSON, ``{"command": "users.add", "arguments": {…}}``; so is
the answer, ``{"result": …}`` or ``{"error": "…", "kind": "…"}``, sent when what was changed is durable. A list comes
before that in as many lines as it takes, ``{"items": […]}``, and others have their turn between two of them; what takes
long may say how far it is, ``{"progress": {…}}``. Who follows the log or events gets such lists until it hangs up,
empty ones as well, so that each side notices when the other has gone.

The commands are in ``control_commands.py`` and ``control_operations.py``. Does not hold the other end; that is
``cli/control.py``.
"""

from __future__ import annotations

import json
import logging
import socket
import struct
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.inspection import SLICE_OBJECTS
from amqp_broker.broker.json_values import read_json
from amqp_broker.broker.problems import AdministrationError
from amqp_broker.explanations import system_reason
from amqp_broker.logs import log_event, log_internal_error
from amqp_broker.server import control_operations, observing_commands, stream_commands
from amqp_broker.server.changes import nothing_more, until_durable
from amqp_broker.server.control_address import SOCKET_NAME, bind_for_owner
from amqp_broker.server.control_commands import COMMANDS as CHANGES
from amqp_broker.server.control_commands import LISTS as THINGS
from amqp_broker.server.control_commands import BadRequest, Command, Controlled
from amqp_broker.server.federation import commands as federation_commands
from amqp_broker.server.operations import Operations
from amqp_broker.server.shovels import commands as shovel_commands
from amqp_broker.server.status import ServerStatus

if TYPE_CHECKING:
    from amqp_broker.server.plugins import Plugins

COMMANDS: dict[str, Command] = {**CHANGES, **observing_commands.COMMANDS, **control_operations.COMMANDS}
COMMANDS |= shovel_commands.COMMANDS | federation_commands.COMMANDS
LISTS = {
    **THINGS,
    **observing_commands.LISTS,
    **control_operations.LISTS,
    **stream_commands.LISTS,
    **shovel_commands.LISTS,
    **federation_commands.LISTS,
}
CHUNK_BYTES = 65_536
LINE_BYTES_MAX = 64 * 1024 * 1024  # definitions come in one
CLIENTS_MAX = 16
FOLLOWERS_MAX = 6  # of these, who follow for as long as they like: some places must be left
PATIENCE_S = 10.0  # with a client that sends nothing, or takes nothing

Answer = dict[str, Any]


async def _shared_with_nobody(broker: Broker) -> None:
    pass


def _served_to_the_end(broker: Broker) -> AbstractContextManager[trio.CancelScope]:
    return trio.CancelScope()


@dataclass(frozen=True, slots=True)
class Control:
    """The parts of a server that the control socket acts on.

    Args:
        broker: the broker; raises AdministrationError where there is none here.
        status: tells how the server is; called in a thread.
        node_commands: of the process, or a node of a cluster; they need no broker.
        plugins: of the broker; None where there are none.
    """

    broker: Callable[[], Broker]
    status: Callable[[], ServerStatus]
    node_commands: Mapping[str, Callable[[], Awaitable[Any]]] = field(default_factory=dict)
    plugins: Callable[[], Plugins] | None = None
    broker_for: Callable[[str, Mapping[str, Any]], Broker] | None = None  # a command with its arguments, where there
    # are several; raises AdministrationError where the one that it is about is not here
    until_shared: Callable[[Broker], Awaitable[None]] = _shared_with_nobody  # returns when other nodes know what was
    # changed at a broker
    while_served: Callable[[Broker], AbstractContextManager[trio.CancelScope]] = _served_to_the_end  # is cancelled when
    # the broker is not served here any more: what waits for it would wait forever
    operations: Operations | None = None  # of the process; they need no broker
    followers: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(FOLLOWERS_MAX))


async def serve_control(control: Control, data_folder: Path) -> None:
    """Answer until cancelled. A system without Unix sockets has no control socket.

    Args:
        data_folder: held by this process, so that what is left of an earlier socket can be removed.
    """
    if not hasattr(socket, "AF_UNIX"):
        log_event(logging.WARNING, "no control socket", reason="this system has no Unix sockets for Python")
        return
    path = data_folder / SOCKET_NAME
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bind_for_owner(listening, path, CLIENTS_MAX)
    except OSError as error:
        listening.close()
        log_event(logging.ERROR, "no control socket", path=str(path), reason=system_reason(error))
        return
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
    served = trio.CapacityLimiter(CLIENTS_MAX)

    async def serve_one(stream: trio.SocketStream) -> None:
        try:
            async with served, stream:
                await _serve_client(control, _who(stream), stream)
        except Exception as error:  # a defect: of what is no JSON, say; it ends this connection, and not the broker
            log_internal_error("control", error)

    try:
        await trio.serve_listeners(serve_one, [listener])
    finally:
        path.unlink(missing_ok=True)


def _who(stream: trio.SocketStream) -> str:
    """Who is at the other end, for the log: the system's user, where the system tells."""
    if sys.platform != "linux":
        return "control socket"
    credentials = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user_id, _ = struct.unpack("3i", credentials)
    return f"uid {user_id} on the control socket"


async def _serve_client(control: Control, who: str, stream: trio.SocketStream) -> None:
    received = bytearray()
    try:
        while True:
            end = received.find(b"\n")
            while end < 0:
                with trio.fail_after(PATIENCE_S):
                    data = await stream.receive_some(CHUNK_BYTES)
                if not data or len(received) > LINE_BYTES_MAX:
                    return
                before = len(received)
                received += data
                end = received.find(b"\n", before)
            line = received[:end]
            del received[: end + 1]
            await _answer(control, who, line, stream)
    except (trio.BrokenResourceError, trio.TooSlowError):
        return


async def _answer(control: Control, who: str, line: bytearray, stream: trio.SocketStream) -> None:
    try:
        request = await _read(line)
        name, arguments = request["command"], request.get("arguments", {})
        if name in control.node_commands:
            await _send(stream, {"result": await control.node_commands[name]()})
            return
        if control.operations is not None and name in control.operations.commands:
            await _send(stream, {"result": control.operations.commands[name](who, arguments)})
            return
        if control.operations is not None and name in control.operations.streams:
            await _send_as_they_come(control, control.operations.streams[name](arguments), stream)
            await _send(stream, {"result": None})
            return
        broker = control.broker() if control.broker_for is None else control.broker_for(name, arguments)
        controlled = Controlled(broker, control.status, who, partial(_tell, stream), control.plugins)
        if name in LISTS:
            await _send_items(LISTS[name](controlled, arguments), stream)
        with control.while_served(broker) as served:
            if name == "events.follow":
                from amqp_broker.server.event_feed import follow_events  # few ask for it

                await _send_as_they_come(control, follow_events(broker), stream)
            is_command = name not in LISTS and name != "events.follow"
            result = await _command(name)(controlled, arguments) if is_command else None
            broker.handle(nothing_more)
            await until_durable(broker)
            await control.until_shared(broker)
        if served.cancelled_caught:
            raise AdministrationError("this node owns the broker no more: whether this was done is not known")
    except AdministrationError as error:
        await _send(stream, {"error": str(error), "kind": type(error).__name__})
    except (trio.BrokenResourceError, trio.TooSlowError):
        raise
    except BadRequest as error:
        await _send(stream, {"error": f"the request was not understood: {error}"})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        way_out = "call the amqp-broker of the same release as this broker"
        await _send(stream, {"error": f"the request was not understood: {way_out}"})
    except Exception as error:
        log_internal_error("control", error)
        await _send(stream, {"error": "internal error; see the broker's log"})
    else:
        await _send(stream, {"result": result})


async def _read(line: bytearray) -> Any:
    if len(line) <= CHUNK_BYTES:
        return read_json(line)
    from amqp_broker.server.importing import read_json_in_turns  # definitions, most likely

    return await read_json_in_turns(line, depth=4)


def _command(name: str) -> Command:
    if name in COMMANDS:
        return COMMANDS[name]
    from amqp_broker.server.delayed_commands import DELAYED_COMMANDS  # few ask for it

    if name in DELAYED_COMMANDS:
        return DELAYED_COMMANDS[name]
    if name.startswith("plugins."):
        from amqp_broker.server.plugin_commands import PLUGIN_COMMANDS  # likewise

        if name in PLUGIN_COMMANDS:
            return PLUGIN_COMMANDS[name]
    raise BadRequest(f"unknown command {name!r}")


async def _send_items(items: Iterator[Mapping[str, Any]], stream: trio.SocketStream) -> None:
    while some := list(islice(items, SLICE_OBJECTS)):
        await _send(stream, {"items": some})


async def _send_as_they_come(
    control: Control, lists: AsyncGenerator[list[dict[str, Any]], None], stream: trio.SocketStream
) -> None:
    """Send one list after the other, until there are no more or the client has hung up."""
    try:
        control.followers.acquire_nowait()
    except trio.WouldBlock:
        raise AdministrationError(f"{FOLLOWERS_MAX} follow the log or events already: end one of them") from None
    try:
        async with aclosing(lists):
            async for some in lists:
                await _send(stream, {"items": some})
    finally:
        control.followers.release()


async def _tell(stream: trio.SocketStream, progress: Mapping[str, Any]) -> None:
    await _send(stream, {"progress": progress})


async def _send(stream: trio.SocketStream, answer: Answer) -> None:
    with trio.fail_after(PATIENCE_S):
        await stream.send_all(json.dumps(answer).encode() + b"\n")
