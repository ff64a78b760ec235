"""The pump: chunks in, output out, back-pressure, fairness, and every way in which a connection can end.

The stream is in memory. The conversation is a stand-in that notes what it was told, because what is tested here is
whether the pump does its duties towards any conversation.
"""

from __future__ import annotations

import logging
import socket
import ssl
import struct
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise

import pytest
import trio
import trio.testing
import trustme

from amqp_broker.journal.memory_files import MemoryFiles
from amqp_broker.journal.stretches import FileStretch
from amqp_broker.network import pump
from amqp_broker.network.connection_log import CLIENT_RESET, ConnectionLog
from amqp_broker.network.pump import (
    END_S,
    FAREWELL_TIMEOUT_S,
    READ_CHUNK_BYTES_FIRST,
    READ_CHUNK_BYTES_MIN,
    SEND_BYTES_MAX,
    TURN_S_MAX,
    Outbox,
    Pump,
)
from amqp_broker.network.socket_stream import SocketStream
from amqp_broker.network.tls import TlsStream
from amqp_broker.network.turns import ROUND_S_MAX, Turns
from tests.unit.in_trio import in_trio

CHUNK_BYTES = 16
SOON_S = 0.01  # of the test's clock: enough for everything to have happened that can happen by itself


WORDS_FOR_A_DEFECT = b"it is my own fault"


class StandIn:
    """A conversation that echoes by default; a test sets ``on_receive`` to make it do something else."""

    user_name = "somebody"
    virtual_host_name = ""
    close_reason = ""

    def __init__(self) -> None:
        self.finished = False
        self.is_reading_paused = False
        self.missing_body_bytes = 0
        self.takes_stretches = False
        self.received: list[bytes] = []
        self.sent_bytes: list[int] = []
        self.lost_because: list[str] = []
        self.output: list[bytes] = []
        self.on_output: Callable[[], None] = lambda: None
        self.on_receive: Callable[[bytes], None] = self.say

    def say(self, *parts: bytes) -> None:
        self.output.extend(parts)
        self.on_output()

    def finish(self) -> None:
        self.finished = True
        self.on_output()

    def receive(self, data: bytes) -> None:
        self.received.append(data)
        self.on_receive(data)

    def body_buffers(self) -> Sequence[memoryview]:
        return ()

    def body_buffers_filled(self, size_bytes: int) -> None:
        raise AssertionError("there were no buffers")

    def take_output(self) -> list[bytes | memoryview]:
        output, self.output = self.output, []
        return [*output]

    def output_sent(self, sent_bytes: int) -> None:
        self.sent_bytes.append(sent_bytes)

    def lost(self, reason: str) -> None:
        self.lost_because.append(reason)

    def words_for_a_defect(self) -> bytes:
        return WORDS_FOR_A_DEFECT


class Pumped:
    """A conversation being pumped, and the client's end of its stream."""

    def __init__(
        self, stream: trio.abc.Stream | None = None, turns: Turns | None = None, chunk_bytes: int = CHUNK_BYTES
    ) -> None:
        self.client, server = trio.testing.memory_stream_pair()
        self.pump = Pump(stream or server, chunk_bytes, turns=turns)
        self.conversation = StandIn()
        self.conversation.on_output = self.pump.notify
        self.ended = trio.Event()

    async def run(self) -> None:
        try:
            await self.pump.run(self.conversation, ConnectionLog("peer", self.conversation))
        finally:
            self.ended.set()


