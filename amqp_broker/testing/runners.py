"""Where a broker in a test runs: in a thread of its own, or in the nursery of a trio program.

Each offers the same: start and stop, ``look`` (a quick question), ``run`` and ``run_async`` (what has to wait). Holds
no broker; that is ``engine.py``.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Protocol, TypeVar

import trio

from amqp_broker.testing.engine import POLL_S, Engine

Answer = TypeVar("Answer")


class Runner(Protocol):
    """How to reach an engine in its own loop."""

    def look(self, question: Callable[[], Answer]) -> Answer:
        """Ask something that does not wait."""


class ThreadRunner:
    """Runs an engine in a thread with a trio loop of its own, for callers of any other kind.

    Args:
        engine: what to run.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._thread: threading.Thread | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._is_ready = threading.Event()
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Return when clients can connect.

        Raises:
            CannotListen: the port is taken.
        """
        if self._thread is not None:
            raise RuntimeError("the broker is running already")
        self._is_ready = threading.Event()
        self._failure = None
        self._thread = threading.Thread(target=self._run, name="amqp-broker", daemon=True)
        self._thread.start()
        self._is_ready.wait()
        if self._token is None:
            self._join()

    async def start_async(self) -> None:
        """The same; it takes a few milliseconds, in which an asyncio program stands still."""
        self.start()

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:
            self._failure = _alone(error)
        finally:
            self._is_ready.set()

    async def _serve(self) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.engine.run)
            self._token = trio.lowlevel.current_trio_token()
            self._is_ready.set()

    def stop(self, *, crash: bool = False) -> None:
        """Return when the thread has ended; does nothing when it has already.

        Raises:
            whatever went wrong in the broker.
        """
        self._begin_to_stop(crash=crash)
        self._join()

    def _begin_to_stop(self, *, crash: bool) -> None:
        token, self._token = self._token, None
        if token is not None:
            try:
                token.run_sync_soon(partial(self.engine.stop, crash=crash))
            except trio.RunFinishedError:
                pass  # something went wrong in it; whoever joins it will hear

    async def stop_async(self, *, crash: bool = False) -> None:
        """The same from an asyncio program, whose own tasks go on meanwhile."""
        thread = self._thread
        if thread is None:
            return
        self._begin_to_stop(crash=crash)
        while thread.is_alive():  # noqa: ASYNC110 - a thread tells nobody when it has really ended
            await asyncio.sleep(POLL_S)
        self._join()

    def _join(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
            if self._failure is not None:
                raise self._failure

    def look(self, question: Callable[[], Answer]) -> Answer:
        """Ask in the broker's thread, once all that was sent so far is handled."""

        async def settle_and_ask() -> Answer:
            await self.engine.settle()
            return question()

        return self.run(settle_and_ask)

    def run(self, task: Callable[[], Awaitable[Answer]]) -> Answer:
        """Have something done in the broker's thread, and wait for it."""
        return trio.from_thread.run(task, trio_token=self._running_token())

    async def run_async(self, task: Callable[[], Awaitable[Answer]]) -> Answer:
        """The same from an asyncio program, whose own tasks go on meanwhile."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Answer] = loop.create_future()

        async def do() -> None:
            try:
                answer = await task()
            except Exception as error:
                loop.call_soon_threadsafe(_fail, outcome, error)
            else:
                loop.call_soon_threadsafe(_fulfil, outcome, answer)

        token = self._running_token()
        token.run_sync_soon(partial(trio.lowlevel.spawn_system_task, do))
        return await outcome

    async def sleep(self, duration_s: float) -> None:
        """Let an asyncio program's own tasks go on for a while."""
        await asyncio.sleep(duration_s)

    def _running_token(self) -> trio.lowlevel.TrioToken:
        if self._token is None:
            raise RuntimeError("the broker is not running: use it within its 'with' block, or call start()")
        return self._token


def _fulfil(outcome: asyncio.Future[Answer], answer: Answer) -> None:
    if not outcome.cancelled():
        outcome.set_result(answer)


def _fail(outcome: asyncio.Future[Answer], error: Exception) -> None:
    if not outcome.cancelled():
        outcome.set_exception(error)


class NurseryRunner:
    """Runs an engine in the trio loop of the program that uses it.

    Args:
        engine: what to run.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._manager: AbstractAsyncContextManager[trio.Nursery] | None = None
        self._nursery: trio.Nursery | None = None

    async def start_async(self) -> None:
        """Return when clients can connect.

        Raises:
            CannotListen: the port is taken.
        """
        if self._nursery is None:
            self._manager = trio.open_nursery()
            self._nursery = await self._manager.__aenter__()
        await self._nursery.start(self.engine.run)

    @property
    def nursery(self) -> trio.Nursery:
        """Where the broker's tasks run."""
        if self._nursery is None:
            raise RuntimeError("the broker is not running: use it within its 'async with' block")
        return self._nursery

    async def stop_async(self, *, crash: bool = False) -> None:
        """Return when the broker has ended; the nursery stays, so that it can start again."""
        if self.engine.is_running:
            self.engine.stop(crash=crash)
            await self.engine.wait_ended()

    async def close(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """End all, and the nursery: the end of an ``async with`` block, with its arguments."""
        with trio.CancelScope(shield=True):
            await self.stop_async()
        manager, self._manager = self._manager, None
        nursery, self._nursery = self._nursery, None
        if manager is None or nursery is None:
            return None
        nursery.cancel_scope.cancel()
        return await manager.__aexit__(kind, error, traceback)

    def look(self, question: Callable[[], Answer]) -> Answer:
        """Ask at once: it is the same loop."""
        return question()

    async def run_async(self, task: Callable[[], Awaitable[Answer]]) -> Answer:
        """Have something done in this loop."""
        return await task()

    async def sleep(self, duration_s: float) -> None:
        """Let the program's own tasks go on for a while."""
        await trio.sleep(duration_s)


def _alone(error: BaseException) -> BaseException:
    """The error that trio has wrapped in groups, where it is the only one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
