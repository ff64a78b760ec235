"""The stream protocol's conversation in memory: login, publishing, subscriptions, offsets, super streams."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pamqp.common import FieldTable

from amqp_broker.access.client import Peer
from amqp_broker.broker.alarms import Resource
from amqp_broker.broker.definitions.applying import import_definitions
from amqp_broker.broker.message import Message
from amqp_broker.broker.peeking import Peek, PeekBounds, PeekedMessage
from amqp_broker.broker.problems import NotThere
from amqp_broker.broker.queues import stream_log, stream_log_chunk
from amqp_broker.broker.queues.stream import StreamQueue
from amqp_broker.broker.queues.stream_block import StreamBlock, block_address, block_body
from amqp_broker.broker.queues.stream_sent_chunks import PARTS_MAX
from amqp_broker.cli.streams import definitions_of
from amqp_broker.journal.failures import JournalDamaged
from amqp_broker.protocols.amqp10.entries import StreamEntries
from amqp_broker.protocols.stream import codes
from interop.stream_client import (
    ANSWER,
    AUTHENTICATE,
    CLOSE,
    CONFIRM,
    CONSUMER_UPDATE,
    CREDIT,
    DELETE_PUBLISHER,
    DELETE_SUPER,
    DELIVER,
    FIRST,
    HANDSHAKE,
    HEARTBEAT,
    LAST,
    METADATA,
    METADATA_UPDATE,
    NEXT,
    OFFSET,
    OPEN,
    PARTITIONS,
    PEER_PROPERTIES,
    PUBLISH,
    QUERY_OFFSET,
    ROUTE,
    STATS,
    TIMESTAMP,
    TUNE,
    UNSUBSCRIBE,
    VERSIONS,
    Chunk,
    Read,
    array,
    blob,
    data_section,
    frame,
    pairs,
    sub_batch,
    text,
    u16,
    u32,
    u64,
)
from tests.support.client import Client, publish_frames
from tests.support.disk_broker import DiskBroker
from tests.support.memory_broker import MemoryBroker
from tests.support.stream_client import LOOPBACK, StreamClient
from tests.support.walking import walk_through

FAR_AWAY = Peer.at("192.0.2.1", 50_000, "192.0.2.2", 5552)


@pytest.fixture(params=[MemoryBroker, DiskBroker])
def broker(request: pytest.FixtureRequest) -> MemoryBroker:
    made = request.param(stream_port=0)
    assert isinstance(made, MemoryBroker)
    return made


def messages(*numbers: int) -> dict[int, bytes]:
    return {number: data_section(b"%d" % number) for number in numbers}


def peeked(broker: MemoryBroker, offset: int = 0) -> list[PeekedMessage]:
    peek = Peek(broker, broker.queue("s"), PeekBounds(offset=offset))
    walk_through(broker, peek.steps())
    return peek.seen()["messages"]


def client_with_stream(
    broker: MemoryBroker, name: str = "s", *, reference: str = "", in_bytes: bool = False
) -> StreamClient:
    client = StreamClient(broker, in_bytes=in_bytes)
    assert client.create(name) == codes.OK
    assert client.declare_publisher(1, name, reference) == codes.OK
    return client


def stream_of(broker: MemoryBroker, name: str = "s") -> StreamQueue:
    queue = broker.queue(name)
    assert isinstance(queue, StreamQueue)
    return queue


# --- the login


@pytest.mark.parametrize("in_bytes", [False, True])
def test_what_is_published_is_confirmed_and_delivered(broker: MemoryBroker, in_bytes: bool) -> None:
    client = client_with_stream(broker, in_bytes=in_bytes)
    client.publish(1, messages(1, 2, 3))
    assert client.confirmed(3) == [1, 2, 3]
    assert client.subscribe(1, "s") == codes.OK
    chunk = client.chunk()
    assert (chunk.first_offset, chunk.record_count, chunk.entries) == (0, 3, [*messages(1, 2, 3).values()])


def test_the_broker_says_where_clients_reach_it() -> None:
    client = StreamClient(MemoryBroker(), logs_in=False)
    assert client.log_in() == {"advertised_host": "127.0.0.1", "advertised_port": "5552"}
    chosen = MemoryBroker(stream_advertised_host="broker.example", stream_advertised_port=7)
    client = StreamClient(chosen, logs_in=False)
    assert client.log_in() == {"advertised_host": "broker.example", "advertised_port": "7"}
    client.correlation += 1
    client.send(METADATA, u32(client.correlation) + array([text("s")]))
    read = Read(client.take(METADATA | ANSWER)[1])
    read.number(8)
    assert (read.number(2), read.text(), read.number(4)) == (0, "broker.example", 7)
    assert (read.number(4), read.text(), read.number(2), read.number(2)) == (1, "s", 2, 0xFFFF)


@pytest.mark.parametrize(
    ("mechanism", "response", "peer", "code"),
    [
        ("PLAIN", b"\0guest\0wrong", LOOPBACK, codes.AUTHENTICATION_FAILURE),
        ("PLAIN", b"what", LOOPBACK, codes.SASL_ERROR),
        ("NONE", b"", LOOPBACK, codes.SASL_MECHANISM_NOT_SUPPORTED),
        ("PLAIN", b"\0guest\0guest", FAR_AWAY, codes.SASL_AUTHENTICATION_FAILURE_LOOPBACK),
    ],
)
def test_who_may_not_come_in_is_told_so_and_sent_away(mechanism: str, response: bytes, peer: Peer, code: int) -> None:
    broker = MemoryBroker()
    client = StreamClient(broker, logs_in=False, peer=peer)
    client.call(PEER_PROPERTIES, pairs({}))
    assert client.call(HANDSHAKE)[1].texts() == ["PLAIN", "AMQPLAIN"]
    assert client.call(AUTHENTICATE, text(mechanism) + blob(response))[0] == code
    assert client.is_closed
    assert not broker.open_connections


@pytest.mark.parametrize(
    ("name", "code"),
    [("ada", codes.OK), ("nobody", codes.AUTHENTICATION_FAILURE), (None, codes.SASL_MECHANISM_NOT_SUPPORTED)],
)
def test_a_certificate_says_who_a_client_is(name: str | None, code: int) -> None:
    broker = MemoryBroker()
    broker.administration.add_user("ada", "secret")
    broker.administration.set_permission("ada", "/", ".*", ".*", ".*")
    client = StreamClient(broker, logs_in=False, peer=replace(LOOPBACK, certificate_name=name))
    assert ("EXTERNAL" in client.call(HANDSHAKE)[1].texts()) is (name is not None)
    assert client.call(AUTHENTICATE, text("EXTERNAL") + blob(b""))[0] == code
    assert client.is_closed is (code != codes.OK)
    if code == codes.OK:
        client.send(TUNE, u32(1_048_576) + u32(60))
        assert client.call(OPEN, text("/"))[0] == codes.OK
        assert client.create("s") == codes.OK


@pytest.mark.parametrize(
    ("mechanism", "response", "code"),
    [
        ("PLAIN", b"\0u\0u", codes.VIRTUAL_HOST_ACCESS_FAILURE),
        ("PLAIN", b"\0u\0wrong", codes.AUTHENTICATION_FAILURE),
        ("PLAIN", b"\0guest\0guest", codes.SASL_CANNOT_CHANGE_USER_NAME),
        ("AMQPLAIN", b"", codes.SASL_CANNOT_CHANGE_MECHANISM),
    ],
)
def test_who_renews_its_credentials_is_looked_at_again(mechanism: str, response: bytes, code: int) -> None:
    broker = MemoryBroker()
    broker.administration.add_user("u", "u")
    broker.administration.set_permission("u", "/", "", "", "")
    client = StreamClient(broker, logs_in=False)
    client.log_in("u", "u")
    assert client.call(AUTHENTICATE, text("PLAIN") + blob(b"\0u\0u"))[0] == codes.OK
    broker.administration.clear_permission("u", "/")
    assert client.call(AUTHENTICATE, text(mechanism) + blob(response))[0] == code
    assert client.is_closed
    assert not broker.open_connections


def test_the_log_says_why_a_login_was_refused() -> None:
    client = StreamClient(MemoryBroker(), logs_in=False)
    assert client.call(AUTHENTICATE, text("PLAIN") + blob(b"\0guest\0no"))[0] == codes.AUTHENTICATION_FAILURE
    assert client.connection.close_reason == "login refused: user 'guest' - invalid credentials"


def test_a_virtual_host_that_is_not_there_is_refused() -> None:
    client = StreamClient(MemoryBroker(), logs_in=False)
    client.call(AUTHENTICATE, text("PLAIN") + blob(b"\0guest\0guest"))
    assert client.take(TUNE)[1] == u32(1_048_576) + u32(60)
    client.send(TUNE, u32(0) + u32(0))
    assert client.call(OPEN, text("none"))[0] == codes.VIRTUAL_HOST_ACCESS_FAILURE
    assert client.is_closed
    assert client.connection.close_reason == "vhost none not found"  # for the log


def test_the_steps_of_the_login_have_one_order() -> None:
    for early in (frame(OPEN, u32(1) + text("/")), frame(TUNE, u32(0) * 2), frame(PUBLISH, b"\1" + u32(0))):
        client = StreamClient(MemoryBroker(), logs_in=False)
        client.write(early)
        assert client.heard() == [CLOSE]
        assert client.is_closed


def test_who_says_nothing_after_the_login_is_given_up() -> None:
    broker = MemoryBroker()
    client = StreamClient(broker)
    broker.advance(61_000)
    assert set(client.heard()) == {HEARTBEAT}
    client.write(frame(HEARTBEAT, b""))
    broker.advance(61_000)
    assert broker.open_connections
    broker.advance(121_000)
    assert not broker.open_connections


def test_goodbyes() -> None:
    broker = MemoryBroker()
    client = StreamClient(broker)
    assert client.call(CLOSE, u16(1) + text("bye"))[0] == codes.OK
    assert client.is_closed
    client = StreamClient(broker)
    client.connection.shut_down("the broker has shut down")
    read = Read(client.take(CLOSE)[1])
    assert (read.number(4), read.number(2), read.text()) == (1, codes.OK, "the broker has shut down")
    assert client.is_closed


@pytest.mark.parametrize(
    "data",
    [
        u32(20_000_000) + bytes(100),
        frame(99, u32(1)),
        frame(PUBLISH, b"\1"),
        frame(PUBLISH, b"\1" + u32(1) + bytes(8)),
        frame(PUBLISH, b"\1" + u32(1) + bytes(8) + u32(1)),
        frame(PUBLISH, b"\1" + u32(1) + bytes(8) + u32(0) + b"more"),
        frame(PUBLISH, b"\1" + u32(70_000)),
        frame(PUBLISH, b"\1" + u32(1) + bytes(8) + b"\0\7", 2),
        frame(CREDIT, b"\1"),
        frame(7, u32(1) + b"\1" + text("s") + u16(9) + u16(1)),
        u32(2) + b"\0\1",
    ],
)
def test_what_makes_no_sense_ends_the_connection(data: bytes) -> None:
    broker = MemoryBroker()
    client = client_with_stream(broker)
    client.write(data)
    assert client.heard() == [CLOSE]
    assert client.is_closed
    assert stream_of(broker).ready_count == 0
    assert not broker.open_connections


# --- publishing


def test_publishers_that_cannot_be() -> None:
    broker = MemoryBroker()
    client = client_with_stream(broker, reference="r")
    Client(broker).open().channel().declare("classic")
    assert client.declare_publisher(1, "s") == codes.PRECONDITION_FAILED
    assert client.declare_publisher(2, "s", "r") == codes.PRECONDITION_FAILED
    assert client.declare_publisher(2, "s", "x" * 256) == codes.PRECONDITION_FAILED
    assert client.declare_publisher(2, "none") == codes.STREAM_DOES_NOT_EXIST
    assert client.declare_publisher(2, "classic") == codes.STREAM_DOES_NOT_EXIST
    assert client.call(DELETE_PUBLISHER, b"\2")[0] == codes.PUBLISHER_DOES_NOT_EXIST
    assert client.call(DELETE_PUBLISHER, b"\1")[0] == codes.OK
    client.publish(1, messages(4, 5))
    assert client.refused() == [(4, codes.PUBLISHER_DOES_NOT_EXIST), (5, codes.PUBLISHER_DOES_NOT_EXIST)]


def test_a_confirm_waits_for_the_journal() -> None:
    broker = DiskBroker()
    client = client_with_stream(broker)
    with broker.holding_writes():
        client.publish(1, messages(1, 2))
        assert client.heard() == []
    assert client.confirmed(2) == [1, 2]


def test_what_is_there_already_is_confirmed_and_told_only_when_it_is_kept() -> None:
    broker = DiskBroker()
    client = client_with_stream(broker, reference="r")
    broker.writes_at_once = False
    client.publish(1, messages(1))
    client.store_offset("me", "s", 1)
    client.drop()
    batch = broker.durability.take_batch(sync=False)
    assert batch is not None
    other = StreamClient(broker)
    other.declare_publisher(1, "s", "r")
    other.publish(1, messages(1))
    other.send(QUERY_OFFSET, u32(99) + text("me") + text("s"))
    assert other.heard() == [], "it is being written"
    broker.journal.write(batch)
    broker.journal.committed(batch)
    broker.committed()
    assert other.heard() == [], "it is not synced"
    broker.write()
    assert set(other.heard()) == {CONFIRM, QUERY_OFFSET | ANSWER}
    assert stream_of(broker).ready_count == 1


def test_what_was_published_before_is_confirmed_and_not_stored(broker: MemoryBroker) -> None:
    client = client_with_stream(broker, reference="r")
    client.publish(1, messages(1, 2, 3))
    client.publish(1, messages(2, 3, 4))
    client.publish(1, messages(1))
    assert client.confirmed(7) == [1, 1, 2, 2, 3, 3, 4]
    assert client.sequence("r", "s") == 4
    assert client.sequence("other", "s") == 0
    assert stream_of(broker).ready_count == 4
    unnamed = StreamClient(broker)
    unnamed.declare_publisher(1, "s")
    unnamed.publish(1, messages(1))
    unnamed.publish(1, messages(1))
    assert stream_of(broker).ready_count == 6


def test_publishing_ids_and_offsets_outlive_the_broker_as_entries_do() -> None:
    broker = DiskBroker()
    client = client_with_stream(broker, reference="r")
    client.publish(1, messages(1, 2, 2**63 + 1))
    client.store_offset("me", "s", 2)
    assert client.confirmed(3) == [1, 2, 2**63 + 1]
    broker.writes_at_once = False
    client.publish(1, messages(2**63 + 2))
    client.store_offset("me", "s", 3)
    client.send(QUERY_OFFSET, u32(99) + text("me") + text("s"))
    assert client.heard() == [], "an offset that may be forgotten is not told"
    broker = broker.killed()
    client = StreamClient(broker)
    assert (client.sequence("r", "s"), client.offset("me", "s")) == (2**63 + 1, (codes.OK, 2))
    assert stream_of(broker).ready_count == 3
    client.declare_publisher(1, "s", "r")
    client.publish(1, messages(2**63 + 1, 2**63 + 2))
    broker = broker.restarted()
    client = StreamClient(broker)
    assert client.sequence("r", "s") == 2**63 + 2
    client.subscribe(1, "s")
    assert client.entries(4) == [*messages(1, 2, 2**63 + 1, 2**63 + 2).values()]
    assert client.delete("s") == codes.OK
    broker = broker.restarted()
    client = StreamClient(broker)
    assert client.create("s") == codes.OK
    assert (client.sequence("r", "s"), client.offset("me", "s")) == (0, (codes.NO_OFFSET, 0))


def test_what_a_stream_remembers_goes_with_it() -> None:
    broker = DiskBroker()
    before = broker.live_records()
    client = client_with_stream(broker, reference="r")
    for number in range(1, 4):
        client.publish(1, messages(number))
        client.store_offset("me", "s", number)
    assert client.confirmed(3)
    client.delete("s")
    assert broker.live_records() == before


def test_sub_batches_are_passed_on_as_they_are(broker: MemoryBroker) -> None:
    client = client_with_stream(broker)
    batch = sub_batch([*messages(1, 2, 3).values()])
    unknown = sub_batch([*messages(4, 5).values()], compression=3)
    client.publish_batches(1, {1: batch, 2: unknown, 3: sub_batch([])})
    client.publish(1, messages(6))
    assert client.confirmed(4) == [1, 2, 3, 6]
    client.subscribe(1, "s")
    chunk = client.chunk()
    assert (chunk.record_count, chunk.entry_count, chunk.entries) == (5, 2, [])
    assert [(kind, records) for kind, records, _, _ in chunk.sub_batches] == [(0, 3), (3, 2)]
    assert client.chunk().entries == [*messages(6).values()]  # in a chunk of their own: some clients read no mixed one
    assert [(one["payload"], one["offset"]) for one in peeked(broker)] == [("1", 0), ("2", 1), ("3", 2), ("6", 5)]


def test_a_sub_batch_is_opened_when_its_turn_comes() -> None:
    class Counting:
        count = 0
        entries = StreamEntries()

        def encoded(self, message: Message) -> bytes:
            return self.entries.encoded(message)

        def decoded(self, entry: bytes) -> tuple[bytes, bytes]:
            self.count += 1
            return self.entries.decoded(entry)

    forms = Counting()
    batches = [sub_batch([b""] * 10_000, compression=1)] * 100
    block = StreamBlock(block_address("s"), block_body(1_000_000, b"", batches))
    opened = (message for message in block.opened(forms, None) if message is not None)
    assert [next(opened).position for _ in range(10_001)] == [*range(10_001)]
    assert forms.count == 10_001
    found = next(message for message in block.opened(forms, None, 999_990) if message is not None)
    assert (found.position, forms.count) == (999_990, 10_002)


@pytest.mark.parametrize("compression", [0, 1])
def test_a_sub_batch_is_opened_in_steps_whatever_is_in_it(compression: int) -> None:
    bodies = [data_section(b"x" * size) for size in (0, 600_000, 1, 70_000, *[2] * 2_100)]
    batch = sub_batch(bodies, compression=compression)
    block = StreamBlock(block_address("s"), block_body(len(bodies), b"", [batch]))
    opened = [*block.opened(StreamEntries(), None)]
    found = [message for message in opened if message is not None]
    assert [message.body for message in found] == [body[8:] for body in bodies]
    assert [message.position for message in found] == [*range(len(bodies))]
    assert len(opened) - len(found) >= (10 if compression else 2), "others have their turn between them"


def test_a_sub_batch_that_says_too_little_or_is_damaged_is_opened_as_far_as_it_goes() -> None:
    bodies = [data_section(b"x" * 100)] * 2_000
    batch = sub_batch(bodies, compression=1)
    head, data = batch[:11], batch[11:]
    for damaged, count in (
        (head[:3] + u32(112 * 10) + head[7:] + data, 10),  # of opened bytes
        (head[:1] + u16(7) + head[3:] + data, 7),  # of records
        (head[:7] + blob(data[: len(data) // 2]), 900),
        (head[:7] + blob(b"no gzip"), 0),
    ):
        block = StreamBlock(block_address("s"), block_body(2_000, b"", [damaged]))
        found = [message for message in block.opened(StreamEntries(), None) if message is not None]
        assert len(found) == count or (count == 900 and 0 < len(found) < 2_000)


@pytest.mark.parametrize("are_filtered", [False, True])
def test_a_publish_of_very_many_messages_makes_nobody_wait(are_filtered: bool) -> None:
    broker = MemoryBroker(stream_port=0)
    client, other = client_with_stream(broker), StreamClient(broker)
    value = text("v") if are_filtered else b""
    entries = [u64(number) + value + blob(b"") for number in range(40_000)]
    content = b"\1" + array(entries)
    with broker.holding_works():
        client.write(frame(PUBLISH, content, 1 + are_filtered))
        assert 0 < stream_of(broker).ready_count <= 20_000
        assert other.declare_publisher(1, "s") == codes.OK
        other.publish(1, messages(1))
        assert other.confirmed(1) == [1]
    assert client.confirmed(40_000) == [*range(40_000)]
    assert stream_of(broker).end_offset == 40_001


def test_a_publish_of_very_many_messages_is_stored_up_to_a_mistake() -> None:
    broker = MemoryBroker(stream_port=0)
    for name, behind in (("a", b"\0"), ("b", b""), ("c", b"\0" * 8)):
        client = client_with_stream(broker, name)
        entries = [u64(number) + blob(b"") for number in range(20_000)]
        data = b"\1" + (array(entries) + behind if behind == b"\0" else u32(20_001) + b"".join(entries) + behind)
        client.write(frame(PUBLISH, data))
        _, content = client.take(CLOSE)
        assert content[4:6] == u16(codes.UNKNOWN_FRAME)
        assert 0 < stream_of(broker, name).end_offset < 20_001
    assert broker.refused_commands == {("stream", codes.UNKNOWN_FRAME): 3}


def test_confirms_fit_into_the_frames_that_the_client_takes() -> None:
    broker = MemoryBroker(stream_port=0)
    client = StreamClient(broker, logs_in=False)
    client.log_in(frame_max=8_192)
    client.create("s")
    client.declare_publisher(1, "s")
    client.publish(1, dict.fromkeys(range(3_000), b""))
    client.read()
    sizes = [len(content) + 8 for key, _, content in client.frames if key == CONFIRM]
    assert len(sizes) == 3
    assert max(sizes) <= 8_192
    assert client.confirmed(3_000) == [*range(3_000)]


def test_a_long_publish_becomes_several_chunks_of_which_the_last_is_the_last(broker: MemoryBroker) -> None:
    client = client_with_stream(broker)
    batches = {number: sub_batch([b"a", b"b"]) for number in range(5_000)}
    client.publish_batches(1, batches)
    assert len(client.confirmed(5_000)) == 5_000
    client.subscribe(1, "s", LAST)
    chunk = client.chunk()
    assert (chunk.first_offset, chunk.entry_count, chunk.record_count) == (8_192, 904, 1_808)
    client.publish(1, {1: bytes(1_500_000)})  # longer than the frames that were agreed on
    assert client.confirmed(1) == [1]


def test_an_alarm_holds_publishers_back() -> None:
    broker = MemoryBroker()
    client = client_with_stream(broker)
    broker.set_alarm(Resource.MEMORY, True)
    client.publish(1, messages(1))
    assert client.connection.is_reading_paused
    broker.set_alarm(Resource.MEMORY, False)
    assert not client.connection.is_reading_paused


# --- subscriptions


def test_a_chunk_comes_for_each_credit(broker: MemoryBroker) -> None:
    client = client_with_stream(broker)
    client.subscribe(1, "s", credit=1)
    for number in range(3):
        client.publish(1, messages(number))
    assert client.heard().count(DELIVER) == 1
    client.credit(1)
    chunk = client.chunk()
    assert (chunk.first_offset, chunk.record_count) == (1, 2)
    client.credit(1, 0)
    client.publish(1, messages(3))
    assert client.heard() == [CONFIRM]
    client.credit(9)
    assert client.take(CREDIT | ANSWER)[1] == u16(codes.SUBSCRIPTION_ID_DOES_NOT_EXIST) + b"\x09"


def test_where_a_subscription_begins(broker: MemoryBroker) -> None:
    client = client_with_stream(broker)
    for number in range(4):
        client.publish(1, messages(number))
        broker.advance(1_500)
    client.publish(1, messages(4, 5))
    wall_ms = broker.clock.wall_ms() - 1_500
    places: dict[int | tuple[int, int], int] = {
        FIRST: 0,
        LAST: 4,
        (OFFSET, 2): 2,
        (OFFSET, 5): 4,
        (TIMESTAMP, wall_ms): 3,
        (TIMESTAMP, 0): 0,
    }
    for number, (place, first_offset) in enumerate(places.items()):
        assert client.subscribe(number, "s", place) == codes.OK
        assert client.chunk().first_offset == first_offset
    client.subscribe(20, "s", NEXT)
    client.subscribe(21, "s", (OFFSET, 7))
    client.read()
    client.frames.clear()
    for number in range(len(places)):
        assert client.call(UNSUBSCRIBE, bytes((number,)))[0] == codes.OK
    client.publish(1, messages(6, 7))
    assert sorted([client.chunk().first_offset, client.chunk().first_offset]) == [6, 6]


def test_subscriptions_that_cannot_be() -> None:
    client = client_with_stream(MemoryBroker())
    assert client.subscribe(1, "s") == codes.OK
    assert client.subscribe(1, "s") == codes.SUBSCRIPTION_ID_ALREADY_EXISTS
    assert client.subscribe(2, "none") == codes.STREAM_DOES_NOT_EXIST
    assert client.subscribe(2, "s", properties={"name": "n" * 256}) == codes.PRECONDITION_FAILED
    assert client.call(UNSUBSCRIBE, b"\2")[0] == codes.SUBSCRIPTION_ID_DOES_NOT_EXIST


def test_what_is_not_in_memory_is_read_from_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_log, "LATEST_ENTRIES_MAX", 2)
    monkeypatch.setattr(stream_log_chunk, "CHUNK_ENTRIES_MAX", 4)
    broker = DiskBroker()
    client = client_with_stream(broker)
    channel = broker.client().channel()
    for number in range(0, 20, 2):
        client.publish(1, messages(number))
        channel.publish("", "s", b"%d" % (number + 1))
    client.publish_batches(1, {100: sub_batch([data_section(b"20"), data_section(b"21")], compression=1)})
    bodies = [b"%d" % number for number in range(22)]
    for _ in range(2):
        for offset in range(0, 22, 3):
            reader = broker.client().channel()
            reader.qos(100)
            reader.consume("s", arguments={"x-stream-offset": offset})
            got = reader.deliveries()
            assert [one.body for one in got] == bodies[offset:]
            assert [one.headers["x-stream-offset"] for one in got] == list(range(offset, 22))
            seen = peeked(broker, offset)
            assert [(one["payload"].encode(), one["offset"]) for one in seen] == [*zip(bodies, range(22), strict=True)][
                offset:
            ]
            client = StreamClient(broker)
            client.subscribe(1, "s", (OFFSET, offset), credit=1)
            records = 0
            while records < 22 - offset:
                chunk = client.chunk()
                assert chunk.first_offset == offset + records or (records == 0 and chunk.first_offset < offset)
                records = chunk.first_offset + chunk.record_count - offset
                client.credit(1)
        broker = broker.restarted()


@pytest.mark.parametrize("are_at_hand", [False, True])
def test_large_blocks_go_out_as_they_lie_on_the_disk(monkeypatch: pytest.MonkeyPatch, are_at_hand: bool) -> None:
    monkeypatch.setattr(stream_log, "LATEST_ENTRIES_MAX", 1)
    broker = DiskBroker()
    client = client_with_stream(broker)
    sizes = [100_000, 10, 20, 70_000, 20_000, 30, 230_000, 300_000, 1]
    for number, size in enumerate(sizes):
        client.publish(1, {number: bytes((number,)) * size})
    assert len(client.confirmed(len(sizes))) == len(sizes)
    channel = broker.client().channel()
    for _ in range(2):
        broker.files.are_at_hand = are_at_hand
        reader = StreamClient(broker)
        reader.subscribe(1, "s", credit=100)
        entries: list[bytes] = []
        counts = []
        while len(entries) < len(sizes):
            chunk = reader.chunk()
            assert chunk.first_offset == len(entries)
            entries += chunk.entries
            counts.append(chunk.entry_count)
        assert entries == [bytes((number,)) * size for number, size in enumerate(sizes)]
        if are_at_hand:
            assert counts == [1, 4, 2, 1, 1], "what goes out as it lies may be a part of any chunk"
        else:
            assert counts == [1, 2, 1, 2, 1, 1, 1], "what is a chunk is not copied into another one"
        assert (reader.stretches > 0) == are_at_hand
        channel = broker.client().channel()
        channel.qos(100)
        channel.consume("s", arguments={"x-stream-offset": "first"})
        assert [len(one.body) for one in channel.deliveries()] == sizes
        broker = broker.restarted()


@pytest.mark.parametrize("are_at_hand", [False, True])
def test_chunks_of_any_blocks_have_the_right_checksum(monkeypatch: pytest.MonkeyPatch, are_at_hand: bool) -> None:
    """Whatever is sent from where it lies, or is read, in whichever order (the client compares)."""
    monkeypatch.setattr(stream_log, "LATEST_ENTRIES_MAX", 1)
    broker = DiskBroker()
    client = client_with_stream(broker)
    sizes = [10, 20_000, 11, 12, 17_000, 16_500, 13, 70_000, 14, 64_900, 15, 16]
    for number, size in enumerate(sizes):
        client.publish(1, {number: bytes((number,)) * size})
    assert len(client.confirmed(len(sizes))) == len(sizes)
    for _ in range(2):
        broker.files.are_at_hand = are_at_hand
        for first in range(len(sizes)):
            reader = StreamClient(broker)
            reader.subscribe(1, "s", (OFFSET, first), credit=100)
            entries: list[bytes] = []
            while len(entries) < len(sizes) - first:
                entries += reader.chunk().entries
            assert entries == [bytes((number,)) * size for number, size in enumerate(sizes)][first:]
        broker = broker.restarted()


# --- turns


def subscribed(broker: MemoryBroker, count: int, place: int = FIRST, credit: int = 100) -> list[StreamClient]:
    """Clients with a subscription each; what they get waits for them."""
    clients = [StreamClient(broker) for _ in range(count)]
    for client in clients:
        client.subscribe(1, "s", place, credit=credit)
    return clients


def with_a_past(entries: int, monkeypatch: pytest.MonkeyPatch) -> tuple[DiskBroker, StreamClient]:
    """A broker whose stream has so many entries, nearly all of them on the disk alone, and who published them."""
    monkeypatch.setattr(stream_log, "LATEST_ENTRIES_MAX", 1)
    broker = DiskBroker()
    broker.files.are_at_hand = True
    client = client_with_stream(broker)
    for number in range(entries):
        client.publish(1, {number: bytes(15_000)})
    client.confirmed(entries)
    return broker, client


def test_who_reads_from_before_lets_the_end_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    broker, client = with_a_past(40, monkeypatch)
    (end,) = subscribed(broker, 1, NEXT)
    with broker.holding_works():
        crowd = subscribed(broker, 20)
        assert broker.is_unfinished, "all was sent in one go"
        client.publish(1, messages(40))
        broker.go_on()
        assert client.heard() == [CONFIRM]
        assert end.chunk().entries == [data_section(b"40")]
        assert broker.is_unfinished
    for reader in crowd:
        records = 0
        while records < 41:
            records += reader.chunk().record_count


def test_who_reads_from_before_gets_less_in_one_go_while_somebody_waits_for_a_confirm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker, client = with_a_past(40, monkeypatch)

    def chunks_of_a_slice() -> list[int]:
        with broker.holding_works():
            (reader,) = subscribed(broker, 1)
            at_once = len(reader.heard())
            broker.go_on()
            return [at_once, len(reader.heard())]

    assert chunks_of_a_slice() == [2, 2]
    with broker.holding_writes():
        client.publish(1, messages(40))
        assert chunks_of_a_slice() == [0, 1]
    client.confirmed(1)


def test_a_crowd_at_the_end_is_served_in_turns(broker: MemoryBroker) -> None:
    client = client_with_stream(broker)
    crowd = subscribed(broker, 30, NEXT)
    broker.works.slice_messages = 100
    with broker.holding_works():
        client.publish(1, messages(1))
        before = [len(reader.heard()) for reader in crowd]
        assert 0 < sum(before) < 30
        client.publish(1, messages(2))
    after = [one + len(reader.heard()) for one, reader in zip(before, crowd, strict=True)]
    assert set(after) <= {1, 2}, "each got both, together or not"


def test_what_several_read_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    broker, _ = with_a_past(10, monkeypatch)
    crowd = subscribed(broker, 3, credit=0)
    for _ in range(2):
        for reader in crowd:
            reader.credit(1)
        first, second, third = (reader.connection.take_output()[-1] for reader in crowd)
        assert len(first) == 5 * 15_004
        assert first is second is third
    for reader in crowd:
        reader.credit(1)
    assert not stream_of(broker)._remembered._chunks, "all are at the end"


def test_what_is_remembered_keeps_little_of_what_was_read_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of sub-batches and other entries by turns each is a chunk, and a view of all that was read at once."""
    monkeypatch.setattr(stream_log, "LATEST_ENTRIES_MAX", 1)
    broker = DiskBroker()
    broker.files.are_at_hand = True
    client = client_with_stream(broker)
    for number in range(200):
        client.publish(1, {2 * number: b"one"})
        client.publish_batches(1, {2 * number + 1: sub_batch([b"two", b"three"])})
    client.confirmed(400)
    first, _ = subscribed(broker, 2, credit=1)
    first.credit(1, 300)
    chunks = stream_of(broker)._remembered._chunks.values()
    read = {
        id(part.obj): memoryview(part.obj).nbytes
        for chunk in chunks
        for part in chunk.data
        if isinstance(part, memoryview)
    }
    assert 0 < sum(read.values()) <= 32 * 4096, "at most a segment each"
    assert len(chunks) == 32


