"""RabbitMQ's stream protocol, asked of all brokers with a raw client: what clients of it rely on.

Both brokers are started anew with it; RabbitMQ with its plugin. RabbitMQ 3.10 has no filters, no single active
consumers and makes no super streams by the protocol: it is asked for the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from amqp_broker.protocols.amqp10.typed import ULong
from interop import brokers
from interop.amqp10_client import Amqp10Client
from interop.brokers import Choice
from interop.operator import Operator, user_with
from interop.raw_client import ChannelUnderTest
from interop.started_brokers import StartedBrokers
from interop.stream_client import (
    ANSWER,
    AUTHENTICATE,
    CLOSE,
    CONSUMER_UPDATE,
    CREDIT,
    DELETE_PUBLISHER,
    DELETE_SUPER,
    DELIVER,
    FIRST,
    HANDSHAKE,
    LAST,
    METADATA,
    METADATA_UPDATE,
    NEXT,
    OFFSET,
    OPEN,
    PARTITIONS,
    PEER_PROPERTIES,
    QUERY_SEQUENCE,
    ROUTE,
    STATS,
    TUNE,
    UNSUBSCRIBE,
    VERSIONS,
    Read,
    StreamClient,
    array,
    blob,
    data_section,
    pairs,
    sub_batch,
    text,
    u16,
    u32,
)
from interop.test_amqp10_credit import Receiver
from interop.test_other_clients import PACKAGES, PROGRAMS, lines_of, need
from interop.under_test import BrokerUnderTest

OK, NO_STREAM, THERE, REFUSED, PRECONDITION, NO_PUBLISHER, NO_OFFSET = 1, 2, 5, 16, 17, 18, 19
CONFIG = """\
stream.listeners.tcp.1 = 127.0.0.1:{port}
stream.advertised_host = 127.0.0.1
stream.advertised_port = {port}
"""
FULL, QUEUES_MAX = "streams-full", 2
USERS = {"reads": ("^$", "^$", ".*"), "writes": ("^$", ".*", "^$"), "other": (".*", ".*", ".*")}
PASSWORD = "secret"


def definitions() -> dict[str, Any]:
    """Users who may do something, and a virtual host with little room."""
    kinds = ("configure", "write", "read")
    patterns = {"guest": (".*", ".*", ".*")}
    permissions = [
        {"user": user, "vhost": vhost, **dict(zip(kinds, one, strict=True))}
        for vhost, users in (("/", USERS), (FULL, patterns))
        for user, one in users.items()
    ]
    limits = {"component": "vhost-limits", "name": "limits", "vhost": FULL, "value": {"max-queues": QUEUES_MAX}}
    return {
        "users": [user_with(name, PASSWORD) for name in USERS],
        "vhosts": [{"name": FULL}],
        "permissions": permissions,
        "parameters": [limits],
    }


class WithStreams(StartedBrokers):
    """The brokers of this module, each started when it is first asked."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: dict[Choice, int] = {}

    def start(self, choice: Choice) -> brokers.RabbitMQ | brokers.OurBroker:
        (port,) = brokers.free_ports(1)
        self.ports[choice] = port
        process = choice.start(
            config=CONFIG.format(port=port),
            plugins=["rabbitmq_stream"],
            environment={"AMQP_BROKER_STREAM_PORT": str(port)},
        )
        Operator(process).import_definitions(definitions())
        return process


@pytest.fixture(scope="module")
def broker_processes() -> Iterator[WithStreams]:
    with WithStreams() as started:
        yield started


@pytest.fixture
def port(broker: BrokerUnderTest, broker_processes: WithStreams) -> int:
    return broker_processes.ports[broker.choice]


@pytest.fixture
def streams(port: int) -> Iterator[StreamClient]:
    with StreamClient(port) as one:
        yield one


@pytest.fixture
def stream(broker: BrokerUnderTest, streams: StreamClient) -> Iterator[str]:
    """A stream of the client's, to which it publishes as number 1."""
    name = broker.queue_name("stream")
    assert streams.create(name) == OK
    assert streams.declare_publisher(1, name) == OK
    yield name
    streams.delete(name)


