"""The life of a broker in a test: start, end, several at once, what it leaves behind, what outlives a restart."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import socket
import threading
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPConnectionError, ConnectionClosedByBroker, StreamLostError

from amqp_broker.network.listeners import CannotListen
from amqp_broker.settings import SettingError
from amqp_broker.testing import Broker
from amqp_broker.testing.engine import Engine
from tests.testing.conftest import Connect

PERSISTENT = pika.BasicProperties(delivery_mode=2)
DESCRIPTORS = Path("/proc/self/fd")


@pytest.fixture
def was_asked(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when somebody waits until nothing is in flight."""
    was_asked, in_flight = threading.Event(), Engine._in_flight

    def note(engine: Engine, name: str | None) -> Iterable[str]:
        was_asked.set()
        return in_flight(engine, name)

    monkeypatch.setattr(Engine, "_in_flight", note)
    return was_asked


def publish_one(url: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("q")
        channel.basic_publish("", "q", b"hello", mandatory=True)


def test_an_unmodified_client_publishes_and_the_test_looks_in() -> None:
    with Broker() as broker:
        publish_one(broker.url)
        assert broker.queue("q").bodies == [b"hello"]
    assert repr(broker) == "<Broker not running>"


def test_several_brokers_share_nothing() -> None:
    with Broker() as one, Broker() as other:
        publish_one(one.url)
        assert one.port != other.port
        assert one.queues == ("q",)
        assert other.queues == ()


def test_a_stopped_broker_says_how_to_start_it() -> None:
    broker = Broker()
    for ask in (lambda: broker.queues, lambda: broker.port, lambda: broker.url):
        with pytest.raises(RuntimeError, match="not running"):
            ask()
    broker.start()
    broker.stop()
    broker.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((broker.host, broker.port))


def test_a_started_broker_is_not_started_twice(broker: Broker) -> None:
    with pytest.raises(RuntimeError, match="running already"):
        broker.start()


def test_a_port_that_is_taken_is_refused(broker: Broker) -> None:
    with pytest.raises(CannotListen, match=str(broker.port)), Broker(port=broker.port):
        pass


def test_settings_are_given_by_name() -> None:
    with Broker(default_user="alice", default_password="p/w", default_virtual_host="shop") as broker:
        assert broker.url == f"amqp://alice:p%2Fw@127.0.0.1:{broker.port}/shop"
        publish_one(broker.url)
    with pytest.raises(SettingError, match="heartbeat_s"):
        Broker(heartbeat_s=-1)


@pytest.mark.parametrize(("host", "in_url"), [("localhost", "localhost"), ("*", "127.0.0.1"), ("::1", "[::1]")])
def test_it_listens_where_it_is_told(host: str, in_url: str) -> None:
    with Broker(host=host) as broker:
        assert broker.url == f"amqp://guest:guest@{in_url}:{broker.port}/%2F"
        publish_one(broker.url)


def test_nothing_is_left_behind() -> None:
    def footprint() -> tuple[set[str], int]:
        gc.collect()
        return {thread.name for thread in threading.enumerate()}, len(os.listdir(DESCRIPTORS))

    with Broker() as broker:  # what Python loads at the first use stays
        publish_one(broker.url)
    threads, descriptors = footprint()
    for _ in range(20):
        with Broker() as broker:
            publish_one(broker.url)
    threads_then, descriptors_then = footprint()
    assert threads_then <= threads  # those that trio has kept since earlier tests end some time
    assert descriptors_then <= descriptors


def test_no_part_of_a_stopped_broker_is_left_in_memory() -> None:
    with Broker() as broker:
        publish_one(broker.url)
        domain = weakref.ref(broker._engine.broker)
        server = weakref.ref(broker._engine.server)
    gc.collect()
    assert (domain(), server()) == (None, None)


def test_a_client_that_was_left_open_does_not_hold_up_the_end() -> None:
    with Broker() as broker:
        connection = pika.BlockingConnection(pika.URLParameters(broker.url))
    with pytest.raises((ConnectionClosedByBroker, StreamLostError)):
        connection.channel()


def interrupt_main_thread() -> None:
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    signal.pthread_kill(main_thread, signal.SIGINT)


def test_ctrl_c_while_it_starts_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal comes while the main thread waits for the broker's."""
    serve = Engine.run

    async def run(engine: Engine, **arguments: Any) -> None:
        interrupt_main_thread()
        await serve(engine, **arguments)

    monkeypatch.setattr(Engine, "run", run)
    broker = Broker()
    with pytest.raises(KeyboardInterrupt):
        broker.start()
    assert "amqp-broker" not in {thread.name for thread in threading.enumerate()}
    monkeypatch.undo()
    with broker:
        publish_one(broker.url)


def test_ctrl_c_while_a_test_waits_ends_the_wait_only(
    broker: Broker, channel: BlockingChannel, was_asked: threading.Event
) -> None:
    def interrupt() -> None:
        if was_asked.wait(timeout=60):
            interrupt_main_thread()

    channel.queue_declare("q")
    channel.basic_publish("", "q", b"hello")
    channel.basic_get("q")
    sender = threading.Thread(target=interrupt)
    sender.start()
    with pytest.raises(KeyboardInterrupt):
        broker.wait_idle(timeout_s=60)
    sender.join()
    assert broker.queue("q").unacknowledged_count == 1


def test_the_brokers_own_thread_does_not_wait_for_itself(broker: Broker) -> None:
    """As a log handler may that a test has installed."""
    asked: list[str] = []

    def ask() -> None:
        with pytest.raises(RuntimeError, match="own thread"):
            _ = broker.queues
        asked.append("asked")

    broker._runner.look(ask)
    assert asked == ["asked"]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_uses_the_address_only(broker: Broker) -> None:
    """As workers that are forked do. The thread is not there, so nobody would ever answer."""
    processes = multiprocessing.get_context("fork")
    told = processes.SimpleQueue()

    def child() -> None:
        publish_one(broker.url)
        try:
            told.put(broker.queues)
        except RuntimeError as error:
            told.put(str(error))
        broker.stop()

    process = processes.Process(target=child)
    process.start()
    assert "forked" in told.get()
    process.join()
    assert process.exitcode == 0
    assert broker.queue("q").bodies == [b"hello"]
    told.close()


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="remember"):
        Broker(remember=-1)
    with pytest.raises(SettingError, match="there is no setting heartbeats: did you mean heartbeat_s"):
        Broker(heartbeats=5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tls_key": "key.pem"}, "tls_key has no effect: TLS is off: name a certificate with tls_certificate"),
        ({"data_dir": "/tmp"}, "data_dir has no effect: a broker in a test keeps everything in memory"),
        ({"log_level": "debug"}, "log_level has no effect: a broker in a test logs to the logger amqp_broker"),
        ({"cluster": "etcd://localhost/c"}, "cluster has no effect: a broker in a test is alone"),
        ({"management_host": "*"}, "management_host has no effect: nothing listens there"),
    ],
)
def test_settings_that_would_change_nothing_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError) as refused:
        Broker(**settings)
    assert str(refused.value).startswith(said)


