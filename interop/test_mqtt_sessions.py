"""What an MQTT client gets that comes back to its session, and where what it publishes goes, asked of each broker,
which is started anew with MQTT.
"""

from __future__ import annotations

from amqp_broker.protocols.mqtt.packets import Publish, Unsubscribe
from interop.mqtt_client import MqttClient
from interop.raw_client import ChannelUnderTest
from interop.test_mqtt_programs import WithMqtt, broker_processes  # noqa: F401  # a fixture
from interop.under_test import BrokerUnderTest

FEATURE = "MQTT sessions"


def test_what_is_on_its_way_comes_again_although_its_subscription_has_ended(
    broker: BrokerUnderTest,
    broker_processes: WithMqtt,  # noqa: F811
    q: str,
) -> None:
    port = broker_processes.ports[broker.choice]
    with MqttClient(port, q, clean=False) as client, MqttClient(port, f"{q}-sender") as sender:
        client.subscribe(q)
        sender.publish(q, b"1")
        assert isinstance(client.take(), Publish)
        client.send(Unsubscribe(9, [q]))
        client.take()
    with MqttClient(port, q, clean=False) as client:
        again = client.message()
        assert (again.topic, again.payload, again.qos, again.duplicate) == (q, b"1", 1, True)


def test_what_is_published_goes_into_a_stream(
    broker: BrokerUnderTest,
    broker_processes: WithMqtt,  # noqa: F811
    ch: ChannelUnderTest,
    q: str,
) -> None:
    ch.declare(q, durable=True, arguments={"x-queue-type": "stream"})
    ch.bind(q, "amq.topic", f"{q}.*")
    with MqttClient(broker_processes.ports[broker.choice], q) as client:
        for number in range(3):
            client.publish(f"{q}/{number}", b"%d" % number, qos=number % 2)
    ch.qos(10)
    ch.consume(q, arguments={"x-stream-offset": "first"})
    found = ch.deliveries(3)
    assert [(one.headers["x-stream-offset"], one.routing_key, one.body) for one in found] == [
        (number, f"{q}.{number}", b"%d" % number) for number in range(3)
    ]
