"""One client's byte stream joined to its conversation: what arrives goes in, what is to be said goes out.

The conversation (a protocol's connection) knows no sockets, so these are the duties of this side:

- hand in what was read, at most one chunk before every other connection has had its turn; who sends much waits in
  line with all who do (``turns.py``);
- do not read while the conversation says so, so that a publisher that is too fast is held back by TCP;
- send what it has to say, many frames in one call, and tell it how much has left, so that consumers go on;
- when it has finished: send what is left, close our half, and give the client a moment to close its own, because a
  socket closed with bytes unread resets the connection and may destroy what we said last;
- whatever ends the stream (an end, a reset, a cancellation, a defect), tell it once, so that it gives everything back.

A reader and a writer share each connection. Most of what is said goes out without the writer, though: when a chunk has
been handled, the reader itself sends what the chunk has made connections say, its own and others, as far as the system
takes it at once (``Outbox``). Waking a writer takes two rounds of the event loop, which is more than everything else
that is done for a short answer; the writer sends what is left, and what is said at other times.

A defect in the conversation's code ends this connection only: a stand-in takes its place that tells the client so, in
the words of its protocol, and listens to nothing more.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Protocol, TypeVar, runtime_checkable

import trio

from amqp_broker.errors import OtherProtocol
from amqp_broker.journal.stretches import FileStretch
from amqp_broker.network.connection_log import CLIENT_LEFT, CLIENT_RESET, ConnectionLog
from amqp_broker.network.direct_stream import DirectStream, Part
from amqp_broker.network.socket_stream import CAN_SCATTER
from amqp_broker.network.turns import ROUND_S_MAX, Turns
from amqp_broker.network.wake_up import WakeUp

# How long a client may take to read the last words and to close its half.
FAREWELL_TIMEOUT_S = 3.0

# What was read at once is handled in about this time, so that the other connections have their turn: a client is read
# in small pieces first, and in larger ones as long as they take no longer. Some frames are a piece, whatever they cost.
TURN_S_MAX = 0.002
READ_CHUNK_BYTES_FIRST = 4_096
READ_CHUNK_BYTES_MIN = 256

# The rest of a large body is read in fewer and larger pieces than anything else, because only its bytes cost anything;
# where that can be done, straight to where it belongs.
BODY_CHUNK_FACTOR = 2

# A connection is busy when what is read at once is all used, or takes longer than this.
LIGHT_S_MAX = 0.001

# What an end is reckoned at, on a slow machine: most of it is the event loop's own. One that was busy may have much
# more to give back.
END_S = 0.0005

# What a busy client costs is told in time of ours: what other programs take meanwhile is not its fault. Each look at
# that is a call of the system; for who was not busy the time that passes will do, which is never less. (Windows counts
# ours in steps of 16 ms, which is too coarse.)
_seconds = time.perf_counter
_seconds_of_ours = time.perf_counter if sys.platform == "win32" else time.thread_time

# What is handed over at once: behind each portion the conversation learns that this much has left.
SEND_BYTES_MAX = 2_097_152


Argument = TypeVar("Argument")


class Conversation(Protocol):
    """A conversation to pump: each protocol's connection. Its duties and ours are in ``docs/architecture.md``."""

    finished: bool
    is_reading_paused: bool
    missing_body_bytes: int
    takes_stretches: bool

    def receive(self, data: bytes) -> None:
        """Take in what was read."""

    def body_buffers(self) -> Sequence[memoryview]:
        """Where the next bytes may be read to instead, in this order; none when ``receive`` is to have them."""
        ...

    def body_buffers_filled(self, size_bytes: int) -> None:
        """Take in what was read to there."""

    def take_output(self) -> list[bytes | memoryview]:
        """Hand over all that may be sent now, whole frames in order, with stretches where it ``takes_stretches``."""

    def output_sent(self, sent_bytes: int) -> None:
        """Take notice that this much has left."""

    def lost(self, reason: str) -> None:
        """Give everything back: the stream is gone."""

    def words_for_a_defect(self) -> bytes:
        """What the client is told when the conversation itself has failed; empty where the protocol has no words."""
        ...


class OutputGate(Protocol):
    """Says whether a server may speak to its clients: one of several may not while another may have taken its place."""

    def is_open(self) -> bool:
        """Whether output may go out now; asked before each chunk of it."""
        ...

    async def wait_until_open(self) -> None:
        """Wait until it may."""


class Beginning(Protocol):
    """The beginning of a client's conversation, which somebody else had with it."""

    @property
    def heard(self) -> bytes:
        """All that the client has said."""
        ...

    @property
    def is_answered(self) -> bool:
        """Whether all that the client was answered was left out."""
        ...

    def rest(self, data: bytes) -> bytes:
        """What the client has not heard of what it is answered."""
        ...


