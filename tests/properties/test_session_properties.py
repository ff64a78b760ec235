"""Whatever clients send: nothing escapes, every count stays right, and they leave nothing behind."""

from __future__ import annotations

import random

from hypothesis import example, given, settings
from hypothesis import strategies as st
from pamqp import commands

from amqp_broker.errors import OtherProtocol
from amqp_broker.wire.frames import PROTOCOL_HEADERS_1_0
from tests.properties.session_programs import POLITE_STEPS, RUDE_STEPS, BusyStage, Stage, Step, programs
from tests.support.client import PROTOCOL_HEADER, Client, publish_frames
from tests.support.examples import examples
from tests.support.memory_broker import MemoryBroker, small_slices

SLICES = st.sampled_from([1_000, 1, 2])  # how many messages fit into a slice of long work


@settings(max_examples=examples(80))
@given(programs(POLITE_STEPS), SLICES)
def test_clients_that_keep_to_the_rules(steps: list[Step], slice_messages: int) -> None:
    with small_slices(slice_messages):
        stage = Stage()
        for step in steps:
            stage.play(step)
        stage.end()


@settings(max_examples=examples(80))
@given(programs(POLITE_STEPS | POLITE_STEPS | RUDE_STEPS), SLICES)
def test_clients_that_do_not(steps: list[Step], slice_messages: int) -> None:
    with small_slices(slice_messages):
        stage = Stage()
        for step in steps:
            stage.play(step)
        stage.end()


@settings(max_examples=examples(80))
@given(programs(POLITE_STEPS | POLITE_STEPS | RUDE_STEPS), st.sampled_from([1, 2]))
def test_clients_of_a_broker_that_is_busy(steps: list[Step], slice_messages: int) -> None:
    with small_slices(slice_messages):
        stage = BusyStage()
        for step in steps:
            stage.play(step)
        stage.end()


@given(st.lists(st.binary(max_size=60), max_size=6))
@example([b"AMQP\x00\x01", b"\x00\x00"])
def test_bytes_from_a_stranger(chunks: list[bytes]) -> None:
    client = Client(MemoryBroker())
    is_other = False
    try:
        for chunk in chunks:
            client.send_bytes(chunk)
    except OtherProtocol as other:  # AMQP 1.0 begins so, and goes on somewhere else
        is_other = other.data.startswith(PROTOCOL_HEADERS_1_0)
    client.broker.advance(60_000)
    assert is_other or client.is_finished()


@given(st.lists(st.binary(max_size=60), max_size=6), st.sampled_from(["start-ok", "tune-ok", "open"]))
def test_bytes_in_the_middle_of_a_handshake(chunks: list[bytes], step: str) -> None:
    client = Client(MemoryBroker())
    client.send_bytes(PROTOCOL_HEADER)
    if step != "start-ok":
        client.send(client.start_ok())
    if step == "open":
        client.send(commands.Connection.TuneOk(2047, 131_072, 0))
    for chunk in chunks:
        client.send_bytes(chunk)
    client.broker.advance(60_000)
    assert client.is_finished()


@settings(max_examples=examples(60))
@given(st.randoms(use_true_random=False), st.integers(1, 12))
def test_a_conversation_with_some_bytes_changed(source: random.Random, changes: int) -> None:
    recorded = Recorder(MemoryBroker())
    hold_a_conversation(recorded)
    data = bytearray(b"".join(recorded.sent))
    for _ in range(changes):
        data[source.randrange(8, len(data))] = source.randrange(256)
    broker = MemoryBroker()
    client = Client(broker)
    client.send_bytes(bytes(data))
    broker.check_invariants()
    client.connection.lost("end of stream")
    broker.check_invariants()
    assert all(queue.unacknowledged_count == 0 for queue in broker.virtual_host.queues.values())


@settings(max_examples=examples(30))
@given(st.lists(st.integers(1, 200), max_size=30))
def test_it_does_not_matter_how_the_bytes_are_cut(sizes_bytes: list[int]) -> None:
    whole = Recorder(MemoryBroker())
    hold_a_conversation(whole)
    data = b"".join(whole.sent)
    client = Client(MemoryBroker())
    start = 0
    for size_bytes in sizes_bytes:
        client.send_bytes(data[start : start + size_bytes])
        start += size_bytes
    client.send_bytes(data[start:])
    names = [one.method.name for one in client.received(1)]
    assert without_confirms(names) == without_confirms([one.method.name for one in whole.received(1)])


def without_confirms(names: list[str]) -> list[str]:
    """How many confirms share an ack depends on the chunks."""
    return [name for name in names if name != "Basic.Ack"]


class Recorder(Client):
    """A client that remembers what it sent."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.sent: list[bytes] = []

    def send_bytes(self, data: bytes) -> None:
        self.sent.append(data)
        super().send_bytes(data)


def hold_a_conversation(client: Client) -> None:
    """A little of everything, without looking at the answers."""
    client.send_bytes(PROTOCOL_HEADER)
    client.send(client.start_ok(), commands.Connection.TuneOk(2047, 131_072, 0), commands.Connection.Open("/"))
    client.send(
        commands.Channel.Open(),
        commands.Queue.Declare(queue="q", arguments={"x-max-length": 3, "x-dead-letter-exchange": "amq.fanout"}),
        commands.Queue.Declare(queue="dead"),
        commands.Queue.Bind(queue="dead", exchange="amq.fanout"),
        commands.Confirm.Select(),
        *publish_frames("", "q", b"one", 131_072, headers={"a": 1}),
        *publish_frames("", "q", b"two" * 100, 131_072, expiration="1000"),
        *publish_frames("", "nobody", b"three", 131_072, mandatory=True),
        commands.Basic.Get(queue="q"),
        commands.Basic.Nack(1, False, False),
        *publish_frames("", "q", b"", 131_072),
        commands.Basic.Get(queue="q"),
        commands.Basic.Ack(0, True),
        commands.Basic.Consume(queue="q", consumer_tag="t"),
        channel=1,
    )