@asynccontextmanager
async def pumped(stream: trio.abc.Stream | None = None, chunk_bytes: int = CHUNK_BYTES) -> AsyncIterator[Pumped]:
    one = Pumped(stream, chunk_bytes=chunk_bytes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await trio.testing.wait_all_tasks_blocked()
        yield one
        nursery.cancel_scope.cancel()


class Heard:
    """In place of a beginning whose answer is left out but for its end."""

    heard = b"open and subscribe"
    is_answered = False

    def rest(self, data: bytes) -> bytes:
        self.is_answered = True
        return data[len(b"opened") :]


@in_trio
async def test_who_begins_elsewhere_may_be_answered_with_what_lies_in_files() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = SocketStream(socket.create_connection(listener.getsockname()))
        one = Pumped(SocketStream(listener.accept()[0]))
    file = MemoryFiles().create("chunk", 0)
    file.write_at(0, b"chunk")
    stretch = FileStretch(file, -1, 1, 3)
    one.conversation.on_receive = lambda data: one.conversation.say(b"opened", stretch, b"!")  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        log = ConnectionLog("peer", one.conversation)
        nursery.start_soon(partial(one.pump.run, beginning=Heard()), one.conversation, log)
        assert await client.receive_some(100) == b"hun!"
        await client.aclose()
        nursery.cancel_scope.cancel()


@in_trio
async def test_a_defect_in_what_is_heard_again_is_told_in_the_protocols_words() -> None:
    def fail(data: bytes) -> None:
        raise ZeroDivisionError("a defect")

    one = Pumped()
    one.conversation.on_receive = fail
    async with trio.open_nursery() as nursery:
        log = ConnectionLog("peer", one.conversation)
        nursery.start_soon(partial(one.pump.run, beginning=Heard()), one.conversation, log)
        assert b"".join([bytes(chunk) async for chunk in one.client]) == WORDS_FOR_A_DEFECT
        await one.client.aclose()


@in_trio
async def test_bytes_go_in_and_out_in_order() -> None:
    async with pumped() as one:
        await one.client.send_all(b"first")
        assert await one.client.receive_some() == b"first"
        await one.client.send_all(b"second")
        assert await one.client.receive_some() == b"second"
        assert one.conversation.received == [b"first", b"second"]
        assert one.conversation.sent_bytes == [5, 6]


@in_trio
async def test_no_chunk_is_larger_than_was_asked_for() -> None:
    async with pumped() as one:
        await one.client.send_all(b"x" * (2 * CHUNK_BYTES + 1))
        await trio.sleep(SOON_S)
        assert [len(chunk) for chunk in one.conversation.received] == [CHUNK_BYTES, CHUNK_BYTES, 1]


@in_trio
async def test_the_rest_of_a_large_body_is_read_in_larger_pieces() -> None:
    missing_bytes = [100, 20, 0, 0]
    async with pumped() as one:
        one.conversation.on_receive = lambda _: setattr(one.conversation, "missing_body_bytes", missing_bytes.pop(0))
        await one.client.send_all(b"x" * 84)
        await trio.sleep(SOON_S)
        assert [len(chunk) for chunk in one.conversation.received] == [CHUNK_BYTES, 2 * CHUNK_BYTES, 20, CHUNK_BYTES]


class WithBuffers(StandIn):
    """A conversation with a buffer for what it lacks."""

    def __init__(self, missing_body_bytes: int) -> None:
        super().__init__()
        self.missing_body_bytes = missing_body_bytes
        self.takes_stretches = False
        self.buffer = bytearray(missing_body_bytes)
        self.filled_bytes: list[int] = []
        self.has_buffers = True

    def body_buffers(self) -> list[memoryview]:
        if not self.has_buffers:
            return []
        free = memoryview(self.buffer)[sum(self.filled_bytes) :]
        return [free[:3], free[3:]]

    def body_buffers_filled(self, size_bytes: int) -> None:
        self.filled_bytes.append(size_bytes)
        self.missing_body_bytes -= size_bytes


@asynccontextmanager
async def with_buffers(missing_body_bytes: int) -> AsyncIterator[tuple[WithBuffers, SocketStream, trio.Event]]:
    """A conversation with buffers that is pumped over a socket, the client's end of it, and the end of the pump."""
    conversation, ended = WithBuffers(missing_body_bytes), trio.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = SocketStream(socket.create_connection(listener.getsockname()))
        one = Pump(SocketStream(listener.accept()[0]), CHUNK_BYTES)
    conversation.on_output = one.notify

    async def run() -> None:
        await one.run(conversation, ConnectionLog("peer", conversation))
        ended.set()

    async with client, trio.open_nursery() as nursery:
        nursery.start_soon(run)
        yield conversation, client, ended
        nursery.cancel_scope.cancel()


@in_trio
async def test_the_rest_of_a_large_body_is_read_to_where_it_belongs() -> None:
    data = bytes(range(1, 101)) + b"and more"
    async with with_buffers(100) as (conversation, client, _):
        await client.send_all(data[:40])
        while sum(conversation.filled_bytes) < 40:
            await trio.lowlevel.checkpoint()
        await client.send_all(data[40:])
        while b"".join(conversation.received) != b"and more":
            await trio.lowlevel.checkpoint()
        assert conversation.buffer == data[:100]
        assert sum(conversation.filled_bytes) == 100


@in_trio
async def test_where_there_are_no_buffers_a_body_is_read_as_anything_else() -> None:
    async with with_buffers(100) as (conversation, client, _):
        conversation.has_buffers = False
        await client.send_all(b"x" * 50)
        while len(b"".join(conversation.received)) < 50:
            await trio.lowlevel.checkpoint()
        assert conversation.filled_bytes == []


@in_trio
async def test_a_client_that_leaves_in_the_middle_of_a_large_body_is_lost() -> None:
    async with with_buffers(100) as (conversation, client, ended):
        await client.send_all(b"x" * 50)
        await client.aclose()
        await ended.wait()
        assert sum(conversation.filled_bytes) == 50
        assert conversation.lost_because == ["the client closed the TCP connection"]


@in_trio
async def test_the_longer_a_chunk_takes_the_less_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Stopwatch()
    monkeypatch.setattr(pump, "_seconds", lambda: clock.now_s)
    monkeypatch.setattr(pump, "_seconds_of_ours", lambda: clock.now_s)
    client, server = trio.testing.memory_stream_pair()
    conversation = StandIn()
    one = Pump(server, 262_144)
    conversation.on_output = one.notify

    def take_time(data: bytes) -> None:
        clock.now_s += clock.byte_takes_s * len(data)

    conversation.on_receive = take_time
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run, conversation, ConnectionLog("peer", conversation))
        clock.byte_takes_s = TURN_S_MAX
        await client.send_all(b"x" * 20_000)
        await trio.testing.wait_all_tasks_blocked()
        assert len(conversation.received[0]) == READ_CHUNK_BYTES_FIRST
        assert len(conversation.received[-2]) == READ_CHUNK_BYTES_MIN
        clock.byte_takes_s = 0
        await client.send_all(b"x" * 1_000_000)
        await trio.testing.wait_all_tasks_blocked()
        assert max(map(len, conversation.received)) == 262_144
        nursery.cancel_scope.cancel()


