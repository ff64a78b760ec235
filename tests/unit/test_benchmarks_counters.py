"""Counters of the bench: each thread is in them, the later ones as well, and what is not counted is not shown."""

from __future__ import annotations

import json
import mmap
import os
from contextlib import suppress
from threading import Event as Flag
from threading import Thread

import pytest

from benchmarks import measuring
from benchmarks.brokers import OURS, not_running
from benchmarks.comparing import Result
from benchmarks.counters import INSTRUCTIONS, Event, are_counted, counting
from benchmarks.crew import Crew
from benchmarks.report import tables, to_json

TASK_CLOCK, PAGE_FAULTS = Event("clock", 1, 1), Event("faults", 1, 2)  # which the kernel counts on any machine
NEVER, UNKNOWN = Event("never", 1, 9), Event("unknown", 9999, 0)
PAGES, OTHER_PAGES_MAX = 2000, 1000
needs_counters = pytest.mark.skipif(not are_counted([TASK_CLOCK]), reason="perf_event_open is not allowed here")


def touch_pages() -> None:
    with mmap.mmap(-1, PAGES * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        with suppress(OSError):  # a kernel that has no huge pages
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        for at in range(0, len(memory), mmap.PAGESIZE):
            memory[at] = 1


@needs_counters
def test_each_thread_is_counted_once() -> None:
    begin = Flag()

    def touch_later() -> None:
        begin.wait()
        touch_pages()

    older = Thread(target=touch_later)
    older.start()
    with counting(os.getpid(), [PAGE_FAULTS]) as read:
        before = read()["faults"]
        begin.set()
        older.join()
        newer = Thread(target=touch_pages)
        newer.start()
        newer.join()
        touched = read()["faults"] - before
    assert 2 * PAGES <= touched <= 2 * PAGES + OTHER_PAGES_MAX


@needs_counters
def test_what_the_machine_does_not_count_is_left_out() -> None:
    with counting(os.getpid(), [UNKNOWN, TASK_CLOCK]) as read:
        assert list(read()) == ["clock"]
    assert not are_counted([UNKNOWN, TASK_CLOCK])


class Rising:
    """Messages of which one is through with every look."""

    count = 0

    def __getitem__(self, index: int) -> int:
        self.count += 1
        return self.count


@pytest.mark.parametrize(
    ("event", "is_shown"),
    [pytest.param(TASK_CLOCK, True, marks=needs_counters), (NEVER, False), (UNKNOWN, False)],
    ids=["counted", "stands still", "not counted"],
)
def test_a_figure_for_a_message(monkeypatch: pytest.MonkeyPatch, event: Event, is_shown: bool) -> None:
    monkeypatch.setattr(measuring, "counting", lambda pid: counting(os.getpid(), [event]))
    figures = measuring.measure(not_running(OURS), Crew(), Rising(), measuring.Timing(0, 0))
    assert (event.name in figures) is is_shown


@pytest.mark.parametrize("is_counted", [True, False])
def test_a_table_of_their_own_where_they_were_counted(is_counted: bool) -> None:
    figures = {measuring.CPU: 3.0} | ({INSTRUCTIONS: 14_900.0} if is_counted else {})
    results = [Result("publish", "Side by side", {OURS: [figures]})]
    assert ("instructions" in tables(results)) is is_counted
    assert ("14,900" in tables(results)) is is_counted
    median = json.loads(to_json(results, {}, {}))["cells"][0]["median"][OURS]
    assert (INSTRUCTIONS in median) is is_counted
