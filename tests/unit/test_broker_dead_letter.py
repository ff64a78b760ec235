"""Dead letters and length limits: why a message died, what is written on it, where it goes, and where cycles end."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from pamqp import commands
from pamqp.common import FieldTable

from amqp_broker.behaviour import BEHAVIOURS
from amqp_broker.broker.dead_letter import DeathReason, dead_lettered
from amqp_broker.broker.message import Address, Message, carried_key
from amqp_broker.wire.content import Properties, encode_content_header
from amqp_broker.wire.errors import WireError
from amqp_broker.wire.table import NESTING_DEPTH_MAX, FieldValue
from tests.support.client import Client, ClientChannel, Received
from tests.support.memory_broker import MemoryBroker


@pytest.fixture
def channel(broker: MemoryBroker) -> ClientChannel:
    """A channel that dead letters end up in front of: the queue ``dead``."""
    made = Client(broker).open().channel()
    made.declare("dead")
    made.exchange("dlx", "fanout")
    made.bind("dead", "dlx")
    return made


def mortal(**arguments: Any) -> FieldTable:
    """Arguments of a queue whose messages go to ``dlx`` when they die; underscores stand for hyphens."""
    named = {"x-" + name.replace("_", "-"): value for name, value in arguments.items()}
    return {"x-dead-letter-exchange": "dlx", **named}


def the_dead(channel: ClientChannel, queue: str = "dead") -> Received:
    """The one message in a queue."""
    message = channel.get(queue, no_ack=True)
    assert message is not None
    assert channel.get(queue) is None
    return message


def deaths(message: Received) -> list[tuple[Any, ...]]:
    """Queue, reason and count of each entry of its history."""
    return [(death["queue"], death["reason"], death["count"]) for death in message.headers["x-death"]]


# --- the four reasons


def test_each_death_has_its_own_time(channel: ClientChannel, broker: MemoryBroker) -> None:
    """Messages that are alike die alike, but not at the same time."""
    channel.declare("q", mortal())
    for _ in range(3):
        channel.publish("", "q", b"x")
    for tag, pause_ms in ((1, 0), (2, 1000), (3, 3000)):
        broker.advance(pause_ms)
        channel.get("q")
        channel.reject(tag, requeue=False)
    times = []
    for _ in range(3):
        message = channel.get("dead", no_ack=True)
        assert message is not None
        times.append(message.headers["x-death"][0]["time"].timestamp())
    assert [time_s - times[0] for time_s in times] == [0, 1, 4]


def test_messages_that_are_alike_but_for_one_thing_die_each_its_own_death(channel: ClientChannel) -> None:
    """What the last one became is remembered, and does not stand for the next."""
    channel.exchange("x", "topic")
    for queue in ("a", "b"):
        channel.declare(queue, mortal(max_length=2))
        channel.bind(queue, "x", f"{queue}.#")
        channel.bind(queue, "x", "both")
    for key in ("a.1", "a.2", "a.2", "both"):  # the first two of a have to make room
        channel.publish("x", key, b"")
    for tag, queue in enumerate(("a", "a", "b"), 1):
        channel.get(queue)
        channel.reject(tag, requeue=False)
    died = []
    while (message := channel.get("dead", no_ack=True)) is not None:
        (death,) = message.headers["x-death"]
        died.append((death["queue"], death["reason"], death["routing-keys"]))
    assert died == [
        ("a", "maxlen", ["a.1"]),
        ("a", "maxlen", ["a.2"]),
        ("a", "rejected", ["a.2"]),
        ("a", "rejected", ["both"]),
        ("b", "rejected", ["both"]),
    ]


def test_rejected(channel: ClientChannel) -> None:
    channel.exchange("x")
    channel.declare("q", mortal())
    channel.bind("q", "x", "k")
    channel.publish("x", "k", b"body", headers={"a": 1}, correlation_id="7")
    channel.get("q")
    channel.reject(1, requeue=False)
    message = the_dead(channel)
    assert message.body == b"body"
    assert message.properties is not None
    assert message.properties.correlation_id == "7"
    assert message.headers["a"] == 1
    assert message.headers["x-first-death-reason"] == "rejected"
    assert message.headers["x-first-death-queue"] == "q"
    assert message.headers["x-first-death-exchange"] == "x"
    (death,) = message.headers["x-death"]
    assert sorted(death) == ["count", "exchange", "queue", "reason", "routing-keys", "time"]
    assert (death["exchange"], death["routing-keys"], death["count"]) == ("x", ["k"], 1)
    method = message.expect(commands.Basic.GetOk)
    assert (method.exchange, method.routing_key, method.redelivered) == ("dlx", "k", False)


def test_expired(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.declare("q", mortal())
    channel.publish("", "q", b"body", expiration="50")
    broker.advance(50)
    message = the_dead(channel)
    assert deaths(message) == [("q", "expired", 1)]
    assert message.headers["x-death"][0]["original-expiration"] == "50"
    assert message.properties is not None
    assert not message.properties.expiration
    broker.advance(1_000)


def test_maxlen(channel: ClientChannel) -> None:
    channel.declare("q", mortal(max_length=1))
    channel.publish("", "q", b"old")
    channel.publish("", "q", b"new")
    message = the_dead(channel)
    assert (message.body, deaths(message)) == (b"old", [("q", "maxlen", 1)])


def test_delivery_limit(channel: ClientChannel) -> None:
    channel.declare("q", mortal(queue_type="quorum", delivery_limit=2), durable=True)
    channel.publish("", "q", b"poison")
    for tag in (1, 2, 3):
        assert channel.get("q") is not None
        channel.nack(tag)
    assert deaths(the_dead(channel)) == [("q", "delivery_limit", 1)]
    assert channel.get("q") is None


# --- where it goes


def test_a_routing_key_of_its_own_makes_no_copies(channel: ClientChannel) -> None:
    channel.declare("cc")
    channel.declare("q", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    channel.publish("", "q", b"x", headers={"CC": ["cc"]})
    channel.drain("cc")
    channel.get("q")
    channel.nack(channel_tag(channel), requeue=False)
    message = the_dead(channel)
    assert message.headers["CC"] == ["cc"]
    assert message.headers["x-death"][0]["routing-keys"] == ["q", "cc"]
    assert channel.drain("cc") == []


def test_a_routing_key_that_is_too_long_for_a_message_is_cut_there(channel: ClientChannel) -> None:
    channel.declare("q", mortal(dead_letter_routing_key="k" * 300))
    channel.publish("", "q", b"x")
    channel.get("q")
    channel.reject(1, requeue=False)
    assert the_dead(channel).body == b"x"
    assert len(carried_key("\udc80" * 300).encode("utf-8", "surrogateescape")) == 252


def channel_tag(channel: ClientChannel) -> int:
    """The delivery tag that was given out last."""
    return channel.client.connection.channels[channel.number].consuming._next_tag - 1


def test_without_one_the_keys_and_copies_stay(channel: ClientChannel) -> None:
    channel.exchange("topics", "topic")
    channel.declare("by-copy")
    channel.bind("by-copy", "topics", "copy")
    channel.declare("q", {"x-dead-letter-exchange": "topics"})
    channel.publish("", "q", b"x", headers={"CC": ["copy"]})
    channel.get("q")
    channel.reject(1, requeue=False)
    assert the_dead(channel, "by-copy").headers["CC"] == ["copy"]


def test_no_exchange_no_letter(channel: ClientChannel) -> None:
    channel.declare("q", {"x-dead-letter-exchange": "missing"})
    channel.publish("", "q", b"x")
    channel.get("q")
    channel.reject(1, requeue=False)
    assert channel.received() == []
    assert channel.drain("dead") == []


def test_many_at_once_keep_their_order(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.declare("q", mortal(message_ttl=10))
    for number in range(20):
        channel.publish("", "q", b"%d" % number)
    broker.advance(10)
    assert channel.drain("dead") == [b"%d" % number for number in range(20)]


def test_a_consumer_that_waits_gets_the_dead(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.consume("dead")
    channel.declare("q", mortal(message_ttl=10))
    channel.publish("", "q", b"x")
    broker.advance(10)
    assert channel.bodies() == [b"x"]


# --- again and again


def test_dying_again_counts_up_and_comes_first(channel: ClientChannel) -> None:
    channel.declare("a", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "b"})
    channel.declare("b", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "a"})
    channel.publish("", "a", b"x")
    for index, queue in enumerate(["a", "b", "a"]):
        assert channel.get(queue) is not None
        channel.reject(index + 1, requeue=False)
    message = the_dead(channel, "b")
    assert deaths(message) == [("a", "rejected", 2), ("b", "rejected", 1)]
    assert message.headers["x-first-death-queue"] == "a"


def test_the_time_is_that_of_the_first_death(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.declare("a", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "a"})
    channel.publish("", "a", b"x")
    times = []
    for tag in (1, 2):
        channel.get("a")
        channel.reject(tag, requeue=False)
        broker.advance(10_000)
    message = the_dead(channel, "a")
    times.append(message.headers["x-death"][0]["time"])
    assert deaths(message) == [("a", "rejected", 2)]
    assert times[0].timestamp() == (broker.clock.wall_ms() - 20_000) // 1000


# --- cycles


def test_a_queue_that_dies_into_itself_is_emptied(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.declare("q", {"x-message-ttl": 10, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q"})
    channel.publish("", "q", b"x")
    broker.advance(10)
    assert broker.queue("q").ready_count == 0
    assert broker.timers.next_deadline_ms() is None


@pytest.mark.parametrize("ttl_ms", [0, 10])
def test_a_cycle_of_three_ends_where_it_began(channel: ClientChannel, broker: MemoryBroker, ttl_ms: int) -> None:
    for name, following in (("a", "b"), ("b", "c"), ("c", "a")):
        channel.declare(
            name, {"x-message-ttl": ttl_ms, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": following}
        )
    channel.publish("", "a", b"x")
    broker.advance(1_000)
    assert sum(broker.queue(name).ready_count for name in "abc") == 0


def test_a_rejection_on_the_way_is_no_cycle(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.declare("delay", {"x-message-ttl": 10, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "work"})
    channel.declare("work", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "delay"})
    channel.publish("", "work", b"x")
    for tag in range(1, 6):
        assert channel.get("work") is not None
        channel.reject(tag, requeue=False)
        broker.advance(10)
    message = the_dead(channel, "work")
    assert deaths(message) == [("delay", "expired", 5), ("work", "rejected", 5)]


def test_two_full_queues_that_refuse_into_each_other(channel: ClientChannel, broker: MemoryBroker) -> None:
    for name, following in (("a", "b"), ("b", "a")):
        channel.declare(
            name,
            {
                "x-max-length": 0,
                "x-overflow": "reject-publish-dlx",
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": following,
            },
        )
    channel.publish("", "a", b"x")
    assert broker.queue("a").ready_count == broker.queue("b").ready_count == 0


# --- histories that clients made up


@pytest.mark.parametrize(
    "history", ["text", 5, None, [], ["text", 5], [{}], [{"queue": 1, "reason": 2}], [{"count": "many"}]], ids=repr
)
def test_a_made_up_history_does_no_harm(channel: ClientChannel, history: Any) -> None:
    channel.declare("q", mortal())
    channel.publish("", "q", b"x", headers={"x-death": history})
    channel.get("q")
    channel.reject(1, requeue=False)
    newest = the_dead(channel).headers["x-death"][0]
    assert (newest["queue"], newest["reason"], newest["count"]) == ("q", "rejected", 1)


def test_a_made_up_count_that_cannot_go_up_stays(channel: ClientChannel) -> None:
    entry = {"count": 2**63 - 1, "queue": "q", "reason": "rejected", "exchange": "", "routing-keys": ["q"]}
    channel.declare("q", mortal())
    channel.publish("", "q", b"x", headers={"x-death": [{**entry, "time": datetime(2026, 1, 1, tzinfo=UTC)}]})
    channel.get("q")
    channel.reject(1, requeue=False)
    assert deaths(the_dead(channel)) == [("q", "rejected", 2**63 - 1)]


def test_what_is_no_key_in_cc_may_be_nested_as_deep_as_a_table_goes(channel: ClientChannel) -> None:
    nested: dict[str, Any] = {}
    for _ in range(NESTING_DEPTH_MAX - 3):
        nested = {"a": nested}
    channel.declare("q", mortal())
    channel.publish("", "q", b"x", headers={"CC": ["y", nested]})
    channel.get("q")
    channel.reject(1, requeue=False)
    (death,) = the_dead(channel).headers["x-death"]
    assert death["routing-keys"] == ["q", "y"]


def test_a_queue_whose_dead_letter_is_a_defect_may_be_deleted(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.declare("q", mortal(max_length=0))
    broken = Message(Address("", "q", b"\x00\x01q"), b"no content header", b"", False, 0)
    with pytest.raises(WireError):
        broker.handle(lambda: broker.queue("q").publish(broken))
    channel.call(commands.Queue.Delete(queue="q"))
    channel.publish("", "dead", b"x")
    assert the_dead(channel).body == b"x"


def test_a_very_long_made_up_history_costs_little() -> None:
    history: list[FieldValue] = [{"queue": f"{number:x}"} for number in range(6_000)]
    header = encode_content_header(0, Properties(headers={"x-death": history}))
    message = Message(Address("", "q", b"\x00\x01q"), header, b"", False, 0)
    began_s = time.process_time()
    _, headers = dead_lettered(message, DeathReason.EXPIRED, "q", "dlx", None, 0, BEHAVIOURS["3.10"])
    assert time.process_time() - began_s < 1  # not the square of its length
    entries = headers["x-death"]
    assert isinstance(entries, list)
    assert len(entries) == 6_001


# --- length


def test_drop_head_drops_the_oldest(channel: ClientChannel) -> None:
    channel.declare("q", mortal(max_length=3))
    for number in range(10):
        channel.publish("", "q", b"%d" % number)
    assert channel.drain("dead") == [b"%d" % number for number in range(7)]
    assert channel.drain("q") == [b"7", b"8", b"9"]


def test_bytes_count_bodies_of_what_is_ready(channel: ClientChannel) -> None:
    channel.declare("q", mortal(max_length_bytes=10))
    channel.publish("", "q", b"12345")
    channel.get("q")
    channel.publish("", "q", b"1234567890")
    assert channel.message_count("q") == 1
    channel.publish("", "q", b"")
    assert channel.message_count("q") == 2
    channel.publish("", "q", b"x")
    assert channel.drain("q") == [b"", b"x"]


def test_a_body_larger_than_the_limit_drops_all(channel: ClientChannel) -> None:
    channel.declare("q", mortal(max_length_bytes=10))
    channel.publish("", "q", b"small")
    channel.publish("", "q", b"x" * 11)
    assert channel.drain("q") == []
    assert channel.drain("dead") == [b"small", b"x" * 11]


def test_a_consumer_that_waits_keeps_a_queue_of_none_going(channel: ClientChannel) -> None:
    channel.declare("q", mortal(max_length=0))
    channel.consume("q")
    channel.publish("", "q", b"x")
    assert channel.bodies() == [b"x"]
    assert channel.drain("dead") == []


def test_requeued_messages_may_overflow(channel: ClientChannel) -> None:
    channel.declare("q", mortal(max_length=1))
    channel.publish("", "q", b"old")
    channel.get("q")
    channel.publish("", "q", b"new")
    channel.nack(1)
    assert channel.drain("dead") == [b"old"]
    assert channel.drain("q") == [b"new"]


def test_a_queue_of_priorities_drops_the_head(channel: ClientChannel) -> None:
    channel.declare("q", mortal(max_length=2, max_priority=5))
    for content, priority in ((b"low", 1), (b"high", 5), (b"middle", 3)):
        channel.publish("", "q", content, priority=priority)
    assert channel.drain("dead") == [b"high"]
    assert channel.drain("q") == [b"middle", b"low"]


@pytest.mark.parametrize(("overflow", "is_dead"), [("reject-publish", False), ("reject-publish-dlx", True)])
def test_refusing_what_is_new(channel: ClientChannel, overflow: str, is_dead: bool) -> None:
    channel.declare("q", mortal(max_length=1, overflow=overflow))
    channel.call(commands.Confirm.Select())
    channel.publish("", "q", b"first")
    channel.publish("", "q", b"second")
    assert [method.name for method in channel.methods()] == ["Basic.Ack", "Basic.Nack"]
    assert channel.drain("q") == [b"first"]
    assert channel.drain("dead") == ([b"second"] if is_dead else [])
