"""The load: producers and consumers that do next to nothing for a message, so that the broker is what is measured.

A producer sends prebuilt batches of whole messages. A consumer counts bytes: every delivery of a cell has the same
length. Both are the bodies of worker processes (``crew.py``). What holds a producer back is its window: how many
messages may be on their way, unconfirmed or not yet consumed.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from benchmarks.client import CONSUMER_TAG, Client
from benchmarks.crew import Board
from benchmarks.frames import QOS_OK_BYTES, AckFrames, Batch, Confirms, ack, basic_qos
from interop.brokers import Address

RECEIVE_BYTES = 262_144
PAUSE_S = 0.0005

_STAMP = struct.Struct(">Q")


class Acks(Enum):
    """How a consumer acknowledges."""

    NONE = "auto-ack"
    SINGLE = "single-acks"
    MULTIPLE = "multiple-acks"


# --- producers


@dataclass(frozen=True)
class Producer:
    """Publishes as fast as its window lets it.

    Where nobody consumes and nothing is confirmed, what counts as published is what the broker has taken: it is asked
    for something on the same channel, again and again, and has taken what came before that when it answers. What was
    sent lies in the sockets' buffers for long, some hundred thousand small messages.

    Args:
        address: the broker.
        connections: the batches that each connection sends, again and again.
        copies: how many deliveries one publish leads to; 0 when nobody consumes.
        consumed_window: how many messages may be published and not consumed yet; not taken, where nobody consumes.
        confirms_window: how many may be unconfirmed; 0 for no confirms (one connection only).
        channels: of each connection.
        rate_per_s: how many are published a second, where the window lets it; 0 for as many as it lets.
    """

    address: Address
    connections: list[list[Batch]]
    copies: int
    consumed_window: int
    confirms_window: int = 0
    channels: int = 1
    rate_per_s: int = 0

    def run(self, board: Board, ready: Callable[[], None]) -> None:
        """Publish until the process is ended."""
        clients = [Client(self.address, self.channels) for _ in self.connections]
        if self.confirms_window:
            _select_confirms(clients[0])
        ready()
        if self.confirms_window:
            self._publish_confirmed(board, clients[0].socket)
        elif not self.copies and len(clients) == 1:
            self._publish_taken(board, clients[0].socket)
        else:
            self._publish(board, [client.socket for client in clients])

    def _publish(self, board: Board, sockets: list[socket.socket]) -> None:
        sent, begun_s = 0, time.monotonic()
        for send, batch in _turns(sockets, self.connections):
            self._wait_for_consumers(board, sent + batch.count)
            if self.rate_per_s:
                time.sleep(max(0.0, begun_s + sent / self.rate_per_s - time.monotonic()))
            send(batch.frames)
            sent += batch.count
            board.published[0] = sent

    def _publish_taken(self, board: Board, connected: socket.socket) -> None:
        request, request_every = basic_qos(), max(1, self.consumed_window // 4)
        asked: deque[int] = deque()  # how many messages came before each request
        sent = taken = answered_bytes = 0
        for send, batch in _turns([connected], self.connections):
            while sent + batch.count - taken > self.consumed_window and asked:
                answered_bytes += len(connected.recv(RECEIVE_BYTES) or _closed())
                while answered_bytes >= QOS_OK_BYTES:
                    answered_bytes -= QOS_OK_BYTES
                    board.published[0] = taken = asked.popleft()
            send(batch.frames)
            sent += batch.count
            if sent - (asked[-1] if asked else taken) >= request_every:
                send(request)
                asked.append(sent)

    def _publish_confirmed(self, board: Board, connected: socket.socket) -> None:
        confirms = Confirms()
        sent = 0
        for send, batch in _turns([connected], self.connections):
            while sent + batch.count - confirms.count > self.confirms_window:
                confirms.feed(connected.recv(RECEIVE_BYTES) or _closed())
                board.published[0] = confirms.count
            self._wait_for_consumers(board, sent + batch.count)
            send(batch.frames)
            sent += batch.count

    def _wait_for_consumers(self, board: Board, sent: int) -> None:
        if self.copies:
            while sent - board.done[0] // self.copies > self.consumed_window:
                time.sleep(PAUSE_S)


def _turns(
    sockets: list[socket.socket], connections: list[list[Batch]]
) -> Iterator[tuple[Callable[[bytes], None], Batch]]:
    """Each connection's next batch, in turn, for ever."""
    positions = [0] * len(connections)
    while True:
        for number, connected in enumerate(sockets):
            own = connections[number]
            yield connected.sendall, own[positions[number]]
            positions[number] = (positions[number] + 1) % len(own)


