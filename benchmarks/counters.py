"""Instructions and cycles that a broker takes, as the processor counts them: perf_event_open(2) of Linux.

They say more than seconds do on another machine. Counted is what `brokers.cpu_s` takes the time of: all threads of a
process and of those below it, the kernel's work for them included. A switch from thread to thread costs a little more
where they are counted. Many virtual machines count neither, and above 1 /proc/sys/kernel/perf_event_paranoid lets only
root count the kernel's part; then there is no figure, rather than another one.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from benchmarks.brokers import process_tree

Counts = dict[str, float]


@dataclass(frozen=True)
class Event:
    """Something that the kernel counts.

    Args:
        name: of the figure.
        kind, number: `type` and `config` of perf_event_attr, as linux/perf_event.h numbers them.
    """

    name: str
    kind: int
    number: int


INSTRUCTIONS, CYCLES = "instructions", "cycles"  # of the broker, for one message
EVENTS = (Event(INSTRUCTIONS, 0, 1), Event(CYCLES, 0, 0))

_SYSCALLS = {"x86_64": 298, "aarch64": 241}  # the numbers of perf_event_open
_ATTRIBUTES = struct.Struct("=IIQQQQQIIQ")  # perf_event_attr as it was at first, which every kernel takes
_INHERIT = 2  # threads and processes that are started later are counted as well
_TIMES = 3  # a read gives how long the event was meant to be counted, and how long it was
_READ = struct.Struct("=QQQ")
_ANY_PROCESSOR, _NO_GROUP, _CLOSE_ON_EXEC = -1, -1, 8
_LIBC = ctypes.CDLL(None, use_errno=True)


@contextmanager
def counting(pid: int, events: Sequence[Event] = EVENTS) -> Iterator[Callable[[], Counts]]:
    """Count what a process does from now on, and those below it.

    A thread that starts while its siblings are looked up may be missed: begin when the process has long started.

    Yields:
        A function that says how many of each event there were; those that are not counted here are not in it.
    """
    with ExitStack() as stack:
        tasks = [task for each in process_tree(pid) for task in _tasks(each)]
        opened = {event.name: _open_all(event, tasks, stack) for event in events}
        yield lambda: {name: _read(descriptors) for name, descriptors in opened.items() if descriptors}


def are_counted(events: Sequence[Event] = EVENTS) -> bool:
    """Whether this machine counts all of them, and lets us; one that never counts any does not."""
    with counting(os.getpid(), events) as read:
        counts = read()
        return all(counts.get(event.name) for event in events)


def _tasks(pid: int) -> list[int]:
    """The threads of a process, which the kernel numbers as it does processes."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    return []  # it has gone


def _open_all(event: Event, tasks: Sequence[int], stack: ExitStack) -> list[int]:
    """A descriptor for each thread; none at all when one cannot be counted."""
    found = []
    for task in tasks:
        try:
            descriptor = _open(event, task)
        except ProcessLookupError:
            continue  # it has gone
        except OSError:
            return []
        stack.callback(os.close, descriptor)
        found.append(descriptor)
    return found


def _open(event: Event, task: int) -> int:
    number = _SYSCALLS.get(platform.machine())
    if number is None:
        raise OSError(f"the number of perf_event_open is not known for {platform.machine()}")
    attributes = _ATTRIBUTES.pack(event.kind, _ATTRIBUTES.size, event.number, 0, 0, _TIMES, _INHERIT, 0, 0, 0)
    arguments = map(ctypes.c_long, (task, _ANY_PROCESSOR, _NO_GROUP, _CLOSE_ON_EXEC))
    descriptor = int(_LIBC.syscall(ctypes.c_long(number), attributes, *arguments))
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "perf_event_open")
    return descriptor


def _read(descriptors: Sequence[int]) -> float:
    """What they have counted together; extrapolated where the processor has too few counters and events take turns."""
    reads = [_READ.unpack(os.read(each, _READ.size)) for each in descriptors]
    counted, meant_ns, counted_ns = (sum(column) for column in zip(*reads, strict=True))
    return counted * meant_ns / counted_ns if counted_ns else 0.0