def test_small_blocks_are_put_together_up_to_a_number(broker: MemoryBroker) -> None:
    client = client_with_stream(broker)
    for number in range(PARTS_MAX + 2):
        client.publish(1, messages(number))
    (reader,) = subscribed(broker, 1)
    assert [reader.chunk().record_count for _ in range(2)] == [PARTS_MAX, 2]


def test_sub_batches_go_out_as_they_lie_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_log, "LATEST_ENTRIES_MAX", 1)
    broker = DiskBroker()
    client = client_with_stream(broker)
    batch = sub_batch([data_section(bytes(20_000)), data_section(b"2")])
    client.publish_batches(1, {1: batch, 2: batch})
    client.publish_batches(1, {3: batch})
    client.publish(1, messages(4))
    client.confirmed(4)
    for _ in range(2):
        broker.files.are_at_hand = True
        reader = StreamClient(broker)
        reader.subscribe(1, "s")
        chunk = reader.chunk()
        assert (chunk.entry_count, chunk.record_count, reader.stretches) == (3, 6, 2)
        broker = broker.restarted()


@pytest.mark.parametrize("are_at_hand", [False, True])
@pytest.mark.parametrize(
    ("size_bytes", "place"),
    [(16_000, 500), (70_000, -20), (70_000, -21), (70_000, -12), (0xFF00 - 4, -10)],
    ids=[
        "an entry that becomes a part of a chunk",
        "the count of entries",
        "what stands before a block",
        "filter values, of more bytes than there are",
        "filter values, of as many as there are",
    ],
)
def test_what_no_checksum_of_a_block_tells_is_checked_before_it_goes_out(
    monkeypatch: pytest.MonkeyPatch, size_bytes: int, place: int, are_at_hand: bool
) -> None:
    monkeypatch.setattr(stream_log, "LATEST_ENTRIES_MAX", 1)
    broker = DiskBroker()
    client = client_with_stream(broker)
    client.publish(1, {0: b"\1" * size_bytes})
    client.publish(1, {1: b"small"})
    client.confirmed(2)
    broker.files.are_at_hand = are_at_hand
    for name in broker.files.names():
        content = bytearray(broker.files.content(name))
        begins = content.find(b"\1" * 1_000)
        if begins >= 0:
            content[begins + place] ^= 0xFF
            broker.files.open(name).write_at(0, bytes(content))
    reader = StreamClient(broker)
    with pytest.raises(JournalDamaged):
        reader.subscribe(1, "s", credit=100)


