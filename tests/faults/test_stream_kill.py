"""A real broker, killed with SIGKILL again and again while clients of the stream protocol publish and read.

Whatever the moment of the kill: what was confirmed is there, no publishing id is there twice, each publisher's messages
come in its order, an offset that the broker told to be stored has not gone back, and what a consumer has seen at an
offset is still there. Who publishes goes on as its client would, with all that was not confirmed; some of it is there.

``FAULTS_KILLS`` sets the number of kills. With ``FAULTS_PROCESSES=2`` the process that owns the virtual host is killed,
and another one goes on.
"""

from __future__ import annotations

import os
import random
import re
import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from interop.stream_client import FIRST, OFFSET, StreamClient, data_section, sub_batch
from tests.faults.broker_process import BrokerProcess, start_one_or_several

KILLS = int(os.environ.get("FAULTS_KILLS", "4"))
KILL_AFTER_S = (0.1, 0.6)
FRAME_IDS = 20
AHEAD_MAX = 1_000  # ids that are not confirmed yet
ASKED_EACH = 4  # chunks
OK = 1


class Publisher:
    """Publishes ids that grow.

    Args:
        name: by which the stream remembers them.
        batch: how many messages of a sub-batch each id is; 1 for a message by itself.
    """

    def __init__(self, name: str, batch: int) -> None:
        self.name = name
        self.batch = batch
        self.sent = self.confirmed = 0  # the highest id

    def run(self, client: StreamClient) -> None:
        """Go on until the broker is gone."""
        with suppress(ConnectionError):
            assert client.declare_publisher(1, "s", self.name) == OK
            assert self.confirmed <= client.sequence(self.name, "s") <= self.sent
            next_id = self.confirmed + 1
            while True:
                while next_id <= self.confirmed + AHEAD_MAX:
                    ids = range(next_id, next_id + FRAME_IDS)
                    next_id += FRAME_IDS
                    self.sent = max(self.sent, next_id - 1)
                    self.publish(client, ids)
                ids_confirmed = client.confirmed(1)
                assert ids_confirmed[0] == self.confirmed + 1
                self.confirmed = ids_confirmed[-1]

    def publish(self, client: StreamClient, ids: range) -> None:
        """Send a frame of them."""
        if self.batch == 1:
            client.publish(1, {number: self.message(number, 0) for number in ids})
        else:
            client.publish_batches(1, {number: sub_batch(self.messages(range(number, number + 1))) for number in ids})

    def messages(self, ids: range) -> list[bytes]:
        """What the stream has of so many ids."""
        return [self.message(number, place) for number in ids for place in range(self.batch)]

    def message(self, number: int, place: int) -> bytes:
        return data_section(f"{self.name} {number} {place}".encode())


class Reader:
    """Reads from behind the offset that the stream has stored for it, and stores how far it has come."""

    def __init__(self) -> None:
        self.told = self.stored = -1  # the offset that the broker told to be stored last, and the highest one sent
        self.read: dict[int, bytes] = {}

    def run(self, client: StreamClient) -> None:
        """Go on until the broker is gone."""
        with suppress(ConnectionError):
            code, offset = client.offset("reader", "s")
            begin = offset if code == OK else -1
            assert self.told <= begin <= self.stored
            assert client.subscribe(1, "s", (OFFSET, begin + 1)) == OK
            for count, messages in enumerate(chunks(client, begin + 1)):
                for offset, message in messages.items():
                    assert self.read.setdefault(offset, message) == message, "an offset was used again"
                self.stored = max(self.stored, *messages)
                client.store_offset("reader", "s", max(messages))
                if count % ASKED_EACH == 0:
                    code, self.told = client.offset("reader", "s")
                    assert (code, self.told) == (OK, max(messages))


def chunks(client: StreamClient, begin: int) -> Iterator[dict[int, bytes]]:
    """The chunks of a subscription: the messages of each by their offsets, from one offset on."""
    while True:
        chunk = client.chunk()
        client.credit(1)
        messages = enumerate(chunk.messages(), chunk.first_offset)
        yield {offset: message for offset, message in messages if offset >= begin}


def all_of_it(client: StreamClient) -> dict[int, bytes]:
    """All that is in the stream, up to a message that is published for that."""
    last = data_section(b"last")
    assert client.declare_publisher(1, "s") == OK
    client.publish(1, {0: last})
    assert client.subscribe(1, "s", FIRST) == OK
    found: dict[int, bytes] = {}
    for messages in chunks(client, 0):
        assert not found or min(messages) == max(found) + 1, "an offset is left out"
        found |= messages
        if last in messages.values():
            return found
    raise AssertionError


def port_of(broker: BrokerProcess) -> int:
    """Its port of streams."""
    found = re.search(r"rabbitmq-stream://\S*?:(\d+)", broker.said)
    assert found is not None
    return int(found.group(1))


def one_life(broker: BrokerProcess, clients: list[Publisher | Reader], duration_s: float) -> BrokerProcess:
    """Kill a broker while these are busy; what one of them saw that is wrong is raised. Returns what goes on."""
    port = port_of(broker)
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(len(clients)))
        tasks = [pool.submit(one.run, stack.enter_context(StreamClient(port))) for one in clients]
        wait(tasks, duration_s, FIRST_EXCEPTION)
        broker = broker.kill_and_start()
        for task in tasks:
            task.result()
    return broker


@pytest.mark.slow
@pytest.mark.parametrize("bytes_max", [None, 300_000])
def test_nothing_confirmed_is_lost_or_there_twice_whenever_the_broker_is_killed(
    tmp_path: Path, bytes_max: int | None
) -> None:
    seed = int(os.environ.get("FAULTS_SEED", random.randrange(10**6)))
    moments = random.Random(seed)
    publishers, reader = [Publisher("one", 1), Publisher("other", 1), Publisher("batches", 10)], Reader()
    size_bytes = 1_048_576
    broker = start_one_or_several(tmp_path / "data", log=tmp_path / "log", stream_port=0, segment_size_bytes=size_bytes)
    with StreamClient(port_of(broker)) as client:
        arguments = {} if bytes_max is None else {"max_length_bytes": str(bytes_max)}
        assert client.create("s", **arguments) == OK
    broker = broker.kill_and_start()
    for _ in range(KILLS):
        broker = one_life(broker, [*publishers, reader], moments.uniform(*KILL_AFTER_S))
    with StreamClient(port_of(broker)) as client:
        found = all_of_it(client)
        last_ids = {one.name: client.sequence(one.name, "s") for one in publishers}
    assert broker.end() == 0
    assert (min(found) > 0) == (bytes_max is not None)
    for one in publishers:
        assert one.confirmed <= last_ids[one.name] <= one.sent
        mine = [message for message in found.values() if message[8:].startswith(one.name.encode())]
        expected = one.messages(range(1, last_ids[one.name] + 1))
        gone = len(expected) - len(mine)
        assert mine == expected[gone:]
        assert not gone or bytes_max is not None
    kept = {offset: message for offset, message in found.items() if offset <= reader.told}
    assert kept.items() <= reader.read.items()
    first = min(found)
    assert {offset: message for offset, message in reader.read.items() if offset >= first}.items() <= found.items()
    confirmed = {one.name: one.confirmed for one in publishers}
    sys.stdout.write(f"seed {seed}, {KILLS} kills, confirmed {confirmed}, {len(reader.read)} read\n")
