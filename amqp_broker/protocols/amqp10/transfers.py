"""The transfers of a delivery that could not be sent in one, or not at once: its frames, made as they are sent.

Who takes small frames gets tens of thousands of them for one large message. Does not know when they may be sent: that
is the session's.
"""

from __future__ import annotations

from typing import Final

from amqp_broker.protocols.amqp10.frames import AMQP, FRAME_HEADER_BYTES, encode_frame, encode_frames
from amqp_broker.protocols.amqp10.performatives import further_transfer_performative, transfer_performative

PERFORMATIVE_BYTES_MAX: Final = 32  # of a transfer
TAKEN_AT_ONCE_BYTES: Final = 65_536  # about: so much is made before it is asked again whether more may be sent


def payload_bytes_max(frame_bytes_max: int) -> int:
    """The most of a payload that goes into one transfer.

    Args:
        frame_bytes_max: of a frame that the client takes.
    """
    return frame_bytes_max - FRAME_HEADER_BYTES - PERFORMATIVE_BYTES_MAX


class Transfers:
    """The rest of a delivery, which has not been sent.

    Args:
        channel: of the session.
        handle: of the link.
        delivery_id: of the delivery.
        settled: whether it is settled as it is sent.
        payload: all of it, which is never empty.
        part_bytes: how much of that goes into one transfer at most.
    """

    __slots__ = ("_channel", "_delivery_id", "_part_bytes", "_payload", "_settled", "_start", "handle")

    def __init__(
        self, channel: int, handle: int, delivery_id: int, settled: bool, payload: bytes, part_bytes: int
    ) -> None:
        self.handle = handle
        self._channel = channel
        self._delivery_id = delivery_id
        self._settled = settled
        self._payload = payload
        self._part_bytes = part_bytes
        self._start = 0  # of what has not been taken

    @property
    def are_all_taken(self) -> bool:
        """Whether nothing is left."""
        return self._start >= len(self._payload)

    def take(self, count_max: int) -> tuple[bytes, int]:
        """The next frames, one or more of them, and how many they are.

        Args:
            count_max: how many there may be at most; not less than 1.
        """
        channel, payload, start, part_bytes = self._channel, self._payload, self._start, self._part_bytes
        left = -(-(len(payload) - start) // part_bytes)
        more = left > 1
        if start and more:
            count = max(1, min(count_max, left - 1, TAKEN_AT_ONCE_BYTES // part_bytes))
            self._start = end = start + count * part_bytes
            head = further_transfer_performative(self.handle, settled=self._settled, more=True)
            view = memoryview(payload)
            parts = [view[offset : offset + part_bytes] for offset in range(start, end, part_bytes)]
            return encode_frames(AMQP, channel, head, parts), count
        self._start = start + part_bytes
        if start:
            head = further_transfer_performative(self.handle, settled=self._settled, more=False)
        else:
            head = transfer_performative(self.handle, self._delivery_id, settled=self._settled, more=more)
        return encode_frame(AMQP, channel, head, payload[start : start + part_bytes]), 1
