"""Credit of AMQP 1.0's links, asked of RabbitMQ 4 and of ours as 4: what comes for it and what does not, of queues of
all types. After RabbitMQ's own cases (amqp_client_SUITE), but that here the broker is asked whether nothing comes.
"""

from __future__ import annotations

from typing import Any

import pytest

from amqp_broker.protocols.amqp10.compound import Described, Map
from amqp_broker.protocols.amqp10.performatives import ATTACH, END, FLOW, SOURCE, TARGET, TRANSFER, composite
from amqp_broker.protocols.amqp10.typed import Symbol, UByte, UInt
from interop.amqp10_client import WINDOW, Amqp10Client
from interop.raw_client import Basic, ChannelUnderTest
from interop.test_amqp10_links import FIRST_OF_LINK, body_of, queue, taken
from interop.under_test import BrokerUnderTest

OFFSET = Symbol("rabbitmq:stream-offset-spec")
KINDS = pytest.mark.parametrize("kind", ["classic", "quorum", "stream"])


class Receiver:
    """A link on which messages come, and how many came."""

    def __init__(
        self, client: Amqp10Client, name: str, handle: int = 1, *, settled: bool = False, place: Any = "first"
    ) -> None:
        self._client = client
        self._handle = handle
        self._count = 0
        begins = Map([(OFFSET, Described(OFFSET, place))])  # of a stream
        source = composite(SOURCE, [f"/queues/{name}", *[None] * 6, begins])
        mode = UByte(1 if settled else 0)
        client.send(ATTACH, f"in-{handle}", UInt(handle), True, mode, None, source, composite(TARGET, []))
        client.expect(ATTACH)

    def grant(self, credit: int, *, drain: bool = False) -> None:
        """Grant credit for so many from now on."""
        self._client.flow(self._handle, credit, count=FIRST_OF_LINK + self._count, drain=drain)

    def came(self, count: int, *, settles: bool = False) -> str:
        """So many messages that come; their bodies."""
        bodies = ""
        for frame in taken(self._client, count):
            assert frame.field(0) == self._handle
            if settles:
                self._client.settle(frame)
            bodies += body_of(frame)
        self._count += count
        return bodies

    def told(self) -> tuple[int, int]:
        """What is told of the link before any message comes: how many came or will not, and the credit."""
        frame = self._client.take()
        while frame is not None and frame.code == FLOW and frame.field(4) != self._handle:
            frame = self._client.take()
        assert frame is not None
        assert frame.code == FLOW, frame.fields
        return (frame.field(5) - FIRST_OF_LINK) & 0xFFFF_FFFF, frame.field(6)

    def has_nothing(self, credit: int) -> None:
        """See that nothing comes while there is so much credit."""
        self._client.flow(self._handle, credit, count=FIRST_OF_LINK + self._count, echo=True)
        assert self.told() == (self._count, credit)


def put(ch: ChannelUnderTest, name: str, bodies: str) -> None:
    """Messages of a letter each."""
    ch.confirm()
    for body in bodies:
        ch.publish("", name, body.encode())
        ch.expect(Basic.Ack)


def declared(broker: BrokerUnderTest, ch: ChannelUnderTest, kind: str, base: str = "q") -> str:
    return queue(ch, broker, base, x_queue_type=kind)


@KINDS
@pytest.mark.parametrize("settled", [False, True])
def test_as_many_come_as_there_is_credit_for(
    broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest, kind: str, settled: bool
) -> None:
    name = declared(broker, ch, kind)
    receiver = Receiver(amqp10, name, settled=settled)
    receiver.grant(1)
    put(ch, name, "abcdef")
    assert receiver.came(1) == "a"
    receiver.has_nothing(0)
    receiver.grant(2)
    assert receiver.came(2, settles=not settled) == "bc"
    receiver.has_nothing(0)  # what is settled makes no room
    receiver.grant(2)
    assert receiver.came(2) == "de"
    receiver.grant(2)
    assert receiver.came(1) == "f"
    receiver.has_nothing(1)


def test_credit_of_who_says_0_before_it_has_heard_anything(
    broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest
) -> None:
    """rhea's ``open_receiver`` and ``add_credit`` in one go."""
    name = declared(broker, ch, "classic")
    put(ch, name, "abc")
    source = composite(SOURCE, [f"/queues/{name}"])
    amqp10.send(ATTACH, "in", UInt(1), True, None, None, source, composite(TARGET, []))
    amqp10.send(FLOW, UInt(0), UInt(WINDOW), UInt(0), UInt(WINDOW), UInt(1), UInt(0), UInt(2))
    amqp10.expect(ATTACH)
    if broker.differs("flow-before-begin"):
        assert "".join(body_of(frame) for frame in taken(amqp10, 2)) == "ab"
    else:
        end = amqp10.take()
        assert end is not None
        assert (end.code, end.field(0).value[0]) == (END, "amqp:session:window-violation")