@in_trio
async def test_only_a_busy_client_is_told_by_the_time_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    passing, ours = Stopwatch(), Stopwatch()
    chunk_takes_s = 0.0
    monkeypatch.setattr(pump, "_seconds", lambda: passing.now_s)
    monkeypatch.setattr(pump, "_seconds_of_ours", ours.look)
    client, server = trio.testing.memory_stream_pair()
    conversation = StandIn()
    one = Pump(server, 262_144)
    conversation.on_output = one.notify

    def let_others_work(_data: bytes) -> None:
        passing.now_s += chunk_takes_s

    conversation.on_receive = let_others_work
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run, conversation, ConnectionLog("peer", conversation))
        for _ in range(3):
            await client.send_all(b"x")
            await trio.testing.wait_all_tasks_blocked()
        assert ours.looks == 0
        conversation.received.clear()
        chunk_takes_s = 10 * TURN_S_MAX
        await client.send_all(b"x" * 20_000)
        await trio.testing.wait_all_tasks_blocked()
        assert list(map(len, conversation.received))[:4] == [4_096, 2_048, 4_096, 8_192]
        assert ours.looks > 0
        nursery.cancel_scope.cancel()


class Stopwatch:
    """The time that the conversation has taken so far."""

    now_s = 0.0
    byte_takes_s = 0.0
    looks = 0

    def look(self) -> float:
        """What it shows; counted."""
        self.looks += 1
        return self.now_s