def messages(*numbers: int) -> dict[int, bytes]:
    return {number: data_section(b"%d" % number) for number in numbers}


def test_login_says_where_to_connect(streams: StreamClient, port: int) -> None:
    assert streams.opened == {"advertised_host": "127.0.0.1", "advertised_port": str(port)}


def test_who_does_not_say_who_it_is(broker: BrokerUnderTest, port: int) -> None:
    is_there = broker.version >= (4, 0)
    with StreamClient(port, logs_in=False) as client:
        assert client.call(PEER_PROPERTIES, pairs({}))[0] == OK
        assert ("ANONYMOUS" in client.call(HANDSHAKE)[1].texts()) is is_there
        if is_there:
            assert client.call(AUTHENTICATE, text("ANONYMOUS") + blob(b""))[0] == OK
            client.take(TUNE)
            client.send(TUNE, u32(1_048_576) + u32(60))
            assert client.call(OPEN, text("/"))[0] == OK


def test_publish_confirm_deliver(streams: StreamClient, stream: str) -> None:
    streams.publish(1, messages(1, 2, 3))
    assert streams.confirmed(3) == [1, 2, 3]
    assert streams.subscribe(1, stream) == OK
    assert streams.entries(3) == [*messages(1, 2, 3).values()]
    streams.publish(1, messages(4))
    chunk = streams.chunk()
    assert (chunk.first_offset, chunk.record_count, chunk.entries) == (3, 1, [*messages(4).values()])


def test_publishing_without_a_publisher(streams: StreamClient, stream: str) -> None:
    streams.publish(9, messages(1, 2))
    assert streams.refused() == [(1, NO_PUBLISHER), (2, NO_PUBLISHER)]
    assert streams.call(DELETE_PUBLISHER, b"\x09")[0] == NO_PUBLISHER


def test_deduplication(broker: BrokerUnderTest, streams: StreamClient, stream: str, port: int) -> None:
    assert streams.declare_publisher(2, stream, "name") == OK
    assert streams.declare_publisher(2, stream, "other") == PRECONDITION
    streams.publish(2, messages(1, 2, 3))
    streams.publish(2, messages(2, 3, 4))
    assert streams.confirmed(6) == [1, 2, 2, 3, 3, 4]
    assert (streams.sequence("name", stream), streams.sequence("other", stream)) == (4, 0)
    streams.subscribe(1, stream)
    assert streams.entries(4) == [*messages(1, 2, 3, 4).values()]


def test_credit_is_for_chunks(streams: StreamClient, stream: str) -> None:
    assert streams.subscribe(1, stream, credit=1) == OK
    for number in range(3):
        streams.publish(1, messages(number))
        streams.confirmed(1)
    assert streams.chunk().entries == [*messages(0).values()]
    assert streams.offset("me", stream)[0] == NO_OFFSET  # an answer, and no chunk before it
    streams.credit(1)
    assert streams.chunk().first_offset == 1
    streams.credit(9)
    assert streams.take(CREDIT | ANSWER)[1] == u16(4) + b"\x09"


@pytest.mark.usefixtures("newer")
def test_the_second_deliver_says_how_far_the_stream_is(streams: StreamClient, stream: str) -> None:
    assert streams.call(VERSIONS, array([u16(DELIVER) + u16(1) + u16(2)]))[0] == OK
    for number in range(3):
        streams.publish(1, messages(number))
        streams.confirmed(1)
    assert streams.subscribe(1, stream, credit=1) == OK
    _, content = streams.take(DELIVER)
    assert int.from_bytes(content[1:9], "big") == 2


