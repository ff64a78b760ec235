"""Buffers for a large body, into which a socket is read directly.

A body of 1 MiB comes in nine frames. Read as anything else it would be copied three times: cut into payloads, kept
until each frame is whole, and joined. But when one frame of it has begun, what comes next is nearly always known: the
rest of that frame, its end byte, the header of the next frame, which is of the same size, and so on to the last. So the
bytes are read to where they belong, payloads one behind the other, what stands between them beside; and looked at when
they are there. If the guess was wrong (a heartbeat between two frames, another channel's frame, a frame of another
size), whatever came behind the frame before is put together again as it came.

What comes behind the body is most often the next message: its first bytes, enough for the beginning of a body, are
read with the end of this one, so that a large body takes one turn of the event loop instead of two.

Holds the layout and the look at it. Does not know whose body it is, nor how much of it may be expected.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from io import BytesIO
from typing import Final, cast

BODY: Final = 3
FRAME_END: Final = 0xCE
_END_AND_FRAME_HEADER: Final = struct.Struct(">BBHI")
_GAP_BYTES: Final = _END_AND_FRAME_HEADER.size  # an end byte and the next frame's header
BEHIND_BYTES: Final = 4096  # of what follows the body, read with its end


@lru_cache(maxsize=1)
def _bytes_maker() -> Callable[[int], bytes]:
    """What makes bytes of a size, without writing to their memory where that can be done.

    Zeros take a tenth of all that a body of 1 MiB costs: written to memory that is new they are a page fault for each
    4 KiB, in which no other thread gets on; and ``bytes(size)`` writes them where memory was used before.
    """
    if sys.implementation.name != "cpython":
        return bytes
    import ctypes  # not before it is needed

    make = ctypes.pythonapi.PyBytes_FromStringAndSize
    make.restype, make.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_ssize_t)
    return lambda size_bytes: cast("bytes", make(None, size_bytes))


class BodyBuffers:
    """The payloads of one or more frames of a body, as they come.

    Args:
        channel: the body's.
        frame_bytes: the payload's size of the frame that has begun. Those behind it are taken to be as large, but
            for the last.
        begun: what has come of that frame's payload.
        size_bytes: of all payloads together.
    """

    def __init__(self, channel: int, frame_bytes: int, begun: memoryview, size_bytes: int) -> None:
        self.channel = channel
        self._frame_bytes = frame_bytes
        self._stride_bytes = frame_bytes + _GAP_BYTES
        self._last = (size_bytes - 1) // frame_bytes  # the number of the last frame; the first is 0
        self._end = size_bytes + self._last * _GAP_BYTES + 1  # of all that is expected, from the first payload on
        self._last_bytes = size_bytes - self._last * frame_bytes
        # What is written to a BytesIO becomes bytes without another copy, as long as nobody looks at it meanwhile, and
        # nobody else has those that it begins with. Of what they hold only what was written over is handed on.
        self._payloads = BytesIO(_bytes_maker()(size_bytes))
        self._payloads.write(begun)
        self._gaps = bytearray((self._last + 1) * _GAP_BYTES)
        self._expected_gaps = b""  # but for the one behind the last frame
        if self._last:
            gap = _END_AND_FRAME_HEADER.pack(FRAME_END, BODY, channel, frame_bytes)
            last_gap = _END_AND_FRAME_HEADER.pack(FRAME_END, BODY, channel, self._last_bytes)
            self._expected_gaps = gap * (self._last - 1) + last_gap
        self._gaps_view = memoryview(self._gaps)
        self._behind = bytearray()  # made when it may be read into
        self._lent: list[memoryview] = []
        self._came_bytes = len(begun)
        self._seen = 0  # the number of the frame whose end is to be looked at next

    @property
    def is_full(self) -> bool:
        """Whether the last end byte has come."""
        return self._came_bytes >= self._end

    @property
    def wrong_end(self) -> int:
        """What stands where the frame that was not seen to end should do so; -1 when it is right, or not here."""
        at = self._frame_end(self._seen)
        end_byte = self._gaps[self._seen * _GAP_BYTES] if at < self._came_bytes else FRAME_END
        return -1 if end_byte == FRAME_END else end_byte

    @property
    def unended_payload(self) -> bytes:
        """The payload of the frame that was not seen to end."""
        start = self._seen * self._frame_bytes
        self._payloads.seek(start)
        return self._payloads.read(self._payload_bytes(self._seen))

    def buffers(self, bytes_max: int) -> Sequence[memoryview]:
        """Where the next bytes of the stream belong, in this order; good until they are ``filled``.

        Args:
            bytes_max: the most that is wanted at once.
        """
        self.take_back()
        end = min(self._came_bytes + bytes_max, self._end + BEHIND_BYTES)
        if end > self._end and not self._behind:
            self._behind = bytearray(BEHIND_BYTES)
        self._lent = self._between(self._came_bytes, end)
        return self._lent

    def filled(self, size_bytes: int) -> bool:
        """So many bytes have come into the buffers; returns whether they are, as far as can be told, as expected."""
        self.take_back()
        self._came_bytes += size_bytes
        seen = min(self._came_bytes // self._stride_bytes, self._last)
        is_expected = self._expected_gaps.startswith(self._gaps[: seen * _GAP_BYTES])
        if not is_expected:
            seen = self._first_unexpected()
        self._seen = seen
        return is_expected and self.wrong_end < 0

    def _first_unexpected(self) -> int:
        """The number of the first frame behind which something else came than expected."""
        number = at = 0
        while self._gaps[at : at + _GAP_BYTES] == self._expected_gaps[at : at + _GAP_BYTES]:
            number += 1
            at += _GAP_BYTES
        return number

    def take(self) -> tuple[bytes, bytes]:
        """What has come, when it is all or not what was expected; the buffers are given up with it.

        Returns:
            The payloads of the frames that were seen to end, in one; and the bytes that followed them.
        """
        self.take_back()
        whole_end = self._frame_end(self._seen)
        self._lent = self._between(whole_end + 1, self._came_bytes)
        rest = b"".join(self._lent)
        self.take_back()
        self._payloads.truncate(whole_end - self._seen * _GAP_BYTES)
        return self._payloads.getvalue(), rest

    def _payload_bytes(self, number: int) -> int:
        return self._frame_bytes if number < self._last else self._last_bytes

    def _frame_end(self, number: int) -> int:
        """Where in the stream a frame's end byte is."""
        return number * self._stride_bytes + self._payload_bytes(number)

    def _between(self, start: int, end: int) -> list[memoryview]:
        """Where a part of the stream is, or will be."""
        views: list[memoryview] = []
        payloads, gaps = self._payloads.getbuffer(), self._gaps_view
        body_end = min(end, self._end)
        number = start // self._stride_bytes
        while start < body_end:
            gap_start = self._frame_end(number)
            gaps_before_bytes = number * _GAP_BYTES
            payload_end = min(gap_start, body_end)
            if start < payload_end:
                views.append(payloads[start - gaps_before_bytes : payload_end - gaps_before_bytes])
                start = payload_end
            gap_end = min(gap_start + _GAP_BYTES, body_end)
            if start < gap_end:
                payloads_before_bytes = gap_start - gaps_before_bytes
                views.append(gaps[start - payloads_before_bytes : gap_end - payloads_before_bytes])
                start = gap_end
            number += 1
        if start < end:
            views.append(memoryview(self._behind)[start - self._end : end - self._end])
        payloads.release()
        return views

    def take_back(self) -> None:
        """End what was lent.

        Nothing must look at the payloads when they become bytes, or when their buffer changes its size; nor when it is
        thrown away, of which Python 3.13 complains.
        """
        for view in self._lent:
            view.release()
        self._lent = []
