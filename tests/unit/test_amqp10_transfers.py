"""Deliveries of AMQP 1.0 that go out in many transfers: how far the window goes, and how much is made at once."""

from __future__ import annotations

import pytest

from amqp_broker.protocols.amqp10.performatives import DETACH, DISPOSITION, FLOW, TRANSFER
from amqp_broker.protocols.amqp10.transfers import TAKEN_AT_ONCE_BYTES
from amqp_broker.protocols.amqp10.typed import UInt
from tests.support.amqp10_client import Amqp10Client, Heard, message, sections_of
from tests.support.client import Client
from tests.support.memory_broker import MemoryBroker

FRAME_BYTES = 512
HIGH_WATER_BYTES = 65_536
BODY = bytes(range(256)) * 4_096


def client_of(broker: MemoryBroker, *, window: int, body: bytes) -> Amqp10Client:
    """A client of small frames, for which a message waits in each of the queues p and q."""
    other = Client(broker).open().channel()
    client = Amqp10Client(broker)
    client.open(frame_bytes=FRAME_BYTES)
    client.begin(window=window)
    for queue in "pq":
        other.declare(queue, durable=True)
        other.publish("", queue, body)
    for handle, queue in enumerate("pq"):
        client.receiver(f"/queues/{queue}", handle)
    return client


def body_of(transfers: list[Heard]) -> bytes:
    """The body of the message that these transfers are."""
    assert [one.field(5) for one in transfers] == [True] * (len(transfers) - 1) + [False]
    found = sections_of(b"".join(one.payload for one in transfers))[0x75]
    assert isinstance(found, bytes)
    return found


def grant(client: Amqp10Client, heard: int, window: int, handle: int | None = None) -> None:
    """Give the session a window, having heard so many transfers, and a link the credit for one delivery."""
    link = [] if handle is None else [UInt(handle), None, UInt(1)]
    client.send(FLOW, UInt((0xFFFF_FFFD + heard) % 2**32), UInt(window), UInt(0), UInt(100), *link)


def test_a_large_message_in_small_frames_is_made_as_the_client_takes_it() -> None:
    broker = MemoryBroker(outbound_high_water_bytes=HIGH_WATER_BYTES)
    client = client_of(broker, window=1_000_000, body=BODY)
    grant(client, 0, 1_000_000, 0)
    heard: list[Heard] = []
    waiting_bytes: list[int] = []
    while broker.queue("p").unacknowledged_count and (client.connection.waiting_bytes or not heard):
        waiting_bytes.append(client.connection.waiting_bytes)
        heard += client.read()
    assert body_of(heard) == BODY
    assert max(waiting_bytes) <= HIGH_WATER_BYTES + TAKEN_AT_ONCE_BYTES
    assert len(waiting_bytes) > len(BODY) // (HIGH_WATER_BYTES + TAKEN_AT_ONCE_BYTES)


def test_other_links_go_on_when_the_client_has_taken_a_large_message() -> None:
    broker = MemoryBroker(outbound_high_water_bytes=HIGH_WATER_BYTES)
    client = client_of(broker, window=1_000_000, body=BODY)
    grant(client, 0, 1_000_000, 0)
    grant(client, 0, 1_000_000, 1)
    heard: list[Heard] = []
    while client.connection.waiting_bytes:
        heard += client.read()
    for handle in (0, 1):
        assert body_of([one for one in heard if one.field(0) == handle]) == BODY
    order = [one.field(0) for one in heard]
    assert order == sorted(order), "a delivery is sent whole before another begins"


@pytest.mark.parametrize("windows", [[1, 2, 3], [4, 1, 1], [1, 1, 1, 1, 1, 1]])
def test_no_more_transfers_come_than_the_window_has_room_for(windows: list[int]) -> None:
    body = bytes(range(256)) * 10
    client = client_of(MemoryBroker(), window=0, body=body)
    heard: list[Heard] = []
    for window in windows:
        grant(client, len(heard), window, None if heard else 0)
        came = client.read()
        assert [one.code for one in came] == [TRANSFER] * window
        heard += came
    assert body_of(heard) == body
    grant(client, len(heard), 1)
    assert client.read() == []


def test_a_message_of_one_transfer_waits_for_the_window_behind_a_larger_one() -> None:
    client = client_of(MemoryBroker(), window=1, body=bytes(FRAME_BYTES))
    client.sender("/queues/p", 2)
    client.transfer(message(b"small"), 2)
    grant(client, 0, 1, 0)
    grant(client, 1, 0, 1)
    (settled, first) = client.read()
    assert (settled.code, first.code, first.field(5)) == (DISPOSITION, TRANSFER, True)
    grant(client, 1, 9)
    assert [one.field(5) for one in client.read()] == [False, True, False]


def test_what_is_left_of_a_message_is_not_sent_on_a_link_that_is_detached() -> None:
    broker = MemoryBroker(outbound_high_water_bytes=HIGH_WATER_BYTES)
    client = client_of(broker, window=1_000_000, body=BODY)
    grant(client, 0, 1_000_000, 0)
    client.send(DETACH, UInt(0), True)
    heard: list[Heard] = []
    while client.connection.waiting_bytes:
        heard += client.read()
    assert [one.code for one in heard] == [TRANSFER] * (len(heard) - 1) + [DETACH]
    assert len(heard) < len(BODY) // FRAME_BYTES
    grant(client, len(heard) - 1, 1_000_000, 1)
    assert broker.queue("q").unacknowledged_count == 1
    assert broker.queue("p").ready_count == 1
