"""Who may log in and enter a virtual host, asked without any protocol."""

from __future__ import annotations

from dataclasses import replace

import pytest

from amqp_broker.access.client import Peer
from amqp_broker.errors import AmqpError
from amqp_broker.session.login import Login, Refusal, Refused
from tests.support.client import LOOPBACK
from tests.support.memory_broker import MemoryBroker


def refusal(refused: pytest.ExceptionInfo[Refused]) -> tuple[Refusal, str]:
    return refused.value.reason, str(refused.value)


def test_by_mechanism_then_into_a_virtual_host(broker: MemoryBroker) -> None:
    login = Login(broker, LOOPBACK)
    assert login.user_name == ""
    login.authenticate("PLAIN", b"\0guest\0guest")
    assert login.user_name == "guest"
    client, virtual_host = login.enter("/")
    assert (client.user.name, virtual_host) == ("guest", broker.virtual_host)


def test_by_name_and_password(broker: MemoryBroker) -> None:
    login = Login(broker, LOOPBACK)
    with pytest.raises(Refused) as refused:
        login.authenticate_by_password("guest", b"wrong")
    assert refusal(refused) == (Refusal.LOGIN, "user 'guest' - invalid credentials")
    assert login.user_name == ""
    login.authenticate_by_password("guest", b"guest")
    assert login.user_name == "guest"


def test_a_loopback_user_from_elsewhere(broker: MemoryBroker) -> None:
    login = Login(broker, Peer("192.0.2.1", 40000, False))
    with pytest.raises(Refused) as refused:
        login.authenticate("PLAIN", b"\0guest\0guest")
    assert refusal(refused) == (Refusal.LOGIN, "user 'guest' can only connect via localhost")


def test_by_certificate_only_where_there_is_tls_for_it(broker: MemoryBroker) -> None:
    with pytest.raises(Refused) as refused:
        Login(broker, LOOPBACK).authenticate("EXTERNAL", b"")
    assert refusal(refused) == (Refusal.UNKNOWN_MECHANISM, "unknown authentication mechanism 'EXTERNAL'")
    nameless = Login(broker, replace(LOOPBACK, certificate_name=""))
    with pytest.raises(Refused) as refused:
        nameless.authenticate("EXTERNAL", b"")
    assert refusal(refused) == (Refusal.LOGIN, "the client showed no certificate that names a user")
    login = Login(broker, replace(LOOPBACK, certificate_name="guest"))
    assert "EXTERNAL" in login.mechanisms
    login.authenticate("EXTERNAL", b"")
    assert login.user_name == "guest"


def test_a_malformed_response(broker: MemoryBroker) -> None:
    with pytest.raises(Refused) as refused:
        Login(broker, LOOPBACK).authenticate("PLAIN", b"guest")
    assert refused.value.reason is Refusal.MALFORMED_RESPONSE


def test_virtual_hosts_that_are_not_there_or_not_the_users(broker: MemoryBroker) -> None:
    broker.add_virtual_host("orders")
    login = Login(broker, LOOPBACK)
    login.authenticate_by_password("guest", b"guest")
    with pytest.raises(Refused) as refused:
        login.enter("missing")
    assert refusal(refused) == (Refusal.UNKNOWN_VIRTUAL_HOST, "vhost missing not found")
    with pytest.raises(AmqpError):
        login.enter("orders")


def test_one_connection_too_many() -> None:
    broker = MemoryBroker(connections_max=1)
    login = Login(broker, LOOPBACK)
    login.authenticate_by_password("guest", b"guest")
    login.enter("/")  # nobody is connected by that alone
    broker.open_connections.add(_Connected())  # type: ignore[arg-type]
    with pytest.raises(Refused) as refused:
        login.enter("/")
    expected = "connection refused: node connection limit (1) is reached"
    assert refusal(refused) == (Refusal.TOO_MANY_CONNECTIONS, expected)


class _Connected:
    """An open connection, as far as the count of connections looks."""

    user_name = "guest"
    virtual_host_name = "/"
    channels = ()

    def close_forcibly(self, explanation: str) -> None:
        raise NotImplementedError

    def inspect(self) -> None:
        raise NotImplementedError

    def inspect_channels(self) -> None:
        raise NotImplementedError
