"""The processes that make the load, and the board in shared memory on which they count.

Workers are forked, so that what was made beforehand need not be sent to them. They run until they are ended: what is
measured are differences between two looks at the board while the load is steady, so nobody has to stop in an orderly
way.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import RawArray
from types import TracebackType
from typing import Any, Protocol, Self

READY_TIMEOUT_S = 120.0
SAMPLES_MAX = 4_000_000
_FORK = multiprocessing.get_context("fork")


@dataclass
class Board:
    """What workers and the one who measures share.

    Args:
        published: messages that producers have sent; with confirms, that were confirmed.
        done: messages that consumers have had, or calls that were answered.
        latencies_ns: of each that is done, where the cell measures them.
    """

    published: Any = field(default_factory=lambda: RawArray(ctypes.c_uint64, 1))
    done: Any = field(default_factory=lambda: RawArray(ctypes.c_uint64, 1))
    ready: Any = field(default_factory=lambda: RawArray(ctypes.c_uint8, 16))
    latencies_ns: Any = None

    def measure_latencies(self) -> None:
        """Make room for latencies; pages that nobody writes to take no memory."""
        self.latencies_ns = RawArray(ctypes.c_uint64, SAMPLES_MAX)


class Worker(Protocol):
    """What a process of the crew does."""

    def run(self, board: Board, ready: Callable[[], None]) -> None:
        """Work until the process is ended; call ``ready`` once, when the load may start."""


class Crew:
    """The workers of one measurement. Leaving the context ends them."""

    def __init__(self) -> None:
        self.board = Board()
        self._processes: list[BaseProcess] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()

    @property
    def pids(self) -> list[int]:
        """The workers' processes."""
        return [process.pid for process in self._processes if process.pid is not None]

    def start(self, worker: Worker) -> None:
        """Start a worker, and return when it is ready."""
        number = len(self._processes)
        process = _FORK.Process(target=_run, args=(worker, self.board, number), daemon=True)
        self._processes.append(process)
        process.start()
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while not self.board.ready[number]:
            self.check()
            if time.monotonic() > deadline_s:
                raise RuntimeError("a load generator was not ready in time")
            time.sleep(0.002)

    def check(self) -> None:
        """Raise when a worker has ended."""
        for process in self._processes:
            if process.exitcode is not None:
                raise RuntimeError(f"a load generator ended with exit code {process.exitcode}; what it said is above")


def _run(worker: Worker, board: Board, number: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    try:
        worker.run(board, lambda: _set_ready(board, number))
    except Exception:
        traceback.print_exc(file=sys.stderr)
        os._exit(1)


def _set_ready(board: Board, number: int) -> None:
    board.ready[number] = 1
