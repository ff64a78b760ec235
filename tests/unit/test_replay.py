"""What a queue got is remembered for a time, over restarts, and can be replayed to another queue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pamqp import commands

from amqp_broker.broker.moving import Action, MoveInfo
from amqp_broker.errors import AmqpError
from amqp_broker.server.message_requests import BadMessageRequest, read_moving
from tests.support.client import Client, ClientChannel
from tests.support.disk_broker import DiskBroker, small_pages
from tests.support.memory_broker import MemoryBroker
from tests.support.walking import one_step, walk_through

HOUR_MS = 3_600_000
ARGUMENTS: dict[str, Any] = {"x-replay-ms": HOUR_MS}


@pytest.fixture(autouse=True)
def pages_are_small() -> Iterator[None]:
    with small_pages():
        yield


@pytest.fixture
def broker() -> DiskBroker:
    return DiskBroker()


@pytest.fixture
def channel(broker: DiskBroker) -> ClientChannel:
    return broker.client().channel()


def declare(channel: ClientChannel, *, queue: str = "q", **arguments: Any) -> None:
    channel.call(commands.Queue.Declare(queue=queue, durable=True, arguments=ARGUMENTS | arguments))


def publish(channel: ClientChannel, *bodies: str, exchange: str = "", key: str = "q", mode: int = 2) -> None:
    for body in bodies:
        channel.publish(exchange, key, body.encode(), delivery_mode=mode, headers={"own": 1})


def drain(broker: DiskBroker, queue: str) -> list[str]:
    return [body.decode() for body in broker.client().channel().drain(queue)]


def replaying(broker: DiskBroker, **fields: Any) -> Any:
    return read_moving(broker, broker.virtual_host, broker.queue("q"), Action.REPLAY, {"to": "again"} | fields, None)


def replay(broker: DiskBroker, **fields: Any) -> MoveInfo:
    if "again" not in broker.virtual_host.queues:
        broker.client().channel().call(commands.Queue.Declare(queue="again", durable=True))
    work = replaying(broker, **fields)
    walk_through(broker, work.steps())
    found: MoveInfo = work.progress()
    return found


def test_what_was_consumed_comes_again_in_order(broker: DiskBroker, channel: ClientChannel) -> None:
    declare(channel)
    publish(channel, *"abcdef")
    assert drain(broker, "q") == [*"abcdef"]
    publish(channel, "not kept", mode=1)
    assert replay(broker)["done"] == 6
    message = broker.client().channel().get("again", no_ack=True)
    assert message is not None
    assert (message.body, message.headers) == (b"a", {"own": 1})
    assert drain(broker, "again") == [*"bcdef"]
    assert replay(broker)["done"] == 6  # the past keeps it
    assert broker.queue("q").ready_count == 1


@pytest.mark.parametrize("end", ["restarted", "killed", "without_power"])
def test_it_outlives_the_broker(broker: DiskBroker, channel: ClientChannel, end: str) -> None:
    declare(channel)
    publish(channel, *"abcdefgh")
    drain(broker, "q")
    publish(channel, "i", "j")
    broker.write()
    again: DiskBroker = getattr(broker, end)()
    assert again.queue("q").ready_count == 2
    assert again.dropped_message_count == 0
    assert replay(again)["done"] == 10
    assert drain(again, "again") == [*"abcdefghij"]
    assert drain(again, "q") == ["i", "j"]


def test_since_a_time(broker: DiskBroker, channel: ClientChannel) -> None:
    declare(channel)
    publish(channel, "old")
    broker.advance(60_000)
    publish(channel, "new", "newer")
    assert replay(broker, last_ms=30_000, dry_run=True)["done"] == 2
    assert broker.queue("again").ready_count == 0
    assert replay(broker, last_ms=30_000)["done"] == 2
    assert replay(broker, last_ms=61_000, limit=1)["done"] == 1
    assert drain(broker, "again") == ["new", "newer", "old"]
    assert replay(broker, filter={"search": "newer"})["done"] == 1


def test_what_is_old_enough_is_forgotten_and_its_room_is_free(broker: DiskBroker, channel: ClientChannel) -> None:
    declare(channel)
    before = broker.live_records()
    publish(channel, *"abcd")
    drain(broker, "q")
    broker.advance(HOUR_MS)
    publish(channel, "e")
    assert replay(broker, dry_run=True)["done"] == 5  # none goes before its time
    broker.advance(1)
    assert replay(broker, dry_run=True)["done"] == 1
    drain(broker, "q")
    broker.advance(HOUR_MS + 1)
    assert replay(broker, dry_run=True)["done"] == 0
    assert broker.live_records() == before + 2  # the past's own record, and the queue's that was declared


def test_it_is_forgotten_in_its_time_after_a_restart(broker: DiskBroker, channel: ClientChannel) -> None:
    declare(channel)
    publish(channel, *"abcd")
    again = broker.restarted(down_ms=HOUR_MS - 1000)
    assert replay(again, dry_run=True)["done"] == 4
    again.advance(1_001)
    assert replay(again, dry_run=True)["done"] == 0
    assert drain(again, "q") == [*"abcd"]  # that is not the queue's life


def test_a_policy_gives_a_past_and_takes_it(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.call(commands.Queue.Declare(queue="q", durable=True))
    publish(channel, "before")
    parameters = broker.administration.on_behalf_of("test").parameters
    policy: dict[str, object] = {"pattern": "^q$", "definition": {"replay-ms": HOUR_MS}}
    broker.handle(lambda: parameters.set_policy("/", "p", policy))
    publish(channel, "a", "b")
    again = broker.restarted()
    assert replay(again, dry_run=True)["done"] == 2
    parameters = again.administration.on_behalf_of("test").parameters
    again.handle(lambda: parameters.clear_policy("/", "p"))
    with pytest.raises(BadMessageRequest, match="queue 'q' in vhost '/' has no past"):
        replay(again)
    drain(again, "q")
    last = again.restarted()
    assert last.queue("q").past is None
    assert not last.dropped_message_count


def test_each_queue_of_a_route_for_itself(broker: DiskBroker, channel: ClientChannel) -> None:
    declare(channel)
    channel.call(commands.Queue.Declare(queue="other", durable=True))
    channel.call(commands.Queue.Declare(queue="passing", durable=False))
    declare(channel, queue="full", **{"x-max-length": 1, "x-overflow": "reject-publish"})
    for name in ("q", "other", "passing", "full"):
        channel.call(commands.Queue.Bind(queue=name, exchange="amq.fanout"))
    publish(channel, "a", "b", exchange="amq.fanout")
    again = broker.restarted()
    assert drain(again, "other") == ["a", "b"]
    assert drain(again, "q") == ["a", "b"]
    full = again.queue("full")
    assert full.past is not None
    assert len(full.past) == 1  # what a queue refuses it has not got
    assert replay(again)["done"] == 2


def test_what_goes_straight_to_a_consumer_is_remembered(broker: DiskBroker, channel: ClientChannel) -> None:
    declare(channel)
    channel.consume("q", no_ack=True)
    publish(channel, "a", "b")
    channel.call(commands.Basic.Qos(0, 0, False))
    assert broker.queue("q").ready_count == 0
    assert replay(broker.restarted())["done"] == 2


def test_a_confirm_waits_for_it(broker: DiskBroker, channel: ClientChannel) -> None:
    declare(channel)
    channel.call(commands.Confirm.Select())
    with broker.holding_writes():
        publish(channel, "a")
        assert not channel.methods()
    channel.one(commands.Basic.Ack)


def test_in_a_transaction(broker: DiskBroker, channel: ClientChannel) -> None:
    declare(channel)
    channel.call(commands.Tx.Select())
    publish(channel, "a", "b")
    channel.call(commands.Tx.Commit())
    publish(channel, "c")
    channel.call(commands.Tx.Rollback())
    assert replay(broker)["done"] == 2


def test_it_goes_with_its_queue(broker: DiskBroker, channel: ClientChannel) -> None:
    before = broker.live_records()
    declare(channel)
    publish(channel, *"abcdef")
    drain(broker, "q")
    channel.call(commands.Queue.Delete(queue="q"))
    broker.settle()
    assert broker.live_records() == before
    assert not broker.restarted().dropped_message_count


def test_a_crash_in_the_midst_of_a_replay(broker: DiskBroker, channel: ClientChannel) -> None:
    declare(channel)
    channel.call(commands.Queue.Declare(queue="again", durable=True))
    bodies = [str(number) for number in range(300)]
    publish(channel, *bodies)
    drain(broker, "q")
    steps = replaying(broker).steps()
    wanted = one_step(broker, steps, None)
    for _ in range(5):
        wanted = one_step(broker, steps, wanted)
    broker.write()
    again = broker.killed()
    there = drain(again, "again")
    assert 0 < len(there) < 300
    assert there == bodies[: len(there)]
    assert replay(again)["done"] == 300
    assert drain(again, "again") == bodies


def test_what_cannot_be_replayed_is_told(broker: DiskBroker, channel: ClientChannel) -> None:
    declare(channel)
    with pytest.raises(AmqpError, match="no queue 'again'"):
        replaying(broker)
    channel.call(commands.Queue.Declare(queue="again", durable=True))
    for fields, problem in (
        ({"last_ms": "x"}, "last_ms is a whole number"),
        ({"to": None}, "say where to"),
        ({"to": None, "origin": True}, "say where to: to, a queue or an exchange"),
        ({"dry_run": 1}, "dry_run is true or false"),
    ):
        with pytest.raises(BadMessageRequest, match=problem):
            replaying(broker, **fields)
    with pytest.raises(AmqpError, match="are in queue 'q' in vhost '/' already"):
        replaying(broker, to="q")


def test_an_argument_that_is_none_is_refused(channel: ClientChannel) -> None:
    channel.send(commands.Queue.Declare(queue="q", durable=True, arguments={"x-replay-ms": 0}))
    assert "invalid arg 'x-replay-ms' for queue 'q' in vhost '/'" in str(channel.closed_with().reply_text)


def test_a_broker_that_keeps_nothing_has_no_past() -> None:
    broker = MemoryBroker()
    declare(Client(broker).open().channel())
    assert broker.queue("q").past is None


def test_few_bytes_a_message(broker: DiskBroker, channel: ClientChannel) -> None:
    declare(channel)
    publish(channel, *map(str, range(5_000)))
    past = broker.queue("q").past
    assert past is not None
    assert len(past) == 5_000
    assert len(past.chunks_since(0)) == 2


@pytest.mark.parametrize("consumed", [0, 3, 70, 200])
def test_a_start_finds_queue_and_past_however_much_was_consumed(
    broker: DiskBroker, channel: ClientChannel, consumed: int
) -> None:
    declare(channel)
    declare(channel, queue="other")
    bodies = [str(number) for number in range(200)]
    for start in range(0, 200, 50):
        publish(channel, *bodies[start : start + 50])
        publish(channel, "between", key="other")
    for _ in range(consumed):
        channel.get("q", no_ack=True)
    again = broker.restarted()
    assert drain(again, "q") == bodies[consumed:]
    assert replay(again)["done"] == 200
    assert drain(again, "again") == bodies
    assert drain(again, "other") == ["between"] * 4
