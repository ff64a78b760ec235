"""Streams: what stays over restarts and failures of power, what goes by size and by age, who gets what from where."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, product
from typing import Any

import pytest
from pamqp import commands

from amqp_broker.broker.administration import Administration
from amqp_broker.broker.message import Address, Message
from amqp_broker.broker.peeking import Peek, PeekBounds
from amqp_broker.broker.problems import AdministrationError
from amqp_broker.broker.queues import stream_log, stream_log_chunk
from amqp_broker.broker.queues.stream import StreamQueue
from amqp_broker.broker.queues.stream_headers import OffsetHeaders
from amqp_broker.broker.queues.stream_log import StreamLog
from amqp_broker.broker.queues.stream_log_chunk import StreamChunk
from amqp_broker.journal.failures import FormatNotSupported
from amqp_broker.wire.content import Properties, encode_content_header
from amqp_broker.wire.table import Table
from tests.support.client import Client, ClientChannel
from tests.support.disk_broker import DiskBroker
from tests.support.memory_broker import MemoryBroker
from tests.support.walking import walk_through


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few entries are many: a chunk has four, and two are in memory."""
    monkeypatch.setattr(stream_log_chunk, "CHUNK_ENTRIES_MAX", 4)
    monkeypatch.setattr(stream_log, "LATEST_ENTRIES_MAX", 2)


def stream_of(broker: MemoryBroker) -> StreamQueue:
    queue = broker.queue("s")
    assert isinstance(queue, StreamQueue)
    return queue


