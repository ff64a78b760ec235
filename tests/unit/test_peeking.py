"""A look into a queue sees all that is in it, wherever it is, and nobody can tell that somebody has looked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pamqp import commands

from amqp_broker.broker.message_filter import ANY_MESSAGE, MessageFilter, make_filter
from amqp_broker.broker.peeking import MessageState, Peek, PeekBounds, PeekedMessage, PeekInfo, shown_body
from amqp_broker.server.walks import next_step
from tests.support.client import ClientChannel
from tests.support.disk_broker import DiskBroker, small_pages
from tests.support.walking import walk_through

COUNT = 30
TYPES: dict[str, dict[str, Any]] = {
    "classic": {},
    "quorum": {"x-queue-type": "quorum"},
    "priority": {"x-max-priority": 3},
}
of_each_type = pytest.mark.parametrize("arguments", TYPES.values(), ids=TYPES)


@pytest.fixture(autouse=True)
def pages_are_small() -> Iterator[None]:
    with small_pages():
        yield


@pytest.fixture
def broker() -> DiskBroker:
    return DiskBroker(memory_budget_bytes=2)


@pytest.fixture
def channel(broker: DiskBroker) -> ClientChannel:
    return broker.client().channel()


def look(broker: DiskBroker, wanted: MessageFilter = ANY_MESSAGE, *, queue: str = "q", **bounds: Any) -> PeekInfo:
    peek = Peek(broker, broker.queue(queue), PeekBounds(**{"limit": 1000, **bounds}), wanted)
    walk_through(broker, peek.steps())
    return peek.seen()


def bodies(info: PeekInfo) -> list[str]:
    return [one["payload"] for one in info["messages"]]


def fill(channel: ClientChannel, count: int = COUNT, **properties: Any) -> None:
    for number in range(count):
        channel.publish("", "q", f"m{number:02}".encode(), headers={"n": number % 3}, **properties)


@of_each_type
@pytest.mark.parametrize("mode", [1, 2], ids=["transient", "persistent"])
def test_all_is_seen_in_order_and_nothing_has_changed(
    broker: DiskBroker, channel: ClientChannel, arguments: dict[str, Any], mode: int
) -> None:
    channel.declare("q", durable=True, arguments=arguments)
    fill(channel, delivery_mode=mode)
    assert broker.on_disk_only("q")
    before = broker.on_disk_only("q"), broker.paging.used_bytes, broker.live_records()
    info = look(broker)
    assert bodies(info) == [f"m{number:02}" for number in range(COUNT)]
    assert (info["looked_at"], info["next_offset"], info["stopped_by"]) == (COUNT, None, "end")
    assert [one["offset"] for one in info["messages"]] == list(range(COUNT))
    assert not any(one["redelivered"] for one in info["messages"])
    assert before == (broker.on_disk_only("q"), broker.paging.used_bytes, broker.live_records())
    channel.consume("q", no_ack=True)
    assert [one.body.decode() for one in channel.deliveries()] == bodies(info)


def test_higher_priorities_come_first(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True, arguments={"x-max-priority": 3})
    for number in range(COUNT):
        channel.publish("", "q", f"{number % 5}-{number:02}".encode(), priority=number % 5, delivery_mode=2)
    info = look(broker)
    assert bodies(info) == sorted(bodies(info), key=lambda body: (-min(int(body[0]), 3), body[2:]))
    pages = [look(broker, offset=start, limit=7) for start in range(0, COUNT, 7)]
    assert [body for page in pages for body in bodies(page)] == bodies(info)


@of_each_type
def test_pages_follow_each_other(broker: DiskBroker, channel: ClientChannel, arguments: dict[str, Any]) -> None:
    channel.declare("q", durable=True, arguments=arguments)
    fill(channel, delivery_mode=2)
    channel.qos(5)
    channel.consume("q")
    whole = look(broker)
    assert [one["state"] for one in whole["messages"]] == ["unacked"] * 5 + ["ready"] * (COUNT - 5)
    seen: list[PeekedMessage] = []
    offset: int | None = 0
    while offset is not None:
        page = look(broker, offset=offset, limit=4)
        seen += page["messages"]
        offset = page["next_offset"]
    assert [one["id"] for one in seen] == [one["id"] for one in whole["messages"]]
    assert len({one["id"] for one in seen}) == COUNT
    by_looks = [look(broker, offset=start, looked_at_max=6) for start in range(0, COUNT, 6)]
    assert [page["stopped_by"] for page in by_looks] == ["looked_at"] * 4 + ["end"]
    assert [body for page in by_looks for body in bodies(page)] == bodies(whole)


def test_who_has_what_and_since_when(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    fill(channel, 3, delivery_mode=2)
    channel.get("q")
    broker.advance(1_000)
    channel.qos(1)
    channel.consume("q", "tag")
    broker.advance(200)
    got, consumed, ready = look(broker)["messages"]
    held = [one["held_by"] for one in (got, consumed)]
    assert [(one["consumer_tag"], one["for_ms"]) for one in held if one is not None] == [(None, 1_200), ("tag", 200)]
    assert all(one is not None and one["channel"].endswith(" (1)") for one in held)
    assert ready["held_by"] is None
    assert ready["age_ms"] == 1_200
    assert bodies(look(broker, state=MessageState.UNACKNOWLEDGED)) == ["m00", "m01"]
    assert bodies(look(broker, state=MessageState.READY)) == ["m02"]


def test_what_a_transaction_acknowledges_is_unacknowledged_until_the_commit(
    broker: DiskBroker, channel: ClientChannel
) -> None:
    channel.declare("q", durable=True)
    fill(channel, 2)
    channel.call(commands.Tx.Select())
    channel.consume("q")
    channel.deliveries()
    channel.ack(1)
    assert bodies(look(broker)) == ["m00", "m01"]
    channel.call(commands.Tx.Commit())
    assert bodies(look(broker)) == ["m01"]


def test_what_was_returned_is_redelivered_and_where_it_was(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q")
    fill(channel, 6)
    for _ in range(4):
        channel.get("q")
    channel.nack(2)
    channel.nack(1)
    channel.nack(4)
    info = look(broker, state=MessageState.READY)
    assert [(one["payload"], one["redelivered"]) for one in info["messages"]] == [
        ("m00", True), ("m01", True), ("m03", True), ("m04", False), ("m05", False)
    ]  # fmt: skip


def test_a_filter_shows_some_and_counts_all(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    fill(channel, delivery_mode=2)
    info = look(broker, make_filter(headers={"n": "1"}))
    assert bodies(info) == [f"m{number:02}" for number in range(1, COUNT, 3)]
    assert info["looked_at"] == COUNT
    first = look(broker, make_filter(headers={"n": "1"}), limit=2)
    assert (first["looked_at"], first["next_offset"]) == (5, 5)


def test_time_ends_a_look(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q")
    fill(channel, 5)
    peek = Peek(broker, broker.queue("q"), PeekBounds(duration_ms_max=100))
    steps = peek.steps()
    next_step(steps, None)
    broker.advance(100)
    go_on = next_step(steps, ())
    assert go_on is None
    assert (peek.seen()["stopped_by"], peek.seen()["next_offset"]) == ("time", 1)


def test_what_is_gone_when_it_is_read_is_left_out(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    fill(channel, delivery_mode=2)
    peek = Peek(broker, broker.queue("q"), PeekBounds(limit=1000))
    steps = peek.steps()
    wanted = next_step(steps, None)
    while not wanted:
        wanted = next_step(steps, ())
    channel.call(commands.Queue.Purge(queue="q"))
    while wanted is not None:
        wanted = next_step(steps, broker.durability.read(wanted) if wanted else ())
    seen = peek.seen()
    assert len(seen["messages"]) == COUNT - (seen["looked_at"] - len(seen["messages"]))
    assert 0 < len(seen["messages"]) < COUNT


def test_a_message_keeps_its_id_over_pages_and_a_restart(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    fill(channel, delivery_mode=2)
    before = [one["id"] for one in look(broker)["messages"]]
    again = broker.restarted()
    assert [one["id"] for one in look(again)["messages"]] == before
    again.client().channel().get("q", no_ack=True)
    assert [one["id"] for one in look(again)["messages"]] == before[1:]


def test_deaths_and_what_is_left_of_its_life(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    channel.declare("w", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q"})
    channel.publish("", "w", b"a")
    channel.publish("", "q", b"b", expiration="5000")
    channel.get("w")
    channel.reject(1, requeue=False)
    broker.advance(1_000)
    expiring, dead = look(broker)["messages"]
    assert expiring["expires_in_ms"] == 4_000
    (death,) = dead["x_death"]
    assert isinstance(death, dict)
    assert (death["queue"], death["reason"]) == ("w", "rejected")


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"abc", ("abc", "string")),
        (b"abcdef", ("abcd", "string")),
        ("abcä".encode(), ("abc", "string")),
        (b"ab\xff", ("YWL/", "base64")),
        (b"abc\xff", ("YWJj/w==", "base64")),
    ],
)
def test_a_body_is_text_where_it_can_be(body: bytes, shown: tuple[str, str]) -> None:
    assert shown_body(body, 4) == shown


# --- streams


@pytest.fixture
def stream(broker: DiskBroker, channel: ClientChannel) -> None:
    """Three minutes, ten entries in each; the first minute's are gone."""
    channel.declare("q", durable=True, arguments={"x-queue-type": "stream", "x-max-length-bytes": 65})
    for minute in range(3):
        for number in range(10):
            channel.publish("", "q", f"{minute}-{number}".encode(), headers={"n": number})
        broker.clock.advance(60_000)
        broker.run_due()


