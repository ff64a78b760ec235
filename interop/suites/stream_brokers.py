"""The brokers that suites of stream clients ask: RabbitMQ with its plugin, and ours. Not here: what is asked.

`BrokerAsked.more` has `management_port`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from interop.brokers import INSTALLATIONS, Address, OurBroker, RabbitMQ, free_ports
from interop.suites.running import BrokerAsked
from interop.suites.stomp_brokers import KINDS

PLUGINS = ["rabbitmq_stream", "rabbitmq_management", "rabbitmq_stream_management"]
CONFIG = """\
stream.listeners.tcp.1 = 127.0.0.1:{stream}
stream.advertised_host = localhost
stream.advertised_port = {stream}
management.tcp.ip = 127.0.0.1
management.tcp.port = {management}
"""


def kinds_of_stream() -> list[str]:
    """The brokers that there are on this machine."""
    return [*(kind for kind, series in KINDS.items() if INSTALLATIONS[series]() is not None), "ours"]


@contextmanager
def stream_broker(kind: str) -> Iterator[BrokerAsked]:
    """A broker that is started for this, and where it speaks the stream protocol."""
    stream, management = free_ports(2)
    started: RabbitMQ | OurBroker
    if kind == "ours":
        ports = {"STREAM_PORT": stream, "MANAGEMENT_PORT": management}
        environment = {f"AMQP_BROKER_{name}": str(port) for name, port in ports.items()}
        started = OurBroker(environment={**environment, "AMQP_BROKER_STREAM_ADVERTISED_HOST": "localhost"})
    else:
        config = CONFIG.format(stream=stream, management=management)
        started = RabbitMQ(INSTALLATIONS[KINDS[kind]](), config=config, plugins=PLUGINS)
    try:
        yield BrokerAsked(kind, Address("localhost", stream), {"management_port": str(management)})
    finally:
        started.stop()
