"""Time to live of messages and of queues, by a clock that is moved by hand: half an hour costs no time here."""

from __future__ import annotations

from typing import Any

import pytest
from pamqp import commands
from pamqp.common import FieldTable

from amqp_broker.broker.message import EXPIRATION_MS_MAX
from tests.support.client import Client, ClientChannel
from tests.support.memory_broker import MemoryBroker

HALF_AN_HOUR_MS = 1_800_000


@pytest.fixture
def channel(broker: MemoryBroker) -> ClientChannel:
    """A channel; how its bytes come is not the subject here."""
    return Client(broker).open().channel()


def lives(ttl_ms: int, is_queues: bool) -> tuple[FieldTable, dict[str, Any]]:
    """A time to live as the arguments of a queue or as the properties of a message."""
    return ({"x-message-ttl": ttl_ms}, {}) if is_queues else ({}, {"expiration": str(ttl_ms)})


def graveyard(channel: ClientChannel, **arguments: object) -> FieldTable:
    """A queue for what dies, and the arguments that lead there."""
    channel.declare("dead")
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead", **arguments}  # type: ignore[dict-item]


# --- messages


@pytest.mark.parametrize("is_queues", [True, False], ids=["the queue's", "the message's"])
@pytest.mark.parametrize("ttl_ms", [1, 60_000, 2**32 + 5, EXPIRATION_MS_MAX])
def test_to_the_millisecond(channel: ClientChannel, broker: MemoryBroker, is_queues: bool, ttl_ms: int) -> None:
    arguments, properties = lives(ttl_ms, is_queues)
    channel.declare("q", arguments)
    channel.publish("", "q", b"x", **properties)
    broker.advance(ttl_ms - 1)
    assert broker.queue("q").ready_count == 1
    broker.advance(1)
    assert broker.queue("q").ready_count == 0
    assert channel.drain("q") == []


@pytest.mark.parametrize(("queues_ms", "messages_ms", "expected_ms"), [(100, 50, 50), (50, 100, 50), (70, 70, 70)])
def test_the_shorter_of_two(
    channel: ClientChannel, broker: MemoryBroker, queues_ms: int, messages_ms: int, expected_ms: int
) -> None:
    channel.declare("q", {"x-message-ttl": queues_ms})
    channel.publish("", "q", b"x", expiration=str(messages_ms))
    broker.advance(expected_ms - 1)
    assert broker.queue("q").ready_count == 1
    broker.advance(1)
    assert broker.queue("q").ready_count == 0


@pytest.mark.parametrize("is_queues", [True, False])
def test_zero_is_now_or_never(channel: ClientChannel, broker: MemoryBroker, is_queues: bool) -> None:
    arguments, properties = lives(0, is_queues)
    channel.declare("q", arguments)
    channel.publish("", "q", b"never", **properties)
    assert channel.get("q") is None
    channel.consume("q", "t")
    channel.publish("", "q", b"now", **properties)
    assert channel.bodies() == [b"now"]


