"""A trio stream over a connected socket that does as little as it can for each chunk.

trio's own SocketStream tries first and waits second, and takes a turn of the scheduler after a success. Here a read
waits until the socket is readable and then reads once: in each round of the event loop every connection gets one chunk,
which is the fairness that the broker promises.
"""

from __future__ import annotations

import operator
import socket
from collections.abc import Awaitable, Callable

import trio

_CHUNK_BYTES = 262_144


class SocketStream(trio.abc.HalfCloseableStream):
    """One connected, non-blocking TCP socket.

    Args:
        connected: the socket; from now on it belongs to the stream.
    """

    __slots__ = ("_is_half_closed", "_socket")

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connected
        self._is_half_closed = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has arrived, waiting for it; ``b""`` when the peer sends no more.

        Raises:
            BrokenResourceError: the connection failed; the cause tells why.
            ClosedResourceError: this stream was closed.
        """
        size_bytes = _CHUNK_BYTES if max_bytes is None else operator.index(max_bytes)
        if size_bytes < 1:
            raise ValueError("max_bytes must be 1 or more")
        while True:
            await self._wait(trio.lowlevel.wait_readable)
            try:
                return self._socket.recv(size_bytes)
            except (BlockingIOError, InterruptedError):
                continue
            except OSError as error:
                raise self._failure(error) from error

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

    def send_now(self, data: bytes) -> int:
        """Hand as much of the data to the system as it takes at once; returns how many bytes that is.

        A failure counts as nothing: whoever sends the rest with ``send_all`` is told.
        """
        try:
            return self._socket.send(data)
        except OSError:
            return 0

    async def wait_send_all_might_not_block(self) -> None:
        """Return when the system's buffer has room."""
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

    def _failure(self, error: OSError) -> Exception:
        if self._socket.fileno() < 0 or (isinstance(error, BrokenPipeError) and self._is_half_closed):
            return trio.ClosedResourceError("this stream was closed")
        return trio.BrokenResourceError(str(error))
