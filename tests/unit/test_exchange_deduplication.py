"""What a deduplicating exchange remembers where ``x-cache-persistence`` is ``disk``: over restarts and crashes, each
for its time, and no more than it is to. What such an exchange does at all is in ``test_plugins.py``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sized
from hashlib import blake2b
from typing import Any

import pytest
from pamqp import commands

from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.exchanges.matcher import Envelope
from amqp_broker.broker.message_filter import ANY_MESSAGE
from amqp_broker.broker.move_destinations import ToExchange
from amqp_broker.broker.moving import Action, Moving, Selection
from amqp_broker.broker.persistence.message_records import decode_of_exchange
from amqp_broker.broker.problems import NotValid
from amqp_broker.broker.queues.base import Queue
from amqp_broker.cli.journal import _described
from amqp_broker.errors import precondition_failed
from amqp_broker.journal.dump import dump
from amqp_broker.journal.memory_files import MemoryFiles
from amqp_broker.plugins.message_deduplication import MessageDeduplicationMatcher
from amqp_broker.protocols.mqtt.properties import Property
from amqp_broker.server.plain_connection import PlainConnection
from amqp_broker.wire.content import Properties
from tests.support.client import ClientChannel
from tests.support.deduplicating_broker import DeduplicatingBroker
from tests.support.disk_broker import DiskBroker
from tests.support.memory_broker import small_slices
from tests.support.mqtt_client import MqttClient
from tests.support.stomp_client import LOOPBACK, StompClient

ON_DISK: dict[str, Any] = {"x-cache-size": 3, "x-cache-ttl": 1000, "x-cache-persistence": "disk"}
HEADER = "x-deduplication-header"


def declared(broker: DiskBroker, arguments: dict[str, Any] | None = None, *, durable: bool = True) -> ClientChannel:
    """A channel, with the exchange and a queue bound to it."""
    channel = broker.client().channel()
    channel.call(
        commands.Exchange.Declare(
            exchange="x", exchange_type="x-message-deduplication", durable=durable, arguments=arguments or ON_DISK
        )
    )
    channel.call(commands.Queue.Declare(queue="q", durable=True))
    channel.call(commands.Queue.Bind(queue="q", exchange="x"))
    return channel


class FailingMatcher(MessageDeduplicationMatcher):
    """One of a package that fails, as ``GuardedMatcher`` tells it."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        super().__init__({"x-cache-size": 1})

    def match(self, message: Envelope) -> Iterable[Exchange | Queue]:
        raise precondition_failed("the package failed to route a message")


def publish(channel: ClientChannel, *values: Any, **headers: Any) -> int:
    """Publish a message with each value; returns how many there are now."""
    for value in values:
        channel.publish("x", "", b"", headers={HEADER: value, **headers}, delivery_mode=2)
    return channel.message_count("q")


def confirming(broker: DeduplicatingBroker, exchange: str, **options: Any) -> Callable[[], list[str]]:
    channel = broker.client().channel()
    channel.call(commands.Confirm.Select())
    channel.publish(exchange, "", b"", headers={HEADER: "a"}, delivery_mode=2, **options)
    return lambda: [method.name for method in channel.methods() if not isinstance(method, commands.Basic.Return)]


def committing(broker: DeduplicatingBroker) -> Callable[[], list[str]]:
    channel = broker.client().channel()
    channel.call(commands.Tx.Select())
    channel.publish("x", "", b"", headers={HEADER: "a"}, delivery_mode=2)
    channel.send(commands.Tx.Commit())
    return lambda: [method.name for method in channel.methods()]


def with_stomp(broker: DeduplicatingBroker, **transaction: str) -> Callable[[], list[str]]:
    client = StompClient(broker)
    client.connect()
    message = {HEADER: "a", "persistent": "true", "destination": "/exchange/x"}
    if transaction:
        client.send("BEGIN", **transaction)
        client.send("SEND", **message, **transaction)
        client.send("COMMIT", receipt="r", **transaction)
    else:
        client.send("SEND", receipt="r", **message)
    return lambda: [frame.command for frame in client.read()]


def with_mqtt(broker: DeduplicatingBroker, qos: int) -> Callable[[], list[str]]:
    client = MqttClient(broker, level=5)
    client.connect()
    client.publish("t", qos=qos, properties={Property.USER_PROPERTY: [(HEADER, "a")]})
    return lambda: [type(one).__name__ for one in client.all()]


