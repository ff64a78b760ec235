"""A connection to a broker over a trio stream: calls that wait for their reply, and events as they come.

::

    async with connected(uri, name="errand") as client:
        await client.call(Basic.Qos, prefetch_count=100)
        await client.call(Basic.Consume, queue="orders")
        while True:
            event = await client.next_event()

What is said between two waits goes out in one write. Holds no meaning of what is said; that is whoever's errand it is.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import trio

from amqp_broker.client.conversation import (
    CHANNEL,
    Conversation,
    ConversationFailed,
    Event,
    Said,
    closing_reason,
)
from amqp_broker.client.failures import BrokerUnreachable, RefusedByBroker, told_as_one
from amqp_broker.client.uri import AmqpUri
from amqp_broker.explanations import no_password, system_reason
from amqp_broker.wire.methods import Channel, Connection, Method
from amqp_broker.wire.table import Table

CHUNK_BYTES: Final = 262_144
CLOSE_TIMEOUT_S: Final = 2.0
MISSED_BEATS_MAX: Final = 2


class _Call:
    """A call that waits for its reply.

    Args:
        replies: the names of the methods that would be one.
    """

    __slots__ = ("replies", "reply")

    def __init__(self, replies: Sequence[str]) -> None:
        self.replies = replies
        self.reply: Method | None = None


class AmqpClient:
    """One connection with one channel; made by ``connected``.

    Args:
        stream: to the broker.
        uri: where it goes, for what is said of it.
    """

    def __init__(self, stream: trio.abc.Stream, uri: AmqpUri) -> None:
        self._stream = stream
        self._uri = uri
        self.conversation = Conversation()
        self._events: deque[Event] = deque()
        self._calls: list[_Call] = []  # that wait for their replies, the oldest first
        self._arrived = trio.Event()
        self._sending = trio.Lock()
        self._heard_s = trio.current_time()
        self._failure: BrokerUnreachable | None = None
        self._is_channel_closed = False  # by the failure; the connection goes on
        self.is_blocked = False  # whether the broker takes no publishes now
        self.server_properties: Table = {}  # what the broker says of itself

    # --- talking

    async def flush(self) -> None:
        """Send what was said.

        Raises:
            BrokerUnreachable: the connection has failed.
        """
        async with self._sending:
            output = self.conversation.take_output()
            if output:
                try:
                    await self._stream.send_all(output)
                except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                    self._fail(BrokerUnreachable("the connection was lost"))
                    raise self._gone() from error

    async def call(self, method: type[Method], channel: int = CHANNEL, **fields: Any) -> Method:
        """Say something, and wait for its reply; events that come before stay for ``next_event``.

        May be called while another task waits for ``next_event``: a reply is none of those.

        Raises:
            RefusedByBroker: the broker closes the channel or the connection for it.
            BrokerUnreachable: the connection has failed.
        """
        call = _Call(method.valid_responses)
        self._calls.append(call)
        try:
            self.conversation.say(method, channel, **fields)
            await self.flush()
            while call.reply is None:
                await self._wait()
        finally:
            if call in self._calls:
                self._calls.remove(call)
        return call.reply

    @property
    def has_events(self) -> bool:
        """Whether ``next_event`` has one without waiting."""
        return bool(self._events)

    async def next_event(self) -> Event:
        """What comes next.

        Raises:
            BrokerUnreachable: the connection has failed, or the broker has closed it.
        """
        while not self._events:
            await self._wait()
        return self._events.popleft()

    async def _wait(self) -> None:
        if self._failure is not None:
            raise self._gone()
        await self._arrived.wait()

    def _gone(self) -> BrokerUnreachable:
        """What to raise: each time another one, because it is raised in several tasks."""
        failure = self._failure
        assert failure is not None
        if isinstance(failure, RefusedByBroker):
            return RefusedByBroker(failure.code, f"{self._uri} says {failure}")
        return BrokerUnreachable(f"{self._uri}: {failure}")

    # --- receiving

    async def receive_forever(self) -> None:
        """Take in what comes, until the connection ends."""
        try:
            while self._failure is None or self._is_channel_closed:
                data = bytes(await self._stream.receive_some(CHUNK_BYTES))
                self._heard_s = trio.current_time()
                if not data:
                    self._fail(BrokerUnreachable("the broker has closed the connection"))
                    return
                for event in self.conversation.receive(data):
                    self._take_in(event)
                self._tell()
                await self.flush()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._fail(BrokerUnreachable("the connection was lost"))
        except ConversationFailed as error:
            self._fail(BrokerUnreachable(str(error)))
        except BrokerUnreachable:
            pass  # noted already

    def _take_in(self, event: Event) -> None:
        method = event.method
        if isinstance(method, Connection.Blocked):
            self.is_blocked = True
        elif isinstance(method, Connection.Unblocked):
            self.is_blocked = False
        elif isinstance(method, Connection.Close | Channel.Close):
            is_channel = isinstance(method, Channel.Close)
            answer: type[Method] = Channel.CloseOk if is_channel else Connection.CloseOk
            self.conversation.say(answer, CHANNEL if is_channel else 0)
            self._fail(RefusedByBroker(method.reply_code or 0, closing_reason(method)), is_channel=is_channel)
        elif not self._answers_call(event):
            self._events.append(event)

    def _answers_call(self, event: Event) -> bool:
        for call in self._calls:
            if isinstance(event, Said) and event.method.name in call.replies:
                call.reply = event.method
                self._calls.remove(call)
                return True
        return False

    def _fail(self, failure: BrokerUnreachable, *, is_channel: bool = False) -> None:
        if self._failure is None or self._is_channel_closed:
            self._failure = failure
            self._is_channel_closed = is_channel
        self._tell()

    def _tell(self) -> None:
        self._arrived.set()
        self._arrived = trio.Event()

    async def beat_forever(self, heartbeat_s: int) -> None:
        """Say that this side is there, and notice when the other is not."""
        while True:
            await trio.sleep(heartbeat_s / 2)
            if trio.current_time() - self._heard_s > MISSED_BEATS_MAX * heartbeat_s:
                self._fail(BrokerUnreachable(f"nothing was heard of the broker for {MISSED_BEATS_MAX} heartbeats"))
                return
            self.conversation.beat()
            try:
                await self.flush()
            except BrokerUnreachable:
                return

    async def reopen_channel(self) -> None:
        """Go on after the broker has closed the channel.

        Raises:
            BrokerUnreachable: it is the connection that has ended.
        """
        if self._failure is not None and not self._is_channel_closed:
            raise self._gone()
        self._failure, self._is_channel_closed = None, False
        self._events.clear()
        await self.call(Channel.Open)

    # --- beginning and end

    async def log_in(self, nursery: trio.Nursery, name: str) -> None:
        """From the protocol header to an open channel."""
        uri = self._uri
        await self.flush()
        start = await self._wait_for(Connection.Start)
        assert isinstance(start, Connection.Start)
        self.server_properties = cast("Table", start.server_properties or {})
        mechanisms = str(start.mechanisms).split()
        if uri.user is None and "EXTERNAL" in mechanisms:
            self.conversation.start_ok("EXTERNAL", "", name)
        else:
            user, password = ("guest", "guest") if uri.user is None else (uri.user, uri.password)
            self.conversation.start_ok("PLAIN", f"\0{user}\0{password}", name)
        await self.flush()
        heartbeat_s = self.conversation.tune(await self._wait_for(Connection.Tune), uri.heartbeat_s)
        await self.call(Connection.Open, 0, virtual_host="/" if uri.virtual_host is None else uri.virtual_host)
        await self.call(Channel.Open)
        if heartbeat_s:
            nursery.start_soon(self.beat_forever, heartbeat_s)

    async def _wait_for(self, method: type[Method]) -> Method:
        while True:
            for event in self._events:
                if isinstance(event, Said) and isinstance(event.method, method):
                    self._events.remove(event)
                    return event.method
            await self._wait()

    async def close(self) -> None:
        """Say goodbye, as far as that goes."""
        with trio.move_on_after(CLOSE_TIMEOUT_S) as scope:
            scope.shield = True
            try:
                if self._is_channel_closed:
                    self._failure = None
                if self._failure is None:
                    await self.call(Connection.Close, 0, reply_code=200, reply_text="Normal shutdown")
            except BrokerUnreachable:
                pass
        await trio.aclose_forcefully(self._stream)


@asynccontextmanager
async def connected(uri: AmqpUri, *, name: str, stream: trio.abc.Stream | None = None) -> AsyncIterator[AmqpClient]:
    """A connection that is open inside the block.

    Args:
        uri: where to.
        name: of the connection, for operators.
        stream: to the broker, where one is open already.

    Raises:
        BrokerUnreachable: it cannot be reached, or refuses; inside the block too, when the connection is lost.
    """
    with trio.move_on_after(uri.timeout_s) as opening:
        client = AmqpClient(stream or await _open(uri), uri)
        try:
            with told_as_one():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(client.receive_forever)
                    await client.log_in(nursery, name)
                    opening.deadline = float("inf")
                    yield client
                    await client.close()
                    nursery.cancel_scope.cancel()
        finally:
            await trio.aclose_forcefully(client._stream)
    if opening.cancelled_caught:
        raise BrokerUnreachable(f"{uri} does not answer within {uri.timeout_s:g} s")


async def _open(uri: AmqpUri) -> trio.abc.Stream:
    try:
        stream = await trio.open_tcp_stream(uri.host, uri.port)
        if uri.scheme == "amqp":
            return stream
        secured: trio.SSLStream[trio.SocketStream] = trio.SSLStream(
            stream, _tls(uri), server_hostname=uri.host, https_compatible=True
        )
        await secured.do_handshake()
        return secured
    except (OSError, trio.BrokenResourceError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        reason = system_reason(cause) if isinstance(cause, OSError) else "TLS failed"
        raise BrokerUnreachable(f"{uri} cannot be reached: {reason}") from error


def _tls(uri: AmqpUri) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=uri.authorities or None)
    if not uri.is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if uri.certificate:
        context.load_cert_chain(uri.certificate, uri.key or None, password=no_password)
    return context
