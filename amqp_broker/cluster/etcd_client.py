"""etcd's members, called from the event loop: calls that go on beside each other, leases kept alive, keys watched.

``call`` makes a call that is not answered in time again at the next member; what must not happen twice is made with
``call_once``, whose caller finds out what became of it. Holds the sockets and the waiting; the protocol is ``etcd/``.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import trio

from amqp_broker.cluster.etcd_failures import why_ended, why_unreachable
from amqp_broker.cluster.members import (
    LOGIN_LOOK_SHARE,
    UNKNOWN_STATUSES,
    Address,
    EtcdRefused,
    EtcdUnavailable,
    LoginPatience,
    is_login_old,
)
from amqp_broker.etcd import messages
from amqp_broker.etcd.calls import OK, Answer, Calls, ConnectionFailed, Ended
from amqp_broker.network.wake_up import WakeUp

RECEIVE_BYTES: Final = 262_144
ANSWERS_MAX: Final = 10_000  # of one call that nobody has taken yet; then it ends


class _Connection:
    """One connection to one member, and the calls on it.

    It sends by itself: whoever makes a call may be cancelled at any time, and half a frame would end all other calls.
    """

    def __init__(self, address: Address, stream: trio.abc.Stream, token: str = "") -> None:
        self.address = address
        self._stream = stream
        self._calls = Calls(str(address), token=token, is_tls=address.tls is not None)
        self._answers: dict[int, trio.MemorySendChannel[Answer | Ended]] = {}
        self._has_output = WakeUp()
        self._scope = trio.CancelScope()
        self.is_failed = False
        self.failure = ""  # why, where that is known

    def begin(
        self, path: str, request: bytes, answers_max: int = ANSWERS_MAX
    ) -> trio.MemoryReceiveChannel[Answer | Ended]:
        """Begin a call; its answers come through the channel, which ends without ``Ended`` when the connection does."""
        if self.is_failed:
            raise EtcdUnavailable("the connection has failed")
        send, receive = trio.open_memory_channel[Answer | Ended](answers_max)
        try:
            self._answers[self._calls.begin(path, request)] = send
        except ConnectionFailed as error:
            self.fail()
            raise EtcdUnavailable(str(error)) from error
        self._has_output.set()
        return receive

    async def run(self) -> None:
        """Send and receive until the connection ends."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send)
                    nursery.start_soon(self._receive)
        finally:
            self.fail()
            await trio.aclose_forcefully(self._stream)

    async def _send(self) -> None:
        try:
            while True:
                await trio.lowlevel.checkpoint()
                if output := self._calls.take_output():
                    await self._stream.send_all(output)
                else:
                    await self._has_output.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._fail_because_of(error)

    async def _receive(self) -> None:
        try:
            while True:
                for event in self._calls.receive(bytes(await self._stream.receive_some(RECEIVE_BYTES))):
                    self._hand_on(event)
                self._has_output.set()
        except (ConnectionFailed, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._fail_because_of(error)

    def _fail_because_of(self, error: Exception) -> None:
        self.failure = why_ended(error, is_tls=self.address.tls is not None, has_heard=self._calls.has_heard)
        self.fail()

    def _hand_on(self, event: Answer | Ended) -> None:
        channel = self._answers.get(event.call)
        if channel is None:
            return
        try:
            channel.send_nowait(event)
        except (trio.WouldBlock, trio.BrokenResourceError):
            self._forget(event.call)
            return
        if isinstance(event, Ended):
            self._forget(event.call)

    def _forget(self, call: int) -> None:
        channel = self._answers.pop(call, None)
        if channel is not None:
            channel.close()
        self._calls.end(call)

    def fail(self) -> None:
        """Nothing more comes: whoever waits is told."""
        self.is_failed = True
        self._scope.cancel()
        answers, self._answers = self._answers, {}
        for channel in answers.values():
            channel.close()


class EtcdClient:
    """All members, one connection at a time.

    Args:
        addresses: of the members, at least one.
        timeout_s: how long one member may take to answer.
        nursery: for what receives.
    """

    def __init__(self, addresses: Sequence[Address], timeout_s: float, nursery: trio.Nursery) -> None:
        self._addresses = list(addresses)
        self._timeout_s = timeout_s
        self._nursery = nursery
        self._present = 0
        self._connection: _Connection | None = None
        self._connecting = trio.Lock()
        self._called = self._addresses[0]  # the member to which a connection was made last, or tried

    @property
    def addresses(self) -> Sequence[Address]:
        """Of all members."""
        return self._addresses

    @property
    def present(self) -> Address:
        """The member that is asked now."""
        return self._addresses[self._present]

    def _turn_to_next(self, failed: _Connection | None) -> None:
        """Leave a connection that has failed; of one that never was, whoever made it has turned already."""
        if failed is not None and failed is self._connection:
            failed.fail()
            self._connection = None
            self._present = (self._present + 1) % len(self._addresses)

    async def call_once(self, path: str, request: bytes) -> bytes:
        """Make a call at one member.

        Raises:
            EtcdUnavailable: what became of it is not known; the next call asks another member.
            EtcdRefused: etcd will not.
        """
        connection: _Connection | None = None
        reason = f"it does not answer within {self._timeout_s:g} s"
        with trio.move_on_after(self._timeout_s) as patience:
            try:
                connection = await self._connected(patience)
                return await self._answer_of(connection.begin(path, request))
            except EtcdUnavailable as error:
                reason = str(error) if connection is None else connection.failure or str(error)
        self._turn_to_next(connection)
        raise EtcdUnavailable(f"{self._called if connection is None else connection.address}: {reason}")

    async def call(self, path: str, request: bytes) -> bytes:
        """Make a call that does no harm when it is made twice, at each member in turn.

        Raises:
            EtcdUnavailable: none has answered.
            EtcdRefused: etcd will not.
        """
        reasons = []
        for _ in self._addresses:
            try:
                return await self.call_once(path, request)
            except EtcdUnavailable as error:
                reasons.append(str(error))
                await trio.lowlevel.checkpoint()
        raise EtcdUnavailable("no member of etcd answers: " + "; ".join(reasons))

    @staticmethod
    async def _answer_of(channel: trio.MemoryReceiveChannel[Answer | Ended]) -> bytes:
        message = b""
        async for event in channel:
            if isinstance(event, Answer):
                message = event.message
            elif event.status == OK:
                return message
            elif event.status in UNKNOWN_STATUSES or is_login_old(event.status, event.explanation):
                raise EtcdUnavailable(event.explanation)
            else:
                raise EtcdRefused(event.status, event.explanation)
        raise EtcdUnavailable("the connection to etcd has ended")

    @asynccontextmanager
    async def stream(
        self, path: str, request: bytes, answers_max: int = ANSWERS_MAX
    ) -> AsyncIterator[trio.MemoryReceiveChannel[Answer | Ended]]:
        """Make a call that has many answers, which end when more of them than that wait to be taken.

        Raises:
            EtcdUnavailable: it could not be made.
        """
        connection: _Connection | None = None
        channel = None
        with trio.move_on_after(self._timeout_s) as patience:
            try:
                connection = await self._connected(patience)
                channel = connection.begin(path, request, answers_max)
            except EtcdUnavailable:
                self._turn_to_next(connection)
                raise
        if channel is None:
            self._turn_to_next(connection)
            raise EtcdUnavailable(f"{self._called}: it does not answer within {self._timeout_s:g} s")
        try:
            yield channel
        finally:
            channel.close()

    async def _connected(self, patience: trio.CancelScope) -> _Connection:
        """The connection; whoever has it made is given all the time for that, however long others tried before.

        In what is left of a caller's time no member may be able to answer, and each would be left for the next one.
        """
        async with self._connecting:
            if self._connection is not None and self._connection.is_failed:
                self._connection = None  # it ended while nobody waited for an answer: no call has turned to another yet
            if self._connection is None:
                patience.deadline = trio.current_time() + self._timeout_s
                self._called = self.present
                try:
                    self._connection = await self._connect(self.present, patience)
                except EtcdRefused:
                    raise
                except BaseException as error:  # for want of time too: those who wait for it are not to turn as well
                    if not isinstance(error, trio.Cancelled) or trio.current_time() >= patience.deadline:
                        self._present = (self._present + 1) % len(self._addresses)
                    raise
            return self._connection

    async def _connect(self, address: Address, patience: trio.CancelScope) -> _Connection:
        token = ""
        if address.user:
            token = await self._log_in(address, patience)
            patience.deadline = trio.current_time() + self._timeout_s
        connection = _Connection(address, await self._open(address), token)
        self._nursery.start_soon(connection.run)
        return connection

    async def _log_in(self, address: Address, patience: trio.CancelScope) -> str:
        """Log in, over a connection that is for this alone; returns the token."""
        login = _Connection(address, await self._open(address))
        self._nursery.start_soon(login.run)
        self._nursery.start_soon(self._stay_patient, login, patience)
        request = messages.authenticate_request(address.user, address.password)
        try:
            return messages.token_in(await self._answer_of(login.begin(messages.AUTHENTICATE, request)))
        except EtcdUnavailable as error:
            raise EtcdUnavailable(login.failure or str(error)) from error
        finally:
            login.fail()

    async def _stay_patient(self, login: _Connection, patience: trio.CancelScope) -> None:
        """Have a login waited for as long as that is worth it (``LoginPatience``)."""
        worth = LoginPatience(trio.current_time())
        with suppress(EtcdUnavailable, EtcdRefused):
            while True:
                await trio.sleep(self._timeout_s * LOGIN_LOOK_SHARE)
                status = await self._answer_of(login.begin(messages.STATUS, b""))
                if not worth.is_worth_it(status, trio.current_time()):
                    return
                patience.deadline = trio.current_time() + self._timeout_s

    @staticmethod
    async def _open(address: Address) -> trio.abc.Stream:
        try:
            plain = await trio.open_tcp_stream(address.host, address.port)
            return plain if address.tls is None else await _with_tls(plain, address.tls, address.host)
        except (OSError, trio.BrokenResourceError) as error:
            raise EtcdUnavailable(why_unreachable(error, is_tls=address.tls is not None)) from error


async def _with_tls(plain: trio.SocketStream, tls: ssl.SSLContext, host: str) -> trio.abc.Stream:
    """Begin TLS on a connection, which is closed where that comes to nothing."""
    stream: trio.SSLStream[trio.SocketStream] = trio.SSLStream(plain, tls, server_hostname=host, https_compatible=True)
    try:
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(plain)
        raise
    return stream
