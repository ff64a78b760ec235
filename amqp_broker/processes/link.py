"""The link from one process to another: a client whose socket is handed over or whose bytes are carried, and notices.

A Unix socket in the folder of the process that is called, for the broker's own user only. The caller says in one line
of JSON what it brings; a client's socket comes with that line (SCM_RIGHTS, unix(7)). The other side answers with a
byte when it has taken it; what comes behind that is the client's, where its bytes are carried.
"""

from __future__ import annotations

import array
import base64
import json
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import trio

from amqp_broker.access.client import Peer, Tls
from amqp_broker.explanations import system_reason
from amqp_broker.logs import log_internal_error
from amqp_broker.server.control_address import bind_for_owner, reachable_address

LINK_NAME: Final = "link"
BACKLOG: Final = 1024
TAKEN: Final = b"+"
TIMEOUT_S: Final = 3.0
READ_BYTES: Final = 65_536
LINE_BYTES_MAX: Final = 16_777_216
_DESCRIPTOR: Final = array.array("i", [0])


class LinkUnreachable(Exception):
    """The other process does not take what is brought to it."""


@dataclass(frozen=True, slots=True)
class Brought:
    """A client that one process brings to another, a notice, or events.

    Args:
        protocol: that the client speaks; "" where there is none: the directory has changed.
        peer: the client.
        heard: what it has said, where its socket is handed over.
        answered: how many frames it was answered.
        client: its socket; None where its bytes are carried.
    """

    protocol: str
    peer: Peer
    heard: bytes = b""
    answered: int = 0
    client: socket.socket | None = None


NOBODY: Final = Peer("", 0, is_loopback=True)
NOTICE: Final = Brought("", NOBODY)
EVENTS: Final = "events"  # in place of a protocol: what is heard are events of the other process (events.py)


async def bring(folder: Path, brought: Brought, timeout_s: float = TIMEOUT_S) -> trio.SocketStream:
    """Bring something to a process, which has taken it when this returns.

    Args:
        folder: of that process.

    Returns:
        The link, to be closed.

    Raises:
        LinkUnreachable: it was not taken.
    """
    calling = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with trio.fail_after(timeout_s):
            with reachable_address(folder / LINK_NAME) as address:
                await calling.connect(address)
            line, attached = _encode(brought)
            sent = await calling.sendmsg([line], attached)
            stream = trio.SocketStream(calling)
            await stream.send_all(line[sent:])
            if await stream.receive_some(1) != TAKEN:
                raise LinkUnreachable("it does not take it")
            return stream
    except BaseException as error:
        calling.close()
        if isinstance(error, OSError):
            raise LinkUnreachable(system_reason(error)) from error
        if isinstance(error, trio.BrokenResourceError | trio.TooSlowError):
            raise LinkUnreachable("it does not answer") from error
        raise


def _encode(brought: Brought) -> tuple[bytes, list[Any]]:
    fields = {
        "protocol": brought.protocol,
        "peer": asdict(brought.peer),
        "heard": base64.b64encode(brought.heard).decode(),
        "answered": brought.answered,
        "is_handed_over": brought.client is not None,
    }
    attached: list[Any] = []
    if brought.client is not None:
        attached.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [brought.client.fileno()])))
    return json.dumps(fields).encode() + b"\n", attached


def listen_for_links(folder: Path) -> trio.SocketListener:
    """Let other processes call.

    Args:
        folder: of this process, which alone uses it.

    Raises:
        OSError: the system refuses it.
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bind_for_owner(listening, folder / LINK_NAME, BACKLOG)
    except BaseException:
        listening.close()
        raise
    return trio.SocketListener(trio.socket.from_stdlib_socket(listening))


async def serve_link(stream: trio.SocketStream, take: Callable[[Brought, trio.SocketStream], Awaitable[None]]) -> None:
    """Have one call taken.

    Args:
        take: what was brought, over which link; to be answered with ``TAKEN``.
    """
    async with stream:
        try:
            with trio.fail_after(TIMEOUT_S):
                brought = await _receive(stream)
        except (OSError, ValueError, KeyError, TypeError, trio.TooSlowError):
            return
        try:
            await take(brought, stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the caller has gone
        except Exception as error:
            log_internal_error("link", error, peer=str(brought.peer))
        finally:
            if brought.client is not None:
                brought.client.close()


async def _receive(stream: trio.SocketStream) -> Brought:
    """What a caller brings.

    Raises:
        ValueError: it is nothing.
        OSError: the link has failed.
    """
    received, client = bytearray(), None
    try:
        while not received.endswith(b"\n"):
            data, attached, _, _ = await stream.socket.recvmsg(READ_BYTES, socket.CMSG_SPACE(_DESCRIPTOR.itemsize))
            if not data or len(received) > LINE_BYTES_MAX:
                raise ValueError("the caller says nothing that is understood")
            received += data
            for level, kind, value in attached:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    client = _socket_of(value)
        return _decode(received, client)
    except BaseException:
        if client is not None:
            client.close()
        raise


def _socket_of(value: bytes) -> socket.socket:
    descriptors = array.array("i")
    descriptors.frombytes(value[: _DESCRIPTOR.itemsize])
    os.set_inheritable(descriptors[0], False)
    return socket.socket(fileno=descriptors[0])


def _decode(line: bytearray, client: socket.socket | None) -> Brought:
    fields = json.loads(line)
    if fields["is_handed_over"] != (client is not None):
        raise ValueError("the system had no room for the client's socket, and has dropped it")
    peer, tls = fields["peer"], fields["peer"]["tls"]
    found = Peer(**{**peer, "tls": None if tls is None else Tls(**tls)})
    return Brought(fields["protocol"], found, base64.b64decode(fields["heard"]), fields["answered"], client)