# --- restart and crash


def fill(channel: BlockingChannel) -> None:
    channel.queue_declare("kept", durable=True)
    channel.basic_publish("", "kept", b"persistent", PERSISTENT)
    channel.basic_publish("", "kept", b"transient")
    channel.queue_declare("forgotten")


def test_a_restart_keeps_what_is_durable(broker: Broker, channel: BlockingChannel) -> None:
    fill(channel)
    port = broker.port
    broker.restart()
    assert broker.port == port
    assert broker.queues == ("kept",)
    assert broker.queue("kept").bodies == [b"persistent"]
    assert len(broker.published) == 2, "what was seen before is still known"
    with pytest.raises(ConnectionClosedByBroker, match="CONNECTION_FORCED"):
        channel.queue_declare("q")


def test_a_crash_keeps_what_is_durable(broker: Broker, channel: BlockingChannel, connect: Connect) -> None:
    fill(channel)
    consumer = connect().channel()
    assert consumer.basic_get("kept")[2] == b"persistent"
    broker.fail.crash()
    kept = broker.queue("kept").messages
    assert [message.body for message in kept] == [b"persistent"]
    assert kept[0].redelivered, "it had been handed out"
    with pytest.raises(AMQPConnectionError):
        channel.queue_declare("q")


def test_a_crash_happens_before_anything_that_it_causes(broker: Broker, connect: Connect) -> None:
    """A queue that goes with its last consumer is still there: the consumer did not go, the broker did."""
    channel = connect().channel()
    channel.queue_declare("q", durable=True, auto_delete=True)
    channel.basic_consume("q", lambda *_: None)
    channel.connection.process_data_events(0)
    broker.fail.crash()
    assert broker.queues == ("q",)


def test_acknowledged_messages_take_no_memory_for_ever(broker: Broker, channel: BlockingChannel) -> None:
    channel.queue_declare("q", durable=True)
    for _ in range(40):
        channel.basic_publish("", "q", bytes(100_000), PERSISTENT)
        method, _, _ = channel.basic_get("q")
        channel.basic_ack(method.delivery_tag)
    assert broker.queue("q").message_count == 0
    kept_bytes = sum(len(data) for data in broker._engine._folder._files.values())
    assert kept_bytes < 2_000_000


