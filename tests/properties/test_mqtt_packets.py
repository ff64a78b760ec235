"""MQTT's packets: what is written is read again, however the bytes are cut; nothing but MqttError is raised."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from amqp_broker.protocols.mqtt.packet_reading import PacketSplitter, decode
from amqp_broker.protocols.mqtt.packet_writing import encode_client_packet
from amqp_broker.protocols.mqtt.reasons import MqttError
from tests.properties.mqtt_strategies import LEVELS, packets


@given(st.data(), LEVELS)
def test_what_is_written_is_read_again(data: st.DataObject, level: int) -> None:
    sent = data.draw(st.lists(packets(level), min_size=1, max_size=4))
    stream = b"".join(encode_client_packet(packet, level) for packet in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    splitter = PacketSplitter(1_000_000)
    read = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        read += [decode(first_byte, body, level) for first_byte, body in splitter.split(stream[start:end])]
    assert read == sent
    assert splitter.missing_bytes == 0


@given(st.data(), LEVELS)
def test_byte_by_byte_is_the_same(data: st.DataObject, level: int) -> None:
    packet = data.draw(packets(level))
    splitter = PacketSplitter(1_000_000)
    stream = encode_client_packet(packet, level)
    found = [one for place in range(len(stream)) for one in splitter.split(stream[place : place + 1])]
    assert [decode(first_byte, body, level) for first_byte, body in found] == [packet]


@given(st.binary(max_size=200), LEVELS)
def test_strange_bytes_raise_nothing_else(stream: bytes, level: int) -> None:
    splitter = PacketSplitter(100)
    try:
        for first_byte, body in splitter.split(stream):
            decode(first_byte, body, level)
    except MqttError:
        pass


@given(st.data(), LEVELS)
def test_a_damaged_packet_raises_nothing_else(data: st.DataObject, level: int) -> None:
    stream = bytearray(encode_client_packet(data.draw(packets(level)), level))
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    try:
        for first_byte, body in PacketSplitter(1_000).split(bytes(stream)):
            decode(first_byte, body, level)
    except MqttError:
        pass
