"""AMQP 1.0, asked of RabbitMQ 4 and of ours as 4: login, addresses, outcomes, credit, errors, and messages that go from
one protocol to another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest

from amqp_broker.protocols.amqp10.compound import Described, Map
from amqp_broker.protocols.amqp10.frames import AMQP_HEADER, SASL_HEADER
from amqp_broker.protocols.amqp10.performatives import (
    ACCEPTED,
    ATTACH,
    DETACH,
    DISPOSITION,
    END,
    FLOW,
    MODIFIED,
    REJECTED,
    RELEASED,
    SOURCE,
    TARGET,
    TRANSFER,
    composite,
)
from amqp_broker.protocols.amqp10.typed import Int, Symbol, Timestamp, UByte, UInt, ULong, Uuid
from interop import waiting
from interop.amqp10_client import Amqp10Client
from interop.raw_client import ChannelUnderTest, Queue
from interop.under_test import BrokerUnderTest
from tests.support.amqp10_client import annotations_of, message, section, sections_of

Connect = Callable[..., Amqp10Client]


@pytest.fixture
def connect(broker: BrokerUnderTest) -> Iterator[Connect]:
    """Makes clients of the broker."""
    if broker.version < (4, 0):
        pytest.skip("AMQP 1.0 is RabbitMQ 4's own")
    clients: list[Amqp10Client] = []

    def make(**options: Any) -> Amqp10Client:
        client = Amqp10Client(broker.address.port, **options)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.__exit__()


@pytest.fixture
def ch(broker: BrokerUnderTest, connect: Connect) -> ChannelUnderTest:
    return broker.channel()


def queue(
    ch: ChannelUnderTest, broker: BrokerUnderTest, base: str = "q", arguments: dict[str, Any] | None = None
) -> str:
    name = broker.queue_name(base)
    ch.declare(name, durable=True, arguments=arguments or {})
    return name


# --- login


def test_login(connect: Connect) -> None:
    client = connect(opens=False)
    assert client.login() == 0
    assert {"PLAIN", "AMQPLAIN", "ANONYMOUS"} <= set(client.mechanisms.items)
    opened = client.open()
    assert [str(one) for one in opened.field(5 + 2).items] == ["LINK_PAIR_V1_0", "ANONYMOUS-RELAY"]
    assert (opened.field(2), opened.field(3), opened.field(4)) == (131_072, 63, 30_000)
    begun = client.begin()
    assert (begun.field(2), begun.field(4)) == (400, 255)


def test_a_wrong_password(connect: Connect) -> None:
    assert connect(opens=False).login("PLAIN", b"\0guest\0wrong") == 1


def test_what_is_no_login_is_not_answered(connect: Connect) -> None:
    said = [("SCRAM-SHA-1", b"x"), ("PLAIN", b"guest")]
    clients = [connect(opens=False) for _ in said]
    for client, one in zip(clients, said, strict=True):
        client.say_login(*one)
    for client in clients:
        with contextlib.suppress(ConnectionError):  # RabbitMQ resets it
            assert client.take_bytes(1) == b""


def test_anonymous(connect: Connect) -> None:
    client = connect(opens=False)
    assert client.login("ANONYMOUS", b"") == 0
    client.open()


def test_without_sasl(connect: Connect) -> None:
    client = connect(opens=False)
    client.write(AMQP_HEADER)
    assert client.take_bytes(8) == SASL_HEADER


# --- addresses


@pytest.mark.parametrize(
    ("address", "condition", "words"),
    [
        ("/queues/nowhere", "amqp:not-found", "no queue 'nowhere' in vhost '/'"),
        ("/amq/queue/nowhere", "amqp:not-found", "no queue 'nowhere' in vhost '/'"),
        ("/exchanges/nowhere/k", "amqp:not-found", "no exchange 'nowhere' in vhost '/'"),
        ("/foo/bar", "amqp:invalid-field", 'Attach rejected: {unknown_destination,"/foo/bar"}'),
        *(
            (address, "amqp:invalid-field", f'Attach rejected: {{bad_address_string,<<"{address}">>}}')
            for address in (
                "/exchanges/",
                "/exchanges//k",
                "/exchanges/amq.default/k",
                "/queues/",
                "/queues/%ZZ",
                "/exchanges/a/b/c",
            )
        ),
    ],
)
def test_a_wrong_target_ends_the_session(connect: Connect, address: str, condition: str, words: str) -> None:
    client = connect()
    client.attach_sender(address)
    end = client.take()
    assert end is not None
    assert end.code == END
    assert end.field(0).value[:2] == [condition, words]


@pytest.mark.parametrize(
    ("address", "condition", "words"),
    [
        ("/queues/", "amqp:not-found", "no queue '' in vhost '/'"),
        ("/queues/%ZZ", "amqp:invalid-field", 'Attach rejected: {bad_address,{utf8,<<"/queues/%ZZ">>}}'),
        ("/exchanges/", "amqp:invalid-field", 'Attach rejected: {unknown_destination,"/exchanges/"}'),
    ],
)
def test_a_wrong_source_ends_the_session(connect: Connect, address: str, condition: str, words: str) -> None:
    client = connect()
    source, target = composite(SOURCE, [address]), composite(TARGET, [])
    client.send(ATTACH, "in", UInt(1), True, None, None, source, target)
    end = client.take()
    assert end is not None
    assert (end.code, end.field(0).value[:2]) == (END, [condition, words])


def test_names_are_percent_encoded(broker: BrokerUnderTest, connect: Connect, ch: ChannelUnderTest) -> None:
    name = queue(ch, broker, "a/b c%d")
    client = connect()
    client.sender("/queues/" + name.replace("%", "%25").replace("/", "%2F").replace(" ", "%20"))
    assert client.publish(message(b"one")) == ACCEPTED
    assert ch.get_one(name).body == b"one"


def test_an_exchange_with_a_key(broker: BrokerUnderTest, connect: Connect, ch: ChannelUnderTest) -> None:
    name = queue(ch, broker)
    ch.bind(name, "amq.direct", name)
    client = connect()
    client.sender(f"/exchanges/amq.direct/{name}")
    assert client.publish(message(b"one")) == ACCEPTED
    client.sender("/exchanges/amq.direct/nobody", 2)
    assert client.publish(message(b"two"), 2) == RELEASED


def test_each_message_says_where_it_goes(broker: BrokerUnderTest, connect: Connect, ch: ChannelUnderTest) -> None:
    name = queue(ch, broker)
    client = connect()
    client.sender(None)
    assert client.publish(message(b"1", before=section(0x73, [None, None, f"/queues/{name}"]))) == ACCEPTED
    assert client.publish(message(b"2", before=section(0x73, [None, None, "/exchanges/amq.direct/no"]))) == RELEASED
    client.transfer(message(b"3", before=section(0x73, [None, None, "/exchanges/nowhere/no"])))
    refused = client.expect(DISPOSITION).field(4)
    assert (refused.descriptor, refused.value[0].value[0]) == (REJECTED, "amqp:not-found")


@pytest.mark.parametrize("address", [None, "nonsense"])
def test_a_message_that_says_nothing_of_it(connect: Connect, address: str | None) -> None:
    client = connect()
    client.sender(None)
    before = section(0x73, [None, None, address])
    client.transfer(message(b"1", before=before))
    refused = client.expect(DISPOSITION).field(4)
    assert (refused.descriptor, refused.value[0].value[0]) == (REJECTED, "amqp:precondition-failed")
    client.send(
        TRANSFER, UInt(0), UInt(1), b"1", UInt(0), True, payload=message(b"2", before=before)
    )  # who wants no answer has the link ended
    assert client.expect(DETACH).field(2).value[0] == "amqp:precondition-failed"


def test_a_queue_of_version_1(broker: BrokerUnderTest, connect: Connect, ch: ChannelUnderTest) -> None:
    client = connect()
    for address in (f"/queue/{broker.queue_name('a')}", broker.queue_name("b")):
        client.sender(address, 2)
        assert client.publish(message(b"one"), 2) == ACCEPTED
        client.send(DETACH, UInt(2), True)
        client.expect(DETACH)


# --- outcomes, credit


@pytest.mark.parametrize(
    ("outcome", "fields", "comes_again", "dies"),
    [
        (ACCEPTED, (), False, False),
        (REJECTED, (), False, True),
        (RELEASED, (), True, False),
        (MODIFIED, (True,), True, False),
        (MODIFIED, (True, True), False, True),
    ],
)
def test_outcomes(
    broker: BrokerUnderTest,
    connect: Connect,
    ch: ChannelUnderTest,
    outcome: int,
    fields: tuple[bool, ...],
    comes_again: bool,
    dies: bool,
) -> None:
    dead = queue(ch, broker, "dead")
    name = queue(ch, broker, "q", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    client = connect()
    client.sender(f"/queues/{name}")
    assert client.publish(message(b"one")) == ACCEPTED
    client.receiver(f"/queues/{name}", credit=2)
    first = client.expect(TRANSFER)
    client.settle(first, outcome, *fields)
    if comes_again:
        again = client.expect(TRANSFER)
        header = sections_of(again.payload)[0x70]
        assert header[3] is False  # it is not the first acquirer
    elif dies:
        waiting.until(lambda: ch.depth(dead)[0] == 1)
    else:
        waiting.until(lambda: ch.depth(name)[0] == 0)


def test_a_full_queue(broker: BrokerUnderTest, connect: Connect, ch: ChannelUnderTest) -> None:
    name = queue(ch, broker, "q", {"x-max-length": 1, "x-overflow": "reject-publish"})
    client = connect()
    client.sender(f"/queues/{name}")
    assert [client.publish(message(b"x")) for _ in range(3)][-1] == REJECTED


def test_an_application_property_is_no_further_routing_key(
    broker: BrokerUnderTest, connect: Connect, ch: ChannelUnderTest
) -> None:
    name, other = queue(ch, broker), queue(ch, broker, "other")
    client = connect()
    client.sender(f"/queues/{name}")
    for value in ("text", other):
        assert client.publish(message(b"x", before=section(0x74, Map([("CC", value), ("BCC", value)])))) == ACCEPTED
    assert ch.declare(other, durable=True).message_count == 0


def test_credit_and_drain(broker: BrokerUnderTest, connect: Connect, ch: ChannelUnderTest) -> None:
    name = queue(ch, broker)
    client = connect()
    client.sender(f"/queues/{name}")
    for _ in range(3):
        client.publish(message(b"x"))
    first = client.receiver(f"/queues/{name}").field(9)
    client.flow(1, 2)
    client.expect(TRANSFER)
    client.expect(TRANSFER)
    client.flow(1, 10, count=(first + 2) & 0xFFFF_FFFF, drain=True)
    client.expect(TRANSFER)
    flow = client.expect(FLOW)
    assert (flow.field(5), flow.field(6), flow.field(8)) == ((first + 12) & 0xFFFF_FFFF, 0, True)


def test_a_queue_that_goes(broker: BrokerUnderTest, connect: Connect, ch: ChannelUnderTest) -> None:
    name = queue(ch, broker)
    client = connect()
    client.receiver(f"/queues/{name}", credit=1)
    ch.call(Queue.Delete, queue=name)
    detach = client.expect(DETACH)
    assert (detach.field(1), detach.field(2).value[0]) == (True, "amqp:resource-deleted")


def test_settled_links(broker: BrokerUnderTest, connect: Connect, ch: ChannelUnderTest) -> None:
    name = queue(ch, broker)
    client = connect()
    client.sender(f"/queues/{name}")
    client.publish(message(b"x"))
    answer = client.receiver(f"/queues/{name}", credit=1, settled=True)
    assert answer.field(3) == 1
    assert client.expect(TRANSFER).field(4) is True
    waiting.until(lambda: ch.depth(name)[0] == 0)


# --- messages


def test_a_message_comes_as_it_was_sent(broker: BrokerUnderTest, connect: Connect, ch: ChannelUnderTest) -> None:
    name = queue(ch, broker)
    properties = [
        Uuid(UUID(int=7).bytes), b"guest", "/queues/to", "subject", "reply", ULong(5), Symbol("text/plain"),
        Symbol("gzip"), Timestamp(9_000_000_000_000), Timestamp(1_000_123), "group", UInt(3), "reply group",
    ]  # fmt: skip
    application = Map([("n", UByte(3)), ("s", "x"), ("f", 1.5), ("b", True), ("i", Int(-4)), ("none", None)])
    payload = (
        section(0x70, [True, UByte(7), UInt(600_000)])
        + section(0x71, Map([(Symbol("x-gone"), 1)]))
        + section(0x72, Map([(Symbol("x-here"), "yes"), (Symbol("x-opt-other"), UByte(1))]))
        + section(0x73, properties)
        + section(0x74, application)
    )
    client = connect()
    client.sender(f"/queues/{name}")
    for body in (section(0x75, b"data"), section(0x77, "value"), section(0x76, [1, "a"]) + section(0x76, [2])):
        assert client.publish(payload + body + section(0x78, Map([(Symbol("x-foot"), 1)]))) == ACCEPTED
        client.receiver(f"/queues/{name}", credit=1)
        got = client.expect(TRANSFER)
        found = sections_of(got.payload)
        assert found[0x70][:4] == [True, UByte(7), UInt(600_000), True]
        assert found[0x73] == properties
        assert found[0x74] == application
        assert 0x71 not in found
        assert got.payload.endswith(body + section(0x78, Map([(Symbol("x-foot"), 1)])))
        said = annotations_of(got.payload)
        assert said == {"x-here": "yes", "x-opt-other": 1, "x-exchange": "", "x-routing-key": name}
        client.settle(got)
        client.send(DETACH, UInt(1), True)
        client.expect(DETACH)


def test_from_1_0_to_0_9_1(broker: BrokerUnderTest, connect: Connect, ch: ChannelUnderTest) -> None:
    name = queue(ch, broker)
    properties = [
        Uuid(UUID(int=7).bytes), b"guest", None, "subject", "reply", ULong(5), Symbol("text/plain"), None, None,
        Timestamp(1_000_123), "group",
    ]  # fmt: skip
    client = connect()
    client.sender(f"/queues/{name}")
    before = (
        section(0x70, [True, UByte(7), UInt(600_000)])
        + section(0x72, Map([(Symbol("x-here"), "yes")]))
        + section(0x73, properties)
        + section(0x74, Map([("n", UByte(3)), ("s", "x"), ("f", 1.5), ("b", True)]))
    )
    client.publish(message(b"data", before=before))
    got = ch.get_one(name)
    said = got.properties
    assert got.body == b"data"
    headers = {key: value for key, value in said.pop("headers").items() if key != "x-amqp-1.0-sections"}
    assert headers == {"n": 3, "s": "x", "f": 1.5, "b": True, "x-here": "yes"}
    assert said == {
        "message_id": f"urn:uuid:{UUID(int=7)}",
        "correlation_id": "5",
        "reply_to": "reply",
        "user_id": "guest",
        "content_type": "text/plain",
        "timestamp": 1000,
        "app_id": "group",
        "priority": 7,
        "expiration": "600000",
        "delivery_mode": 2,
    }
    client.publish(section(0x77, "value"))
    got = ch.get_one(name)
    assert (got.properties["message_type"], got.body) == ("amqp-1.0", section(0x77, "value"))


@pytest.mark.parametrize(("header", "mode"), [(b"", 2), (section(0x70, [False]), None), (section(0x70, [True]), 2)])
def test_what_is_durable(
    broker: BrokerUnderTest, connect: Connect, ch: ChannelUnderTest, header: bytes, mode: int | None
) -> None:
    name = queue(ch, broker)
    client = connect()
    client.sender(f"/queues/{name}")
    client.publish(message(b"data", before=header))
    assert ch.get_one(name).properties.get("delivery_mode") == mode


def test_from_0_9_1_to_1_0(broker: BrokerUnderTest, connect: Connect, ch: ChannelUnderTest) -> None:
    name = queue(ch, broker)
    ch.confirm()
    ch.publish(
        "",
        name,
        b"body",
        content_type="text/plain",
        delivery_mode=2,
        priority=3,
        correlation_id=f"urn:uuid:{UUID(int=9)}",
        message_id="m",
        reply_to="r",
        expiration="600000",
        message_type="kind",
        user_id="guest",
        app_id="app",
        headers={"n": 5, "s": "x", "x-y": "z", "l": [1]},
    )
    ch.await_confirms(1)
    client = connect()
    client.receiver(f"/queues/{name}", credit=1)
    found = sections_of(client.expect(TRANSFER).payload)
    assert found[0x70][:4] == [True, UByte(3), UInt(600_000), True]
    properties = found[0x73]
    assert properties[:2] == ["m", b"guest"]
    assert properties[4:7] == ["r", Uuid(UUID(int=9).bytes), "text/plain"]
    assert properties[10] == "app"
    assert dict(found[0x74].pairs) == {"n": 5, "s": "x"}
    said = {str(key): value for key, value in found[0x72].pairs}
    assert said == {"x-y": "z", "x-basic-type": "kind", "x-exchange": "", "x-routing-key": name}
    assert found[0x75] == b"body"


def test_what_a_client_of_0_9_1_changes_of_a_message_that_it_publishes_anew(
    broker: BrokerUnderTest, connect: Connect, ch: ChannelUnderTest
) -> None:
    name, again = queue(ch, broker), queue(ch, broker, "again")
    client = connect()
    client.sender(f"/queues/{name}")
    before = (
        section(0x72, Map([(Symbol("x-a"), UByte(1)), (Symbol("x-gone"), 1), (Symbol("x-same"), "t")]))
        + section(0x73, ["m", None, None, None, "r", "c"])
        + section(0x74, Map([("n", UInt(1)), ("gone", 1), ("same", Int(5))]))
    )
    client.publish(message(b"body", before=before))
    got = ch.get_one(name)
    said = {**got.properties, "correlation_id": "d", "app_id": "app"}
    headers = {key: value for key, value in said.pop("headers").items() if key not in ("gone", "x-gone")}
    ch.confirm()
    ch.publish("", again, got.body, **said, headers={**headers, "n": 2, "new": True, "x-a": "b", "x-new": 3})
    ch.await_confirms(1)
    client.receiver(f"/queues/{again}", credit=1)
    found = sections_of(client.expect(TRANSFER).payload)
    properties = found[0x73]
    assert (properties[0], properties[4], properties[5], properties[10]) == ("m", "r", "d", "app")
    assert dict(found[0x74].pairs) == {"n": 2, "same": 5, "new": True}
    annotations = {str(key): value for key, value in found[0x72].pairs}
    assert annotations == {"x-a": "b", "x-same": "t", "x-new": 3, "x-exchange": "", "x-routing-key": again}
    assert found[0x75] == b"body"


def test_deaths_are_told(broker: BrokerUnderTest, connect: Connect, ch: ChannelUnderTest) -> None:
    dead = queue(ch, broker, "dead")
    name = queue(ch, broker, "q", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    client = connect()
    client.sender(f"/queues/{name}")
    client.publish(message(b"one"))
    client.receiver(f"/queues/{name}", credit=1)
    client.settle(client.expect(TRANSFER), REJECTED)
    client.receiver(f"/queues/{dead}", 2, credit=1)
    said = annotations_of(client.expect(TRANSFER).payload)
    assert (said["x-first-death-queue"], said["x-first-death-reason"]) == (name, "rejected")
    (death,) = said["x-opt-deaths"].items
    assert isinstance(death, Map)
    assert {str(key) for key, _ in death.pairs} == {
        "queue", "reason", "count", "first-time", "last-time", "exchange", "routing-keys",
    }  # fmt: skip
    assert (death.get("queue"), death.get("reason"), death.get("count")) == (name, "rejected", 1)


def test_an_attach_is_answered_with_what_was_agreed_on(
    broker: BrokerUnderTest, connect: Connect, ch: ChannelUnderTest
) -> None:
    name = queue(ch, broker)
    client = connect()
    sent = client.sender(f"/queues/{name}")
    assert (sent.field(2), sent.field(4), sent.field(10)) == (True, 0, 16_777_216)
    got = client.receiver(f"/queues/{name}")
    assert (got.field(2), got.field(3), got.field(9)) == (False, 0, 0xFFFF_FFFB)
    source = got.field(5)
    assert isinstance(source, Described)
    assert source.value[8] == Described(ULong(RELEASED), [])
    assert {str(one) for one in source.value[9].items} == {
        "amqp:accepted:list", "amqp:rejected:list", "amqp:released:list", "amqp:modified:list",
    }  # fmt: skip
    assert got.code == ATTACH


# --- management


class Manager:
    """A pair of links for management."""

    def __init__(self, client: Amqp10Client) -> None:
        self._client = client
        self._count = 0
        paired = Map([(Symbol("paired"), True)])
        node, other = composite(SOURCE, ["/management"]), composite(TARGET, ["/management"])
        begin = ["pair", UInt(0), False, UByte(1), UByte(0), node, other, None, None, UInt(0)]
        client.send(ATTACH, *begin, None, None, None, paired)
        client.expect(ATTACH)
        client.send(ATTACH, "pair", UInt(1), True, UByte(1), UByte(0), node, other, *[None] * 6, paired)
        client.expect(ATTACH)
        client.flow(1, 100)

    def tell(self, method: str, target: str, body: Any = None) -> None:
        """Send a request."""
        self._count += 1
        properties = section(0x73, [ULong(self._count), None, target, method, "$me"])
        self._client.transfer(properties + section(0x77, body), settled=True)

    def ask(self, method: str, target: str, body: Any = None) -> tuple[str, Any]:
        """The status, and the answer's body."""
        self.tell(method, target, body)
        found = sections_of(self._client.expect(TRANSFER).payload)
        assert found[0x73][5] == ULong(self._count)
        assert found[0x74].get("http:response") == "1.1"
        return found[0x73][3], found[0x77]


