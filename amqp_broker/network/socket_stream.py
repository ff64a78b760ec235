"""A trio stream over a connected socket that does as little as it can for each chunk.

trio's own SocketStream tries first and waits second, and takes a turn of the scheduler after a success. Here a read
waits until the socket is readable and then reads once: in each round of the event loop every connection gets one chunk,
which is the fairness that the broker promises.
"""

from __future__ import annotations

import errno
import operator
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import cast

import trio

from amqp_broker.explanations import system_reason
from amqp_broker.journal.stretches import FileStretch
from amqp_broker.network.connection_log import CLIENT_LEFT, CLIENT_RESET
from amqp_broker.network.direct_stream import DirectStream, Part

_CHUNK_BYTES = 262_144

_LARGE_BYTES = 4096  # what is larger is not copied in order to be sent in one piece with others
CAN_SCATTER = hasattr(socket.socket, "recvmsg_into")  # Windows has none
_KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}  # seconds, seconds, and how often

_MORE_FOLLOWS: int = getattr(socket, "MSG_MORE", 0)
_NOT_SUPPORTED = (errno.EINVAL, errno.ENOSYS)  # by the file system, or the system's filter of calls
_PARTS_MAX = 512  # POSIX promises 16, every system that we know takes 1024


class SentNothing(Exception):
    """A client went without a word: most often it only wants to know whether somebody listens."""


