"""The contract that every queue type fulfils (``broker/queues/contract.py``), from the declaration to the restart.

A type of every broker has its case in ``TYPES``. ``LatestQueue`` is a type that is only registered, here and nowhere
else, and derives from nothing but ``Queue``: what it can do, any can.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from pamqp import commands
from pamqp.common import FieldTable

from amqp_broker.behaviour import Behaviour
from amqp_broker.broker.arguments import QueueArguments, check_boolean, check_positive, read_queue_arguments
from amqp_broker.broker.definitions.applying import import_definitions
from amqp_broker.broker.definitions.export import exported
from amqp_broker.broker.inspection import Inspection
from amqp_broker.broker.message import Message
from amqp_broker.broker.peeking import Peek, PeekBounds
from amqp_broker.broker.problems import AdministrationError
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.queues.classic import ClassicQueue
from amqp_broker.broker.queues.ready import Stretch
from amqp_broker.broker.queues.registry import QueueTypes
from amqp_broker.broker.queues.returning import Returning
from amqp_broker.broker.queues.traits import QueueTraits
from amqp_broker.errors import not_implemented
from amqp_broker.journal.failures import FormatNotSupported
from amqp_broker.settings import Settings
from amqp_broker.wire.table import Table
from tests.support.client import ClientChannel
from tests.support.disk_broker import DiskBroker
from tests.support.managed import HttpClient, managing
from tests.support.manual_clock import ManualClock
from tests.support.memory_broker import MemoryBroker
from tests.support.served import on_a_jumping_clock
from tests.support.walking import walk_through


class LatestQueue(Queue):
    """A queue of the latest messages: those before them go. How many, its own argument or a policy's length says."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.there: deque[Message] = deque()
        self.dropped_count = 0

    @classmethod
    def traits(cls) -> QueueTraits:
        return QueueTraits(
            arguments=("x-queue-type", "x-latest"),
            consumer_arguments=("x-priority", "x-patient"),
            checks={"x-latest": check_positive, "x-patient": check_boolean},
            apply_to="latest_queues",
            meaningless_policy_keys=frozenset({"message-ttl"}),
            may_be_unnamed=False,
        )

    @classmethod
    def read_arguments(cls, table: Table, behaviour: Behaviour) -> QueueArguments:
        latest = table.get("x-latest", 100)
        assert isinstance(latest, int)
        return QueueArguments(queue_type=read_queue_arguments(table).queue_type, length_max=latest)

    def check_get(self) -> None:
        raise not_implemented(f"basic.get is nothing for {self}")

    @property
    def knows_each(self) -> bool:
        return True

    @property
    def ready_count(self) -> int:
        return len(self.there)

    @property
    def ready_bytes(self) -> int:
        return sum(len(message.body) for message in self.there)

    def messages(self) -> Iterator[Message]:
        return iter(self.there)

    def details(self) -> dict[str, object]:
        return {"dropped": self.dropped_count}

    def stretches(self, skip: int, count: int) -> list[Stretch]:
        return [Stretch(list(self.there)[skip : skip + count])]

    def publish(self, message: Message) -> bool:
        self.there.append(message)
        self.drop_surplus()
        self.changed()
        return True

    def drop_surplus(self) -> None:
        while len(self.there) > (self.arguments.length_max or 0):
            self.virtual_host.durability.forget_message(self.there.popleft())
            self.dropped_count += 1
        self.virtual_host.durability.keep_state(self, {"dropped": self.dropped_count})

    def arguments_changed(self, before: QueueArguments) -> None:
        super().arguments_changed(before)
        self.drop_surplus()

    def deliver_ready(self, messages_max: int) -> int:
        self.is_changed = False
        for delivered in range(messages_max):
            consumer = self.consumers.next_ready() if self.there else None
            if consumer is None:
                return delivered
            message = self.there.popleft()
            self.unacknowledged_count += not consumer.no_ack
            if consumer.no_ack:
                self.virtual_host.durability.forget_message(message)
            consumer.deliveries.deliver(consumer, message, message.header)
        self.changed()
        return messages_max

    def get(self, no_ack: bool) -> Message | None:
        self.check_get()
        return None

    def acknowledge(self, message: Message) -> None:
        self.reject([message])

    def reject(self, messages: list[Message]) -> None:
        self.unacknowledged_count -= len(messages)
        self.virtual_host.durability.forget_messages(messages)

    def taking_back(self) -> Returning:
        return ReturningToTheLatest(self)

    def empty(self) -> Iterator[None]:
        self.virtual_host.durability.forget_messages(list(self.there))
        self.there.clear()
        return iter(())

    def restore(self, message: Message) -> None:
        self.there.append(message)

    def restore_state(self, state: Table) -> bool:
        self.dropped_count = int(str(state["dropped"]))
        return True


