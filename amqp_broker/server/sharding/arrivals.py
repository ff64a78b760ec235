"""Discovery of the virtual host that a client wants: its conversation, in any protocol, begins with an empty broker.

That broker knows all users and virtual hosts of the directory, so it answers as the owner of the virtual host would,
and refuses who is to be refused. As soon as it has let the client into a virtual host, it is asked no more: what the
client has said so far is said again to the owner of that virtual host, and what the owner answers to it is left out as
far as the client has heard it. Holds no shards and no links.
"""

from __future__ import annotations

import logging
import math
import struct
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import trio

from amqp_broker.access.client import Peer
from amqp_broker.broker.queues.base import QueueBusy
from amqp_broker.errors import OtherProtocol
from amqp_broker.logs import log_event, log_internal_error
from amqp_broker.network.listeners import AMQP, STREAMS
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.server.protocols import ClientConnection, amqp10_connection
from amqp_broker.server.sharding.directory import CannotAgree, Directory, agree
from amqp_broker.settings import Settings

READ_BYTES: Final = 4_096
HEARD_BYTES_MAX: Final = 1_048_576  # of a client that is not let in yet; no login is as long
FAREWELL_S: Final = 3.0
AGAIN_MS: Final = 1_000  # between two attempts to agree with a directory
AMQP_BEGINNING: Final = b"AMQP"  # of a header, which is no frame
HEARTBEAT_BYTES: Final = 8  # of a frame that holds nothing, in each protocol that has frames
_LENGTH: Final = struct.Struct(">I")
_ENTERED: Final = "it is served elsewhere"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A client that was let in.

    Args:
        virtual_host: where it wants to be.
        heard: all that it has said.
        answered: how many frames it was answered.
    """

    virtual_host: str
    heard: bytes
    answered: int


def settings_of_entrance(settings: Settings) -> Settings:
    """The settings of an empty broker: no session of MQTT outlives its conversation, which is over soon."""
    return replace(settings, mqtt_session_expiry_max_s=0)


class Entrance:
    """The empty broker of one node.

    Args:
        server: of it, which runs and does not listen.
    """

    def __init__(self, server: BrokerServer) -> None:
        self._server = server
        self._number = 0  # of the directory that it agrees with
        self._failed_number = 0  # of the one that it could not agree with
        self._failure = ""
        self._again_ms = 0  # when it tries that one again

    async def administer(self, stream: trio.abc.Stream, peer: Peer, protocol: str) -> None:
        """Have an administrator's conversation, which is about all shards."""
        await self._server.serve_stream(stream, peer, protocol)

    def has(self, protocol: str) -> bool:
        """Whether clients of a protocol can be asked where they want to be."""
        return protocol in self._server.protocols

    def agree(self, directory: Directory) -> None:
        """Know the users and virtual hosts of a directory.

        Raises:
            CannotAgree: nobody is to be let in. The same directory is tried again after a moment, another one at once:
                to try takes as long as an import, and all clients come back at the same time.
        """
        if directory.number <= self._number:
            return
        broker = self._server.broker
        now_ms = broker.clock.monotonic_ms()
        if directory.number == self._failed_number and now_ms < self._again_ms:
            raise CannotAgree(self._failure)
        try:
            broker.handle(partial(agree, broker, directory, None))
        except CannotAgree as error:
            self._failed_number, self._failure, self._again_ms = directory.number, str(error), now_ms + AGAIN_MS
            raise
        self._number = directory.number

    async def receive(self, stream: trio.abc.Stream, peer: Peer, protocol: str) -> Arrival | None:
        """Converse with a client until it is let in; None when it has gone, or was refused and told so."""
        asking = None
        try:
            asking = _Asking(self._server, stream, peer, protocol)
            return await asking.run()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return None
        except Exception as error:
            log_internal_error("connection", error, peer=str(peer))
            return None
        finally:
            if asking is not None:
                self._forget(asking)

    def _forget(self, asking: _Asking) -> None:
        try:
            asking.end()
            self._forget_contents(asking.virtual_host_name)
        except Exception as error:
            log_internal_error("connection", error, peer=str(asking.peer))

    def _forget_contents(self, virtual_host: str) -> None:
        """A client that did not wait to be let in may have declared some, and published to it."""
        broker = self._server.broker
        host = broker.virtual_hosts.get(virtual_host)
        if host is None:
            return
        for name in list(host.queues):
            with suppress(QueueBusy):  # then the next one does
                broker.handle(partial(broker.administration.delete_queue, virtual_host, name))
        for name in list(host.exchanges):
            exchange = host.exchanges.get(name)  # one that goes may take others with it
            if exchange is not None and name and not name.startswith("amq."):
                broker.handle(partial(host.remove_exchange, exchange))
        if len(host.retained):
            broker.handle(host.retained.clear)