class SocketStream(DirectStream):
    """One connected, non-blocking TCP socket.

    Args:
        connected: the socket; from now on it belongs to the stream.
    """

    __slots__ = ("_is_half_closed", "_reset", "_sends_files", "_socket")

    takes_stretches = True
    read_byte_s = 0.0

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connected
        self._is_half_closed = False
        self._reset: OSError | None = None  # as the system says once; then it says that the peer has come to its end
        self._sends_files = True  # until the system says that it does not do so

    @property
    def connected(self) -> socket.socket:
        """The socket; nothing of what it has received is kept here."""
        return self._socket

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has arrived, waiting for it; ``b""`` when the peer sends no more.

        Raises:
            BrokenResourceError: the connection failed; the cause tells why.
            ClosedResourceError: this stream was closed.
        """
        size_bytes = _CHUNK_BYTES if max_bytes is None else operator.index(max_bytes)
        if size_bytes < 1:
            raise ValueError("max_bytes must be 1 or more")
        connected = self._socket
        while True:
            if connected.fileno() < 0:  # as in _wait, whose coroutine would cost as much as the rest of this
                raise trio.ClosedResourceError("this stream was closed")
            await trio.lowlevel.wait_readable(connected)
            try:
                data = connected.recv(size_bytes)
            except (BlockingIOError, InterruptedError):
                continue
            except OSError as error:
                raise self._failure(error) from error
            if not data and self._reset is not None:
                raise self._failure(self._reset)
            return data

    async def receive_into(self, body_buffers: Callable[[], Sequence[memoryview]]) -> int:
        """Wait until something has arrived, and put it where it belongs."""
        while True:
            await self._wait(trio.lowlevel.wait_readable)
            buffers = body_buffers()
            if not buffers:
                return -1
            try:
                if sys.platform == "win32":  # it cannot scatter
                    filled_bytes = self._socket.recv_into(buffers[0])
                else:
                    filled_bytes = self._socket.recvmsg_into(buffers)[0]
            except (BlockingIOError, InterruptedError):
                continue
            except OSError as error:
                raise self._failure(error) from error
            if not filled_bytes and self._reset is not None:
                raise self._failure(self._reset)
            return filled_bytes

    def receive_now(self, max_bytes: int) -> bytes:
        """What has arrived already; ``b""`` when nothing has, or the peer sends no more, or the connection failed.

        A task that waits in ``receive_some`` goes on waiting; it is told of an end or a failure.
        """
        try:
            return self._socket.recv(max_bytes)
        except OSError as error:
            self._note_reset(error)
            return b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Hand all of the data to the system, waiting as often as its buffer is full.

        Raises:
            BrokenResourceError: the connection failed; the cause tells why.
            ClosedResourceError: this stream was closed.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        rest = data
        while True:
            try:
                sent_bytes = self._socket.send(rest)
            except (BlockingIOError, InterruptedError):
                sent_bytes = 0
            except OSError as error:
                raise self._failure(error) from error
            if sent_bytes == len(rest):
                # Now, not before: the others have their turn after the client has been answered.
                await trio.lowlevel.cancel_shielded_checkpoint()
                return
            rest = memoryview(rest)[sent_bytes:]
            await self._wait(trio.lowlevel.wait_writable)

    def send_now(self, parts: list[Part]) -> list[Part]:
        """Hand as much to the system as it takes at once; returns what is left."""
        parts = _gathered(parts)
        first = parts[0]
        try:
            if len(parts) == 1 and not isinstance(first, FileStretch):  # the usual answer: all of it goes at once
                sent_bytes = self._socket.send(first)
                return [] if sent_bytes == len(first) else [memoryview(first)[sent_bytes:]]
            return self._send_some(parts)
        except OSError as error:
            self._note_reset(error)
            return parts

    async def send_parts(self, parts: list[Part]) -> None:
        """Hand all parts to the system; large ones are not joined."""
        await trio.lowlevel.checkpoint_if_cancelled()
        rest = _gathered(parts)
        while True:
            try:
                rest = self._send_some(rest)
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as error:
                raise self._failure(error) from error
            if not rest:
                return
            await self._wait(trio.lowlevel.wait_writable)

    def _send_some(self, parts: list[Part]) -> list[Part]:
        """Hand as much to the system as it takes at once, or less; returns what is left."""
        if FileStretch in map(type, parts):
            return self._send_stretches(parts)
        known = cast("list[bytes | memoryview]", parts)
        if sys.platform == "win32" or len(parts) == 1:  # Windows cannot gather
            sent_bytes = self._socket.send(known[0])
        else:
            sent_bytes = self._socket.sendmsg(known[:_PARTS_MAX])
        return _behind(known, sent_bytes)

    def _send_stretches(self, parts: list[Part]) -> list[Part]:
        """``_send_some`` where some of the parts lie in files, which the system sends without a copy.

        A failure behind what has been sent is told by the next call: what has been sent must not be sent again.
        """
        last = len(parts) - 1
        for position, part in enumerate(parts):
            flags = _MORE_FOLLOWS if position < last else 0
            try:
                if isinstance(part, FileStretch):
                    rest: Part | None = self._send_stretch(part, flags)
                else:
                    sent_bytes = self._socket.send(part, flags)
                    rest = memoryview(part)[sent_bytes:] if sent_bytes < len(part) else None
            except OSError:
                if not position:
                    raise
                return parts[position:]
            if rest is not None:
                return [rest, *parts[position + 1 :]]
        return []

    def _send_stretch(self, stretch: FileStretch, flags: int) -> FileStretch | None:
        """Hand as much of it to the system as it takes; returns what is left, if anything."""
        size_bytes = len(stretch)
        if sys.platform != "win32" and self._sends_files:
            try:
                taken_bytes = os.sendfile(self._socket.fileno(), stretch.descriptor, stretch.offset, size_bytes)
            except OSError as error:
                if error.errno not in _NOT_SUPPORTED:
                    raise
                self._sends_files = False
            else:
                if not taken_bytes:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))  # the file was cut
                return stretch.behind(taken_bytes) if taken_bytes < size_bytes else None
        taken_bytes = self._socket.send(stretch.first(_CHUNK_BYTES), flags)
        return stretch.behind(taken_bytes) if taken_bytes < size_bytes else None

    async def wait_send_all_might_not_block(self) -> None:
        """Return when the system's buffer takes more."""
        await self._wait(trio.lowlevel.wait_writable)

    async def send_eof(self) -> None:
        """Tell the peer that no more will be sent."""
        await trio.lowlevel.checkpoint()
        if self._is_half_closed:
            return
        try:
            self._socket.shutdown(socket.SHUT_WR)
            self._is_half_closed = True
        except OSError as error:
            raise self._failure(error) from error

    async def aclose(self) -> None:
        """Close the socket; tasks that wait on it are told."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
        await trio.lowlevel.checkpoint()

    async def _wait(self, until_ready: Callable[[socket.socket], Awaitable[None]]) -> None:
        if self._socket.fileno() < 0:
            raise trio.ClosedResourceError("this stream was closed")
        await until_ready(self._socket)

    def _note_reset(self, error: OSError) -> None:
        if isinstance(error, ConnectionResetError):
            self._reset = error.with_traceback(None)  # which knows this stream: see ``server/garbage.py``

    def _failure(self, error: OSError) -> Exception:
        if self._socket.fileno() < 0 or (isinstance(error, BrokenPipeError) and self._is_half_closed):
            return trio.ClosedResourceError("this stream was closed")
        if isinstance(error, (ConnectionResetError, BrokenPipeError)):
            return trio.BrokenResourceError(CLIENT_RESET)
        return trio.BrokenResourceError(system_reason(error))


async def receive_first(stream: trio.abc.ReceiveStream, max_bytes: int) -> bytes:
    """What a client begins with.

    Raises:
        SentNothing: it has gone instead.
    """
    try:
        data = await stream.receive_some(max_bytes)
    except trio.BrokenResourceError as error:
        raise SentNothing(str(error)) from error
    if not data:
        raise SentNothing(CLIENT_LEFT)
    return bytes(data)


def keep_alive(connected: socket.socket | trio.socket.SocketType) -> None:
    """Have the system find out whether the peer's host is still there: in two minutes, where it lets us say so.

    macOS refuses it where the peer has gone already, which whoever reads or writes is told.
    """
    with suppress(OSError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE.items():
            option = getattr(socket, name, None)
            if option is not None:
                connected.setsockopt(socket.IPPROTO_TCP, option, value)


def _gathered(parts: list[Part]) -> list[Part]:
    """The same bytes in as few parts as is possible without copying a large one."""
    if len(parts) < 2:
        return parts
    if FileStretch not in map(type, parts) and max(map(len, parts)) < _LARGE_BYTES:
        return [b"".join(parts)]  # type: ignore[arg-type]  # there is no stretch
    gathered: list[Part] = []
    small: list[bytes | memoryview] = []
    for part in parts:
        if not isinstance(part, FileStretch) and len(part) < _LARGE_BYTES:
            small.append(part)
            continue
        if small:
            gathered.append(b"".join(small) if len(small) > 1 else small[0])
            small = []
        gathered.append(part)
    if small:
        gathered.append(b"".join(small))
    return gathered


def _behind(parts: list[bytes | memoryview], sent_bytes: int) -> list[Part]:
    """What is left of the parts when so many bytes have been sent."""
    for position, part in enumerate(parts):
        if sent_bytes < len(part):
            return [memoryview(part)[sent_bytes:], *parts[position + 1 :]]
        sent_bytes -= len(part)
    return []