class ReturningToTheLatest(Returning):
    """What comes back goes to the front, where it was."""

    def __init__(self, queue: LatestQueue) -> None:
        self.queue = queue

    def add(self, messages: list[Message]) -> None:
        self.queue.unacknowledged_count -= len(messages)
        self.queue.there.extendleft(reversed(messages))
        self.queue.changed()


@dataclass(frozen=True)
class Case:
    """A type, and what it takes.

    Args:
        arguments: a declaration.
        others: one that is not equivalent.
        wrong: one with a value that it refuses.
        foreign: an argument that only other types know.
        consumer: arguments of one that gets all there is.
        wrong_consumer: one that it refuses.
        policy: one that means something to it.
        in_force: what that makes of the queue's arguments.
        passed_by: a key of a policy that means nothing to it.
        has_get: whether messages can be got one by one.
        is_read: whether what was consumed stays.
    """

    arguments: FieldTable
    others: FieldTable
    wrong: FieldTable
    foreign: str
    apply_to: str
    policy: dict[str, Any]
    in_force: dict[str, Any]
    passed_by: dict[str, Any]
    consumer: FieldTable = field(default_factory=dict)
    wrong_consumer: FieldTable = field(default_factory=lambda: {"x-priority": "high"})
    has_get: bool = True
    is_read: bool = False


TYPES = {
    "classic": Case(
        {"x-max-length": 50},
        {"x-max-length": 51},
        {"x-max-priority": -1},
        "x-delivery-limit",
        "classic_queues",
        {"max-length": 9},
        {"length_max": 9},
        {"max-age": "1h"},
    ),
    "quorum": Case(
        {"x-delivery-limit": 5},
        {"x-delivery-limit": 6},
        {"x-expires": 0},
        "x-max-priority",
        "quorum_queues",
        {"delivery-limit": 3},
        {"delivery_limit": 3},
        {"queue-mode": "lazy"},
    ),
    "stream": Case(
        {"x-max-age": "1h"},
        {"x-max-age": "2h"},
        {"x-max-age": "soon"},
        "x-max-priority",
        "streams",
        {"max-length-bytes": 1_000_000},
        {"length_bytes_max": 1_000_000},
        {"message-ttl": 1},
        consumer={"x-stream-offset": "first"},
        wrong_consumer={"x-stream-offset": "somewhere"},
        has_get=False,
        is_read=True,
    ),
    "x-latest": Case(
        {"x-latest": 3},
        {"x-latest": 4},
        {"x-latest": 0},
        "x-max-priority",
        "latest_queues",
        {"max-length": 2},
        {"length_max": 2},
        {"message-ttl": 1},
        consumer={"x-patient": True},
        wrong_consumer={"x-patient": 1},
        has_get=False,
    ),
}


class Broker(DiskBroker):
    """A broker with one type more, which is there before its journal is read."""

    def _make(self, settings: Settings, clock: ManualClock) -> None:
        super()._make(settings, clock)
        self.queue_types.register("x-latest", LatestQueue)


@pytest.fixture
def disk() -> Broker:
    return Broker()


@pytest.fixture
def channel(disk: Broker) -> ClientChannel:
    return disk.client().channel()


def declared(channel: ClientChannel, type_name: str, name: str = "q", **more: Any) -> None:
    channel.declare(name, {"x-queue-type": type_name, **TYPES[type_name].arguments, **more}, durable=True)