def test_where_subscriptions_begin(streams: StreamClient, stream: str) -> None:
    for number in range(3):
        streams.publish(1, messages(number))
        streams.confirmed(1)
    first_offsets = []
    places: list[int | tuple[int, int]] = [FIRST, LAST, (OFFSET, 1)]
    for number, place in enumerate(places):
        assert streams.subscribe(number, stream, place, credit=1) == OK
        first_offsets.append(streams.chunk().first_offset)
        assert streams.call(UNSUBSCRIBE, bytes((number,)))[0] == OK
    # Which chunk an entry is in is the broker's: what comes before the place that was asked for, the client skips.
    assert first_offsets[0] == 0
    assert first_offsets[1] <= 2
    assert first_offsets[2] <= 1
    assert streams.subscribe(1, stream, NEXT) == OK
    streams.publish(1, messages(3))
    assert streams.chunk().first_offset == 3


def test_sub_batches_come_as_they_went(streams: StreamClient, stream: str) -> None:
    packed = sub_batch([*messages(1, 2, 3).values()], compression=1)
    streams.publish_batches(1, {7: packed})
    streams.publish(1, messages(8))
    assert streams.confirmed(2) == [7, 8]
    streams.subscribe(1, stream)
    chunk = streams.chunk()
    (batch,) = chunk.sub_batches
    kind, records, opened, data = batch
    assert bytes((0x80 | kind << 4,)) + u16(records) + u32(opened) + u32(len(data)) + data == packed
    if not chunk.entries:
        streams.credit(1)
        chunk = streams.chunk()
        assert chunk.first_offset == 3
    assert chunk.entries == [*messages(8).values()]


def test_offsets_are_kept(broker: BrokerUnderTest, streams: StreamClient, stream: str, port: int) -> None:
    assert streams.offset("me", stream) == (NO_OFFSET, 0)
    streams.publish(1, messages(1, 2))
    streams.confirmed(2)
    streams.store_offset("me", stream, 1)
    # RabbitMQ stores it with what is written next.
    streams.publish(1, messages(3))
    streams.confirmed(1)
    assert streams.offset("me", stream) == (OK, 1)
    with StreamClient(port) as other:
        assert other.offset("me", stream) == (OK, 1)


def test_streams_that_are_there_and_not(streams: StreamClient, stream: str, broker: BrokerUnderTest) -> None:
    assert streams.create(stream) == THERE
    assert streams.create("") == PRECONDITION
    missing = broker.queue_name("missing")
    assert streams.delete(missing) == NO_STREAM
    assert streams.declare_publisher(5, missing) == NO_STREAM
    assert streams.subscribe(5, missing) == NO_STREAM
    assert streams.subscribe(1, stream) == OK
    assert streams.subscribe(1, stream) == 3
    assert streams.call(UNSUBSCRIBE, b"\x08")[0] == 4
    assert streams.offset("me", missing) == (NO_STREAM, 0)


def test_metadata(streams: StreamClient, stream: str, port: int) -> None:
    streams.correlation += 1
    streams.send(METADATA, u32(streams.correlation) + array([text(stream)]))
    read = Read(streams.take(METADATA | ANSWER)[1])
    assert read.number(4) == streams.correlation
    assert (read.number(4), read.number(2), read.text(), read.number(4)) == (1, 0, "127.0.0.1", port)
    assert (read.number(4), read.text(), read.number(2), read.number(2), read.number(4)) == (1, stream, OK, 0, 0)


def test_who_has_something_of_a_stream_hears_that_it_goes(streams: StreamClient, stream: str, port: int) -> None:
    assert streams.subscribe(1, stream) == OK
    with StreamClient(port) as other:
        assert other.delete(stream) == OK
    assert streams.take(METADATA_UPDATE)[1] == u16(6) + text(stream)
    streams.publish(1, messages(1))
    assert streams.refused() == [(1, NO_PUBLISHER)]


def test_messages_go_between_protocols(
    broker: BrokerUnderTest, streams: StreamClient, stream: str, ch: ChannelUnderTest
) -> None:
    ch.confirm()
    ch.publish("", stream, b"from 0-9-1", headers={"h": "v"}, content_type="text/x")
    assert ch.await_confirms(1) == [(1, True)]
    streams.publish(1, messages(1))
    streams.confirmed(1)
    streams.subscribe(1, stream)
    first, second = streams.entries(2)
    assert first.endswith(b"from 0-9-1")
    for part in (b"x-exchange", b"x-routing-key", b"text/x", b"\xa1\x01h\xa1\x01v"):
        assert part in first
    assert second == data_section(b"1")
    ch.qos(10)
    ch.consume(stream, arguments={"x-stream-offset": "first"})
    assert [one.body for one in ch.deliveries(2)] == [b"from 0-9-1", b"1"]


