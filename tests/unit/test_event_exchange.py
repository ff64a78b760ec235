"""The event exchange: which events there are, what they say, and that there are none where nobody listens."""

from __future__ import annotations

from typing import Any

import pytest
from pamqp import commands

from amqp_broker.access.client import Peer
from amqp_broker.broker.alarms import Resource
from amqp_broker.broker.inspection import Inspection
from amqp_broker.broker.virtual_host_properties import Metadata
from tests.support.amqp10_client import Amqp10Client
from tests.support.client import Client, ClientChannel
from tests.support.memory_broker import MemoryBroker
from tests.support.mqtt_client import MqttClient
from tests.support.stomp_client import StompClient

EVENTS = "amq.rabbitmq.event"
INTERNAL = "rmq-internal"


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker(event_exchange="on", node_name="node", mqtt_port=0, stomp_port=0)


@pytest.fixture
def channel(broker: MemoryBroker) -> ClientChannel:
    """A channel beside a queue ``events`` that gets no event yet."""
    channel = Client(broker).open().channel()
    channel.declare("events")
    return channel


def listen(channel: ClientChannel, *keys: str) -> None:
    for key in keys:
        channel.bind("events", EVENTS, key)


def take(channel: ClientChannel) -> list[tuple[str, dict[str, Any]]]:
    """All events: key, and headers without the time."""
    found = []
    while (event := channel.get("events", no_ack=True)) is not None:
        headers = event.headers
        assert headers.pop("timestamp_in_ms") == channel.client.broker.clock.wall_ms()
        assert event.body == b""
        assert event.properties is not None
        assert event.properties.delivery_mode == 2
        found.append((str(event.method.routing_key), headers))  # type: ignore[attr-defined]
    return found


def test_it_is_there_where_it_was_turned_on(broker: MemoryBroker) -> None:
    exchange = broker.virtual_host.exchanges[EVENTS]
    assert (exchange.type_name, exchange.durable, exchange.internal) == ("topic", True, True)
    assert not broker.observers.present, "messages cost nothing"
    assert EVENTS not in MemoryBroker().virtual_host.exchanges
    assert not MemoryBroker().observers.present_for_changes


def test_nothing_is_made_where_nobody_listens(broker: MemoryBroker, channel: ClientChannel) -> None:
    channel.declare("q")
    assert broker.virtual_host.exchanges[EVENTS].published_out == 0
    listen(channel, "queue.*")
    assert take(channel) == []


def test_what_is_declared_and_deleted(broker: MemoryBroker, channel: ClientChannel) -> None:
    listen(channel, "queue.*", "exchange.*", "consumer.*")
    channel.call(commands.Queue.Declare(queue="q", durable=True, arguments={"x-max-length": 5}))
    channel.call(commands.Exchange.Declare(exchange="x", exchange_type="fanout"))
    channel.consume("q", "tag")
    channel.send(commands.Queue.Delete(queue="q"))
    channel.received()
    events = take(channel)
    assert [key for key, _ in events] == [
        "queue.created",
        "exchange.created",
        "consumer.created",
        "queue.deleted",
        "consumer.deleted",
    ]
    by, gone = {"user_who_performed_action": "guest"}, {"name": "q", "vhost": "/"}
    assert events[0][1] == {
        "name": "q",
        "vhost": "/",
        "type": "rabbit_classic_queue",
        "durable": True,
        "auto_delete": False,
        "exclusive": False,
        "arguments": {"x-max-length": 5},
        **by,
    }
    assert events[3][1] == {**gone, **by}
    assert events[2][1].pop("channel").endswith(" (1)")
    assert events[2][1] == {
        "vhost": "/",
        "queue": "q",
        "consumer_tag": "tag",
        "exclusive": False,
        "ack_required": True,
        "prefetch_count": 0,
        "arguments": {},
        **by,
    }


