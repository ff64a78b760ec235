"""The control socket: how the command line asks a broker that runs to change its users, permissions and virtual hosts.

A Unix socket in the data folder, for the broker's own user only (mode 0600): who may open it could read the journal as
well, so it asks for no password. A request is one line of JSON, ``{"command": "users.add", "arguments": {…}}``; so is
the answer, ``{"result": …}`` or ``{"error": "…"}``, sent when what was changed is durable.

The commands are in ``control_commands.py``. Does not hold the other end; that is ``cli/control.py``.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from amqp_broker.broker.administration import AdministrationError
from amqp_broker.broker.broker import Broker
from amqp_broker.logs import log_event, log_internal_error
from amqp_broker.server.control_commands import COMMANDS, BadRequest

SOCKET_NAME = "control"
LINE_BYTES_MAX = 65_536
CLIENTS_MAX = 16
PATIENCE_S = 10.0
ADDRESS_BYTES_MAX = 100  # what fits into a socket's address on every system


async def serve_control(broker: Broker, data_folder: Path) -> None:
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
        _bind(listening, path)
    except OSError as error:
        listening.close()
        log_event(logging.ERROR, "no control socket", path=str(path), reason=error.strerror or str(error))
        return
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
    served = trio.CapacityLimiter(CLIENTS_MAX)

    async def serve_one(stream: trio.SocketStream) -> None:
        with trio.move_on_after(PATIENCE_S):
            async with served, stream:
                await _serve_client(broker, stream)

    try:
        await trio.serve_listeners(serve_one, [listener])
    finally:
        path.unlink(missing_ok=True)


def _bind(listening: socket.socket, path: Path) -> None:
    path.unlink(missing_ok=True)
    umask = os.umask(0o177)
    try:
        with reachable_address(path) as address:
            listening.bind(address)
    finally:
        os.umask(umask)
    listening.listen(CLIENTS_MAX)


@contextmanager
def reachable_address(path: Path) -> Iterator[str]:
    """A socket's path, in a form that is short enough for an address.

    Raises:
        OSError: it is too long, and this system knows no way around that.
    """
    if len(os.fsencode(path)) <= ADDRESS_BYTES_MAX:
        yield str(path)
        return
    if sys.platform == "linux":
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield f"/proc/self/fd/{folder}/{path.name}"
        finally:
            os.close(folder)
    else:
        way_out = "choose a data folder with a shorter name"
        raise OSError(f"its path is longer than the {ADDRESS_BYTES_MAX} bytes of a socket's address: {way_out}")


async def _serve_client(broker: Broker, stream: trio.SocketStream) -> None:
    received = b""
    try:
        while True:
            while b"\n" not in received:
                data = await stream.receive_some(LINE_BYTES_MAX)
                if not data or len(received) > LINE_BYTES_MAX:
                    return
                received += data
            line, _, received = received.partition(b"\n")
            answer = await _answer(broker, line)
            await stream.send_all(json.dumps(answer).encode() + b"\n")
    except trio.BrokenResourceError:
        return


async def _answer(broker: Broker, line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
        command = COMMANDS.get(request["command"])
        if command is None:
            raise BadRequest(f"unknown command {request['command']!r}")
        result = await command(broker, request.get("arguments", {}))
    except AdministrationError as error:
        return {"error": str(error)}
    except BadRequest as error:
        return {"error": f"the request was not understood: {error}"}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {"error": "the request was not understood: call the amqp-broker of the same release as this broker"}
    except Exception as error:
        log_internal_error("control", error)
        return {"error": "internal error; see the broker's log"}
    broker.handle(_nothing_more)
    await _until_durable(broker)
    return {"result": result}


async def _until_durable(broker: Broker) -> None:
    """Return when the journal has kept all that was changed so far."""
    position = broker.durability.last_change
    while not broker.durability.is_kept(position):
        committed = trio.Event()
        broker.awaiting_commit[committed.set] = None
        broker.handle(_nothing_more)  # what was written need not have been synced, if nobody waited
        try:
            await committed.wait()
        finally:
            broker.awaiting_commit.pop(committed.set, None)


def _nothing_more() -> None:
    """The command has done it, piece by piece; what follows from it is to be done, and written."""
