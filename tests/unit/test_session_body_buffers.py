"""Bodies that are read into the buffers a connection has for them: nobody can tell, but for the time that it takes."""

from __future__ import annotations

import random

import pytest
from pamqp import commands, frame, heartbeat
from pamqp.commands import Basic

from amqp_broker.broker.alarms import Resource
from amqp_broker.protocols.amqp091 import connection as connection_module
from amqp_broker.protocols.amqp091.connection import BODY_BUFFER_BYTES_MAX as BUFFER_MAX
from amqp_broker.wire.body_buffers import BEHIND_BYTES
from tests.support.client import Client, Sendable, publish_frames, random_pieces
from tests.support.memory_broker import MemoryBroker

BODY_BYTES = 30_000
FRAME_BYTES_MAX = 4096


class BufferedClient(Client):
    """A client that is read as the server floor reads: straight into the buffers, where the connection has some."""

    buffered_bytes = 0

    def send_bytes(self, data: bytes) -> None:
        for piece in self.cut(data):
            rest = piece
            while rest and (buffers := self.connection.body_buffers()):
                filled_bytes = 0
                for buffer in buffers:
                    part = rest[filled_bytes : filled_bytes + len(buffer)]
                    buffer[: len(part)] = part
                    filled_bytes += len(part)
                self.buffered_bytes += filled_bytes
                rest = rest[filled_bytes:]
                self.connection.body_buffers_filled(filled_bytes)
            if rest:
                self.connection.receive(rest)


def content(number: int, size_bytes: int = BODY_BYTES) -> bytes:
    return random.Random(number).randbytes(size_bytes)


def packed(frames: list[Sendable], channel: int = 1) -> list[bytes]:
    return [frame.marshal(one, channel) for one in frames]


def publish(number: int, channel: int = 1, size_bytes: int = BODY_BYTES) -> list[bytes]:
    """The frames of one message."""
    return packed(publish_frames("", "q", content(number, size_bytes), FRAME_BYTES_MAX), channel)


def in_turn(*messages: list[bytes]) -> list[bytes]:
    """Frames of several channels, one of each at a time."""
    return [one for row in zip(*messages, strict=True) for one in row]


HEARTBEAT = frame.marshal(heartbeat.Heartbeat(), 0)
SHORT = publish(1)[:-2]  # a message that lacks some of its body
STREAMS = {
    "messages": [*publish(1), *publish(2), *publish(3)],
    "heartbeats": [one for part in publish(1) for one in (part, HEARTBEAT)],
    "channels by turns": in_turn(publish(1, 1), publish(2, 2), publish(3, 3)),
    "a small message on another channel": [*SHORT, *publish(2, 2, 5), *publish(1)[-2:]],
    "another message in the middle": [*SHORT, *publish(2)],
    "a method in the middle": [*SHORT, frame.marshal(commands.Basic.Cancel("none"), 1)],
    "the end of the channel in the middle": [*SHORT, *packed([commands.Channel.Close(200, "", 0, 0)]), *publish(2, 2)],
    "the end of the connection in the middle": [*SHORT, *packed([commands.Connection.Close(200, "", 0, 0)], 0)],
    "more than was promised": [*publish(1)[:-1], publish(1)[-2], *publish(2)],
    "a wrong end": [*SHORT[:4], SHORT[4][:-1] + b"\0", *SHORT[5:], *publish(2)],
    "a wrong end of all": [*publish(1)[:-1], publish(1)[-1][:-1] + b"\0", *publish(2)],
    "a body that nobody asked for": [*publish(1), publish(1)[3], *publish(2)],
    "no such exchange": [*packed(publish_frames("none", "q", content(1), FRAME_BYTES_MAX)), HEARTBEAT],
}


def outcome(client_type: type[Client], stream: bytes, piece_bytes: int) -> tuple[list[object], list[bytes], Client]:
    """What a client is told, what is in the queue afterwards, and the client."""
    broker = MemoryBroker()
    client = client_type(broker).open(frame_max=FRAME_BYTES_MAX)
    for number in (1, 2, 3):
        client.channel(number)
    witness = Client(broker).open()
    witness.channel().declare("q")
    for number in (1, 2, 3):
        client.send(commands.Confirm.Select(), channel=number)
    client.cut = random_pieces(piece_bytes, piece_bytes)
    client.send_bytes(stream)
    told: list[object] = [
        (number, one.method.name, dict(one.method)) for number in range(4) for one in client.received(number)
    ]
    kept = witness.channel(2).drain("q")
    told.append(client.is_finished())
    broker.check_invariants()
    return told, kept, client


@pytest.mark.parametrize("piece_bytes", [9, 900, 5000, 100_000])
@pytest.mark.parametrize("name", STREAMS)
def test_it_makes_no_difference(name: str, piece_bytes: int) -> None:
    stream = b"".join(STREAMS[name])
    told, kept, _ = outcome(Client, stream, piece_bytes)
    told_buffered, kept_buffered, client = outcome(BufferedClient, stream, piece_bytes)
    assert kept_buffered == kept
    assert confirmed(told_buffered) == confirmed(told)
    assert isinstance(client, BufferedClient)
    if piece_bytes == 900:
        assert client.buffered_bytes > FRAME_BYTES_MAX


def confirmed(told: list[object]) -> list[object]:
    """The same, but for how many confirms were sent: only the last one on each channel counts."""
    last: dict[int, object] = {}
    rest: list[object] = []
    for one in told:
        if isinstance(one, tuple) and one[1] == Basic.Ack.name:
            last[one[0]] = one[2]["delivery_tag"]
        else:
            rest.append(one)
    return [*rest, last]


