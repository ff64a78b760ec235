"""``broker.fail``: makes happen what is hard to provoke.

Some faults happen at once, some wait for the next publish, some last until they are cleared. Holds the orders; what
carries them out is in ``watched.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from amqp_broker.broker.alarms import Resource
from amqp_broker.broker.virtual_host import VirtualHost
from amqp_broker.testing import holds
from amqp_broker.testing.engine import Engine, NotRunning
from amqp_broker.testing.runners import NurseryRunner, Runner, ThreadRunner
from amqp_broker.testing.watch import Hold, PublishFault
from amqp_broker.testing.watched import drop

Answer = TypeVar("Answer")


class LastingFault:
    """A fault that lasts until it is cleared, or until the end of its ``with`` block.

    Args:
        clear: ends it; harmless when it has ended.
    """

    def __init__(self, clear: Callable[[], None]) -> None:
        self.clear = clear

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.clear()


class _FaultOrders:
    """The faults of one virtual host, or of its broker where that is said.

    Args:
        engine: the broker.
        runner: how to reach it.
        virtual_host: its name.
    """

    _runner: Runner

    def __init__(self, engine: Engine, runner: Runner, virtual_host: str) -> None:
        self._engine = engine
        self._runner = runner
        self._virtual_host = virtual_host

    # --- the publishes to come

    def nack_next_publish(self, count: int = 1) -> None:
        """Refuse the next publishes: with confirms their publisher gets ``basic.nack``, and no queue gets them."""
        self._order(PublishFault.NACK, count)

    def lose_next_publish(self) -> None:
        """Drop the connection of the next publish before the broker takes it: the message is lost."""
        self._order(PublishFault.LOSE, 1)

    def drop_before_confirm(self) -> None:
        """Have the next publish taken and routed, and its connection dropped instead of the confirm."""
        self._order(PublishFault.DROP_BEFORE_CONFIRM, 1)

    def drop_after_confirm(self) -> None:
        """Have the next publish taken and confirmed, and its connection dropped after that: when the client sends
        anything more, so that it has surely read the confirm.
        """
        self._order(PublishFault.DROP_AFTER_CONFIRM, 1)

    def _order(self, fault: PublishFault, count: int) -> None:
        if count < 1:
            raise ValueError("the next publish is at least one")
        self._change(
            lambda virtual_host: self._engine.watch.of(virtual_host.name).publish_faults.extend([fault] * count)
        )

    # --- at once

    def drop_connections(self) -> int:
        """Drop all connections, of any protocol, without a word, like a failing network; returns their number."""

        def drop_all(virtual_host: VirtualHost) -> int:
            connections = self._engine.connections(virtual_host.name)
            for connection in connections:
                drop(connection, self._engine.watch)
            return len(connections)

        return self._change(drop_all)

    def close_connections(self, reason: str = "closed by a test") -> int:
        """Close all connections, of any protocol, as an administrator would (with 320 CONNECTION_FORCED in AMQP 0-9-1);
        returns how many there were.
        """

        def close(virtual_host: VirtualHost) -> int:
            connections = self._engine.connections(virtual_host.name)
            for connection in connections:
                self._engine.watch.ended_by_test.add(connection)
                connection.close_forcibly(f"broker forced connection closure with reason '{reason}'")
            return len(connections)

        return self._change(close)

    def cancel_consumers(self, queue: str) -> int:
        """Cancel a queue's consumers from the broker's side (``basic.cancel`` to those that understand it); returns how
        many there were.
        """

        def cancel(virtual_host: VirtualHost) -> int:
            found = virtual_host.queues.get(queue)
            if found is None:
                raise LookupError(f"there is no queue '{queue}'")
            consumers = list(found.consumers)
            for consumer in consumers:
                consumer.deliveries.consumer_cancelled(consumer)
                found.remove_consumer(consumer)
            return len(consumers)

        return self._change(cancel)

    # --- until cleared

    def memory_alarm(self) -> LastingFault:
        """Let the whole broker run out of memory: whoever publishes is blocked until this is cleared."""
        return self._alarm(Resource.MEMORY)

    def disk_alarm(self) -> LastingFault:
        """Let the whole broker run out of disk space: whoever publishes is blocked until this is cleared."""
        return self._alarm(Resource.DISK)

    def _alarm(self, resource: Resource) -> LastingFault:
        engine, order = self._engine, object()

        def obey() -> None:
            if engine.is_running:
                engine.broker.alarms.set(resource, resource in engine.alarms.values())

        def begin() -> None:
            engine.alarms[order] = resource
            obey()

        def clear() -> None:
            engine.alarms.pop(order, None)
            obey()

        self._runner.look(begin)
        return LastingFault(partial(self._clear, clear))

    def hold_deliveries(self) -> LastingFault:
        """Give consumers nothing until this is cleared; then they get all of it, in order."""
        return self._hold(Hold(None))

    def delay_deliveries(self, seconds: float) -> LastingFault:
        """Give consumers nothing for so long on the broker's clock, or until this is cleared.

        Raises:
            ValueError: that is no time to wait.
        """
        if not 0 <= seconds < float("inf"):
            raise ValueError("deliveries can be delayed for 0 seconds or more")
        return self._hold(Hold(self._engine.clock.monotonic_ms() + round(seconds * 1000)))

    def _hold(self, hold: Hold) -> LastingFault:
        engine, name = self._engine, self._virtual_host
        self._change(lambda virtual_host: holds.begin(engine.broker, virtual_host.name, hold))

        def clear() -> None:
            if engine.is_running:
                holds.end(engine.broker, name, hold)
            elif name in engine.watch.spaces:
                engine.watch.of(name).holds.discard(hold)

        return LastingFault(partial(self._clear, clear))

    def _clear(self, clear: Callable[[], None]) -> None:
        """End a fault, wherever the broker is by now."""

        def do() -> None:
            if self._engine.is_running:
                self._engine.broker.handle(clear)
            else:
                clear()

        try:
            self._runner.look(do)
        except NotRunning:
            clear()  # it is not to come back when the broker does

    def nothing(self) -> None:
        """Take back every fault that waits or lasts."""
        engine = self._engine

        def clear(virtual_host: VirtualHost) -> None:
            self._engine.watch.of(virtual_host.name).publish_faults.clear()
            holds.end_all(engine.broker, virtual_host.name)
            engine.alarms.clear()
            for resource in Resource:
                engine.broker.alarms.set(resource, False)

        self._change(clear)

    def _change(self, change: Callable[[VirtualHost], Answer]) -> Answer:
        def do() -> Answer:
            broker = self._engine.broker
            virtual_host = broker.virtual_hosts.get(self._virtual_host)
            if virtual_host is None:
                raise LookupError(f"there is no virtual host '{self._virtual_host}'")
            return broker.handle(partial(change, virtual_host))

        return self._runner.look(do)


class Faults(_FaultOrders):
    """The faults of a broker in a thread of its own."""

    _runner: ThreadRunner

    def crash(self) -> None:
        """End the broker as if its process had been killed, and start it again with what was on disk at that moment:
        the same port, what was durable, and nothing else.
        """
        self._runner.run(partial(self._runner.restart, crash=True))


class AsyncFaults(_FaultOrders):
    """The faults of a broker that an asynchronous program uses."""

    _runner: ThreadRunner | NurseryRunner

    async def crash(self) -> None:
        """End the broker as if its process had been killed, and start it again; as ``Faults.crash``."""
        await self._runner.run_async(partial(self._runner.restart, crash=True))
