"""Whatever clients send, an MQTT conversation neither fails nor leaves anything behind, and cuts make no difference."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from amqp_broker.protocols.mqtt.packet_writing import encode_client_packet
from amqp_broker.protocols.mqtt.packets import (
    Acknowledgement,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    PingRequest,
    Publish,
    Subscribe,
    Subscription,
    Unsubscribe,
    Will,
)
from amqp_broker.protocols.mqtt.properties import Property
from tests.support.memory_broker import MemoryBroker
from tests.support.mqtt_client import MqttClient

TOPICS = st.sampled_from(["a", "a/b", "a/b.c", "$a", "+", "a/#", "", "/"])
FILTERS = st.sampled_from(["a", "a/+", "#", "+/#", "$share/g/a/+", "$share/g", "a/#/b", "$a"])
IDS = st.integers(1, 4)
PACKETS: st.SearchStrategy[Packet] = st.one_of(
    st.builds(
        Publish,
        topic=TOPICS,
        payload=st.binary(max_size=3),
        qos=st.integers(0, 2),
        retain=st.booleans(),
        packet_id=IDS,
        properties=st.sampled_from(
            [
                {},
                {Property.TOPIC_ALIAS: 2},
                {Property.MESSAGE_EXPIRY_INTERVAL: 0},
                {Property.USER_PROPERTY: [("CC", "")]},
            ]
        ),
    ),
    st.builds(Acknowledgement, st.sampled_from(list(PacketType)[3:7]), IDS, st.sampled_from([0, 0x80])),
    st.builds(
        Subscribe,
        IDS,
        st.lists(
            st.builds(Subscription, FILTERS, st.integers(0, 2), st.booleans(), st.booleans(), st.integers(0, 2)),
            min_size=1,
            max_size=3,
        ),
    ),
    st.builds(Unsubscribe, IDS, st.lists(FILTERS, min_size=1, max_size=3)),
    st.just(PingRequest()),
    st.builds(Disconnect, st.sampled_from([0, 4])),
)
STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.one_of(PACKETS, st.none(), st.binary(max_size=6))), min_size=1, max_size=30
)


def connect(broker: MemoryBroker, number: int, level: int) -> MqttClient:
    client = MqttClient(broker, f"c{number}", level)
    properties = {Property.SESSION_EXPIRY_INTERVAL: 60 * number, Property.RECEIVE_MAXIMUM: 2}
    will = Will("a/b", b"will", 1, properties={Property.WILL_DELAY_INTERVAL: number} if level == 5 else {})
    client.connect(clean=number == 0, will=will, properties=properties if level == 5 else {})
    return client


@given(STEPS, st.sampled_from([4, 5]))
def test_nothing_fails_and_nothing_is_left(steps: list[tuple[int, Packet | bytes | None]], level: int) -> None:
    broker = MemoryBroker(mqtt_port=0)
    clients = [connect(broker, number, level) for number in range(3)]
    for number, step in steps:
        client = clients[number]
        if step is None or client.is_closed:
            client.drop()
            clients[number] = connect(broker, number, level)
        elif isinstance(step, bytes):
            client.write(step)
        else:
            client.write(encode_client_packet(step, level))
        client.all() if not client.is_closed else None
        broker.advance(7)
    for client in clients:
        client.drop()
    assert len(broker.open_connections) == 0
    for queue in broker.virtual_host.queues.values():
        assert queue.unacknowledged_count == 0, queue
        assert len(queue.consumers) == 0, queue
    broker.advance(2 * broker.settings.mqtt_session_expiry_max_s * 1000)
    assert len(broker.virtual_host.client_sessions) == 0
    assert list(broker.virtual_host.queues) == []


@given(st.lists(PACKETS, max_size=8), st.integers(1, 7))
def test_it_makes_no_difference_how_the_bytes_are_cut(packets: list[Packet], size: int) -> None:
    data = b"".join(encode_client_packet(packet, 4) for packet in (Connect(4, "c"), *packets))
    said = []
    for step in (size, len(data)):
        broker = MemoryBroker(mqtt_port=0)
        client = MqttClient(broker, "c")
        for start in range(0, len(data), step):
            client.write(data[start : start + step])
        said.append((client.all(), client.is_closed))
    assert said[0][1] == said[1][1]
    assert sorted(map(repr, said[0][0])) == sorted(map(repr, said[1][0]))