class CountingStream(trio.abc.HalfCloseableStream):
    """Never has anything to read; notes what is sent in one call."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.is_open = trio.Event()
        self.is_open.set()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.is_open.wait()
        self.sent.append(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await self.is_open.wait()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep_forever()
        raise AssertionError("unreachable")

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@in_trio
async def test_all_that_is_to_be_said_goes_in_one_call() -> None:
    stream = CountingStream()
    async with pumped(stream) as one:
        one.conversation.say(b"a", b"b", b"c")
        one.conversation.say(b"d")
        await trio.sleep(SOON_S)
        assert stream.sent == [b"abcd"]
        assert one.conversation.sent_bytes == [4]


@in_trio
async def test_large_output_is_not_joined_as_a_whole() -> None:
    stream = CountingStream()
    half = bytes(SEND_BYTES_MAX // 2)
    async with pumped(stream) as one:
        one.conversation.say(half, half, b"x", bytes(3 * SEND_BYTES_MAX), b"y")
        await trio.sleep(SOON_S)
        assert [len(data) for data in stream.sent] == [SEND_BYTES_MAX, 1, 3 * SEND_BYTES_MAX, 1]
        assert one.conversation.sent_bytes == [len(data) for data in stream.sent]


@in_trio
async def test_what_comes_while_a_send_waits_goes_out_after_it() -> None:
    stream = CountingStream()
    stream.is_open = trio.Event()
    async with pumped(stream) as one:
        one.conversation.say(b"first")
        await trio.sleep(SOON_S)
        one.conversation.say(b"second")
        one.conversation.say(b"third")
        await trio.sleep(SOON_S)
        assert one.conversation.sent_bytes == []  # nothing has left, so nothing opens the back-pressure
        stream.is_open.set()
        await trio.sleep(SOON_S)
        assert stream.sent == [b"first", b"secondthird"]


@in_trio
async def test_nothing_is_read_while_the_conversation_says_so() -> None:
    async with pumped() as one:
        conversation = one.conversation

        def pause(_: bytes) -> None:
            conversation.is_reading_paused = True

        conversation.on_receive = pause
        await one.client.send_all(b"one")
        await trio.sleep(SOON_S)
        await one.client.send_all(b"two")
        await trio.sleep(SOON_S)
        conversation.on_output()  # a call for another reason does not resume it
        await trio.sleep(SOON_S)
        assert conversation.received == [b"one"]

        conversation.is_reading_paused = False
        conversation.on_output()
        await trio.sleep(SOON_S)
        assert conversation.received == [b"one", b"two"]


@in_trio
async def test_a_flood_on_one_connection_lets_the_others_have_their_turn() -> None:
    turns: list[str] = []
    async with pumped() as flood, pumped() as calm:
        flood.conversation.on_receive = lambda _: turns.append("flood")
        calm.conversation.on_receive = lambda _: turns.append("calm")
        await calm.client.send_all(b"x" * CHUNK_BYTES * 3)
        await flood.client.send_all(b"x" * CHUNK_BYTES * 100)
        await trio.sleep(SOON_S)
    last_calm = len(turns) - 1 - turns[::-1].index("calm")
    assert turns.count("calm") == 3
    assert turns[: last_calm + 1].count("flood") <= 2 * 3


@in_trio
async def test_the_last_words_are_sent_before_the_stream_ends() -> None:
    async with pumped() as one:
        one.conversation.say(b"goodbye")
        one.conversation.finish()
        assert await one.client.receive_some() == b"goodbye"
        assert await one.client.receive_some() == b""
        await one.client.aclose()
        await one.ended.wait()
        assert one.conversation.lost_because == ["the client closed the TCP connection"]


@in_trio
async def test_after_the_end_bytes_are_read_and_ignored() -> None:
    async with pumped() as one:
        one.conversation.finish()
        assert await one.client.receive_some() == b""
        await one.client.send_all(b"too late")
        await trio.sleep(SOON_S)
        assert one.conversation.received == []
        assert not one.ended.is_set()


@in_trio
async def test_a_client_that_does_not_close_its_half_is_not_waited_for_long() -> None:
    async with pumped() as one:
        before_s = trio.current_time()
        one.conversation.finish()
        await one.ended.wait()
        assert trio.current_time() - before_s == pytest.approx(FAREWELL_TIMEOUT_S)
        assert len(one.conversation.lost_because) == 1


@in_trio
async def test_a_client_that_does_not_read_the_last_words_is_not_waited_for_long() -> None:
    stream = CountingStream()
    stream.is_open = trio.Event()
    async with pumped(stream) as one:
        one.conversation.say(b"goodbye")
        one.conversation.finish()
        await one.ended.wait()
        assert stream.sent == []
        assert len(one.conversation.lost_because) == 1


async def socket_streams(has_tls: bool) -> tuple[trio.abc.Stream, trio.abc.Stream]:
    """The two ends of a connection over real sockets, the client's first."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = SocketStream(socket.create_connection(listener.getsockname()))
        server = SocketStream(listener.accept()[0])
    if not has_tls:
        return client, server
    authority = trustme.CA()
    of_client, of_server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(of_client)
    of_client.check_hostname = False
    authority.issue_cert("localhost").configure_cert(of_server)
    ends = TlsStream(client, of_client, is_server=False), TlsStream(server, of_server)
    async with trio.open_nursery() as nursery:
        for end in ends:
            nursery.start_soon(end.do_handshake)
    return ends