class _Asking:
    """One conversation with the empty broker."""

    def __init__(self, server: BrokerServer, stream: trio.abc.Stream, peer: Peer, protocol: str) -> None:
        self._server = server
        self._stream = stream
        self.peer = peer
        self._changed = trio.Event()
        self._waiting: trio.CancelScope | None = None  # for the client
        self._patience_s = 0.0  # with it, when the conversation has finished
        self._connection: ClientConnection = server.protocols[protocol](server.broker, peer, self._notify)
        self._frames = Frames(protocol)
        self._heard = bytearray()
        self.virtual_host_name = ""  # where it was let in

    def _notify(self) -> None:
        self._changed.set()
        if self._waiting is not None and self._connection.finished:  # the client may never say a word, or never listen
            self._waiting.deadline = min(self._waiting.deadline, trio.current_time() + self._patience_s)

    def _patient(self, seconds: float) -> trio.CancelScope:
        """A wait for the client, which ends so long after the conversation has finished."""
        deadline_s = trio.current_time() + seconds if self._connection.finished else math.inf
        self._waiting, self._patience_s = trio.CancelScope(deadline=deadline_s), seconds
        return self._waiting

    async def run(self) -> Arrival | None:
        """Converse until the client is let in, or has to go."""
        while True:
            self._changed = trio.Event()
            output = b"".join(self._connection.take_output())
            self.virtual_host_name = host = self._connection.virtual_host_name
            if host:
                return Arrival(host, bytes(self._heard), self._frames.count)
            if output:
                self._frames.add(output)
                with self._patient(FAREWELL_S) as sending:
                    await self._stream.send_all(output)
                if sending.cancelled_caught:
                    return None
                self._connection.output_sent(len(output))
            elif self._connection.finished:
                await self._say_goodbye()
                return None
            elif self._connection.is_reading_paused:
                await self._changed.wait()
            else:
                with self._patient(0.0) as reading:
                    data = bytes(await self._stream.receive_some(READ_BYTES))
                if reading.cancelled_caught:
                    continue
                if not data:
                    return None
                self._heard += data
                if len(self._heard) > HEARD_BYTES_MAX:
                    reason = f"it is not let in after {HEARD_BYTES_MAX} bytes"
                    log_event(logging.WARNING, "connection failed", peer=str(self.peer), reason=reason)
                    return None
                self._take_in(data)

    def _take_in(self, data: bytes) -> None:
        try:
            self._connection.receive(data)
        except OtherProtocol as other:
            self.end()
            self._connection = amqp10_connection(self._server.broker, self.peer, self._notify)
            self._connection.receive(other.data)

    async def _say_goodbye(self) -> None:
        with trio.move_on_after(FAREWELL_S):
            if isinstance(self._stream, trio.abc.HalfCloseableStream):
                await self._stream.send_eof()
                while await self._stream.receive_some(READ_BYTES):
                    pass

    def end(self) -> None:
        """Give everything back."""
        self._connection.lost(_ENTERED)
        self._connection.detach()


class Frames:
    """Counts the frames that a broker sends before a client is let in.

    MQTT and STOMP have none: what is said first there is said to who was let in, or is refused. Heartbeats, which may
    begin before that, do not count: one broker may say some where the other says none.

    Args:
        protocol: the listener's.
    """

    def __init__(self, protocol: str) -> None:
        self._protocol = protocol
        self._data = bytearray()
        self._is_amqp10 = False
        self.count = 0

    def add(self, data: bytes) -> None:
        """Take what is sent."""
        self.rest_behind(2**62, data)

    def rest_behind(self, count: int, data: bytes) -> bytes:
        """Take what is sent; returns what stands behind so many frames, as far as it came with this."""
        self._data += data
        while self.count < count:
            size = self._size()
            if size is None or len(self._data) < size:
                return b""
            self.count += size != HEARTBEAT_BYTES or self._data.startswith(AMQP_BEGINNING)
            del self._data[:size]
        rest = bytes(self._data)
        self._data.clear()
        return rest

    def _size(self) -> int | None:
        """Of the frame that begins here; None while that is not known."""
        data = self._data
        if len(data) < 8:
            return None
        if self._protocol == AMQP:
            if data.startswith(AMQP_BEGINNING):
                self._is_amqp10 = True
                return 8
            if not self._is_amqp10:
                return int(_LENGTH.unpack_from(data, 3)[0]) + 8
            return int(_LENGTH.unpack_from(data)[0])
        if self._protocol == STREAMS:
            return int(_LENGTH.unpack_from(data)[0]) + 4
        return None


class Heard:
    """The beginning of a client's conversation, said and heard, for whoever goes on with it (``network/pump.py``).

    Args:
        arrival: of the client.
        protocol: that it speaks.
    """

    def __init__(self, arrival: Arrival, protocol: str) -> None:
        self.heard = arrival.heard
        self._frames = Frames(protocol)
        self._count = arrival.answered
        self.is_answered = not self._count

    def rest(self, data: bytes) -> bytes:
        """What the client has not heard of what it is answered."""
        if self.is_answered:
            return data
        rest = self._frames.rest_behind(self._count, data)
        self.is_answered = self._frames.count >= self._count
        return rest


class Continued(trio.abc.HalfCloseableStream):
    """A client's stream to whoever serves it: begins with what it said before, and leaves out what it was answered.

    Args:
        stream: the client's.
        beginning: what was said.
    """

    def __init__(self, stream: trio.abc.Stream, beginning: Heard) -> None:
        self._stream = stream
        self._beginning = beginning
        self._first = beginning.heard

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._first:
            first, self._first = self._first[:max_bytes], self._first[max_bytes:] if max_bytes else b""
            return first
        return bytes(await self._stream.receive_some(max_bytes))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if not self._beginning.is_answered:
            data = self._beginning.rest(bytes(data))
        if data:
            await self._stream.send_all(data)
        else:
            await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()