def with_a_packages_protocol(broker: DeduplicatingBroker) -> Callable[[], list[bytes]]:
    connection = PlainConnection(broker, LOOPBACK, lambda: None)

    def say() -> None:
        connection.log_in("guest", "guest")
        connection.publish("x", "", b"", Properties(headers={HEADER: "a"}, delivery_mode=2))
        connection.output.send(b"done")

    broker.handle(say)
    return lambda: [bytes(part) for part in connection.take_output()]


AGAIN: dict[str, Callable[[DeduplicatingBroker], Callable[[], Sized]]] = {
    "0-9-1": lambda broker: confirming(broker, "x"),
    "0-9-1, mandatory": lambda broker: confirming(broker, "x", mandatory=True),
    "0-9-1, and a queue that keeps nothing": lambda broker: confirming(broker, "amq.fanout"),
    "0-9-1, and several of them": lambda broker: confirming(broker, "amq.direct"),
    "0-9-1, transaction": committing,
    "STOMP": with_stomp,
    "STOMP, transaction": lambda broker: with_stomp(broker, transaction="t"),
    "MQTT, QoS 1": lambda broker: with_mqtt(broker, 1),
    "MQTT, QoS 2": lambda broker: with_mqtt(broker, 2),
    "a package's": with_a_packages_protocol,
}


@pytest.mark.parametrize("publish_again", AGAIN.values(), ids=AGAIN)
def test_a_duplicate_is_confirmed_when_what_it_duplicates_is_kept(publish_again: Any) -> None:
    broker = DeduplicatingBroker()
    channel = declared(broker)
    for source, names in (("amq.fanout", "r"), ("amq.direct", "rs"), ("amq.topic", "")):
        channel.call(commands.Exchange.Bind(destination="x", source=source, routing_key="#" * (not names)))
        for name in names:
            channel.call(commands.Queue.Declare(queue=name))
            channel.call(commands.Queue.Bind(queue=name, exchange=source))
    broker.writes_at_once = False
    publish(channel, "a")
    broker.write(sync=False)
    heard = publish_again(broker)
    assert len(heard()) == 0, "what it duplicates is not synced"
    broker.write()
    assert len(heard()) == 1
    assert channel.message_count("q") == 1
    publish(channel, "b")
    assert confirming(broker, "amq.headers")() == ["Basic.Ack"], "it has no queue, and is no duplicate"


@pytest.mark.parametrize("end", ["restarted", "killed", "without_power"])
def test_what_passed_once_does_not_pass_again_after_a_restart(end: str) -> None:
    broker = DeduplicatingBroker()
    assert publish(declared(broker), "a", 1, "a" * 5000) == 3
    for _ in range(2):
        broker = getattr(broker, end)()
        assert publish(broker.client().channel(), "a", 1, "a" * 5000) == 3


@pytest.mark.parametrize("end", ["rolled back", "closed", "killed"])
@pytest.mark.parametrize("is_behind_another", [True, False])
def test_what_a_transaction_never_published_has_not_passed(end: str, is_behind_another: bool) -> None:
    broker = DeduplicatingBroker()
    channel = declared(broker)
    if is_behind_another:
        channel.call(commands.Exchange.Bind(destination="x", source="amq.fanout"))
    transactional = channel.client.channel(2)
    transactional.call(commands.Tx.Select())
    transactional.publish("amq.fanout" if is_behind_another else "x", "", b"", headers={HEADER: "a"}, delivery_mode=2)
    broker.write()
    if end == "rolled back":
        transactional.call(commands.Tx.Rollback())
    elif end == "closed":
        transactional.call(commands.Channel.Close(0, "", 0, 0))
    else:
        channel = broker.killed().client().channel()
    assert publish(channel, "a", "a") == 1


def test_of_what_a_transaction_commits_each_value_passes_once() -> None:
    broker = DeduplicatingBroker()
    channel = declared(broker)
    transactional = channel.client.channel(2)
    transactional.call(commands.Tx.Select())
    for value in ("a", "b", "a", "c"):
        transactional.publish("x", "", value.encode(), headers={HEADER: value}, delivery_mode=2)
    assert publish(channel, "c") == 1  # it was first
    transactional.send(commands.Tx.Commit())
    assert transactional.methods()[-1].name == "Tx.CommitOk"
    assert channel.drain("q") == [b"", b"a", b"b"]
    assert publish(broker.killed().client().channel(), "a", "b", "c") == 0
    transactional.publish("x", "", b"", headers={HEADER: "d"})
    transactional.call(commands.Exchange.Delete(exchange="x"))
    transactional.call(commands.Tx.Commit())


