"""A broker in a test, seen from its own loop: how it starts, ends and comes back, and how its time is moved.

Everything here runs in the trio loop that serves the broker; ``runners.py`` calls it from elsewhere. What must outlive
a restart (the clock, the journal's files, what was remembered, the faults that last, the port) is kept here.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from amqp_broker.access.client import Peer
from amqp_broker.broker.alarms import Resource
from amqp_broker.broker.problems import AdministrationError
from amqp_broker.management.management import Management
from amqp_broker.network.listeners import AMQP, HTTP, Endpoint
from amqp_broker.network.memory_stream import MemoryStream, stream_pair
from amqp_broker.server.long_works import finish_what_is_held
from amqp_broker.session.connection import ClientConnection
from amqp_broker.settings import Settings, port_setting
from amqp_broker.testing.holds import watch_ends
from amqp_broker.testing.memory_journal import MemoryFolder, WritingDriver, open_journal
from amqp_broker.testing.movable_clock import MovableClock
from amqp_broker.testing.settings import settings_in_tests
from amqp_broker.testing.watch import Watch
from amqp_broker.testing.watched import WatchedBroker, WatchedServer

END_OF_TIME_MS = 253_402_300_800_000  # the year 10,000, which no datetime can tell

# How long the clients' traffic may keep a look at the broker waiting: somebody may be sending without a pause. Of the
# processor's time, so that what a look sees does not depend on how busy the machine is.
SETTLE_PROCESSOR_S = 1.0
SETTLE_TURN_S = 0.05
LONG_WORK_TIMEOUT_S = 10.0  # and how long what is done in slices
POLL_S = 0.001

PORT_SETTINGS = {AMQP: "port", HTTP: "management_port"}  # those that are not named like their protocol


class NotRunning(RuntimeError):
    """The broker was asked for something while it does not run, or it ended before it could answer."""

    def __init__(self, text: str = "") -> None:
        super().__init__(
            text
            or "the broker is not running: use it within its 'with' block, or call start(); in a trio program, use "
            "what 'async with Broker() as broker' gives"
        )


class Engine:
    """One broker.

    Args:
        remember: how many published messages of each virtual host are remembered.
        settings: by name, where they differ from the defaults.

    Raises:
        SettingError: there is no such setting, it cannot have this value, or it would change nothing.
    """

    def __init__(self, remember: int, settings: dict[str, Any]) -> None:
        self.settings = settings_in_tests(settings)
        self.clock = MovableClock()
        self.is_frozen = False  # as the test wants it; while time is moved, the clock stands anyway
        self.watch = Watch(remember)
        self.alarms: dict[object, Resource] = {}  # those that the test has raised, by who may clear them
        self._folder = MemoryFolder()
        self._server: WatchedServer | None = None
        self._broker: WatchedBroker | None = None
        self._driver = WritingDriver()
        self._nursery: trio.Nursery | None = None
        self._in_memory_count = 0
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._is_ending = False
        self._restarting = trio.Lock()
        self._advancing = trio.Lock()

    # --- start and end

    async def run(self, *, task_status: trio.TaskStatus[list[Endpoint]] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until ``stop``; the next call goes on with the same port, data and time.

        Raises:
            CannotListen: the port is taken.
        """
        self._scope, self._ended, self._is_ending = trio.CancelScope(), trio.Event(), False
        journal = open_journal(self._folder)
        self._driver = driver = WritingDriver()
        self._broker = WatchedBroker(self.settings, self.clock, driver, self.watch)
        self._broker.open(journal)
        driver.begin_writing(self._broker, journal)
        self._server = WatchedServer(self.settings, self.clock, self._broker, driver)
        if self.settings.management_port >= 0 or self.settings.metrics_port >= 0:
            self._server.speak_http(Management(self._server).serve)
        try:
            with self._scope:
                async with trio.open_nursery() as self._nursery:
                    endpoints = await self._nursery.start(self._serve, self._server)
                    self.settings = _with_ports(self.settings, [*endpoints, *self._server.http_endpoints])
                    await self._order_faults_again()
                    task_status.started(endpoints)
        except BaseExceptionGroup as group:
            raise alone(group) from None
        finally:
            finish_what_is_held(self._broker)
            driver.end_writing()
            journal.close()
            self._server = self._broker = self._nursery = None
            self._driver = WritingDriver()
            self.watch.ended_by_test.clear()
            self._ended.set()

    async def _serve(self, server: WatchedServer, *, task_status: trio.TaskStatus[list[Endpoint]]) -> None:
        await server.run(task_status=task_status)
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel()  # clients in memory, who did not take the hint

    async def _order_faults_again(self) -> None:
        """The faults that the test has ordered outlive a restart; the server looks at the machine first, once."""
        if self.alarms:
            await _rest_of_the_loop()
            for resource in self.alarms.values():
                self.broker.alarms.set(resource, True)
        watch_ends(self.broker)

    def stop(self, *, crash: bool = False) -> None:
        """Begin to end, in good order or as if the process had been killed; harmless when it does not run."""
        if self._server is None:
            return
        self._is_ending = True
        self.watch.ended_by_test.update(self._server.connections)
        self.watch.ended_by_test.update(self.broker.open_connections)  # those of other protocols, too
        if crash:
            self._folder = self._folder.copy()  # what happens to clients from now on happens to no broker
            self._scope.cancel()
        else:
            self._server.shut_down()

    async def wait_ended(self) -> None:
        """Return when ``run`` is done."""
        await self._ended.wait()

    async def restart(self, nursery: trio.Nursery, *, crash: bool = False) -> None:
        """End, and start again.

        Args:
            nursery: where it runs from then on.
            crash: whether it ends as if the process had been killed.

        Raises:
            NotRunning: there is nothing that could end.
            CannotListen: somebody else has taken the port meanwhile.
        """
        async with self._restarting:
            if not self.is_running:
                raise NotRunning
            self.stop(crash=crash)
            await self.wait_ended()
            await nursery.start(self.run)

    @property
    def is_running(self) -> bool:
        """Whether it serves now."""
        return self._server is not None

    @property
    def server(self) -> WatchedServer:
        """The server.

        Raises:
            NotRunning: it does not run.
        """
        if self._server is None:
            raise NotRunning
        return self._server

    @property
    def broker(self) -> WatchedBroker:
        """The domain.

        Raises:
            NotRunning: it does not run.
        """
        if self._broker is None:
            raise NotRunning
        return self._broker

    def connections(self, virtual_host: str) -> list[ClientConnection]:
        """The clients of any protocol that are connected to a virtual host, the oldest first."""
        return [
            connection
            for connection in self.broker.open_connections.in_virtual_host(virtual_host)
            if isinstance(connection, ClientConnection) and connection.is_open
        ]

    def connect_in_memory(self) -> MemoryStream:
        """Connect a client of the same loop; returns its end of the stream."""
        self._in_memory_count += 1
        ours, theirs = stream_pair()
        peer = Peer("memory", self._in_memory_count, is_loopback=True)
        server = self.server
        assert self._nursery is not None
        self._nursery.start_soon(server.serve_stream, ours, peer)
        return theirs

    # --- virtual hosts

    def add_virtual_host(self, name: str) -> None:
        """Create a virtual host, in which the default user may do everything.

        Raises:
            ValueError: it cannot be had.
        """
        try:
            self.broker.handle(partial(self._add_virtual_host, name))
        except AdministrationError as error:
            raise ValueError(str(error)) from error

    def _add_virtual_host(self, name: str) -> None:
        administration = self.broker.administration
        administration.add_virtual_host(name)
        administration.set_permission(self.settings.default_user, name, ".*", ".*", ".*")

    def delete_virtual_host(self, name: str) -> None:
        """Delete a virtual host with all in it; its clients are sent away.

        Raises:
            LookupError: there is none of that name.
        """
        broker = self.broker
        if name not in broker.virtual_hosts:
            raise LookupError(f"there is no virtual host '{name}'")
        broker.handle(partial(broker.administration.delete_virtual_host, name))
        self.watch.forget(name)

    # --- quiet

    async def settle(self) -> None:
        """Return when all that clients have sent is handled, and all that they are to get was handed to the sockets.

        A restart that is under way is waited for, and work that is done in slices.

        Raises:
            NotRunning: the broker has ended.
        """
        deadline_s = time.monotonic() + LONG_WORK_TIMEOUT_S
        while True:
            async with self._restarting:
                pass
            await _rest_of_the_loop()
            if not self._restarting.locked():
                if not self.is_running or self._is_ending:
                    raise NotRunning
                if not self.broker.is_unfinished or time.monotonic() > deadline_s:
                    return

    def settle_now(self) -> None:
        """The same for somebody in the very loop that cannot wait: what was sent is handled, and answered later."""
        deadline_s = time.monotonic() + LONG_WORK_TIMEOUT_S
        while self._read_now() or self.broker.is_unfinished:
            if self.broker.is_unfinished:
                self.broker.go_on()
            if time.monotonic() > deadline_s:
                return

    def _read_now(self) -> int:
        return sum(pump.read_now() for pump in list(self.server.pumps))

    async def wait_idle(self, virtual_host: str | None, timeout_s: float) -> None:
        """Settle, and wait until no delivery waits for its acknowledgement and no consumer has any to come.

        Args:
            virtual_host: where; None for all of them.

        Raises:
            TimeoutError: something was still in flight after that time; the text says what.
            NotRunning: the broker has ended.
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
            held = " (a fault of the test holds deliveries back)" if self.watch.of(virtual_host.name).holds else ""
            for queue in virtual_host.queues.values():
                if queue.unacknowledged_count:
                    yield f"{queue} has {queue.unacknowledged_count} unacknowledged"
                elif queue.ready_count and len(queue.consumers):
                    yield f"{queue} has {queue.ready_count} ready for its consumers{held}"

    # --- time

    def freeze(self) -> None:
        """Have the clock stand still, also after time that is being moved now has been moved."""
        self.is_frozen = True
        self.clock.stop()

    def resume(self) -> None:
        """Have the clock go on; once time has been moved, where it is being moved now."""
        self.is_frozen = False
        if not self._advancing.locked():
            self.clock.go_on()
            self._clock_was_moved()

    async def advance(self, duration_ms: int, *, heartbeats: bool, idle_timeout_s: float | None) -> None:
        """Let time pass, and do at each deadline on the way what is due then. Who else moves time waits for its turn.

        Args:
            duration_ms: how long.
            heartbeats: whether clients count as alive all the time, as if each had sent its heartbeats.
            idle_timeout_s: wait at each deadline until nothing is in flight, at most so long; None does not wait.

        Raises:
            TimeoutError: something was still in flight.
            ValueError: time cannot pass like this.
            NotRunning: the broker has ended.
        """
        if duration_ms < 0:
            raise ValueError("time goes only forward")
        if self.clock.wall_ms() + duration_ms >= END_OF_TIME_MS:
            raise ValueError("no date tells a time so late: the year 9999 is the last")
        async with self._advancing:
            await self._rest(idle_timeout_s)
            self.clock.stop()
            try:
                await self._pass(self.clock.monotonic_ms() + duration_ms, heartbeats, idle_timeout_s)
            finally:
                self._hear_all_clients()
                if not self.is_frozen:
                    self.clock.go_on()
                self._clock_was_moved()

    async def _pass(self, end_ms: int, heartbeats: bool, idle_timeout_s: float | None) -> None:
        if heartbeats:
            self._take_heartbeats_as_sent()
        while (deadline_ms := self.broker.timers.next_deadline_ms()) is not None and deadline_ms <= end_ms:
            self.clock.move_to(deadline_ms)
            self.broker.run_due()
            await self._rest(idle_timeout_s)
            if heartbeats:
                self._take_heartbeats_as_sent()  # of clients that have come meanwhile
        self.clock.move_to(end_ms)

    async def _rest(self, idle_timeout_s: float | None) -> None:
        if idle_timeout_s is None:
            await self.settle()
        else:
            await self.wait_idle(None, idle_timeout_s)

    def _take_heartbeats_as_sent(self) -> None:
        for connection in self._open_connections():
            connection.heartbeats.pause()

    def _hear_all_clients(self) -> None:
        if self.is_running:
            for connection in self._open_connections():
                connection.heartbeats.resume()

    def _open_connections(self) -> list[ClientConnection]:
        return [one for one in self.broker.open_connections if isinstance(one, ClientConnection) and one.is_open]

    def _clock_was_moved(self) -> None:
        """Have the task that waits for the next deadline look at the clock again."""
        self._driver.deadline_came_forward()


def _with_ports(settings: Settings, endpoints: Iterable[Endpoint]) -> Settings:
    """The settings that a restart takes the same ports with."""
    ports: dict[str, Any] = {}
    for endpoint in endpoints:
        if not endpoint.is_tls:
            ports[PORT_SETTINGS.get(endpoint.protocol) or port_setting(endpoint.protocol)] = endpoint.port
    return replace(settings, **ports)


async def _rest_of_the_loop() -> None:
    """Return when every other task has done what it can, or has had much time for it."""
    end_s = time.thread_time() + SETTLE_PROCESSOR_S
    while True:
        with trio.move_on_after(SETTLE_TURN_S) as turn:
            await wait_all_tasks_blocked()
        if not turn.cancelled_caught or time.thread_time() > end_s:
            return


def alone(error: BaseException) -> BaseException:
    """The error that trio has wrapped in groups, where it is the only one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
