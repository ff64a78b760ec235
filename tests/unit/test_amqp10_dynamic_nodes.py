"""Queues that links of AMQP 1.0 have made for themselves: their addresses, who may use them, and when they go."""

from __future__ import annotations

from typing import Any

import pytest

from amqp_broker.protocols.amqp10.compound import Described, Map
from amqp_broker.protocols.amqp10.performatives import (
    ACCEPTED,
    ATTACH,
    BEGIN,
    DETACH,
    DISPOSITION,
    END,
    OPEN,
    RELEASED,
    TRANSFER,
)
from amqp_broker.protocols.amqp10.typed import Symbol, UInt, ULong
from tests.support.amqp10_client import Amqp10Client, Heard, message, section, sections_of
from tests.support.disk_broker import DiskBroker
from tests.support.memory_broker import MemoryBroker

DYNAMIC = [None, None, None, True]  # behind the address
LIFETIME = Map([(Symbol("lifetime-policy"), Described(ULong(0x2B), []))])


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


def opened(broker: MemoryBroker) -> Amqp10Client:
    client = Amqp10Client(broker)
    assert client.open().code == OPEN
    assert client.begin().code == BEGIN
    return client


def made(attach: Heard, place: int) -> str:
    """The address that an attach tells of the source (5) or the target (6), whose other fields are looked at."""
    assert attach.code == ATTACH
    address, *others = attach.field(place).value[:6]
    assert others == [0, "link-detach", 0, True, LIFETIME]
    assert str(address).startswith("/queues/amq.gen-")
    return str(address)


def bodies(heard: list[Heard]) -> list[bytes]:
    return [sections_of(one.payload)[0x75] for one in heard if one.code == TRANSFER]


def test_who_asks_gets_the_answer_in_a_queue_of_its_own(broker: MemoryBroker) -> None:
    asking, answering = opened(broker), opened(broker)
    attach, *_ = asking.receiver(None, source=[*DYNAMIC, None, Symbol("copy")], credit=10)
    address = made(attach, 5)
    assert attach.field(5).value[6] == "copy", "what follows is as it was asked for"
    answering.sender(None)
    answering.transfer(message(b"answer", before=section(0x73, [None, None, address])))
    (settled,) = [one for one in answering.read() if one.code == DISPOSITION]
    assert int(settled.field(4).descriptor) == ACCEPTED
    heard = asking.read()
    assert bodies(heard) == [b"answer"]
    asking.settle(heard[0].field(1))
    asking.send(DETACH, UInt(1), True)
    assert [one.code for one in asking.read()] == [DETACH]
    assert not broker.virtual_host.queues
    answering.transfer(message(b"late", before=section(0x73, [None, None, address])))
    (settled,) = [one for one in answering.read() if one.code == DISPOSITION]
    assert int(settled.field(4).descriptor) == RELEASED


def test_a_target_is_a_queue_which_the_connection_alone_reads(broker: MemoryBroker) -> None:
    client, other = opened(broker), opened(broker)
    attach, *_ = client.sender(None, target=DYNAMIC)
    address = made(attach, 6)
    client.transfer(message(b"one"))
    client.begin(channel=1)
    (end,) = other.receiver(address)
    assert (end.code, end.error) == (END, "amqp:resource-locked")
    assert bodies(client.receiver(address, 2, credit=1)) == [b"one"]
    client.send(DETACH, UInt(0), True)
    gone = client.read()
    assert sorted((one.code, one.field(0), one.error) for one in gone) == [
        (DETACH, 0, ""),
        (DETACH, 2, "amqp:resource-deleted"),
    ]
    assert not broker.virtual_host.queues


@pytest.mark.parametrize("is_receiver", [True, False])
@pytest.mark.parametrize("ending", ["detach", "end", "lost", "deleted"])
def test_the_queue_goes_with_its_link(ending: str, is_receiver: bool) -> None:
    broker = DiskBroker()
    before = broker.live_records()
    client = opened(broker)
    if is_receiver:
        attach, *_ = client.receiver(None, source=DYNAMIC)
    else:
        attach, *_ = client.sender(None, target=DYNAMIC)
    name = made(attach, 5 if is_receiver else 6).removeprefix("/queues/")
    handle = 1 if is_receiver else 0
    other = opened(broker)
    other.sender(f"/queues/{name}")
    other.transfer(message(b"m"))
    if is_receiver:
        client.flow(handle, 1)
        assert bodies(client.read()) == [b"m"], "it has one that it has not settled"
    if ending == "detach":
        client.send(DETACH, UInt(handle), True)
    elif ending == "end":
        client.send(END)
    elif ending == "lost":
        client.drop()
    else:
        broker.handle(lambda: broker.virtual_host.remove_queue(broker.queue(name)))
    broker.settle()
    assert name not in broker.virtual_host.queues
    assert other.read()[-1].error == "amqp:resource-deleted"
    assert broker.live_records() == before


@pytest.mark.parametrize("is_receiver", [True, False])
def test_what_has_an_address_is_not_made(broker: MemoryBroker, is_receiver: bool) -> None:
    client = opened(broker)
    attach: Any = client.receiver if is_receiver else client.sender
    (end,) = attach("/queues/mine", source=DYNAMIC, target=DYNAMIC)
    assert (end.code, end.error) == (END, "amqp:invalid-field")
    assert not broker.virtual_host.queues


@pytest.mark.parametrize(
    ("configure", "write", "read", "is_receiver"),
    [("", ".*", ".*", True), ("", ".*", ".*", False), (".*", ".*", "", True), (".*", "", ".*", False)],
)
def test_who_may_not_leaves_nothing_behind(
    broker: MemoryBroker, configure: str, write: str, read: str, is_receiver: bool
) -> None:
    broker.administration.set_permission("guest", "/", configure or "^$", write or "^$", read or "^$")
    client = opened(broker)
    attach: Any = client.receiver if is_receiver else client.sender
    (end,) = attach(None, source=DYNAMIC, target=DYNAMIC)
    assert (end.code, end.error) == (END, "amqp:unauthorized-access")
    assert not broker.virtual_host.queues