def refusal(channel: ClientChannel, method: Any) -> str:
    """What a channel is closed with; another one is opened."""
    channel.send(method)
    text = channel.closed_with().reply_text
    channel.send(commands.Channel.CloseOk())
    channel.call(commands.Channel.Open())
    return text


def declaration(type_name: str, arguments: FieldTable, name: str = "q") -> commands.Queue.Declare:
    return commands.Queue.Declare(queue=name, durable=True, arguments={"x-queue-type": type_name, **arguments})


def put_policy(disk: DiskBroker, apply_to: str, definition: dict[str, Any]) -> None:
    value: dict[str, Any] = {"pattern": "q", "definition": definition, "apply-to": apply_to}
    disk.handle(lambda: disk.administration.parameters.set_policy("/", "p", value))


def import_into(disk: DiskBroker, document: dict[str, Any]) -> None:
    disk.handle(lambda: import_definitions(disk, document, None, who="a test"))


def consumed(disk: Broker, type_name: str) -> tuple[ClientChannel, list[bytes]]:
    """What a new consumer gets, and the channel that it is on."""
    channel = disk.client().channel()
    channel.qos(100)
    channel.consume("q", "c", TYPES[type_name].consumer)
    return channel, channel.bodies()


def test_every_type_is_under_contract() -> None:
    assert {*QueueTypes().names, "x-latest"} == TYPES.keys()