def test_who_waits_when_the_broker_crashes_goes_on_waiting(
    broker: Broker, channel: BlockingChannel, was_asked: threading.Event
) -> None:
    """The crash gives the message back, nobody consumes it: then nothing is in flight any more."""
    fill(channel)
    channel.basic_get("kept")
    waiting = Waiting(broker.wait_idle)
    assert was_asked.wait(timeout=60)
    broker.fail.crash()
    waiting.end()
    assert broker.queue("kept").message_count == 1


def test_who_waits_when_the_broker_is_stopped_is_told(
    channel: BlockingChannel, broker: Broker, was_asked: threading.Event
) -> None:
    fill(channel)
    channel.basic_get("kept")
    waiting = Waiting(broker.wait_idle)
    assert was_asked.wait(timeout=60)
    broker.stop()
    with pytest.raises(RuntimeError, match=r"not running|stopped meanwhile"):
        waiting.end()


def test_many_messages_outlive_a_restart_and_can_all_be_had(
    broker: Broker, channel: BlockingChannel, connect: Connect
) -> None:
    channel.queue_declare("kept", durable=True)
    for number in range(200):
        channel.basic_publish("", "kept", b"%d" % number, PERSISTENT)
    broker.restart()
    channel = connect().channel()
    bodies = [channel.basic_get("kept", auto_ack=True)[2] for _ in range(200)]
    assert bodies == [b"%d" % number for number in range(200)]


def test_questions_of_other_threads_wait_for_a_restart(broker: Broker, channel: BlockingChannel) -> None:
    fill(channel)
    with ThreadPoolExecutor(4) as pool:
        seen = [pool.submit(lambda: broker.queue("kept").exists) for _ in range(50)]
        restarts = [pool.submit(broker.fail.crash) for _ in range(3)]
        seen += [pool.submit(lambda: broker.queue("kept").exists) for _ in range(50)]
    assert all(one.result() for one in seen)
    assert [one.result() for one in restarts] == [None] * 3


def test_a_port_that_was_taken_during_a_restart_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with Broker() as broker:
        ended = Engine.wait_ended

        async def wait_ended_and_take_the_port(engine: Engine) -> None:
            await ended(engine)
            taken.append(socket.create_server((broker.host, broker.port)))

        taken: list[socket.socket] = []
        with monkeypatch.context() as patch:
            patch.setattr(Engine, "wait_ended", wait_ended_and_take_the_port)
            with pytest.raises(CannotListen, match=str(broker.port)):
                broker.restart()
        with pytest.raises(RuntimeError, match="not running"):
            _ = broker.queues
        taken[0].close()


class Waiting:
    """Somebody who waits in a thread of their own."""

    def __init__(self, wait: Callable[[], None]) -> None:
        self._outcome: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(wait,))
        self._thread.start()

    def _run(self, wait: Callable[[], None]) -> None:
        try:
            wait()
            self._outcome.set_result(None)
        except BaseException as error:
            self._outcome.set_exception(error)

    def end(self) -> None:
        """Return when it is over, however it ended."""
        self._outcome.result(timeout=60)
        self._thread.join()


# --- virtual hosts


def test_virtual_hosts_are_worlds_of_their_own(broker: Broker) -> None:
    one, other = broker.add_virtual_host("one"), broker.add_virtual_host("/other world")
    assert repr(other) == f"<VirtualHostView amqp://guest:guest@127.0.0.1:{broker.port}/%2Fother%20world>"
    publish_one(one.url)
    publish_one(other.url)
    publish_one(other.url)
    assert one.queue("q").message_count == 1
    assert other.queue("q").message_count == 2
    assert broker.queues == ()
    with pytest.raises(ValueError, match="already"):
        broker.add_virtual_host("one")
    broker.fail.crash()
    publish_one(one.url)
    assert one.queues == ("q",)


def test_a_deleted_virtual_host_is_gone_with_its_clients(broker: Broker) -> None:
    view = broker.add_virtual_host("one")
    connection = pika.BlockingConnection(pika.URLParameters(view.url))
    connection.channel().queue_declare("q", durable=True)
    broker.delete_virtual_host("one")
    with pytest.raises((ConnectionClosedByBroker, StreamLostError)):
        connection.channel()
    with pytest.raises(LookupError, match="no virtual host 'one'"):
        _ = view.queues
    again = broker.add_virtual_host("one")
    broker.restart()
    assert again.queues == ()