def test_who_comes_and_goes(broker: MemoryBroker, channel: ClientChannel) -> None:
    listen(channel, "connection.*", "channel.*", "user.authentication.*")
    other = Client(broker).open(properties={"connection_name": "shop"})
    other.channel()
    other.connection.lost("it went away")
    broker.settle()
    stranger = Client(broker)
    stranger.send_bytes(b"AMQP\x00\x00\x09\x01")
    stranger.send(stranger.start_ok(password="wrong"))
    broker.settle()
    events = take(channel)
    assert [key for key, _ in events] == [
        "user.authentication.success",
        "connection.created",
        "channel.created",
        "connection.closed",
        "channel.closed",
        "user.authentication.failure",
    ]
    assert events[0][1]["name"] == "guest"
    created = events[1][1]
    assert (created["user"], created["user_provided_name"], created["node"]) == ("guest", "shop", "node")
    assert created["client_properties"]["connection_name"] == "shop"
    assert events[3][1]["name"] == created["name"]
    assert events[5][1]["error"] == "user 'guest' - invalid credentials"


def test_a_connection_of_amqp_10_comes_with_the_id_of_its_container(
    broker: MemoryBroker, channel: ClientChannel
) -> None:
    listen(channel, "connection.created")
    Client(broker).open()
    Amqp10Client(broker).open("vhost:/", container="orders-3")
    assert [event.get("container_id") for _, event in take(channel)] == [None, "orders-3"]


def test_what_administrators_do(broker: MemoryBroker, channel: ClientChannel) -> None:
    listen(channel, "user.#", "vhost.#", "permission.*", "topic.permission.*", "parameter.*", "alarm.*")
    administration = broker.administration.on_behalf_of("root")
    administration.add_user("bob", "secret", ("monitoring",), algorithm="rabbit_password_hashing_sha256")
    administration.change_password("bob", None)
    administration.set_user_limits("bob", connections_max=5)
    administration.set_user_limits("bob", connections_max=None)
    administration.add_virtual_host("v")
    administration.set_metadata("v", Metadata("d", ("t",)))
    administration.set_tracing("v", is_on=True)
    administration.set_virtual_host_limits("v", queues_max=3)
    administration.set_permission("bob", "v", "", ".*", "")
    administration.clear_permission("bob", "v")
    administration.set_topic_permission("bob", "v", "amq.topic", "a", "b")
    administration.clear_topic_permission("bob", "v")
    administration.parameters.set_global_parameter("p", {"a": [1]})
    administration.delete_virtual_host("v")
    administration.delete_user("bob")
    broker.set_alarm(Resource.MEMORY, True)
    broker.set_alarm(Resource.MEMORY, False)
    events = take(channel)
    by = {"user_who_performed_action": "root"}
    host = {"name": "v", "default_queue_type": "undefined", **by}
    described = {**host, "description": "d", "tags": ["t"]}
    assert events == [
        ("user.created", {"name": "bob", **by}),
        ("user.tags.set", {"name": "bob", "tags": ["monitoring"], **by}),
        ("user.password.cleared", {"name": "bob", **by}),
        ("user.limits.set", {"name": "limits", "username": "bob", "max-connections": 5, **by}),
        ("user.limits.cleared", {"name": "limits", "username": "bob", **by}),
        ("vhost.created", {**host, "description": "", "tags": [], "tracing": False}),
        ("vhost.updated", {**described, "tracing": False}),
        ("vhost.updated", {**described, "tracing": True}),
        ("vhost.limits.set", {"name": "limits", "vhost": "v", "max-queues": 3, **by}),
        ("permission.created", {"user": "bob", "vhost": "v", "configure": "", "write": ".*", "read": "", **by}),
        ("permission.deleted", {"user": "bob", "vhost": "v", **by}),
        (
            "topic.permission.created",
            {"user": "bob", "vhost": "v", "exchange": "amq.topic", "write": "a", "read": "b", **by},
        ),
        ("topic.permission.deleted", {"user": "bob", "vhost": "v", "exchange": "amq.topic", **by}),
        ("parameter.set", {"name": "p", "value": {"a": [1]}, **by}),
        ("vhost.deleted", {"name": "v", **by}),
        ("user.deleted", {"name": "bob", **by}),
        ("alarm.set", {"source": "memory", "node": "node", "user_who_performed_action": INTERNAL}),
        ("alarm.cleared", {"source": "memory", "node": "node", "user_who_performed_action": INTERNAL}),
    ]


