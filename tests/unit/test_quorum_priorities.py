"""Priorities of quorum queues, as RabbitMQ 4.0 and 4.3 have them. interop/ asks 4.0.5 itself the same.

4.3: rabbit_fifo_pq.erl (32 bands, the highest first) and msg_priority/1 in rabbit_fifo.erl (none is 4, 31 at most).
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqp_broker.broker.message import Address, Message
from amqp_broker.broker.peeking import Peek, PeekBounds
from amqp_broker.broker.queues.ready_in_bands import TwoHighOneNormal
from tests.support.client import Client, ClientChannel
from tests.support.disk_broker import DiskBroker, small_pages
from tests.support.memory_broker import MemoryBroker
from tests.support.walking import walk_through

NOWHERE = Address("", "q", b"\x00\x01q")
CAME = (b"n", b"0", b"4", b"1", b"5a", b"5b", b"9", b"31", b"40", b"3")
SERVED = {
    "3.13": list(CAME),
    "4.0": [b"5a", b"5b", b"n", b"9", b"31", b"0", b"40", b"4", b"1", b"3"],
    "4.3": [b"31", b"40", b"9", b"5a", b"5b", b"n", b"4", b"3", b"1", b"0"],
}


def channel_of(series: str) -> ClientChannel:
    return Client(MemoryBroker(behave_like=series)).open().channel()


def fill(channel: ClientChannel, came: tuple[bytes, ...] = CAME, mode: int = 2, **arguments: int | str) -> None:
    """Messages in a quorum queue: n... with no priority, others with the one that they are named by."""
    table = {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
    channel.declare("q", {"x-queue-type": "quorum", **table}, durable=True)
    for body in came:
        digits = bytes([one for one in body if one in b"0123456789"])
        properties: dict[str, Any] = {"priority": int(digits)} if digits else {}
        channel.publish("", "q", body, delivery_mode=mode, **properties)


@pytest.mark.parametrize("series", SERVED)
def test_the_order_of_delivery(series: str) -> None:
    channel = channel_of(series)
    fill(channel)
    channel.consume("q")
    assert channel.bodies() == SERVED[series]


@pytest.mark.parametrize("series", SERVED)
def test_what_is_returned_goes_before_all(series: str) -> None:
    channel = channel_of(series)
    fill(channel, delivery_limit=3)
    for _ in range(2):
        channel.get("q")
    channel.nack(2)
    channel.nack(1)
    channel.publish("", "q", b"late", priority=9)
    first, second, *others = channel.drain("q")
    assert [second, first] == SERVED[series][:2]
    assert b"late" in others


@pytest.mark.parametrize("series", SERVED)
def test_what_is_returned_too_often_dies_and_the_others_stay(series: str) -> None:
    channel = channel_of(series)
    channel.declare("dead", durable=True)
    fill(channel, delivery_limit=0, dead_letter_exchange="", dead_letter_routing_key="dead")
    channel.get("q")
    channel.nack(1)
    assert channel.drain("dead") == SERVED[series][:1]
    assert channel.drain("q") == SERVED[series][1:]


@pytest.mark.parametrize("series", SERVED)
def test_what_is_too_much_goes_in_the_order_of_delivery(series: str) -> None:
    channel = channel_of(series)
    fill(channel, (b"na", b"nb", b"9"), max_length=2)
    assert channel.drain("q") == ([b"nb", b"9"] if series == "3.13" else [b"na", b"nb"])


@pytest.mark.parametrize("series", SERVED)
def test_all_are_purged(series: str) -> None:
    channel = channel_of(series)
    fill(channel)
    assert channel.message_count("q") == len(CAME)
    channel.client.broker.queue("q").purge()
    assert channel.message_count("q") == 0
    fill(channel, (b"0", b"9"))
    assert channel.message_count("q") == 2


@pytest.mark.parametrize("mode", [1, 2], ids=["transient", "persistent"])
@pytest.mark.parametrize("series", ["4.0", "4.3"])
def test_on_disk_and_over_a_restart(series: str, mode: int) -> None:
    """Turns begin anew, and high ones that were read later than others count as younger."""
    with small_pages():
        broker = DiskBroker(behave_like=series, memory_budget_bytes=2)
        channel = broker.client().channel()
        normal = tuple(f"n{chr(97 + number)}".encode() for number in range(9))
        high = tuple(f"9{chr(97 + number)}".encode() for number in range(9))
        fill(channel, normal + high, mode)
        assert broker.on_disk_only("q") > 0
        if mode == 2:
            broker = broker.restarted()
            channel = broker.client().channel()
        served = channel.drain("q")
    assert [body for body in served if body in high] == list(high)
    assert [body for body in served if body in normal] == list(normal)
    turns = "".join("h" if body in high else "n" for body in served)
    assert turns == ("hhn" * 4 + "h" + "n" * 5 if series == "4.0" else "h" * 9 + "n" * 9)
    assert broker.paging.used_bytes == 0


def test_those_who_look_in_see_the_high_ones_first_and_change_nothing() -> None:
    with small_pages():
        broker = DiskBroker(behave_like="4.0", memory_budget_bytes=2)
        channel = broker.client().channel()
        fill(channel)
        peek = Peek(broker, broker.queue("q"), PeekBounds(limit=100))
        walk_through(broker, peek.steps())
        seen = [one["payload"].encode() for one in peek.seen()["messages"]]
        assert seen == [b"5a", b"5b", b"9", b"31", b"40", b"n", b"0", b"4", b"1", b"3"]
        assert channel.drain("q") == SERVED["4.0"]


def test_redelivered_is_what_was_handed_out_of_each_band() -> None:
    broker = DiskBroker(behave_like="4.0")
    channel = broker.client().channel()
    fill(channel, (b"na", b"9a", b"nb", b"9b", b"9c"))
    for _ in range(2):
        channel.get("q")
    broker = broker.killed()
    again = [(one.body, one.redelivered) for one in broker.queue("q").messages()]
    assert again == [(b"9a", True), (b"9b", True), (b"9c", False), (b"na", False), (b"nb", False)]


@pytest.mark.parametrize("before", SERVED)
@pytest.mark.parametrize("after", SERVED)
def test_a_folder_opens_whichever_rabbitmq_it_was_written_like(before: str, after: str) -> None:
    broker = DiskBroker(behave_like=before)
    channel = broker.client().channel()
    fill(channel)
    taken = channel.get("q")
    assert taken is not None
    broker = broker.killed(behave_like=after)
    marked = {message.body for message in broker.queue("q").messages() if message.redelivered}
    assert taken.body in marked
    assert broker.client().channel().drain("q") == SERVED[after]


def test_marks_that_are_no_queues_own_are_refused_where_bands_are_declared() -> None:
    broker = MemoryBroker()
    channel = Client(broker).open().channel()
    channel.declare("q", {"x-max-priority": 3}, durable=True)
    assert not broker.queue("q").adopt_marks([1, 2])
    assert broker.queue("q").adopt_marks([1, 2, 3, 4])


@given(st.lists(st.booleans(), max_size=30), st.lists(st.integers(0, 3), max_size=30))
def test_two_turns_of_three_while_there_are_both(highs: list[bool], takes: list[int]) -> None:
    """Against the rule in its plainest form: two lists and a count."""
    ready, waiting, turn = TwoHighOneNormal(), {True: list[int](), False: list[int]()}, 0
    for position, is_high in enumerate(highs):
        message = Message(NOWHERE, b"", b"", False, 9 if is_high else 0)
        message.position = position
        ready.append(message)
        waiting[is_high].append(position)
        for _ in range(takes[position] if position < len(takes) else 0):
            if not len(ready):
                assert ready.head() is None
                break
            high, normal = waiting[True], waiting[False]
            takes_high = bool(high) and (turn < 2 or not normal or high[0] < normal[0])
            expected = (high if takes_high else normal).pop(0)
            turn = (turn + 1) % 3
            head = ready.head()
            assert head is not None
            assert head.position == expected
            assert ready.pop() is head
    assert len(ready) == len(waiting[True]) + len(waiting[False])
