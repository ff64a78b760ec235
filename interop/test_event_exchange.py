"""The event exchange: what happens in a broker comes as messages, with which keys and headers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from amqp_broker.protocols.amqp10.frames import SASL, SASL_HEADER, encode_frame
from amqp_broker.protocols.amqp10.performatives import SASL_INIT, performative
from amqp_broker.protocols.amqp10.typed import Symbol
from interop import brokers
from interop.amqp10_client import Amqp10Client
from interop.brokers import Choice, OurBroker, RabbitMQ
from interop.operator import Operator
from interop.raw_client import Basic, ChannelUnderTest, Exchange, Queue, Received
from interop.started_brokers import StartedBrokers
from interop.under_test import BrokerUnderTest
from interop.waiting import until

FEATURE = "event exchange"
EVENTS = "amq.rabbitmq.event"
PLUGINS = ("rabbitmq_event_exchange", "rabbitmq_shovel", "rabbitmq_federation")
ENDS = ("channel.closed", "connection.closed")  # RabbitMQ tells of those of earlier tests when it gets round to it
PATIENCE_S = 60.0  # a link of RabbitMQ's may begin again after some seconds


class WithEvents(StartedBrokers):
    """The brokers of this module, each started when it is first asked."""

    def start(self, choice: Choice) -> brokers.RabbitMQ | brokers.OurBroker:
        on = {"AMQP_BROKER_EVENT_EXCHANGE": "on"}
        return choice.start(plugins=PLUGINS, environment=on)


@pytest.fixture(scope="module")
def broker_processes() -> Iterator[WithEvents]:
    with WithEvents() as started:
        yield started


@pytest.fixture
def events(broker: BrokerUnderTest, ch: ChannelUnderTest) -> str:
    """A queue that gets no event yet: ``listen`` says which. Another one hears of bindings."""
    queue = broker.queue_name("events")
    ch.declare(queue)
    ch.declare(bindings_of(queue), exclusive=True)
    ch.bind(bindings_of(queue), EVENTS, "binding.created")
    return queue


def bindings_of(events: str) -> str:
    return f"{events}-bindings"


def listen(ch: ChannelUnderTest, events: str, *keys: str) -> None:
    """Have the events of these keys from now on, and none of before.

    RabbitMQ tells of what happens when it gets round to it, but of one thing after the other: what was before the last
    of the bindings has been told once that is.
    """
    for key in keys:
        ch.bind(events, EVENTS, key)
    while ch.get_one(bindings_of(events)).headers["routing_key"] != keys[-1]:
        pass
    ch.call(Queue.Purge, queue=events)


def take(ch: ChannelUnderTest, events: str, *keys: str, overlooked: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The headers of the next events, which have these keys; those that are overlooked may come between them."""
    found: list[Received] = []
    while len(found) < len(keys):
        one = ch.get_one(events)
        if one.routing_key not in overlooked:
            found.append(one)
    assert [one.routing_key for one in found] == list(keys)
    for one in found:
        assert one.body == b""
        assert one.headers["timestamp_in_ms"] > 1_500_000_000_000
    return [dict(one.headers) for one in found]


def only(headers: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: headers.get(name) for name in names}