@pytest.fixture
def newer(broker: BrokerUnderTest) -> None:
    if broker.choice.kind == brokers.RABBITMQ and broker.version < (3, 13):
        pytest.skip("RabbitMQ 3.10 has none of it")


@pytest.mark.usefixtures("newer")
def test_statistics(broker: BrokerUnderTest, streams: StreamClient, stream: str) -> None:
    def found() -> dict[str, int]:
        code, read = streams.call(STATS, text(stream))
        assert code == OK
        return {read.text(): int.from_bytes(read.take(8), "big", signed=True) for _ in range(read.number(4))}

    assert found() == {"first_chunk_id": -1, "last_chunk_id": -1, "committed_chunk_id": -1}
    for number in range(3):
        streams.publish(1, messages(number))
        streams.confirmed(1)
    assert found() == {"first_chunk_id": 0, "last_chunk_id": 2, "committed_chunk_id": 2}
    assert streams.call(STATS, text(broker.queue_name("missing")))[0] == NO_STREAM


def test_a_publisher_that_is_deleted_publishes_no_more(
    broker: BrokerUnderTest, streams: StreamClient, stream: str
) -> None:
    assert streams.call(DELETE_PUBLISHER, b"\x01")[0] == OK
    streams.publish(1, messages(1))
    assert streams.refused() == [(1, NO_PUBLISHER)]
    assert streams.declare_publisher(1, stream) == OK
    streams.publish(1, messages(1))
    assert streams.confirmed(1) == [1]
    missing = broker.queue_name("missing")
    assert streams.call(QUERY_SEQUENCE, text("name") + text(missing))[0] == NO_STREAM


def test_what_a_user_may_not_do(broker: BrokerUnderTest, stream: str, port: int) -> None:
    with StreamClient(port, logs_in=False) as reads, StreamClient(port, logs_in=False) as writes:
        reads.log_in("reads", PASSWORD)
        writes.log_in("writes", PASSWORD)
        assert reads.create(broker.queue_name("more")) == REFUSED
        assert reads.delete(stream) == REFUSED
        assert reads.declare_publisher(1, stream) == REFUSED
        assert reads.subscribe(1, stream) == OK
        assert writes.declare_publisher(1, stream) == OK
        assert writes.subscribe(1, stream) == REFUSED
        assert writes.offset("me", stream) == (REFUSED, 0)
        assert writes.delete(stream) == REFUSED


@pytest.mark.usefixtures("newer")
def test_filters(streams: StreamClient, stream: str) -> None:
    for number, value in enumerate(["apple", None, "pear", ""]):
        streams.publish_filtered(1, [(number, value, data_section(b"%d" % number))])
        streams.confirmed(1)
    assert streams.subscribe(1, stream, properties={"filter.0": "pear"}) == OK
    assert streams.chunk().first_offset == 2
    assert streams.subscribe(2, stream, properties={"filter.0": "apple", "match-unfiltered": "true"}) == OK
    assert streams.entries(3, 2) == [data_section(b"%d" % number) for number in (0, 1, 3)]