def _select_confirms(client: Client) -> None:
    from pamqp import commands

    client.call(commands.Confirm.Select())


# --- consumers


@dataclass(frozen=True)
class Consumer:
    """Consumes everything and counts it.

    Args:
        address: the broker.
        connections: the queues that each connection consumes.
        delivery_bytes: the length of a delivery, without the consumer tag.
        acks: how it acknowledges.
        prefetch: of each consumer, where it acknowledges.
        channels: of each connection; the queues are spread over them.
        lead_max: how many more messages it takes than are published meanwhile, so that a backlog stays; 0 for no limit.
    """

    address: Address
    connections: list[list[str]]
    delivery_bytes: int
    acks: Acks = Acks.NONE
    prefetch: int = 0
    channels: int = 1
    lead_max: int = 0

    def run(self, board: Board, ready: Callable[[], None]) -> None:
        """Consume until the process is ended."""
        clients = [Client(self.address, self.channels) for _ in self.connections]
        number = 0
        for client, queues in zip(clients, self.connections, strict=True):
            for position, queue in enumerate(queues):
                channel = position % self.channels + 1
                client.consume(queue, number, channel=channel, no_ack=self.acks is Acks.NONE, prefetch=self.prefetch)
                number += 1
        ready()
        delivery_bytes = self.delivery_bytes + len(CONSUMER_TAG.format(0))
        streams = [_Stream(client, delivery_bytes, self.acks, self.prefetch) for client in clients]
        if len(streams) == 1:
            stream = streams[0]
            while True:
                stream.receive()
                board.done[0] = stream.count
                while self.lead_max and stream.count - board.published[0] > self.lead_max:
                    time.sleep(PAUSE_S)
        done = 0
        for stream in _readable(streams):
            done += stream.receive()
            board.done[0] = done


def _readable(streams: list[_Stream]) -> Iterator[_Stream]:
    poll = select.epoll()
    by_descriptor = {stream.fileno(): stream for stream in streams}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.EPOLLIN)
    while True:
        for descriptor, _ in poll.poll():
            yield by_descriptor[descriptor]


class _Stream:
    """One connection's deliveries, as a number of bytes."""

    def __init__(self, client: Client, delivery_bytes: int, acks: Acks, prefetch: int) -> None:
        self.count = 0
        self._socket = client.socket
        self._received_bytes = len(client.rest)
        self._buffer = bytearray(RECEIVE_BYTES)
        self._delivery_bytes = delivery_bytes
        self._acks = acks
        self._single = AckFrames()
        self._acked = 0
        self._every = max(1, prefetch // 10)

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self) -> int:
        """Take what is there; returns how many messages it completed."""
        received_bytes = self._socket.recv_into(self._buffer) or len(_closed())
        if not self.count:
            self._check_first(self._received_bytes, received_bytes)
        self._received_bytes += received_bytes
        before, self.count = self.count, self._received_bytes // self._delivery_bytes
        if self._acks is Acks.SINGLE and self.count > before:
            self._socket.sendall(self._single.of(before + 1, self.count))
        elif self._acks is Acks.MULTIPLE and self.count - self._acked >= self._every:
            self._acked = self.count
            self._socket.sendall(ack(self.count, multiple=True))
        return self.count - before

    def _check_first(self, offset: int, received_bytes: int) -> None:
        """Counting bytes is right only if the first delivery ends where it should."""
        end = self._delivery_bytes - 1 - offset
        if 0 <= end < received_bytes and (
            self._buffer[end] != 0xCE or (end + 1 < received_bytes and self._buffer[end + 1] != 1)
        ):
            raise RuntimeError(f"a delivery is not {self._delivery_bytes} bytes long")


