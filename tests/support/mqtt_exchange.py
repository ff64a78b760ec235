"""Both sides of MQTT's QoS 2, as clients that keep to it however often their connections are lost."""

from __future__ import annotations

from amqp_broker.protocols.mqtt.packets import Acknowledgement, PacketType, Publish
from tests.support.mqtt_client import MqttClient


class Sender:
    """A client that publishes messages with QoS 2 and one identifier, and goes on where it was as often as it must.

    Args:
        messages: what it publishes, to the topic a.
    """

    def __init__(self, *messages: bytes) -> None:
        self.waiting = list(messages)
        self.is_received = False  # the broker has said so of the first that waits

    def go_on(self, client: MqttClient, *, duplicate: bool = True) -> None:
        """Send what is to be sent now."""
        if self.waiting and self.is_received:
            client.acknowledge(PacketType.PUBREL, 1)
        elif self.waiting:
            client.publish("a", self.waiting[0], 2, packet_id=1, duplicate=duplicate)

    def hear(self, client: MqttClient) -> None:
        """Take what was answered, and go on."""
        for packet in client.all():
            assert isinstance(packet, Acknowledgement)
            if packet.type is PacketType.PUBREC:
                self.is_received = True
                self.go_on(client)
            elif packet.type is PacketType.PUBCOMP and self.is_received:
                self.is_received = False
                self.waiting.pop(0)
                self.go_on(client, duplicate=False)


class Receiver:
    """A client that gets messages with QoS 2, each once, as the standard has it."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self._known: set[int] = set()

    def hear(self, client: MqttClient) -> None:
        """Take what has come, and answer."""
        for packet in client.all():
            if isinstance(packet, Publish) and packet.qos == 1:
                client.acknowledge(PacketType.PUBACK, packet.packet_id)
            elif isinstance(packet, Publish):
                if packet.packet_id not in self._known:
                    self._known.add(packet.packet_id)
                    self.got.append(packet.payload)
                client.acknowledge(PacketType.PUBREC, packet.packet_id)
            else:
                assert isinstance(packet, Acknowledgement)
                self._known.discard(packet.packet_id)
                client.acknowledge(PacketType.PUBCOMP, packet.packet_id)