def test_a_dry_run_of_a_move_is_no_passing() -> None:
    broker = DeduplicatingBroker()
    channel = declared(broker)
    channel.declare("from", durable=True)
    for value in ("a", "b", "a"):
        channel.publish("", "from", b"", headers={HEADER: value}, delivery_mode=2)

    def moved(*, dry_run: bool) -> tuple[int, int]:
        to = ToExchange(broker.virtual_host, broker.queue("from"), "x", None, None)
        moving = Moving(broker, broker.queue("from"), Action.MOVE, Selection(ANY_MESSAGE), to, dry_run=dry_run)
        broker.handle(lambda: list(moving.steps()))
        return moving.progress()["done"], moving.progress()["unroutable"]

    assert moved(dry_run=True) == (3, 0)
    assert moved(dry_run=False) == (2, 1)
    assert channel.message_count("q") == 2


def test_a_package_that_fails_at_the_commit_refuses_its_message_and_no_other() -> None:
    broker = DeduplicatingBroker()
    broker.exchange_types.register("x-fails", FailingMatcher)
    channel = declared(broker)
    transactional = channel.client.channel(2)
    transactional.call(commands.Exchange.Declare(exchange="fails", exchange_type="x-fails"))
    transactional.call(commands.Tx.Select())
    transactional.publish("fails", "", b"", headers={HEADER: "a"})
    transactional.publish("x", "", b"", headers={HEADER: "a"})
    transactional.send(commands.Tx.Commit())
    (close,) = transactional.methods()
    assert isinstance(close, commands.Channel.Close)
    assert (close.reply_code, close.reply_text) == (406, "PRECONDITION_FAILED - partial tx completion")
    assert channel.message_count("q") == 1


def test_a_null_is_a_value() -> None:
    assert publish(declared(DiskBroker()), None, None, "null") == 2


def test_as_a_package_brings_it() -> None:
    broker = DiskBroker()
    assert publish(declared(broker), "a", "b") == 2
    assert publish(broker.killed().client().channel(), "a", "b") == 2


@pytest.mark.parametrize("arguments", [{"x-cache-size": 3}, {"x-cache-size": 3, "x-cache-persistence": "memory"}])
def test_in_memory_is_the_default_and_writes_nothing(arguments: dict[str, Any]) -> None:
    broker = DeduplicatingBroker()
    channel = declared(broker, arguments)
    before = broker.live_records()
    assert publish(channel, "a") == 1
    assert broker.live_records() == before + 1  # the message
    assert publish(broker.restarted().client().channel(), "a") == 2


def test_what_a_transient_exchange_remembers_goes_with_it() -> None:
    broker = DeduplicatingBroker()
    channel = declared(broker, durable=False)
    before = broker.live_records()
    publish(channel, "a")
    assert broker.live_records() == before + 1
    assert publish(declared(broker.restarted()), "a") == 2


def test_time_goes_on_while_the_broker_is_down() -> None:
    broker = DeduplicatingBroker()
    channel = declared(broker)
    publish(channel, "short")
    publish(channel, "long", **{"x-cache-ttl": 5000})
    broker = broker.restarted(down_ms=999)
    assert publish(broker.client().channel(), "short", "long") == 2
    broker.advance(1)
    assert publish(broker.client().channel(), "short", "long") == 3
    broker = broker.killed(down_ms=4000)
    assert len(broker.seen("x")) == 0
    assert publish(broker.client().channel(), "long") == 4


def test_nothing_is_remembered_for_longer_than_it_may_be_when_the_clock_was_wrong() -> None:
    broker = DeduplicatingBroker()
    channel = declared(broker)
    broker.clock.set_wall(18_000_000)
    publish(channel, "a")
    broker.clock.set_wall(0)
    broker = broker.restarted(down_ms=500)
    broker.advance(999)
    assert publish(broker.client().channel(), "a") == 1
    broker.advance(1)
    assert publish(broker.client().channel(), "a") == 2


def test_what_an_earlier_release_has_written_is_remembered_for_its_time() -> None:
    broker = DeduplicatingBroker()
    declared(broker)
    host = broker.virtual_hosts["/"]
    exchange = host.exchanges["x"]
    record = struct.pack(">Q16s", broker.clock.wall_ms() + 700, blake2b(b"a", digest_size=16).digest())
    broker.handle(lambda: host.durability.keep_for_exchange(exchange, record))
    broker = broker.restarted(down_ms=300)
    assert len(broker.seen("x")) == 1
    assert len(broker.restarted(down_ms=400).seen("x")) == 0


