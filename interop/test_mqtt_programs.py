"""mosquitto_pub and mosquitto_sub, the programs that people try MQTT with, asked of each broker, which is started anew
with MQTT; RabbitMQ with its plugin. Skipped where they are not installed (Debian: mosquitto-clients).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from interop import brokers, waiting
from interop.brokers import Choice
from interop.raw_client import ChannelUnderTest
from interop.started_brokers import StartedBrokers
from interop.under_test import BrokerUnderTest

FEATURE = "mosquitto's programs"
CONFIG = "mqtt.listeners.tcp.1 = 127.0.0.1:{port}\n"
PATIENCE_S = 60


class WithMqtt(StartedBrokers):
    """The brokers of this module, each started when it is first asked."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: dict[Choice, int] = {}

    def start(self, choice: Choice) -> brokers.RabbitMQ | brokers.OurBroker:
        (port,) = brokers.free_ports(1)
        self.ports[choice] = port
        return choice.start(
            config=CONFIG.format(port=port),
            plugins=["rabbitmq_mqtt"],
            environment={"AMQP_BROKER_MQTT_PORT": str(port)},
        )


@pytest.fixture(scope="module")
def broker_processes() -> Iterator[WithMqtt]:
    with WithMqtt() as started:
        yield started


class Programs:
    """Both programs, for one broker and one version of MQTT."""

    def __init__(self, port: int, version: str) -> None:
        self.version = version
        self._options = ["-p", str(port), "-V", version, "-u", "guest", "-P", "guest", "-q", "1"]

    def publish(self, *options: str) -> None:
        self._run("mosquitto_pub", *options)

    def subscribe(self, *options: str) -> list[str]:
        """What it prints."""
        return self._run("mosquitto_sub", *options).splitlines()

    def _run(self, program: str, *options: str) -> str:
        command = [program, *self._options, *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout


@pytest.fixture(params=["mqttv31", "mqttv311", "mqttv5"])
def programs(request: pytest.FixtureRequest, broker: BrokerUnderTest, broker_processes: WithMqtt) -> Programs:
    if shutil.which("mosquitto_sub") is None:
        pytest.skip("mosquitto_sub is not installed")
    if request.param == "mqttv5" and broker.choice.kind != brokers.OURS and broker.version < (4, 0):
        pytest.skip("this RabbitMQ speaks no MQTT 5")
    return Programs(broker_processes.ports[broker.choice], request.param)


def test_a_session_keeps_what_comes_while_its_client_is_away(broker: BrokerUnderTest, programs: Programs) -> None:
    name = broker.queue_name()
    lasting = ["-c", "-i", name, "-t", f"{name}/+"]
    if programs.version == "mqttv5":
        lasting += ["-x", "60"]
    programs.subscribe(*lasting, "-E")  # ends when it has the answer
    for payload in ("one", "two"):
        programs.publish("-t", f"{name}/a", "-m", payload)  # ends when it has the answer
    assert programs.subscribe(*lasting, "-C", "2", "-F", "%t %p") == [f"{name}/a one", f"{name}/a two"]


def test_a_retained_message_is_there_for_who_comes_later(broker: BrokerUnderTest, programs: Programs) -> None:
    topic = f"{broker.queue_name()}/state"
    programs.publish("-t", topic, "-m", "on", "-r")
    assert programs.subscribe("-t", topic, "-C", "1", "-F", "%r %p") == ["1 on"]
    programs.publish("-t", topic, "-r", "-n")


def test_an_amqp_queue_gets_what_mosquitto_pub_says(
    broker: BrokerUnderTest, programs: Programs, ch: ChannelUnderTest, q: str
) -> None:
    ch.declare(q)
    ch.bind(q, "amq.topic", f"{q}.#")
    programs.publish("-t", f"{q}/a/b", "-m", "21.5")
    waiting.until(lambda: ch.depth(q) == (1, 0))
