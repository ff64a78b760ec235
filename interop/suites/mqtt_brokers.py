"""The brokers that suites of MQTT clients ask: mosquitto, RabbitMQ with its plugin, and ours.

Each of them forbids the topic that Eclipse's suites want to be refused, and grants the keep-alive that they want, where
it can. Not here: what is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from interop.brokers import Address, Mosquitto, OurBroker, RabbitMQ, find_mosquitto, find_rabbitmq, free_ports
from interop.suites.running import BrokerAsked

USER = ("rw", "readwrite")  # of aiomqtt's suite
FORBIDDEN = r"^(?!test[./]nosubscribe$)"


def kinds_of_mqtt() -> list[str]:
    """The brokers that there are on this machine."""
    found = ["mosquitto"] if find_mosquitto() else []
    return [*found, *(["rabbitmq"] if find_rabbitmq() else []), "ours"]


@contextmanager
def mqtt_broker(kind: str) -> Iterator[BrokerAsked]:
    """A broker that is started for this, and where it speaks MQTT."""
    (port,) = free_ports(1)
    started: Mosquitto | RabbitMQ | OurBroker
    if kind == "mosquitto":
        started = Mosquitto(port, user=USER, acl="topic readwrite #\ntopic deny test/nosubscribe\n")
    elif kind == "rabbitmq":
        started = RabbitMQ(config=f"mqtt.listeners.tcp.1 = 127.0.0.1:{port}\n", plugins=["rabbitmq_mqtt"])
    else:
        environment = {"AMQP_BROKER_MQTT_KEEP_ALIVE_MAX_S": "60"}
        started = OurBroker(options=["--mqtt-port", str(port)], environment=environment)
    try:
        if isinstance(started, RabbitMQ):
            started.ctl("add_user", *USER)
            started.ctl("set_permissions", "-p", "/", USER[0], ".*", ".*", ".*")
            started.ctl("set_topic_permissions", "-p", "/", "guest", "amq.topic", ".*", FORBIDDEN)
        elif isinstance(started, OurBroker):
            started.ctl("users", "add", USER[0], "--password-stdin", standard_input=USER[1])
            started.ctl("permissions", "set", USER[0], ".*", ".*", ".*")
            started.ctl("permissions", "set-topic", "guest", "amq.topic", ".*", FORBIDDEN)
        yield BrokerAsked(kind, Address("127.0.0.1", port))
    finally:
        started.stop()