def test_frames_that_come_together_are_stored_together(broker: MemoryBroker) -> None:
    client = client_with_stream(broker)
    assert client.declare_publisher(2, "s") == codes.OK
    client.subscribe(1, "s", credit=100)

    def publish(number: int, publisher: int = 1, size: int = 10) -> bytes:
        return frame(PUBLISH, bytes((publisher,)) + array([u64(number) + blob(bytes(size))]))

    def filtered(number: int) -> bytes:
        return frame(PUBLISH, b"\1" + array([u64(number) + text("value") + blob(b"")]), version=2)

    def counts_of(*frames: bytes) -> list[int]:
        client.write(b"".join(frames))
        client.confirmed(sum(int.from_bytes(one[9:13], "big") for one in frames if one[5] == PUBLISH))
        client.read()
        chunks = [Chunk(content[1:]) for key, _, content in client.frames if key == DELIVER]
        client.frames.clear()
        return [chunk.entry_count for chunk in chunks]

    blocks = stream_of(broker)
    assert counts_of(publish(1), publish(2), publish(3)) == [3]
    assert blocks.last_chunk_offset == 0
    assert counts_of(publish(4, size=70_000), publish(5, size=70_000), publish(6, size=200_000)) == [2, 1]
    assert counts_of(publish(7, size=70_000), publish(8, 2, size=70_000), publish(9, size=70_000)) == [1, 1, 1]
    assert counts_of(publish(10, size=70_000), frame(HEARTBEAT, b""), publish(11, size=70_000)) == [1, 1]
    assert counts_of(publish(12), filtered(13), filtered(14), publish(15)) == [4], (
        "blocks that are small go out together"
    )
    assert blocks.last_chunk_offset == 14
    entries = [u64(number) + blob(bytes(100_000)) for number in range(16, 24)]
    assert counts_of(frame(PUBLISH, b"\1" + array(entries))) == [2, 2, 2, 2]
    assert counts_of(*(publish(number, size=16_200) for number in range(24, 40))) == [16], "what is read at once"