def test_queues_exchanges_and_bindings(broker: BrokerUnderTest, ch: ChannelUnderTest, events: str, q: str) -> None:
    x = broker.exchange_name("x")
    listen(ch, events, "queue.*", "exchange.*")
    ch.declare(q, durable=True)
    ch.declare(q, durable=True)
    ch.declare_exchange(x, "topic")
    ch.bind(events, EVENTS, "binding.*")
    ch.bind(q, x, "a.b")
    ch.call(Queue.Unbind, queue=q, exchange=x, routing_key="a.b")
    ch.call(Exchange.Delete, exchange=x)
    ch.call(Queue.Delete, queue=q)
    (queue, exchange) = take(ch, events, "queue.created", "exchange.created")
    fields = ("name", "vhost", "durable", "auto_delete", "exclusive", "user_who_performed_action")
    assert only(queue, *fields) == {
        "name": q,
        "vhost": "/",
        "durable": True,
        "auto_delete": False,
        "exclusive": False,
        "user_who_performed_action": "guest",
    }
    of_exchange = ("name", "vhost", "type", "durable", "auto_delete", "internal", "policy", "user_who_performed_action")
    assert only(exchange, *of_exchange) == {
        "name": x,
        "vhost": "/",
        "type": "topic",
        "durable": False,
        "auto_delete": False,
        "internal": False,
        "policy": "",
        "user_who_performed_action": "guest",
    }
    fields = ("vhost", "source_name", "source_kind", "destination_name", "destination_kind", "routing_key")
    own, bound, unbound = take(ch, events, "binding.created", "binding.created", "binding.deleted")
    assert own["source_name"] == EVENTS
    for binding in (bound, unbound):
        assert only(binding, *fields) == {
            "vhost": "/",
            "source_name": x,
            "source_kind": "exchange",
            "destination_name": q,
            "destination_kind": "queue",
            "routing_key": "a.b",
        }
    gone = take(ch, events, "exchange.deleted", "queue.deleted")
    assert [only(one, "name", "vhost", "user_who_performed_action") for one in gone] == [
        {"name": name, "vhost": "/", "user_who_performed_action": "guest"} for name in (x, q)
    ]


def test_connections_channels_and_consumers(broker: BrokerUnderTest, ch: ChannelUnderTest, events: str, q: str) -> None:
    ch.declare(q)
    listen(ch, events, "connection.*", "channel.*", "consumer.*", "user.authentication.*")
    client = broker.connect()
    other = client.channel()
    other.consume(q, consumer_tag="tag")
    other.call(Basic.Cancel, consumer_tag="tag")
    client.close()
    login, connected, opened, consuming, cancelled = take(
        ch,
        events,
        "user.authentication.success",
        "connection.created",
        "channel.created",
        "consumer.created",
        "consumer.deleted",
        overlooked=ENDS,
    )
    assert only(login, "name", "auth_mechanism", "connection_type", "ssl") == {
        "name": "guest",
        "auth_mechanism": "PLAIN",
        "connection_type": "network",
        "ssl": False,
    }
    assert " -> " in login["connection_name"]
    assert only(connected, "vhost", "user", "name", "user_who_performed_action") == {
        "vhost": "/",
        "user": "guest",
        "name": login["connection_name"],
        "user_who_performed_action": "guest",
    }
    fields = ("queue", "vhost", "consumer_tag", "ack_required", "exclusive", "prefetch_count")
    assert only(consuming, *fields) == {
        "queue": q,
        "vhost": "/",
        "consumer_tag": "tag",
        "ack_required": True,
        "exclusive": False,
        "prefetch_count": 0,
    }
    assert only(cancelled, "queue", "vhost", "consumer_tag") == {"queue": q, "vhost": "/", "consumer_tag": "tag"}
    ended: dict[str, Any] = {}
    while len(ended) < len(ENDS):
        key, headers = next_of(ch, events)
        if headers["pid"] in (connected["pid"], opened["pid"]):
            ended[key] = headers
    assert set(ended) == set(ENDS)
    assert ended["connection.closed"]["name"] == login["connection_name"]


