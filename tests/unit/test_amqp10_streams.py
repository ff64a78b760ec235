"""Streams read by AMQP 1.0: where a link begins, what it is filtered by, its credit, and what settling means there."""

from __future__ import annotations

from typing import Any

import pytest

from amqp_broker.protocols.amqp10.compound import Described, Map
from amqp_broker.protocols.amqp10.performatives import (
    ACCEPTED,
    ATTACH,
    DETACH,
    FLOW,
    MODIFIED,
    OPEN,
    REJECTED,
    RELEASED,
    TRANSFER,
)
from amqp_broker.protocols.amqp10.typed import Symbol, Timestamp, UByte, UInt, ULong
from tests.support.amqp10_client import Amqp10Client, Heard, annotations_of, message, section, sections_of
from tests.support.client import Client
from tests.support.disk_broker import DiskBroker
from tests.support.memory_broker import MemoryBroker

OFFSET, VALUES, UNFILTERED = "rabbitmq:stream-offset-spec", "rabbitmq:stream-filter", "rabbitmq:stream-match-unfiltered"
FIRST = {OFFSET: "first"}


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


def with_entries(broker: MemoryBroker, *entries: str) -> Amqp10Client:
    """A client, and a stream with these entries, a second apart; those that begin with o have that as filter value."""
    Client(broker).open().channel().declare("s", durable=True, arguments={"x-queue-type": "stream"})
    client = Amqp10Client(broker)
    assert client.open().code == OPEN
    client.begin()
    client.sender("/queues/s")
    for entry in entries:
        filtered = Map([(Symbol("x-stream-filter-value"), "o")] if entry.startswith("o") else [])
        client.transfer(message(entry.encode(), before=section(0x72, filtered)))
        broker.advance(1_000)
    client.read()
    return client


def reading(client: Amqp10Client, filters: dict[str, Any], **fields: Any) -> list[Heard]:
    """What is answered to a link with these filters, and what comes on it."""
    described = Map([(Symbol(name), Described(Symbol(name), value)) for name, value in filters.items()])
    return client.receiver("/queues/s", source=[*[None] * 6, described], **fields)


def bodies(heard: list[Heard]) -> list[str]:
    return [sections_of(one.payload)[0x75].decode() for one in heard if one.code == TRANSFER]


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({}, []),
        ({OFFSET: "next"}, []),
        (FIRST, ["a", "o1", "b", "o2"]),
        ({OFFSET: ULong(2)}, ["b", "o2"]),
        ({OFFSET: "3s"}, ["o1", "b", "o2"]),
        ({**FIRST, VALUES: ["o", "x"]}, ["o1", "o2"]),
        ({**FIRST, VALUES: "o"}, ["o1", "o2"]),
        ({**FIRST, VALUES: "x", UNFILTERED: True}, ["a", "b"]),
        ({**FIRST, "nonsense": 1}, ["a", "o1", "b", "o2"]),
    ],
)
def test_filters_say_where_it_begins_and_what_comes(
    broker: MemoryBroker, filters: dict[str, Any], wanted: list[str]
) -> None:
    client = with_entries(broker, "a", "o1", "b", "o2")
    attach, *heard = reading(client, filters, credit=10)
    assert attach.code == ATTACH
    assert {str(name) for name, _ in attach.field(5).value[7].pairs} == filters.keys() - {"nonsense"}
    assert bodies(heard) == wanted


def test_a_time_is_a_place_and_a_filter_need_not_be_described(broker: MemoryBroker) -> None:
    client = with_entries(broker, "a", "b", "c")
    at = Timestamp(broker.clock.wall_ms() - 2_000)
    plain = Map([(Symbol(OFFSET), at)])
    assert bodies(client.receiver("/queues/s", source=[*[None] * 6, plain], credit=10)) == ["b", "c"]


def test_each_says_its_offset(broker: MemoryBroker) -> None:
    client = with_entries(broker, *(str(number) for number in range(300)))
    heard = reading(client, FIRST, credit=300)
    said = [annotations_of(one.payload) for one in heard if one.code == TRANSFER]
    assert [one["x-stream-offset"] for one in said] == list(range(300))
    assert said[0]["x-routing-key"] == "s"


def test_filters_mean_nothing_to_other_queues(broker: MemoryBroker) -> None:
    client = with_entries(broker)
    Client(broker).open().channel().declare("q", durable=True)
    described = Map([(Symbol(OFFSET), Described(Symbol(OFFSET), "first"))])
    (attach,) = client.receiver("/queues/q", 2, source=[*[None] * 6, described])
    assert attach.code == ATTACH


