"""etcd's members, called from a thread: one after the other, until one of them answers.

Holds sockets, time limits and logging in; the protocol is ``etcd/``. What a call means, and whether it may be made
again, is known to whoever makes it: here an answer is an answer, and everything else is ``EtcdUnavailable``.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from amqp_broker.cluster.etcd_failures import why_ended, why_unreachable
from amqp_broker.etcd import messages
from amqp_broker.etcd.calls import OK, Answer, Calls, ConnectionFailed

CALL_TIMEOUT_S: Final = 1.0  # then the next member is asked; an election of etcd takes about as long
LOGIN_TIMEOUT_S: Final = 5.0  # at a member that answers meanwhile: it compares passwords slowly, on purpose
LOGIN_LOOK_SHARE: Final = 0.25  # of a call's time, until a member that is logged in to is asked whether it answers
RECEIVE_BYTES: Final = 262_144
RESOURCE_EXHAUSTED: Final = 8
UNAUTHENTICATED: Final = 16
UNKNOWN_STATUSES: Final = (1, 2, 4, 10, 14)  # cancelled, unknown, deadline exceeded, aborted, unavailable
OLD_LOGIN: Final = "revision of auth store is old"  # of a token that was made before users or roles were changed


class EtcdUnavailable(Exception):
    """A request that etcd has not answered: whether it was carried out is not known."""


class EtcdRefused(Exception):
    """etcd has answered that it will not do it.

    Args:
        status: gRPC's.
        explanation: etcd's words.
    """

    def __init__(self, status: int, explanation: str) -> None:
        super().__init__(explanation)
        self.status = status

    @property
    def is_out_of_space(self) -> bool:
        """Whether etcd's quota is used up: it takes no more puts until somebody has made space."""
        return self.status == RESOURCE_EXHAUSTED and "space exceeded" in str(self)


class LoginPatience:
    """Decides how long a login is waited for: longer than another call, where its member answers all others in time.

    One that has lost its leader is left as if it were silent: what it was asked before is lost perhaps.

    Args:
        began_s: when the login did.
    """

    def __init__(self, began_s: float) -> None:
        self._give_up_s = began_s + LOGIN_TIMEOUT_S
        self._leader = 0

    def is_worth_it(self, status: bytes, now_s: float) -> bool:
        """Whether to wait for as long again as for a call.

        Args:
            status: what the member has answered to ``STATUS`` meanwhile.
            now_s: the time, on the clock of ``began_s``.
        """
        leader = messages.StatusAnswer.read(status).leader
        before, self._leader = self._leader or leader, leader
        return leader != 0 and leader == before and now_s < self._give_up_s