@pytest.mark.usefixtures("newer")
def test_super_streams(broker: BrokerUnderTest, streams: StreamClient, ch: ChannelUnderTest) -> None:
    name = broker.queue_name("super")
    partitions = [f"{name}-{number}" for number in range(3)]
    assert streams.create_super(name, partitions, ["a", "b", "c"]) == OK
    assert streams.create_super(name, partitions, ["a", "b", "c"]) == THERE
    assert streams.create_super(f"{name}x", [f"{name}y"], ["a", "b"]) == PRECONDITION
    assert streams.call(PARTITIONS, text(name))[1].texts() == partitions
    assert streams.call(ROUTE, text("b") + text(name))[1].texts() == [partitions[1]]
    assert streams.call(ROUTE, text("d") + text(name))[1].texts() == []
    made = broker.exchange_name()
    ch.declare_exchange(made)
    for order in (2, 0):
        ch.bind(partitions[order], made, str(order), **{"x-stream-partition-order": order})
    assert streams.call(PARTITIONS, text(made))[1].texts() == [partitions[0], partitions[2]]
    assert streams.call(ROUTE, text("2") + text(made))[1].texts() == [partitions[2]]
    assert streams.call(DELETE_SUPER, text(name))[0] == OK
    assert streams.call(DELETE_SUPER, text(name))[0] == NO_STREAM
    assert streams.call(PARTITIONS, text(name))[0] == NO_STREAM
    assert streams.delete(partitions[0]) == NO_STREAM


def updated(streams: StreamClient) -> tuple[int, int, int]:
    """The next ConsumerUpdate: its correlation id, the subscription, and 1 for active."""
    read = Read(streams.take(CONSUMER_UPDATE)[1])
    return read.number(4), read.number(1), read.number(1)


@pytest.mark.usefixtures("newer")
def test_single_active_consumers(streams: StreamClient, stream: str, port: int) -> None:
    streams.publish(1, messages(1, 2, 3))
    streams.confirmed(3)
    named = {"single-active-consumer": "true", "name": "group"}
    assert streams.subscribe(9, stream, properties={"single-active-consumer": "true"}) == PRECONDITION
    assert streams.subscribe(9, stream, properties={"name": "n" * 256}) == PRECONDITION
    with StreamClient(port) as first:
        assert first.subscribe(1, stream, properties=named) == OK
        asked, number, is_active = updated(first)
        assert (number, is_active) == (1, 1)
        assert streams.subscribe(2, stream, properties=named) == OK
        first.send(CONSUMER_UPDATE | ANSWER, u32(asked) + u16(OK) + u16(FIRST))
        assert first.chunk().first_offset == 0
        assert streams.offset("me", stream)[0] == NO_OFFSET
        assert not streams.frames, "the other one is active"
        streams.credit(2)
        assert streams.take(CREDIT | ANSWER)[1] == u16(PRECONDITION) + b"\x02"
    asked, number, is_active = updated(streams)
    assert (number, is_active) == (2, 1)
    streams.send(CONSUMER_UPDATE | ANSWER, u32(asked) + u16(OK) + u16(OFFSET) + (0).to_bytes(8, "big"))
    assert streams.entries(3, 2) == [*messages(1, 2, 3).values()]


@pytest.mark.usefixtures("newer")
def test_partitions_are_spread_over_single_active_consumers(
    broker: BrokerUnderTest, streams: StreamClient, port: int
) -> None:
    name = broker.queue_name("super")
    partitions = [f"{name}-0", f"{name}-1"]
    assert streams.create_super(name, partitions, ["0", "1"]) == OK
    named = {"single-active-consumer": "true", "name": "group", "super-stream": name}

    def answer(client: StreamClient, asked: int) -> None:
        client.send(CONSUMER_UPDATE | ANSWER, u32(asked) + u16(OK) + u16(FIRST))

    with StreamClient(port) as first, StreamClient(port) as second:
        for number, partition in enumerate(partitions):
            assert first.subscribe(number, partition, properties=named) == OK
            asked, subscription, is_active = updated(first)
            assert (subscription, is_active) == (number, 1)
            answer(first, asked)
        for number, partition in enumerate(partitions):
            assert second.subscribe(number, partition, properties=named) == OK
        asked, subscription, is_active = updated(first)  # the second partition is the second consumer's
        assert (subscription, is_active) == (1, 0)
        answer(first, asked)
        asked, subscription, is_active = updated(second)
        assert (subscription, is_active) == (1, 1)
        answer(second, asked)
        second.call(UNSUBSCRIBE, b"\x01")
        asked, subscription, is_active = updated(first)
        assert (subscription, is_active) == (1, 1)
    assert streams.call(DELETE_SUPER, text(name))[0] == OK


