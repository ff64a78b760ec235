"""Calls to etcd from a thread: what becomes of a login that etcd refuses, takes no more, or takes long for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from amqp_broker.cluster import members
from amqp_broker.cluster.members import Credentials, EtcdRefused, EtcdUnavailable, Member
from amqp_broker.etcd import messages, protobuf
from amqp_broker.etcd.calls import OK
from tests.cluster.test_etcd_calls import Respond, Server

CREDENTIALS = Credentials("ada", "secret")


@contextmanager
def member_that(respond: Respond) -> Iterator[Member]:
    """A member on the loopback, and who calls it."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        server = Server(respond)
        with connection:
            while data := connection.recv(65_536):
                connection.sendall(server.answer(data))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        member = Member("127.0.0.1", listening.getsockname()[1], CREDENTIALS, 20)
        yield member
        member.close()
        listening.shutdown(socket.SHUT_RDWR)


def test_a_login_that_is_refused_is_the_answer_to_each_call() -> None:
    text = "etcdserver: authentication failed, invalid user ID or password"
    with member_that(lambda path, body: ([], 3, text)) as member:
        outcomes = member.call_all(messages.RANGE, [b"", b""])
    assert [str(one) for one in outcomes if isinstance(one, EtcdRefused)] == [text, text]


@pytest.mark.parametrize(
    ("status", "text"),
    [(16, "etcdserver: invalid auth token"), (3, "etcdserver: revision of auth store is old")],
)
def test_who_logged_in_too_long_ago_logs_in_again(status: int, text: str) -> None:
    logins: list[bytes] = []

    def respond(path: str, body: bytes) -> tuple[list[bytes], int, str]:
        if path == messages.AUTHENTICATE:
            logins.append(body)
            return [protobuf.data(2, b"token")], OK, ""
        return ([], status, text) if len(logins) == 1 else ([body], OK, "")

    with member_that(respond) as member:
        with pytest.raises(EtcdUnavailable, match=text):
            member.call(messages.RANGE, b"asked")
        assert member.call(messages.RANGE, b"asked") == b"asked"
    assert len(logins) == 2


@pytest.mark.parametrize("leader", [7, 0, None], ids=["leader", "no leader", "status refused"])
def test_a_login_is_waited_for_as_long_as_its_member_answers_other_calls_and_has_a_leader(
    leader: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "LOGIN_LOOK_SHARE", 0.001)
    asked: list[bytes] = []
    is_over = threading.Event()

    def respond(path: str, body: bytes) -> tuple[list[bytes], int, str]:
        if path == messages.AUTHENTICATE:
            is_over.wait(60)
            return [protobuf.data(2, b"token")], OK, ""
        if path == messages.STATUS:
            asked.append(body)
            if len(asked) == 3:
                is_over.set()
            return ([], 3, "user name is empty") if leader is None else ([protobuf.integer(4, leader)], OK, "")
        return [body], OK, ""

    with member_that(respond) as member:
        if leader != 0:
            assert member.call(messages.RANGE, b"asked") == b"asked"
        else:
            with pytest.raises(EtcdUnavailable):
                member.call(messages.RANGE, b"asked")
            assert len(asked) == 1
        is_over.set()
