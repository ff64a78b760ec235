"""``python -m benchmarks.watched serve``: our broker, with a task more in its loop that wakes every millisecond.

How late it ever was is the longest time for which the loop did nothing else than one thing. It is written into a file
that the benchmark reads and sets back to zero: eight bytes, nanoseconds.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import trio

from amqp_broker.cli import main

LATENESS_FILE = "AMQP_BROKER_BENCHMARK_LATENESS_FILE"
INTERVAL_NS = 1_000_000
_LATENESS = struct.Struct("<QQ")


class Lateness:
    """The longest lateness since it was last reset, and the most processor time that was taken between two wakings.

    Two processes share it through a file.
    """

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _LATENESS.size)

    @staticmethod
    def make(path: Path) -> None:
        """Make the file."""
        path.write_bytes(bytes(_LATENESS.size))

    def note(self, late_ns: int, busy_ns: int = 0) -> None:
        """One more waking: how late it was, and what the thread has computed since the one before."""
        if late_ns > self.longest_ns or busy_ns > self.busy_ns:
            _LATENESS.pack_into(self._memory, 0, max(late_ns, self.longest_ns), max(busy_ns, self.busy_ns))

    @property
    def longest_ns(self) -> int:
        """The longest lateness."""
        return int(_LATENESS.unpack_from(self._memory)[0])

    @property
    def busy_ns(self) -> int:
        """The most processor time; other programs on the machine hardly matter to it."""
        return int(_LATENESS.unpack_from(self._memory)[1])

    def reset(self) -> None:
        """Forget it."""
        _LATENESS.pack_into(self._memory, 0, 0, 0)


async def watch(lateness: Lateness) -> None:
    """Wake every millisecond, until cancelled."""
    while True:
        began_ns, began_busy_ns = time.perf_counter_ns(), time.thread_time_ns()
        await trio.sleep(INTERVAL_NS / 1e9)
        lateness.note(time.perf_counter_ns() - began_ns - INTERVAL_NS, time.thread_time_ns() - began_busy_ns)


def _run_watched(run: Callable[..., Any], work: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    async def work_watched() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, Lateness(Path(os.environ[LATENESS_FILE])))
            await work(*arguments)
            nursery.cancel_scope.cancel()

    return run(work_watched)


if __name__ == "__main__":
    trio.run = partial(_run_watched, trio.run)  # type: ignore[assignment]  # what runs is to be watched, and not know it
    main()