def filled(broker: MemoryBroker, count: int, **arguments: Any) -> ClientChannel:
    """A stream with numbered entries; arguments with underscores, without the x-."""
    channel = Client(broker).open().channel()
    table = {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
    channel.declare("s", {"x-queue-type": "stream", **table}, durable=True)
    publish(channel, range(count))
    return channel


def publish(channel: ClientChannel, numbers: Sequence[int]) -> None:
    for number in numbers:
        channel.publish("", "s", b"%d" % number)


def read(broker: MemoryBroker, offset: Any = "first", **arguments: Any) -> list[tuple[int, bytes]]:
    """What a new consumer gets, as offsets and bodies; it acknowledges nothing."""
    channel = Client(broker).open().channel()
    channel.qos(100)
    channel.consume("s", arguments={"x-stream-offset": offset, **arguments})
    return seen(channel)


def seen(channel: ClientChannel) -> list[tuple[int, bytes]]:
    return [(delivery.headers["x-stream-offset"], delivery.body) for delivery in channel.deliveries()]


def numbered(numbers: Sequence[int]) -> list[tuple[int, bytes]]:
    return [(number, b"%d" % number) for number in numbers]


# --- from memory and from the disk


@pytest.mark.parametrize("broker_type", [MemoryBroker, DiskBroker])
def test_everything_is_read_from_any_place(broker_type: type[MemoryBroker]) -> None:
    broker = broker_type()
    filled(broker, 11)
    for offset in range(11):
        assert read(broker, offset) == numbered(range(offset, 11))


def test_who_reads_from_the_disk_does_not_hold_up_the_end() -> None:
    broker = DiskBroker()
    publisher = filled(broker, 20)
    slow, fast = Client(broker).open().channel(), Client(broker).open().channel()
    with broker.holding_reads():
        for channel, offset in ((slow, "first"), (fast, "next")):
            channel.qos(100)
            channel.consume("s", arguments={"x-stream-offset": offset})
        publish(publisher, [20])
        assert (seen(slow), seen(fast)) == ([], numbered([20]))
    assert seen(slow) == numbered(range(21))


def test_a_window_of_one_reads_all_in_order() -> None:
    broker = DiskBroker()
    filled(broker, 9)
    channel = Client(broker).open().channel()
    channel.qos(1)
    channel.consume("s", arguments={"x-stream-offset": "first"})
    got: list[tuple[int, bytes]] = []
    for tag in range(1, 10):
        got += seen(channel)
        channel.ack(tag)
    assert got == numbered(range(9))
    assert stream_of(broker).unacknowledged_count == 0


def test_a_channel_that_ends_gives_nothing_back() -> None:
    broker = MemoryBroker()
    filled(broker, 3)
    channel = Client(broker).open().channel()
    channel.qos(2)
    channel.consume("s", arguments={"x-stream-offset": "first"})
    assert seen(channel) == numbered([0, 1])
    channel.call(commands.Channel.Close(200, "done", 0, 0))
    assert stream_of(broker).unacknowledged_count == 0
    assert read(broker) == numbered(range(3))


def test_a_filter() -> None:
    broker = MemoryBroker()
    channel = filled(broker, 0)
    for number, value in enumerate(["a", "b", None, "a"]):
        headers = {} if value is None else {"x-stream-filter-value": value}
        channel.publish("", "s", b"%d" % number, headers=headers)
    assert read(broker, **{"x-stream-filter": "a"}) == numbered([0, 3])
    assert read(broker, **{"x-stream-filter": ["a", "b"]}) == numbered([0, 1, 3])
    assert read(broker, **{"x-stream-filter": "b", "x-stream-match-unfiltered": True}) == numbered([1, 2])


# --- over restarts


@pytest.mark.parametrize("ending", ["restarted", "killed", "without_power"])
def test_all_is_there_again_transient_or_not(ending: str) -> None:
    broker = DiskBroker()
    channel = filled(broker, 5)
    channel.publish("", "s", b"5", delivery_mode=2)
    broker = getattr(broker, ending)()
    assert read(broker) == numbered(range(6))
    publish(Client(broker).open().channel(), [6])
    assert read(broker, "last") == numbered([6])


@pytest.mark.parametrize(("fsync", "is_seen_unsynced"), [("always", False), ("interval", True), ("never", True)])
def test_an_entry_is_seen_when_it_is_kept_and_in_memory_until_then(fsync: str, is_seen_unsynced: bool) -> None:
    broker = DiskBroker(fsync=fsync)
    publisher = filled(broker, 1)
    reader = broker.client().channel()
    reader.qos(100)
    reader.consume("s", arguments={"x-stream-offset": "first"})
    assert seen(reader) == numbered([0])
    broker.writes_at_once = False
    publish(publisher, range(1, 9))
    assert (seen(reader), read(broker)) == ([], numbered([0]))
    broker.reads_at_once = False
    broker.write(sync=False)
    assert seen(reader) == (numbered(range(1, 9)) if is_seen_unsynced else [])
    broker.write()
    assert is_seen_unsynced or seen(reader) == numbered(range(1, 9))
    assert len(list(stream_of(broker).messages())) == 2


def test_entries_are_in_memory_no_longer_for_a_consumer_that_has_gone() -> None:
    broker = DiskBroker()
    publisher = filled(broker, 1)
    reader = Client(broker).open().channel()
    reader.qos(100)
    reader.consume("s")
    with broker.holding_writes():
        publish(publisher, range(1, 9))
        reader.client.connection.lost("it has gone")
        assert len(list(stream_of(broker).messages())) == 8
    assert len(list(stream_of(broker).messages())) == 2


def test_an_entry_is_confirmed_when_it_is_kept() -> None:
    broker = DiskBroker()
    channel = filled(broker, 0)
    channel.call(commands.Confirm.Select())
    with broker.holding_writes():
        publish(channel, [0])
        assert channel.received() == []
    assert isinstance(channel.received()[0].method, commands.Basic.Ack)


@pytest.mark.parametrize("order", [["q", "s"], ["s", "q"]])
def test_what_another_queue_refuses_is_refused_though_the_stream_has_it(order: list[str]) -> None:
    broker = DiskBroker()
    channel = filled(broker, 0)
    channel.declare("q", {"x-max-length": 0, "x-overflow": "reject-publish"})
    for queue in order:
        channel.bind(queue, "amq.fanout")
    channel.call(commands.Confirm.Select())
    channel.publish("amq.fanout", "", b"0")
    assert isinstance(channel.received()[0].method, commands.Basic.Nack)
    assert read(broker) == [(0, b"0")]


@pytest.mark.parametrize("mode", [1, 2])
@pytest.mark.parametrize("order", [["q", "s"], ["s", "q"]])
def test_among_several_queues_the_confirm_waits_for_the_stream_alone(mode: int, order: list[str]) -> None:
    broker = DiskBroker()
    channel = filled(broker, 0)
    channel.declare("q")
    for queue in order:
        channel.bind(queue, "amq.fanout")
    channel.call(commands.Confirm.Select())
    with broker.holding_writes():
        channel.publish("amq.fanout", "", b"0", delivery_mode=mode)
        assert channel.received() == []
    assert isinstance(channel.received()[0].method, commands.Basic.Ack)
    broker = broker.killed()
    assert read(broker) == [(0, b"0")]


@pytest.mark.parametrize(("queue_type", "state"), [("classic", {"first_offset": 1}), ("stream", {"first_offset": "0"})])
def test_a_state_that_the_queue_cannot_have_ends_the_start_by_name(queue_type: str, state: Table) -> None:
    broker = DiskBroker()
    broker.client().channel().declare("q", {"x-queue-type": queue_type}, durable=True)
    broker.durability.keep_state(broker.queue("q"), state)
    broker.write()
    with pytest.raises(FormatNotSupported, match=r"queue 'q' in vhost '/'.*first_offset"):
        broker.restarted()


@pytest.mark.parametrize(("written", "dropped"), [*product([True, False], repeat=2)])
def test_offsets_never_go_back_when_power_fails(written: bool, dropped: bool) -> None:
    broker = DiskBroker()
    channel = filled(broker, 8, max_length_bytes=6)
    first = stream_of(broker).first_offset
    broker.writes_at_once = written
    publish(channel, range(8, 16) if dropped else [])
    end = stream_of(broker).end_offset
    if written:
        first = stream_of(broker).first_offset
    else:
        end = 8
    broker = broker.without_power()
    assert (stream_of(broker).first_offset, stream_of(broker).end_offset) == (first, end)
    assert [int(body) for _, body in read(broker)] == list(range(first, end))


# --- what goes


def test_what_is_too_much_goes_chunk_by_chunk() -> None:
    broker = DiskBroker()
    channel = filled(broker, 10, max_length_bytes=6)
    assert read(broker) == numbered(range(4, 10))
    publish(channel, [0, 1, 2])
    assert read(broker, 0)[0] == (8, b"8")
    broker.reclaim()
    assert broker.restarted().queue("s").ready_count == 5


def test_what_is_too_old_goes_by_the_clock() -> None:
    broker = DiskBroker()
    filled(broker, 5, max_age="1m")
    broker.advance(59_000)
    assert len(read(broker)) == 5
    broker.advance(1_001)
    assert read(broker) == numbered([4])
    broker.advance(3_600_000)
    assert read(broker) == numbered([4])  # the last chunk stays


def test_an_age_beyond_all_bounds_is_one_that_a_timer_can_wait_for() -> None:
    broker = DiskBroker()
    filled(broker, 5, max_age="9" * 5_000 + "Y")
    assert float(broker.timers.next_deadline_ms() or 0) > 1e15
    assert len(read(broker)) == 5


def test_what_grew_old_while_the_broker_was_away() -> None:
    broker = DiskBroker()
    filled(broker, 5, max_age="1m")
    broker = broker.restarted(down_ms=60_001)
    assert read(broker) == numbered([4])


def test_entries_that_came_far_apart_go_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_log_chunk, "CHUNK_ENTRIES_MAX", 1024)
    broker = DiskBroker()
    channel = filled(broker, 0, max_age="1m")
    before = broker.live_records()
    for number in range(5):
        publish(channel, [number])
        broker.advance(1_000)
    broker.advance(56_500)
    assert read(broker) == numbered([2, 3, 4])
    assert broker.live_records() == before + 3 + 1, "and where the rest begins"
    broker = broker.restarted()
    assert read(broker) == numbered([2, 3, 4])
    broker.advance(1_000)
    assert read(broker) == numbered([3, 4])
    broker.advance(60_000)
    assert read(broker) == numbered([4])


