"""A broker in a test that speaks AMQP 1.0 where it speaks AMQP 0-9-1; its clock moves idle time-outs."""

from __future__ import annotations

import subprocess
import sys
from urllib.parse import urlsplit

from amqp_broker.protocols.amqp10.performatives import ACCEPTED, CLOSE, TRANSFER
from amqp_broker.testing import Broker
from interop.amqp10_client import Amqp10Client
from tests.support.amqp10_client import message, sections_of


def port_of(broker: Broker) -> int:
    port = urlsplit(broker.url).port
    assert port is not None
    return port


def test_a_message_goes_through_a_socket() -> None:
    with Broker() as broker, Amqp10Client(port_of(broker), f"vhost:{broker.virtual_host}") as client:
        client.sender("/queue/q")  # version 1 declares it
        assert client.publish(message(b"kept")) == ACCEPTED
        client.receiver("/queues/q", credit=1)
        assert sections_of(client.expect(TRANSFER).payload)[0x75] == b"kept"


def test_the_clock_moves_idle_time_outs() -> None:
    with Broker() as broker, Amqp10Client(port_of(broker), f"vhost:{broker.virtual_host}") as client:
        broker.clock.advance(
            seconds=91, heartbeats=False
        )  # the silence of a minute, and up to a look of half a minute more
        close = client.expect(CLOSE)
        assert close.field(0).value[0] == "amqp:resource-limit-exceeded"


def test_who_speaks_no_amqp_1_0_does_not_load_it() -> None:
    program = (
        "import sys\n"
        "from amqp_broker.testing import Broker\n"
        "with Broker() as broker: pass\n"
        "assert not [name for name in sys.modules if name.startswith('amqp_broker.protocols.amqp10')]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
