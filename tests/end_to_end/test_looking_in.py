"""``amqp-broker status``, ``queues``, ``connections`` and the other lists, against a broker process."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pika
import pika.exceptions
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from amqp_broker import __version__
from interop.waiting import until
from tests.support.command_line import OurBroker
from tests.support.command_line import run as run_command

REFUSED, NOT_RUNNING = 8, 7
NOUNS = ("queues", "exchanges", "bindings", "consumers", "connections")


@pytest.fixture(scope="module")
def broker() -> Iterator[OurBroker]:
    process = OurBroker()
    yield process
    process.stop()


@pytest.fixture
def channel(broker: OurBroker) -> Iterator[BlockingChannel]:
    properties = {"connection_name": "shop"}
    parameters = pika.ConnectionParameters("127.0.0.1", broker.address.port, client_properties=properties)
    connection = pika.BlockingConnection(parameters)
    yield connection.channel()
    with contextlib.suppress(pika.exceptions.AMQPError):  # where the test has ended it
        connection.close()


def run(broker: OurBroker, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_command(*arguments, "--data-dir", str(broker.data_folder), environment={**os.environ, "COLUMNS": "80"})


def listed(broker: OurBroker, noun: str, *options: str) -> Any:
    return json.loads(broker.ctl(noun, "list", "--json", *options))


def test_what_is_there_is_listed(broker: OurBroker, channel: BlockingChannel) -> None:
    name = "orders.eu-west.invoices-created.and-some-more-that-makes-this-name-too-long-for-a-line"
    channel.exchange_declare("orders", "topic", durable=True)
    channel.queue_declare(name, durable=True, arguments={"x-max-length": 10})
    channel.queue_bind(name, "orders", "order.#")
    channel.basic_publish("", name, b"four")
    channel.basic_consume(name, lambda *_: None, consumer_tag="worker")
    (queue,) = listed(broker, "queues")
    assert (queue["name"], queue["arguments"], queue["messages_unacknowledged"]) == (name, {"x-max-length": 10}, 1)
    assert "orders" in [exchange["name"] for exchange in listed(broker, "exchanges")]
    (binding,) = listed(broker, "bindings")
    assert (binding["source"], binding["destination"], binding["routing_key"]) == ("orders", name, "order.#")
    (consumer,) = listed(broker, "consumers")
    assert (consumer["consumer_tag"], consumer["channel"]["number"]) == ("worker", 1)
    (connection,) = listed(broker, "connections")
    assert (connection["user_provided_name"], connection["user"], connection["ssl"]) == ("shop", "guest", False)
    for noun in NOUNS:
        table = run(broker, noun, "list")
        assert table.returncode == 0
        assert max(map(len, table.stdout.splitlines())) <= 80
        assert listed(broker, noun, "--vhost", "/")
    row = run(broker, "consumers", "list").stdout.splitlines()[1]
    assert max(map(len, row.split())) > 18  # of the queue's name, much is left
    lines = run(broker, "status").stdout.splitlines()
    assert max(map(len, lines)) <= 80 or len(str(broker.data_folder)) > 65
    status = json.loads(broker.ctl("status", "--json"))
    assert (status["version"], status["counts"]["queues"], status["counts"]["messages"]) == (__version__, 1, 1)
    assert status["memory"]["used_bytes"] > 0
    assert "1 unacknowledged" in broker.ctl("status")
    broker.ctl("queues", "delete", name)


def test_a_queue_is_purged_and_deleted(broker: OurBroker, channel: BlockingChannel) -> None:
    channel.confirm_delivery()
    channel.queue_declare("q", durable=True)
    for _ in range(3):
        channel.basic_publish("", "q", b"", pika.BasicProperties(delivery_mode=2))
    refused = run(broker, "queues", "delete", "q", "--if-empty")
    assert (refused.returncode, refused.stderr) == (REFUSED, "amqp-broker: queue 'q' in vhost '/' not empty\n")
    assert broker.ctl("queues", "purge", "q") == "queue 'q' in '/' purged of 3 messages\n"
    broker.kill_and_restart()
    assert [(queue["name"], queue["messages"]) for queue in listed(broker, "queues")] == [("q", 0)]
    assert json.loads(broker.ctl("queues", "purge", "q", "--json")) == {"vhost": "/", "name": "q", "messages": 0}
    assert (
        broker.ctl("queues", "delete", "q", "--if-empty", "--if-unused") == "queue 'q' in '/' deleted with 0 messages\n"
    )
    assert listed(broker, "queues") == []


def test_a_connection_is_closed_with_a_reason(broker: OurBroker, channel: BlockingChannel) -> None:
    closed = json.loads(broker.ctl("connections", "close", "shop", "--reason", "noon", "--json"))
    assert closed == {"name": "shop", "connections": 1}
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker, match="noon"):
        channel.connection.process_data_events(60)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("queues", "purge", "nope"), "there is no queue 'nope' in virtual host '/'"),
        (("queues", "delete", "nope", "--vhost", "none"), "there is no virtual host 'none'"),
        (("queues", "list", "--vhost", "none"), "there is no virtual host 'none'"),
        (("connections", "list", "--vhost", "none"), "there is no virtual host 'none'"),
        (("connections", "close", "nope"), "there is no connection 'nope'"),
    ],
)
def test_what_is_not_there_is_named(broker: OurBroker, arguments: tuple[str, ...], text: str) -> None:
    done = run(broker, *arguments)
    assert (done.returncode, done.stderr, done.stdout) == (REFUSED, f"amqp-broker: {text}\n", "")


def test_more_than_fits_into_one_line(broker: OurBroker, channel: BlockingChannel) -> None:
    names = [f"many.{number:04}.{'n' * 60}" for number in range(1_000)]
    for name in names:
        channel.queue_declare(name, exclusive=True)
    assert [queue["name"] for queue in listed(broker, "queues")] == names


def test_where_messages_went(broker: OurBroker, channel: BlockingChannel) -> None:
    channel.queue_declare("traced", arguments={"x-message-ttl": 60_000})
    broker.ctl("trace", "start", "--message-id", "m-1", "--header", "level:=3", "--bodies")
    properties = pika.BasicProperties(message_id="m-1", headers={"level": 3})
    channel.basic_publish("", "traced", b"body", properties)
    channel.basic_publish("amq.topic", "no.such.key", b"", properties)
    channel.queue_purge("traced")
    said = json.loads(broker.ctl("trace", "show", "--json"))
    assert (said["on"], said["message_id"], said["headers"]) == (True, "m-1", {"level": 3})
    assert [(one["outcome"], one["payload"]) for one in said["messages"]] == [("unroutable", ""), ("waiting", "body")]
    shown = broker.ctl("trace", "show", "--message-id", "m-1")
    assert "published exchange amq.topic key 'no.such.key' to no queue by guest because unroutable" in shown
    assert broker.ctl("trace", "stop") == "trace stopped\n"
    drops = json.loads(broker.ctl("drops", "--json"))
    rows = [(row["reason"], row["routing_key"], row["queue"]) for row in drops["drops"]]
    assert ("unroutable", "no.such.key", None) in rows
    assert ("purged", None, "traced") in rows
    assert " unroutable  /  " in run(broker, "drops").stdout
    explained = broker.ctl("explain", "route", "/", "", "traced")
    assert explained.startswith("goes to     traced\n")
    wrong = run(broker, "explain", "route", "/", "none", "k")
    assert (wrong.returncode, wrong.stderr) == (
        REFUSED,
        "amqp-broker: there is no exchange 'none' in virtual host '/'\n",
    )
    assert run(broker, "trace", "start", "--header", "nothing").returncode == 2


def test_traces_to_files(broker: OurBroker, channel: BlockingChannel) -> None:
    assert "traces/t.log" in broker.ctl("traces", "add", "t", "--format", "json", "--pattern", "publish.#")
    channel.confirm_delivery()
    channel.basic_publish("amq.fanout", "k", b"body")
    broker.ctl("traces", "remove", "t")
    assert json.loads(broker.ctl("traces", "list", "--json")) == []
    path = broker.data_folder / "traces" / "t.log"
    until(lambda: path.exists() and path.stat().st_size)
    (line,) = path.read_text().splitlines()
    assert (json.loads(line)["exchange"], json.loads(line)["payload"]) == ("amq.fanout", "Ym9keQ==")
    refused = run(broker, "traces", "add", "../t")
    assert refused.returncode == REFUSED
    assert "cannot be named '../t'" in refused.stderr
