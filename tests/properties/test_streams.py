"""The stream protocol's codec and conversation: frames come out however they are cut, and nothing fails; and a model of
what a stream has, and remembers, after kills and failures of power.

``STREAM_EXAMPLES`` in the environment makes the model run for longer.
"""

from __future__ import annotations

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from amqp_broker.broker.queues.stream import StreamQueue
from amqp_broker.broker.queues.stream_block import StreamBlock, block_address, block_body
from amqp_broker.journal.memory_files import MemoryFiles, PowerLoss
from amqp_broker.protocols.amqp10.entries import StreamEntries
from amqp_broker.protocols.stream.frames import FrameSplitter, Malformed
from interop.stream_client import (
    CONFIRM,
    NEXT,
    OFFSET,
    PUBLISH,
    UNSUBSCRIBE,
    Read,
    array,
    blob,
    data_section,
    frame,
    sub_batch,
    text,
    u16,
    u32,
    u64,
)
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


PUBLISHERS = {"one": 1, "other": 1, "batches": 3}
"""By name: how many messages of a sub-batch each id is; 1 for a message by itself."""
NAMES = list(PUBLISHERS)
READERS = ("me", "you")
PUBLISH_PAUSE_MS = 600  # so that few of them are in a chunk, by which the oldest goes
STEPS = st.sampled_from(
    [*NAMES, *NAMES, *READERS, "hold", "write", "sync", "settle", "reclaim", "fail", "drop", "kill", "power", "restart"]
)


