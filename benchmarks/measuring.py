"""From a steady load to figures: two looks at the counters, one window apart.

In between nothing is started and nothing ends, so the differences are the broker's pace and what it paid for it. What
is in sockets and queues at the first look is there at the second as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.brokers import RunningBroker, cpu_s, memory_bytes
from benchmarks.counters import Counts, counting
from benchmarks.crew import Crew

Figures = dict[str, float]

RATE = "rate_per_s"
CPU = "cpu_us"  # of the broker, for one message
GENERATOR = "generator_us"  # of all load generators together, for one message
P50, P99, P999 = "p50_us", "p99_us", "p999_us"
MEMORY = "memory_mb"
LONGEST = "longest_ms"  # that a client waited
LATENESS = "lateness_ms"  # of a task in the broker's own loop
BUSY = "busy_ms"  # the most processor time that the loop took in one turn
TOOK = "took_ms"

STALLED_S = 20.0
_POLL_S = 0.01


@dataclass(frozen=True)
class Timing:
    """How long a measurement is.

    Args:
        warm_up_s: before the first look.
        window_s: between the looks.
    """

    warm_up_s: float
    window_s: float


@dataclass(frozen=True)
class Look:
    """The counters at one moment; in ``counts`` are those of the broker that this machine has."""

    at_s: float
    count: int
    broker_s: float
    generators_s: float
    counts: Counts


def measure(broker: RunningBroker, crew: Crew, counter: Any, timing: Timing, count_max: int = 0) -> Figures:
    """Look twice at a load that runs.

    Args:
        counter: the board's array that counts the messages.
        count_max: end the window early when so many messages are through, because they fill the memory; 0 for never.
    """
    _await_first(crew, counter)
    _wait(crew, counter, timing.warm_up_s, count_max // 4)
    with counting(broker.pid) as read_counts:
        first, last = _window(lambda: _look(broker, crew, counter, read_counts), crew, counter, timing, count_max)
    count = last.count - first.count
    figures = {
        RATE: count / (last.at_s - first.at_s),
        CPU: (last.broker_s - first.broker_s) / count * 1e6,
        GENERATOR: (last.generators_s - first.generators_s) / count * 1e6,
        MEMORY: memory_bytes(broker.pid) / 1e6,
    }
    figures |= {name: took / count for name, begun in first.counts.items() if (took := last.counts[name] - begun) > 0}
    if crew.board.latencies_ns is not None and counter is crew.board.done:
        figures |= percentiles(crew.board.latencies_ns[first.count : last.count])
    return figures


def percentiles(latencies_ns: list[int]) -> Figures:
    """The middle of the latencies and their upper end, in microseconds."""
    ordered = sorted(latencies_ns)
    last = len(ordered) - 1
    return {
        name: ordered[min(last, int(len(ordered) * part))] / 1000
        for name, part in ((P50, 0.5), (P99, 0.99), (P999, 0.999))
    }


def _window(look: Callable[[], Look], crew: Crew, counter: Any, timing: Timing, count_max: int) -> tuple[Look, Look]:
    """The looks at its begin and its end, which comes later where nothing went through."""
    first = look()
    _wait(crew, counter, timing.window_s, count_max)
    last = look()
    while last.count == first.count:
        if last.at_s - first.at_s > STALLED_S:
            raise RuntimeError(
                f"no message went through for {last.at_s - first.at_s:.0f} s; before, {crew.board.published[0]:,} were "
                f"published and {crew.board.done[0]:,} consumed"
            )
        _wait(crew, counter, timing.window_s, count_max)
        last = look()
    return first, last


def _look(broker: RunningBroker, crew: Crew, counter: Any, read_counts: Callable[[], Counts]) -> Look:
    generators_s = sum(cpu_s(pid) for pid in crew.pids)
    return Look(time.monotonic(), counter[0], cpu_s(broker.pid), generators_s, read_counts())


def _await_first(crew: Crew, counter: Any) -> None:
    deadline_s = time.monotonic() + 30
    while not counter[0]:
        crew.check()
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"no message went through within 30 s; {crew.board.published[0]:,} were published")
        time.sleep(_POLL_S)


def _wait(crew: Crew, counter: Any, duration_s: float, count_max: int) -> None:
    deadline_s = time.monotonic() + duration_s
    while (left_s := deadline_s - time.monotonic()) > 0 and not (count_max and counter[0] >= count_max):
        time.sleep(min(_POLL_S if count_max else 0.1, left_s))
        crew.check()
