"""MQTT's QoS 2, and wills, on a machine that stops at each step of its disk in turn: a write, which is torn, a sync, a
file that comes or goes. Once more while the broker starts again.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from amqp_broker.journal.memory_files import MemoryFiles, PowerLoss
from amqp_broker.protocols.mqtt.packets import Will
from amqp_broker.protocols.mqtt.properties import Property
from tests.support.disk_broker import DiskBroker
from tests.support.mqtt_client import MqttClient
from tests.support.mqtt_exchange import Receiver, Sender

LARGE = b"x" * 1_500  # so that a few of them fill a segment
STEPS_OF_A_START = (0, 2)  # 0: the start is not disturbed
LASTS = {Property.SESSION_EXPIRY_INTERVAL: 3600}
ROUNDS = 3  # of an exchange
WAIT_MS = 10_001


def connected(broker: DiskBroker, client_id: str) -> MqttClient:
    client = MqttClient(broker, client_id)
    assert client.connect(clean=False).codes == [0]
    return client


def stops(files: MemoryFiles, step: int, life: Callable[[], object]) -> bool:
    """Whether the machine stops at so many steps of the disk from now, before this life has come to its end."""
    files.fails_by_power_loss = True
    files.fail_at_step = files.steps + step
    try:
        life()
    except PowerLoss:
        files.lose_power()
        return True
    files.fail_at_step = None
    return False


def after(broker: DiskBroker, start_stops_at: int) -> DiskBroker:
    """The broker that comes up on the disk of one that has stopped."""
    files, clock = broker.files, broker.clock
    if start_stops_at:
        stops(files, start_stops_at, lambda: DiskBroker(files, clock, mqtt_port=0))
    return DiskBroker(files, clock, mqtt_port=0)


class Exchange:
    """Two messages on their way from one client to another."""

    def __init__(self) -> None:
        self.messages = [LARGE + b"1", LARGE + b"2"]
        self.sender, self.receiver = Sender(*self.messages), Receiver()

    def run(self, broker: DiskBroker) -> None:
        """Connect, and go on until all is done."""
        sending, receiving = connected(broker, "s"), connected(broker, "r")
        self.sender.go_on(sending)
        while self.sender.waiting or len(self.receiver.got) < len(self.messages):
            self.sender.hear(sending)
            self.receiver.hear(receiving)
            broker.reclaim()


class Death:
    """A client with a will, whose connection is lost, and one that hears of it."""

    def __init__(self, delay_s: int) -> None:
        self.receiver = Receiver()
        self.is_in = False  # the broker has said so
        self._delay_s = delay_s

    def run(self, broker: DiskBroker) -> None:
        """The client connects, and is lost."""
        will = Will("a", LARGE, 2, properties={Property.WILL_DELAY_INTERVAL: self._delay_s})
        client = MqttClient(broker, "c", 5)
        self.is_in = client.connect(will=will, properties=LASTS).codes == [0]
        client.drop()
        self.listen(broker)

    def listen(self, broker: DiskBroker) -> None:
        """Hear all that is said until the will is due."""
        receiving = connected(broker, "r")
        broker.advance(WAIT_MS)
        for _ in range(ROUNDS):
            self.receiver.hear(receiving)
            broker.reclaim()


def with_a_subscriber(seed: int) -> DiskBroker:
    broker = DiskBroker(MemoryFiles(seed), mqtt_port=0)
    client = connected(broker, "r")
    client.subscribe("a", 2)
    client.drop()
    return broker


@pytest.mark.parametrize("start_stops_at", STEPS_OF_A_START)
def test_messages_arrive_once_wherever_the_disk_stops(start_stops_at: int) -> None:
    step, has_stopped = 0, True
    while has_stopped:
        step += 1
        broker, exchange = with_a_subscriber(step), Exchange()
        has_stopped = stops(broker.files, step, lambda: exchange.run(broker))  # noqa: B023
        if has_stopped:
            exchange.run(after(broker, start_stops_at))
        assert exchange.receiver.got == exchange.messages, step
    assert step > 20


@pytest.mark.parametrize("start_stops_at", STEPS_OF_A_START)
@pytest.mark.parametrize("delay_s", [0, 10])
def test_a_will_is_said_once_wherever_the_disk_stops(delay_s: int, start_stops_at: int) -> None:
    step, has_stopped = 0, True
    while has_stopped:
        step += 1
        broker, death = with_a_subscriber(step), Death(delay_s)
        has_stopped = stops(broker.files, step, lambda: death.run(broker))  # noqa: B023
        if has_stopped:
            death.listen(after(broker, start_stops_at))
        got = death.receiver.got
        assert got == [LARGE] if death.is_in else got in ([], [LARGE]), step
    assert step > 10
