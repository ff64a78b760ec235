"""The end of a stream as consumers see it: nobody is given an entry before it is as safe as a confirm of it would be.

A crash costs what is not kept yet, and what comes then gets the same offsets: whoever had seen the entries that are
gone would go on behind the new ones, and never see them. So consumers read up to what is kept, as RabbitMQ's read up to
the offset that is committed; who waits there has the journal written, and synced, without delay. (RabbitMQ docs,
"Streams and Super Streams", "Data Safety"; osiris_log.erl.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from amqp_broker.broker.queues.stream_log import StreamLog

if TYPE_CHECKING:
    from amqp_broker.broker.host import Host


class StreamKeeping:
    """The keeping of one stream's entries: how far it has come.

    Args:
        log: the entries; it is told how far they may be read.
        host: whose journal keeps them.
        on_kept: called when that is further than before.
    """

    __slots__ = ("_awaiting_commit", "_before", "_came", "_durability", "_log", "_on_kept", "batch_offset")

    def __init__(self, log: StreamLog, host: Host, on_kept: Callable[[], None]) -> None:
        self._log = log
        self._durability = host.durability
        self._awaiting_commit = host.awaiting_commit
        self._on_kept = on_kept
        self._before = 0  # how far they were kept before they were kept as far as they are
        self._came: deque[tuple[int, int, int]] = deque()  # the last one's reference, the first offset, that behind
        self.batch_offset = 0  # of the first of those that came together last and are kept

    def have_come(self, batch_offset: int) -> None:
        """Entries have come together; the first has this offset."""
        log = self._log
        self._came.append((log.last_reference, batch_offset, log.end_offset))

    def are_restored(self, batch_offset: int) -> None:
        """All entries there are were read from the journal."""
        self.batch_offset = batch_offset
        self._log.kept_end_offset = self._log.end_offset

    def wait(self) -> None:
        """Somebody has read all that is kept, and there is more."""
        self._awaiting_commit[self.advance] = None

    def advance(self) -> None:
        """Find out how far they are kept now."""
        log, came = self._log, self._came
        before = log.kept_end_offset
        while came and self._durability.is_kept(came[0][0]):
            _, batch_offset, end_offset = came.popleft()
            self.batch_offset = batch_offset
            log.kept_end_offset = end_offset
        if log.kept_end_offset > before:
            self._before = before
            self._awaiting_commit.pop(self.advance, None)
            self._on_kept()

    def needed_from(self, *, are_reading: bool) -> int:
        """The offset from which on entries are to be in memory, for those who wait, or have waited.

        Args:
            are_reading: whether anybody has yet to read what is kept.
        """
        if are_reading:
            return self._before
        return self._log.kept_end_offset if self.advance in self._awaiting_commit else self._log.end_offset

    def stop(self) -> None:
        """The stream is gone."""
        self._came.clear()
        self._awaiting_commit.pop(self.advance, None)
