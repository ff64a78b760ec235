"""Whose turn it is where several consumers share room: a channel's prefetch window, a connection's output."""

from __future__ import annotations

from collections import Counter, deque

import pytest
from pamqp import commands

from amqp_broker.broker.queues.consumers import in_turn
from tests.support.client import Client, ClientChannel, Received
from tests.support.memory_broker import MemoryBroker

Settlement = commands.Basic.Ack | commands.Basic.Nack | commands.Basic.Reject

HIGH_WATER_BYTES = 10_000
BODY = b"." * 500


@pytest.fixture
def broker() -> MemoryBroker:
    """One that sends little ahead."""
    return MemoryBroker(outbound_high_water_bytes=HIGH_WATER_BYTES)


@pytest.fixture
def client(broker: MemoryBroker) -> Client:
    """A connection that is open."""
    return Client(broker).open()


def fill(channel: ClientChannel, *queues: str, count: int = 200) -> None:
    """Declare queues and put messages into them."""
    for queue in queues:
        channel.declare(queue)
        for _ in range(count):
            channel.publish("", queue, b"<%s>" % queue.encode() + BODY)


def delivered(received: list[Received]) -> list[commands.Basic.Deliver]:
    """The deliveries among what came."""
    return [one.method for one in received if isinstance(one.method, commands.Basic.Deliver)]


def serve(channel: ClientChannel, count: int, settlement: Settlement) -> Counter[str | None]:
    """Settle the oldest delivery so many times; how many messages each consumer had by then."""
    waiting: deque[commands.Basic.Deliver] = deque(delivered(channel.received()))
    seen = Counter(one.consumer_tag for one in waiting)
    for _ in range(count):
        settlement.delivery_tag = waiting.popleft().delivery_tag
        channel.send(settlement)
        came = delivered(channel.received())
        waiting.extend(came)
        seen.update(one.consumer_tag for one in came)
    return seen


SETTLEMENTS = (
    commands.Basic.Ack(),
    commands.Basic.Ack(multiple=True),
    commands.Basic.Nack(requeue=False),
    commands.Basic.Reject(requeue=False),
)


@pytest.mark.parametrize("settlement", SETTLEMENTS, ids=lambda method: f"{method.name} {dict(method)}")
@pytest.mark.parametrize("prefetch", [1, 10])
def test_queues_behind_one_window_are_served_in_turn(client: Client, prefetch: int, settlement: Settlement) -> None:
    channel = client.channel()
    fill(channel, "a", "b", "c")
    channel.qos(prefetch, of_channel=True)
    for queue in ("a", "b", "c"):
        channel.consume(queue, tag=queue)
    seen = serve(channel, 90, settlement)
    assert sum(seen.values()) == 90 + prefetch
    assert min(seen[queue] for queue in ("a", "b", "c")) >= 30


def test_consumers_of_one_queue_behind_one_window_are_served_in_turn(client: Client) -> None:
    channel = client.channel()
    fill(channel, "q")
    channel.qos(1, of_channel=True)
    for tag in ("first", "second", "third"):
        channel.consume("q", tag=tag)
    seen = serve(channel, 90, commands.Basic.Ack())
    assert min(seen[tag] for tag in ("first", "second", "third")) >= 30


def test_it_goes_round_where_a_consumer_has_gone(client: Client) -> None:
    channel = client.channel()
    fill(channel, "a", "b", "c", "d")
    channel.qos(1, of_channel=True)
    for queue in ("a", "b", "c", "d"):
        channel.consume(queue, tag=queue)
    channel.send(commands.Basic.Cancel("a"))
    seen = serve(channel, 90, commands.Basic.Ack())
    assert min(seen[queue] for queue in ("b", "c", "d")) >= 29


@pytest.mark.parametrize("no_ack", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_connection_that_reads_slowly_is_served_by_each_of_its_queues(
    client: Client, channels: int, no_ack: bool
) -> None:
    filler = client.channel(9)
    fill(filler, "q0", "q1", "q2", count=400)
    opened = [client.channel(number + 1) for number in range(channels)]
    for number in range(3):
        opened[number % channels].send(commands.Basic.Consume(queue=f"q{number}", no_ack=no_ack))
    seen: Counter[str] = Counter()
    taken_bytes = 0
    while taken_bytes < 300 * len(BODY):
        output = b"".join(client.connection.take_output())
        assert output, "the client waits, and there are messages"
        seen.update({name: output.count(b"<%s>" % name.encode()) for name in ("q0", "q1", "q2")})
        taken_bytes += len(output)
        client.connection.output_sent(len(output))
    assert min(seen.values()) * 2 > max(seen.values())


def test_output_goes_on_when_half_of_the_high_water_mark_is_left(client: Client) -> None:
    channel = client.channel()
    fill(channel, "q", count=100)
    channel.send(commands.Basic.Consume(queue="q", no_ack=True))
    connection = client.connection
    assert connection.output.is_congested
    waiting_bytes = connection.waiting_bytes
    assert HIGH_WATER_BYTES < waiting_bytes < HIGH_WATER_BYTES + 2 * len(BODY)
    connection.take_output()
    connection.output_sent(waiting_bytes - HIGH_WATER_BYTES // 2 - 1)
    assert connection.output.is_congested
    assert connection.waiting_bytes == HIGH_WATER_BYTES // 2 + 1, "below the mark, but not at half of it"
    connection.output_sent(1)
    assert connection.waiting_bytes > HIGH_WATER_BYTES, "it was filled up again"


@pytest.mark.parametrize(
    ("last_served", "order"), [(None, "abc"), ("a", "bca"), ("b", "cab"), ("c", "abc"), ("gone", "abc")]
)
def test_first_comes_the_one_behind_the_last(last_served: str | None, order: str) -> None:
    members: dict[str | None, str] = {name: name for name in "abc"}
    assert "".join(in_turn(members, last_served)) == order
