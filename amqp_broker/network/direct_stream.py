"""A byte stream as the pump likes it best: read to where a body stays, and sent without a task for it.

A socket's stream is one, and TLS on one. A web socket and a link between two processes do only what trio asks of a
stream.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import trio

from amqp_broker.journal.stretches import Sendable

Part = Sendable  # of what is sent: bytes, or a stretch of a file


class DirectStream(trio.abc.HalfCloseableStream):
    """A byte stream that can be read into buffers, and that sends at once what the system takes."""

    __slots__ = ()

    takes_stretches: ClassVar[bool]  # whether it can send stretches of files
    read_byte_s: ClassVar[float]  # what a byte that is read takes of our own time, in seconds

    @abstractmethod
    async def receive_into(self, body_buffers: Callable[[], Sequence[memoryview]]) -> int:
        """Wait until something has arrived, and put it where it belongs.

        Args:
            body_buffers: asked just before; the buffers are filled in their order.

        Returns:
            How much it was; 0 when the peer sends no more; -1 when there were none, and nothing was read.

        Raises:
            BrokenResourceError: the connection failed; the cause tells why.
            ClosedResourceError: this stream was closed.
        """

    @abstractmethod
    def send_now(self, parts: list[Part]) -> list[Part]:
        """Hand as much to the system as it takes at once; returns what is left.

        That goes to ``send_parts``, before anything else: an empty part as well, which stands for what is encrypted
        already. A failure counts as nothing taken: whoever sends the rest is told.
        """

    @abstractmethod
    async def send_parts(self, parts: list[Part]) -> None:
        """Hand all parts to the system, as ``send_all`` does.

        It lets others have their turn only when it waits: whoever calls it does so behind it.

        Raises:
            BrokenResourceError: the connection failed; the cause tells why.
            ClosedResourceError: this stream was closed.
        """