class Model:
    """What the clients know of a stream: all that they published, as far as it may be there, and what was told them.

    Args:
        seed: for what a failure of power leaves.
        arguments: the stream's, by which the oldest goes.
    """

    def __init__(self, seed: int, arguments: dict[str, str]) -> None:
        self.all_stays = not arguments
        self.broker = DiskBroker(MemoryFiles(seed))
        self.connect()
        self.client.create("s", **arguments)
        self.log: list[tuple[str, int, int]] = []  # of each offset: the publisher, its id, the place in its sub-batch
        self.next_id = dict.fromkeys(NAMES, 1)
        self.confirmed = dict.fromkeys(NAMES, 0)  # up to which id
        self.stored = dict.fromkeys(READERS, -1)  # offsets that were sent, and those that QueryOffset has told
        self.told = dict.fromkeys(READERS, -1)
        self.first_offset = 0  # when all was synced last
        self.seen: dict[int, bytes] = {}  # by its offset, what a consumer at the end has got
        self.declare_publishers()
        self.wait_at_the_end()

    def connect(self) -> None:
        self.client = StreamClient(self.broker)

    def declare_publishers(self) -> None:
        for number, name in enumerate(NAMES):
            assert self.client.declare_publisher(number, "s", name) == 1

    @property
    def stream(self) -> StreamQueue:
        stream = self.broker.queue("s")
        assert isinstance(stream, StreamQueue)
        return stream

    # --- what clients do

    def publish(self, name: str, count: int) -> None:
        size, ids = PUBLISHERS[name], range(self.next_id[name], self.next_id[name] + count)
        self.next_id[name] = ids.stop
        last_id = self.last_id(name)
        self.log += [(name, number, place) for number in ids if number > last_id for place in range(size)]
        entries = {number: [as_message((name, number, place)) for place in range(size)] for number in ids}
        if size == 1:
            self.client.publish(NAMES.index(name), {number: messages[0] for number, messages in entries.items()})
        else:
            batches = {number: sub_batch(messages) for number, messages in entries.items()}
            self.client.publish_batches(NAMES.index(name), batches)
        self.broker.advance(PUBLISH_PAUSE_MS)

    def last_id(self, name: str) -> int:
        """The highest id of a publisher that is in the log."""
        return max([number for whose, number, _ in self.log if whose == name], default=0)

    def see_confirms(self) -> None:
        self.client.read()
        while any(key == CONFIRM for key, _, _ in self.client.frames):
            _, content = self.client.take(CONFIRM)
            name, ids = NAMES[content[0]], Read(content[1:])
            for _ in range(ids.number(4)):
                self.confirmed[name] = max(self.confirmed[name], ids.number(8))

    def wait_at_the_end(self) -> None:
        """A consumer gets what comes from now on."""
        self.tail = StreamClient(self.broker)
        self.tail_from = self.stream.end_offset
        assert self.tail.subscribe(1, "s", NEXT, credit=1_000) == 1

    def see_deliveries(self) -> None:
        self.tail.read()
        while self.tail.frames:
            chunk = self.tail.chunk()
            self.seen.update(enumerate(chunk.messages(), chunk.first_offset))

    def store(self, reader: str) -> None:
        if not self.log:
            return
        self.stored[reader] = len(self.log) - 1
        self.client.store_offset(reader, "s", self.stored[reader])

    def ask(self, reader: str) -> None:
        code, offset = self.client.offset(reader, "s")
        if code == 1:
            self.told[reader] = offset

    def settle(self) -> None:
        """Everything is synced, and told to whoever asks."""
        self.broker.writes_at_once = True
        self.broker.write()
        for reader in READERS:
            self.ask(reader)
        self.see_confirms()
        self.see_deliveries()
        assert self.stream.end_offset - 1 in {*self.seen, self.tail_from - 1}
        self.first_offset = self.stream.first_offset

    def take(self, step: str) -> None:
        """Do a step."""
        if step in NAMES:
            self.publish(step, 2)
        elif step in READERS:
            self.store(step)
            if self.broker.writes_at_once:
                self.ask(step)
        elif step == "hold":
            self.broker.writes_at_once = False
        elif step == "write":
            self.broker.write(sync=False)
        elif step == "sync":
            self.broker.write()
        elif step == "settle":
            self.settle()
        elif step == "reclaim":
            self.broker.reclaim()
        elif step == "fail":
            files = self.broker.files
            files.fails_by_power_loss, files.fail_at_step = True, files.steps + files.random.randrange(1, 20)
        elif step == "drop":
            self.client.drop()
            self.connect()
            self.declare_publishers()
        else:
            self.begin_again(step)
        self.see_confirms()
        self.see_deliveries()

    # --- the end, and what must be there then

    def begin_again(self, end: str) -> None:
        """The broker ends in this way, and starts again: what it has was published, and is all that must be there."""
        self.see_deliveries()
        while True:
            try:
                if end == "restart":
                    self.broker = self.broker.restarted()
                else:
                    self.broker = self.broker.killed() if end == "kill" else self.broker.without_power()
                break
            except PowerLoss:
                end = "power"
        self.broker.files.fail_at_step = None
        self.connect()
        self.compare()
        self.declare_publishers()
        self.wait_at_the_end()
        for name in NAMES:  # what may be lost is published again, with some that is there
            self.next_id[name] = max(1, self.confirmed[name])
            self.publish(name, self.last_id(name) - self.confirmed[name] + 3)
        self.settle()
        assert self.confirmed == {name: self.last_id(name) for name in NAMES}
        self.compare()

    def compare(self) -> None:
        stream = self.stream
        del self.log[stream.end_offset :]
        assert stream.end_offset == len(self.log)
        for offset, message in self.seen.items():
            assert offset < stream.end_offset, "what was seen is gone, and another entry gets its offset"
            assert message == as_message(self.log[offset])
        for name in NAMES:
            last_id = self.client.sequence(name, "s")
            assert last_id == self.last_id(name), "an entry is there if and only if its id is"
            assert last_id >= self.confirmed[name]
        for reader in READERS:
            code, offset = self.client.offset(reader, "s")
            offset = offset if code == 1 else -1
            assert self.told[reader] <= offset <= min(self.stored[reader], len(self.log) - 1)
            self.stored[reader] = offset
        first_offset = stream.first_offset
        assert self.first_offset <= first_offset <= max(0, len(self.log) - 1)
        assert first_offset == 0 or not self.all_stays
        assert self.read(first_offset) == [as_message(one) for one in self.log[first_offset:]]

    def read(self, first_offset: int) -> list[bytes]:
        """All messages of the stream."""
        self.client.subscribe(1, "s", (OFFSET, first_offset))
        found: list[bytes] = []
        while first_offset + len(found) < len(self.log):
            chunk = self.client.chunk()
            assert chunk.first_offset == first_offset + len(found)
            found += chunk.messages()
            self.client.credit(1)
        assert self.client.call(UNSUBSCRIBE, b"\1")[0] == 1
        return found


def as_message(one: tuple[str, int, int]) -> bytes:
    return data_section("{} {} {}".format(*one).encode())


@settings(max_examples=int(os.environ.get("STREAM_EXAMPLES", examples(24))))
@given(
    st.integers(0, 2**32),
    st.sampled_from([{}, {"max_length_bytes": "300"}, {"max_age": "2s"}]),
    st.lists(STEPS, min_size=8, max_size=20),
)
def test_nothing_confirmed_is_lost_and_nothing_is_there_twice(
    seed: int, arguments: dict[str, str], steps: list[str]
) -> None:
    model = Model(seed, arguments)
    for step in [*steps, "power"]:
        try:
            model.take(step)
        except PowerLoss:
            model.begin_again("power")