def test_policies_and_the_queues_under_them(broker: MemoryBroker, channel: ClientChannel) -> None:
    listen(channel, "policy.*", "queue.policy.*")
    channel.declare("q")
    value: dict[str, object] = {"pattern": "^q$", "definition": {"max-length": 5}}
    parameters = broker.administration.on_behalf_of("root").parameters
    broker.handle(lambda: parameters.set_policy("/", "p", value))
    broker.handle(lambda: parameters.clear_policy("/", "p"))
    said = {"vhost": "/", "pattern": "^q$", "definition": {"max-length": 5}, "priority": 0, "apply-to": "all"}
    queue = {"name": "q", "type": "rabbit_classic_queue", "user_who_performed_action": INTERNAL}
    assert take(channel) == [
        ("queue.policy.updated", {**said, **queue}),
        ("policy.set", {**said, "name": "p", "user_who_performed_action": "root"}),
        ("queue.policy.cleared", {"vhost": "/", **queue}),
        ("policy.cleared", {"vhost": "/", "name": "p", "user_who_performed_action": "root"}),
    ]


def test_bindings_are_events_too(broker: MemoryBroker, channel: ClientChannel) -> None:
    listen(channel, "binding.*")
    listen(channel, "nothing")
    assert [(key, headers["routing_key"]) for key, headers in take(channel)] == [
        ("binding.created", "binding.*"),
        ("binding.created", "nothing"),
    ]


def test_it_goes_with_its_virtual_host_and_comes_back_with_it(broker: MemoryBroker, channel: ClientChannel) -> None:
    listen(channel, "#")
    broker.handle(lambda: broker.administration.delete_virtual_host("/"))
    broker.handle(lambda: broker.administration.add_virtual_host("/"))
    broker.handle(lambda: broker.administration.set_permission("guest", "/", ".*", ".*", ".*"))
    again = Client(broker).open().channel()
    again.declare("events")
    listen(again, "queue.*")
    again.declare("q")
    assert [key for key, _ in take(again)] == ["queue.created"]
    assert EVENTS in [exchange["name"] for exchange in Inspection(broker).exchanges()]


def test_clients_of_other_protocols(channel: ClientChannel) -> None:
    broker = channel.client.broker
    listen(channel, "user.authentication.*", "connection.*")
    mqtt = MqttClient(broker, "m")
    mqtt.connect(user_name="guest", password=b"guest")
    mqtt.publish("no/body")
    mqtt.disconnect()
    MqttClient(broker, "n").connect(user_name="guest", password=b"wrong")
    stomp = StompClient(broker)
    stomp.connect(login="guest", passcode="guest")
    stomp.send("SEND", b"1", destination="/exchange/amq.topic/no.body")
    stomp.drop()
    StompClient(broker).connect(login="guest", passcode="wrong")
    broker.settle()
    events = take(channel)
    assert [key for key, _ in events] == 2 * [
        "user.authentication.success",
        "connection.created",
        "connection.closed",
        "user.authentication.failure",
    ]
    assert [headers["protocol"] for key, headers in events if "authentication" in key] == 2 * ["MQTT"] + 2 * ["STOMP"]
    (row,) = broker.drops.rows()
    assert (row["exchange"], row["routing_key"], row["user"], row["count"]) == ("amq.topic", "no.body", "guest", 2)


def test_a_connection_of_the_broker_to_itself_is_direct(broker: MemoryBroker, channel: ClientChannel) -> None:
    listen(channel, "user.authentication.*", "connection.created")
    client = Client(broker, peer=Peer.within("<direct.1>", "guest"))
    client.open(mechanism="EXTERNAL", response="")
    login, created = take(channel)
    assert login[0] == "user.authentication.success"
    assert {"name": "guest", "connection_type": "direct"}.items() <= login[1].items()
    assert "host" not in login[1]
    ends = ("name", "type", "host", "port", "peer_host", "peer_port")
    unknown = dict.fromkeys(ends, "unknown")
    assert {end: created[1][end] for end in ends} == unknown | {"name": "<direct.1>", "type": "direct"}
