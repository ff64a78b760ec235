"""Time in a test: what becomes due when the clock is moved, in which order, and what has happened when it returns."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker, StreamLostError
from pika.spec import Basic

from amqp_broker.broker.dead_letter import DeathReason
from amqp_broker.broker.message import Message
from amqp_broker.broker.observer import Onlooker, Passage
from amqp_broker.broker.queues.base import Queue
from amqp_broker.testing import Broker
from amqp_broker.testing.movable_clock import MovableClock
from tests.testing.conftest import Connect

LATE = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "late"}


def test_real_time_is_the_default(broker: Broker) -> None:
    assert not broker.clock.is_frozen
    before_s = time.time()
    assert before_s - 1 < broker.clock.now().timestamp() < time.time() + 1


def test_a_clock_that_was_stopped_goes_on_from_where_it_stood() -> None:
    clock = MovableClock()
    clock.stop()
    stood_ms, wall_ms = clock.monotonic_ms(), clock.wall_ms()
    clock.move_to(stood_ms + 5000)
    clock.move_to(stood_ms)
    assert (clock.monotonic_ms(), clock.wall_ms()) == (stood_ms + 5000, wall_ms + 5000)
    clock.go_on()
    assert clock.is_running
    assert stood_ms + 5000 <= clock.monotonic_ms() < stood_ms + 60_000


def time_of_death(headers: dict[str, Any]) -> float:
    """When a message died, in seconds since the epoch."""
    time_s: float = headers["x-death"][0]["time"]
    return time_s


def test_messages_expire_at_their_times(broker: Broker, channel: BlockingChannel) -> None:
    broker.clock.freeze()
    channel.queue_declare("late")
    channel.queue_declare("waiting", arguments=LATE)
    for minutes in (1, 2, 3):
        properties = pika.BasicProperties(expiration=str(minutes * 60_000))
        channel.basic_publish("", "waiting", str(minutes).encode(), properties)
    broker.clock.advance(seconds=59.999)
    assert broker.queue("waiting").bodies == [b"1", b"2", b"3"]
    broker.clock.advance(milliseconds=1)
    assert broker.queue("late").bodies == [b"1"]
    broker.clock.advance(timedelta(minutes=2))
    died = [time_of_death(message.headers) for message in broker.queue("late").messages]
    assert [later - died[0] for later in died] == [0, 60, 120], "each at its own time"


def test_delayed_messages_come_at_their_times(broker: Broker, channel: BlockingChannel) -> None:
    broker.clock.freeze()
    channel.exchange_declare("later", "x-delayed-message", arguments={"x-delayed-type": "fanout"})
    channel.queue_declare("due")
    channel.queue_bind("due", "later")
    for minutes in (30, 10, 20):
        properties = pika.BasicProperties(headers={"x-delay": minutes * 60_000})
        channel.basic_publish("later", "", str(minutes).encode(), properties)
    broker.clock.advance(seconds=599.999)
    assert broker.queue("due").bodies == []
    broker.clock.advance(milliseconds=1)
    assert broker.queue("due").bodies == [b"10"]
    broker.clock.advance(minutes=20)
    assert broker.queue("due").bodies == [b"10", b"20", b"30"]


def test_what_was_sent_before_counts_from_before(broker: Broker, connect: Connect) -> None:
    """Without confirms, the publish may still be on its way when time is told to pass."""
    channel = connect().channel()
    channel.queue_declare("q", arguments={"x-message-ttl": 1000})
    for _ in range(500):
        channel.basic_publish("", "q", b"soon gone")
    broker.clock.advance(seconds=2)
    assert broker.queue("q").message_count == 0
    assert len(broker.published) == 500


def test_many_that_expire_at_once_have_all_expired(broker: Broker, connect: Connect) -> None:
    """The broker does so in slices, for the sake of its clients."""
    channel = connect().channel()
    channel.queue_declare("late")
    channel.queue_declare("waiting", arguments={"x-message-ttl": 1000, **LATE})
    for _ in range(5000):
        channel.basic_publish("", "waiting", b"soon gone")
    broker.clock.advance(seconds=1)
    assert (broker.queue("waiting").message_count, broker.queue("late").message_count) == (0, 5000)


def test_deliveries_have_reached_the_socket(broker: Broker, channel: BlockingChannel, connect: Connect) -> None:
    channel.queue_declare("late")
    channel.queue_declare("waiting", arguments={"x-message-ttl": 3_600_000, **LATE})
    channel.basic_publish("", "waiting", b"hello")
    consumer = connect().channel()
    got: list[bytes] = []
    consumer.basic_consume("late", lambda *delivery: got.append(delivery[3]), auto_ack=True)
    broker.clock.advance(hours=1)
    consumer.connection.process_data_events(0)
    assert got == [b"hello"]


def test_an_unused_queue_expires(broker: Broker, channel: BlockingChannel) -> None:
    channel.queue_declare("q", arguments={"x-expires": 60_000})
    broker.clock.advance(seconds=30)
    assert broker.queue("q").exists
    broker.clock.advance(seconds=31)
    assert not broker.queue("q").exists


def test_a_frozen_clock_stands_still_until_it_is_resumed() -> None:
    with Broker(frozen=True) as broker, pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        channel = connection.channel()
        channel.queue_declare("q", arguments={"x-message-ttl": 20})
        channel.basic_publish("", "q", b"hello")
        before = broker.clock.now()
        time.sleep(0.04)
        assert broker.clock.is_frozen
        assert broker.clock.now() == before
        assert broker.queue("q").bodies == [b"hello"]
        broker.clock.resume()
        deadline_s = time.monotonic() + 60
        while broker.queue("q").message_count:
            assert time.monotonic() < deadline_s


def test_clients_count_as_alive_while_time_passes(broker: Broker, connect: Connect) -> None:
    connection = connect(heartbeat=10)
    broker.clock.advance(hours=2)
    connection.channel().queue_declare("q")
    assert len(broker.connections) == 1


def test_silent_clients_are_given_up(broker: Broker, connect: Connect) -> None:
    connection = connect(heartbeat=10)
    connection.channel()
    broker.clock.advance(seconds=29, heartbeats=False)  # in the first ten it has spoken
    assert len(broker.connections) == 1
    broker.clock.advance(seconds=2, heartbeats=False)
    assert broker.connections == []
    with pytest.raises(StreamLostError):
        connection.channel()


def test_a_consumer_that_never_acknowledges_runs_into_its_timeout(broker: Broker, channel: BlockingChannel) -> None:
    channel.queue_declare("q")
    channel.basic_publish("", "q", b"hello")
    channel.basic_get("q")
    broker.clock.advance(minutes=32)
    with pytest.raises(ChannelClosedByBroker, match="delivery acknowledgement"):
        channel.queue_declare("q", passive=True)
    assert broker.queue("q").bodies == [b"hello"]


def test_time_goes_only_forward(broker: Broker) -> None:
    with pytest.raises(ValueError, match="forward"):
        broker.clock.advance(seconds=-1)
    for days in (365 * 9000, 10**12, float("inf")):
        with pytest.raises(ValueError, match="9999"):
            broker.clock.advance(days=days)
    with pytest.raises(ValueError, match="9999"):
        broker.clock.advance(timedelta.max, days=1)
    with pytest.raises(TypeError, match=r"Say advance\(seconds=30\)"):
        broker.clock.advance(30)  # type: ignore[arg-type]  # thirty of what?


def test_who_moves_time_at_the_same_time_moves_it_one_after_the_other(broker: Broker, channel: BlockingChannel) -> None:
    broker.clock.freeze()
    before = broker.clock.now()
    with ThreadPoolExecutor(8) as pool:
        for moved in [pool.submit(broker.clock.advance, minutes=1) for _ in range(40)]:
            moved.result()
    assert broker.clock.now() - before == timedelta(minutes=40)


def test_a_clock_that_is_frozen_while_time_is_moved_stays_frozen(broker: Broker, channel: BlockingChannel) -> None:
    channel.queue_declare("q", arguments={"x-message-ttl": 1000, **LATE})
    channel.queue_declare("late")
    channel.basic_publish("", "q", b"hello")

    class Freezing(Onlooker):
        def died(self, queue: Queue, message: Message, reason: DeathReason, passage: Passage | None) -> None:
            broker._engine.freeze()  # as another thread may have it done at any deadline

    broker._engine.broker.observers.add(Freezing())
    broker.clock.advance(seconds=2)
    assert broker.clock.is_frozen
    assert not broker._engine.clock.is_running


def test_a_crash_while_time_is_moved_loses_none(broker: Broker, connect: Connect) -> None:
    """The consumer does not acknowledge, so time waits for it; the crash takes it away."""
    broker.clock.freeze()
    before = broker.clock.now()
    channel = connect().channel()
    channel.queue_declare("work", durable=True)
    channel.basic_publish("", "work", b"hello")
    channel.basic_get("work")
    with ThreadPoolExecutor(1) as pool:
        moved = pool.submit(broker.clock.advance, minutes=5, wait_idle=True)
        broker.fail.crash()
        moved.result(timeout=60)
    assert broker.clock.now() - before == timedelta(minutes=5)


def test_years_of_heartbeats_are_neither_sent_nor_expected(broker: Broker, connect: Connect) -> None:
    """A million of them would fill the client's socket, and take their time."""
    connection = connect(heartbeat=10)
    (served,) = broker._engine.server.connections
    broker.wait_idle()
    sent_bytes = served.sent_bytes
    broker.clock.advance(days=3650)
    assert served.sent_bytes == sent_bytes
    broker.clock.advance(seconds=19, heartbeats=False)
    connection.process_data_events(0)
    assert len(broker.connections) == 1, "it was heard after the ten years"
    broker.clock.advance(seconds=25, heartbeats=False)
    assert broker.connections == []