def test_a_policy_limits_it_and_a_reader_goes_on_with_what_is_left() -> None:
    broker = DiskBroker()
    filled(broker, 9)
    channel = Client(broker).open().channel()
    channel.qos(4)
    channel.consume("s", arguments={"x-stream-offset": "first"})
    assert seen(channel) == numbered(range(4))
    with broker.holding_reads():
        channel.ack(4, multiple=True)  # the next ones are asked for
        broker.handle(lambda: stream_of(broker).apply(limited(broker, 1)))
    assert seen(channel) == numbered([8])


def limited(broker: MemoryBroker, bytes_max: int) -> Any:
    return replace(stream_of(broker).declared, length_bytes_max=bytes_max)


def test_very_much_that_goes_is_forgotten_in_turns_wherever_the_broker_is_killed() -> None:
    broker = DiskBroker()
    filled(broker, 44)
    before = broker.live_records()
    with broker.holding_works():
        broker.handle(lambda: stream_of(broker).apply(limited(broker, 1)))
        assert broker.is_unfinished
        assert read(broker) == numbered(range(40, 44))
        killed = broker.killed()
        assert read(killed) == numbered(range(4, 44)), "one chunk was forgotten"
    assert broker.live_records() == before - 40 + 1, "all of them, and where the rest begins is kept"


