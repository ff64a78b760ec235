"""Messages that wait on disk: whatever a client does with their queue, it cannot tell that they are not in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pamqp import commands

from amqp_broker.broker.inspection import disk_counts_of_virtual_host
from amqp_broker.broker.queues.classic import ClassicQueue
from tests.support.client import ClientChannel
from tests.support.disk_broker import DiskBroker, small_pages

COUNT = 30
QUORUM: dict[str, Any] = {"x-queue-type": "quorum"}


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


def names(count: int, prefix: str = "m") -> list[bytes]:
    return [f"{prefix}{number:02}".encode() for number in range(count)]


def fill(channel: ClientChannel, queue: str = "q", count: int = COUNT, prefix: str = "m", **properties: Any) -> None:
    for name in names(count, prefix):
        channel.publish("", queue, name, **properties)


MODES = pytest.mark.parametrize("mode", [1, 2], ids=["transient", "persistent"])


@MODES
def test_a_backlog_is_on_disk_but_for_its_head(broker: DiskBroker, channel: ClientChannel, mode: int) -> None:
    channel.declare("q", durable=True)
    fill(channel, delivery_mode=mode)
    assert 0 < COUNT - broker.on_disk_only("q") <= 8
    queue = broker.queue("q")
    assert isinstance(queue, ClassicQueue)
    paged = broker.on_disk_only("q")
    assert queue.backlog.messages.paged() == (paged, paged * len(b"m00"))
    assert channel.message_count("q") == COUNT
    assert broker.paging.used_bytes == sum(len(message.body) + 600 for message in broker.queue("q").messages())
    went = paged + queue.counts.disk_reads
    assert queue.counts.disk_writes == (went if mode == 1 else COUNT)
    channel.drain("q")
    assert queue.counts.disk_reads == went
    channel.call(commands.Queue.Delete(queue="q"))
    assert disk_counts_of_virtual_host(broker.virtual_hosts["/"]).reads == went, "it is deleted, and counts"


@MODES
def test_messages_on_disk_are_delivered_in_order(broker: DiskBroker, channel: ClientChannel, mode: int) -> None:
    channel.declare("q", durable=True)
    fill(channel, delivery_mode=mode, headers={"a": 1}, content_type="text/plain")
    channel.consume("q")
    deliveries = channel.deliveries()
    assert [one.body for one in deliveries] == names(COUNT)
    assert all(one.headers == {"a": 1} for one in deliveries)
    assert not any(one.expect(commands.Basic.Deliver).redelivered for one in deliveries)
    channel.ack(0, multiple=True)
    assert broker.paging.used_bytes == 0


@MODES
def test_basic_get_takes_them_in_order(channel: ClientChannel, mode: int) -> None:
    channel.declare("q", durable=True)
    fill(channel, delivery_mode=mode)
    assert channel.drain("q") == names(COUNT)


@MODES
def test_nothing_is_left_in_the_journal_of_what_was_consumed(
    broker: DiskBroker, channel: ClientChannel, mode: int
) -> None:
    channel.declare("q", durable=True)
    before = broker.live_records()
    fill(channel, delivery_mode=mode)
    assert broker.live_records() > before + 10
    channel.drain("q")
    channel.call(commands.Queue.Delete(queue="q"))
    assert broker.live_records() == before - 1


def test_transient_messages_on_disk_are_gone_after_a_restart(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    records = broker.live_records()
    fill(channel)
    again = broker.restarted()
    assert again.client().channel().message_count("q") == 0
    assert again.live_records() == records


def test_what_is_requeued_comes_back_in_its_place(channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    channel.qos(10)
    fill(channel, delivery_mode=2)
    tag = channel.consume("q")
    assert channel.bodies() == names(10)
    channel.call(commands.Basic.Cancel(tag))
    channel.nack(4)
    channel.nack(2)
    channel.nack(0, multiple=True)
    assert channel.drain("q") == names(COUNT)


def test_what_a_lost_channel_held_comes_back_in_its_place(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    fill(channel, delivery_mode=2)
    other = broker.client().channel()
    other.qos(7)
    other.consume("q")
    assert len(other.bodies()) == 7
    other.client.connection.lost("gone")
    got = [channel.get("q", no_ack=True) for _ in range(COUNT)]
    assert [one.body for one in got if one] == names(COUNT)
    assert [one.expect(commands.Basic.GetOk).redelivered for one in got if one] == [True] * 7 + [False] * (COUNT - 7)


def test_priorities_are_kept_on_disk(channel: ClientChannel) -> None:
    channel.declare("q", {"x-max-priority": 3}, durable=True)
    for number in range(COUNT):
        channel.publish("", "q", f"{number:02}".encode(), priority=number % 4, delivery_mode=2)
    expected = [f"{number:02}".encode() for priority in (3, 2, 1, 0) for number in range(priority, COUNT, 4)]
    assert channel.drain("q") == expected


def test_a_higher_priority_overtakes_what_is_on_disk(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", {"x-max-priority": 3}, durable=True)
    with broker.holding_reads():
        fill(channel, count=12)
        channel.publish("", "q", b"first", priority=2)
    assert channel.drain("q") == [b"first", *names(12)]


@MODES
def test_a_quorum_queue_delivers_returned_messages_and_counts_them(
    broker: DiskBroker, channel: ClientChannel, mode: int
) -> None:
    channel.declare("q", {**QUORUM, "x-delivery-limit": 2}, durable=True)
    channel.qos(3)
    fill(channel, delivery_mode=mode)
    tag = channel.consume("q")
    assert channel.bodies() == names(3)
    channel.call(commands.Basic.Cancel(tag))
    channel.nack(0, multiple=True)
    first = channel.get("q", no_ack=True)
    assert first is not None
    assert first.body == b"m00"
    assert first.headers["x-delivery-count"] == 1
    assert channel.drain("q") == names(COUNT)[1:]


@MODES
def test_a_quorum_queue_without_a_limit_puts_returned_messages_at_its_end(channel: ClientChannel, mode: int) -> None:
    channel.declare("q", QUORUM, durable=True)
    fill(channel, delivery_mode=mode)
    first = channel.get("q")
    assert first is not None
    channel.nack(1)
    last = [channel.get("q", no_ack=True) for _ in range(COUNT)][-1]
    assert last is not None
    assert last.body == b"m00"
    assert last.headers["x-delivery-count"] == 1
    assert last.expect(commands.Basic.GetOk).redelivered


def test_messages_expire_on_disk(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("dead", durable=True)
    channel.declare(
        "q",
        {"x-message-ttl": 1000, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"},
        durable=True,
    )
    fill(channel, delivery_mode=2)
    broker.advance(1000)
    assert channel.message_count("q") == 0
    assert channel.drain("dead") == names(COUNT)
    assert broker.paging.used_bytes == 0


def test_a_message_that_expired_before_it_was_read_is_not_delivered(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    with broker.holding_reads():
        fill(channel, count=8)
        for name in names(4, "late"):
            channel.publish("", "q", name, expiration="500")
        assert [channel.get("q", no_ack=True) is not None for _ in range(2)] == [True, True]
        broker.advance(500)
    assert channel.drain("q") == names(8)[2:]
    assert channel.message_count("q") == 0


def test_the_remaining_life_of_a_message_goes_with_it(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    with broker.holding_reads():
        fill(channel, count=5, expiration="1000", delivery_mode=2)
        fill(channel, count=5, prefix="t", expiration="1000")
        broker.advance(600)
    broker.advance(399)
    assert channel.message_count("q") == 10
    broker.advance(1)
    assert channel.message_count("q") == 0


def test_the_oldest_are_dropped_beyond_the_maximum_length(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", {"x-max-length": 20}, durable=True)
    fill(channel)
    assert channel.message_count("q") == 20
    assert channel.drain("q") == names(COUNT)[-20:]


def test_the_maximum_length_holds_again_once_the_head_is_here(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", {"x-max-length": 10}, durable=True)
    with broker.holding_reads():
        fill(channel)
    assert channel.message_count("q") == 10
    assert channel.drain("q") == names(COUNT)[-10:]


def test_a_full_queue_refuses_when_most_of_it_is_on_disk(channel: ClientChannel) -> None:
    channel.declare("q", {"x-max-length": 20, "x-overflow": "reject-publish"}, durable=True)
    channel.call(commands.Confirm.Select())
    fill(channel)
    answers = channel.methods()
    assert sum(1 for answer in answers if isinstance(answer, commands.Basic.Nack)) > 0
    assert channel.drain("q") == names(20)


@pytest.mark.parametrize("is_reading", [False, True])
def test_purge_empties_the_disk_too(broker: DiskBroker, channel: ClientChannel, is_reading: bool) -> None:
    channel.declare("q", durable=True)
    before = broker.live_records()
    broker.reads_at_once = not is_reading
    fill(channel)
    answer = channel.call(commands.Queue.Purge(queue="q"))
    assert isinstance(answer, commands.Queue.PurgeOk)
    assert answer.message_count == COUNT
    broker.reads_at_once = True
    broker.read_pages()
    assert broker.live_records() == before
    assert broker.paging.used_bytes == 0
    fill(channel, prefix="n")
    assert channel.drain("q") == names(COUNT, "n")


@pytest.mark.parametrize("is_reading", [False, True])
def test_delete_empties_the_disk_too(broker: DiskBroker, channel: ClientChannel, is_reading: bool) -> None:
    before = broker.live_records()
    channel.declare("q", durable=True)
    broker.reads_at_once = not is_reading
    fill(channel, delivery_mode=2)
    answer = channel.call(commands.Queue.Delete(queue="q"))
    assert isinstance(answer, commands.Queue.DeleteOk)
    assert answer.message_count == COUNT
    broker.reads_at_once = True
    broker.read_pages()
    assert broker.live_records() == before
    assert broker.paging.used_bytes == 0


def test_what_is_rejected_from_the_disk_is_dead_lettered(channel: ClientChannel) -> None:
    channel.declare("dead", durable=True)
    channel.declare("q", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}, durable=True)
    fill(channel, delivery_mode=2)
    channel.consume("q")
    assert channel.bodies() == names(COUNT)
    channel.nack(0, multiple=True, requeue=False)
    dead = [channel.get("dead", no_ack=True) for _ in range(COUNT)]
    assert [one.body for one in dead if one] == names(COUNT)
    assert all(one.headers["x-death"][0]["reason"] == "rejected" for one in dead if one)


def test_a_get_waits_until_its_message_is_read(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    with broker.holding_reads():
        fill(channel, count=8, delivery_mode=2)
        before = [channel.get("q", no_ack=True) for _ in range(2)]
        channel.send(commands.Basic.Get(queue="q", no_ack=True), commands.Queue.Declare(queue="q", passive=True))
        assert channel.received() == []
        assert channel.client.connection.is_reading_paused
    assert [one.body for one in before if one] == names(2)
    fetched, declared = channel.received()
    assert fetched.body == b"m02"
    assert declared.expect(commands.Queue.DeclareOk).message_count == 5
    assert not channel.client.connection.is_reading_paused


def test_a_frame_error_behind_a_waiting_get_ends_that_connection_only(
    broker: DiskBroker, channel: ClientChannel
) -> None:
    channel.declare("q", durable=True)
    with broker.holding_reads():
        fill(channel, count=8, delivery_mode=2)
        for _ in range(2):
            channel.get("q", no_ack=True)
        channel.send(commands.Basic.Get(queue="q", no_ack=True))
        channel.client.send_bytes(b"\x01\x00\x01\x00\x00\x00\x01XX")
    assert channel.client.closed_with().reply_code == 501
    other = broker.client().channel()
    assert other.drain("q")[-1] == b"m07"


def test_a_get_whose_queue_is_deleted_meanwhile_gets_its_404(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    with broker.holding_reads():
        fill(channel, count=8, delivery_mode=2)
        for _ in range(2):
            channel.get("q", no_ack=True)
        channel.send(commands.Basic.Get(queue="q", no_ack=True))
        broker.client().channel().call(commands.Queue.Delete(queue="q"))
        assert channel.closed_with().reply_code == 404


def test_a_get_whose_queue_is_purged_meanwhile_finds_it_empty(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    with broker.holding_reads():
        fill(channel, count=8, delivery_mode=2)
        for _ in range(2):
            channel.get("q", no_ack=True)
        channel.send(commands.Basic.Get(queue="q", no_ack=True))
        broker.client().channel().call(commands.Queue.Purge(queue="q"))
        channel.one(commands.Basic.GetEmpty)


def test_a_client_that_leaves_while_its_get_waits_takes_nothing(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    other = broker.client().channel()
    with broker.holding_reads():
        fill(channel, count=8, delivery_mode=2)
        for _ in range(2):
            channel.get("q", no_ack=True)
        other.send(commands.Basic.Get(queue="q", no_ack=True))
        other.client.connection.lost("gone")
    assert channel.drain("q") == names(8)[2:]


def test_the_others_are_served_while_one_queue_is_read(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    channel.declare("other")
    with broker.holding_reads():
        fill(channel, count=12)
        channel.consume("q")
        assert channel.bodies() == names(2)
        channel.publish("", "other", b"here")
        assert channel.drain("other") == [b"here"]
    assert channel.bodies() == names(12)[2:]


def test_a_journal_that_is_rewritten_meanwhile_changes_nothing(broker: DiskBroker, channel: ClientChannel) -> None:
    channel.declare("q", durable=True)
    channel.declare("passing", durable=True)
    for name in names(COUNT):
        channel.publish("", "q", name, delivery_mode=2)
        channel.publish("", "passing", bytes(1000), delivery_mode=2)
    channel.call(commands.Queue.Purge(queue="passing"))
    before = broker.files.used_bytes
    broker.reclaim()
    assert broker.files.used_bytes < before / 2
    assert channel.drain("q") == names(COUNT)


def test_with_a_large_budget_nothing_waits_on_disk_only() -> None:
    broker = DiskBroker(memory_budget_bytes=10**9)
    channel = broker.client().channel()
    channel.declare("q", durable=True)
    fill(channel, delivery_mode=2)
    assert broker.on_disk_only("q") == 0


@MODES
def test_of_large_messages_few_are_in_memory(mode: int) -> None:
    body = bytes(1024 * 1024)
    with small_pages(in_memory=64, chunk=1024, read_ahead=1024):
        broker = DiskBroker(memory_budget_bytes=2)
        channel = broker.client().channel()
        channel.declare("q", durable=True)
        for number in range(COUNT):
            channel.publish("", "q", body + b"%02d" % number, delivery_mode=mode)
        assert broker.paging.used_bytes < 12 * len(body)
        if mode == 2:
            broker = broker.restarted()
            assert broker.paging.used_bytes < 12 * len(body)
            channel = broker.client().channel()
        assert [found[-2:] for found in channel.drain("q")] == [b"%02d" % number for number in range(COUNT)]