def test_what_came_before_a_mistake_is_stored(broker: MemoryBroker) -> None:
    client = client_with_stream(broker, reference="me")
    good = frame(PUBLISH, b"\1" + array([u64(1) + blob(b"a")]))
    client.write(good + frame(PUBLISH, b"\1" + u32(2) + u64(2) + blob(b"b")) + good)
    assert client.heard()[0] == CLOSE
    assert broker.virtual_host.counts_of_ended.all().published == 1
    reader = StreamClient(broker)
    assert reader.sequence("me", "s") == 1
    reader.subscribe(1, "s")
    assert reader.chunk().entries == [b"a"]


def test_streams_are_shared_with_amqp_0_9_1(broker: MemoryBroker) -> None:
    client = client_with_stream(broker)
    channel = Client(broker).open().channel()
    channel.publish("", "s", b"from 0-9-1")
    client.publish(1, {1: data_section(b"from a stream"), 2: b"no message of AMQP 1.0"})
    client.subscribe(1, "s")
    chunk = client.chunk()
    assert chunk.record_count == 3
    assert chunk.entries[0].endswith(data_section(b"from 0-9-1")[8:])
    assert chunk.entries[1:] == [data_section(b"from a stream"), b"no message of AMQP 1.0"]
    channel.qos(10)
    channel.consume("s", arguments={"x-stream-offset": "first"})
    assert channel.bodies() == [b"from 0-9-1", b"from a stream", b"no message of AMQP 1.0"]