def test_queues_are_managed(broker: BrokerUnderTest, connect: Connect, ch: ChannelUnderTest) -> None:
    client = connect()
    manager = Manager(client)
    name = broker.queue_name()
    assert manager.ask("GET", f"/queues/{name}") == ("404", f"queue '{name}' in vhost '/' not found")
    body = Map([("durable", True), ("arguments", Map([("x-queue-type", "quorum")]))])
    status, declared = manager.ask("PUT", f"/queues/{name}", body)
    assert status == "201"
    assert {key for key, _ in declared.pairs} == {
        "leader", "replicas", "message_count", "consumer_count", "name", "vhost", "durable", "auto_delete",
        "exclusive", "type", "arguments",
    }  # fmt: skip
    assert (declared.get("type"), declared.get("durable"), declared.get("exclusive")) == ("quorum", True, False)
    assert declared.get("leader") == client.open_answer.field(9).get("node")
    manager.tell("GET", f"/queues/{name}")
    payload = client.expect(TRANSFER).payload
    assert b"durable\x56\x01" in payload  # some clients tell that from 0x41
    assert b"exclusive\x56\x00" in payload
    status, declared = manager.ask("PUT", f"/queues/{broker.queue_name('plain')}", Map([]))
    assert (status, declared.get("arguments")) == ("201", Map([("x-queue-type", "classic")]))
    words = "failed to normalize URI '/queues/c%zz': invalid_percent_encoding <<\"%zz\">>"
    assert manager.ask("PUT", "/queues/c%zz", Map([])) == ("400", words)
    assert manager.ask("PUT", f"/queues/{name}", body)[0] == "200"
    assert manager.ask("PUT", f"/queues/{name}", Map([]))[0] == "409"
    assert manager.ask("PUT", f"/queues/{name}", Map([("nonsense", True)]))[0] == "400"
    ch.confirm()
    ch.publish("", name, b"one")
    ch.await_confirms(1)
    waiting.until(lambda: manager.ask("GET", f"/queues/{name}")[1].get("message_count") == 1)
    assert manager.ask("DELETE", f"/queues/{name}/messages") == ("200", Map([("message_count", ULong(1))]))
    assert manager.ask("DELETE", f"/queues/{name}") == ("200", Map([("message_count", ULong(0))]))
    assert manager.ask("DELETE", f"/queues/{name}") == ("200", Map([("message_count", ULong(0))]))
    reserved = "starts with reserved prefix 'amq.'"
    assert manager.ask("PUT", "/queues/amq.mine", Map([])) == ("403", f"queue 'amq.mine' in vhost '/' {reserved}")
    assert manager.ask("DELETE", f"/queues/{name}/messages") == ("400", f"no queue '{name}' in vhost '/'")
    wrong = Map([("durable", False), ("arguments", Map([("x-queue-type", "stream")]))])
    words = f"invalid property 'non-durable' for queue '{name}' in vhost '/'"
    assert manager.ask("PUT", f"/queues/{name}", wrong) == ("400", words)
    arguments = Map([("x-queue-type", "stream"), ("x-stream-filter-size-bytes", 5)])
    words = "Invalid value for  x-stream-filter-size-bytes"
    assert manager.ask("PUT", f"/queues/{name}", Map([("arguments", arguments)])) == ("400", words)
    assert manager.ask("PUT", f"/queues/{name}", Map([("arguments", Map([(5, 5)]))]))[0] == "400"
    manager.ask("PUT", f"/queues/{name}", Map([("arguments", Map([("x-queue-type", "stream")]))]))
    words = f"purge not supported by queue '{name}' in vhost '/'"
    assert manager.ask("DELETE", f"/queues/{name}/messages") == ("400", words)
    assert manager.ask("DELETE", f"/queues/{name}")[0] == "200"