@pytest.mark.parametrize("type_name", TYPES)
class TestContract:
    """What must be so for each type."""

    def test_its_arguments_are_checked_compared_and_those_of_others_refused(
        self, disk: Broker, channel: ClientChannel, type_name: str
    ) -> None:
        case, label = TYPES[type_name], f"rabbit_{type_name}_queue"
        assert "invalid arg" in refusal(channel, declaration(type_name, case.wrong))
        foreign: FieldTable = {case.foreign: 1}
        assert refusal(channel, declaration(type_name, foreign)).endswith(f"of queue type {label}")
        declared(channel, type_name)
        declared(channel, type_name, **{"x-unknown": "is ignored"})
        assert "inequivalent arg" in refusal(channel, declaration(type_name, case.others))
        other = next(name for name in TYPES if name != type_name)
        assert "inequivalent arg" in refusal(channel, declaration(other, {}))
        traits = disk.queue_types[type_name].traits()
        channel.send(declaration(type_name, {}, name=""))
        if traits.may_be_unnamed:
            channel.one(commands.Queue.DeclareOk)
        else:
            assert channel.closed_with().reply_text.endswith(f"server-named queue for type {label}")

    def test_its_own_argument_is_foreign_to_all_others(self, channel: ClientChannel, type_name: str) -> None:
        (own,) = TYPES[type_name].arguments
        for other, case in TYPES.items():
            if other != type_name and own not in case.arguments and own != "x-max-length":
                text = refusal(channel, declaration(other, TYPES[type_name].arguments, other))
                assert text.endswith(f"of queue type rabbit_{other}_queue"), other

    def test_messages_come_are_acknowledged_and_are_gone(
        self, disk: Broker, channel: ClientChannel, type_name: str
    ) -> None:
        declared(channel, type_name)
        for number in range(3):
            channel.publish("", "q", b"%d" % number, delivery_mode=1 + number % 2)
        assert channel.message_count("q") == 3
        waiting = [message.body for message in disk.queue("q").messages()]  # in the order that is the type's
        consumer, bodies = consumed(disk, type_name)
        assert bodies == waiting
        assert sorted(bodies) == [b"0", b"1", b"2"]
        assert disk.queue("q").unacknowledged_count == 3
        consumer.ack(2, multiple=True)
        assert disk.queue("q").unacknowledged_count == 1
        consumer.client.connection.lost("it has gone")
        disk.settle()
        assert disk.queue("q").unacknowledged_count == 0
        left = waiting if TYPES[type_name].is_read else waiting[2:]
        assert consumed(disk, type_name)[1] == left

    def test_a_consumers_arguments_are_checked_and_those_of_others_refused(
        self, disk: Broker, channel: ClientChannel, type_name: str
    ) -> None:
        declared(channel, type_name)
        known = disk.queue("q").traits().consumer_arguments
        foreign = [name for name in ("x-cancel-on-ha-failover", "x-patient", "x-stream-offset") if name not in known]
        assert foreign
        refused: list[FieldTable] = [{name: True} for name in foreign]
        for wrong in (*refused, TYPES[type_name].wrong_consumer):
            channel.qos(10)
            assert "invalid arg" in refusal(channel, commands.Basic.Consume(queue="q", arguments=wrong))

    def test_it_says_whether_messages_are_got_one_by_one(self, channel: ClientChannel, type_name: str) -> None:
        declared(channel, type_name)
        channel.publish("", "q", b"m")
        if TYPES[type_name].has_get:
            assert channel.drain("q") == [b"m"]
        else:
            channel.send(commands.Basic.Get(queue="q"))
            assert channel.client.closed_with().reply_text.startswith("NOT_IMPLEMENTED")

    def test_policies_are_for_it_by_its_word_and_by_their_keys(
        self, disk: Broker, channel: ClientChannel, type_name: str
    ) -> None:
        case = TYPES[type_name]
        declared(channel, type_name)
        queue = disk.queue("q")
        for apply_to in (case.apply_to, "queues", "all"):
            put_policy(disk, apply_to, case.policy)
            assert {name: getattr(queue.arguments, name) for name in case.in_force} == case.in_force
            put_policy(disk, apply_to, {**case.policy, **case.passed_by})
            assert queue.in_force is None
        for other in TYPES.values():
            if other is not case:
                put_policy(disk, other.apply_to, case.policy)
                assert queue.arguments == queue.declared

    def test_definitions_take_it_along(self, disk: Broker, channel: ClientChannel, type_name: str) -> None:
        case = TYPES[type_name]
        declared(channel, type_name)
        put_policy(disk, case.apply_to, case.policy)
        document = json.loads(json.dumps(exported(disk)))
        other = Broker()
        import_into(other, document)
        assert other.queue("q").table == disk.queue("q").table
        assert {name: getattr(other.queue("q").arguments, name) for name in case.in_force} == case.in_force

    def test_who_looks_in_sees_it(self, disk: Broker, channel: ClientChannel, type_name: str) -> None:
        declared(channel, type_name)
        channel.publish("", "q", b"seen")
        (info,) = Inspection(disk).queues()
        assert (info["type"], info["messages_ready"], info["message_bytes_ready"]) == (type_name, 1, 4)
        peek = Peek(disk, disk.queue("q"), PeekBounds())
        walk_through(disk, peek.steps())
        assert [row["payload"] for row in peek.seen()["messages"]] == ["seen"]

    @pytest.mark.parametrize("ending", ["restarted", "without_power"])
    def test_all_of_it_is_back_after_a_restart(
        self, disk: Broker, channel: ClientChannel, type_name: str, ending: str
    ) -> None:
        case = TYPES[type_name]
        declared(channel, type_name)
        put_policy(disk, case.apply_to, case.policy)
        for number in range(3):
            channel.publish("", "q", b"%d" % number, delivery_mode=2)
        before = (disk.queue("q").arguments, disk.queue("q").table)
        waiting = [message.body for message in disk.queue("q").messages()]
        disk.write()
        disk = getattr(disk, ending)()
        assert type(disk.queue("q")) is disk.queue_types[type_name]
        assert (disk.queue("q").arguments, disk.queue("q").table) == before
        consumer, bodies = consumed(disk, type_name)
        assert bodies == waiting
        consumer.ack(len(bodies), multiple=True)
        consumer.client.connection.lost("it has gone")
        disk.settle()
        disk.write()
        disk = getattr(disk, ending)()
        assert consumed(disk, type_name)[1] == (waiting if case.is_read else [])

    def test_what_is_purged_or_deleted_leaves_nothing(
        self, disk: Broker, channel: ClientChannel, type_name: str
    ) -> None:
        before = disk.live_records()
        declared(channel, type_name)
        for number in range(5):
            channel.publish("", "q", b"%d" % number, delivery_mode=2)
        if not TYPES[type_name].is_read:
            channel.call(commands.Queue.Purge(queue="q"))
            assert channel.message_count("q") == 0
            channel.publish("", "q", b"m", delivery_mode=2)
        channel.call(commands.Queue.Delete(queue="q"))
        assert disk.live_records() == before

    def test_what_dies_elsewhere_comes_in(self, disk: Broker, channel: ClientChannel, type_name: str) -> None:
        declared(channel, type_name)
        arguments: FieldTable = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q", "x-message-ttl": 1}
        channel.declare("mortal", arguments, durable=True)
        channel.publish("", "mortal", b"m", delivery_mode=2)
        disk.advance(2)
        assert consumed(disk, type_name)[1] == [b"m"]