# --- messages that carry the time


@dataclass(frozen=True)
class PacedProducer:
    """Publishes at a fixed rate; each body begins with the time of its sending.

    Args:
        frames: one message, whose body is its end but for the frame's end byte.
        body_bytes: the length of that body.
        rate_per_s: how many a second.
    """

    address: Address
    frames: bytes
    body_bytes: int
    rate_per_s: int

    def run(self, board: Board, ready: Callable[[], None]) -> None:
        """Publish until the process is ended."""
        with Client(self.address) as client:
            ready()
            send = client.socket.sendall
            frames = bytearray(self.frames)
            stamp_offset = len(frames) - 1 - self.body_bytes
            interval_ns = 1_000_000_000 // self.rate_per_s
            due_ns = time.monotonic_ns()
            while True:
                now_ns = time.monotonic_ns()
                while due_ns <= now_ns:
                    _STAMP.pack_into(frames, stamp_offset, time.monotonic_ns())
                    send(frames)
                    board.published[0] += 1
                    due_ns += interval_ns
                time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)


@dataclass(frozen=True)
class StampReader:
    """Consumes one queue and notes how long each message was on its way."""

    address: Address
    queue: str
    delivery_bytes: int
    body_bytes: int

    def run(self, board: Board, ready: Callable[[], None]) -> None:
        """Consume until the process is ended."""
        with Client(self.address) as client:
            client.consume(self.queue, 0, no_ack=True)
            ready()
            delivery_bytes = self.delivery_bytes + len(CONSUMER_TAG.format(0))
            stamp_offset = delivery_bytes - 1 - self.body_bytes
            data, done = client.rest, 0
            while True:
                data += client.socket.recv(RECEIVE_BYTES) or _closed()
                now_ns = time.monotonic_ns()
                whole = len(data) // delivery_bytes
                for start in range(0, whole * delivery_bytes, delivery_bytes):
                    board.latencies_ns[done] = now_ns - _STAMP.unpack_from(data, start + stamp_offset)[0]
                    done += 1
                board.done[0] = done
                data = data[whole * delivery_bytes :]


# --- calls and answers


@dataclass(frozen=True)
class Caller:
    """Sends a request, waits until the whole answer is there, and goes on at once.

    Args:
        request: the frames that it sends.
        answer_bytes: the length of the answer.
        reply_queue: what it consumes, if that is where the answer comes from.
    """

    address: Address
    request: bytes
    answer_bytes: int
    reply_queue: str = ""

    def run(self, board: Board, ready: Callable[[], None]) -> None:
        """Call until the process is ended."""
        with Client(self.address) as client:
            answer_bytes = self.answer_bytes
            if self.reply_queue:
                client.consume(self.reply_queue, 0, no_ack=True)
                answer_bytes += len(CONSUMER_TAG.format(0))
            ready()
            receive, send, done = client.socket.recv, client.socket.sendall, 0
            while True:
                start_ns = time.monotonic_ns()
                send(self.request)
                missing = answer_bytes
                while missing > 0:
                    missing -= len(receive(missing) or _closed())
                board.latencies_ns[done] = time.monotonic_ns() - start_ns
                done += 1
                board.done[0] = done


@dataclass(frozen=True)
class Answerer:
    """Answers each delivery with the same message: the server of a remote procedure call."""

    address: Address
    queue: str
    delivery_bytes: int
    answer: bytes

    def run(self, board: Board, ready: Callable[[], None]) -> None:
        """Answer until the process is ended."""
        with Client(self.address) as client:
            client.consume(self.queue, 0, no_ack=True)
            ready()
            delivery_bytes = self.delivery_bytes + len(CONSUMER_TAG.format(0))
            received_bytes = answered = 0
            while True:
                received_bytes += len(client.socket.recv(RECEIVE_BYTES) or _closed())
                while answered < received_bytes // delivery_bytes:
                    client.socket.sendall(self.answer)
                    answered += 1


def _closed() -> bytes:
    raise RuntimeError("the broker closed the connection")
