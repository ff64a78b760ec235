"""What a Celery application must see, the same on every broker. `python -m interop.suites celery` runs it.

Each check has a task queue of its own and workers in processes of their own. All of them are slow: they wait for
real workers and real deadlines.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import chord, group
from celery.result import allow_join_result

PATIENCE_S = 60.0
POLL_S = 0.02
HERE = Path(__file__).resolve().parent
POOLS = ["prefork", "threads"]


def wait_until(what: str, holds: Callable[[], Any]) -> Any:
    """Polls until `holds` returns something true, and returns that."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(POLL_S)
    pytest.fail(f"waited {PATIENCE_S:.0f} s for this in vain: {what}")


class Worker:
    """A Celery worker in a process group of its own."""

    def __init__(self, celery: CeleryUnderTest, *options: str) -> None:
        self.name = f"worker-{uuid.uuid4().hex[:8]}@localhost"
        self._log_path = celery.folder / f"{self.name}.log"
        command = [sys.executable, "-m", "celery", "--app", "application", "worker", "--hostname", self.name]
        with self._log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--loglevel", "info", *options],
                cwd=HERE,
                env={**os.environ, **celery.environment, "AUTOSCALE_KEEPALIVE": "0.5"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until("the worker is ready", lambda: " ready." in self.log() or self.process.poll() is not None)
        assert self.process.poll() is None, self.log()

    def log(self) -> str:
        return self._log_path.read_text(errors="replace")

    def stop(self) -> None:
        """A warm shutdown; it must end well."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE_S) == 0, self.log()

    def kill(self) -> None:
        """kill -9 of the worker and all its children."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class CeleryUnderTest:
    """The application with a queue of its own, and its workers."""

    def __init__(self, folder: Path, queue_type: str, results: str) -> None:
        self.folder = folder
        self.queue = f"celery-{uuid.uuid4().hex}"
        self.environment = {"CELERY_QUEUE": self.queue, "CELERY_QUEUE_TYPE": queue_type, "CELERY_RESULTS": results}
        self.workers: list[Worker] = []

    def start_worker(self, *options: str) -> Worker:
        worker = Worker(self, *options)
        self.workers.append(worker)
        return worker

    def started(self, name: str) -> bool:
        return (self.folder / f"{name}.started").exists()

    def release(self) -> None:
        (self.folder / "release").touch()


Start = Callable[..., tuple[Any, CeleryUnderTest]]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Loads the application with a queue of its own; returns its module and what starts its workers."""
    running: list[CeleryUnderTest] = []

    def make(queue_type: str = "classic", results: str = "rpc://") -> tuple[Any, CeleryUnderTest]:
        celery = CeleryUnderTest(tmp_path, queue_type, results)
        running.append(celery)
        for name, value in celery.environment.items():
            monkeypatch.setenv(name, value)
        sys.modules.pop("application", None)
        return importlib.import_module("application"), celery

    yield make
    for celery in running:
        celery.release()
        for worker in celery.workers:
            worker.kill()


@pytest.mark.parametrize("pool", POOLS)
def test_results_and_errors_come_back(start: Start, pool: str) -> None:
    tasks, celery = start()
    worker = celery.start_worker("--pool", pool, "--concurrency", "2")

    with allow_join_result():
        assert tasks.add.delay(2, 3).get(timeout=PATIENCE_S) == 5
        assert group(tasks.add.s(n, n) for n in range(50))().get(timeout=PATIENCE_S) == [2 * n for n in range(50)]
        failed = tasks.fail.delay()
        with pytest.raises(ValueError, match="as it should"):
            failed.get(timeout=PATIENCE_S)
    assert failed.state == "FAILURE"
    worker.stop()


@pytest.mark.parametrize("pool", POOLS)
def test_countdown_and_eta_are_kept(start: Start, pool: str) -> None:
    tasks, celery = start()
    worker = celery.start_worker("--pool", pool, "--concurrency", "2")

    sent = time.time()
    after_countdown = tasks.now.apply_async(countdown=1.0).get(timeout=PATIENCE_S)
    assert 1.0 <= after_countdown - sent < PATIENCE_S

    eta = time.time() + 1.0
    at_eta = tasks.now.apply_async(eta=tasks.app.now().fromtimestamp(eta, tasks.app.timezone)).get(timeout=PATIENCE_S)
    assert eta - 0.01 <= at_eta < eta + PATIENCE_S
    worker.stop()


@pytest.mark.parametrize("pool", POOLS)
def test_tasks_that_wait_for_their_time_hold_up_nobody(start: Start, pool: str) -> None:
    """The worker widens its prefetch (basic.qos global) for each task that it holds until its time comes."""
    tasks, celery = start()
    worker = celery.start_worker("--pool", pool, "--concurrency", "1")

    sent = time.time()
    for _ in range(3):
        tasks.now.apply_async(countdown=PATIENCE_S)
    at_once = tasks.now.delay().get(timeout=PATIENCE_S / 2)

    assert at_once - sent < PATIENCE_S / 2
    worker.kill()


@pytest.mark.parametrize("pool", POOLS)
def test_retries(start: Start, pool: str) -> None:
    tasks, celery = start()
    worker = celery.start_worker("--pool", pool, "--concurrency", "2")

    assert tasks.succeed_at.delay(3).get(timeout=PATIENCE_S) == 3
    worker.stop()


def test_the_rpc_backend_refuses_chords(start: Start) -> None:
    """Celery's own limit, whatever the broker is."""
    tasks, _ = start()

    with pytest.raises(NotImplementedError, match="does not support chords"):
        chord([tasks.add.s(1, 1), tasks.add.s(2, 2)])(tasks.total.s())


@pytest.mark.parametrize("pool", POOLS)
def test_chord(start: Start, pool: str, tmp_path: Path) -> None:
    """With results in files, the chord's unlocking is a task that the broker delays and delivers again and again."""
    results = tmp_path / "results"
    results.mkdir()
    tasks, celery = start(results=f"file://{results}")
    worker = celery.start_worker("--pool", pool, "--concurrency", "2")

    done = chord([tasks.add.s(n, 1) for n in range(10)])(tasks.total.s())

    assert done.get(timeout=PATIENCE_S) == 55
    worker.stop()


@pytest.mark.parametrize("pool", POOLS)
def test_a_late_acknowledged_task_outlives_its_killed_worker(start: Start, pool: str) -> None:
    tasks, celery = start()
    unlucky = celery.start_worker("--pool", pool, "--concurrency", "1")
    result = tasks.wait_for.delay(str(celery.folder), "task")
    wait_until("the task has started", lambda: celery.started("task"))

    unlucky.kill()
    celery.release()
    worker = celery.start_worker("--pool", pool, "--concurrency", "1")

    assert result.get(timeout=PATIENCE_S) is True, "the task's message was not marked redelivered"
    worker.stop()


@pytest.mark.parametrize("pool", POOLS)
def test_a_warm_shutdown_finishes_what_runs_and_leaves_the_rest(start: Start, pool: str) -> None:
    tasks, celery = start()
    first = celery.start_worker("--pool", pool, "--concurrency", "1")
    running = tasks.wait_for.delay(str(celery.folder), "running")
    wait_until("the task has started", lambda: celery.started("running"))
    left = tasks.add.delay(1, 2)

    first.process.send_signal(signal.SIGTERM)
    wait_until("the worker shuts down", lambda: "Warm shutdown" in first.log())
    celery.release()
    assert running.get(timeout=PATIENCE_S) is False
    assert first.process.wait(PATIENCE_S) == 0

    second = celery.start_worker("--pool", pool, "--concurrency", "1")
    assert left.get(timeout=PATIENCE_S) == 3
    second.stop()


@pytest.mark.parametrize("pool", POOLS)
def test_remote_control(start: Start, pool: str) -> None:
    tasks, celery = start()
    workers = [celery.start_worker("--pool", pool, "--concurrency", "1") for _ in range(2)]
    names = sorted(worker.name for worker in workers)
    control = tasks.app.control

    replies = control.ping(timeout=PATIENCE_S, destination=names, limit=2)
    assert sorted(next(iter(reply)) for reply in replies) == names
    assert all(next(iter(reply.values())) == {"ok": "pong"} for reply in replies)

    inspect = control.inspect(destination=names, timeout=PATIENCE_S, limit=2)
    assert sorted(inspect.registered()) == names
    assert [queue["name"] for queue in inspect.active_queues()[names[0]]] == [celery.queue]
    assert inspect.stats()[names[0]]["broker"]["transport"] == "amqp"

    tasks.wait_for.delay(str(celery.folder), "busy")
    wait_until("the task has started", lambda: celery.started("busy"))
    active = inspect.active()
    assert [task["name"] for tasks_of_one in active.values() for task in tasks_of_one] == ["application.wait_for"]
    celery.release()

    waiting = tasks.add.apply_async((1, 1), countdown=600)
    wait_until("a worker holds the task", lambda: any(inspect.scheduled().values()))
    control.revoke(waiting.id)
    wait_until("the task is revoked", lambda: all(waiting.id in ids for ids in inspect.revoked().values()))

    control.cancel_consumer(celery.queue, destination=names, reply=True, timeout=PATIENCE_S, limit=2)
    assert all(queues == [] for queues in inspect.active_queues().values())
    control.add_consumer(
        celery.queue,
        exchange=celery.queue,
        exchange_type="topic",
        routing_key=celery.queue,
        destination=names,
        reply=True,
        timeout=PATIENCE_S,
        limit=2,
    )
    assert tasks.add.delay(4, 4).get(timeout=PATIENCE_S) == 8

    control.shutdown(destination=names)
    for worker in workers:
        assert worker.process.wait(PATIENCE_S) == 0


def test_autoscale_grows_and_shrinks(start: Start) -> None:
    tasks, celery = start()
    worker = celery.start_worker("--pool", "prefork", "--autoscale", "3,1")
    inspect = tasks.app.control.inspect(destination=[worker.name], timeout=PATIENCE_S, limit=1)

    def processes() -> int:
        return len(inspect.stats()[worker.name]["pool"]["processes"])

    assert processes() == 1
    results = [tasks.wait_for.delay(str(celery.folder), str(number)) for number in range(6)]
    wait_until("three tasks run at once", lambda: sum(celery.started(str(number)) for number in range(6)) == 3)
    assert processes() == 3

    celery.release()
    assert [result.get(timeout=PATIENCE_S) for result in results] == [False] * 6
    wait_until("the pool is small again", lambda: processes() == 1)
    assert tasks.add.delay(1, 2).get(timeout=PATIENCE_S) == 3
    worker.stop()


@pytest.mark.parametrize("pool", POOLS)
def test_native_delayed_delivery_with_quorum_queues(start: Start, pool: str) -> None:
    """The broker holds the delayed task in Celery's chain of 28 queues; the longest can keep it for four years."""
    tasks, celery = start(queue_type="quorum")
    worker = celery.start_worker("--pool", pool, "--concurrency", "1")
    inspect = tasks.app.control.inspect(destination=[worker.name], timeout=PATIENCE_S, limit=1)

    with tasks.app.connection_for_read() as connection:
        channel = connection.default_channel
        for level in range(28):
            channel.queue_declare(f"celery_delayed_{level}", passive=True)

    sent = time.time()
    delayed = tasks.now.apply_async(countdown=5)
    assert tasks.add.delay(1, 1).get(timeout=PATIENCE_S) == 2
    assert inspect.scheduled() == {worker.name: []}, "the worker holds the task, not the broker"
    # Celery counts in whole seconds here.
    assert 4.0 <= delayed.get(timeout=PATIENCE_S) - sent < PATIENCE_S
    worker.stop()