def test_who_may_store_offsets(broker: BrokerUnderTest, stream: str, port: int) -> None:
    kept = {}
    with StreamClient(port) as observer:
        assert observer.declare_publisher(1, stream) == OK
        for number, user in enumerate(("reads", "writes")):
            with StreamClient(port, logs_in=False) as client:
                client.log_in(user, PASSWORD)
                client.store_offset(user, stream, 1)
                client.offset(user, stream)  # answered, so the one before it is done with
                # RabbitMQ stores it with what is written next.
                observer.publish(1, messages(number))
                observer.confirmed(1)
                kept[user] = observer.offset(user, stream)
    who = "writes" if broker.choice.series == "3.10" else "reads"
    assert kept == {"reads": (NO_OFFSET, 0), "writes": (NO_OFFSET, 0), who: (OK, 1)}


# --- what is refused


@pytest.mark.usefixtures("newer")
@pytest.mark.parametrize(
    ("argument", "value", "code"),
    [
        ("stream-max-segment-size-bytes", "3000000001", PRECONDITION),
        ("stream-filter-size-bytes", "128", OK),
        ("stream-filter-size-bytes", "15", PRECONDITION),
        ("stream-filter-size-bytes", "256", PRECONDITION),
    ],
)
def test_arguments_of_a_stream(
    broker: BrokerUnderTest, streams: StreamClient, argument: str, value: str, code: int
) -> None:
    name = broker.queue_name("sized")
    assert streams.create(name, **{argument: value}) == code
    assert streams.delete(name) == (OK if code == OK else NO_STREAM)


@pytest.mark.usefixtures("newer")
def test_references_and_partitions_that_cannot_be(broker: BrokerUnderTest, streams: StreamClient, stream: str) -> None:
    assert streams.declare_publisher(2, stream, "n" * 255) == OK
    assert streams.declare_publisher(3, stream, "n" * 256) == PRECONDITION
    name = broker.queue_name("super")
    assert streams.create_super(name, ["same", "same"], ["1", "2"]) == PRECONDITION
    assert streams.delete("same") == NO_STREAM


@pytest.mark.usefixtures("newer")
def test_no_more_streams_than_a_virtual_host_may_have(port: int) -> None:
    with StreamClient(port, logs_in=False) as client:
        client.log_in(vhost=FULL)
        assert client.create("one") == OK
        assert client.create_super("all", ["all-0", "all-1"], ["0", "1"]) == PRECONDITION
        assert client.create("two") == OK
        assert client.create("three") == PRECONDITION
        assert [client.delete(name) for name in ("one", "two")] == [OK, OK]
        assert client.create_super("all", ["all-0", "all-1"], ["0", "1"]) == OK
        assert client.call(DELETE_SUPER, text("all"))[0] == OK


def test_a_command_that_there_is_not(streams: StreamClient) -> None:
    streams.send(999, u32(1))
    read = Read(streams.take(CLOSE)[1])
    assert (read.number(4) > 0, read.number(2), read.text()) == (True, 13, "unknown frame")
    streams.send(CLOSE | ANSWER, u32(1) + u16(OK))
    assert streams.is_ended()


@pytest.mark.parametrize("step", [0, 1, 2])
def test_who_has_not_logged_in_is_not_heard(port: int, step: int) -> None:
    with StreamClient(port, logs_in=False) as client:
        for key, content in ((PEER_PROPERTIES, pairs({})), (HANDSHAKE, b""))[:step]:
            assert client.call(key, content)[0] == OK
        client.send(OPEN, u32(9) + text("/"))
        assert client.is_ended()
        assert not [key for key, *_ in client.frames if key == OPEN | ANSWER]