PROPERTIES, APPLICATION = "amqp:properties-filter", "amqp:application-properties-filter"


def described(name: Any, *pairs: tuple[str, Any]) -> Described:
    return Described(name, Map([(Symbol(key), value) for key, value in pairs]))


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ([described(Symbol(PROPERTIES), ("subject", "apple"))], ["a"]),
        ([described(ULong(0x173), ("subject", "&p:app"))], ["a", "b"]),
        ([described(Symbol(PROPERTIES), ("subject", "&s:le"))], ["a"]),
        ([described(Symbol(PROPERTIES), ("subject", "&&c"))], ["d"]),
        ([described(Symbol(PROPERTIES), ("subject", None), ("message-id", ULong(2)))], ["b"]),
        ([described(Symbol(PROPERTIES), ("subject", None))], ["a", "b", "c", "d"]),
        ([described(Symbol(PROPERTIES), ("subject", "apple"), ("message-id", ULong(2)))], []),
        ([described(Symbol(PROPERTIES), ("message-id", 1.0))], ["a"]),
        ([described(Symbol(PROPERTIES), ("message-id", True))], []),
        ([described(Symbol(PROPERTIES), ("message-id", "1"))], []),
        ([described(Symbol(APPLICATION), ("n", UByte(1)))], ["a", "c"]),
        ([described(ULong(0x174), ("n", None))], ["a", "b", "c"]),
        ([described(Symbol(APPLICATION), ("n", UByte(1)), ("color", "red"))], ["c"]),
        ([described(Symbol(APPLICATION), ("bytes", b"x"))], ["b"]),
        (
            [described(Symbol(APPLICATION), ("n", UByte(1))), described(Symbol(PROPERTIES), ("subject", "apple"))],
            ["a"],
        ),
    ],
)
@pytest.mark.parametrize("broker_type", [MemoryBroker, DiskBroker])
def test_filters_by_properties(broker_type: type[MemoryBroker], filters: list[Described], wanted: list[str]) -> None:
    client = with_entries(broker_type())
    client.sender("/queues/s", 3)
    entries = [
        ("a", [ULong(1), None, None, "apple"], [("n", UByte(1)), ("color", "green")]),
        ("b", [ULong(2), None, None, "application"], [("n", UByte(2)), ("bytes", b"x")]),
        ("c", [], [("n", UInt(1)), ("color", "red")]),
        ("d", [ULong(2**63), None, None, "&c"], []),
    ]
    for body, properties, application in entries:
        before = section(0x73, properties) + section(0x74, Map([*application]))
        client.transfer(message(body.encode(), before=before), 3)
    client.read()
    named = {"first": Described(Symbol(OFFSET), "first"), **{f"mine {place}": one for place, one in enumerate(filters)}}
    said = Map([(Symbol(OFFSET if name == "first" else name), one) for name, one in named.items()])
    attach, *heard = client.receiver("/queues/s", source=[*[None] * 6, said], credit=len(wanted) + 1)
    assert attach.field(5).value[7] == said
    assert bodies(heard) == wanted
    client.flow(1, 1, count=(0xFFFF_FFFB + len(wanted)) & 0xFFFF_FFFF, drain=True)
    assert [(one.code, one.field(6)) for one in client.read()] == [(FLOW, 0)], "what is passed by takes no credit"


@pytest.mark.parametrize(
    "filter_",
    [
        described(Symbol(PROPERTIES), ("subject", "&x:apple")),
        described(Symbol(PROPERTIES), ("colour", "apple")),
        described(Symbol(PROPERTIES)),
        described(Symbol(APPLICATION), *((f"n{number}", 1) for number in range(17))),
        Described(Symbol(APPLICATION), Map([(5, 1)])),
        Described(Symbol(APPLICATION), "text"),
        described(Symbol("amqp:sql-filter"), ("subject", "apple")),
        Map([(Symbol("subject"), "apple")]),
    ],
)
def test_a_filter_by_properties_that_is_none_is_passed_over(broker: MemoryBroker, filter_: Any) -> None:
    client = with_entries(broker, "a", "b")
    first = (Symbol(OFFSET), Described(Symbol(OFFSET), "first"))
    said = Map([first, (Symbol(PROPERTIES), filter_)])
    attach, *heard = client.receiver("/queues/s", source=[*[None] * 6, said], credit=5)
    assert attach.field(5).value[7] == Map([first])
    assert bodies(heard) == ["a", "b"]


