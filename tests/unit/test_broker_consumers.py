"""Whose turn it is: round robin, priorities, parking, the single active consumer; and nobody is forgotten."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from amqp_broker.broker.descriptions import ChannelInfo
from amqp_broker.broker.message import Address, Message
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.queues.consumers import Consumer, Deliveries
from amqp_broker.wire.table import Table
from tests.support.examples import examples
from tests.support.topology import Topology

NOWHERE = Address("", "q", b"\x00\x01q")


class Inbox(Deliveries):
    """A channel as a queue sees it, with the room that a test gives it."""

    def __init__(self) -> None:
        self.has_room = True
        self.delivered: list[tuple[Consumer, Message]] = []
        self.cancelled: list[Consumer] = []

    def deliver(self, consumer: Consumer, message: Message, header: bytes) -> None:
        assert consumer in consumer.queue.consumers, "a message goes to somebody who has gone"
        self.delivered.append((consumer, message))
        if not consumer.no_ack:
            consumer.unacknowledged_count += 1

    def consumer_cancelled(self, consumer: Consumer) -> None:
        self.cancelled.append(consumer)

    def inspect(self) -> ChannelInfo:
        raise AssertionError("nobody looks in here")


class Stage:
    """One queue, and inboxes that consume from it."""

    def __init__(self, arguments: Table | None = None) -> None:
        self.topology = Topology()
        self.queue: Queue = self.topology.queue("q", arguments)
        self.count = 0

    def consume(
        self, *, priority: int = 0, prefetch: int = 0, inbox: Inbox | None = None, no_ack: bool = False
    ) -> tuple[Inbox, Consumer]:
        """Start a consumer."""
        inbox = inbox or Inbox()
        consumer = self.queue.add_consumer(
            f"t{self.count}",
            inbox,
            no_ack=no_ack,
            exclusive=False,
            prefetch_count=prefetch,
            has_channel_prefetch=False,
            arguments={"x-priority": priority} if priority else {},
        )
        self.topology.broker.settle()
        return inbox, consumer

    def publish(self, count: int = 1) -> None:
        """Put numbered messages into the queue."""
        for _ in range(count):
            self.count += 1
            self.queue.publish(Message(NOWHERE, b"", b"%d" % self.count, False, 0))
        self.topology.broker.settle()

    def acknowledge(self, inbox: Inbox, index: int = 0) -> None:
        """Acknowledge one of an inbox's messages."""
        consumer, message = inbox.delivered.pop(index)
        self.queue.acknowledge(message)
        consumer.unacknowledged_count -= 1
        self.queue.resume(consumer)
        self.topology.broker.settle()


def numbers(inbox: Inbox) -> list[int]:
    """What has been delivered to an inbox."""
    return [int(message.body) for _, message in inbox.delivered]


def test_round_robin() -> None:
    stage = Stage()
    inboxes = [stage.consume()[0] for _ in range(3)]
    stage.publish(7)
    assert [numbers(inbox) for inbox in inboxes] == [[1, 4, 7], [2, 5], [3, 6]]


def test_the_highest_priority_first_and_the_next_when_it_is_full() -> None:
    stage = Stage()
    low, _ = stage.consume(priority=-5)
    high, _ = stage.consume(priority=5, prefetch=2)
    middle, _ = stage.consume(prefetch=1)
    stage.publish(5)
    assert [numbers(inbox) for inbox in (high, middle, low)] == [[1, 2], [3], [4, 5]]
    stage.acknowledge(high)
    stage.publish(2)
    assert numbers(high) == [2, 6]
    assert numbers(low) == [4, 5, 7]


def test_round_robin_among_equals_of_the_highest_priority() -> None:
    stage = Stage()
    stage.consume()
    first, second = stage.consume(priority=1)[0], stage.consume(priority=1)[0]
    stage.publish(4)
    assert (numbers(first), numbers(second)) == ([1, 3], [2, 4])


def test_who_is_full_is_skipped_and_comes_back() -> None:
    stage = Stage()
    first, _ = stage.consume(prefetch=1)
    second, _ = stage.consume(prefetch=1)
    stage.publish(4)
    assert (numbers(first), numbers(second)) == ([1], [2])
    stage.acknowledge(second)
    assert numbers(second) == [3]
    stage.acknowledge(first)
    assert numbers(first) == [4]


def test_no_room_in_the_channel() -> None:
    stage = Stage()
    inbox, consumer = stage.consume()
    inbox.has_room = False
    stage.publish(2)
    assert consumer.is_parked
    assert numbers(inbox) == []
    inbox.has_room = True
    stage.queue.resume(consumer)
    stage.topology.broker.settle()
    assert numbers(inbox) == [1, 2]


def test_a_thousand_full_consumers_are_not_looked_at_again() -> None:
    stage = Stage()
    for _ in range(1000):
        stage.consume(prefetch=1)
    stage.publish(1001)
    assert sum(consumer.is_parked for consumer in stage.queue.consumers) == 1000
    assert not stage.queue.consumers._levels


def test_single_active_consumer_and_its_successors() -> None:
    stage = Stage({"x-single-active-consumer": True})
    first, one = stage.consume(prefetch=1)
    second, two = stage.consume()
    third, _ = stage.consume(priority=10)
    stage.publish(2)
    assert (numbers(first), numbers(second), numbers(third)) == ([1], [], [])
    stage.queue.remove_consumer(one)
    stage.topology.broker.settle()
    assert (numbers(second), numbers(third)) == ([], [2])
    stage.queue.remove_consumer(two)
    stage.publish()
    assert numbers(third) == [2, 3]