@pytest.mark.usefixtures("stream")
def test_a_stream_is_looked_at_by_its_own_offsets_and_nobody_can_tell(
    broker: DiskBroker, channel: ClientChannel
) -> None:
    info = look(broker)
    assert bodies(info) == [f"{minute}-{number}" for minute in (1, 2) for number in range(10)]
    assert (info["offset"], info["next_offset"], info["messages"][0]["offset"]) == (10, None, 10)
    part = look(broker, make_filter(None, None, "", {"n": "4"}, {}, {}), offset=15, looked_at_max=13)
    assert [(one["payload"], one["offset"]) for one in part["messages"]] == [("2-4", 24)]
    assert (part["next_offset"], part["stopped_by"]) == (28, "looked_at")
    assert bodies(look(broker, offset=28)) == ["2-8", "2-9"]
    assert bodies(look(broker, offset=99)) == []
    assert broker.queue("q").unacknowledged_count == 0


@pytest.mark.usefixtures("stream")
def test_a_stream_is_looked_at_from_a_time_on(broker: DiskBroker) -> None:
    now_ms = broker.clock.wall_ms()
    ages = [one["age_ms"] for one in look(broker)["messages"]]
    assert ages == [120_000] * 10 + [60_000] * 10
    assert bodies(look(broker, since_wall_ms=now_ms - 90_000))[0] == "2-0"
    assert bodies(look(broker, since_wall_ms=now_ms - 90_000, offset=25))[0] == "2-5"
    assert bodies(look(broker, since_wall_ms=now_ms)) == []


@pytest.mark.usefixtures("stream")
def test_what_a_stream_s_consumers_have_is_seen_in_its_place_alone(broker: DiskBroker, channel: ClientChannel) -> None:
    reader = broker.client().channel()
    reader.qos(5)
    reader.consume("q", arguments={"x-stream-offset": "first"})
    assert broker.queue("q").unacknowledged_count == 5
    assert len(look(broker)["messages"]) == 20
    held = look(broker, state=MessageState.UNACKNOWLEDGED)["messages"]
    assert [one["payload"] for one in held] == [f"1-{number}" for number in range(5)]
