"""The broker of an asynchronous program: asyncio, where it has a thread, and trio, where it runs in the same loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator

import pika
import pytest
import trio
from pamqp import commands
from pika.exceptions import AMQPError
from trio.testing import MockClock, wait_all_tasks_blocked

from amqp_broker.network.listeners import CannotListen, Endpoint
from amqp_broker.testing import Broker
from amqp_broker.testing.runners import ThreadRunner
from amqp_broker.testing.watched import WatchedServer
from amqp_broker.wire.frames import PROTOCOL_HEADER
from tests.faults.hostile_crowd import HANDSHAKE, method, publication
from tests.testing.test_broker import publish_one


def test_an_asyncio_program_awaits_what_waits() -> None:
    async def program() -> None:
        async with Broker() as broker:
            await asyncio.to_thread(publish_one, broker.url)
            await broker.wait_idle()
            assert await broker.wait_until(lambda: broker.queue("q").bodies) == [b"hello"]
            before = broker.clock.now()
            await broker.clock.advance(hours=1)
            assert (broker.clock.now() - before).total_seconds() >= 3600
            await broker.restart()
            await broker.fail.crash()
            assert broker.queues == ()
            with pytest.raises(RuntimeError, match="trio program"):
                await broker.connect_in_memory()
            with pytest.raises(ValueError, match="forward"):
                await broker.clock.advance(seconds=-1)

    asyncio.run(program())
    assert "amqp-broker" not in {thread.name for thread in threading.enumerate()}


def test_a_trio_program_runs_it_in_its_own_loop() -> None:
    async def program() -> None:
        threads = set(threading.enumerate())
        async with Broker() as broker:
            assert set(threading.enumerate()) <= threads  # those that trio has kept since earlier tests end some time
            with trio.fail_after(60):
                await trio.to_thread.run_sync(publish_one, broker.url)
                await broker.wait_idle()
                assert await broker.wait_until(lambda: broker.queue("q").bodies) == [b"hello"]
                await broker.clock.advance(minutes=5)
                await broker.fail.crash()
                assert broker.queues == ()
                await broker.restart()
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream(broker.host, broker.port)

    trio.run(program)


def test_a_trio_program_connects_without_a_socket() -> None:
    async def program() -> None:
        async with Broker() as broker:
            stream = await broker.connect_in_memory()
            async with stream:
                await stream.send_all(PROTOCOL_HEADER)
                with trio.fail_after(60):
                    assert b"AMQPLAIN" in await stream.receive_some()

    trio.run(program)


# --- a loop of any kind, and the broker of a thread


def test_a_trio_program_may_use_the_broker_of_a_thread(broker: Broker) -> None:
    """As the fixture's is, in a test of trio."""

    async def program() -> None:
        await trio.to_thread.run_sync(publish_one, broker.url)
        assert broker.queue("q").bodies == [b"hello"]
        with Broker() as another:
            another.clock.advance(hours=1)
            another.wait_idle()
            another.restart()
            another.fail.crash()
            assert another.queues == ()
        await trio.to_thread.run_sync(broker.wait_idle)

    trio.run(program)


def test_an_asyncio_program_may_use_the_broker_of_a_thread(broker: Broker) -> None:
    async def program() -> None:
        await asyncio.to_thread(publish_one, broker.url)
        broker.clock.advance(hours=1)
        assert broker.queue("q").bodies == [b"hello"]

    asyncio.run(program())


def test_a_loop_that_stood_still_is_named(broker: Broker, held: Held) -> None:
    """It waits for its own consumers, which cannot work meanwhile."""

    async def program() -> None:
        broker.wait_idle(timeout_s=0.01)

    held.take(broker.url)
    for run in (trio.run, lambda program: asyncio.run(program())):
        with pytest.raises(TimeoutError) as caught:
            run(program)
        assert "to_thread" in caught.value.__notes__[0]
    with pytest.raises(TimeoutError) as caught:
        broker.wait_idle(timeout_s=0.01)
    assert not hasattr(caught.value, "__notes__")