def test_what_is_unwanted_is_passed_by_in_slices() -> None:
    broker = MemoryBroker()
    client = client_with_stream(broker)
    channel = Client(broker).open().channel()
    for _ in range(3_000):
        channel.publish("", "s", b"m")
    channel.publish("", "s", b"last", headers={"x-stream-filter-value": "a"})
    with broker.holding_works():
        client.subscribe(1, "s", properties={"filter.1": "a"})
        assert broker.is_unfinished
    assert client.chunk().first_offset == 3_000
    with broker.holding_works():
        channel.qos(10)
        channel.consume("s", arguments={"x-stream-offset": "first", "x-stream-filter": "a"})
        assert broker.is_unfinished
    assert channel.bodies() == [b"last"]


@pytest.mark.parametrize(
    ("entry", "version", "is_from_0_9_1"),
    [
        (text("b") + blob(b""), 2, False),
        (text("b") + blob(b""), 2, True),
        (b"\xf0\0\1" + bytes(8), 1, True),
    ],
    ids=["filter values, by the chunk", "filter values, by the message", "sub-batches that nobody can open"],
)
def test_blocks_of_which_nothing_is_wanted_are_passed_by_in_slices(
    entry: bytes, version: int, is_from_0_9_1: bool
) -> None:
    broker = MemoryBroker()
    client = client_with_stream(broker)
    publish = frame(PUBLISH, b"\1" + array([u64(1) + entry] * 4_096), version)
    for _ in range(4):
        client.write(publish)
    client.publish(1, messages(1))
    broker.works.slice_messages = 100
    with broker.holding_works():
        if is_from_0_9_1:
            channel = Client(broker).open().channel()
            channel.qos(10)
            first: FieldTable = {"x-stream-offset": "first"}
            if version > 1:
                first.update({"x-stream-filter": "a", "x-stream-match-unfiltered": True})
            channel.consume("s", arguments=first)
        else:
            client.subscribe(1, "s", properties={"filter.1": "a", "match-unfiltered": "true"})
        assert broker.is_unfinished
    if is_from_0_9_1:
        assert channel.bodies() == [b"1"]
    else:
        assert client.chunk().first_offset == 4 * 4_096