@runtime_checkable
class GatheringStream(Protocol):
    """A stream that gathers what comes before anybody hears it, as a web socket does: of strangers not too much."""

    is_let_in: Callable[[], bool]


SpeakOther = Callable[[], tuple[Conversation, ConnectionLog]]


class Outbox:
    """The pumps of one server that have something to send when the chunk that is being handled is done.

    Args:
        gate: closed while nothing may be sent; None where that never is.
    """

    def __init__(self, gate: OutputGate | None = None) -> None:
        self.gate = gate
        self._waiting: list[Pump] | None = None

    def put(self, pump: Pump) -> bool:
        """Have a pump send at the end of the chunk; returns False when no chunk is being handled."""
        if self._waiting is None:
            return False
        self._waiting.append(pump)
        return True

    def handle(self, work: Callable[[Argument], None], argument: Argument) -> None:
        """Have a chunk handled, or anything else that makes connections speak, and all pumps send what comes of it."""
        self._waiting = []
        try:
            work(argument)
        finally:
            waiting, self._waiting = self._waiting, None
            for pump in waiting:
                pump.send_now()


class Pump:
    """Joins a stream to a conversation, and runs until both have ended.

    Args:
        stream: the client's bytes; closed at the end.
        read_chunk_bytes: the most that is read at once.
        outbox: shared by all pumps whose conversations may make each other say something.
        turns: shared by all pumps of one event loop, so that those with much to read let the others have theirs.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        read_chunk_bytes: int,
        outbox: Outbox | None = None,
        turns: Turns | None = None,
    ) -> None:
        self._stream = stream
        self._direct = stream if isinstance(stream, DirectStream) else None
        self._read_chunk_bytes = read_chunk_bytes
        self._outbox = outbox or Outbox()
        self._turns = turns
        self._has_been_busy = False
        self._rest: list[Part] = []  # what the system has not taken of what was sent without the writer
        self._is_writing = False
        self._output_ready = WakeUp()
        self._reading_resumed = WakeUp()
        self._scope = trio.CancelScope()
        self._conversation: Conversation
        self._log: ConnectionLog
        self._make_other: SpeakOther | None = None
        self._is_crashed = False
        self._lost_because = ""

    def notify(self) -> None:
        """The conversation's ``on_output``, from ``run`` on: it has something to say, has finished, or lets us read."""
        self._reading_resumed.set()
        if self._direct is None or self._is_writing or not self._outbox.put(self):
            self._output_ready.set()
        if self._conversation.finished and self._scope.deadline == math.inf:
            self._scope.deadline = trio.current_time() + FAREWELL_TIMEOUT_S

    async def run(
        self,
        conversation: Conversation,
        log: ConnectionLog,
        speak_other: SpeakOther | None = None,
        beginning: Beginning | None = None,
    ) -> None:
        """Pump until the conversation has finished or the stream is gone. Raises nothing but cancellation.

        Args:
            speak_other: makes what takes the conversation's place when the client begins in another protocol.
            beginning: what the conversation has to hear first; None where nobody has spoken with the client yet.
        """
        self._conversation = conversation
        conversation.takes_stretches = self._direct is not None and self._direct.takes_stretches
        self._log = log
        self._make_other = speak_other
        if isinstance(self._stream, GatheringStream):
            self._stream.is_let_in = lambda: bool(getattr(self._conversation, "virtual_host_name", ""))
        log.connected()
        try:
            with self._scope:
                if beginning is not None:
                    await self._guard(partial(self._catch_up, beginning))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._guard, self._write)
                    nursery.start_soon(self._guard, self._read)
        finally:
            self._end()
            self._make_other = None  # it knows this pump: of a crowd that has left, a collection would take long
            if isinstance(self._stream, GatheringStream):
                self._stream.is_let_in = _nobody_is_let_in  # likewise
            await trio.aclose_forcefully(self._stream)

    async def _catch_up(self, beginning: Beginning) -> None:
        """Have the conversation come to where its client is."""
        try:
            self._conversation.receive(beginning.heard)
        except OtherProtocol as other:
            if self._make_other is None:
                raise
            self._begin_other(self._make_other)
            self._conversation.receive(other.data)
        while not beginning.is_answered and not self._is_crashed:  # the words for a defect are no part of the answer
            taken: list[Part] = self._conversation.take_output()  # type: ignore[assignment]  # lists are invariant
            output = b"".join([part.read() if isinstance(part, FileStretch) else part for part in taken])
            if output:
                rest = beginning.rest(output)
                self._conversation.output_sent(len(output) - len(rest))
                self._rest = [rest] if rest else []
            elif self._conversation.finished:
                break
            else:
                await self._output_ready.wait()
        self._output_ready.set()

    # --- the two tasks ---------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        receive_some, log, turns = self._stream.receive_some, self._log, self._turns
        read_byte_s = self._direct.read_byte_s if self._direct is not None else 0.0
        chunk_bytes = min(READ_CHUNK_BYTES_FIRST, self._read_chunk_bytes)
        is_busy = False
        while True:
            if self._conversation.is_reading_paused and not self._conversation.finished:
                await self._reading_resumed.wait()
                continue
            size_bytes = -1
            if self._conversation.missing_body_bytes:
                size_bytes = await self._fill_body_buffers()
                to_read = self._bytes_to_read(chunk_bytes)
            else:
                to_read = chunk_bytes
            data = b"" if size_bytes >= 0 else bytes(await receive_some(to_read))  # no copy
            if size_bytes <= 0 and not data:
                await self._lose(CLIENT_LEFT)
                return
            conversation = self._conversation
            if conversation.finished:
                chunk_bytes = self._read_chunk_bytes
                continue  # nobody listens any more; it is read so that closing does not become a reset
            seconds = _seconds_of_ours if is_busy else _seconds
            began_s = seconds()
            if data:
                self._outbox.handle(conversation.receive, data)
            else:
                self._outbox.handle(conversation.body_buffers_filled, size_bytes)
            read_bytes = max(size_bytes, len(data))
            took_s = seconds() - began_s + read_byte_s * read_bytes
            if not log.is_opened:
                log.note_opened()
            is_full = read_bytes >= chunk_bytes
            is_busy = is_full or took_s > LIGHT_S_MAX
            if is_busy:
                self._has_been_busy |= is_full
                if turns is not None:
                    await turns.take(took_s)
            if is_busy or not data:  # else it stays as it is
                chunk_bytes = self._next_chunk_bytes(chunk_bytes, len(data), took_s)

    async def _fill_body_buffers(self) -> int:
        """Read what a large body lacks straight to where it belongs; returns how much, or -1 without buffers."""
        if self._direct is None or not CAN_SCATTER:
            return -1
        if self._conversation.missing_body_bytes <= self._read_chunk_bytes:
            return -1
        return await self._direct.receive_into(self._conversation.body_buffers)

    def _bytes_to_read(self, chunk_bytes: int) -> int:
        """How much to read at once: more than usual where it is a body's, and the largest chunks took not long."""
        missing_bytes = self._conversation.missing_body_bytes
        if missing_bytes > chunk_bytes == self._read_chunk_bytes:
            return min(missing_bytes, BODY_CHUNK_FACTOR * chunk_bytes)
        return chunk_bytes

    def _next_chunk_bytes(self, chunk_bytes: int, read_bytes: int, took_s: float) -> int:
        """How much to read at once next time: a turn must not take long, whatever the messages are like.

        What comes behind a large body is most often the next one, and the beginning of its first frame is
        enough for that one's buffers.
        """
        if not read_bytes:
            return min(READ_CHUNK_BYTES_FIRST, self._read_chunk_bytes)
        if took_s > TURN_S_MAX:
            return max(chunk_bytes // 2, min(READ_CHUNK_BYTES_MIN, self._read_chunk_bytes))
        if read_bytes >= chunk_bytes and took_s < TURN_S_MAX / 3:
            return min(chunk_bytes * 2, self._read_chunk_bytes)
        return chunk_bytes

    def send_now(self) -> None:
        """Send what the system takes at once, and leave the rest to the writer."""
        if self._outbox.gate is not None and not self._outbox.gate.is_open():
            self._output_ready.set()
            return
        if self._direct is not None and not self._is_writing and not self._rest:
            try:
                output: list[Part] = self._conversation.take_output()  # type: ignore[assignment]  # lists are invariant
                if output:
                    self._rest = self._direct.send_now(output)
                    unsent_bytes = _size_bytes(self._rest) if self._rest else 0
                    self._conversation.output_sent(_size_bytes(output) - unsent_bytes)
            except (Exception, SystemExit) as error:
                self._crash(error)
        if self._rest or self._conversation.finished:
            self._output_ready.set()

    async def _write(self) -> None:
        gate = self._outbox.gate
        while True:
            if gate is not None and not gate.is_open():
                await gate.wait_until_open()
            rest, self._rest = self._rest, []
            output: list[Part] = rest or self._conversation.take_output()  # type: ignore[assignment]
            if output:
                self._is_writing = True
                for number, (portion, size_bytes) in enumerate(_portions(output)):
                    if number and self._direct is not None:
                        await trio.lowlevel.checkpoint()
                    await self._send(portion)
                    self._conversation.output_sent(size_bytes)
                self._is_writing = False
                if self._direct is not None:  # others do so as they send
                    # Now, not before: the others have their turn after the client has been answered. What comes of
                    # that is sent without this task again.
                    await trio.lowlevel.checkpoint()
            elif self._conversation.finished:
                break
            else:
                await self._output_ready.wait()
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()
        else:
            self._scope.cancel()

    async def _send(self, portion: list[Part]) -> None:
        if self._direct is not None:
            await self._direct.send_parts(portion)
        else:
            await self._stream.send_all(b"".join(portion))  # type: ignore[arg-type]  # only sockets get stretches

    # --- how it ends -----------------------------------------------------------------------------------------------

    async def _guard(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run one of the two tasks; what goes wrong in it ends the connection in an orderly way."""
        while True:
            try:
                await task()
                return
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                reason = str(error)
                await self._lose(reason if reason == CLIENT_RESET else f"the TCP connection failed: {reason}")
                return
            except (Exception, SystemExit) as error:  # the latter is some package's: it ends its own connection
                was_crashed = self._is_crashed
                self._crash(error)
                if was_crashed:
                    return  # it fails with the stand-in as well, and may never let go of the loop: once round is enough

    async def _lose(self, reason: str) -> None:
        if self._turns is not None:  # it may be one of a crowd, and have much to give back
            await self._turns.take(ROUND_S_MAX if self._has_been_busy else END_S)
        self._stop(reason)

    def _stop(self, reason: str) -> None:
        self._lost_because = reason
        self._scope.cancel()

    def _crash(self, error: Exception | SystemExit) -> None:
        if isinstance(error, OtherProtocol) and self._make_other is not None:
            self._speak_other(error.data, self._make_other)
            return
        if self._is_crashed:
            self._stop("internal error")
            return
        self._is_crashed = True
        self._log.crashed(error)
        crashed, self._conversation = self._conversation, _Failed(self._conversation.words_for_a_defect())
        self._give_back(crashed, "internal error")
        self.notify()

    def _begin_other(self, make: SpeakOther) -> None:
        self._make_other = None
        before = self._conversation
        self._conversation, self._log = make()
        self._conversation.takes_stretches = self._direct is not None and self._direct.takes_stretches
        self._give_back(before, "the client speaks another protocol")

    def _speak_other(self, data: bytes, make: SpeakOther) -> None:
        """The client has begun with the header of another protocol: one that speaks it has the conversation."""
        self._begin_other(make)
        self._outbox.handle(self._conversation.receive, data)

    def _end(self) -> None:
        if self._is_crashed:
            return
        has_finished = self._conversation.finished
        reason = self._lost_because or ("it has finished" if has_finished else "the broker has shut down")
        self._log.ended(reason)
        self._give_back(self._conversation, reason)

    def _give_back(self, conversation: Conversation, reason: str) -> None:
        try:
            conversation.lost(reason)
        except (Exception, SystemExit) as error:
            self._log.crashed(error)


class _Failed:
    """Stands in for a conversation that has failed: tells the client and is done."""

    finished = True
    is_reading_paused = False
    missing_body_bytes = 0
    takes_stretches = False

    def __init__(self, words: bytes) -> None:
        self._output: list[bytes | memoryview] = [words] if words else []

    def receive(self, data: bytes) -> None:
        """Ignore it."""

    def body_buffers(self) -> Sequence[memoryview]:
        """There is none."""
        return ()

    def body_buffers_filled(self, size_bytes: int) -> None:
        """Ignore it."""

    def take_output(self) -> list[bytes | memoryview]:
        """What the client is told, once."""
        output, self._output = self._output, []
        return output

    def output_sent(self, sent_bytes: int) -> None:
        """Ignore it."""

    def lost(self, reason: str) -> None:
        """There is nothing to give back."""

    def words_for_a_defect(self) -> bytes:
        """They are said."""
        return b""


def _nobody_is_let_in() -> bool:
    return False


def _portions(output: list[Part]) -> Iterator[tuple[list[Part], int]]:
    """The output in as few portions as ``SEND_BYTES_MAX`` allows, and how many bytes each has."""
    first, size_bytes = 0, 0
    for position, part in enumerate(output):
        part_bytes = len(part)
        if size_bytes and size_bytes + part_bytes > SEND_BYTES_MAX:
            yield output[first:position], size_bytes
            first, size_bytes = position, 0
        size_bytes += part_bytes
    yield output[first:], size_bytes


def _size_bytes(parts: list[Part]) -> int:
    return sum(map(len, parts))