def test_a_single_active_consumer_that_was_full() -> None:
    stage = Stage({"x-single-active-consumer": True})
    inbox, _ = stage.consume(prefetch=1)
    stage.publish(3)
    assert numbers(inbox) == [1]
    stage.acknowledge(inbox)
    assert numbers(inbox) == [2]


def test_an_auto_delete_queue_goes_with_its_last_consumer() -> None:
    topology = Topology()
    queue = topology.queue("q", auto_delete=True)
    stage = Stage()
    stage.topology, stage.queue = topology, queue
    _, first = stage.consume()
    _, second = stage.consume()
    queue.remove_consumer(first)
    assert topology.virtual_host.queues == {"q": queue}
    queue.remove_consumer(second)
    assert topology.virtual_host.queues == {}


def test_one_that_was_full_when_it_was_cancelled_stays_away() -> None:
    stage = Stage()
    inbox, consumer = stage.consume(prefetch=1)
    stage.publish(2)
    stage.queue.remove_consumer(consumer)
    stage.acknowledge(inbox)
    assert numbers(inbox) == []
    assert stage.queue.ready_count == 1


def test_consumers_of_a_deleted_queue_are_told() -> None:
    stage = Stage()
    inbox, consumer = stage.consume()
    stage.topology.virtual_host.remove_queue(stage.queue)
    assert inbox.cancelled == [consumer]
    stage.queue.remove_consumer(consumer)
    stage.publish()
    assert numbers(inbox) == []


class AnyCrowd(RuleBasedStateMachine):
    """Consumers come, fill up, make room and go; messages come and are settled in every way."""

    single_active = False

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage({"x-single-active-consumer": True} if self.single_active else None)
        self.crowd: list[tuple[Inbox, Consumer]] = []
        self.gone: list[tuple[Inbox, Consumer]] = []
        self.published = self.settled = 0

    @rule(priority=st.integers(-1, 1), prefetch=st.integers(0, 2), is_same_channel=st.booleans())
    def consume(self, priority: int, prefetch: int, is_same_channel: bool) -> None:
        inbox = self.crowd[-1][0] if is_same_channel and self.crowd else None
        self.crowd.append(self.stage.consume(priority=priority, prefetch=prefetch, inbox=inbox))

    @rule(count=st.integers(1, 4))
    def publish(self, count: int) -> None:
        self.stage.publish(count)
        self.published += count

    def deliveries(self) -> list[tuple[Inbox, int]]:
        inboxes = dict.fromkeys(inbox for inbox, _ in [*self.crowd, *self.gone])
        return [(inbox, index) for inbox in inboxes for index in range(len(inbox.delivered))]

    @precondition(lambda self: self.deliveries())
    @rule(data=st.data(), is_requeue=st.booleans())
    def settle(self, data: st.DataObject, is_requeue: bool) -> None:
        inbox, index = data.draw(st.sampled_from(self.deliveries()))
        if not is_requeue:
            self.stage.acknowledge(inbox, index)
            self.settled += 1
            return
        consumer, message = inbox.delivered.pop(index)
        requeueing = self.stage.queue.requeueing()
        requeueing.add([message])
        requeueing.finish()
        consumer.unacknowledged_count -= 1
        self.stage.queue.resume(consumer)
        self.stage.topology.broker.settle()

    @precondition(lambda self: self.crowd)
    @rule(data=st.data(), has_room=st.booleans())
    def change_room(self, data: st.DataObject, has_room: bool) -> None:
        inbox, _ = data.draw(st.sampled_from(self.crowd))
        inbox.has_room = has_room
        for other, consumer in self.crowd:
            if other is inbox:
                self.stage.queue.resume(consumer)
        self.stage.topology.broker.settle()

    @precondition(lambda self: self.crowd)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        pair = data.draw(st.sampled_from(self.crowd))
        self.crowd.remove(pair)
        self.gone.append(pair)
        self.stage.queue.remove_consumer(pair[1])
        self.stage.topology.broker.settle()

    @invariant()
    def nobody_waits_for_what_is_there(self) -> None:
        queue = self.stage.queue
        served = [consumer for _, consumer in self.crowd]
        if self.single_active:
            assert (queue.consumers.active is None) == (not served)
            served = [consumer for consumer in served if consumer is queue.consumers.active]
        assert not (queue.ready_count and any(consumer.is_ready for consumer in served))
        assert not any(consumer.is_parked and consumer.is_ready for consumer in served)

    @invariant()
    def every_message_is_somewhere_once(self) -> None:
        queue = self.stage.queue
        held = len(self.deliveries())
        assert queue.unacknowledged_count == held
        assert queue.ready_count == len(list(queue.messages()))
        assert queue.ready_count + held + self.settled == self.published

    @invariant()
    def the_windows_are_kept(self) -> None:
        for inbox, consumer in [*self.crowd, *self.gone]:
            held = sum(other is consumer for other, _ in inbox.delivered)
            assert consumer.unacknowledged_count == held
            assert not consumer.prefetch_count or held <= consumer.prefetch_count


class AnyCrowdWithOneActive(AnyCrowd):
    """The same with a single active consumer."""

    single_active = True


FEW = settings(max_examples=examples(40), stateful_step_count=30)
AnyCrowd.TestCase.settings = AnyCrowdWithOneActive.TestCase.settings = FEW
TestCrowd = AnyCrowd.TestCase
TestCrowdWithOneActive = AnyCrowdWithOneActive.TestCase
