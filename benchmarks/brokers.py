"""The brokers that are compared, and what they take of the machine: processor time and memory, as the kernel counts.

Starting and ending them is the interop suite's ``brokers.py``; both run with their defaults.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.watched import LATENESS_FILE, Lateness
from interop.brokers import REPOSITORY, Address, OurBroker, RabbitMQ, find_rabbitmq, find_rabbitmq_4

OURS = "ours"
COMPILED = "compiled"  # ours as well, with its floors compiled
RABBITMQ = "rabbitmq"
RABBITMQ_4 = "rabbitmq-4.0"
REST_S, REST_S_MAX = 0.2, 10.0
REST_CPU_S = 0.01  # what a broker at rest may take meanwhile
COMPILED_BUILD = REPOSITORY / "build" / "compiled"  # where make leaves it
PEERS = {RABBITMQ: find_rabbitmq, RABBITMQ_4: find_rabbitmq_4}  # what finds them
_WHOLE_PROCESS = 2  # Linux makes the number of a process's clock of this and its pid


@dataclass(frozen=True)
class RunningBroker:
    """A broker that answers.

    Args:
        kind: ``OURS``, ``COMPILED``, ``RABBITMQ`` or ``RABBITMQ_4``.
        address: where it listens.
        pid: its first process; what that started belongs to it.
        start_s: how long it took from the start of its process to its first answer.
        ctl: its command line, with arguments; returns what it printed.
    """

    kind: str
    address: Address
    pid: int
    start_s: float
    ctl: Callable[..., str]

    @property
    def is_peer(self) -> bool:
        """Whether it is none of ours."""
        return self.kind in PEERS


@contextmanager
def running(kind: str) -> Iterator[RunningBroker]:
    """Start a broker in folders of its own, and end it."""
    started_s = time.monotonic()
    process = RabbitMQ(PEERS[kind]()) if kind in PEERS else OurBroker(environment=_environment(kind))
    try:
        yield RunningBroker(kind, process.address, process.pid, time.monotonic() - started_s, process.ctl)
    finally:
        process.stop()


def _environment(kind: str) -> dict[str, str]:
    """What makes ``python -m amqp_broker`` the build that is meant."""
    if kind != COMPILED:
        return {}
    if not COMPILED_BUILD.is_dir():
        raise FileNotFoundError(f"there is no compiled build in {COMPILED_BUILD}: 'make wheel-compiled' makes it")
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join((str(COMPILED_BUILD), str(REPOSITORY)))}


def not_running(kind: str) -> RunningBroker:
    """A kind of broker, for cells that start their own."""
    return RunningBroker(kind, Address("", 0), 0, 0.0, _no_command_line)


def _no_command_line(*arguments: str) -> str:
    raise RuntimeError(f"nothing runs that could be asked for {' '.join(arguments)}")


class _WatchedBroker(OurBroker):
    module = "benchmarks.watched"


@contextmanager
def watched(kind: str, environment: Mapping[str, str] | None = None) -> Iterator[tuple[RunningBroker, Lateness]]:
    """Start our broker with a task in its loop that notes how late it wakes."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "lateness"
        Lateness.make(path)
        started_s = time.monotonic()
        process = _WatchedBroker(environment={LATENESS_FILE: str(path), **_environment(kind), **(environment or {})})
        try:
            start_s = time.monotonic() - started_s
            yield RunningBroker(kind, process.address, process.pid, start_s, process.ctl), Lateness(path)
        finally:
            process.stop()


def cpu_s(pid: int) -> float:
    """Processor time of a process, all its threads, and the processes below it.

    From the scheduler's clocks: the ticks in /proc are 10 ms, as long as a broker takes for a hundred messages.
    """
    return sum(_process_cpu_s(each) for each in process_tree(pid))


def await_rest(pid: int) -> None:
    """Return when a broker has done with what came before: what killed producers had sent, what deleted queues held.

    It is at rest when it takes next to no processor time; the wait ends at any rate.
    """
    deadline_s = time.monotonic() + REST_S_MAX
    before_s = cpu_s(pid)
    while time.monotonic() < deadline_s:
        time.sleep(REST_S)
        now_s = cpu_s(pid)
        if now_s - before_s <= REST_CPU_S:
            return
        before_s = now_s


def empty_write_cache() -> None:
    """Have the system write what it has been left: else it does so while the next broker waits for a sync."""
    os.sync()


def memory_bytes(pid: int) -> int:
    """Resident memory of a process and the processes below it."""
    return sum(_resident_bytes(each) for each in process_tree(pid))


def process_tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            found += [int(child) for child in _read(task).split()]
    return found


def _process_cpu_s(pid: int) -> float:
    try:
        return time.clock_gettime(~pid << 3 | _WHOLE_PROCESS)
    except OSError:
        return 0.0  # it has gone


def _resident_bytes(pid: int) -> int:
    fields = _read(Path(f"/proc/{pid}/statm")).split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if fields else 0


def _read(path: Path) -> str:
    """A file of /proc; empty when the process has gone."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