def test_nothing_is_in_flight_after_wait_idle(broker: Broker, channel: BlockingChannel) -> None:
    """A worker in another thread does what it gets; the test goes on when it has done all."""
    channel.queue_declare("q")
    done: list[bytes] = []
    worker = Worker(broker, done)
    try:
        for number in range(100):
            channel.basic_publish("", "q", str(number).encode())
        broker.wait_idle()
        assert len(done) == 100
    finally:
        worker.stop()


def test_what_stays_in_flight_is_named(broker: Broker, channel: BlockingChannel) -> None:
    channel.queue_declare("q")
    channel.basic_publish("", "q", b"hello")
    channel.basic_get("q")
    with pytest.raises(TimeoutError, match="queue 'q' in vhost '/' has 1 unacknowledged"):
        broker.wait_idle(timeout_s=0.01)
    with pytest.raises(TimeoutError):
        broker.clock.advance(seconds=1, wait_idle=True, timeout_s=0.01)
    assert not broker.clock.is_frozen, "a failure leaves the clock as it was"


def test_a_condition_is_waited_for(broker: Broker, channel: BlockingChannel) -> None:
    answers = iter([[], [], ["at last"]])
    assert broker.wait_until(lambda: next(answers)) == ["at last"]
    channel.queue_declare("q")
    with pytest.raises(TimeoutError, match="q: 0 ready"):
        broker.wait_until(lambda: broker.queue("q").messages, timeout_s=0.01)

    async def never_awaited() -> bool:
        return True

    with pytest.raises(TypeError, match="plain function"):
        broker.wait_until(never_awaited)  # type: ignore[unused-coroutine]  # a mistake that is easily made