def test_what_an_asyncio_program_no_longer_waits_for_ends(held: Held) -> None:
    async def program() -> None:
        async with Broker() as broker:
            await asyncio.to_thread(held.take, broker.url)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(broker.wait_idle(timeout_s=60), 0.02)
            runner = broker._runner
            assert isinstance(runner, ThreadRunner)
            loop = runner._loop
            assert loop is not None
            assert await broker.wait_until(lambda: len(loop.nursery.child_tasks) == 1)

    asyncio.run(program())


def test_who_waits_in_asyncio_when_the_broker_crashes_goes_on_waiting(held: Held) -> None:
    """The crash gives the message back, nobody consumes it: then nothing is in flight any more."""

    async def program() -> None:
        async with Broker() as broker:
            await asyncio.to_thread(held.take, broker.url)
            waiting = asyncio.create_task(broker.wait_idle())
            await asyncio.sleep(0)
            await broker.fail.crash()
            await waiting
            assert broker.queue("held").bodies == [b"hello"]

    asyncio.run(program())


def test_who_waits_in_trio_when_the_broker_crashes_goes_on_waiting(held: Held) -> None:
    async def program() -> None:
        async with Broker() as broker:
            await trio.to_thread.run_sync(held.take, broker.url)
            with trio.fail_after(60):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(broker.wait_idle)
                    await wait_all_tasks_blocked()
                    await broker.fail.crash()
            assert broker.queue("held").bodies == [b"hello"]

    trio.run(program)


# --- how a block ends


def test_what_a_block_raises_comes_out_as_itself() -> None:
    async def program(error: Exception) -> None:
        async with Broker():
            raise error

    runs: list[Callable[[Exception], None]] = [
        lambda error: asyncio.run(program(error)),
        lambda error: trio.run(program, error),
    ]
    for run in runs:
        for error in (ZeroDivisionError(), ExceptionGroup("two", [ValueError(), KeyError()])):
            with pytest.raises(type(error)) as caught:
                run(error)
            assert caught.value is error


def test_a_cancelled_block_ends_in_good_order() -> None:
    async def program() -> None:
        with trio.CancelScope() as scope:
            async with Broker() as broker:
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        with pytest.raises(RuntimeError, match="not running"):
            _ = broker.queues

    trio.run(program)


def test_a_broker_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """The block is cancelled, and what went wrong comes out of it."""

    async def shut_down_badly(self: object, *, task_status: trio.TaskStatus[object]) -> None:
        task_status.started([Endpoint("localhost", "127.0.0.1", 5)])
        raise ZeroDivisionError

    async def program() -> None:
        async with Broker():
            await trio.sleep_forever()

    monkeypatch.setattr(WatchedServer, "run", shut_down_badly)
    with pytest.raises(ZeroDivisionError):
        trio.run(program)
    broker = Broker()
    broker.start()
    with pytest.raises(ZeroDivisionError):
        broker.stop()


def test_a_port_that_is_taken_is_refused_and_the_program_goes_on(broker: Broker) -> None:
    async def in_trio() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.lowlevel.checkpoint)
            with pytest.raises(CannotListen, match=str(broker.port)):
                async with Broker(port=broker.port):
                    pass
            async with Broker() as another:
                assert another.queues == ()

    async def in_asyncio() -> None:
        with pytest.raises(CannotListen, match=str(broker.port)):
            async with Broker(port=broker.port):
                pass

    trio.run(in_trio)
    asyncio.run(in_asyncio())


def test_a_block_after_the_other_and_one_within_the_other() -> None:
    async def program() -> None:
        broker = Broker()
        for _ in range(2):
            async with broker as running, Broker() as other:
                assert running.port != other.port
                with pytest.raises(RuntimeError, match="running already"):
                    async with broker:
                        pass
                assert running.queues == ()

    asyncio.run(program())
    trio.run(program)


# --- virtual hosts


