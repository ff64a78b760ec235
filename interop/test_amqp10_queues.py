"""What queues do for clients of AMQP 1.0, asked of RabbitMQ 4 and of ours as 4: several that one message goes to,
priorities, who is next, what dies where. After RabbitMQ's own cases (amqp_client_SUITE).
"""

from __future__ import annotations

from typing import Any

import pytest

from amqp_broker.protocols.amqp10.compound import Array, Map
from amqp_broker.protocols.amqp10.performatives import (
    ACCEPTED,
    ATTACH,
    DETACH,
    DISPOSITION,
    MODIFIED,
    REJECTED,
    SOURCE,
    TARGET,
    composite,
)
from amqp_broker.protocols.amqp10.typed import Byte, Int, Symbol, UByte, UInt
from interop import waiting
from interop.amqp10_client import Amqp10Client
from interop.raw_client import ChannelUnderTest, Exchange
from interop.test_amqp10_links import body_of, publish, queue, taken
from interop.under_test import BrokerUnderTest
from tests.support.amqp10_client import annotations_of, message, section, sections_of

KINDS = pytest.mark.parametrize("kind", ["classic", "quorum"])


def settled(client: Amqp10Client, count: int) -> list[tuple[int, int]]:
    """The numbers and the outcomes of so many deliveries, in the order of their numbers."""
    found: dict[int, int] = {}
    while len(found) < count:
        frame = client.expect(DISPOSITION)
        first, last = frame.field(1), frame.field(2)
        for number in range(first, (first if last is None else last) + 1):
            assert number not in found
            found[number] = int(frame.field(4).descriptor)
    return sorted(found.items())


def detach(client: Amqp10Client, handle: int) -> None:
    client.send(DETACH, UInt(handle), True)
    client.expect(DETACH)


def test_a_message_for_several_queues_is_accepted_once(
    broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest
) -> None:
    exchange = broker.exchange_name()
    ch.declare_exchange(exchange, "fanout")
    names = [queue(ch, broker, kind, x_queue_type=kind) for kind in ("classic", "quorum", "stream")]
    for name in names:
        ch.bind(name, exchange)
    amqp10.sender(f"/exchanges/{exchange}")
    numbers = [amqp10.transfer(message(b"x")) for _ in range(20)]
    assert settled(amqp10, 20) == [(number, ACCEPTED) for number in numbers]
    waiting.until(lambda: [ch.depth(name)[0] for name in names[:2]] == [20, 20])


def test_a_full_queue_refuses_what_wants_an_answer_and_what_does_not(
    broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest
) -> None:
    name = queue(ch, broker, x_queue_type="quorum", x_max_length=1, x_overflow="reject-publish")
    amqp10.sender(f"/queues/{name}")
    assert [amqp10.publish(message(b"x")) for _ in range(2)] == [ACCEPTED, ACCEPTED]  # it may have one more
    ch.depth(name)  # answered when publishers have been told that it takes no more
    numbers = [amqp10.transfer(message(b"x")) for _ in range(5)]
    amqp10.transfer(message(b"x"), settled=True)
    numbers.append(amqp10.transfer(message(b"x")))
    assert settled(amqp10, 6) == [(number, REJECTED) for number in numbers]
    assert ch.depth(name)[0] == 2


@pytest.mark.parametrize("arguments", [{"x-queue-type": "quorum"}, {"x-max-priority": 10}], ids=["quorum", "classic"])
def test_a_message_of_higher_priority_comes_first(
    broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest, arguments: dict[str, Any]
) -> None:
    name = queue(ch, broker, **arguments)
    amqp10.sender(f"/queues/{name}")
    for body, header in ((b"low", b""), (b"high", section(0x70, [True, UByte(5)]))):  # 4 where nothing is said
        assert amqp10.publish(message(body, before=header)) == ACCEPTED
    amqp10.receiver(f"/queues/{name}", credit=2)
    first, second = taken(amqp10, 2)
    assert (body_of(first), sections_of(first.payload)[0x70][1], body_of(second)) == ("high", 5, "low")


@KINDS
def test_when_the_active_consumer_goes_the_next_one_gets_what_there_is(
    broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest, kind: str
) -> None:
    name = queue(ch, broker, x_queue_type=kind, x_single_active_consumer=True)
    publish(amqp10, name, *"abcd")
    amqp10.receiver(f"/queues/{name}", 1, credit=2)
    got = taken(amqp10, 2)
    amqp10.receiver(f"/queues/{name}", 2, credit=3)
    amqp10.settle(got[0])
    detach(amqp10, 1)  # what it has not settled goes back
    assert [(one.field(0), body_of(one)) for one in taken(amqp10, 3)] == [(2, "b"), (2, "c"), (2, "d")]


def test_a_single_active_consumer_of_higher_priority_takes_over(
    broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest
) -> None:
    name = queue(ch, broker, x_queue_type="quorum", x_single_active_consumer=True)
    publish(amqp10, name, *"abc")
    amqp10.receiver(f"/queues/{name}", 1, credit=1)
    (got,) = taken(amqp10, 1)
    important = Map([(Symbol("rabbitmq:priority"), Int(1))])
    for handle in (2, 3):  # the last is no more important than the one before
        source, target = composite(SOURCE, [f"/queues/{name}"]), composite(TARGET, [])
        amqp10.send(ATTACH, f"in-{handle}", UInt(handle), True, None, None, source, target, *[None] * 6, important)
        amqp10.expect(ATTACH)
        amqp10.flow(handle, 1)
    amqp10.settle(got)
    (got,) = taken(amqp10, 1)
    assert (got.field(0), body_of(got)) == (2, "b")
    amqp10.settle(got)
    detach(amqp10, 2)
    (got,) = taken(amqp10, 1)
    assert (got.field(0), body_of(got)) == (3, "c")