def test_policies_and_limits(broker: BrokerUnderTest, ch: ChannelUnderTest, events: str, q: str) -> None:
    process: Any = broker.process
    assert isinstance(process, RabbitMQ | OurBroker)
    operator = Operator(process)
    ch.declare(q)
    listen(ch, events, "policy.*", "queue.policy.*", "vhost.#")
    operator.set_policy("evp", f"^{q}$", {"max-length": 5})
    of_queue, policy = take(ch, events, "queue.policy.updated", "policy.set")
    said = {"pattern": f"^{q}$", "definition": {"max-length": 5}, "priority": 0, "apply-to": "all", "vhost": "/"}
    assert only(policy, *said) == said
    assert only(of_queue, *said, "name") == {**said, "name": q}
    operator.clear_policy("evp")
    of_queue, policy = take(ch, events, "queue.policy.cleared", "policy.cleared")
    assert only(of_queue, "name", "vhost") == {"name": q, "vhost": "/"}
    assert only(policy, "name", "vhost") == {"name": "evp", "vhost": "/"}
    operator.set_vhost_limits({"max-queues": 1000})
    (given,) = take(ch, events, "vhost.limits.set")
    assert only(given, "name", "max-queues") == {"name": "limits", "max-queues": 1000}
    operator.set_vhost_limits({})


def next_of(ch: ChannelUnderTest, events: str) -> tuple[str, dict[str, Any]]:
    until(lambda: ch.depth(events)[0] > 0, PATIENCE_S)
    found = ch.get_one(events)
    return str(found.routing_key), dict(found.headers)


def await_status(ch: ChannelUnderTest, events: str, key: str, status: str) -> dict[str, Any]:
    """The headers of the first event that tells this status; others of the same key may come before."""
    while True:
        found, headers = next_of(ch, events)
        assert found == key
        if headers["status"] == status:
            return headers


def test_a_shovel(broker: BrokerUnderTest, ch: ChannelUnderTest, events: str, q: str) -> None:
    process: Any = broker.process
    operator, to = Operator(process), broker.queue_name("to")
    ch.declare(q, durable=True)
    ch.declare(to, durable=True)
    listen(ch, events, "shovel.#")
    value = {"src-uri": "amqp://", "src-queue": q, "dest-uri": "amqp://", "dest-queue": to}
    operator.set_parameter("shovel", "evs", value)
    key, first = next_of(ch, events)
    assert (key, only(first, "name", "vhost", "status")) == (
        "shovel.worker.status",
        {"name": "evs", "vhost": "/", "status": "starting"},
    )
    running = await_status(ch, events, "shovel.worker.status", "running")
    said = {
        "name": "evs", "vhost": "/", "src_uri": "amqp://", "src_protocol": "amqp091", "src_queue": q,
        "dest_uri": "amqp://", "dest_protocol": "amqp091", "dest_queue": to,
    }  # fmt: skip
    assert only(running, *said) == said
    operator.clear_parameter("shovel", "evs")
    key, gone = next_of(ch, events)
    assert (key, only(gone, "name", "vhost", "status")) == (
        "shovel.worker.removed",
        {"name": "evs", "vhost": "/", "status": None},
    )


@pytest.mark.parametrize("can_connect", [True, False])
def test_a_federation_link(
    broker: BrokerUnderTest, ch: ChannelUnderTest, events: str, q: str, can_connect: bool
) -> None:
    process: Any = broker.process
    operator = Operator(process)
    ch.declare(q, durable=True)
    listen(ch, events, "federation.#")
    port = process.address.port if can_connect else 1
    address = {"uri": f"amqp://guest:guest@127.0.0.1:{port}/%2F", "queue": f"{q}.there", "reconnect-delay": 1}
    operator.set_parameter("federation-upstream", "evu", address)
    operator.set_policy("evf", f"^{q}$", {"federation-upstream": "evu"})
    said = {
        "type": "queue", "vhost": "/", "queue": q, "upstream": "evu", "upstream_queue": f"{q}.there",
        "consumer_tag": "federation-link-evu",
    }  # fmt: skip
    key, first = next_of(ch, events)
    assert (key, first["status"]) == ("federation.link.status", "starting")
    assert only(first, *said, "uri") == {**said, "uri": f"amqp://127.0.0.1:{port}/%2F"}
    told = await_status(ch, events, "federation.link.status", "running" if can_connect else "error")
    assert only(told, *said, "id") == {**said, "id": first["id"]}
    assert ("local_connection" in told, "error" in told) == (can_connect, not can_connect)
    operator.clear_policy("evf")
    key, gone = next_of(ch, events)
    while key == "federation.link.status":  # an attempt more
        key, gone = next_of(ch, events)
    assert (key, only(gone, *said, "id")) == ("federation.link.removed", {**said, "id": first["id"]})
    operator.clear_parameter("federation-upstream", "evu")
    ch.call(Queue.Delete, queue=f"{q}.there")


