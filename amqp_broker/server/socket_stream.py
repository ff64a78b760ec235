"""A trio stream over a connected socket that does as little as it can for each chunk.

trio's own SocketStream tries first and waits second, and takes a turn of the scheduler after a success. Here a read
waits until the socket is readable and then reads once: in each round of the event loop every connection gets one chunk,
which is the fairness that the broker promises.
"""

from __future__ import annotations

import socket

import trio

_BUFFER_BYTES = 262_144


class SocketStream(trio.abc.HalfCloseableStream):
    """One connected, non-blocking TCP socket.

    Args:
        connected: the socket; from now on it belongs to the stream.
    """

    __slots__ = ("_socket",)

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connected

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has arrived, waiting for it; ``b""`` when the peer sends no more.

        Raises:
            BrokenResourceError: the connection failed; the cause tells why.
        """
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(max_bytes or _BUFFER_BYTES)
            except (BlockingIOError, InterruptedError):
                continue
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Hand all of the data to the system, waiting as often as its buffer is full.

        Raises:
            BrokenResourceError: the connection failed; the cause tells why.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        rest = data
        while True:
            try:
                sent_bytes = self._socket.send(rest)
            except (BlockingIOError, InterruptedError):
                sent_bytes = 0
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error
            if sent_bytes == len(rest):
                # Now, not before: the others have their turn after the client has been answered.
                await trio.lowlevel.cancel_shielded_checkpoint()
                return
            rest = memoryview(rest)[sent_bytes:]
            await trio.lowlevel.wait_writable(self._socket)

    async def wait_send_all_might_not_block(self) -> None:
        """Return when the system's buffer has room."""
        await trio.lowlevel.wait_writable(self._socket)

    async def send_eof(self) -> None:
        """Tell the peer that no more will be sent."""
        await trio.lowlevel.checkpoint()
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def aclose(self) -> None:
        """Close the socket; tasks that wait on it are told."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
        await trio.lowlevel.checkpoint()
