"""What the log says of clients and of administrators: who it was, and why."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from pamqp import commands

from amqp_broker.access.client import Peer, Tls
from amqp_broker.access.passwords import SHA256
from amqp_broker.broker.problems import AdministrationError
from amqp_broker.network.connection_log import CLIENT_LEFT, CLIENT_RESET, ConnectionLog
from tests.support.client import Client
from tests.support.memory_broker import MemoryBroker
from tests.support.mqtt_client import MqttClient

Line = tuple[str, int, dict[str, Any]]
Lines = Callable[[], list[Line]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """What was logged since the last call: event, severity, fields."""
    caplog.set_level(logging.DEBUG, "amqp_broker")

    def since() -> list[Line]:
        found: list[Line] = [
            (one.getMessage(), one.levelno, {k: v for k, v in one.__dict__["fields"].items() if k != "duration_s"})
            for one in caplog.records
        ]
        caplog.clear()
        return found

    return since


def test_a_channel_error_names_the_client_and_the_method(broker: MemoryBroker, lines: Lines) -> None:
    channel = Client(broker).open(properties={"connection_name": "shop"}).channel(3)
    channel.send(commands.Queue.Declare(queue="nope", passive=True))
    assert lines() == [
        (
            "channel error",
            logging.WARNING,
            {
                "peer": "127.0.0.1:40000",
                "connection_name": "shop",
                "user": "guest",
                "vhost": "/",
                "channel": 3,
                "method": "queue.declare",
                "code": 404,
                "reason": "404 NOT_FOUND - no queue 'nope' in vhost '/'",
            },
        )
    ]


def test_an_error_of_a_connection_is_one(broker: MemoryBroker, lines: Lines) -> None:
    channel = Client(broker).open().channel()
    channel.send(commands.Channel.Open())
    ((event, severity, fields),) = lines()
    assert (event, severity) == ("connection error", logging.ERROR)
    assert (fields["code"], fields["method"], fields["channel"]) == (504, "channel.open", 1)


def test_what_was_sent_is_not_in_the_log(broker: MemoryBroker, lines: Lines) -> None:
    client = Client(broker).open()
    client.send_bytes(b"secret password!")
    ((_, severity, fields),) = lines()
    assert severity == logging.ERROR
    assert "secret" not in str(fields)


def logged(client: Client) -> ConnectionLog:
    return ConnectionLog(str(client.connection.peer), client.connection)


def test_the_opening_says_who_has_come_and_how(broker: MemoryBroker, lines: Lines) -> None:
    peer = Peer("10.0.0.7", 50000, False, our_host="10.0.0.1", our_port=5671, tls=Tls("TLSv1.3", "AES"))
    broker.administration.add_user("ada", "secret", algorithm=SHA256)
    broker.administration.set_permission("ada", "/", "", "", "")
    lines()
    properties = {"connection_name": "shop", "product": "pika", "version": "1.4"}
    client = Client(broker, peer=peer).open(user="ada", password="secret", properties=properties)
    logged(client).note_opened()
    assert lines() == [
        (
            "connection opened",
            logging.INFO,
            {
                "peer": "10.0.0.7:50000",
                "user": "ada",
                "vhost": "/",
                "connection_name": "shop",
                "product": "pika",
                "product_version": "1.4",
                "protocol": "AMQP 0-9-1",
                "tls": "TLSv1.3",
                "listener": "10.0.0.1:5671",
            },
        )
    ]


def test_how_a_connection_ends_decides_how_loud_it_is(broker: MemoryBroker, lines: Lines) -> None:
    probe = Client(broker)
    logged(probe).ended(CLIENT_LEFT)
    logged(probe).ended(CLIENT_RESET)
    half = Client(broker)
    half.send_bytes(b"AMQP")
    logged(half).ended(CLIENT_LEFT)
    refused = Client(broker)
    refused.send_bytes(b"AMQP\0\0\x09\x01")
    refused.received()
    refused.send(refused.start_ok(password="wrong"))
    logged(refused).ended(CLIENT_LEFT)
    wordless = Client(broker).open()
    log = logged(wordless)
    log.note_opened()
    log.ended(CLIENT_LEFT)
    log.ended(CLIENT_RESET)
    log.ended("the TCP connection failed: Connection timed out")
    found = [(event, severity) for event, severity, _ in lines()]
    assert found == [
        ("connection failed", logging.DEBUG),
        ("connection failed", logging.DEBUG),
        ("connection failed", logging.WARNING),
        ("connection failed", logging.ERROR),
        ("connection opened", logging.INFO),
        ("connection closed", logging.INFO),
        ("connection closed", logging.INFO),
        ("connection failed", logging.WARNING),
    ]


def test_a_refused_login_names_the_user_that_was_claimed(broker: MemoryBroker, lines: Lines) -> None:
    refused = Client(broker)
    refused.send_bytes(b"AMQP\0\0\x09\x01")
    refused.received()
    refused.send(refused.start_ok(user="ada", password="wrong"))
    logged(refused).ended(CLIENT_LEFT)
    ((event, _, fields),) = lines()
    assert (event, fields["user"]) == ("connection failed", "ada")
    assert "invalid credentials" in fields["reason"]
    assert "vhost" not in fields


def test_a_client_of_mqtt_is_named_by_its_identifier(broker: MemoryBroker, lines: Lines) -> None:
    opened = MqttClient(broker, "meter-7")
    opened.connect()
    ConnectionLog("peer", opened.connection).note_opened()
    refused = MqttClient(broker, "meter-8")
    refused.connect(user_name="ada", password=b"wrong")
    ConnectionLog("peer", refused.connection).ended(CLIENT_LEFT)
    told = [(event, fields["user"], fields["client_id"]) for event, _, fields in lines()]
    assert told == [("connection opened", "guest", "meter-7"), ("connection failed", "ada", "meter-8")]


def test_each_change_of_an_administrator_is_a_line(broker: MemoryBroker, lines: Lines) -> None:
    administration = broker.administration.on_behalf_of("ada")
    administration.add_user("shop", "secret", ("management",), algorithm=SHA256)
    administration.change_password("shop", "other", algorithm=SHA256)
    administration.set_tags("shop", ())
    administration.set_user_limits("shop", connections_max=5)
    administration.add_virtual_host("orders")
    administration.set_virtual_host_limits("orders", queues_max=1)
    administration.set_permission("shop", "orders", "^a", ".*", "")
    administration.set_permission("shop", "orders", "", "", "")
    administration.set_topic_permission("shop", "orders", "amq.topic", "a", "b")
    administration.clear_topic_permission("shop", "orders")
    administration.clear_permission("shop", "orders")
    administration.clear_permission("shop", "orders")  # changes nothing
    administration.delete_virtual_host("orders")
    administration.delete_user("shop")
    found = lines()
    assert all(severity == logging.INFO and fields.pop("who") == "ada" for _, severity, fields in found)
    assert "secret" not in str(found)
    in_orders = {"user": "shop", "vhost": "orders"}
    narrow, none = "configure='^a' write='.*' read=''", "configure='' write='' read=''"
    assert [(event, fields) for event, _, fields in found] == [
        ("user added", {"user": "shop", "after": "tags=management"}),
        ("password changed", {"user": "shop"}),
        ("user tags changed", {"user": "shop", "before": "tags=management", "after": "tags=none"}),
        (
            "user limits changed",
            {
                "user": "shop",
                "before": "connections_max=None channels_max=None",
                "after": "connections_max=5 channels_max=None",
            },
        ),
        ("virtual host added", {"vhost": "orders"}),
        (
            "virtual host limits changed",
            {
                "vhost": "orders",
                "before": "connections_max=None queues_max=None",
                "after": "connections_max=None queues_max=1",
            },
        ),
        ("permission set", {**in_orders, "after": narrow}),
        ("permission set", {**in_orders, "before": narrow, "after": none}),
        ("topic permission set", {**in_orders, "exchange": "amq.topic", "after": "write='a' read='b'"}),
        ("topic permission cleared", {**in_orders, "exchange": "amq.topic", "before": "write='a' read='b'"}),
        ("permission cleared", {**in_orders, "before": none}),
        ("virtual host deleted", {"vhost": "orders", "before": "queues=0 exchanges=7"}),
        ("user deleted", {"user": "shop", "before": "tags=none"}),
    ]


def test_queues_and_connections_that_an_administrator_ends(broker: MemoryBroker, lines: Lines) -> None:
    channel = Client(broker).open(properties={"connection_name": "shop"}).channel()
    channel.declare("q")
    channel.publish("", "q", b"")
    administration = broker.administration.on_behalf_of("ada")
    administration.purge_queue("/", "q")
    administration.delete_queue("/", "q")
    administration.close_connections("shop", "noon")
    with pytest.raises(AdministrationError):
        administration.delete_queue("/", "q")
    assert [(event, fields) for event, _, fields in lines()] == [
        ("queue purged", {"queue": "q", "vhost": "/", "before": "messages=1", "who": "ada"}),
        ("queue deleted", {"queue": "q", "vhost": "/", "before": "messages=0", "who": "ada"}),
        (
            "connection closed by an administrator",
            {"connection": "127.0.0.1:40000", "user": "guest", "vhost": "/", "reason": "noon", "who": "ada"},
        ),
    ]