@KINDS
def test_what_comes_after_a_drain_waits_for_new_credit(
    broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest, kind: str
) -> None:
    name = declared(broker, ch, kind)
    receiver = Receiver(amqp10, name)
    receiver.grant(1)
    receiver.has_nothing(1)
    receiver.grant(1, drain=True)
    assert receiver.told() == (1, 0)
    put(ch, name, "a")
    amqp10.flow(1, 0, count=FIRST_OF_LINK + 1, echo=True)
    assert receiver.told() == (1, 0)
    amqp10.flow(1, 2, count=FIRST_OF_LINK + 1, drain=True)
    assert receiver.came(1) == "a"
    assert receiver.told() == (3, 0)


@KINDS
def test_a_link_that_is_stopped_goes_on_with_new_credit(
    broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest, kind: str
) -> None:
    name = declared(broker, ch, kind)
    receiver = Receiver(amqp10, name)
    receiver.grant(10)
    put(ch, name, "ab")
    assert receiver.came(2) == "ab"
    receiver.has_nothing(0)  # its credit was 8
    put(ch, name, "cd")
    receiver.has_nothing(0)
    receiver.grant(2)
    assert receiver.came(2) == "cd"


@KINDS
def test_credit_lasts_until_it_is_used(
    broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest, kind: str
) -> None:
    name = declared(broker, ch, kind)
    receiver = Receiver(amqp10, name, settled=True)
    receiver.grant(5)
    for bodies in ("a", "bcd"):
        put(ch, name, bodies)
        assert receiver.came(len(bodies)) == bodies
    put(ch, name, "ef")
    assert receiver.came(1) == "e"
    receiver.has_nothing(0)


@KINDS
@pytest.mark.parametrize("settled", [False, True])
def test_credit_is_given_anew_while_messages_come(
    broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest, kind: str, settled: bool
) -> None:
    name = declared(broker, ch, kind)
    bodies = "abcdefghijklmnopqrstuvwxyz"
    put(ch, name, bodies)
    receiver = Receiver(amqp10, name, settled=settled)
    receiver.grant(10)
    found = ""
    while len(found) < len(bodies):
        found += receiver.came(2, settles=not settled)
        receiver.grant(10 if len(found) % 5 else 7)  # of which some are on their way
    assert found == bodies
    receiver.has_nothing(1)


def test_links_have_each_their_own_credit(broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest) -> None:
    names = declared(broker, ch, "classic"), declared(broker, ch, "quorum", "other")
    first, second = Receiver(amqp10, names[0], 1), Receiver(amqp10, names[1], 2)
    first.grant(1)
    for name in names:
        put(ch, name, "ab")
    assert first.came(1) == "a"
    first.has_nothing(0)
    second.grant(2)
    assert second.came(2) == "ab"
    first.has_nothing(0)
    first.grant(1)
    assert first.came(1) == "b"


@KINDS
def test_the_last_of_many_grants_counts(
    broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest, kind: str
) -> None:
    name = declared(broker, ch, kind)
    receiver = Receiver(amqp10, name)
    put(ch, name, "a")
    for credit in (0, 1, 5):
        receiver.grant(credit)
    receiver.grant(2_000_000_000, drain=True)
    assert receiver.came(1) == "a"
    assert receiver.told() == (2_000_000_000, 0)


@KINDS
def test_a_link_that_is_stopped_while_the_window_is_closed(
    broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest, kind: str
) -> None:
    name = declared(broker, ch, kind)
    Receiver(amqp10, name)
    put(ch, name, "ab")
    next_id = UInt(amqp10.begin_answer.field(1))
    for credit in (1, 0):
        amqp10.send(FLOW, next_id, UInt(0), UInt(0), UInt(WINDOW), UInt(1), UInt(FIRST_OF_LINK), UInt(credit))
    amqp10.flow(1, 0, count=FIRST_OF_LINK, echo=True)  # with the window open
    came = ""
    while (frame := amqp10.take()) is not None and frame.code == TRANSFER:  # the first may have been on its way
        came += body_of(frame)
    assert frame is not None
    assert (frame.code, frame.field(4), came in ("", "a")) == (FLOW, 1, True)