def test_a_login_that_fails(broker: BrokerUnderTest, ch: ChannelUnderTest, events: str) -> None:
    listen(ch, events, "user.authentication.failure")
    client = broker.socket()
    client.begin()
    client.send_start_ok(user="guest", password="wrong")
    (failed,) = take(ch, events, "user.authentication.failure")
    assert only(failed, "name", "auth_mechanism") == {"name": "guest", "auth_mechanism": "PLAIN"}


def test_nobody_publishes_to_it(broker: BrokerUnderTest, ch: ChannelUnderTest) -> None:
    ch.publish(EVENTS, "k", b"")
    ch.expect_close(403, f"cannot publish to internal exchange '{EVENTS}' in vhost '/'", cause=Basic.Publish)


def test_what_carries_messages_within_the_broker_is_no_network(
    broker: BrokerUnderTest, ch: ChannelUnderTest, events: str, q: str
) -> None:
    process: Any = broker.process
    operator = Operator(process)
    ch.declare(q, durable=True)
    listen(ch, events, "user.authentication.*", "connection.created")
    value = {"src-uri": "amqp://guest@", "src-queue": q, "dest-uri": "amqp://guest@", "dest-queue": q}
    operator.set_parameter("shovel", "within", value)
    found = take(ch, events, *["user.authentication.success", "connection.created"] * 2)
    operator.clear_parameter("shovel", "within")
    for login, created in (found[:2], found[2:]):
        assert {*login} - {"user_who_performed_action"} == {"name", "connection_type", "timestamp_in_ms"}
        assert only(login, "name", "connection_type") == {"name": "guest", "connection_type": "direct"}
        ends = ("type", "user", "host", "port", "peer_host", "peer_port")
        assert only(created, *ends) == dict.fromkeys(ends, "unknown") | {"type": "direct", "user": "guest"}
    assert found[1]["name"] != found[3]["name"]


def test_a_client_of_amqp_1_0(broker: BrokerUnderTest, ch: ChannelUnderTest, events: str) -> None:
    if broker.version < (4, 0):
        pytest.skip("AMQP 1.0 is RabbitMQ 4's own")
    listen(ch, events, "user.authentication.*", "connection.*")
    with Amqp10Client(broker.address.port):
        keys = ("user.authentication.success", "connection.created")
        login, created = take(ch, events, *keys, overlooked=ENDS)
    said = {"name": "guest", "auth_mechanism": "PLAIN", "ssl": False}
    assert only(login, *said) == said
    assert login["protocol"] == ("AMQP 1.0" if broker.differs("protocol-of-events") else "{1,0}")
    said = {"user": "guest", "vhost": "/", "type": "network", "name": login["connection_name"]}
    assert only(created, *said) == said
    key, gone = next_of(ch, events)
    while gone["pid"] != created["pid"]:
        assert key in ENDS
        key, gone = next_of(ch, events)
    assert (key, gone["name"]) == ("connection.closed", created["name"])
    with Amqp10Client(broker.address.port, opens=False) as client:
        wrong = performative(SASL_INIT, [Symbol("PLAIN"), b"\0guest\0wrong"])
        client.write(SASL_HEADER + encode_frame(SASL, 0, wrong))  # the answer comes late
        (failed,) = take(ch, events, "user.authentication.failure", overlooked=ENDS)
    said = {"name": "guest", "auth_mechanism": "PLAIN", "ssl": False}
    assert only(failed, *said) == said