class Address:
    """The address of a member of etcd, and how to log in there.

    Args:
        host: its name or address.
        port: of its clients.
        user: empty for no login.
        password: the user's.
        tls: None for a connection without it.
    """

    def __init__(
        self, host: str, port: int, user: str = "", password: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        self.host = host
        self.port = port
        self.user = user
        self.password = password
        self.tls = tls

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The user, the password and the TLS context for etcd; without a user there is no login."""

    user: str = ""
    password: str = ""
    tls: ssl.SSLContext | None = None


class Member:
    """One member, over one connection that is made when it is needed.

    Args:
        host: its name or address.
        port: where it answers calls.
        credentials: how to log in.
        timeout_s: how long a call may take.
    """

    def __init__(
        self, host: str, port: int, credentials: Credentials | None = None, timeout_s: float = CALL_TIMEOUT_S
    ) -> None:
        self._host = host
        self._port = port
        self._credentials = credentials or Credentials()
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._calls: Calls | None = None
        self._is_login_old = False
        self._failure = "it does not answer"  # why nothing is known, the last time

    def __str__(self) -> str:
        return f"{self._host}:{self._port}"

    def call_all(self, path: str, requests: Sequence[bytes]) -> list[bytes | EtcdRefused | None]:
        """Make several calls at once.

        Returns:
            For each its answer, etcd's refusal, or None where nothing is known.
        """
        return self._call_all(path, requests, self._timeout_s, lambda: False)

    def _call_all(
        self, path: str, requests: Sequence[bytes], patience_s: float, is_worth_it: Callable[[], bool]
    ) -> list[bytes | EtcdRefused | None]:
        """The same; who has waited for so long waits as long again while that is worth it."""
        outcomes: list[bytes | EtcdRefused | None] = [None] * len(requests)
        try:
            calls, connection = self._connected()
            connection.settimeout(self._timeout_s)
            deadline_s = time.monotonic() + patience_s
            numbers = {calls.begin(path, request): place for place, request in enumerate(requests)}
            connection.sendall(calls.take_output())
            while numbers:
                try:
                    self._await(calls, connection, deadline_s, numbers, outcomes)
                except TimeoutError:
                    if not is_worth_it():
                        raise
                    deadline_s = time.monotonic() + patience_s
        except EtcdRefused as refused:  # the login
            return [refused for _ in requests]
        except (OSError, ConnectionFailed) as error:
            is_tls = self._credentials.tls is not None
            if self._calls is None:
                self._failure = why_unreachable(error, is_tls=is_tls)
            else:
                self._failure = why_ended(error, is_tls=is_tls, has_heard=self._calls.has_heard)
            self.close()
        if self._is_login_old:
            self.close()  # the next connection has a new one
        return outcomes

    def call(self, path: str, request: bytes) -> bytes:
        """Make one call.

        Raises:
            EtcdUnavailable: there was no answer.
            EtcdRefused: etcd will not.
        """
        return self._answer(self.call_all(path, [request])[0])

    def _answer(self, outcome: bytes | EtcdRefused | None) -> bytes:
        if outcome is None:
            raise EtcdUnavailable(f"{self}: {self._failure}")
        if isinstance(outcome, EtcdRefused):
            raise outcome
        return outcome

    def close(self) -> None:
        """Close the connection; the next call makes another one."""
        if self._socket is not None:
            self._socket.close()
        self._socket = self._calls = None
        self._is_login_old = False

    def _connected(self) -> tuple[Calls, socket.socket]:
        if self._calls is None or self._socket is None:
            credentials = self._credentials
            connection = socket.create_connection((self._host, self._port), self._timeout_s)
            try:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if credentials.tls is not None:
                    connection = credentials.tls.wrap_socket(connection, server_hostname=self._host)
                self._socket = connection
                self._calls = Calls(str(self), token=self._token(), is_tls=credentials.tls is not None)
            except BaseException:
                connection.close()
                self._socket = None
                raise
        return self._calls, self._socket

    def _token(self) -> str:
        """Log in, over a connection that is for this alone."""
        credentials = self._credentials
        if not credentials.user:
            return ""
        look_s = self._timeout_s * LOGIN_LOOK_SHARE
        login = Member(self._host, self._port, Credentials(tls=credentials.tls), self._timeout_s)
        looked_at = Member(self._host, self._port, Credentials(tls=credentials.tls), self._timeout_s - look_s)
        began_s = time.monotonic()
        patience = LoginPatience(began_s)

        def is_worth_it() -> bool:
            status = looked_at.call_all(messages.STATUS, [b""])[0]
            if isinstance(status, EtcdRefused):  # a later etcd tells strangers nothing: as for another call
                return time.monotonic() < began_s + self._timeout_s
            return isinstance(status, bytes) and patience.is_worth_it(status, time.monotonic())

        try:
            request = messages.authenticate_request(credentials.user, credentials.password)
            outcomes = login._call_all(messages.AUTHENTICATE, [request], look_s, is_worth_it)
            return messages.token_in(login._answer(outcomes[0]))
        except EtcdUnavailable as error:
            raise ConnectionFailed(str(error)) from error
        finally:
            login.close()
            looked_at.close()

    def _await(
        self,
        calls: Calls,
        connection: socket.socket,
        deadline_s: float,
        numbers: dict[int, int],
        outcomes: list[bytes | EtcdRefused | None],
    ) -> None:
        """Receive once, and note what it answers."""
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        connection.settimeout(left_s)
        for event in calls.receive(connection.recv(RECEIVE_BYTES)):
            place = numbers.get(event.call)
            if place is None:
                continue
            if isinstance(event, Answer):
                outcomes[place] = event.message
            else:
                del numbers[event.call]
                if event.status != OK:
                    outcomes[place] = self._refusal(event.status, event.explanation)
        if output := calls.take_output():
            connection.sendall(output)

    def _refusal(self, status: int, explanation: str) -> EtcdRefused | None:
        """A call that has ended with an error; None where it is to be made again."""
        self._is_login_old = self._is_login_old or is_login_old(status, explanation)
        if status not in UNKNOWN_STATUSES and not is_login_old(status, explanation):
            return EtcdRefused(status, explanation)
        self._failure = explanation
        return None


def is_login_old(status: int, explanation: str) -> bool:
    """Whether a call was refused because the token is of no use any more, which another login mends."""
    return status == UNAUTHENTICATED or OLD_LOGIN in explanation


class Members:
    """All members: whoever does not answer is left for the next one.

    Args:
        members: at least one.
    """

    def __init__(self, members: Iterable[Member]) -> None:
        self._members = list(members)
        self._present = 0

    def __len__(self) -> int:
        return len(self._members)

    @property
    def present(self) -> Member:
        """The one that is asked now."""
        return self._members[self._present]

    def turn_to(self, place: int) -> None:
        """Ask the one at a place from now on."""
        self._present = place

    def find_leader(self) -> int | None:
        """The place of the one that says that it leads the others; what is written goes through it at any rate."""
        for place, member in enumerate(self._members):
            outcome = member.call_all(messages.STATUS, [b""])[0]
            if isinstance(outcome, bytes):
                status = messages.StatusAnswer.read(outcome)
                if status.leader == status.member_id:
                    return place
        return None

    def turn_to_next(self) -> None:
        """Ask another one from now on."""
        self._present = (self._present + 1) % len(self._members)

    def call(self, path: str, request: bytes) -> bytes:
        """Make a call that does no harm when it is made twice, at each member in turn.

        Raises:
            EtcdUnavailable: none has answered.
            EtcdRefused: etcd will not.
        """
        reasons = []
        for _ in self._members:
            try:
                return self.present.call(path, request)
            except EtcdUnavailable as error:
                reasons.append(str(error))
                self.turn_to_next()
        raise EtcdUnavailable("no member of etcd answers: " + "; ".join(reasons))

    def close(self) -> None:
        """Close all connections."""
        for member in self._members:
            member.close()


def blocking_members(addresses: Iterable[Address], timeout_s: float) -> Members:
    """The members at these addresses.

    Args:
        timeout_s: how long one of them may take to answer.
    """
    return Members(
        Member(one.host, one.port, Credentials(one.user, one.password, one.tls), timeout_s) for one in addresses
    )
