"""The orders of ready messages against sorted lists: publish, take, requeue, in any succession."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from amqp_broker.broker.message import Address, Message
from amqp_broker.broker.queues.bands import Bands
from amqp_broker.broker.queues.ready import FirstInFirstOut, ReadyMessages
from amqp_broker.broker.queues.ready_in_bands import ByPriority, ReturnedFirst
from tests.support.examples import examples

NOWHERE = Address("", "q", b"\x00\x01q")
PRIORITY_MAX = 3


def make(position: int, priority: int = 0) -> Message:
    """A message at a position."""
    message = Message(NOWHERE, b"", b"%d" % position, False, priority)
    message.position = position
    return message


class AnyOrder(RuleBasedStateMachine):
    """What all orders have in common; a subclass says which message is next."""

    def __init__(self) -> None:
        super().__init__()
        self.ready = self.make_ready()
        self.waiting: list[Message] = []  # the model, in the order of delivery
        self.taken: list[Message] = []
        self.position = 0

    def make_ready(self) -> ReadyMessages:
        return FirstInFirstOut()

    def order(self, message: Message) -> tuple[int, ...]:
        return (message.position,)

    @rule(priority=st.integers(0, PRIORITY_MAX + 2))
    def publish(self, priority: int) -> None:
        self.position += 1
        message = make(self.position, priority)
        self.ready.append(message)
        self.waiting.append(message)
        self.waiting.sort(key=self.order)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        for _ in range(data.draw(st.integers(1, len(self.waiting)))):
            message = self.ready.pop()
            assert message is self.waiting.pop(0)
            self.taken.append(message)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def requeue(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sets(st.integers(0, len(self.taken) - 1), min_size=1))
        messages = sorted((self.taken[index] for index in chosen), key=lambda message: message.position)
        self.taken = [message for message in self.taken if message not in messages]
        self.ready.requeue(messages)
        self.put_back(messages)

    def put_back(self, messages: list[Message]) -> None:
        self.waiting = sorted([*self.waiting, *messages], key=self.order)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def take_out(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sets(st.integers(0, len(self.waiting) - 1), min_size=1))
        messages = [self.waiting[index] for index in sorted(chosen)]
        assert self.ready.those_there([*messages, *self.taken]) == messages
        self.ready.take_out(messages)
        self.waiting = [message for message in self.waiting if message not in messages]
        assert self.ready.those_there(messages) == []

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        del self.taken[data.draw(st.integers(0, len(self.taken) - 1))]

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert list(self.ready) == self.waiting
        assert sorted(self.ready.in_memory(), key=id) == sorted(self.waiting, key=id)
        assert len(self.ready) == len(self.waiting)
        for skip, count in ((0, 1000), (1, 2), (len(self.waiting) // 2, 3), (len(self.waiting), 1)):
            stretches = self.ready.stretches(skip, count)
            assert [one for stretch in stretches for one in stretch.messages] == self.waiting[skip : skip + count]
        assert self.ready.head() is (self.waiting[0] if self.waiting else None)


class PriorityOrder(AnyOrder):
    """The highest priority first; what is above the maximum counts as the maximum."""

    def make_ready(self) -> ReadyMessages:
        return ByPriority(Bands(PRIORITY_MAX))

    def order(self, message: Message) -> tuple[int, ...]:
        return (-min(message.priority, PRIORITY_MAX), message.position)


class QuorumOrder(AnyOrder):
    """What was returned first, in the order of its return."""

    def __init__(self) -> None:
        super().__init__()
        self.returned: list[Message] = []

    def make_ready(self) -> ReadyMessages:
        return ReturnedFirst(FirstInFirstOut())

    def order(self, message: Message) -> tuple[int, ...]:
        returned = getattr(self, "returned", [])
        return (0, returned.index(message)) if message in returned else (1, message.position)

    def put_back(self, messages: list[Message]) -> None:
        for message in messages:
            if message in self.returned:
                self.returned.remove(message)
            self.returned.append(message)
        super().put_back(messages)


for order in (AnyOrder, PriorityOrder, QuorumOrder):
    order.TestCase.settings = settings(max_examples=examples(40), stateful_step_count=30)
TestFirstInFirstOut = AnyOrder.TestCase
TestByPriority = PriorityOrder.TestCase
TestReturnedFirst = QuorumOrder.TestCase


def test_one_that_is_put_into_the_middle() -> None:
    ready = FirstInFirstOut()
    for position in (1, 2, 3, 4):
        ready.append(make(position))
    first, second, third = ready.pop(), ready.pop(), ready.pop()
    ready.requeue([second])
    ready.requeue([first])
    ready.requeue([third])
    assert [ready.pop().position for _ in range(4)] == [1, 2, 3, 4]