@pytest.mark.usefixtures("newer")
@pytest.mark.parametrize(
    ("mechanism", "user", "password", "code"),
    [
        ("PLAIN", "guest", "guest", OK),
        ("EXTERNAL", "guest", "guest", 20),
        ("PLAIN", "other", PASSWORD, 21),
        ("PLAIN", "guest", "wrong", 8),
    ],
)
def test_credentials_are_renewed(
    broker: BrokerUnderTest, port: int, mechanism: str, user: str, password: str, code: int
) -> None:
    with StreamClient(port) as client:
        response = f"\0{user}\0{password}".encode()
        assert client.call(AUTHENTICATE, text(mechanism) + blob(response))[0] == code
        if code == OK or not broker.differs("stream-renewal-refused"):
            assert client.call(CLOSE, u16(OK) + text("done"))[0] == OK
        assert client.is_ended()


def test_who_does_not_come_in(port: int) -> None:
    with StreamClient(port, logs_in=False) as first, StreamClient(port, logs_in=False) as second:
        for client, user, password in ((first, "guest", "wrong"), (second, "other", PASSWORD)):
            client.call(PEER_PROPERTIES, pairs({}))
            client.call(HANDSHAKE)
            client.send(AUTHENTICATE, u32(9) + text("PLAIN") + blob(f"\0{user}\0{password}".encode()))
        second.take(TUNE)
        second.send(TUNE, u32(1_048_576) + u32(60))
        second.send(OPEN, u32(10) + text(FULL))
        # RabbitMQ answers each after 3 s, so both are asked at once.
        assert first.take(AUTHENTICATE | ANSWER)[1] == u32(9) + u16(8)
        assert second.take(OPEN | ANSWER)[1][:6] == u32(10) + u16(12)
        assert first.is_ended()
        assert second.is_ended()


# --- other protocols


def test_sub_batches_come_to_amqp_1_0_as_messages(broker: BrokerUnderTest, streams: StreamClient, stream: str) -> None:
    if broker.version < (4, 0):
        pytest.skip("AMQP 1.0 is RabbitMQ 4's own")
    streams.publish(1, messages(1, 2))
    streams.publish_batches(1, {3: sub_batch([*messages(3, 4, 5).values()])})
    streams.publish_batches(1, {6: sub_batch([*messages(6, 7).values()], compression=1)})
    streams.publish(1, messages(8))
    streams.confirmed(5)
    whole = "12345678" if broker.differs("compressed-sub-batches") else "123458"
    with Amqp10Client(broker.address.port) as client:
        first = Receiver(client, stream, 1)
        for start, count in ((0, 1), (1, 3), (4, len(whole) - 4)):
            first.grant(count)
            assert first.came(count) == whole[start : start + count]
            first.has_nothing(0)
        within = Receiver(client, stream, 2, settled=True, place=ULong(3))
        within.grant(100)
        assert within.came(len(whole) - 3) == whole[3:]


def test_nodes_client(broker: BrokerUnderTest, port: int) -> None:
    need("node")
    if broker.version < (3, 13):
        pytest.skip("the client makes no super streams there")
    if not (PACKAGES / "rabbitmq-stream-js-client").is_dir():
        pytest.skip("npm's rabbitmq-stream-js-client is not installed")
    program, name = str(PROGRAMS / "stream_js_client.js"), broker.queue_name("stream")
    assert lines_of("node", program, str(port), name, environment={"NODE_PATH": str(PACKAGES)}) == [
        "created true",
        "deleted Delete Stream command returned error with code 2",
        "published Stream was not found on any node",
        "confirmed 1 2 3 4 5",
        "last id 5",
        "confirmed 3 6",
        "first 0:m1 1:m2 2:m3 3:m4 4:m5 5:m6",
        "offset 4:m5 5:m6",
        "timestamp 0:m1 1:m2 2:m3 3:m4 4:m5 5:m6",
        "stored 3",
        "nobody's Query offset command returned error with code 19",
        "gzip 0:a 1:b 2:c",
        'properties [{"subject":"s","correlationId":"c","contentType":"text/plain",'
        '"creationTime":"1970-01-01T00:00:01.000Z","groupSequence":3},{"text":"x","number":7},{"note":"n"}]',
        "filtered wanted",
        "statistics firstChunkId lastChunkId",
        "metadata 1 true 2 undefined",
        "super true",
        "partitions -0 -1",
        "route -1",
        "spread 20",
        "super deleted true",
        "deleted true",
        "closed",
    ]