@pytest.mark.parametrize("name", [PROPERTIES, APPLICATION])
def test_the_last_one_of_a_kind_counts(broker: MemoryBroker, name: str) -> None:
    client = with_entries(broker)
    client.sender("/queues/s", 3)
    for body in ("a", "b"):
        before = section(0x73, [None, None, None, body]) + section(0x74, Map([("subject", body)]))
        client.transfer(message(body.encode(), before=before), 3)
    client.read()
    first = (Symbol(OFFSET), Described(Symbol(OFFSET), "first"))
    last = (Symbol("last"), described(Symbol(name), ("subject", "b")))
    many = [(Symbol(f"n{number}"), described(Symbol(name), ("subject", "a"))) for number in range(1_000)]
    attach, *heard = client.receiver("/queues/s", source=[*[None] * 6, Map([first, *many, last])], credit=5)
    assert attach.field(5).value[7] == Map([first, last]), "who names very many has each entry compared once"
    assert bodies(heard) == ["b"]


def test_what_is_passed_by_for_its_properties_gives_others_their_turn(broker: MemoryBroker) -> None:
    client = with_entries(broker)
    client.sender("/queues/s", 3)
    for body, pair in [*[("m", ("long", "x" * 5_000))] * 20, ("last", ("n", UInt(1)))]:
        client.transfer(message(body.encode(), before=section(0x74, Map([pair]))), 3)
    client.read()
    filters = [(OFFSET, Described(Symbol(OFFSET), "first")), ("n", described(Symbol(APPLICATION), ("n", UInt(1))))]
    said = Map([(Symbol(name), one) for name, one in filters])
    broker.works.slice_messages = 100
    client.receiver("/queues/s", source=[*[None] * 6, said])
    with broker.holding_works():
        client.flow(1, 5)
        assert broker.is_unfinished
    assert bodies(client.read()) == ["last"]


def test_what_makes_no_sense_as_a_place_ends_the_session(broker: MemoryBroker) -> None:
    client = with_entries(broker)
    (end,) = reading(client, {OFFSET: "yesterday"})
    assert "x-stream-offset" in end.field(0).value[1]


@pytest.mark.parametrize("behave_like", ["3.13", "4.0"])
@pytest.mark.parametrize("outcome", [ACCEPTED, REJECTED, RELEASED, MODIFIED])
def test_whatever_becomes_of_an_entry_it_stays_and_comes_once(behave_like: str, outcome: int) -> None:
    broker = MemoryBroker(behave_like=behave_like)
    client = with_entries(broker, "a", "b")
    _, first = reading(client, FIRST, credit=1)
    client.settle(first.field(1), None, outcome)
    assert broker.queue("s").unacknowledged_count == 0
    client.flow(1, 1, count=0xFFFF_FFFC)
    assert bodies(client.read()) == ["b"]
    assert broker.queue("s").ready_count == 2


def test_what_is_sent_settled_is_nobodys(broker: MemoryBroker) -> None:
    client = with_entries(broker, "a", "b")
    heard = reading(client, FIRST, credit=10, settled=True)
    assert bodies(heard) == ["a", "b"]
    assert broker.queue("s").unacknowledged_count == 0


def test_drain_ends_at_the_end_and_tells_how_much_there_is(broker: MemoryBroker) -> None:
    client = with_entries(broker, "a", "b", "c")
    reading(client, FIRST)
    client.flow(1, 1, echo=True)
    transfer, flow = client.read()
    assert (transfer.code, flow.code, flow.field(7)) == (TRANSFER, FLOW, 2)
    client.flow(1, 5, count=0xFFFF_FFFC, drain=True)
    *transfers, flow = client.read()
    assert bodies(transfers) == ["b", "c"]
    assert (flow.field(5), flow.field(6), flow.field(8)) == (1, 0, True)
    client.flow(1, 2, count=1, drain=True)
    (flow,) = client.read()
    assert (flow.code, flow.field(5), flow.field(6)) == (FLOW, 3, 0)


def test_detach_leaves_nothing_behind(broker: MemoryBroker) -> None:
    client = with_entries(broker, "a")
    reading(client, FIRST, credit=1)
    client.send(DETACH, UInt(1), True)
    assert [one.code for one in client.read()] == [DETACH]
    queue = broker.queue("s")
    assert (queue.unacknowledged_count, len(queue.consumers)) == (0, 0)
