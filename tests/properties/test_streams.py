"""The stream protocol's codec and conversation: frames come out however they are cut, and nothing fails; and a model of
what a stream has, and remembers, after kills and failures of power.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from amqp_broker.broker.queues.stream import StreamQueue
from amqp_broker.broker.queues.stream_block import StreamBlock, block_address, block_body
from amqp_broker.protocols.amqp10.entries import StreamEntries
from amqp_broker.protocols.stream.frames import FrameSplitter, Malformed
from interop.stream_client import PUBLISH, array, blob, data_section, frame, sub_batch, text, u16, u32, u64
from tests.support.disk_broker import DiskBroker
from tests.support.examples import examples
from tests.support.memory_broker import MemoryBroker
from tests.support.stream_client import StreamClient


def split(data: bytes, size: int) -> list[bytes]:
    """The frames, and at the end an empty one for an error, of bytes that come in pieces of a size."""
    splitter = FrameSplitter(1_000)
    found: list[bytes] = []
    try:
        for start in range(0, len(data), size):
            found.extend(splitter.split(data[start : start + size]))
    except Malformed:
        found.append(b"")
    return found


@settings(max_examples=examples(30))
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.integers(1, 60))
def test_frames_come_out_as_they_went_in_however_they_are_cut(frames: list[bytes], size: int) -> None:
    assert split(b"".join(map(blob, frames)), size) == frames


@settings(max_examples=examples(30))
@given(st.binary(max_size=100), st.integers(1, 20))
def test_it_makes_no_difference_how_garbage_is_cut(data: bytes, size: int) -> None:
    assert split(data, size) == split(data, len(data) or 1)


ENTRIES = st.binary(max_size=30).map(blob) | st.builds(
    lambda messages, kind: sub_batch(messages, compression=kind),
    st.lists(st.binary(max_size=9), min_size=1, max_size=3),
    st.integers(0, 7),
)
STRINGS = st.sampled_from(["s", "x", "none", ""]).map(text)
SMALL = st.integers(0, 255).map(lambda number: bytes((number,)))
FIELDS = STRINGS | SMALL | st.binary(max_size=12) | st.integers(0, 5).map(u16) | st.integers(0, 3).map(u32)
PUBLISHES = st.builds(
    lambda entries, version: frame(PUBLISH, b"\1" + array([u64(number) + one for number, one in entries]), version),
    st.lists(st.tuples(st.integers(0, 9), ENTRIES), max_size=4),
    st.integers(1, 2),
)
REQUESTS = st.builds(
    lambda key, fields: frame(key, u32(1) + b"".join(fields)), st.integers(1, 31), st.lists(FIELDS, max_size=6)
)


@settings(max_examples=examples(20))
@given(st.lists(PUBLISHES | REQUESTS | st.binary(max_size=30), max_size=8), st.integers(1, 99))
def test_whatever_a_client_says_harms_nobody_else(said: list[bytes], size: int) -> None:
    broker = MemoryBroker()
    honest, hostile = StreamClient(broker), StreamClient(broker)
    assert honest.create("honest") == 1
    assert honest.declare_publisher(1, "honest") == 1
    honest.subscribe(1, "honest")
    hostile.create("s")
    hostile.declare_publisher(1, "s", "name")
    hostile.subscribe(1, "s", properties={"filter.0": "a"})
    data = b"".join(said)
    for start in range(0, len(data), size):
        hostile.write(data[start : start + size])
        hostile.connection.output_sent(sum(map(len, hostile.connection.take_output())))
    channel_reader = StreamClient(broker)
    channel_reader.subscribe(1, "s")
    honest.publish(1, {1: data_section(b"m")})
    assert honest.confirmed(1) == [1]
    assert honest.chunk().entries == [data_section(b"m")]
    hostile.drop()


@settings(max_examples=examples(30))
@given(st.binary(max_size=60), st.lists(ENTRIES, max_size=3))
def test_whatever_a_block_holds_can_be_opened(garbage: bytes, entries: list[bytes]) -> None:
    forms = StreamEntries()
    block = StreamBlock(block_address("s"), block_body(9, b"", entries))
    for message in block.opened(forms, None):
        assert message is None or message.position < 9 or len(entries) == 3
    header, body = forms.decoded(garbage)
    assert body in garbage
    assert header


class Model:
    """What a client knows of a stream: what was confirmed, and what may be there beside it."""

    def __init__(self) -> None:
        self.broker = DiskBroker()
        self.client = StreamClient(self.broker)
        self.client.create("s")
        self.client.declare_publisher(1, "s", "name")
        self.next_id = 1
        self.confirmed = 0  # up to which id
        self.told_offset = 0

    def publish(self, count: int) -> None:
        self.client.publish(1, {number: data_section(b"%d" % number) for number in self.ids(count)})
        self.next_id += count
        self.client.read()

    def ids(self, count: int) -> range:
        return range(self.next_id, self.next_id + count)

    def settle(self) -> None:
        """Everything is written: what was published is confirmed."""
        self.broker.writes_at_once = True
        self.broker.write()
        code, offset = self.client.offset("me", "s")
        self.told_offset = offset if code == 1 else 0
        self.confirmed = self.next_id - 1

    def begin_again(self, *, without_power: bool) -> None:
        self.broker = self.broker.without_power() if without_power else self.broker.killed()
        self.client = StreamClient(self.broker)
        self.client.declare_publisher(1, "s", "name")
        stream = self.broker.queue("s")
        assert isinstance(stream, StreamQueue)
        last = self.client.sequence("name", "s")
        assert self.confirmed <= last < self.next_id
        assert stream.end_offset == last, "an entry is there if and only if its id is"
        code, offset = self.client.offset("me", "s")
        assert offset >= self.told_offset
        assert code == 1 or not self.told_offset
        self.next_id = max(1, last - 1)  # what may be lost is published again, and some of what is there
        self.publish(3)
        self.settle()
        assert stream.end_offset == self.next_id - 1
        self.client.subscribe(1, "s")
        assert self.client.entries(stream.end_offset) == [
            data_section(b"%d" % number) for number in range(1, self.next_id)
        ]
        self.client.call(12, b"\1")


@settings(max_examples=examples(15))
@given(st.lists(st.sampled_from(["publish", "hold", "write", "store", "kill", "power", "drop"]), max_size=12))
def test_nothing_confirmed_is_lost_and_nothing_is_there_twice(steps: list[str]) -> None:
    model = Model()
    stored = 0
    for step in steps:
        if step == "publish":
            model.publish(2)
        elif step == "store":
            stored += 1
            model.client.store_offset("me", "s", stored)
        elif step == "hold":
            model.broker.writes_at_once = False
        elif step == "write":
            model.settle()
        elif step == "drop":
            model.client.drop()
            model.client = StreamClient(model.broker)
            model.client.declare_publisher(1, "s", "name")
        else:
            model.begin_again(without_power=step == "power")
    model.begin_again(without_power=True)