def test_exchanges_and_bindings_are_managed(broker: BrokerUnderTest, connect: Connect, ch: ChannelUnderTest) -> None:
    manager = Manager(connect())
    name, exchange = queue(ch, broker), broker.exchange_name()
    assert manager.ask("PUT", f"/exchanges/{exchange}", Map([("type", "headers")])) == ("204", None)
    assert manager.ask("PUT", f"/exchanges/{exchange}", Map([("type", "fanout")]))[0] == "409"
    assert manager.ask("PUT", f"/exchanges/{exchange}-2", Map([("type", "nonsense")]))[0] == "400"
    words = "exchange 'amq.mine' in vhost '/' starts with reserved prefix 'amq.'"
    assert manager.ask("PUT", "/exchanges/amq.mine", Map([])) == ("403", words)
    assert manager.ask("DELETE", "/exchanges/amq.mine") == ("403", words)
    of_its_name = [("source", ""), ("destination_queue", name), ("binding_key", name), ("arguments", Map([]))]
    of_its_name.append(("location", f"/bindings/src=;dstq={name};key={name};args="))
    assert manager.ask("GET", f"/bindings?src=&dstq={name}&key={name}") == ("200", [Map(of_its_name)])
    assert manager.ask("GET", f"/bindings?src=&dstq={name}&key=k") == ("200", [])
    segment = f"src=;dstq={name};key={name};args="
    assert manager.ask("DELETE", f"/bindings/{segment}") == ("400", f"bad binding path segment '{segment}'")
    ends = [("source", exchange), ("destination_queue", "nowhere"), ("binding_key", "k"), ("arguments", Map([]))]
    assert manager.ask("POST", "/bindings", Map(ends)) == ("400", "no queue 'nowhere' in vhost '/'")
    assert manager.ask("POST", "/bindings", Map([*ends, ("nonsense", 1)]))[0] == "400"
    for arguments in (Map([]), Map([("h", "v")])):
        binding = [("source", exchange), ("destination_queue", name), ("binding_key", "k/1"), ("arguments", arguments)]
        assert manager.ask("POST", "/bindings", Map(binding)) == ("204", None)
    status, found = manager.ask("GET", f"/bindings?src={exchange}&dstq={name}&key=k%2F1")
    assert (status, len(found)) == ("200", 2)
    plain = next(one for one in found if one.get("arguments") == Map([]))
    other = next(one for one in found if one is not plain)
    assert plain.get("location") == f"/bindings/src={exchange};dstq={name};key=k%2F1;args="
    assert other.get("location") != plain.get("location")
    assert manager.ask("DELETE", other.get("location")) == ("204", None)
    assert manager.ask("GET", f"/bindings?src={exchange}&dstq={name}&key=k%2F1") == ("200", [plain])
    assert manager.ask("DELETE", plain.get("location")) == ("204", None)
    assert manager.ask("GET", f"/bindings?src={exchange}&dstq={name}&key=k%2F1") == ("200", [])
    assert manager.ask("DELETE", f"/exchanges/{exchange}") == ("204", None)
    assert manager.ask("DELETE", f"/exchanges/{exchange}") == ("204", None)