def test_properties_count_in_a_chunk() -> None:
    broker = MemoryBroker()
    client = client_with_stream(broker)
    channel = Client(broker).open().channel()
    for _ in range(100):
        channel.publish("", "s", b"", headers={"key": "a" * 10_000})
    client.subscribe(1, "s")
    assert client.chunk().record_count == 7


def test_filters(broker: MemoryBroker) -> None:
    client = client_with_stream(broker)
    for number, value in enumerate(["a", None, "b", ""]):
        client.publish_filtered(1, [(number, value, data_section(b"%d" % number))])
    client.subscribe(1, "s", properties={"filter.1": "a"})
    client.subscribe(2, "s", properties={"filter.1": "b", "match-unfiltered": "true"})
    assert (client.chunk().entries, client.chunk().entries) == (
        [data_section(b"0")],
        [data_section(b"1"), data_section(b"2"), data_section(b"3")],
    )
    client.subscribe(3, "s", properties={"filter.1": ""})
    assert [client.chunk().entries for _ in range(2)] == [[data_section(b"1")], [data_section(b"3")]]
    channel = Client(broker).open().channel()
    channel.qos(10)
    channel.consume("s", arguments={"x-stream-offset": "first", "x-stream-filter": ["b"]})
    assert channel.bodies() == [b"2"]


def test_a_stream_that_goes_takes_publishers_and_subscriptions_along(broker: MemoryBroker) -> None:
    client, other = client_with_stream(broker), StreamClient(broker)
    client.subscribe(1, "s")
    assert other.delete("s") == codes.OK
    client.read()
    assert [(key, content) for key, _, content in client.frames] == [(METADATA_UPDATE, u16(6) + text("s"))]
    client.frames.clear()
    client.publish(1, messages(1))
    assert client.refused() == [(1, codes.PUBLISHER_DOES_NOT_EXIST)]
    assert client.create("s") == codes.OK
    assert client.subscribe(1, "s") == codes.OK
    assert other.heard() == []


def test_retention_drops_blocks(broker: MemoryBroker) -> None:
    client = StreamClient(broker)
    assert client.create("s", max_length_bytes="100") == codes.OK
    client.declare_publisher(1, "s")
    for number in range(5):
        client.publish(1, {number: data_section(bytes(100)), number + 10: data_section(bytes(100))})
        broker.advance(1_500)
    client.subscribe(1, "s")
    client.read()
    assert client.chunk().first_offset == stream_of(broker).first_offset == 8
    assert stream_of(broker).ready_count == 2


# --- streams and super streams


def test_streams_that_cannot_be() -> None:
    broker = MemoryBroker()
    client = StreamClient(broker)
    assert client.create("s", max_age="1D", max_length_bytes="1000", unknown="x") == codes.OK
    assert client.create("s", max_age="1D", max_length_bytes="1000") == codes.STREAM_ALREADY_EXISTS
    for name, arguments in {"s": {}, "": {}, "a" * 256: {}, "t": {"max_age": "x"}, "amq.s": {}}.items():
        assert client.create(name, **arguments) == codes.PRECONDITION_FAILED
    assert client.create("t", max_length_bytes="many") == codes.PRECONDITION_FAILED
    for size in (15, 256):
        assert client.create("t", stream_filter_size_bytes=str(size)) == codes.PRECONDITION_FAILED
    assert client.create("t", stream_max_segment_size_bytes="3000000001") == codes.PRECONDITION_FAILED
    assert client.delete("none") == codes.STREAM_DOES_NOT_EXIST
    table = {"x-queue-type": "stream", "x-max-age": "1D", "x-max-length-bytes": 1000}
    assert stream_of(broker).table == table


