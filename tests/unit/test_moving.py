"""Messages that an administrator moves, copies or deletes: which, where to, as what; what stays, what a crash finds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import pytest
from pamqp import commands

from amqp_broker.access.judge import NotDecidedYet
from amqp_broker.broker.message_filter import make_filter
from amqp_broker.broker.move_destinations import Destination, ToExchange, ToOrigin, ToQueue
from amqp_broker.broker.moving import Action, MoveInfo, Moving, Selection
from amqp_broker.broker.peeking import Peek, PeekBounds, PeekedMessage
from amqp_broker.broker.queues.classic import ClassicQueue
from amqp_broker.errors import AmqpError
from tests.support.authorizer import Everything
from tests.support.client import ClientChannel
from tests.support.disk_broker import DiskBroker, small_pages
from tests.support.walking import one_step, walk_through

COUNT = 60
TYPES: dict[str, dict[str, Any]] = {
    "classic": {},
    "quorum": {"x-queue-type": "quorum"},
    "priority": {"x-max-priority": 3},
}
of_each_type = pytest.mark.parametrize("arguments", TYPES.values(), ids=TYPES)
of_each_mode = pytest.mark.parametrize("mode", [1, 2], ids=["transient", "persistent"])


@pytest.fixture(autouse=True)
def pages_are_small() -> Iterator[None]:
    with small_pages():
        yield


@pytest.fixture
def broker() -> DiskBroker:
    return DiskBroker(memory_budget_bytes=2)


@pytest.fixture
def channel(broker: DiskBroker) -> ClientChannel:
    return broker.client().channel()


def classic(broker: DiskBroker, name: str = "q") -> ClassicQueue:
    queue = broker.queue(name)
    assert isinstance(queue, ClassicQueue)
    return queue


def to_queue(broker: DiskBroker, name: str) -> ToQueue:
    return ToQueue(broker.virtual_host, classic(broker), name, None)


def to_exchange(broker: DiskBroker, name: str, key: str | None) -> ToExchange:
    return ToExchange(broker.virtual_host, classic(broker), name, key, None)


def moving(
    broker: DiskBroker,
    destination: Destination | None,
    action: Action = Action.MOVE,
    *,
    dry_run: bool = False,
    ids: frozenset[str] | None = None,
    limit: int | None = None,
    **wanted: Any,
) -> Moving:
    selection = Selection(make_filter(**wanted), ids, limit)
    return Moving(broker, classic(broker), action, selection, destination, dry_run=dry_run)


def move(broker: DiskBroker, destination: Destination | None, action: Action = Action.MOVE, **how: Any) -> MoveInfo:
    work = moving(broker, destination, action, **how)
    walk_through(broker, work.steps())
    check_count(broker)
    return work.progress()


def check_count(broker: DiskBroker) -> None:
    """What is counted is what is there, in every queue; what is in memory is what counts there."""
    in_memory = 0
    for queue in broker.virtual_host.queues.values():
        assert isinstance(queue, ClassicQueue)
        assert queue.backlog.count == len(queue.ready) == sum(map(len, queue.stretches(0, 10**9)))
        in_memory += sum(len(message.body) + 600 for message in queue.messages())
    assert broker.paging.used_bytes == in_memory


def look(broker: DiskBroker, queue: str = "q") -> list[PeekedMessage]:
    peek = Peek(broker, broker.queue(queue), PeekBounds(limit=10_000))
    walk_through(broker, peek.steps())
    return peek.seen()["messages"]


def bodies(broker: DiskBroker, queue: str = "q") -> list[str]:
    return [one["payload"] for one in look(broker, queue)]


def names(numbers: Sequence[int] | range) -> list[str]:
    return [f"m{number:02}" for number in numbers]


def fill(channel: ClientChannel, count: int = COUNT, key: str = "q", **properties: Any) -> None:
    for number in range(count):
        channel.publish("", key, f"m{number:02}".encode(), headers={"n": number % 3}, **properties)


@of_each_type
@of_each_mode
def test_what_is_found_goes_to_another_queue_as_it_is(
    broker: DiskBroker, channel: ClientChannel, arguments: dict[str, Any], mode: int
) -> None:
    channel.declare("q", arguments, durable=True)
    channel.declare("t", durable=True)
    fill(channel, delivery_mode=mode)
    assert broker.on_disk_only("q")
    info = move(broker, to_queue(broker, "t"), headers={"n": "1"})
    assert (info["looked_at"], info["found"], info["done"]) == (COUNT, COUNT // 3, COUNT // 3)
    assert bodies(broker, "t") == names(range(1, COUNT, 3))
    assert bodies(broker) == [name for name in names(range(COUNT)) if name not in bodies(broker, "t")]
    assert {(one["exchange"], one["routing_key"], one["redelivered"]) for one in look(broker, "t")} == {
        ("", "q", False)
    }
    channel.consume("q")
    assert [one.body.decode() for one in channel.deliveries()] == [
        name for name in names(range(COUNT)) if int(name[1:]) % 3 != 1
    ]


@of_each_type
@of_each_mode
def test_all_of_it(broker: DiskBroker, channel: ClientChannel, arguments: dict[str, Any], mode: int) -> None:
    channel.declare("q", arguments, durable=True)
    channel.declare("t", arguments, durable=True)
    fill(channel, delivery_mode=mode)
    assert move(broker, to_queue(broker, "t"))["done"] == COUNT
    assert bodies(broker) == []
    assert broker.on_disk_only("q") == 0
    fill(channel, 3)
    assert channel.drain("q") == [b"m00", b"m01", b"m02"]
    assert [body.decode() for body in channel.drain("t")] == names(range(COUNT))
    assert broker.paging.used_bytes == 0


@of_each_type
def test_a_copy_and_a_dry_run_leave_all_where_it_is(
    broker: DiskBroker, channel: ClientChannel, arguments: dict[str, Any]
) -> None:
    channel.declare("q", arguments, durable=True)
    channel.declare("t", durable=True)
    fill(channel, delivery_mode=2)
    dry = move(broker, to_queue(broker, "t"), dry_run=True, headers={"n": "0"})
    assert (dry["done"], dry["dry_run"], bodies(broker, "t")) == (COUNT // 3, True, [])
    assert [one["payload"] for one in dry["sample"]] == names([0, 3, 6, 9, 12])
    copied = move(broker, to_queue(broker, "t"), Action.COPY, limit=10)
    assert (copied["done"], copied["found"]) == (10, 10)
    assert bodies(broker, "t") == names(range(10))
    assert bodies(broker) == names(range(COUNT))


@of_each_type
@of_each_mode
def test_what_a_look_has_named_is_deleted(
    broker: DiskBroker, channel: ClientChannel, arguments: dict[str, Any], mode: int
) -> None:
    channel.declare("q", arguments, durable=True)
    empty = broker.live_records()
    fill(channel, delivery_mode=mode)
    ids = frozenset(one["id"] for one in look(broker) if int(one["payload"][1:]) in (0, 7, 31, COUNT - 1))
    info = move(broker, None, Action.DELETE, ids=ids | {"12345678", "m9-00", "nothing"})
    assert (info["done"], info["not_there"]) == (4, ["12345678", "m9-00", "nothing"])
    assert bodies(broker) == names([number for number in range(COUNT) if number not in (0, 7, 31, COUNT - 1)])
    move(broker, None, Action.DELETE)
    assert broker.live_records() == empty


def test_what_consumers_have_is_theirs_and_what_came_back_is_found(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    channel.declare("t", durable=True)
    fill(channel, 10)
    for _ in range(6):
        channel.get("q")
    channel.nack(2)
    channel.nack(1)
    channel.nack(5)
    assert move(broker, to_queue(broker, "t"))["done"] == 7
    assert bodies(broker, "t") == names([0, 1, 4, 6, 7, 8, 9])
    assert bodies(broker) == names([2, 3, 5])
    channel.nack(0, multiple=True)
    assert [one.decode() for one in channel.drain("q")] == names([2, 3, 5])


def test_through_an_exchange(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    channel.exchange("x", "topic")
    for queue, key in (("a", "new.#"), ("b", "q")):
        channel.declare(queue)
        channel.bind(queue, "x", key)
    fill(channel, 6)
    info = move(broker, to_exchange(broker, "x", "new.key"), headers={"n": "0"})
    assert info["done"] == 2
    assert [(one["exchange"], one["routing_key"]) for one in look(broker, "a")] == [("x", "new.key")] * 2
    assert move(broker, to_exchange(broker, "x", None), headers={"n": "1"})["done"] == 2
    assert bodies(broker, "b") == names([1, 4])
    nowhere = move(broker, to_exchange(broker, "x", "nowhere"))
    assert (nowhere["unroutable"], nowhere["done"]) == (2, 0)
    to_itself = move(broker, to_exchange(broker, "", "q"))
    assert (to_itself["unroutable"], bodies(broker)) == (2, names([2, 5]))


def test_where_others_must_say_what_may_go_nothing_of_a_slice_has_gone_before() -> None:
    class Asking(Everything):
        def check_topic_write(self, exchange: str, routing_key: str) -> None:
            if routing_key == "unknown":
                raise NotDecidedYet(lambda go_on: None)

    broker = DiskBroker()
    channel = broker.client().channel()
    channel.declare("q", durable=True)
    channel.declare("t")
    channel.bind("t", "amq.topic", "#")
    for key in ("q", "q", "unknown"):  # the first one is a slice of its own
        channel.bind("q", "amq.direct", key)
        channel.publish("amq.direct", key, key.encode())
    with pytest.raises(NotDecidedYet):
        move(broker, ToExchange(broker.virtual_host, classic(broker), "amq.topic", None, Asking()))
    assert (bodies(broker), bodies(broker, "t")) == (["q", "unknown"], ["q"])


def test_a_full_queue_leaves_them_where_they_are(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    channel.declare("t", {"x-max-length": 4, "x-overflow": "reject-publish"}, durable=True)
    fill(channel, 10, delivery_mode=2)
    info = move(broker, to_queue(broker, "t"))
    assert (info["done"], info["refused"]) == (4, 6)
    assert bodies(broker, "t") == names(range(4))
    assert bodies(broker) == names(range(4, 10))


def dead_queue(channel: ClientChannel) -> None:
    """A queue of work, one where it waits a second, and one where what was given up on is."""
    channel.exchange("work")
    channel.declare("w", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q"}, durable=True)
    channel.bind("w", "work", "new")
    channel.declare("q", durable=True)


def test_back_to_where_it_died(broker: DiskBroker, channel: ClientChannel) -> None:
    dead_queue(channel)
    for body in (b"a", b"b"):
        channel.publish("work", "new", body, headers={"mine": 1}, delivery_mode=2, correlation_id=body.decode())
    channel.publish("", "q", b"never died", delivery_mode=2)
    for tag in (1, 2):
        channel.get("w")
        channel.reject(tag, requeue=False)
    info = move(broker, ToOrigin(broker.virtual_host, classic(broker), None))
    assert (info["done"], info["without_origin"]) == (2, 1)
    assert bodies(broker) == ["never died"]
    back = look(broker, "w")
    assert [(one["exchange"], one["routing_key"], one["payload"]) for one in back] == [
        ("work", "new", "a"), ("work", "new", "b")
    ]  # fmt: skip
    assert back[0]["properties"] == {"headers": {"mine": 1}, "delivery_mode": 2, "correlation_id": "a"}


def test_only_the_last_death_is_undone(broker: DiskBroker, channel: ClientChannel) -> None:
    dead_queue(channel)
    channel.declare("v", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q"}, durable=True)
    channel.declare("first", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "v"}, durable=True)
    channel.publish("", "first", b"a", delivery_mode=2)
    channel.get("first")
    channel.reject(1, requeue=False)
    channel.get("v")
    channel.reject(2, requeue=False)
    assert move(broker, ToOrigin(broker.virtual_host, classic(broker), None))["done"] == 1
    (back,) = look(broker, "v")
    deaths = [death for death in back["x_death"] if isinstance(death, dict)]
    assert [death["queue"] for death in deaths] == ["first"]
    headers = back["properties"]["headers"]
    assert isinstance(headers, dict)
    assert {headers.get("x-first-death-queue"), headers.get("x-last-death-queue")} <= {"first", None}
    channel.get("v")
    channel.reject(3, requeue=False)
    (again,) = look(broker)
    assert [death["queue"] for death in again["x_death"] if isinstance(death, dict)] == ["v", "first"]


def test_an_origin_that_is_not_there(broker: DiskBroker, channel: ClientChannel) -> None:
    dead_queue(channel)
    channel.publish("work", "new", b"a")
    channel.get("w")
    channel.reject(1, requeue=False)
    channel.publish("", "q", b"b", headers={"x-death": [1]})
    channel.publish("", "q", b"c", headers={"x-death": [{"queue": "w", "exchange": 5}]})
    channel.publish("", "q", b"d", headers={"x-death": [{"queue": "w", "exchange": "x" * 300, "routing-keys": ["k"]}]})
    channel.call(commands.Queue.Delete(queue="w"))
    assert move(broker, ToOrigin(broker.virtual_host, classic(broker), None))["without_origin"] == 4


def test_what_makes_no_sense_is_refused_before_anything_is_done(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q")
    queue = classic(broker)
    with pytest.raises(AmqpError, match="NOT_FOUND - no queue 'nope'"):
        ToQueue(broker.virtual_host, queue, "nope", None)
    with pytest.raises(AmqpError, match="the messages are in queue 'q' in vhost '/' already"):
        ToQueue(broker.virtual_host, queue, "q", None)
    with pytest.raises(AmqpError, match="no exchange 'nope'"):
        ToExchange(broker.virtual_host, queue, "nope", None, None)
    with pytest.raises(AmqpError, match="internal"):
        ToExchange(broker.virtual_host, queue, "amq.rabbitmq.trace", None, None)


@of_each_type
def test_others_go_on_meanwhile(arguments: dict[str, Any]) -> None:
    for seed in range(4):
        random, broker = Random(seed), DiskBroker(memory_budget_bytes=2)
        channel = broker.client().channel()
        channel.declare("q", arguments, durable=True)
        channel.declare("t", durable=True)
        fill(channel, 150, delivery_mode=2)
        work = moving(broker, to_queue(broker, "t"), headers={"n": "1"})
        steps, taken, number = work.steps(), [], 150
        wanted = one_step(broker, steps, None)
        while wanted is not None:
            doing = random.randrange(4)
            if doing == 0:
                for _ in range(random.randrange(20)):
                    received = channel.get("q")
                    if received is not None:
                        taken.append(received)
            elif doing == 1 and taken:
                gone = taken.pop(random.randrange(len(taken)))
                channel.nack(gone.expect(commands.Basic.GetOk).delivery_tag or 0)
            elif doing == 2:
                channel.publish("", "q", f"m{number}".encode(), headers={"n": 0}, delivery_mode=2)
                number += 1
            wanted = one_step(broker, steps, wanted)
            check_count(broker)
        info = work.progress()
        moved, left, held = bodies(broker, "t"), bodies(broker), [one.body.decode() for one in taken]
        assert len(moved) == info["done"]
        ready = [one["payload"] for one in look(broker) if one["state"] == "ready"]
        assert sorted([*moved, *left]) == sorted(f"m{n:02}" for n in range(number))
        assert set(held) | set(ready) == set(left)
        assert moved == sorted(moved, key=lambda name: int(name[1:]))
        assert all(int(name[1:]) % 3 == 1 for name in moved)


@of_each_type
def test_a_chunk_that_is_being_read_is_read_anew(
    broker: DiskBroker, channel: ClientChannel, arguments: dict[str, Any]
) -> None:
    channel.declare("q", arguments, durable=True)
    channel.declare("t", durable=True)
    fill(channel, delivery_mode=2)
    with broker.holding_reads():
        while channel.get("q", no_ack=True) is not None and broker.queue("q").stretches(0, 1)[0].chunk is None:
            pass
        assert broker.paging.reads
        before = bodies(broker)
        assert move(broker, to_queue(broker, "t"), headers={"n": "0"})["done"] > 5
    assert sorted([*bodies(broker), *bodies(broker, "t")]) == before
    assert [body.decode() for body in channel.drain("q")] == [name for name in before if int(name[1:]) % 3]


@of_each_mode
def test_a_queue_that_is_purged_or_deleted_meanwhile(broker: DiskBroker, channel: ClientChannel, mode: int) -> None:
    for end in (commands.Queue.Purge(queue="q"), commands.Queue.Delete(queue="q")):
        channel.declare("q", durable=True)
        channel.declare("t", durable=True)
        fill(channel, 150, delivery_mode=mode)
        work = moving(broker, to_queue(broker, "t"))
        steps = work.steps()
        wanted = one_step(broker, steps, None)
        for _ in range(3):
            wanted = one_step(broker, steps, wanted)
        channel.call(end)
        while wanted is not None:
            wanted = one_step(broker, steps, wanted)
        check_count(broker)
        assert 0 < work.progress()["done"] == len(bodies(broker, "t")) < 150
        channel.call(commands.Queue.Purge(queue="t"))


def test_the_power_fails_at_any_slice(broker: DiskBroker) -> None:
    """What is moved is in one of the two places, and never in both or in none."""
    for steps_before in range(0, 12, 2):
        broker = DiskBroker(memory_budget_bytes=2)
        channel = broker.client().channel()
        channel.declare("q", durable=True)
        channel.declare("t", durable=True)
        fill(channel, 150, delivery_mode=2)
        broker.writes_at_once = False
        steps = moving(broker, to_queue(broker, "t"), headers={"n": "2"}).steps()
        wanted = one_step(broker, steps, None)
        for number in range(steps_before):
            if wanted is not None:
                wanted = one_step(broker, steps, wanted)
                if number % 3 == 0:
                    broker.write()
        found = broker.without_power()
        moved, left = bodies(found, "t"), bodies(found)
        assert sorted([*moved, *left]) == sorted(f"m{number:02}" for number in range(150))
        assert all(int(name[1:]) % 3 == 2 for name in moved)