def test_an_asynchronous_program_has_virtual_hosts_too() -> None:
    async def program(in_thread: Callable[..., Awaitable[None]]) -> None:
        async with Broker() as broker:
            one = broker.add_virtual_host("one")
            await in_thread(publish_one, one.url)
            await one.wait_idle()
            await one.clock.advance(hours=1)
            await one.fail.crash()
            assert one.queues == ()
            broker.delete_virtual_host("one")
            with pytest.raises(LookupError, match="no virtual host 'one'"):
                _ = one.queues
            with pytest.raises(LookupError, match="no virtual host 'one'"):
                broker.delete_virtual_host("one")
            with pytest.raises(ValueError, match="already"):
                broker.add_virtual_host("/")

    asyncio.run(program(asyncio.to_thread))
    trio.run(program, trio.to_thread.run_sync)


# --- looking in from the very loop that the broker runs in

DECLARE_Q = method(commands.Queue.Declare(queue="q"))
DECLARE_OK = b"\x00\x32\x00\x0b\x01q"
PUBLISH = publication("q", b"hello")


async def open_channel(stream: trio.abc.Stream) -> None:
    """Open a connection and a channel, and declare the queue q."""
    await stream.send_all(HANDSHAKE + method(commands.Channel.Open()) + DECLARE_Q)
    answers = b""
    while DECLARE_OK not in answers:
        answers += await stream.receive_some()


@pytest.mark.parametrize("how", ["memory", "socket"])
def test_a_look_from_trio_sees_what_was_sent_just_before(how: str) -> None:
    """Without waiting for anything: the broker's own task has not had a turn yet."""

    async def program() -> None:
        async with Broker() as broker:
            if how == "memory":
                stream = await broker.connect_in_memory()
            else:
                stream = await trio.open_tcp_stream(broker.host, broker.port)
            await open_channel(stream)
            await stream.send_all(PUBLISH * 5000)
            assert broker.queue("q").message_count == 5000
            await stream.send_all(method(commands.Queue.Purge(queue="q")))
            assert broker.queue("q").message_count == 0
            await stream.aclose()
            await broker.wait_until(lambda: not broker.connections)

    trio.run(program)


def test_a_look_from_a_thread_of_a_trio_program_sees_it_too() -> None:
    async def program() -> None:
        async with Broker() as broker:
            stream = await broker.connect_in_memory()
            await open_channel(stream)
            await stream.send_all(PUBLISH * 500)
            assert await trio.to_thread.run_sync(lambda: broker.queue("q").message_count) == 500

    trio.run(program)


def test_a_client_in_memory_that_stays_does_not_hold_up_the_end() -> None:
    async def program() -> None:
        with trio.fail_after(2):
            async with Broker() as broker:
                stream = await broker.connect_in_memory()
                await open_channel(stream)
            while await stream.receive_some():
                pass

    trio.run(program)


def test_time_that_jumps_in_trio_too() -> None:
    """trio's own clock for tests, and a client in memory: nothing here takes real time."""

    async def program() -> None:
        async with Broker() as broker:
            stream = await broker.connect_in_memory()
            await open_channel(stream)
            await stream.send_all(PUBLISH)
            await trio.sleep(3600)
            await broker.wait_idle()
            assert broker.queue("q").message_count == 1

    trio.run(program, clock=MockClock(autojump_threshold=0))


class Held:
    """A stock client with a message that it does not acknowledge."""

    def __init__(self) -> None:
        self._connections: list[pika.BlockingConnection] = []

    def take(self, url: str) -> None:
        """Publish it, and take it."""
        connection = pika.BlockingConnection(pika.URLParameters(url))
        self._connections.append(connection)
        channel = connection.channel()
        channel.queue_declare("held", durable=True)
        channel.basic_publish("", "held", b"hello", pika.BasicProperties(delivery_mode=2))
        assert channel.basic_get("held")[2] == b"hello"

    def close(self) -> None:
        """Go."""
        for connection in self._connections:
            with contextlib.suppress(AMQPError):
                connection.close()


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.close()
