"""What a stream costs in the segments that it shares with queues, beside segments of its own.

    .venv/bin/python -m benchmarks.stream_segments
    .venv/bin/python -m benchmarks.stream_segments --total 4294967296 --cases 'half*'

The journal alone, without a broker: blocks of a stream and messages of queues of 1 KiB come in turns, most messages are
consumed a little later, some stay, and the stream keeps what came last. Counted is what the system was given to write
and to read, which does not depend on what else the machine does. For each byte of the stream and of messages that came:
what was copied to free space, by a broker that is idle between any two batches, which copies as soon as it may, and by
one that never is, which copies as late as it may. Then the whole stream is read.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from amqp_broker.journal.journal import SegmentJournal
from amqp_broker.journal.real_files import RealFiles

TURN_BYTES = 65_536  # of stream and messages together
TURNS_IN_BATCH = 16
MESSAGE_BYTES = 1_024
LAG_TURNS = 128  # from a message to its acknowledgement
STEPS_AFTER_BATCH = 2 + TURNS_IN_BATCH * TURN_BYTES // 131_072  # as the broker's, while there is more to write
READ_AT_ONCE = 16
KIND = 1


@dataclass(frozen=True)
class Case:
    """What comes.

    Args:
        stream_share: of all bytes.
        staying_share: of all messages; nobody consumes them.
        kept_share: of all bytes that come: so many of the stream stay.
    """

    stream_share: float
    staying_share: float = 0.0
    kept_share: float = 1.0


CASES = {
    "a tenth is the stream's, all kept": Case(0.1),
    "half is the stream's, all kept": Case(0.5),
    "nine tenths are the stream's, all kept": Case(0.9),
    "half is the stream's, a tenth kept": Case(0.5, kept_share=0.1),
    "half is the stream's, a tenth kept, a tenth of messages stay": Case(0.5, staying_share=0.1, kept_share=0.1),
    "nine tenths are the stream's, a tenth kept, all messages stay": Case(0.9, staying_share=1.0, kept_share=0.1),
}


class Load:
    """A stream, queues, and the journals that they are in, which may be the same.

    Args:
        stream: the journal of the stream.
        queues: that of the messages.
        case: what comes.
        total_bytes: how much.
        is_idle: whether all space that may be freed is freed after each batch.
    """

    def __init__(
        self, stream: SegmentJournal, queues: SegmentJournal, case: Case, total_bytes: int, *, is_idle: bool
    ) -> None:
        self.stream = stream
        self._queues = queues
        self._journals = list(dict.fromkeys([stream, queues]))
        self._case = case
        self._total_bytes = total_bytes
        self._is_idle = is_idle
        self.blocks: deque[int] = deque()
        self.came_bytes = self.copied_bytes = self.disk_bytes_max = 0

    def run(self) -> None:
        """Have all of it come, and in the end free what may be freed."""
        case = self._case
        block = bytes(int(case.stream_share * TURN_BYTES))
        messages = round((TURN_BYTES - len(block)) / MESSAGE_BYTES)
        staying = round(messages * case.staying_share)
        blocks_max = int(case.kept_share * self._total_bytes * case.stream_share / len(block))
        consumed: deque[list[int]] = deque()
        for turn in range(self._total_bytes // TURN_BYTES):
            self.blocks.append(self.stream.put(KIND, block))
            references = [self._queues.put(KIND, bytes(MESSAGE_BYTES)) for _ in range(messages)]
            consumed.append(references[staying:])
            if len(consumed) > LAG_TURNS:
                self._queues.drop_many(consumed.popleft())
            if len(self.blocks) > blocks_max:
                self.stream.drop(self.blocks.popleft())
            if turn % TURNS_IN_BATCH == 0:
                self._write()
        self._write()
        self._is_idle = True
        self._write()

    def _write(self) -> None:
        for journal in self._journals:
            batch = journal.take_batch()
            if batch is None:
                continue
            before_bytes = written_bytes()
            journal.write(batch)
            journal.committed(batch)
            self.came_bytes += written_bytes() - before_bytes
            self._free_space(journal)
        self.disk_bytes_max = max(self.disk_bytes_max, self.disk_bytes)

    def _free_space(self, journal: SegmentJournal) -> None:
        """As ``server/journal_flusher.py`` has it done; a piece of work that was begun is finished here."""
        before_bytes = written_bytes()
        steps = 0
        while self._is_idle or (journal.is_wasteful and steps < STEPS_AFTER_BATCH):
            reclaim = journal.take_reclaim()
            if reclaim is None:
                break
            while not reclaim.step():
                steps += 1
            journal.reclaimed(reclaim)
            reclaim.release()
        self.copied_bytes += written_bytes() - before_bytes

    @property
    def disk_bytes(self) -> int:
        """What all files take."""
        return sum(journal.disk_bytes for journal in self._journals)

    @property
    def live_bytes(self) -> int:
        """What is in them that lives."""
        return sum(journal.live_bytes for journal in self._journals)

    def read(self) -> tuple[float, float, float]:
        """Read the whole stream; calls, bytes and seconds of processor time for each mebibyte of it."""
        blocks = list(self.blocks)
        size_bytes = int(self._case.stream_share * TURN_BYTES) * len(blocks) / 2**20
        calls, read_bytes, used_s = counted("syscr"), counted("rchar"), time.thread_time()
        for start in range(0, len(blocks), READ_AT_ONCE):
            self.stream.view_many(blocks[start : start + READ_AT_ONCE], 0)
        used_s = time.thread_time() - used_s
        return (
            (counted("syscr") - calls) / size_bytes,
            (counted("rchar") - read_bytes) / 2**20 / size_bytes,
            used_s / size_bytes,
        )


def counted(name: str) -> int:
    """What this process has had the system write or read, all told."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields[name])


