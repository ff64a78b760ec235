"""Clients of all protocols at three nodes of one broker: what one leaves at one node is met by another at the next."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.request import urlopen

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from amqp_broker.protocols.amqp10.performatives import ACCEPTED, TRANSFER
from interop.amqp10_client import Amqp10Client
from interop.mqtt_client import MqttClient
from interop.stomp_client import StompClient
from interop.stream_client import StreamClient
from tests.cluster.test_commands import until
from tests.support.amqp10_client import message
from tests.support.cluster_processes import ClusterOfThree, NodeProcess
from tests.support.etcd_process import ETCD

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(ETCD is None, reason="etcd is not installed (Debian: etcd-server)"),
]
PATIENCE_S = 60
PROTOCOLS = ("MQTT", "STOMP", "STREAM", "METRICS")
PERSISTENT = pika.BasicProperties(delivery_mode=2)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[NodeProcess]]:
    """The owner and the doors."""
    ports = {f"AMQP_BROKER_{protocol}_PORT": "0" for protocol in PROTOCOLS}
    environment = {"AMQP_BROKER_LEASE_TTL_MS": "60000", "PYTHONUNBUFFERED": "1", **ports}
    cluster = ClusterOfThree(tmp_path_factory.mktemp("cluster"), environment=environment)
    owner = cluster.wait_for_owner()
    until(lambda: all("node of the cluster" in node.log for node in cluster.nodes))
    yield sorted(cluster.nodes, key=lambda node: node is not owner)
    cluster.end()


def port(node: NodeProcess, scheme: str, what: str = "listening") -> int:
    """Where a node speaks a protocol, by what it has said at its start."""
    found = re.search(rf"^{what} on {scheme}://[^:]*:(\d+)", node.log, re.MULTILINE)
    assert found is not None
    return int(found[1])


@contextmanager
def channel_at(node: NodeProcess) -> Iterator[BlockingChannel]:
    parameters = pika.ConnectionParameters("127.0.0.1", node.port, blocked_connection_timeout=PATIENCE_S)
    with closing(pika.BlockingConnection(parameters)) as connection:
        yield connection.channel()


def test_a_queue_is_one_whichever_node_is_asked(nodes: list[NodeProcess]) -> None:
    with channel_at(nodes[0]) as at_owner, channel_at(nodes[1]) as at_door, channel_at(nodes[2]) as at_other:
        at_door.queue_declare("kept", durable=True)
        at_other.confirm_delivery()
        at_other.basic_publish("", "kept", b"1", PERSISTENT, mandatory=True)
        assert at_owner.basic_get("kept", auto_ack=True)[2] == b"1"
        at_owner.tx_select()
        at_owner.basic_publish("", "kept", b"2", PERSISTENT)
        assert at_door.queue_declare("kept", durable=True).method.message_count == 0
        at_owner.tx_commit()
        assert at_door.basic_get("kept", auto_ack=True)[2] == b"2"


def test_an_exclusive_queue_is_its_connections_and_goes_with_it(nodes: list[NodeProcess]) -> None:
    with channel_at(nodes[1]) as mine, channel_at(nodes[2]) as others:
        mine.queue_declare("mine", exclusive=True)
        with pytest.raises(ChannelClosedByBroker) as caught:
            others.queue_declare("mine", passive=True)
        assert caught.value.reply_code == 405
    with channel_at(nodes[2]) as others:
        with pytest.raises(ChannelClosedByBroker) as caught:
            others.queue_declare("mine", passive=True)
        assert caught.value.reply_code == 404


def test_a_queue_goes_with_its_last_consumer_at_another_node(nodes: list[NodeProcess]) -> None:
    with channel_at(nodes[0]) as at_owner, channel_at(nodes[1]) as at_door:
        at_owner.queue_declare("going", auto_delete=True)
        tag = at_door.basic_consume("going", lambda *_: None)
        assert at_owner.queue_declare("going", passive=True).method.consumer_count == 1
        at_door.basic_cancel(tag)
        with pytest.raises(ChannelClosedByBroker):
            at_owner.queue_declare("going", passive=True)


def test_an_answer_comes_to_who_has_asked_elsewhere(nodes: list[NodeProcess]) -> None:
    with channel_at(nodes[1]) as asking, channel_at(nodes[2]) as answering:
        answering.queue_declare("questions")
        answers: list[bytes] = []
        asking.basic_consume("amq.rabbitmq.reply-to", lambda *came: answers.append(came[3]), auto_ack=True)
        asking.basic_publish("", "questions", b"?", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
        asking.queue_declare("questions", passive=True)
        _, properties, _ = answering.basic_get("questions", auto_ack=True)
        answering.basic_publish("", str(properties.reply_to), b"!")
        asking.connection.process_data_events(PATIENCE_S)
        assert answers == [b"!"]


def test_a_session_of_mqtt_goes_on_at_another_node(nodes: list[NodeProcess]) -> None:
    ports = [port(node, "mqtt") for node in nodes]
    with MqttClient(ports[1], "mover", clean=False) as client:
        client.subscribe("news/#")
    with MqttClient(ports[0], "sender") as sender:
        sender.publish("news/1", b"1")
    with MqttClient(ports[2], "mover", clean=False) as client:
        assert client.message().payload == b"1"
        with MqttClient(ports[1], "mover", clean=False):
            assert client.is_ended()  # the same client elsewhere takes its place


def test_a_reader_of_a_stream_goes_on_at_another_node(nodes: list[NodeProcess]) -> None:
    ports = [port(node, "rabbitmq-stream") for node in nodes]
    with StreamClient(ports[1]) as client:
        assert client.create("log") == 1
        assert client.declare_publisher(1, "log", "writer") == 1
        client.publish(1, {number: b"%d" % number for number in range(5)})
        client.confirmed(5)
        client.store_offset("reader", "log", 2)
        assert client.sequence("writer", "log") == 4
    with StreamClient(ports[2]) as client:
        assert client.sequence("writer", "log") == 4
        assert client.offset("reader", "log") == (1, 2)
        assert client.subscribe(1, "log") == 1
        assert client.entries(5) == [b"%d" % number for number in range(5)]
    with channel_at(nodes[0]) as channel:  # and over AMQP
        channel.basic_qos(prefetch_count=10)
        found: list[pika.BasicProperties] = []
        channel.basic_consume("log", lambda *came: found.append(came[2]), arguments={"x-stream-offset": 3})
        channel.connection.process_data_events(PATIENCE_S)
        assert found[0].headers is not None
        assert found[0].headers["x-stream-offset"] == 3


def test_protocols_meet_across_nodes(nodes: list[NodeProcess]) -> None:
    with channel_at(nodes[0]) as channel:
        channel.queue_declare("met", durable=True)
    with Amqp10Client(nodes[1].port) as client:
        client.sender("/queues/met")
        assert client.publish(message(b"from AMQP 1.0")) == ACCEPTED
    with StompClient(port(nodes[2], "stomp")) as client:
        client.send("SUBSCRIBE", id="1", destination="/amq/queue/met")
        assert client.take().body == b"from AMQP 1.0"
    with StompClient(port(nodes[1], "stomp")) as client:
        client.call("SEND", b"from STOMP", destination="/amq/queue/met")
    with Amqp10Client(nodes[2].port) as client:
        client.receiver("/queues/met", credit=1, settled=True)
        assert b"from STOMP" in client.expect(TRANSFER).payload


def test_each_node_tells_prometheus_of_itself_and_the_owner_of_the_queues(nodes: list[NodeProcess]) -> None:
    with channel_at(nodes[1]) as channel:
        channel.queue_declare("counted", durable=True)
    said = []
    for node in nodes:
        with urlopen(f"http://127.0.0.1:{port(node, 'http', 'metrics')}/metrics", timeout=PATIENCE_S) as answer:
            said.append(answer.read().decode())
    for node, text in zip(nodes, said, strict=True):
        assert re.findall(r'rabbitmq_identity_info\{rabbitmq_node="(.*?)"', text) == [f"rabbit@{node.name}"]
    counts = [int(re.findall(r"^rabbitmq_queues (\d+)$", text, re.MULTILINE)[0]) for text in said]
    assert counts[0] > 0
    assert counts[1:] == [0, 0]
    names = [re.findall(r'amqp_broker_node_info\{node="(.*?)"', text) for text in said]
    assert [sorted(found) for found in names] == [sorted(f"rabbit@{node.name}" for node in nodes), [], []]