@pytest.mark.parametrize("is_paused", [False, True])
@pytest.mark.parametrize("has_tls", [False, True])
def test_the_last_words_reach_a_client_that_has_sent_more_than_was_read(has_tls: bool, is_paused: bool) -> None:
    last_words = b"goodbye" * 300_000

    async def main() -> None:
        client, server = await socket_streams(has_tls)
        async with pumped(server, 262_144) as one, client:

            def finish(_: bytes) -> None:
                one.conversation.is_reading_paused = is_paused
                one.conversation.say(last_words)
                one.conversation.finish()

            one.conversation.on_receive = finish
            await client.send_all(bytes(20_000_000))
            heard = bytearray()
            while data := await client.receive_some(1_000_000):
                heard += data
            assert heard == last_words

    trio.run(main)


@pytest.mark.parametrize("has_tls", [False, True])
def test_a_reset_is_told_as_one_however_it_was_noticed(has_tls: bool) -> None:
    async def main() -> None:
        client, server = await socket_streams(has_tls)
        assert isinstance(server, SocketStream | TlsStream)
        transport = client if isinstance(client, SocketStream) else client._transport  # type: ignore[attr-defined]
        transport.connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await transport.aclose()
        of_server = server if isinstance(server, SocketStream) else server._transport
        references = sys.getrefcount(of_server)
        assert of_server.receive_now(10) == b"", "the system says once that it was reset"
        assert sys.getrefcount(of_server) == references, "what it remembers of that does not know it"
        async with pumped(server) as one:
            await one.ended.wait()
            assert one.conversation.lost_because == [CLIENT_RESET]

    trio.run(main)


@in_trio
async def test_the_clients_end_of_stream_is_told_once() -> None:
    async with pumped() as one:
        await one.client.send_eof()
        await one.ended.wait()
        assert one.conversation.lost_because == ["the client closed the TCP connection"]