def test_what_a_user_may_not_do_is_refused() -> None:
    broker = MemoryBroker()
    client_with_stream(broker)
    broker.administration.add_user("u", "u")
    broker.administration.set_permission("u", "/", "^$", "^$", "^$")
    client = StreamClient(broker, logs_in=False)
    client.log_in("u", "u")
    refused = codes.ACCESS_REFUSED
    assert (client.create("t"), client.delete("s"), client.declare_publisher(1, "s")) == (refused,) * 3
    assert (client.subscribe(1, "s"), client.offset("me", "s")) == (refused, (refused, 0))
    assert client.create_super("x", ["x-0"], ["0"]) == refused
    client.store_offset("me", "s", 1)
    assert not client.is_closed
    assert len(stream_of(broker).offsets) == 0


def test_super_streams(broker: MemoryBroker) -> None:
    client = StreamClient(broker)
    assert client.create_super("x", ["x-b", "x-a"], ["b", "a"]) == codes.OK
    assert client.create_super("x", ["y-0"], ["0"]) == codes.STREAM_ALREADY_EXISTS
    assert client.create_super("y", ["x-a"], ["0"]) == codes.STREAM_ALREADY_EXISTS
    assert client.create_super("y", ["y-0"], ["0", "1"]) == codes.PRECONDITION_FAILED
    assert client.call(PARTITIONS, text("x"))[1].texts() == ["x-b", "x-a"]
    assert client.call(ROUTE, text("a") + text("x"))[1].texts() == ["x-a"]
    assert client.call(ROUTE, text("c") + text("x"))[1].texts() == []
    assert client.create_super("y", ["y-0"], ["\u00e9" * 128]) == codes.PRECONDITION_FAILED, "a key of 256 bytes"
    assert client.call(PARTITIONS, text("y"))[0] == codes.STREAM_DOES_NOT_EXIST
    channel = Client(broker).open().channel()
    channel.exchange("made")
    for order in (1, 0):
        channel.bind(f"x-{'ab'[order]}", "made", str(order), {"x-stream-partition-order": order})
    assert client.call(PARTITIONS, text("made"))[1].texts() == ["x-a", "x-b"]
    assert client.call(ROUTE, text("1") + text("made"))[1].texts() == ["x-b"]
    assert client.call(PARTITIONS, text("amq.headers"))[1].texts() == []
    assert client.call(ROUTE, text("1") + text("amq.headers"))[0] == codes.STREAM_DOES_NOT_EXIST
    channel.publish("x", "a", b"m")
    assert stream_of(broker, "x-a").ready_count == 1
    assert client.call(DELETE_SUPER, text("amq.direct"))[0] == codes.STREAM_DOES_NOT_EXIST
    assert client.call(DELETE_SUPER, text("x"))[0] == codes.OK
    assert not broker.virtual_host.queues
    assert "x" not in broker.virtual_host.exchanges


@pytest.mark.parametrize(
    ("key", "content"),
    [
        (PARTITIONS, text("x")),
        (METADATA, array([text("")] * 2_000)),
        (ROUTE, text("key") + text("x")),
        (1, b"\1" + text("") + text("x-0")),  # DeclarePublisher
    ],
)
def test_requests_that_ask_for_much_take_turns(key: int, content: bytes) -> None:
    broker = MemoryBroker()
    client = StreamClient(broker)
    client.create_super("x", [f"x-{number}" for number in range(200)], ["key"] * 200)
    client.heard()
    with broker.holding_works():
        client.write(frame(key, u32(1) + content) * 200)
        answers = client.heard()
        assert 0 < answers.count(key | ANSWER) < 50, "others have their turn between them"
    answers += client.heard()
    assert answers.count(key | ANSWER) == 200


def test_a_super_stream_is_made_in_one_go_and_may_not_be_too_large(broker: MemoryBroker) -> None:
    client = StreamClient(broker)
    names = [f"x-{number}" for number in range(401)]
    assert client.create_super("x", names, names) == codes.PRECONDITION_FAILED
    assert client.create_super("x", names[:400], names[:400]) == codes.OK


def test_what_the_command_line_adds_is_a_super_stream() -> None:
    broker = MemoryBroker()
    document = definitions_of("x", ["b", "a"], {"x-queue-type": "stream", "x-max-age": "1D"})
    broker.handle(lambda: import_definitions(broker, document, "/", who="a test"))
    client = StreamClient(broker)
    assert client.call(PARTITIONS, text("x"))[1].texts() == ["x-b", "x-a"]
    assert client.call(ROUTE, text("a") + text("x"))[1].texts() == ["x-a"]
    assert stream_of(broker, "x-a").arguments.age_ms_max == 86_400_000


def test_an_administrator_deletes_a_super_stream_and_nothing_else(broker: MemoryBroker) -> None:
    client = client_with_stream(broker)
    client.create_super("x", ["x-0", "x-1"], ["0", "1"])
    channel = Client(broker).open().channel()
    channel.declare("classic")
    channel.bind("classic", "x", "0")
    administration = broker.administration
    for name in ("s", "amq.direct", "none"):
        with pytest.raises(NotThere):
            administration.delete_super_stream("/", name)
    assert broker.handle(lambda: administration.delete_super_stream("/", "x")) == 2
    assert client.call(PARTITIONS, text("x"))[0] == codes.STREAM_DOES_NOT_EXIST
    assert {"s", "classic"} == set(broker.virtual_hosts["/"].queues)
    assert client.create_super("x", ["x-0"], ["0"]) == codes.OK


def test_statistics(broker: MemoryBroker) -> None:
    client = client_with_stream(broker)

    def stats() -> dict[str, int]:
        _, read = client.call(STATS, text("s"))
        return {read.text(): read.number(8) for _ in range(read.number(4))}

    nothing = 2**64 - 1  # -1
    assert stats() == {"committed_chunk_id": nothing, "first_chunk_id": nothing, "last_chunk_id": nothing}
    client.publish(1, messages(1, 2))
    client.publish(1, messages(3))
    assert stats() == {"committed_chunk_id": 2, "first_chunk_id": 0, "last_chunk_id": 2}


def test_a_client_that_knows_the_second_deliver_gets_it(broker: MemoryBroker) -> None:
    client = client_with_stream(broker)
    code, read = client.call(VERSIONS, array([u16(DELIVER) + u16(1) + u16(2)]))
    versions = [(read.number(2), read.number(2), read.number(2)) for _ in range(read.number(4))]
    assert code == codes.OK
    assert (PUBLISH, 1, 2) in versions
    for number in range(3):
        client.publish(1, messages(number))
    client.subscribe(1, "s")
    client.read()
    version, content = next((version, content) for key, version, content in client.frames if key == DELIVER)
    last_came = (2).to_bytes(8, "big")
    assert (version, content[:9], content[9]) == (2, b"\1" + last_came, 0x50)
    client.frames.clear()
    client.credit(1, 100)
    channel = Client(broker).open().channel()
    channel.send(*[part for _ in range(3) for part in publish_frames("", "s", bytes(40_000), 131_072)])
    client.read()
    last_and_first = [(content[1:9], content[33:41]) for key, _, content in client.frames if key == DELIVER]
    assert last_and_first[1:], "what comes together may be several chunks"
    assert all(last >= first for last, first in last_and_first), "what is delivered is committed"


def test_what_is_seen_of_it(broker: MemoryBroker) -> None:
    client = client_with_stream(broker)
    client.publish(1, messages(1))
    client.subscribe(1, "s")
    connection = client.connection.inspect()
    assert (connection["protocol"], connection["auth_mechanism"], connection["channels"]) == ("stream", "PLAIN", 1)
    (channel,) = client.connection.inspect_channels()
    assert channel["consumer_count"] == 1
    assert channel["message_stats"]["publish"] == 1
    client.drop()
    assert len(stream_of(broker).consumers) == 0
    assert not stream_of(broker).watchers


