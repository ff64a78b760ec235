"""The readers of a stream that have something to read, and those that wait at its end.

Those who need what is in memory are in one line, those for whom the disk is read in another one: a crowd that reads
from an hour ago does not make those at the end wait for it. Those at the end go on together when more comes, without
being looked at one by one.
"""

from __future__ import annotations

from collections import OrderedDict

from amqp_broker.broker.queues.stream_log import StreamLog
from amqp_broker.broker.queues.stream_reader import EntryReader


class ReaderTurns:
    """The lines of one stream's readers. One that has no room, or waits for the disk, is in none.

    Args:
        log: the stream's entries.
    """

    __slots__ = ("_at_end", "_behind", "_latest", "_log")

    def __init__(self, log: StreamLog) -> None:
        self._log = log
        self._at_end: OrderedDict[EntryReader, None] = OrderedDict()
        self._latest: OrderedDict[EntryReader, None] = OrderedDict()  # what they need is in memory
        self._behind: OrderedDict[EntryReader, None] = OrderedDict()

    @property
    def latest_count(self) -> int:
        """How many have something to read that is in memory."""
        return len(self._latest)

    @property
    def behind_count(self) -> int:
        """How many have something to read that is not."""
        return len(self._behind)

    @property
    def waiting_count(self) -> int:
        """How many have read all there is."""
        return len(self._at_end)

    def add(self, reader: EntryReader) -> None:
        """Let a reader have its turn, behind the others; it has none yet."""
        if not reader.may_go_on:
            self._at_end[reader] = None
        elif reader.next_offset >= self._log.latest_offset:
            self._latest[reader] = None
        else:
            self._behind[reader] = None

    def remove(self, reader: EntryReader) -> None:
        """A reader has gone, or has to wait for something else."""
        for line in (self._at_end, self._latest, self._behind):
            line.pop(reader, None)

    def more_has_come(self) -> None:
        """There is more behind what was the end: who waited there has a turn."""
        if self._latest:
            self._latest.update(self._at_end)
            self._at_end.clear()
        else:
            self._latest, self._at_end = self._at_end, self._latest

    def take_latest(self) -> EntryReader:
        """Whose turn it is of those who need what is in memory; it has had it with that."""
        return self._latest.popitem(last=False)[0]

    def take_behind(self) -> EntryReader:
        """Whose turn it is of the others."""
        return self._behind.popitem(last=False)[0]

    def clear(self) -> None:
        """The stream is gone."""
        self._at_end.clear()
        self._latest.clear()
        self._behind.clear()
