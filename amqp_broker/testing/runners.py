"""The places in which a broker in a test runs: in a thread of its own, or in the nursery of a trio program.

Each offers the same: start and stop, ``look`` (a quick question), ``run`` and ``run_async`` (what has to wait), and
``restart``. Holds no broker; that is ``engine.py``.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from types import TracebackType
from typing import Protocol, TypeVar

import trio

from amqp_broker.testing.engine import POLL_S, Engine, NotRunning, alone

Answer = TypeVar("Answer")


class Runner(Protocol):
    """The way to reach an engine in its own loop."""

    def look(self, question: Callable[[], Answer]) -> Answer:
        """Ask something that does not wait."""


class ThreadRunner:
    """Runs an engine in a thread with a trio loop of its own, for callers of any other kind: any thread, with or
    without a loop of any kind, and any number of them at once.

    The thread and its loop live from ``start`` to ``stop``, also while the broker is restarted.

    Args:
        engine: what to run.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._thread: threading.Thread | None = None
        self._loop: _Loop | None = None
        self._process = 0  # where the thread is: what was forked from there has none
        self._is_ready = threading.Event()
        self._failure: BaseException | None = None

    # --- start and end

    def start(self) -> None:
        """Return when clients can connect.

        Raises:
            CannotListen: the port is taken.
        """
        if self._thread is not None:
            raise RuntimeError("the broker is running already")
        self._is_ready.clear()
        self._failure = None
        self._process = os.getpid()
        thread = threading.Thread(target=self._run, name="amqp-broker", daemon=True)
        try:
            thread.start()
            self._thread = thread
            self._is_ready.wait()
        except KeyboardInterrupt:
            self._thread = thread
            self._is_ready.wait()  # a few milliseconds; there is nothing yet that could be stopped
            self.stop()
            raise
        if self._loop is None:
            self._join()

    async def start_async(self) -> None:
        """The same; it takes a few milliseconds, in which an asyncio program stands still."""
        self.start()

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:
            self._failure = alone(error)
        finally:
            self._is_ready.set()

    async def _serve(self) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.engine.run)
            loop = self._loop = _Loop(nursery)
            self._is_ready.set()
            await loop.stop_requested.wait()
            self.engine.stop()
            await self.engine.wait_ended()
            nursery.cancel_scope.cancel()

    def stop(self) -> None:
        """End in good order, and return when the thread has ended; does nothing when it has already.

        Raises:
            whatever went wrong in the broker.
        """
        self._begin_to_stop()
        self._join()

    async def stop_async(self) -> None:
        """The same from an asyncio program, whose own tasks go on meanwhile."""
        thread = self._thread
        if thread is None:
            return
        self._begin_to_stop()
        try:
            while thread.is_alive():  # noqa: ASYNC110 - a thread tells nobody when it has really ended
                await asyncio.sleep(POLL_S)
        finally:
            self._join()

    def _begin_to_stop(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and os.getpid() == self._process:
            with suppress(trio.RunFinishedError):  # something went wrong in it; whoever joins it will hear
                loop.call_soon(loop.stop_requested.set)

    def _join(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
            if self._failure is not None:
                raise self._failure

    async def restart(self, *, crash: bool = False) -> None:
        """In the broker's loop: end it and start it again; what waits there for an answer goes on waiting."""
        await self.engine.restart(self._running_loop().nursery, crash=crash)

    # --- questions

    def look(self, question: Callable[[], Answer]) -> Answer:
        """Ask in the broker's thread, once all that was sent so far is handled."""

        async def settle_and_ask() -> Answer:
            await self.engine.settle()
            return question()

        return self.run(settle_and_ask)

    def run(self, task: Callable[[], Awaitable[Answer]]) -> Answer:
        """Have something done in the broker's thread, and wait for it.

        Raises:
            NotRunning: the broker does not run, or ended before it was done.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("this is the broker's own thread (a log handler, say), which would wait for itself")
        outcome = self._running_loop().request(task)
        try:
            return outcome.result()
        except TimeoutError as error:
            if _is_in_a_loop():
                error.add_note(
                    "This thread has an event loop, which stood still meanwhile: consumers that live in it cannot have "
                    "worked. Wait in another thread: await asyncio.to_thread(...), trio.to_thread.run_sync(...)"
                )
            raise
        except BaseException:  # Ctrl-C, for one: nobody waits any more
            outcome.cancel()
            raise

    async def run_async(self, task: Callable[[], Awaitable[Answer]]) -> Answer:
        """The same from an asyncio program, whose own tasks go on meanwhile."""
        return await asyncio.wrap_future(self._running_loop().request(task))

    async def sleep(self, duration_s: float) -> None:
        """Let an asyncio program's own tasks go on for a while."""
        await asyncio.sleep(duration_s)

    def _running_loop(self) -> _Loop:
        if self._loop is None:
            raise NotRunning
        if os.getpid() != self._process:
            raise NotRunning(
                "the broker runs in the process that this one was forked from: only its url is of use here"
            )
        return self._loop


class _Loop:
    """The loop of a broker's thread, as other threads reach it. Made in that loop.

    Args:
        nursery: where what they ask for is done; it lives as long as the loop.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.stop_requested = trio.Event()
        self.call_soon = trio.lowlevel.current_trio_token().run_sync_soon

    def request(self, task: Callable[[], Awaitable[Answer]]) -> Future[Answer]:
        """Begin something in the loop; cancelling the future cancels it."""
        outcome: Future[Answer] = Future()
        scope = trio.CancelScope()

        async def do() -> None:
            try:
                with scope:
                    answer = await task()
                    _settle(outcome, partial(outcome.set_result, answer))
            except trio.Cancelled:
                _settle(outcome, partial(outcome.set_exception, NotRunning("the broker was stopped meanwhile")))
                raise
            except Exception as error:
                _settle(outcome, partial(outcome.set_exception, error))

        def begin() -> None:
            try:
                self.nursery.start_soon(do)
            except RuntimeError:  # the nursery has ended
                _settle(outcome, partial(outcome.set_exception, NotRunning()))

        def end(outcome: Future[Answer]) -> None:
            if outcome.cancelled():
                with suppress(trio.RunFinishedError):
                    self.call_soon(scope.cancel)

        try:
            self.call_soon(begin)
        except trio.RunFinishedError:
            raise NotRunning from None
        outcome.add_done_callback(end)
        return outcome


def _is_in_a_loop() -> bool:
    return trio.lowlevel.in_trio_run() or asyncio._get_running_loop() is not None


def _settle(outcome: Future[Answer], settle: Callable[[], None]) -> None:
    with suppress(InvalidStateError):  # nobody waits any more
        settle()


class NurseryRunner:
    """Runs an engine in the trio loop of the program that uses it.

    Args:
        engine: what to run.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._manager: AbstractAsyncContextManager[trio.Nursery] | None = None
        self._nursery: trio.Nursery | None = None
        self._token: trio.lowlevel.TrioToken | None = None

    async def start_async(self) -> None:
        """Return when clients can connect.

        Raises:
            CannotListen: the port is taken.
        """
        if self._nursery is not None or self.engine.is_running:
            raise RuntimeError("the broker is running already")
        manager = trio.open_nursery()
        nursery = await manager.__aenter__()
        try:
            await nursery.start(self.engine.run)
        except BaseException:
            await manager.__aexit__(None, None, None)
            raise
        self._manager, self._nursery = manager, nursery
        self._token = trio.lowlevel.current_trio_token()

    async def stop_async(self) -> None:
        """Return when the broker has ended; does nothing when it has already."""
        self.engine.stop()
        await self.engine.wait_ended()

    async def close(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """End all, and the nursery: the end of an ``async with`` block, with its arguments.

        What the block has raised goes its own way, not in a group. Only where the broker has failed, and so has
        cancelled the block, the nursery has to see what became of that.
        """
        manager, self._manager = self._manager, None
        nursery, self._nursery = self._nursery, None
        assert manager is not None
        assert nursery is not None
        with trio.CancelScope(shield=True):
            await self.stop_async()
        has_failed = nursery.cancel_scope.cancel_called
        nursery.cancel_scope.cancel()
        if not has_failed:
            await manager.__aexit__(None, None, None)
            return None
        try:
            return await manager.__aexit__(kind, error, traceback)
        except BaseExceptionGroup as group:
            raise alone(group) from None

    async def restart(self, *, crash: bool = False) -> None:
        """End the broker and start it again."""
        await self.engine.restart(self._running_nursery(), crash=crash)

    def look(self, question: Callable[[], Answer]) -> Answer:
        """Ask, once all that was sent so far is handled."""
        if trio.lowlevel.in_trio_run():
            self.engine.settle_now()
            return question()

        async def settle_and_ask() -> Answer:
            await self.engine.settle()
            return question()

        self._running_nursery()
        return trio.from_thread.run(settle_and_ask, trio_token=self._token)

    async def run_async(self, task: Callable[[], Awaitable[Answer]]) -> Answer:
        """Have something done in this loop."""
        return await task()

    async def sleep(self, duration_s: float) -> None:
        """Let the program's own tasks go on for a while."""
        await trio.sleep(duration_s)

    def _running_nursery(self) -> trio.Nursery:
        if self._nursery is None:
            raise NotRunning
        return self._nursery
