"""The number of bytes that may wait for the disk while nobody waits for them.

A large body that was published without a confirm lies in memory in any case, in its queue: its publisher can go on
while the disk catches up. But whoever then comes to wait for the disk waits for all that came before, and the end of
the process costs what was not written. So no more may wait than the disk takes in a moment, at the pace that it was
seen to have; and who had to wait for much does not have to again a moment later.

Small records are another matter: what they wait for is the processor, which does not catch up, and each of them takes
more memory than its bytes.

Knows no journal, no clock and no limits of the machine but what it is told.
"""

from __future__ import annotations

import math

CATCH_UP_S = 2.0  # so long the disk may take for what waits
CONSIDERATE_S = 1.0  # so long little waits, once somebody had to wait for much
LARGE_RECORD_BYTES = 4096  # on average
MEASURED_BYTES_MIN = 4_194_304  # what takes a sync for less says how long a sync takes
SLOWER_SHARE = 0.25  # of a pace that is slower than the one before: a sync may take long once


class DiskBacklog:
    """The pace of a disk, and what may wait for it.

    Args:
        least_bytes: so much may always wait.
        most_bytes: and so much at the most.
    """

    def __init__(self, least_bytes: int, most_bytes: int) -> None:
        self._least_bytes = least_bytes
        self._most_bytes = most_bytes
        self._bytes_per_s = 0.0
        self._measured_bytes = self._measured_records = 0  # since the pace was found out
        self._measured_s = 0.0
        self._considerate_until_s = -math.inf
        self.room_bytes = 0
        """What there is room for, in memory and on the disk."""

    def bytes_max(self, now_s: float) -> int:
        """What may wait now, in bytes."""
        if now_s < self._considerate_until_s:
            return self._least_bytes
        caught_up_bytes = int(self._bytes_per_s * CATCH_UP_S)
        return max(self._least_bytes, min(caught_up_bytes, self._most_bytes, self.room_bytes))

    def note_wait(self, now_s: float, pending_bytes: int) -> None:
        """Somebody waits for the disk, and so many bytes with it."""
        if pending_bytes > self._least_bytes // 2:
            self._considerate_until_s = now_s + CONSIDERATE_S

    def note_batch(self, size_bytes: int, records: int, took_s: float, *, is_synced: bool) -> None:
        """A batch was written.

        Args:
            size_bytes: what its records held.
            records: how many they were.
            took_s: how long the disk took for it.
            is_synced: whether it took a sync, of all that was written before too.
        """
        self._measured_bytes += size_bytes
        self._measured_records += records
        self._measured_s += took_s
        if not is_synced or self._measured_bytes < MEASURED_BYTES_MIN or not self._measured_s:
            return
        pace = self._measured_bytes / self._measured_s
        if self._measured_bytes < LARGE_RECORD_BYTES * self._measured_records:
            self._bytes_per_s = 0.0
        elif pace > self._bytes_per_s:
            self._bytes_per_s = pace
        else:
            self._bytes_per_s += (pace - self._bytes_per_s) * SLOWER_SHARE
        self._measured_bytes = self._measured_records = 0
        self._measured_s = 0.0
