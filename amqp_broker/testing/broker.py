"""``Broker``: a broker that lives as long as a ``with`` block, and ``AsyncBroker``, the same for ``async with``.

``with`` runs it in a thread of its own, for programs of any kind. ``async with`` runs it in the trio loop of a trio
program, and in a thread beside an asyncio program. Holds the life of it; what can be asked is in ``view.py``, what can
be done to it in ``faults.py`` and ``clock.py``.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import trio

from amqp_broker.testing.clock import IDLE_TIMEOUT_S, AsyncClock, Clock
from amqp_broker.testing.engine import POLL_S, Engine
from amqp_broker.testing.faults import AsyncFaults, Faults
from amqp_broker.testing.runners import NurseryRunner, ThreadRunner
from amqp_broker.testing.view import View

REMEMBERED_MAX = 10_000
Answer = TypeVar("Answer")


class VirtualHostView(View):
    """One virtual host of a broker in a thread, with the broker's clock.

    Args:
        engine: the broker.
        runner: its thread.
        virtual_host: its name.
    """

    _runner: ThreadRunner

    def __init__(self, engine: Engine, runner: ThreadRunner, virtual_host: str) -> None:
        super().__init__(engine, runner, virtual_host)
        self.clock = Clock(engine, runner)
        self.fail = Faults(engine, runner, virtual_host)

    def wait_idle(self, timeout_s: float = IDLE_TIMEOUT_S) -> None:
        """Return when nothing is in flight: all that was sent is handled, every delivery acknowledged, and no consumer
        has a message to come.

        Args:
            timeout_s: how long that may take, in real seconds.

        Raises:
            TimeoutError: something was still in flight; the text says what.
        """
        self._runner.run(partial(self._engine.wait_idle, self.virtual_host, timeout_s))

    def wait_until(self, condition: Callable[[], Answer], timeout_s: float = IDLE_TIMEOUT_S) -> Answer:
        """Ask again and again, until the answer is true; returns that answer.

        Args:
            condition: a question to this broker, or to anything else.
            timeout_s: how long that may take, in real seconds.

        Raises:
            TimeoutError: the answer never was; the text shows how things stand.
            TypeError: the answer is one to be awaited.
        """
        deadline_s = time.monotonic() + timeout_s
        while not (answer := condition()):
            if time.monotonic() >= deadline_s:
                raise self._never_was(answer, timeout_s)
            time.sleep(POLL_S)
        if inspect.iscoroutine(answer):
            answer.close()
            raise TypeError("wait_until cannot await its condition: give it a plain function")
        return answer

    def restart(self) -> None:
        """End in good order (clients get 320 CONNECTION_FORCED), and start again: same port, what was durable."""
        self._runner.run(self._runner.restart)


class Broker(VirtualHostView):
    """A broker for a test.

    ::

        with Broker() as broker:
            connection = pika.BlockingConnection(pika.URLParameters(broker.url))

    It listens on a free port of 127.0.0.1, and leaves nothing behind: no thread, task, socket or file. What is durable
    is kept in memory, for ``restart`` and ``crash``. Several can run at once.

    Args:
        frozen: whether its clock stands still from the start, so that only ``clock.advance`` moves it.
        remember: how many published messages of each virtual host are remembered.
        settings: any setting of the broker by its name, for instance ``consumer_timeout_ms=5000``.

    Raises:
        SettingError: there is no such setting, it has a value that it cannot have, or it would change nothing.
        ValueError: ``remember`` is less than nothing.
    """

    def __init__(self, *, frozen: bool = False, remember: int = REMEMBERED_MAX, **settings: Any) -> None:
        engine = Engine(remember, settings)
        super().__init__(engine, ThreadRunner(engine), engine.settings.default_virtual_host)
        self._async_broker: AsyncBroker | None = None
        if frozen:
            engine.freeze()

    # --- its life

    def start(self) -> None:
        """Start, for those who cannot use ``with``; returns when clients can connect.

        Raises:
            CannotListen: the port that was asked for is taken.
        """
        self._runner.start()

    def stop(self) -> None:
        """End in good order; clients get 320 CONNECTION_FORCED. ``start`` goes on with what was durable."""
        self._runner.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> AsyncBroker:
        runner = NurseryRunner(self._engine) if trio.lowlevel.in_trio_task() else self._runner
        await runner.start_async()
        self._async_broker = AsyncBroker(self._engine, runner, self.virtual_host)
        return self._async_broker

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        async_broker, self._async_broker = self._async_broker, None
        assert async_broker is not None
        return await async_broker._end(kind, error, traceback)

    # --- virtual hosts

    def add_virtual_host(self, name: str) -> VirtualHostView:
        """Create one more virtual host, with a world of its own.

        Raises:
            ValueError: there is one of this name, or it can be no name.
        """
        self._runner.look(partial(self._engine.add_virtual_host, name))
        return VirtualHostView(self._engine, self._runner, name)

    def delete_virtual_host(self, name: str) -> None:
        """Delete a virtual host with all in it; clients that are connected to it are sent away.

        Raises:
            LookupError: there is none of this name.
        """
        self._runner.look(partial(self._engine.delete_virtual_host, name))


class AsyncVirtualHostView(View):
    """One virtual host of a broker that an asynchronous program uses: what waits is awaited here.

    Args:
        engine: the broker.
        runner: where it runs.
        virtual_host: its name.
    """

    _runner: ThreadRunner | NurseryRunner

    def __init__(self, engine: Engine, runner: ThreadRunner | NurseryRunner, virtual_host: str) -> None:
        super().__init__(engine, runner, virtual_host)
        self.clock = AsyncClock(engine, runner)
        self.fail = AsyncFaults(engine, runner, virtual_host)

    async def wait_idle(self, timeout_s: float = IDLE_TIMEOUT_S) -> None:
        """Return when nothing is in flight; as ``Broker.wait_idle``."""
        await self._runner.run_async(partial(self._engine.wait_idle, self.virtual_host, timeout_s))

    async def wait_until(
        self, condition: Callable[[], Answer | Awaitable[Answer]], timeout_s: float = IDLE_TIMEOUT_S
    ) -> Answer:
        """Ask again and again, until the answer is true; as ``Broker.wait_until``, and it may be one to be awaited."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            asked = condition()
            answer: Answer = await asked if inspect.isawaitable(asked) else asked
            if answer:
                return answer
            if time.monotonic() >= deadline_s:
                raise self._never_was(answer, timeout_s)
            await self._runner.sleep(POLL_S)

    async def restart(self) -> None:
        """End in good order, and start again; as ``Broker.restart``."""
        await self._runner.run_async(self._runner.restart)

    async def connect_in_memory(self) -> trio.abc.HalfCloseableStream:
        """Connect without a socket: the client's end of a stream, for trio programs only.

        Raises:
            RuntimeError: the program is not a trio program, so that the broker runs in a thread.
        """
        if not isinstance(self._runner, NurseryRunner):
            raise RuntimeError("a stream in memory joins two tasks of one trio program; connect to broker.url instead")
        return self._engine.connect_in_memory()


class AsyncBroker(AsyncVirtualHostView):
    """The broker that ``async with Broker() as broker`` gives. Made by ``Broker`` only."""

    def add_virtual_host(self, name: str) -> AsyncVirtualHostView:
        """Create one more virtual host; as ``Broker.add_virtual_host``, and it takes a moment only."""
        self._runner.look(partial(self._engine.add_virtual_host, name))
        return AsyncVirtualHostView(self._engine, self._runner, name)

    def delete_virtual_host(self, name: str) -> None:
        """Delete a virtual host with all in it; as ``Broker.delete_virtual_host``."""
        self._runner.look(partial(self._engine.delete_virtual_host, name))

    async def _end(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if isinstance(self._runner, NurseryRunner):
            return await self._runner.close(kind, error, traceback)
        await self._runner.stop_async()
        return None