def test_no_more_is_remembered_than_may_be_and_the_oldest_goes_first() -> None:
    broker = DeduplicatingBroker()
    channel = declared(broker)
    before = broker.live_records()
    assert publish(channel, *range(50)) == 50
    assert broker.live_records() == before + 50 + 3
    broker = broker.killed()
    assert len(broker.seen("x")) == 3
    assert publish(broker.client().channel(), 47, 48, 49) == 50
    assert publish(broker.client().channel(), 50, 48, 49, 47) == 52  # 50 has put 47 out


def test_records_of_what_has_expired_go_as_others_come() -> None:
    broker = DeduplicatingBroker()
    channel = declared(broker, ON_DISK | {"x-cache-size": 1000})
    before = broker.live_records()
    publish(channel, *range(20))
    broker.advance(1000)
    publish(channel, *range(100, 110))
    assert len(broker.seen("x")) == 10
    assert broker.live_records() == before + 30 + 10


def test_records_of_what_has_expired_go_at_a_start() -> None:
    broker = DeduplicatingBroker()
    channel = declared(broker)
    before = broker.live_records()
    publish(channel, 1, 2, 3)
    assert broker.restarted(down_ms=1000).live_records() == before + 3


def test_the_records_go_with_the_exchange() -> None:
    with small_slices():
        broker = DeduplicatingBroker()
        before = broker.live_records()
        channel = declared(broker, ON_DISK | {"x-cache-size": 1000})
        publish(channel, *range(30))
        channel.call(commands.Exchange.Delete(exchange="x"))
        channel.call(commands.Queue.Delete(queue="q"))
        assert broker.live_records() == before
        assert publish(declared(broker), *range(30)) == 30


def test_the_records_go_with_the_virtual_host() -> None:
    broker = DeduplicatingBroker()
    before = broker.live_records()
    publish(declared(broker), 1, 2, 3)
    broker.virtual_host.clear()
    assert broker.live_records() == before - 1  # nor is there the virtual host's own any more


def test_an_exchange_that_is_made_anew_has_seen_nothing() -> None:
    broker = DeduplicatingBroker()
    channel = declared(broker)
    publish(channel, "a")
    with broker.holding_writes():
        channel.send(commands.Exchange.Delete(exchange="x"))
        channel.send(commands.Exchange.Declare(
            exchange="x", exchange_type="x-message-deduplication", durable=True, arguments=ON_DISK
        ))  # fmt: skip
    assert publish(declared(broker.killed()), "a") == 2


def test_space_that_the_forgotten_held_is_freed() -> None:
    files = MemoryFiles()
    broker = DeduplicatingBroker(files)
    channel = declared(broker)
    channel.call(commands.Queue.Unbind(queue="q", exchange="x"))
    for number in range(500):
        channel.publish("x", "", b"", headers={HEADER: number})
    broker.reclaim()
    assert files.used_bytes < 20_000
    assert len(broker.killed().seen("x")) == 3


def test_it_is_kept_behind_an_exchange_that_delays() -> None:
    broker = DeduplicatingBroker()
    channel = broker.client().channel()
    arguments = {**ON_DISK, "x-delayed-type": "x-message-deduplication"}
    channel.call(
        commands.Exchange.Declare(exchange="x", exchange_type="x-delayed-message", durable=True, arguments=arguments)
    )
    channel.call(commands.Queue.Declare(queue="q", durable=True))
    channel.call(commands.Queue.Bind(queue="q", exchange="x"))
    assert publish(channel, "a", **{"x-delay": 10}) == 0
    broker.advance(10)
    assert channel.message_count("q") == 1
    assert publish(broker.killed().client().channel(), "a") == 1


def test_records_after_damage_that_are_there_twice_count_once() -> None:
    broker = DeduplicatingBroker()
    publish(declared(broker), "a")
    before = broker.live_records()
    (value,) = broker.seen("x")._seen.values()
    (payload,) = broker.durability.read([value.reference])
    assert payload is not None
    broker.durability.keep_for_exchange(broker.virtual_host.exchange("x"), decode_of_exchange(payload)[1])
    broker.write()
    broker = broker.killed()
    assert len(broker.seen("x")) == 1
    assert broker.live_records() == before