def test_a_policy_that_drops_at_a_start_moves_no_offset() -> None:
    broker = DiskBroker()
    channel = filled(broker, 12, max_length_bytes=8)
    publish(channel, range(2))
    before = read(broker)
    assert before[0][0] == 8
    policy: dict[str, Any] = {"pattern": "s", "definition": {"max-age": "1m"}}
    broker.handle(lambda: broker.administration.parameters.set_policy("/", "p", policy))
    publish(channel, range(5))
    before = read(broker)
    broker = broker.restarted(down_ms=60_001)
    assert read(broker) == before[-len(read(broker)) :]
    assert len(read(broker)) < len(before)


def test_what_is_deleted_leaves_nothing_in_the_journal() -> None:
    broker = DiskBroker()
    channel = Client(broker).open().channel()
    channel.declare("other", durable=True)
    before = broker.live_records()
    channel = filled(broker, 30, max_length_bytes=20)
    channel.call(commands.Queue.Delete(queue="s"))
    assert broker.live_records() == before
    assert "s" not in broker.restarted().virtual_host.queues


# --- the log


def entry(body: bytes = b"x") -> Message:
    return Message(Address("", "s", b""), b"", body, True, 0)


def test_times() -> None:
    log = StreamLog(has_journal=False)
    for wall_ms in (0, 500, 2_000, 1_000, 5_000):  # the clock went back once
        log.append(entry(), wall_ms)
    assert [log.offset_at(wall_ms) for wall_ms in (0, 501, 2_000, 2_001, 5_000, 5_001)] == [0, 2, 2, 4, 4, 5]


def test_who_begins_at_a_time_gets_what_came_behind_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_log_chunk, "CHUNK_ENTRIES_MAX", 8)
    log = StreamLog(has_journal=True)
    for reference, (records, wall_ms) in enumerate([(63, 0), (1, 100), (63, 199), (1, 299), (1, 400)], 1):
        log.append_stored_block(reference, 1, (1, records), wall_ms)  # fewer than 64 are not worth a part
    assert [log.offset_at(wall_ms) for wall_ms in (1, 199, 200, 299, 400, 401)] == [0, 0, 127, 127, 127, 129]


def test_an_entry_a_second_costs_few_bytes_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_log_chunk, "CHUNK_ENTRIES_MAX", 1024)
    count = 8 * 1024
    for counts in (None, (1, 100)):
        tracemalloc.start()
        log = StreamLog(has_journal=True)
        for number in range(count):
            wall_ms, reference = 1_800_000_000_000 + 1000 * number, 2 * number + 1
            if counts is None:
                log.append_stored(reference, 12, wall_ms)
            else:
                log.append_stored_block(reference, 12, counts, wall_ms)
        used_bytes, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert used_bytes < (10 if counts is None else 18) * count  # of which half is the last chunk's
        assert log.wall_ms_of(log.end_offset - 1) == wall_ms
        assert log.offset_at(wall_ms - 999) == log.end_offset - (counts or (1, 1))[1]


