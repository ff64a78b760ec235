"""Who may do what with AMQP 1.0, and limits, asked of RabbitMQ 4 and of ours as 4: attaching, publishing, management.
After RabbitMQ's own cases (amqp_auth_SUITE).

Users and virtual hosts are imported into each broker at once, for rabbitmqctl takes a second each time; the users stay
until it ends. What they may do goes by names: in front of the hyphen stand letters of configure, write and read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from amqp_broker.protocols.amqp10.compound import Map
from amqp_broker.protocols.amqp10.frames import AMQP, AMQP_HEADER, encode_frame
from amqp_broker.protocols.amqp10.performatives import (
    ATTACH,
    BEGIN,
    CLOSE,
    OPEN,
    RELEASED,
    SOURCE,
    TARGET,
    composite,
    performative,
)
from amqp_broker.protocols.amqp10.typed import UInt
from interop.amqp10_client import Amqp10Client
from interop.brokers import Choice, OurBroker, RabbitMQ
from interop.operator import Operator, user_with
from interop.test_access import Administrator
from interop.test_amqp10 import Manager
from interop.test_amqp10_links import ended
from interop.under_test import BrokerUnderTest
from tests.support.amqp10_client import message, section

VHOST, FULL = "amqp10-access", "amqp10-full"
USER, WITHOUT_DEFAULT, UNWANTED = "amqp10-user", "amqp10-other", "amqp10-unwanted"
PASSWORD = "secret"
EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}
BY_NAME = {
    "configure": "^c",
    "write": r"^(c?w|amq\.default$|amq\.topic$|amq\.direct$)",
    "read": r"^(c?w?r|amq\.topic$)",
}
BY_NAME_WITHOUT_DEFAULT = {**BY_NAME, "configure": r"^(c|amq\.gen)", "write": r"^(c?w|amq\.gen)"}
PATTERN = r"^{vhost}\.{username}\.a$"
INTERNAL = f"forbidden to publish to internal exchange 'w-internal' in vhost '{VHOST}'"
THERE = {"vhost": VHOST, "auto_delete": False, "durable": True, "arguments": {}}


def definitions() -> dict[str, Any]:
    topics = {"user": USER, "vhost": VHOST, "exchange": "amq.topic", "write": PATTERN, "read": PATTERN}
    limits = {"component": "vhost-limits", "name": "limits", "vhost": FULL}
    return {
        "users": [
            user_with(USER, PASSWORD),
            user_with(WITHOUT_DEFAULT, PASSWORD),
            {**user_with(UNWANTED, PASSWORD), "limits": {"max-connections": 0}},
        ],
        "vhosts": [{"name": VHOST}, {"name": FULL}],
        "permissions": [
            {"user": USER, "vhost": VHOST, **BY_NAME},
            {"user": WITHOUT_DEFAULT, "vhost": VHOST, **BY_NAME_WITHOUT_DEFAULT},
            {"user": UNWANTED, "vhost": VHOST, **EVERYTHING},
            {"user": USER, "vhost": FULL, **EVERYTHING},
            {"user": "guest", "vhost": VHOST, **EVERYTHING},
        ],
        "topic_permissions": [topics],
        "parameters": [{**limits, "value": {"max-queues": 0, "max-connections": 1}}],
        "queues": [{"name": "c-queue", **THERE}, {"name": "cwr-queue", **THERE}],
        "exchanges": [
            {"name": "w-exchange", **THERE, "type": "fanout", "internal": False},
            {"name": "r-exchange", **THERE, "type": "fanout", "internal": False},
            {"name": "w-internal", **THERE, "type": "fanout", "internal": True},
        ],
    }


@pytest.fixture(scope="module")
def imported() -> Iterator[Callable[[BrokerUnderTest], None]]:
    """Sees that a broker has the users and virtual hosts."""
    done: dict[Choice, Administrator] = {}

    def into(broker: BrokerUnderTest) -> None:
        process: Any = broker.process
        if not isinstance(process, RabbitMQ | OurBroker):
            pytest.skip("users can be made only where the tests have started the broker")
        if broker.choice not in done:
            done[broker.choice] = Administrator(process)
            Operator(process).import_definitions(definitions())

    yield into
    for administrator in done.values():
        for name in (VHOST, FULL):
            administrator.delete_vhost(name)


class Access:
    """A broker with the users."""

    def __init__(self, broker: BrokerUnderTest) -> None:
        self._port = broker.address.port
        self._clients: list[Amqp10Client] = []

    def logged_in(self, user: str, password: str = PASSWORD) -> Amqp10Client:
        """A client that has not sent ``open``."""
        client = Amqp10Client(self._port, opens=False)
        self._clients.append(client)
        assert client.login("PLAIN", f"\0{user}\0{password}".encode()) == 0
        return client

    def connect(self, user: str = USER, vhost: str = VHOST, password: str = PASSWORD) -> Amqp10Client:
        """A client with a session."""
        client = self.logged_in(user, password)
        client.open_answer = client.open(f"vhost:{vhost}")
        client.begin_answer = client.begin()
        return client

    def close(self) -> None:
        for client in self._clients:
            client.__exit__()


@pytest.fixture
def access(broker: BrokerUnderTest, imported: Callable[[BrokerUnderTest], None]) -> Iterator[Access]:
    if broker.version < (4, 0):
        pytest.skip("AMQP 1.0 is RabbitMQ 4's own")
    imported(broker)
    under_test = Access(broker)
    yield under_test
    under_test.close()


def refused(permission: str, what: str, user: str = USER) -> tuple[str, str]:
    where = "exchange 'amq.topic' in " if what.startswith("topic") else ""
    text = f"{permission} access to {what} in {where}vhost '{VHOST}' refused for user '{user}'"
    return "amqp:unauthorized-access", text


# --- links


def attach_receiver(client: Amqp10Client, address: str) -> None:
    source, target = composite(SOURCE, [address]), composite(TARGET, [])
    client.send(ATTACH, "in", UInt(1), True, None, None, source, target)


@pytest.mark.parametrize(
    ("user", "address", "permission", "what"),
    [
        (USER, "/queue/w-new", "configure", "queue 'w-new'"),
        (WITHOUT_DEFAULT, "/queue/cwr-queue", "write", "exchange 'amq.default'"),
        (WITHOUT_DEFAULT, "/queues/cwr-queue", "write", "exchange 'amq.default'"),
        (USER, "/exchanges/r-exchange", "write", "exchange 'r-exchange'"),
        (USER, "/exchanges/r-exchange/key", "write", "exchange 'r-exchange'"),
        (USER, "/exchange/r-exchange/key", "write", "exchange 'r-exchange'"),
    ],
)
def test_where_a_client_may_not_send(access: Access, user: str, address: str, permission: str, what: str) -> None:
    client = access.connect(user)
    client.attach_sender(address)
    assert ended(client) == refused(permission, what, user)


@pytest.mark.parametrize(
    ("user", "address", "permission", "what"),
    [
        (USER, "/queues/c-queue", "read", "queue 'c-queue'"),
        (USER, "/queue/w-new", "configure", "queue 'w-new'"),
        (USER, "/exchange/r-exchange/key", "configure", "queue 'amq.gen-"),
        (WITHOUT_DEFAULT, "/exchange/w-exchange/key", "read", "exchange 'w-exchange'"),
        (WITHOUT_DEFAULT, "/exchange/r-exchange/key", "read", "queue 'amq.gen-"),
    ],
)
def test_what_a_client_may_not_read(access: Access, user: str, address: str, permission: str, what: str) -> None:
    client = access.connect(user)
    attach_receiver(client, address)
    condition, words = ended(client)
    expected, text = refused(permission, what, user)
    assert condition == expected
    assert words == text if what.endswith("'") else words.startswith(f"{permission} access to {what}")


def test_what_a_client_may_declare_it_may_send_to(access: Access) -> None:
    client = access.connect()
    client.sender("/queue/cwr-queue")
    client.sender("/exchanges/w-exchange", 2)


@pytest.mark.parametrize("address", ["/exchanges/w-internal", "/exchange/w-internal/key"])
def test_an_internal_exchange_is_no_target(access: Access, address: str) -> None:
    client = access.connect()
    client.attach_sender(address)
    assert ended(client) == ("amqp:unauthorized-access", INTERNAL)


@pytest.mark.parametrize(
    ("user", "to", "condition", "words"),
    [
        (WITHOUT_DEFAULT, "/queues/cwr-queue", *refused("write", "exchange 'amq.default'", WITHOUT_DEFAULT)),
        (USER, "/exchanges/w-internal", "amqp:unauthorized-access", INTERNAL),
        (USER, "/exchanges/amq.topic/a.b", *refused("write", "topic 'a.b'")),
    ],
)
def test_where_a_message_may_not_go(access: Access, user: str, to: str, condition: str, words: str) -> None:
    client = access.connect(user)
    client.sender(None)
    allowed = section(0x73, [None, None, "/exchanges/w-exchange"])
    assert client.publish(message(b"x", before=allowed)) == RELEASED
    client.transfer(message(b"x", before=section(0x73, [None, None, to])))
    assert ended(client) == (condition, words)


@pytest.mark.parametrize(
    ("address", "is_subject"),
    [
        ("/topic/", False),
        ("/exchange/amq.topic/", False),
        ("/exchanges/amq.topic/", False),
        ("/exchange/amq.topic", True),
    ],
)
def test_topics_that_a_client_may_not_send_to(access: Access, address: str, is_subject: bool) -> None:
    client = access.connect()
    allowed, other = f"{VHOST}.{USER}.a", f"{VHOST}.{USER}.a.b"
    for handle, topic in enumerate((allowed, other)):
        client.sender(address if is_subject else f"{address}{topic}", handle)
        said = message(b"x", before=section(0x73, [None, None, None, topic] if is_subject else []))
        if topic is allowed:
            assert client.publish(said, handle) == RELEASED
        else:
            client.transfer(said, handle)
    assert ended(client) == refused("write", f"topic '{other}'")


@pytest.mark.parametrize("address", ["/topic/", "/exchange/amq.topic/"])
def test_topics_that_a_client_may_not_read(access: Access, address: str) -> None:
    client = access.connect("guest", password="guest")
    attach_receiver(client, f"{address}a.b")
    client.expect(ATTACH)
    client = access.connect()
    attach_receiver(client, f"{address}a.b")
    assert ended(client)[0] == "amqp:unauthorized-access"


# --- management


def bindings(source: str, destination: str, kind: str = "queue", key: str = "key") -> Map:
    return Map([("source", source), (f"destination_{kind}", destination), ("binding_key", key), ("arguments", Map([]))])


def dead_letters(exchange: str) -> Map:
    return Map([("arguments", Map([("x-dead-letter-exchange", exchange)]))])


@pytest.mark.parametrize(
    ("method", "target", "body", "permission", "what"),
    [
        ("PUT", "/exchanges/w-new", Map([]), "configure", "exchange 'w-new'"),
        ("DELETE", "/exchanges/w-exchange", None, "configure", "exchange 'w-exchange'"),
        ("PUT", "/queues/w-new", Map([]), "configure", "queue 'w-new'"),
        ("PUT", "/queues/cw-new", dead_letters("w-exchange"), "read", "queue 'cw-new'"),
        ("PUT", "/queues/cr-new", dead_letters("r-exchange"), "write", "exchange 'r-exchange'"),
        ("DELETE", "/queues/w-none", None, "configure", "queue 'w-none'"),
        ("DELETE", "/queues/c-queue/messages", None, "read", "queue 'c-queue'"),
        ("POST", "/bindings", bindings("w-exchange", "cwr-queue"), "read", "exchange 'w-exchange'"),
        ("POST", "/bindings", bindings("r-exchange", "c-queue"), "write", "queue 'c-queue'"),
        ("POST", "/bindings", bindings("w-exchange", "w-exchange", "exchange"), "read", "exchange 'w-exchange'"),
        ("POST", "/bindings", bindings("r-exchange", "r-exchange", "exchange"), "write", "exchange 'r-exchange'"),
        ("POST", "/bindings", bindings("amq.topic", "cwr-queue", key="a.b"), "read", "topic 'a.b'"),
        ("DELETE", "/bindings/src=w-exchange;dstq=cwr-queue;key=key;args=", None, "read", "exchange 'w-exchange'"),
        ("DELETE", "/bindings/src=r-exchange;dstq=c-queue;key=key;args=", None, "write", "queue 'c-queue'"),
        ("DELETE", "/bindings/src=amq.topic;dstq=cwr-queue;key=a.b;args=", None, "read", "topic 'a.b'"),
    ],
)
def test_what_a_client_may_not_manage(
    broker: BrokerUnderTest, access: Access, method: str, target: str, body: Any, permission: str, what: str
) -> None:
    client = access.connect()
    manager = Manager(client)
    condition, words = refused(permission, what)
    if broker.differs("amqp10-management-refusals"):
        assert manager.ask(method, target, body) == ("403", words)
        return
    manager.tell(method, target, body)
    assert ended(client) == (condition, words)


def enter_full(broker: BrokerUnderTest, access: Access) -> Amqp10Client:
    """The one client that may be in the virtual host; RabbitMQ counts who comes and goes in its own time."""
    process: Any = broker.process
    administrator = Administrator(process)
    administrator.await_counted("connection", "vhost", FULL, 0)
    client = access.connect(vhost=FULL)
    administrator.await_counted("connection", "vhost", FULL, 1)
    return client


def test_a_queue_more_than_a_virtual_host_may_have(broker: BrokerUnderTest, access: Access) -> None:
    text = f"cannot declare queue 'new': queue limit in vhost '{FULL}' (0) is reached"
    client = enter_full(broker, access)
    assert Manager(client).ask("PUT", "/queues/new", Map([])) == ("403", text)
    client.attach_sender("/queue/new", 5)
    assert ended(client) == ("amqp:resource-limit-exceeded", text)


# --- who does not come in


def asked(client: Amqp10Client, vhost: str, idle_ms: int | None = None) -> Amqp10Client:
    """Sends ``open``."""
    said = ["client", f"vhost:{vhost}", None, None, None if idle_ms is None else UInt(idle_ms)]
    client.write(AMQP_HEADER + encode_frame(AMQP, 0, performative(OPEN, said)))
    return client


def answer(client: Amqp10Client) -> bytes:
    """All that comes until the connection ends, behind the header."""
    answered = b""
    with contextlib.suppress(ConnectionError):
        assert client.take_bytes(8) == AMQP_HEADER
        while one := client.take_bytes(1):
            answered += one
    return answered


def test_what_stands_in_place_of_open(access: Access) -> None:
    begin = performative(BEGIN, [None, UInt(0), UInt(9), UInt(9)])
    bodies = [begin, performative(OPEN, [None, f"vhost:{VHOST}"]), b"\xff\xff"]
    clients = [access.logged_in(USER) for _ in bodies]
    for client, body in zip(clients, bodies, strict=True):
        client.write(AMQP_HEADER + encode_frame(AMQP, 0, body))
    assert [answer(client) for client in clients] == [b""] * len(bodies)
    client = access.logged_in(USER)
    client.write(AMQP_HEADER + encode_frame(AMQP, 0, performative(CLOSE, [])))
    assert client.take_bytes(8) == AMQP_HEADER
    assert client.expect(CLOSE).field(0) is None


def test_an_open_that_is_refused(broker: BrokerUnderTest, access: Access) -> None:
    enter_full(broker, access)
    cases = [
        (USER, FULL, None),
        (UNWANTED, VHOST, None),
        (WITHOUT_DEFAULT, "/", None),
        (USER, "nowhere", None),
        (USER, VHOST, 900),
    ]
    # Each connection ends after 3 s, so all of them are asked at once.
    clients = [asked(access.logged_in(user), vhost, idle_ms) for user, vhost, idle_ms in cases]
    assert [answer(client) for client in clients] == [b""] * len(cases)