def test_a_promise_alone_gets_no_buffers() -> None:
    broker = MemoryBroker()
    client = Client(broker).open(frame_max=131_072)
    client.channel().declare("q")
    frames = packed(publish_frames("", "q", bytes(2 * BUFFER_MAX), 131_072))
    client.send_bytes(frames[0] + frames[1])
    assert not client.connection.body_buffers()
    client.send_bytes(frames[2][:50])
    assert not client.connection.body_buffers(), "it has sent less than one frame"
    client.send_bytes(frames[2][50:] + frames[3][:50])
    assert 0 < sum(map(len, client.connection.body_buffers())) <= client.connection.received_bytes + BEHIND_BYTES
    client.send_bytes(frames[3][50:] + b"".join(frames[4:]))
    client.send_bytes(frames[0] + frames[1] + frames[2][:50])
    assert sum(map(len, client.connection.body_buffers())) <= connection_module.BODY_BUFFER_BYTES_AT_ONCE
    assert client.connection.missing_body_bytes == 2 * BUFFER_MAX
    client.connection.lost("reset by peer")


def test_buffers_that_were_lent_are_taken_back_when_the_connection_is_lost(broker: MemoryBroker) -> None:
    client = Client(broker).open(frame_max=FRAME_BYTES_MAX)
    client.channel().declare("q")
    client.send_bytes(HEARTBEAT * 1_000)
    client.send_bytes(b"".join(publish(1))[:5_000])
    (lent, *_) = client.connection.body_buffers()
    lent[0] = 1
    client.connection.lost("reset by peer")
    with pytest.raises(ValueError, match="released"):
        lent[0] = 1


def test_where_there_are_many_connections_each_gets_smaller_buffers() -> None:
    broker = MemoryBroker()
    clients = [Client(broker).open(frame_max=131_072) for _ in range(300)]
    share_bytes = connection_module.ALL_BODY_BUFFERS_BYTES_MAX // len(clients)
    for client in clients[:2]:
        client.channel().declare("q")
        client.send_bytes(HEARTBEAT * 200_000)  # so that it may have some buffers
        client.send_bytes(b"".join(packed(publish_frames("", "q", bytes(BUFFER_MAX), 131_072))[:3])[:-50])
        assert share_bytes // 2 < sum(map(len, client.connection.body_buffers())) <= share_bytes


@pytest.mark.parametrize("size_bytes", [BUFFER_MAX - 1, BUFFER_MAX + 1, 2 * BUFFER_MAX + 200_000])
def test_a_body_larger_than_any_buffers_comes_whole(size_bytes: int) -> None:
    broker = MemoryBroker()
    client = BufferedClient(broker, cut=random_pieces(1, 1_000_000))
    client.open(frame_max=131_072)
    channel = client.channel()
    channel.declare("q")
    whole = content(1, size_bytes)
    for _ in range(2):
        client.send(*publish_frames("", "q", whole, 131_072), channel=1)
    assert channel.drain("q") == [whole, whole]
    assert client.buffered_bytes > size_bytes


def test_an_alarm_in_the_middle_of_a_body_holds_the_message_back() -> None:
    broker = MemoryBroker()
    client = BufferedClient(broker).open(frame_max=FRAME_BYTES_MAX)
    channel = client.channel()
    channel.declare("q")
    reader = Client(broker).open().channel()
    stream = b"".join(publish(1))
    client.send_bytes(stream[:10_000])
    assert client.connection.body_buffers()
    broker.alarms.set(Resource.MEMORY, True)
    client.send_bytes(stream[10_000:] + b"".join(publish(2)[:1]))
    assert client.connection.is_reading_paused
    broker.alarms.set(Resource.MEMORY, False)
    assert not client.connection.is_reading_paused
    client.send_bytes(b"".join(publish(2)[1:]))
    assert reader.drain("q") == [content(1), content(2)]


def test_a_channel_that_the_broker_closes_leaves_the_rest_of_its_body_to_nobody() -> None:
    broker = MemoryBroker()
    client = BufferedClient(broker).open(frame_max=FRAME_BYTES_MAX)
    channel = client.channel()
    channel.declare("q")
    channel.publish("", "q", b"to be held for too long")
    channel.call(commands.Basic.Qos(prefetch_count=1))
    channel.send(commands.Basic.Consume(queue="q", consumer_tag="c"))
    stream = b"".join(publish(1))
    client.send_bytes(stream[:10_000])
    assert client.connection.body_buffers()
    broker.advance(broker.settings.consumer_timeout_ms + broker.settings.consumer_timeout_sweep_ms)
    assert client.received(1)[-1].expect(commands.Channel.Close).reply_code == 406
    client.send_bytes(stream[10_000:])
    client.send(commands.Channel.CloseOk(), channel=1)
    again = client.channel(1)
    again.publish("", "q", b"still here")
    assert sorted(again.drain("q")) == [b"still here", b"to be held for too long"]


def test_many_small_messages_in_the_place_of_a_body_wait_their_turn(broker: MemoryBroker) -> None:
    client = BufferedClient(broker).open(frame_max=FRAME_BYTES_MAX)
    channel = client.channel()
    client.channel(2)
    channel.declare("q")
    client.send_bytes(HEARTBEAT * 100_000)  # so that it may have some buffers
    frames = packed(publish_frames("", "q", bytes(700_000), FRAME_BYTES_MAX))
    client.send_bytes(b"".join(frames[:3]) + frames[3][:50])
    assert sum(map(len, client.connection.body_buffers())) > 500_000
    small = b"".join(publish(1, 2, 1)) * 5000
    with broker.holding_works():
        client.send_bytes(frames[3][50:] + small)
        assert client.connection.is_reading_paused, "some are left for later"
        broker.go_on()
    assert not client.connection.is_reading_paused
    client.send_bytes(b"".join(frames[4:]))
    assert len(channel.drain("q")) == 5001