def test_no_more_parts_go_than_are_too_much_or_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_log_chunk, "CHUNK_ENTRIES_MAX", 8)
    for bytes_max, wall_ms_min in ((7, None), (None, 5_000), (7, 3_000), (9, 5_000)):
        log = StreamLog(has_journal=True)
        for second in range(12):
            log.append_stored(1 + second, 1, 1000 * second)
        (taken,) = log.take_surplus(bytes_max, wall_ms_min)
        assert (len(taken), log.first_offset, log.body_bytes) == (5, 5, 7)
        assert log.oldest_wall_ms == 5_000
        assert not log.take_surplus(bytes_max, wall_ms_min)


def test_references_may_be_anything_that_grows() -> None:
    log = StreamLog(has_journal=True)
    chunks = [[1, 2, 3, 4], [5, 12, 13, 14], [20, 21, 22, 70_000], [80_000, 2**33, 2**33 + 1, 2**33 + 2], [2**33 + 9]]
    for reference in chain(*chunks):
        log.append_stored(reference, 1, 0)
        assert log.last_reference == reference
    assert [list(references) for _, references in log.parts(0, 17)] == chunks


@pytest.mark.parametrize("batches", [[16_384], [1, 16_383], [5_000, 5_000, 5_000, 1_384], [30] * 546 + [4]])
def test_references_of_entries_that_come_many_at_a_time_take_next_to_no_memory(batches: list[int]) -> None:
    references: list[int] = []
    for size in batches:
        first = references[-1] + 2 if references else 10**12  # a batch leaves one out
        references += range(first, first + size)
    tracemalloc.start()
    chunk = StreamChunk(0, 0)
    for reference in references:
        chunk.append(reference, 1, 0)
    chunk.close()
    used_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used_bytes < 1_200 + len(batches)
    assert list(chunk.references()) == references
    for start, end in ((0, 1), (1, 2), (16_383, 16_384), (29, 31), (5_000, 15_001), (16_384, 16_400), (7, 7)):
        assert list(chunk.references(start, end)) == references[start:end]
    assert chunk.last_reference == references[-1]


def test_blocks_take_as_little_memory_as_they_can() -> None:
    log = StreamLog(has_journal=True)
    chunks = [[(1, 1)] * 4, [(1, 1), (2, 2), (1, 1), (3, 3)], [(1, 9), (2, 2), (1, 1), (1, 65_535)], [(0, 1), (2, 2)]]
    for reference, (entries, records) in enumerate(chain(*chunks), 1):
        if entries:
            log.append_stored_block(reference, 1, (entries, records), 0)
        else:
            log.append_stored(reference, 1, 0)
    assert [len(chunk._entries) for chunk in log._chunks] == [0, 0, 4, 2]
    assert isinstance(log._chunks[0]._ends, range)
    found = [[log.extent(chunk.first_offset, 4).counts_of(place) for place in range(4)] for chunk in log._chunks[:3]]
    assert found == chunks[:3]
    assert [log._chunks[3].is_block(place) for place in range(2)] == [False, True]


# --- operators


def test_who_looks_in_sees_all_of_it() -> None:
    broker = DiskBroker()
    filled(broker, 6)
    peek = Peek(broker, stream_of(broker), PeekBounds(offset=1, limit=4))
    walk_through(broker, peek.steps())
    seen_messages = peek.seen()["messages"]
    assert [one["payload"] for one in seen_messages] == ["1", "2", "3", "4"]


def test_what_an_operator_cannot_purge() -> None:
    broker = MemoryBroker()
    filled(broker, 1)
    with pytest.raises(AdministrationError, match="purge not supported by stream queues queue 's' in vhost '/'"):
        Administration(broker).purge_queue("/", "s")


def test_the_offset_stands_in_the_header_beside_all_that_was_published() -> None:
    headers = OffsetHeaders()
    tables: list[Table | None] = [None, {"a": 1, "z": [True, {"x": None}]}, {"x-stream-offset": "made up", "z": "z"}]
    for table in tables:
        for offset in (0, 7, 2**40):
            properties = Properties(content_type="t", headers=table, message_id="m", timestamp=3)
            header = headers.with_offset(encode_content_header(5, properties), offset)
            said: Table = {**(table or {}), "x-stream-offset": offset}
            assert header == encode_content_header(5, replace(properties, headers=said))