@KINDS
def test_another_connection_gets_what_was_not_settled(
    broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest, kind: str
) -> None:
    name = queue(ch, broker, x_queue_type=kind)
    publish(amqp10, name, *"abc")
    with Amqp10Client(broker.address.port) as other:
        other.receiver(f"/queues/{name}", 1, credit=2)
        other.settle(taken(other, 2)[0])
        detach(other, 1)
    amqp10.receiver(f"/queues/{name}", 1, credit=2)
    assert sorted(body_of(one) for one in taken(amqp10, 2)) == ["b", "c"]


def test_what_comes_back_to_a_full_queue_dies(
    broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest
) -> None:
    dead = queue(ch, broker, "dead")
    name = queue(ch, broker, x_max_length=1, x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
    publish(amqp10, name, "a")
    amqp10.receiver(f"/queues/{name}", 1, credit=1)
    taken(amqp10, 1)
    assert amqp10.publish(message(b"b"), 9) == ACCEPTED  # what is delivered takes no place
    detach(amqp10, 1)
    amqp10.receiver(f"/queues/{dead}", 2, credit=1)
    assert [body_of(one) for one in taken(amqp10, 1)] == ["a"]
    assert ch.depth(name)[0] == 1


def test_a_dead_letter_goes_where_its_properties_and_annotations_say(
    broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest
) -> None:
    exchange, dead = broker.exchange_name(), queue(ch, broker, "dead")
    ch.declare_exchange(exchange, "headers")
    ch.bind(dead, exchange, arguments={"x-match": "all-with-x", "mine": 5, "x-mine": 6})
    name = queue(ch, broker, x_dead_letter_exchange=exchange, x_message_ttl=0)
    amqp10.sender(f"/queues/{name}")
    annotation, property_ = section(0x72, Map([(Symbol("x-mine"), Int(6))])), section(0x74, Map([("mine", Int(5))]))
    for body, before in ((b"1", annotation), (b"2", property_), (b"3", annotation + property_)):
        assert amqp10.publish(message(body, before=before)) == ACCEPTED
    amqp10.receiver(f"/queues/{dead}", credit=3)
    (got,) = taken(amqp10, 1)
    found = annotations_of(got.payload)
    assert (body_of(got), found["x-mine"], found["x-first-death-queue"]) == ("3", 6, name)
    assert ch.depth(dead)[0] == 0


def test_what_was_said_of_a_message_stays_with_it_while_it_dies_on(
    broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest
) -> None:
    first, second = broker.queue_name("first"), broker.queue_name("second")
    for base, other in (("first", second), ("second", first)):
        leads = {"x_dead_letter_exchange": "", "x_dead_letter_routing_key": other}
        queue(ch, broker, base, x_queue_type="quorum", **leads)
    amqp10.sender(f"/queues/{first}")
    assert amqp10.publish(message(b"m", before=section(0x73, ["id"]))) == ACCEPTED
    for handle, name in ((1, first), (2, second)):
        amqp10.receiver(f"/queues/{name}", handle)
    for handle in (1, 2):
        amqp10.flow(handle, 3)
    said: list[tuple[Any, Any]] = [
        (Symbol("x-opt-list"), ["l", Int(-99)]),
        (Symbol("x-opt-map"), Map([(Symbol("k"), Byte(-1))])),
        (Symbol("x-opt-array"), Array(b"\xa1", ["a1", "a2"])),
    ]
    for count, more in enumerate(([], [(Symbol("x-other"), Int(7))])):
        (got,) = taken(amqp10, 1)
        header = sections_of(got.payload)[0x70]
        assert (header[3], header[4] or 0) == (count == 0, count)
        amqp10.settle(got, MODIFIED, True, True, Map([*said, *more]))
    (got,) = taken(amqp10, 1)
    assert (got.field(0), body_of(got), sections_of(got.payload)[0x70][4]) == (1, "m", 2)
    found = annotations_of(got.payload)
    assert {str(key): found[key] for key, _ in said} == {str(key): value for key, value in said}
    assert (found["x-other"], type(found["x-other"])) == (7, Int if broker.differs("types-of-modified") else int)


def test_a_settled_message_to_an_exchange_that_has_gone_takes_the_link_along(
    broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest
) -> None:
    exchange = broker.exchange_name()
    ch.declare_exchange(exchange)
    amqp10.sender(f"/exchanges/{exchange}/k")
    ch.call(Exchange.Delete, exchange=exchange)
    amqp10.transfer(message(b"x"), settled=True)
    gone = amqp10.expect(DETACH)
    assert (gone.field(1), gone.field(2).value[0]) == (True, "amqp:not-found")


def test_ranges_may_be_wider_than_what_there_is_to_settle(
    broker: BrokerUnderTest, amqp10: Amqp10Client, ch: ChannelUnderTest
) -> None:
    name = queue(ch, broker)
    publish(amqp10, name, *"abcdef")
    amqp10.receiver(f"/queues/{name}", 1, credit=6)
    first = taken(amqp10, 6)[0].field(1)

    def settle(start: int, end: int) -> None:
        amqp10.send(DISPOSITION, True, UInt(start), UInt(end), True, composite(ACCEPTED, []))

    settle(first + 4, first + 9)  # behind the last
    settle(first + 1, first + 2)
    detach(amqp10, 1)
    amqp10.receiver(f"/queues/{name}", 2, credit=2)
    got = taken(amqp10, 2)
    assert [body_of(one) for one in got] == ["a", "d"]
    for _ in range(2):
        settle(first, got[1].field(1) + 9)  # around all that is left, and around nothing
    detach(amqp10, 2)
    waiting.until(lambda: ch.depth(name) == (0, 0))
