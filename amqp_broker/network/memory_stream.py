"""A stream between two tasks of one trio program, without a socket.

Like the server's stream over a socket, and unlike the one that trio has for tests, it never keeps what it has read
across a turn of the loop: what has been sent and not been received is always there for ``receive_now``.
"""

from __future__ import annotations

import trio


class _Way:
    """One direction."""

    def __init__(self, limit_bytes: int | None) -> None:
        self.data = bytearray()
        self._limit_bytes = limit_bytes
        self.is_ended = False  # nothing more comes
        self.is_deaf = False  # nobody will take anything more
        self._readers = trio.lowlevel.ParkingLot()
        self._writers = trio.lowlevel.ParkingLot()

    def put(self, data: bytes | bytearray | memoryview) -> None:
        self.data += data
        self._readers.unpark_all()

    def end(self) -> None:
        self.is_ended = True
        self._readers.unpark_all()

    def take(self, max_bytes: int | None) -> bytes:
        taken = bytes(self.data[:max_bytes])
        del self.data[: len(taken)]
        self._writers.unpark_all()
        return taken

    async def wait_until_taken(self) -> None:
        while self._limit_bytes is not None and len(self.data) > self._limit_bytes and not self.is_deaf:
            await self._writers.park()

    def stop_taking(self) -> None:
        self.is_deaf = True
        self._writers.unpark_all()

    async def wait(self) -> None:
        await trio.lowlevel.checkpoint()
        while not (self.data or self.is_ended):
            await self._readers.park()


class MemoryStream(trio.abc.HalfCloseableStream):
    """One end. It takes whatever is sent at once, unless the stream has a limit.

    Args:
        incoming: what the other end sends.
        outgoing: what it gets.
    """

    def __init__(self, incoming: _Way, outgoing: _Way) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._is_closed = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has arrived, waiting for it; ``b""`` when the other end sends no more.

        Raises:
            ClosedResourceError: this end was closed.
        """
        if max_bytes is not None and max_bytes < 1:
            raise ValueError("max_bytes must be 1 or more")
        while True:
            await self._incoming.wait()
            if self._is_closed:
                raise trio.ClosedResourceError("this stream was closed")
            data = self._incoming.take(max_bytes)
            if data or self._incoming.is_ended:
                return data

    def receive_now(self, max_bytes: int) -> bytes:
        """What has arrived already; ``b""`` when nothing has, or the other end sends no more."""
        return self._incoming.take(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Hand the data over.

        Raises:
            BrokenResourceError: the other end was closed.
            ClosedResourceError: this end was closed, or has said that it sends no more.
        """
        await trio.lowlevel.checkpoint()
        if self._is_closed or self._outgoing.is_ended:
            raise trio.ClosedResourceError("this stream was closed")
        if self._outgoing.is_deaf:
            raise trio.BrokenResourceError("the other end was closed")
        self._outgoing.put(data)
        await self._outgoing.wait_until_taken()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the other end has taken most of what was sent, where the stream has a limit."""
        await trio.lowlevel.checkpoint()
        await self._outgoing.wait_until_taken()

    async def send_eof(self) -> None:
        """Tell the other end that no more will be sent."""
        await trio.lowlevel.checkpoint()
        self._outgoing.end()

    async def aclose(self) -> None:
        """Close this end; the other end is told."""
        if not self._is_closed:
            self._is_closed = True
            self._outgoing.end()
            self._incoming.stop_taking()
            self._incoming.end()  # whoever waits at this end is told
        await trio.lowlevel.checkpoint()


def stream_pair(limit_bytes: int | None = None) -> tuple[MemoryStream, MemoryStream]:
    """Two ends of one stream.

    Args:
        limit_bytes: whoever sends waits while more than so much was sent and not received; None for never.
    """
    here, there = _Way(limit_bytes), _Way(limit_bytes)
    return MemoryStream(here, there), MemoryStream(there, here)