def test_only_the_head_expires(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.declare("q")
    channel.publish("", "q", b"long", expiration="1000")
    channel.publish("", "q", b"short", expiration="10")
    channel.publish("", "q", b"for ever")
    broker.advance(500)
    assert broker.queue("q").ready_count == 3
    broker.advance(500)
    assert [message.body for message in broker.queue("q").messages()] == [b"for ever"]


def test_the_next_head_is_looked_at_when_one_is_taken(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.declare("q", graveyard(channel))
    for content, expiration in ((b"0", "100000"), (b"1", "10"), (b"2", "20"), (b"3", "100000")):
        channel.publish("", "q", content, expiration=expiration)
    message = channel.get("q")
    assert message is not None
    assert message.body == b"0"
    broker.advance(10)
    assert [message.body for message in broker.queue("q").messages()] == [b"2", b"3"]
    broker.advance(10)
    assert channel.drain("dead") == [b"1", b"2"]


def test_the_next_head_is_looked_at_when_a_consumer_takes_one(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.declare("q", graveyard(channel))
    for content, expiration in ((b"0", "100000"), (b"1", "10"), (b"2", "100000")):
        channel.publish("", "q", content, expiration=expiration)
    channel.qos(1)
    channel.consume("q")
    assert channel.bodies() == [b"0"]
    broker.advance(10)
    assert channel.drain("dead") == [b"1"]


def test_the_next_head_is_looked_at_when_one_is_dropped(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.declare("q", graveyard(channel, **{"x-max-length": 2}))
    for content, expiration in ((b"0", "100000"), (b"1", "10"), (b"2", "100000")):
        channel.publish("", "q", content, expiration=expiration)
    broker.advance(10)
    assert channel.drain("dead") == [b"0", b"1"]


def test_the_count_of_get_leaves_the_expired_out(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.declare("q")
    for content, expiration in ((b"0", None), (b"1", "10"), (b"2", None)):
        channel.publish("", "q", content, expiration=expiration)
    broker.advance(20)
    message = channel.get("q")
    assert message is not None
    assert message.expect(commands.Basic.GetOk).message_count == 1


def test_expiry_goes_on_after_a_message_that_does_not_expire(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.declare("q", graveyard(channel))
    channel.publish("", "q", b"for ever")
    channel.publish("", "q", b"short", expiration="10")
    broker.advance(20)
    channel.get("q", no_ack=True)
    assert channel.drain("dead") == [b"short"]


def test_what_is_unacknowledged_does_not_expire_until_it_is_back(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.declare("q", {"x-message-ttl": 100})
    channel.publish("", "q", b"x")
    channel.get("q")
    broker.advance(1_000)
    assert broker.queue("q").unacknowledged_count == 1
    channel.nack(1)
    assert broker.queue("q").ready_count == 0
    assert broker.queue("q").unacknowledged_count == 0


def test_coming_back_does_not_make_it_younger(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.declare("q", {"x-message-ttl": 100})
    channel.publish("", "q", b"x")
    channel.get("q")
    broker.advance(60)
    channel.nack(1)
    broker.advance(39)
    assert broker.queue("q").ready_count == 1
    broker.advance(1)
    assert broker.queue("q").ready_count == 0


def test_a_timer_is_not_left_behind_by_a_deleted_queue(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.declare("q", {"x-message-ttl": 100, "x-expires": 500})
    channel.publish("", "q", b"x")
    channel.call(commands.Queue.Delete(queue="q"))
    assert broker.timers.next_deadline_ms() is None


def test_purged_messages_do_not_expire(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.declare("q", graveyard(channel, **{"x-message-ttl": 100}))
    channel.publish("", "q", b"x")
    channel.call(commands.Queue.Purge(queue="q"))
    broker.advance(1_000)
    assert channel.drain("dead") == []


def test_a_ladder_of_delays(channel: ClientChannel, broker: MemoryBroker) -> None:
    """Retries after 1, 5 and 30 minutes: each queue's message dies into the next one's exchange."""
    delays_ms = [60_000, 300_000, HALF_AN_HOUR_MS]
    channel.declare("work")
    for index, delay_ms in reversed(list(enumerate(delays_ms))):
        following = f"delay{index + 1}" if index + 1 < len(delays_ms) else "work"
        channel.declare(
            f"delay{index}",
            {"x-message-ttl": delay_ms, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": following},
        )
    channel.publish("", "delay0", b"order 7")
    broker.advance(sum(delays_ms) - 1)
    assert broker.queue("work").ready_count == 0
    assert broker.queue("delay2").ready_count == 1
    broker.advance(1)
    message = channel.get("work", no_ack=True)
    assert message is not None
    deaths = [(death["queue"], death["reason"], death["count"]) for death in message.headers["x-death"]]
    assert deaths[0] == ("delay2", "expired", 1)  # the newest; RabbitMQ reverses the others at each death
    assert sorted(deaths) == [(f"delay{index}", "expired", 1) for index in range(3)]


def test_a_binary_ladder_beyond_32_bits(channel: ClientChannel, broker: MemoryBroker) -> None:
    """Celery's delayed delivery: 28 levels, each twice as long as the one below; every bit of the delay is a level."""
    levels = 28
    channel.declare("celery")
    channel.exchange("delivery", "topic")
    channel.bind("celery", "delivery", "#.celery")
    for level in range(levels):
        following = f"level{level - 1}" if level else "delivery"
        channel.exchange(f"level{level}", "topic")
        arguments: FieldTable = {"x-message-ttl": 1000 << level, "x-dead-letter-exchange": following}
        channel.declare(f"level{level}", arguments)
        prefix = "*." * (levels - 1 - level)
        channel.bind(f"level{level}", f"level{level}", f"{prefix}1.#")
    for level in range(levels):
        prefix = "*." * (levels - 1 - level)
        target = f"level{level - 1}" if level else "delivery"
        channel.call(commands.Exchange.Bind(destination=target, source=f"level{level}", routing_key=f"{prefix}0.#"))
    delay_s = 0b1000_0000_0000_0000_0000_0000_0101
    key = ".".join(f"{delay_s:0{levels}b}") + ".celery"
    channel.publish(f"level{levels - 1}", key, b"task")
    broker.advance(delay_s * 1000 - 1)
    assert broker.queue("celery").ready_count == 0
    broker.advance(1)
    assert channel.drain("celery") == [b"task"]


# --- queues


def test_an_unused_queue_goes(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.declare("q", {"x-expires": HALF_AN_HOUR_MS})
    broker.advance(HALF_AN_HOUR_MS - 1)
    assert "q" in broker.virtual_host.queues
    broker.advance(1)
    assert "q" not in broker.virtual_host.queues


@pytest.mark.parametrize("use", ["redeclare", "passive", "get"])
def test_use_begins_the_time_anew(channel: ClientChannel, broker: MemoryBroker, use: str) -> None:
    channel.declare("q", {"x-expires": 100})
    for _ in range(5):
        broker.advance(99)
        if use == "get":
            channel.get("q")
        elif use == "passive":
            channel.declare("q", passive=True)
        else:
            channel.declare("q", {"x-expires": 100})
    broker.advance(99)
    assert "q" in broker.virtual_host.queues
    broker.advance(1)
    assert "q" not in broker.virtual_host.queues


def test_publishing_is_no_use(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.declare("q", {"x-expires": 100})
    broker.advance(60)
    channel.publish("", "q", b"x")
    broker.advance(40)
    assert "q" not in broker.virtual_host.queues


def test_it_waits_for_the_last_consumer(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.declare("q", {"x-expires": 100})
    channel.consume("q", "a")
    channel.consume("q", "b")
    broker.advance(1_000)
    channel.call(commands.Basic.Cancel("a"))
    broker.advance(1_000)
    assert "q" in broker.virtual_host.queues
    channel.call(commands.Basic.Cancel("b"))
    broker.advance(99)
    assert "q" in broker.virtual_host.queues
    broker.advance(1)
    assert "q" not in broker.virtual_host.queues


def test_what_was_in_an_expired_queue_is_not_dead_lettered(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.declare("q", graveyard(channel, **{"x-expires": 100}))
    channel.publish("", "q", b"x")
    broker.advance(100)
    assert "q" not in broker.virtual_host.queues
    assert channel.drain("dead") == []


def test_beyond_32_bits_a_queue_stays_as_long_as_it_should(channel: ClientChannel, broker: MemoryBroker) -> None:
    expires_ms = 2**32 + 1
    channel.declare("q", {"x-expires": expires_ms})
    broker.advance(expires_ms - 1)
    assert "q" in broker.virtual_host.queues
    broker.advance(1)
    assert "q" not in broker.virtual_host.queues


def test_use_that_never_ends_leaves_no_timers_behind(channel: ClientChannel, broker: MemoryBroker) -> None:
    channel.declare("q", {"x-expires": 1000})
    before = len(broker.timers._agenda)
    for _ in range(100):
        assert channel.get("q") is None
    assert len(broker.timers._agenda) == before
    broker.advance(500)
    assert channel.get("q") is None
    broker.advance(999)
    assert "q" in broker.virtual_host.queues
    broker.advance(1)
    assert "q" not in broker.virtual_host.queues


def test_an_empty_queue_that_fills_and_empties_leaves_no_timers_behind(
    channel: ClientChannel, broker: MemoryBroker
) -> None:
    channel.declare("q", {"x-message-ttl": 1000})
    before = len(broker.timers._agenda)
    for _ in range(100):
        channel.publish("", "q", b"x")
        assert channel.drain("q") == [b"x"]
    assert len(broker.timers._agenda) == before + 1
