"""The parts of a stream's chunk: entries that came close together, by which what is too old goes, and a time is found.

A stream that gets an entry now and then has a part for each, so a part is some numbers that are packed, and no object.
Most chunks of a stream that gets much are one part, and have none of this. Holds no entries.
"""

from __future__ import annotations

from amqp_broker.broker.queues.packed_numbers import PackedNumbers


class ChunkParts:
    """The parts of one chunk, the oldest first; all but the last one have ended.

    Offsets and times count from the first entry that the chunk ever had. Of a part that has ended are known: the offset
    behind it, the bytes of its bodies, when its first entry came, and its last one.
    """

    __slots__ = ("_bytes", "_bytes_up_to", "_durations_ms", "_durations_ms_up_to", "_ends", "_first_ms", "_firsts_ms")

    def __init__(self) -> None:
        self._ends = PackedNumbers()
        self._bytes_up_to = PackedNumbers()  # the end of each, of it and all before
        self._durations_ms_up_to = PackedNumbers()  # likewise
        self._firsts_ms = PackedNumbers()  # of the last part as well
        self._firsts_ms.append(0)
        self._bytes = 0  # of all that have ended
        self._durations_ms = 0
        self._first_ms = 0  # of the last one

    def __len__(self) -> int:
        return len(self._firsts_ms)

    def end_last(self, end: int, body_bytes: int, last_ms: int) -> None:
        """The last part gets no more.

        Args:
            end: the offset behind it.
            body_bytes: of its entries.
            last_ms: when the last of them came.
        """
        self._bytes += body_bytes
        self._durations_ms += last_ms - self._first_ms
        self._ends.append(end)
        self._bytes_up_to.append(self._bytes)
        self._durations_ms_up_to.append(self._durations_ms)

    def begin(self, first_ms: int) -> None:
        """The next part begins, with an entry that came then."""
        self._first_ms = first_ms
        self._firsts_ms.append(first_ms)

    def close(self) -> None:
        """The chunk is full, and all parts have ended: keep the same in less memory."""
        self._ends.close()
        self._bytes_up_to.close()
        self._durations_ms_up_to.close()
        self._firsts_ms.close()

    def end_of(self, part: int) -> int:
        """The offset behind a part that has ended."""
        return self._ends[part]

    def last_ms_of(self, part: int) -> int:
        """When its last entry came."""
        durations_ms = self._durations_ms_up_to
        return self._firsts_ms[part] + durations_ms[part] - _before(durations_ms, part)

    def bytes_of(self, start: int, end: int) -> int:
        """How many bytes the entries have of the parts from one to another one, which is not among them."""
        return _before(self._bytes_up_to, end) - _before(self._bytes_up_to, start)

    def behind_bytes(self, start: int, bytes_min: int) -> int:
        """The part behind as many, from one on, as have so many bytes together; where all that have ended have fewer,
        one further than the last of these is.
        """
        return self._bytes_up_to.place_behind(_before(self._bytes_up_to, start) + bytes_min - 1) + 1

    def end_of_bytes(self, offset: int, bytes_min: int) -> int | None:
        """The offset behind as many parts, from that on which an offset is in, as have so many bytes together; None
        where all have fewer that have ended.
        """
        behind = self.behind_bytes(self._ends.place_behind(offset), bytes_min)
        return self._ends[behind - 1] if behind <= len(self._ends) else None

    def first_ms_at(self, offset: int) -> int:
        """When the first entry came of the part that an offset is in."""
        return self._firsts_ms[self._ends.place_behind(offset)]

    def at(self, time_ms: int) -> int:
        """The first part with an entry of a time or later; the last one where no other has any."""
        part = max(self._firsts_ms.place_behind(time_ms - 1) - 1, 0)  # those behind it began then or later
        return part + 1 if part < len(self._ends) and self.last_ms_of(part) < time_ms else part


def _before(numbers: PackedNumbers, place: int) -> int:
    """The number before a place; 0 before the first one."""
    return numbers[place - 1] if place else 0