def test_a_worker_keeps_up_when_time_waits_for_it(broker: Broker, channel: BlockingChannel) -> None:
    """A message that its worker sends round five times, ten minutes each, in one go."""
    channel.queue_declare("again", arguments={"x-message-ttl": 600_000, "x-dead-letter-exchange": "", **to("q")})
    channel.queue_declare("q")
    done: list[bytes] = []
    worker = Worker(broker, done, then="again")
    try:
        channel.basic_publish("", "q", b"hello")
        broker.clock.advance(minutes=50, wait_idle=True)
        assert len(done) == 6
    finally:
        worker.stop()


def to(queue: str) -> dict[str, object]:
    return {"x-dead-letter-routing-key": queue}


class Worker:
    """A consumer of the queue ``q`` in a thread of its own."""

    def __init__(self, broker: Broker, done: list[bytes], then: str = "") -> None:
        self._then = then
        self._done = done
        self._connection = pika.BlockingConnection(pika.URLParameters(broker.url))
        self._channel = self._connection.channel()
        self._channel.basic_consume("q", self._work)
        self._thread = threading.Thread(target=self._channel.start_consuming)
        self._thread.start()

    def _work(self, channel: BlockingChannel, method: Basic.Deliver, properties: object, body: bytes) -> None:
        self._done.append(body)
        if self._then:
            channel.basic_publish("", self._then, body)
        channel.basic_ack(method.delivery_tag)

    def stop(self) -> None:
        self._connection.add_callback_threadsafe(self._channel.stop_consuming)
        self._thread.join()
        self._connection.close()
