"""RabbitMQ's stream protocol, asked of all brokers with a raw client: what clients of it rely on.

Both brokers are started anew with it; RabbitMQ with its plugin. RabbitMQ 3.10 has no filters, no single active
consumers and makes no super streams by the protocol: it is asked for the rest.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from interop import brokers
from interop.brokers import Choice
from interop.raw_client import ChannelUnderTest
from interop.started_brokers import StartedBrokers
from interop.stream_client import (
    ANSWER,
    AUTHENTICATE,
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
    ROUTE,
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
from interop.test_access import Administrator
from interop.under_test import BrokerUnderTest

OK, NO_STREAM, THERE, PRECONDITION, NO_PUBLISHER, NO_OFFSET = 1, 2, 5, 17, 18, 19
CONFIG = """\
stream.listeners.tcp.1 = 127.0.0.1:{port}
stream.advertised_host = 127.0.0.1
stream.advertised_port = {port}
"""


class WithStreams(StartedBrokers):
    """The brokers of this module, each started when it is first asked."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: dict[Choice, int] = {}

    def start(self, choice: Choice) -> brokers.RabbitMQ | brokers.OurBroker:
        (port,) = brokers.free_ports(1)
        self.ports[choice] = port
        return choice.start(
            config=CONFIG.format(port=port),
            plugins=["rabbitmq_stream"],
            environment={"AMQP_BROKER_STREAM_PORT": str(port)},
        )


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


def test_who_may_store_offsets(broker: BrokerUnderTest, broker_processes: WithStreams, stream: str, port: int) -> None:
    administrator = Administrator(broker_processes.get(broker.choice))
    kept = {}
    with StreamClient(port) as observer:
        assert observer.declare_publisher(1, stream) == OK
        for number, (name, patterns) in enumerate({"reads": ("^$", "^$", ".*"), "writes": ("^$", ".*", "^$")}.items()):
            user = broker.queue_name(name)
            administrator.add_user(user, "secret")
            administrator.permit(user, *patterns, vhost="/")
            try:
                with StreamClient(port, logs_in=False) as client:
                    client.log_in(user, "secret")
                    client.store_offset(name, stream, 1)
                    client.offset(name, stream)  # answered, so the one before it is done with
                    # RabbitMQ stores it with what is written next.
                    observer.publish(1, messages(number))
                    observer.confirmed(1)
                    kept[name] = observer.offset(name, stream)
            finally:
                administrator.delete_user(user)
    who = "writes" if broker.choice.series == "3.10" else "reads"
    assert kept == {"reads": (NO_OFFSET, 0), "writes": (NO_OFFSET, 0), who: (OK, 1)}
