"""The supervisor of several processes: what it does where a process fails, or the system."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from amqp_broker.processes.supervisor import KILLED, Supervisor
from amqp_broker.server.service_manager import ServiceManager

FAILING = """
from amqp_broker.processes.supervisor import Supervisor
from amqp_broker.server.service_manager import ServiceManager

def run(number, alive, start, ready):
    raise LookupError("a defect")

raise SystemExit(Supervisor(1, run, print, print, ServiceManager({})).supervise())
"""


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    made = Supervisor(2, lambda *_: 0, lambda _: None, lambda: None, ServiceManager({}))
    with ExitStack() as closing:
        closing.enter_context(made._signals)
        closing.enter_context(made._wake)
        for name in ("_alive", "_life", "_start", "_starting", "_ready_pipe", "_ready_end"):
            closing.callback(os.close, getattr(made, name))
        yield made


def test_a_process_with_a_defect_says_which() -> None:
    ended = subprocess.run([sys.executable, "-c", FAILING], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr
    assert "LookupError: a defect" in ended.stderr


def test_the_first_signal_is_the_first_although_the_end_has_begun_without_one(supervisor: Supervisor) -> None:
    supervisor._end()
    supervisor._obey(signal.SIGTERM)
    assert supervisor._exit_code == 0
    supervisor._obey(signal.SIGTERM)
    assert supervisor._exit_code == KILLED + signal.SIGTERM


def test_a_signal_ends_what_is_done_before_the_first_client(supervisor: Supervisor) -> None:
    asked = []

    def may_start(is_still_to_start: Callable[[], bool]) -> None:
        asked.append(is_still_to_start())
        supervisor._wake.send(bytes([signal.SIGTERM]))
        asked.append(is_still_to_start())
        raise LookupError("the processes end, and answer no more")

    supervisor._may_start = may_start
    os.write(supervisor._ready_end, bytes([0, 1]))
    supervisor._hear()
    assert asked == [True, False]
    assert supervisor._failure is None
    os.fstat(supervisor._starting)  # it is open: no client comes


def test_the_service_manager_is_not_told_that_all_goes_on_while_a_process_is_silent(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor._manager = ServiceManager({"NOTIFY_SOCKET": "@nobody", "WATCHDOG_USEC": "10000000"})
    now_s = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    assert supervisor._all_are_alive()  # it may read its journal for as long as it takes
    os.write(supervisor._ready_end, bytes([1]))
    supervisor._hear()
    now_s += 4.9
    assert supervisor._all_are_alive()
    now_s += 0.2
    assert not supervisor._all_are_alive()
    os.write(supervisor._ready_end, bytes([1]))
    supervisor._hear()
    assert supervisor._all_are_alive()


def test_a_process_for_which_there_is_no_room_is_started_later(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def refuse() -> int:
        assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        raise OSError(errno.ENOMEM, "no room")

    monkeypatch.setattr(os, "fork", refuse)
    supervisor._fork(1)
    assert list(supervisor._waiting) == [1]
    assert supervisor._pause_s() > 0.5  # type: ignore[operator]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == masked
    monkeypatch.setattr(os, "fork", lambda: 4000)
    supervisor._waiting[1] = 0.0
    supervisor._start_again()
    assert supervisor._processes == {4000: 1}
    assert not supervisor._waiting
