"""A broker in a test, seen from its own thread: how it starts, ends and comes back, and how its time is moved.

Everything here runs in the trio loop that serves the broker; ``runners.py`` calls it from elsewhere. What must outlive
a restart (the clock, the journal's files, what was remembered, the port) is kept here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from amqp_broker.broker.alarms import Resource
from amqp_broker.server.listeners import Endpoint
from amqp_broker.session.connection import Connection, ConnectionState
from amqp_broker.settings import Settings
from amqp_broker.testing.memory_journal import MemoryFolder, open_journal, write_at_once
from amqp_broker.testing.movable_clock import MovableClock
from amqp_broker.testing.watch import Watch
from amqp_broker.testing.watched import WatchedBroker, WatchedServer

TEN_YEARS_MS = 315_360_000_000

# How long the clients' traffic may keep a look at the broker waiting: somebody may be sending without a pause.
SETTLE_TIMEOUT_S = 0.25
POLL_S = 0.001

# Where a broker in a test differs from one that serves: it does not watch the machine, which is not its own, and no
# client is too slow for a clock that jumps. What the caller gives wins.
DEFAULTS: dict[str, Any] = {
    "host": ("127.0.0.1",),
    "port": 0,
    "handshake_timeout_ms": TEN_YEARS_MS,
    "memory_budget_bytes": sys.maxsize,
    "memory_high_water_bytes": sys.maxsize,
    "resource_check_ms": TEN_YEARS_MS,
    "shutdown_grace_ms": 100,
}


class Engine:
    """One broker.

    Args:
        remember: how many published messages of each virtual host are remembered.
        settings: by name, where they differ from the defaults.
    """

    def __init__(self, remember: int, settings: dict[str, Any]) -> None:
        self.settings = Settings(**{**DEFAULTS, **settings})
        self.clock = MovableClock()
        self.watch = Watch(remember)
        self.alarms: set[Resource] = set()  # those that the test has raised
        self._folder = MemoryFolder()
        self._server: WatchedServer | None = None
        self._broker: WatchedBroker | None = None
        self._scope = trio.CancelScope()
        self._ended = trio.Event()

    # --- start and end

    async def run(self, *, task_status: trio.TaskStatus[list[Endpoint]] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until ``stop``; the next call goes on with the same port, data and time.

        Raises:
            CannotListen: the port is taken.
        """
        self._scope, self._ended = trio.CancelScope(), trio.Event()
        journal = open_journal(self._folder)
        self._broker = WatchedBroker(self.settings, self.clock, journal, self.watch)
        write_at_once(self._broker, journal)
        self._server = WatchedServer(self.settings, self.clock, self._broker)
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    endpoints = await nursery.start(self._server.run)
                    self.settings = replace(self.settings, port=endpoints[0].port)
                    await self._raise_alarms_again()
                    task_status.started(endpoints)
        finally:
            self._broker.on_journal_work = None
            journal.close()
            self._server = self._broker = None
            self._ended.set()

    async def _raise_alarms_again(self) -> None:
        """The alarms that the test has raised outlive a restart; the server looks at the machine first, once."""
        if self.alarms:
            await self.settle()
            for resource in self.alarms:
                self.broker.alarms.set(resource, True)

    def stop(self, *, crash: bool = False) -> None:
        """Begin to end, in good order or as if the process had been killed."""
        if crash:
            self._folder = self._folder.copy()  # what happens to clients from now on happens to no broker
            self._scope.cancel()
        else:
            self.server.shut_down()

    async def wait_ended(self) -> None:
        """Return when ``run`` is done."""
        await self._ended.wait()

    @property
    def is_running(self) -> bool:
        """Whether it serves now."""
        return self._server is not None

    @property
    def server(self) -> WatchedServer:
        """The server.

        Raises:
            RuntimeError: it does not run.
        """
        if self._server is None:
            raise RuntimeError("the broker is not running: use it within its 'with' block, or call start()")
        return self._server

    @property
    def broker(self) -> WatchedBroker:
        """The domain.

        Raises:
            RuntimeError: it does not run.
        """
        if self._broker is None:
            raise RuntimeError("the broker is not running: use it within its 'with' block, or call start()")
        return self._broker

    def connections(self, virtual_host: str | None = None) -> list[Connection]:
        """The clients that are connected, to one virtual host or to any."""
        return [
            connection
            for connection in self.server.connections
            if connection.state is ConnectionState.OPEN and virtual_host in (None, connection.virtual_host_name)
        ]

    # --- virtual hosts

    def add_virtual_host(self, name: str) -> None:
        """Create a virtual host, in which the default user may do everything."""
        broker = self.broker
        if name in broker.virtual_hosts:
            raise ValueError(f"there is a virtual host '{name}' already")
        broker.durability.keep_virtual_host(broker.add_virtual_host(name))
        user = broker.users.get(self.settings.default_user)
        assert user is not None
        broker.users.permit_all(user.name, name)
        broker.durability.keep_user(user)
        broker.settle()

    def delete_virtual_host(self, name: str) -> None:
        """Delete a virtual host with all in it; its clients are sent away."""
        broker = self.broker
        for connection in self.connections(name):
            connection.shut_down(f"vhost '{name}' is down")
            connection.finish()
        virtual_host = broker.virtual_hosts.pop(name)
        for queue in list(virtual_host.queues.values()):
            virtual_host.remove_queue(queue)
        for exchange in virtual_host.exchanges.values():
            for binding in exchange.bindings.values():
                broker.durability.forget(binding)
            broker.durability.forget(exchange)
        user = broker.users.get(self.settings.default_user)
        if user is not None and user.permissions.pop(name, None) is not None:
            broker.durability.keep_user(user)
        broker.durability.forget(virtual_host)
        broker.settle()
        self.watch.forget(name)

    # --- quiet

    async def settle(self) -> None:
        """Return when all that clients have sent is handled, and all that they are to get was handed to the sockets."""
        with trio.move_on_after(SETTLE_TIMEOUT_S):
            await wait_all_tasks_blocked()

    async def wait_idle(self, virtual_host: str | None, timeout_s: float) -> None:
        """Settle, and wait until no delivery waits for its acknowledgement and no consumer has any to come.

        Args:
            virtual_host: where; None for all of them.

        Raises:
            TimeoutError: something was still in flight after that time; the text says what.
        """
        deadline_s = trio.current_time() + timeout_s
        await self.settle()
        while in_flight := list(self._in_flight(virtual_host)):
            if trio.current_time() >= deadline_s:
                raise TimeoutError(f"after {timeout_s:g} s still in flight: " + "; ".join(in_flight))
            await trio.sleep(POLL_S)
            await self.settle()

    def _in_flight(self, name: str | None) -> Iterable[str]:
        for virtual_host in self.broker.virtual_hosts.values():
            if name not in (None, virtual_host.name):
                continue
            for queue in virtual_host.queues.values():
                if queue.unacknowledged_count:
                    yield f"{queue} has {queue.unacknowledged_count} unacknowledged"
                elif queue.ready_count and len(queue.consumers):
                    yield f"{queue} has {queue.ready_count} ready for its consumers"

    # --- time

    async def advance(self, duration_ms: int, *, heartbeats: bool, idle_timeout_s: float | None) -> None:
        """Let time pass, and do at each deadline on the way what is due then.

        Args:
            duration_ms: how long.
            heartbeats: whether clients count as alive all the time, as if each had sent its heartbeats.
            idle_timeout_s: wait at each deadline until nothing is in flight, at most so long; None does not wait.

        Raises:
            TimeoutError: something was still in flight.
        """
        if duration_ms < 0:
            raise ValueError("time goes only forward")
        clock, timers = self.clock, self.broker.timers
        await self._rest(idle_timeout_s)
        was_running = clock.is_running
        clock.stop()
        end_ms = clock.monotonic_ms() + duration_ms
        try:
            while (deadline_ms := timers.next_deadline_ms()) is not None and deadline_ms <= end_ms:
                clock.move_to(deadline_ms)
                if heartbeats:
                    self._hear_all_clients()
                self.broker.run_due()
                await self._rest(idle_timeout_s)
            clock.move_to(end_ms)
        finally:
            if was_running:
                clock.go_on()
            self.clock_was_moved()

    async def _rest(self, idle_timeout_s: float | None) -> None:
        if idle_timeout_s is None:
            await self.settle()
        else:
            await self.wait_idle(None, idle_timeout_s)

    def _hear_all_clients(self) -> None:
        for connection in self.connections():
            connection.received_bytes += 1  # a heartbeat is noticed by the bytes that have come

    def clock_was_moved(self) -> None:
        """Have the task that waits for the next deadline look at the clock again."""
        look_again = self.broker.timers.on_earlier_deadline
        if look_again is not None:
            look_again()