# --- single active consumers


def update(client: StreamClient) -> tuple[int, int, bool]:
    """The next ConsumerUpdate: its correlation id, the subscription, and whether it is active now."""
    read = Read(client.take(CONSUMER_UPDATE)[1])
    return read.number(4), read.number(1), read.number(1) == 1


def answer_update(client: StreamClient, correlation_id: int, start: bytes) -> None:
    client.send(CONSUMER_UPDATE | ANSWER, u32(correlation_id) + u16(codes.OK) + start)


SINGLE = {"single-active-consumer": "true", "name": "group"}
OF_SUPER_STREAM = {**SINGLE, "super-stream": "x"}


def test_of_consumers_with_a_name_one_is_served(broker: MemoryBroker) -> None:
    first, second = client_with_stream(broker), StreamClient(broker)
    for number in range(3):
        first.publish(1, messages(number))
    assert first.subscribe(1, "s", properties={"single-active-consumer": "true"}) == codes.PRECONDITION_FAILED
    assert first.subscribe(1, "s", properties=SINGLE) == codes.OK
    assert second.subscribe(2, "s", properties=SINGLE) == codes.OK
    asked, number, is_active = update(first)
    assert (number, is_active) == (1, True)
    assert (DELIVER in first.heard(), second.heard()) == (False, [])
    second.credit(2)
    assert second.take(CREDIT | ANSWER)[1] == u16(codes.PRECONDITION_FAILED) + b"\2"
    answer_update(first, asked, u16(OFFSET) + (2).to_bytes(8, "big"))
    assert first.chunk().first_offset == 2
    first.drop()
    asked, number, is_active = update(second)
    assert (number, is_active) == (2, True)
    answer_update(second, asked, u16(0))  # where it wanted to begin at first
    assert second.chunk().first_offset == 0
    second.drop()
    assert not stream_of(broker).groups


def test_partitions_are_spread_over_consumers() -> None:
    broker = MemoryBroker()
    first, second = StreamClient(broker), StreamClient(broker)
    partitions = ["x-0", "x-1", "x-2"]
    first.create_super("x", partitions, ["0", "1", "2"])
    for number, partition in enumerate(partitions):
        assert first.subscribe(number, partition, properties=OF_SUPER_STREAM) == codes.OK
    updates = [update(first) for _ in partitions]
    assert [(number, is_active) for _, number, is_active in updates] == [(0, True), (1, True), (2, True)]
    for asked, _, _ in updates:
        answer_update(first, asked, u16(0))
    for number, partition in enumerate(partitions):
        assert second.subscribe(number, partition, properties=OF_SUPER_STREAM) == codes.OK
    asked, number, is_active = update(first)
    assert (number, is_active) == (1, False)
    assert second.heard() == [], "the other one is still there"
    answer_update(first, asked, u16(0))
    asked, number, is_active = update(second)
    assert (number, is_active) == (1, True)
    answer_update(second, asked, u16(0))
    Client(broker).open().channel().publish("x", "1", b"m")
    assert (DELIVER in second.heard(), DELIVER in first.heard()) == (True, False)
    second.drop()
    assert update(first)[1:] == (1, True)


def test_one_that_makes_way_and_goes_meanwhile_is_not_waited_for() -> None:
    broker = MemoryBroker()
    first, second = StreamClient(broker), StreamClient(broker)
    first.create_super("x", ["x-0", "x-1"], ["0", "1"])
    first.subscribe(1, "x-1", properties=OF_SUPER_STREAM)
    answer_update(first, update(first)[0], u16(0))
    second.subscribe(1, "x-1", properties=OF_SUPER_STREAM)
    assert update(first)[1:] == (1, False)
    first.drop()
    assert update(second)[1:] == (1, True)


def test_without_a_journal_nothing_waits_to_be_written() -> None:
    broker = MemoryBroker()
    client = client_with_stream(broker, reference="name")
    client.publish(1, messages(1))
    client.store_offset("me", "s", 1)
    assert (client.sequence("name", "s"), client.offset("me", "s")) == (1, (codes.OK, 1))
    assert not broker.durability.is_dirty


def test_who_makes_way_before_it_has_begun_is_not_served() -> None:
    broker = MemoryBroker()
    first, second = StreamClient(broker), StreamClient(broker)
    first.create_super("x", ["x-0", "x-1"], ["0", "1"])
    first.declare_publisher(1, "x-1")
    first.publish(1, messages(1))
    assert first.subscribe(1, "x-1", properties=OF_SUPER_STREAM) == codes.OK
    to_begin, _, _ = update(first)
    assert second.subscribe(2, "x-1", properties=OF_SUPER_STREAM) == codes.OK
    to_make_way, _, is_active = update(first)
    assert not is_active
    answer_update(first, to_begin, u16(0))
    answer_update(first, to_make_way, u16(0))
    asked, number, is_active = update(second)
    assert (number, is_active) == (2, True)
    answer_update(second, asked, u16(0))
    assert second.chunk().first_offset == 0
    assert DELIVER not in first.heard()


def test_what_a_subscription_was_asked_goes_with_it() -> None:
    broker = MemoryBroker()
    client = client_with_stream(broker)
    for _ in range(3):
        assert client.subscribe(1, "s", properties=SINGLE) == codes.OK
        assert client.call(UNSUBSCRIBE, b"\1")[0] == codes.OK
    assert not client.connection.subscribing._asked


def test_who_does_not_begin_within_a_minute_is_let_go() -> None:
    broker = MemoryBroker()
    first, second = client_with_stream(broker), StreamClient(broker)
    for client in (first, second):
        assert client.subscribe(1, "s", properties=SINGLE) == codes.OK
    broker.advance(59_999)
    assert (first.is_closed, CONSUMER_UPDATE in second.heard()) == (False, False)
    broker.advance(1)
    assert first.is_closed
    answer_update(second, update(second)[0], u16(FIRST))
    broker.advance(60_000)
    assert not second.is_closed, "it has answered"


def test_who_does_not_make_way_within_a_minute_is_let_go() -> None:
    broker = MemoryBroker()
    first, second = StreamClient(broker), StreamClient(broker)
    first.create_super("x", ["x-0", "x-1"], ["0", "1"])
    first.subscribe(1, "x-1", properties=OF_SUPER_STREAM)
    broker.advance(59_999)
    second.subscribe(1, "x-1", properties=OF_SUPER_STREAM)
    broker.advance(59_999)
    assert (first.is_closed, CONSUMER_UPDATE in second.heard()) == (False, False), "what it was asked first is void"
    broker.advance(1)
    assert first.is_closed
    assert update(second)[1:] == (1, True)


def test_who_leaves_before_it_has_joined_leaves_one_group_behind() -> None:
    broker = MemoryBroker()
    first, second = client_with_stream(broker), StreamClient(broker)
    subscribe = b"".join(
        frame(codes.SUBSCRIBE, u32(number) + bytes((number,)) + text("s") + u16(NEXT) + u16(1) + pairs(SINGLE))
        for number in (1, 2)
    )
    first.heard()
    first.write(subscribe + frame(UNSUBSCRIBE, u32(3) + bytes((1,))))
    assert second.subscribe(1, "s", properties=SINGLE) == codes.OK
    assert first.heard().count(CONSUMER_UPDATE) == 1
    assert CONSUMER_UPDATE not in second.heard()
    first.drop()
    assert update(second)[1:] == (1, True)
    second.drop()
    assert not stream_of(broker).groups