@on_a_jumping_clock
async def test_the_api_and_the_metrics_know_each_type() -> None:
    async with managing() as managed:
        managed.broker.queue_types.register("x-latest", LatestQueue)
        administrator = await managed.administrator()
        for type_name, case in TYPES.items():
            body = {"durable": True, "arguments": {"x-queue-type": type_name, **case.arguments}}
            assert (await administrator.ask("PUT", f"/api/queues/%2F/{type_name}", body)).status == 201
            shown = (await administrator.ask("GET", f"/api/queues/%2F/{type_name}")).json
            assert (shown["type"], shown["arguments"]) == (type_name, body["arguments"])
            is_classic = managed.broker.queue_types[type_name].traits().shown_as == "classic"
            assert ("leader" in shown, "backing_queue_status" in shown) == (not is_classic, is_classic)
            of_its_own = {"x-latest": {"dropped"}, "stream": {"first_offset", "end_offset"}}.get(type_name, set())
            assert of_its_own == {"dropped", "first_offset", "end_offset"} & shown.keys()
            policy = {"pattern": type_name, "definition": case.policy, "apply-to": case.apply_to}
            assert (await administrator.ask("PUT", f"/api/policies/%2F/{type_name}", policy)).status == 201
            shown = (await administrator.ask("GET", f"/api/queues/%2F/{type_name}")).json
            assert shown["policy"] == type_name
        await administrator.stream.aclose()
        port = next(one.port for one in managed.server.http_endpoints if one.protocol == "metrics")
        scraper = HttpClient(await managed.connect(port=port))
        metrics = (await scraper.ask("GET", "/metrics", user=None)).body.decode()
        await scraper.stream.aclose()
        for type_name in TYPES:
            assert f'queue_type="rabbit_{type_name}_queue"' in metrics


# --- types that are not there


def test_without_its_type_a_start_and_an_import_are_refused_by_name(disk: Broker, channel: ClientChannel) -> None:
    declared(channel, "x-latest")
    document = exported(disk)
    disk.write()
    with pytest.raises(FormatNotSupported, match="queue 'q' is of type 'x-latest', which this release does not have"):
        DiskBroker(disk.files, disk.clock)
    plain = DiskBroker()
    with pytest.raises(AdministrationError, match="x-latest"):
        import_into(plain, document)
    assert not plain.virtual_host.queues
    put_policy(disk, "latest_queues", {"max-length": 2})
    with pytest.raises(AdministrationError, match="apply-to 'latest_queues' unrecognised"):
        put_policy(plain, "latest_queues", {"max-length": 2})


def test_a_name_is_given_once(broker: MemoryBroker) -> None:
    with pytest.raises(ValueError, match="queue type 'classic' is there already"):
        broker.queue_types.register("classic", LatestQueue)
    with pytest.raises(ValueError, match="exchange type 'topic' is there already"):
        broker.exchange_types.register("topic", broker.exchange_types["topic"])


def test_a_type_that_derives_from_another_one_has_its_traits(broker: MemoryBroker) -> None:
    class Same(ClassicQueue):
        """A classic queue by another name."""

    broker.queue_types.register("x-same", Same)
    queue = broker.virtual_host.add_queue(
        "q", durable=True, auto_delete=False, owner=None, table={"x-queue-type": "x-same", "x-max-length": 3}
    )
    assert isinstance(queue, Same)
    assert queue.arguments.length_max == 3
    assert queue.traits() is ClassicQueue.traits()