def set_policy(broker: DeduplicatingBroker, definition: dict[str, object]) -> None:
    value: dict[str, object] = {"pattern": "^x$", "definition": definition, "apply-to": "exchanges"}
    broker.handle(lambda: broker.administration.parameters.set_policy("/", "p", value))


def test_a_policy_overrules_the_arguments_until_it_is_gone() -> None:
    broker = DeduplicatingBroker()
    channel = declared(broker, ON_DISK | {"x-cache-size": 1})
    set_policy(broker, {"x-cache-size": 5, "x-cache-ttl": 10_000})
    assert publish(channel, "a", "b", "a", "b") == 2
    broker.advance(9_999)
    broker = broker.killed()
    channel = broker.client().channel()
    assert publish(channel, "a", "b") == 2
    broker.handle(lambda: broker.administration.parameters.clear_policy("/", "p"))
    assert publish(channel, "c", "c", "c") == 3
    assert len(broker.seen("x")) == 1
    broker.advance(1000)
    assert publish(channel, "c") == 4


@pytest.mark.parametrize("key", ["x-cache-size", "x-cache-ttl"])
@pytest.mark.parametrize("value", [0, "many", True])
def test_what_no_policy_may_say(key: str, value: object) -> None:
    with pytest.raises(NotValid, match=f'"{key}" must be an integer greater than 0, got '):
        set_policy(DeduplicatingBroker(), {key: value})


@pytest.mark.parametrize("value", ["true", True, None])
def test_what_no_policy_may_say_of_persistence(value: object) -> None:
    with pytest.raises(NotValid, match='"x-cache-persistence" must be either "disk" or "memory", got '):
        set_policy(DeduplicatingBroker(), {"x-cache-persistence": value})


def clear_policy(broker: DeduplicatingBroker) -> None:
    broker.handle(lambda: broker.administration.parameters.clear_policy("/", "p"))


@pytest.mark.parametrize("is_policy_older", [True, False])
def test_a_policy_has_what_was_seen_outlive_the_broker_until_it_is_gone(is_policy_older: bool) -> None:
    with small_slices():
        broker = DeduplicatingBroker()
        if is_policy_older:
            set_policy(broker, {"x-cache-persistence": "disk"})
        channel = declared(broker, {"x-cache-size": 30, "x-cache-ttl": 1000})
        assert publish(channel, *range(10)) == 10
        if not is_policy_older:
            set_policy(broker, {"x-cache-persistence": "disk"})
        assert publish(channel, *range(20)) == 20
        broker = broker.killed(down_ms=999)
        channel = broker.client().channel()
        assert publish(channel, *range(20)) == 20
        before = broker.live_records()
        clear_policy(broker)
        assert broker.live_records() == before - 20 - 1
        assert publish(channel, *range(20)) == 20  # they are remembered as long as the broker runs
        broker.advance(1)
        assert publish(channel, 0) == 21
        assert publish(broker.killed().client().channel(), 0) == 22


def test_a_policy_may_keep_in_memory_what_is_declared_for_the_disk() -> None:
    broker = DeduplicatingBroker()
    channel = declared(broker)
    assert publish(channel, "a", "b") == 2
    before = broker.live_records()
    set_policy(broker, {"x-cache-persistence": "memory"})
    assert broker.live_records() == before - 2 + 1
    assert publish(channel, "a", "c") == 3
    broker = broker.killed()
    assert len(broker.seen("x")) == 0
    publish(broker.client().channel(), "a")
    clear_policy(broker)
    assert len(broker.killed().seen("x")) == 1


def test_a_change_of_mind_while_it_is_written_ends_as_the_last_one_says() -> None:
    with small_slices():
        broker = DeduplicatingBroker()
        channel = declared(broker, {"x-cache-size": 1000})
        publish(channel, *range(100))
        before = broker.live_records()
        seen = broker.seen("x")

        def change(*wanted: bool) -> None:
            for is_kept in wanted:
                seen.keep(is_kept)

        broker.handle(lambda: change(True, False, True, False))
        assert broker.live_records() == before
        broker.handle(lambda: change(True, False, True))
        assert broker.live_records() == before + 100


def test_a_dump_of_the_journal_can_be_read() -> None:
    broker = DeduplicatingBroker()
    publish(declared(broker), "a")
    reference = broker.virtual_host.exchange("x").reference
    lines = "\n".join(dump(broker.files, lambda kind, payload: _described(kind, payload, False)))
    assert f"exchange_state of {reference}: " in lines
    assert "unreadable" not in lines