def written_bytes() -> int:
    """What it has had the system write."""
    return counted("wchar")


def measure(case: Case, total_bytes: int, *, is_shared: bool, is_idle: bool) -> dict[str, float]:
    """One case, in segments that are shared or not."""
    with tempfile.TemporaryDirectory(prefix="segments-") as folder:
        journals = [SegmentJournal(RealFiles(Path(folder, name))) for name in ("one", "other")]
        for journal in journals:
            list(journal.recover())
        load = Load(journals[0], journals[0 if is_shared else 1], case, total_bytes, is_idle=is_idle)
        load.run()
        calls, read_bytes, used_s = load.read()
        figures = {
            "copied / came": load.copied_bytes / load.came_bytes,
            "disk at most / came": load.disk_bytes_max / load.came_bytes,
            "disk in the end / live": load.disk_bytes / load.live_bytes,
            "reads a MiB": calls,
            "read / stream": read_bytes,
            "ms CPU a MiB": used_s * 1e3,
        }
        for journal in journals:
            journal.close()
        return figures


def main() -> None:
    """Measure each case in four ways, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--total", type=int, default=2**30, help="bytes that come")
    parser.add_argument("--cases", default="*", help="a pattern of names")
    options = parser.parse_args()
    is_begun = False
    for name, case in CASES.items():
        if not fnmatchcase(name, options.cases):
            continue
        for is_idle in (True, False):
            for is_shared in (True, False):
                figures = measure(case, options.total, is_shared=is_shared, is_idle=is_idle)
                if not is_begun:
                    is_begun = True
                    print(f"| {options.total:,} bytes | | | {' | '.join(figures)} |")
                    print(f"|---|---|---|{'--:|' * len(figures)}")
                segments = "shared" if is_shared else "own"
                idle = "idle" if is_idle else "never idle"
                shown = " | ".join(f"{figure:,.2f}" for figure in figures.values())
                print(f"| {name} | {segments} | {idle} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
