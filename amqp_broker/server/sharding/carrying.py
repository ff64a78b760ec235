"""The carrying of a client's bytes to whoever serves it, and back, without understanding them.

Flow control is that of the sockets: what one side does not read is not read from the other.
"""

from __future__ import annotations

import math
from typing import Final

import trio

from amqp_broker.network.pump import FAREWELL_TIMEOUT_S

CARRY_BYTES: Final = 262_144


class Prefixed(trio.abc.HalfCloseableStream):
    """A stream whose first bytes were read already."""

    def __init__(self, stream: trio.abc.Stream, first: bytes) -> None:
        self._stream = stream
        self._first = first

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._first:
            first, self._first = self._first[:max_bytes], self._first[max_bytes:] if max_bytes else b""
            return first
        return bytes(await self._stream.receive_some(max_bytes))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def carry(client: trio.abc.Stream, owner: trio.abc.Stream) -> None:
    """Carry bytes both ways until both sides have ended, or one has failed, or a moment after the owner has ended."""
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_pass_on, client, owner, nursery.cancel_scope, math.inf)
            nursery.start_soon(_pass_on, owner, client, nursery.cancel_scope, FAREWELL_TIMEOUT_S)
    finally:
        for stream in (client, owner):
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)


async def _pass_on(source: trio.abc.Stream, target: trio.abc.Stream, both: trio.CancelScope, farewell_s: float) -> None:
    try:
        while data := await source.receive_some(CARRY_BYTES):
            await target.send_all(data)
        both.deadline = min(both.deadline, trio.current_time() + farewell_s)
        if isinstance(target, trio.abc.HalfCloseableStream):
            await target.send_eof()
        else:
            both.cancel()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        both.cancel()