@in_trio
async def test_a_crowd_that_leaves_in_the_same_moment_is_given_back_in_turns() -> None:
    turns = Turns(seconds=lambda: 0.0)
    crowd = [Pumped(turns=turns) for _ in range(100)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        for one in crowd:
            nursery.start_soon(one.run)
        await trio.testing.wait_all_tasks_blocked()
        for one in crowd:
            one.client.send_stream.close()
        given_back = [0]
        while given_back[-1] < len(crowd):
            await trio.lowlevel.checkpoint()
            given_back.append(sum(len(one.conversation.lost_because) for one in crowd))
        nursery.cancel_scope.cancel()
    # Where in its rounds the loop comes to this test differs, so that two rounds may lie between two looks.
    assert max(after - before for before, after in pairwise(given_back)) <= 2 * ROUND_S_MAX / END_S


@in_trio
async def test_a_client_that_leaves_while_we_send_is_told_once() -> None:
    async with pumped() as one:
        one.conversation.on_receive = lambda _: setattr(one.conversation, "is_reading_paused", True)
        await one.client.send_all(b"x")
        await trio.sleep(SOON_S)
        await one.client.aclose()
        one.conversation.say(b"anybody there?")
        await one.ended.wait()
        assert len(one.conversation.lost_because) == 1
        assert one.conversation.lost_because[0].startswith("the TCP connection failed")


@in_trio
async def test_cancellation_gives_everything_back() -> None:
    async with pumped() as one:
        await one.client.send_all(b"x")
        await trio.sleep(SOON_S)
    assert one.conversation.lost_because == ["the broker has shut down"]
    assert one.ended.is_set()


@pytest.mark.parametrize("defect", ["receive", "take_output", "output_sent"])
@in_trio
async def test_a_defect_ends_this_connection_with_the_protocols_words_and_harms_no_other(
    defect: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    async with pumped() as one, pumped() as other:
        monkeypatch.setattr(one.conversation, defect, fail)
        await one.client.send_all(b"x")
        data = b"".join([bytes(chunk) async for chunk in one.client])
        assert data.removeprefix(b"x") == WORDS_FOR_A_DEFECT
        await one.client.aclose()
        await one.ended.wait()
        assert one.conversation.lost_because == ["internal error"]

        await other.client.send_all(b"still here")
        assert await other.client.receive_some() == b"still here"
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in errors] == ["internal error"]
    assert errors[0].exc_info is None  # the traceback is for debug only


class DefectiveStream(CountingStream):
    """A stream that fails at every read in a way that no stream should, without ever waiting."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        raise ZeroDivisionError("a defect of the stream")


@in_trio
async def test_a_defect_that_stays_ends_the_connection_and_not_the_loop() -> None:
    async with pumped(DefectiveStream()) as one:
        with trio.fail_after(SOON_S):
            await one.ended.wait()
        assert one.conversation.lost_because == ["internal error"]


@in_trio
async def test_a_defect_while_giving_back_ends_in_a_log_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        raise ZeroDivisionError("a defect")

    async with pumped() as one:
        monkeypatch.setattr(one.conversation, "lost", fail)
        await one.client.aclose()
        await one.ended.wait()
    assert "internal error" in [record.getMessage() for record in caplog.records]


@in_trio
async def test_one_line_when_a_connection_opens_and_one_when_it_closes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "amqp_broker")
    async with pumped() as one:
        await one.client.send_all(b"hello")
        await trio.sleep(SOON_S)
        one.conversation.virtual_host_name = "/"
        await one.client.send_all(b"open")
        await one.client.send_all(b"more")
        await trio.sleep(SOON_S)
        one.conversation.close_reason = "closed by client"
        one.conversation.finish()
        await one.ended.wait()
    assert [record.getMessage() for record in caplog.records] == ["connection opened", "connection closed"]
    fields = [record.__dict__["fields"] for record in caplog.records]
    assert fields[0] == {"peer": "peer", "user": "somebody", "vhost": "/"}
    assert fields[1]["reason"] == "closed by client"


@in_trio
async def test_one_line_when_a_connection_fails(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "amqp_broker")
    async with pumped() as one:
        await one.client.aclose()
        await one.ended.wait()
    (record,) = caplog.records
    assert (record.getMessage(), record.levelno) == ("connection failed", logging.WARNING)
    assert record.__dict__["fields"]["reason"] == "the client closed the TCP connection"


@in_trio
async def test_a_reset_is_told_as_what_the_client_did_without_the_systems_number() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        async with pumped(SocketStream(listener.accept()[0])) as one:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close sends RST
            client.close()
            await one.ended.wait()
    assert one.conversation.lost_because == [CLIENT_RESET]


# --- what goes out without the writer: over real sockets, because only they are sent to at once


class Talkers:
    """Two pumped conversations of one server, and their clients."""

    def __init__(self) -> None:
        outbox = Outbox()
        self.clients: list[SocketStream] = []
        self.pumps: list[Pump] = []
        self.conversations: list[StandIn] = []
        for _ in range(2):
            with socket.create_server(("127.0.0.1", 0)) as listener:
                self.clients.append(SocketStream(socket.create_connection(listener.getsockname())))
                pump = Pump(SocketStream(listener.accept()[0]), CHUNK_BYTES, outbox)
            conversation = StandIn()
            conversation.on_output = pump.notify
            self.pumps.append(pump)
            self.conversations.append(conversation)


@asynccontextmanager
async def two_talkers() -> AsyncIterator[Talkers]:
    talkers = Talkers()
    async with trio.open_nursery() as nursery:
        for pump, conversation in zip(talkers.pumps, talkers.conversations, strict=True):
            nursery.start_soon(pump.run, conversation, ConnectionLog("peer", conversation))
        await trio.testing.wait_all_tasks_blocked()
        yield talkers
        nursery.cancel_scope.cancel()
    for client in talkers.clients:
        await client.aclose()


@in_trio
async def test_a_chunk_may_make_another_connection_speak() -> None:
    async with two_talkers() as talkers:
        one, other = talkers.conversations
        one.on_receive = other.say
        await talkers.clients[0].send_all(b"hello")
        assert await talkers.clients[1].receive_some() == b"hello"
        assert other.sent_bytes == [5]
        assert one.sent_bytes == []


@in_trio
async def test_what_the_system_does_not_take_is_sent_in_order() -> None:
    async with two_talkers() as talkers:
        one = talkers.conversations[0]
        pieces = [bytes((number,)) * 1_000_000 for number in range(3)]
        said = iter(pieces)
        one.on_receive = lambda data: one.say(next(said))
        for _ in pieces:
            await talkers.clients[0].send_all(b"more")
            await trio.testing.wait_all_tasks_blocked()
        expected = b"".join(pieces)
        received = bytearray()
        while len(received) < len(expected):
            received += await talkers.clients[0].receive_some()
        assert received == expected
        await trio.testing.wait_all_tasks_blocked()
        assert sum(one.sent_bytes) == len(expected)


@in_trio
async def test_a_defect_in_what_another_connection_says_ends_only_that_one() -> None:
    async with two_talkers() as talkers:
        one, other = talkers.conversations

        def fail() -> list[bytes | memoryview]:
            raise RuntimeError("a defect")

        other.take_output = fail  # type: ignore[method-assign]

        def both_speak(data: bytes) -> None:
            other.say(data)
            one.say(data)

        one.on_receive = both_speak
        await talkers.clients[0].send_all(b"hello")
        assert await talkers.clients[0].receive_some() == b"hello"
        assert await talkers.clients[1].receive_some() == WORDS_FOR_A_DEFECT
        assert other.lost_because == ["internal error"]
        assert one.lost_because == []
