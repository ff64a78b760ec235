"""Counts of messages that went nowhere: each reason, from where, and that their memory is bounded."""

from __future__ import annotations

from typing import Any

import pytest
from pamqp import commands
from pamqp.common import FieldTable

from amqp_broker.broker.drops import ROWS_KEPT
from tests.support.client import Client, ClientChannel
from tests.support.memory_broker import MemoryBroker

QUORUM: FieldTable = {"x-queue-type": "quorum", "x-delivery-limit": 0}


@pytest.fixture
def channel(broker: MemoryBroker) -> ClientChannel:
    return Client(broker).open().channel()


def rows(broker: MemoryBroker) -> list[tuple[Any, ...]]:
    """Reason, exchange, key, user, queue, count."""
    return [
        (row["reason"], row["exchange"], row["routing_key"], row["user"], row["queue"], row["count"])
        for row in broker.drops.rows()
    ]


def test_nothing_is_counted_where_nothing_is_lost(broker: MemoryBroker, channel: ClientChannel) -> None:
    channel.declare("q")
    channel.publish("", "q", b"1")
    channel.publish("amq.topic", "nowhere", b"2", mandatory=True)
    channel.one(commands.Basic.Return)
    channel.get("q")
    channel.send(commands.Basic.Ack(1))
    assert rows(broker) == []
    assert set(broker.drops.totals().values()) == {0}


def test_what_is_unroutable_is_counted_for_its_publisher(broker: MemoryBroker, channel: ClientChannel) -> None:
    for key in ("a", "b", "a"):
        channel.publish("amq.topic", key, b"1")
    assert rows(broker) == [
        ("unroutable", "amq.topic", "a", "guest", None, 2),
        ("unroutable", "amq.topic", "b", "guest", None, 1),
    ]
    assert broker.drops.totals()["unroutable"] == 3
    (row, *_) = broker.drops.rows()
    assert (row["vhost"], row["last_at"]) == ("/", broker.clock.wall_ms())


def test_deaths_without_a_dead_letter_exchange(broker: MemoryBroker, channel: ClientChannel) -> None:
    channel.declare("short", {"x-max-length": 1})
    channel.declare("brief", {"x-message-ttl": 1000})
    channel.declare("full", {"x-max-length": 0, "x-overflow": "reject-publish"})
    channel.declare("lettered", {"x-dead-letter-exchange": "missing"})
    channel.call(commands.Queue.Declare(queue="poison", durable=True, arguments=QUORUM))
    for name in ("short", "short", "brief", "full", "lettered", "poison"):
        channel.publish("", name, b"1")
    broker.advance(1000)
    channel.get("lettered")
    channel.send(commands.Basic.Reject(1, False))
    channel.get("poison")
    channel.send(commands.Basic.Reject(2, True))
    assert sorted(rows(broker)) == [
        ("delivery_limit", "", "poison", None, "poison", 1),
        ("expired", "", "brief", None, "brief", 1),
        ("maxlen", "", "short", None, "short", 1),
        ("refused", "", "full", None, "full", 1),
        ("rejected", "", "lettered", None, "lettered", 1),
    ]


def test_dead_letters_that_lead_nowhere(broker: MemoryBroker, channel: ClientChannel) -> None:
    channel.declare("q", {"x-dead-letter-exchange": "amq.topic", "x-dead-letter-routing-key": "dead"})
    channel.declare("round", {"x-dead-letter-exchange": "", "x-message-ttl": 10})
    channel.publish("", "q", b"1")
    channel.publish("", "round", b"1")
    channel.get("q")
    channel.send(commands.Basic.Reject(1, False))
    broker.advance(100)
    assert sorted(rows(broker)) == [
        ("cycle", "", "round", None, "round", 1),
        ("dead_letter_unroutable", "amq.topic", "dead", None, "q", 1),
    ]


def test_what_was_purged_and_what_went_with_a_queue(broker: MemoryBroker, channel: ClientChannel) -> None:
    channel.declare("q")
    for _ in range(3):
        channel.publish("", "q", b"1")
    channel.call(commands.Queue.Purge(queue="q"))
    channel.publish("", "q", b"1")
    channel.call(commands.Queue.Delete(queue="q"))
    channel.declare("empty")
    channel.call(commands.Queue.Delete(queue="empty"))
    assert rows(broker) == [("purged", None, None, None, "q", 3), ("queue_deleted", None, None, None, "q", 1)]


def test_the_policy_that_set_the_limit_is_named(broker: MemoryBroker, channel: ClientChannel) -> None:
    channel.declare("q")
    channel.declare("own", {"x-max-length": 1})
    for _ in range(3):
        channel.publish("", "q", b"1")
        channel.publish("", "own", b"1")
    value: dict[str, object] = {"pattern": "", "definition": {"max-length": 1}}
    broker.handle(lambda: broker.administration.parameters.set_policy("/", "small", value))
    channel.publish("", "own", b"1")
    assert {row["queue"]: (row["policy"], row["count"]) for row in broker.drops.rows()} == {
        "q": ("small", 2),
        "own": (None, 3),
    }


def test_however_many_keys_the_memory_is_bounded_and_the_sums_are_exact(
    broker: MemoryBroker, channel: ClientChannel
) -> None:
    count = 5 * ROWS_KEPT
    for number in range(count):
        channel.publish("amq.topic", f"k{number}", b"")
        if number % 10 == 0:
            channel.publish("amq.topic", "often", b"")
    found = list(broker.drops.rows())
    assert len(found) <= 2 * ROWS_KEPT + 1
    assert (found[0]["routing_key"], found[0]["count"]) == ("often", count // 10)
    assert sum(row["count"] for row in found) == broker.drops.totals()["unroutable"] == count + count // 10
    assert [row["routing_key"] for row in found].count(None) == 1


def test_rows_go_with_their_virtual_host_and_sums_stay(broker: MemoryBroker, channel: ClientChannel) -> None:
    broker.administration.add_virtual_host("other")
    broker.administration.set_permission("guest", "other", "", ".*", "")
    other = Client(broker).open(virtual_host="other").channel()
    other.publish("amq.topic", "k", b"1")
    assert [row["vhost"] for row in broker.drops.rows("other")] == ["other"]
    assert list(broker.drops.rows("/")) == []
    broker.handle(lambda: broker.administration.delete_virtual_host("other"))
    assert rows(broker) == []
    assert broker.drops.totals()["unroutable"] == 1
